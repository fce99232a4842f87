"""What can only the operator say of a source, and is it sound?  Addresses, topics, hosts; secrets once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from relay.compile import base_url_flaw, host_flaw
from relay.document import Document
from relay.place import Path
from relay.reach import Reach
from relay.schema import SourceFile, WayFile
from relay.secret import Secret
from relay.verify import SIGNATURES

_KEYS: Final = re.compile(r"https://[^\s/?#@]+(?:/[^\s#]*)?|file:/\S+")
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
_TOPIC: Final = re.compile(r"arn:aws(?:-[a-z]+)*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")
_HOST: Final = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+", re.IGNORECASE)


def check_named(doc: Document, path: Path, file: WayFile) -> None:
    """Check the addresses of keys and the topics of one way of proof, which stands at *path*."""
    if file.keys and (wrong := _keys_flaw(file.keys)):
        doc.wrong((*path, "keys"), *wrong)
    for at, topic in _each(doc, (*path, "topics"), file.topics):
        if not _TOPIC.fullmatch(topic):
            doc.wrong(at, "expected arn:aws:sns:REGION:ACCOUNT:NAME", f"got {topic!r}")


def _keys_flaw(keys: str) -> tuple[str, str] | None:
    """Say why keys can't come from an address, and a way out; names are asked when it is called."""
    if not _KEYS.fullmatch(keys):
        return "expected https://… or file:/…", ""
    if keys.startswith("file:"):
        return None
    host = f"https://{keys.removeprefix('https://').partition('/')[0]}"
    if flaw := base_url_flaw(host, allow_http=False):
        return flaw, ""
    flaw, _ = host_flaw(host, Reach())
    return (flaw, "keys come from public addresses, or from a file: file:/…") if flaw else None


def check_given(doc: Document, file: SourceFile, listed: Sequence[tuple[Path, WayFile]]) -> None:
    """Check that the operator has said what no preset can know of the *listed* ways of proof."""
    for path, one in listed:
        needs = {
            "jwt": (
                ("keys", one.keys, "where are the issuer's public keys? https://…"),
                ("issuer", one.issuer, "who issues the token? https://accounts.google.com"),
                ("audience", one.audience, "for whom is the token?"),
            ),
            "sns": (("topics", one.topics, "whose messages are taken? arn:aws:sns:…"),),
        }
        for name, given, hint in needs.get(one.verify or "", ()):
            if not given:
                doc.wrong((*path, name), "missing", hint)
    if file.public_url and not _URL.fullmatch(file.public_url):
        doc.wrong(("public_url",), "expected https://HOST/PATH without a query", f"got {file.public_url!r}")
    asks = any(_asks_url(one) for _, one in listed)
    if asks and not file.public_url:
        hint = "the address is signed: how does the sender know it? https://HOST/hooks/NAME"
        doc.wrong(("public_url",), "missing", hint)
    if file.public_url and not asks:
        doc.wrong(("public_url",), "has no meaning where no address is signed")


def _asks_url(file: WayFile) -> bool:
    return file.verify == "twilio" or (file.verify in SIGNATURES and "{url}" in file.signed)


def check_origins(doc: Document, file: SourceFile) -> None:
    """Check that those who may ask by OPTIONS are named as they name themselves: by a host."""
    for at, origin in _each(doc, ("origins",), file.origins):
        if not _HOST.fullmatch(origin):
            doc.wrong(at, "expected a host's name, as in eventgrid.azure.net", f"got {origin!r}")


def check_once(doc: Document, found: Mapping[Path, Secret]) -> None:
    """Check that no secret stands twice: whoever takes one of the two away would think that it is gone."""
    origins: set[str] = set()
    first: dict[Secret, str] = {}
    for path, secret in found.items():
        if secret.origin in origins:
            doc.wrong(path, f"{secret.origin} stands twice")
        elif (other := first.setdefault(secret, secret.origin)) != secret.origin:
            doc.wrong(path, f"{secret.origin} is the same secret as {other}", "list it once")
        origins.add(secret.origin)


def _each(doc: Document, path: Path, texts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield each text of a list with its place; a text alone stands where the list would."""
    several = isinstance(doc.at(path), list)
    return (((*path, number) if several else path, text) for number, text in enumerate(texts))
