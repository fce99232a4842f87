"""Do a source's keys about proof hold together?  From them to the ways in which a sender shows who it is."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from relay.document import Document
from relay.given import check_given, check_named, check_once
from relay.inner import HEADER
from relay.place import Path
from relay.schema import PresetFile, SourceFile, WayFile
from relay.secret import Secret
from relay.source import Source, Way
from relay.template import Misused
from relay.vault import HOW, find
from relay.verify import SIGNATURES
from relay.verify.cover import Part, parts
from relay.verify.key import PUBLIC, Unreadable, key

SHORTEST_KEY: Final = 16
"""Bytes of a source's secret: a shorter one can be guessed by trying."""

_LIST: Final = frozenset({"item_separator", "key_separator"})
_KEY: Final = frozenset({"key_encoding", "strip_key_prefix", "secrets"})
_STAMP: Final = frozenset({"timestamp_unit", "tolerance"})
_SIGNED: Final = frozenset(
    {"header", "in", "field", "encoding", "format", "prefix", "signed", "timestamp", *_LIST, *_STAMP, *_KEY}
)
_KNOBS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "hmac": _SIGNED | {"algorithm"},
        "ed25519": _SIGNED,
        "ecdsa-p256": _SIGNED,
        "token": frozenset({"header", "in", "prefix", "secrets"}),
        "path": frozenset({"in", "secrets"}),
        "basic": frozenset({"secrets"}),
        "jwt": frozenset({"header", "prefix", "keys", "issuer", "audience", "claims"}),
        "sns": frozenset({"keys", "topics"}),
        "twilio": frozenset({"header", "secrets"}),
        "none": frozenset({"i_know_this_is_unauthenticated"}),
    }
)
"""Which keys about proof have a meaning with which verify; "path" is a token in the path."""

PROOF: Final = frozenset().union(*_KNOBS.values()) - {"secrets", "i_know_this_is_unauthenticated"}
"""The keys of one way of proof."""

_ALL: Final = frozenset().union(*_KNOBS.values())

_PLAIN: Final = 'with format = "plain"'
_ONLY: Final[Sequence[tuple[frozenset[str], Callable[[WayFile], bool], str]]] = (
    (_LIST, lambda file: file.format == "list", _PLAIN),
    (
        frozenset({"field"}),
        lambda file: file.format == "list" or file.place == "body",
        'with format = "plain"',
    ),
    (frozenset({"header", "format"}), lambda file: file.place != "body", 'with in = "body"'),
    (_STAMP, lambda file: bool(file.timestamp), "without a timestamp"),
)
"""Of a signature: keys that have a meaning only where something else is so, and when they have none."""

REFERENCE: Final = re.compile(r"body:[^\s{}+]+|header:[A-Za-z0-9_-]+")
"""Where a delivery says something."""

_STANDS: Final = re.compile(r"header:[A-Za-z0-9_-]+|field:\S+|body:[^\s{}+]+")
_STEP: Final = re.compile(r"(?!\.\.?;)[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""
What stands in a path as it is (RFC 3986 3.3): all else would be escaped, or end it.

The edge refuses dots before a semicolon, too: some servers drop what follows.
"""


# -- from files to ways --


def ways_of(doc: Document, file: SourceFile, environ: Mapping[str, str] | None) -> tuple[Way, ...]:
    """
    Check all keys about proof, and return the ways with their secrets; problems go to the document.

    Without *environ* secrets are not looked at: each is a random text, and no key that could be read.
    """
    if file.verify == "none":
        if not file.i_know_this_is_unauthenticated:
            hint = "if that is meant: i_know_this_is_unauthenticated = true"
            doc.wrong(("verify",), "anyone could post events here", hint)
        if file.also:
            doc.wrong(("also",), 'has no meaning with verify = "none"')
    _check_all(doc, file)
    ways = _ways(file, file.public_url)
    if not any("secrets" in _KNOBS[way.verify] for way in ways):
        return tuple(ways)
    found = dict(_secrets(doc, file, environ))
    check_once(doc, found)
    if environ is None:
        return tuple(_holding(way, tuple(found.values())) for way in ways)
    return _dealt(ways, {path: secret for path, secret in found.items() if _fits(doc, path, secret, ways)})


def check_preset(doc: Document, file: PresetFile) -> None:
    """Check what a preset says of proof, whoever uses it; problems go to the document."""
    if file.verify is not None or (PROOF | {"also"}) & doc.data.keys():
        _check_all(doc, file)


def proving(file: PresetFile | SourceFile) -> frozenset[str]:
    """Name the headers by which a sender shows who it is, in small letters: none of them is kept."""
    return Source(name="", ways=tuple(_ways(file, ""))).proving()


def ways_with(
    file: PresetFile | SourceFile, secrets: Sequence[Secret], public_url: str = ""
) -> tuple[Way, ...]:
    """
    Return the ways that *file* says, by these *secrets*, however short: for published signatures and samples.

    The file must be one in which nothing is wrong; what can't be a way's key is not given to it.
    """
    return _dealt(_ways(file, public_url), {(number,): one for number, one in enumerate(secrets)})


def _listed(file: PresetFile | SourceFile) -> list[tuple[Path, WayFile]]:
    return [((), file), *((("also", number), one) for number, one in enumerate(file.also))]


def _ways(file: PresetFile | SourceFile, public_url: str) -> list[Way]:
    said = [one for _, one in _listed(file) if one.verify not in {None, "none"}]
    return [_way(one, public_url) for one in said] if file.verify != "none" else []


def _way(file: WayFile, public_url: str) -> Way:
    said: Any = file.verify
    header = file.header.lower()
    bearer = said in {"token", "jwt"} and file.place == "header" and header == "authorization"
    return Way(
        verify=said,
        header="x-twilio-signature" if said == "twilio" and "header" not in file.model_fields_set else header,
        place=file.place,
        algorithm=file.algorithm,
        encoding=file.encoding,
        format=file.format,
        item_separator=file.item_separator,
        key_separator=file.key_separator,
        field=file.field,
        prefix="Bearer " if bearer and "prefix" not in file.model_fields_set else file.prefix,
        signed=file.signed,
        timestamp=file.timestamp,
        timestamp_unit=file.timestamp_unit,
        tolerance_ms=file.tolerance,
        key_encoding=file.key_encoding,
        strip_key_prefix=file.strip_key_prefix,
        public_url=public_url,
        keys=file.keys,
        issuers=tuple(file.issuer),
        audience=file.audience,
        claims=file.claims,
        topics=tuple(file.topics),
    )


# -- what goes together --


def _named(file: WayFile) -> str:
    """Name a way as the table of knobs does."""
    return "path" if file.verify == "token" and file.place == "path" else file.verify or "none"


def _check_all(doc: Document, file: PresetFile | SourceFile) -> None:
    listed = _listed(file)
    spent = any("secrets" in _KNOBS[_named(one)] for _, one in listed)
    for path, one in listed:
        if one.verify is None:
            doc.wrong((*path, "verify"), "missing", 'as in verify = "hmac"')
            continue
        if path and one.verify == "none":
            doc.wrong((*path, "verify"), "no proof is no other way of proof")
        _check_meaning(doc, path, one, spent=spent)
        if one.verify in SIGNATURES:
            _check_place(doc, path, one)
            _check_signed(doc, path, one)
        if not HEADER.fullmatch(one.header):
            doc.wrong((*path, "header"), "this is no name of a header")
        check_named(doc, path, one)
    _check_kinds(doc, listed)
    if isinstance(file, SourceFile) and file.verify != "none":
        check_given(doc, file, listed)


def _check_meaning(doc: Document, path: Path, file: WayFile, *, spent: bool) -> None:
    """Tell keys that have no meaning; secrets have one if any of the ways spends them."""
    table: Any = doc.at(path)
    way = _named(file)
    said = 'in = "path"' if way == "path" else f'verify = "{file.verify}"'
    strange = _ALL & table.keys() - _KNOBS[way] - ({"secrets"} if spent else set())
    if file.place == ("body" if way == "token" else "path" if way in SIGNATURES else ""):
        strange |= {"in"}
    for name in sorted(strange):
        doc.wrong((*path, name), f"has no meaning with {said}")
    if file.verify in SIGNATURES:
        for names, meant, without in _ONLY:
            for name in sorted(() if meant(file) else names & table.keys()):
                doc.wrong((*path, name), f"has no meaning {without}")


def _check_place(doc: Document, path: Path, file: WayFile) -> None:
    """Check that it is said where the signature and its time stand, and how the key is spelt."""
    if file.place != "body" and "header" not in file.model_fields_set:
        doc.wrong((*path, "header"), "missing", "which header brings the signature?")
    if file.place == "body" and not file.field:
        doc.wrong((*path, "field"), "missing", "where in the body is the signature? signature.value")
    elif file.format == "list" and not file.field:
        doc.wrong((*path, "field"), "missing", "which items of the list are signatures? v1")
    if file.format == "list" and file.item_separator in file.key_separator:
        doc.wrong((*path, "key_separator"), "no item could hold it: it would end there")
    if file.verify in PUBLIC and file.key_encoding == "utf8":
        doc.wrong((*path, "key_encoding"), 'expected "base64" or "hex"', "a public key is no text")
    if file.timestamp and not _STANDS.fullmatch(file.timestamp):
        doc.wrong((*path, "timestamp"), 'expected "header:NAME", "field:KEY" or "body:PATH"')
    elif file.timestamp.startswith("field:") and file.format != "list":
        doc.wrong((*path, "timestamp"), f"{file.timestamp} is an item of a list", 'format = "list"')


def _check_signed(doc: Document, path: Path, file: WayFile) -> None:
    """Check that what is signed can be told, that it has the body in it, and the time."""
    at = (*path, "signed")
    try:
        holes = parts(file.signed)
    except Misused as error:
        doc.wrong(at, error.what, error.hint)
        return
    for hole in holes:
        if hole.what == "header" and not HEADER.fullmatch(hole.name):
            doc.wrong(at, f"{hole.name!r} is no name of a header")
    kinds = {hole.what for hole in holes}
    if "timestamp" in kinds and not file.timestamp:
        doc.wrong(at, "{timestamp} is signed, and nothing says where it stands", 'timestamp = "header:NAME"')
    if file.timestamp and not _is_covered(file, holes):
        doc.wrong((*path, "timestamp"), "not signed: anyone could change it", "put {timestamp} into signed")
    if file.place == "body" and "body" in kinds:
        doc.wrong(at, "no signature covers a body in which it stands itself")
    elif "body" not in kinds and _is_own(doc, at):
        hint = "put {body} into it: only presets may say that this is so"
        doc.wrong(at, "the body is not signed: anyone could change it", hint)


def _is_covered(file: WayFile, holes: Sequence[Part]) -> bool:
    """Say if the timestamp is signed, by itself or as a part of the body or of what else is signed."""
    where, _, name = file.timestamp.partition(":")
    as_header = Part("header", name.lower()) if where == "header" else Part("member", name)
    around = {Part("timestamp"), Part("body")} if where == "body" else {Part("timestamp")}
    return bool({as_header, *around} & set(holes))


def _is_own(doc: Document, path: Path) -> bool:
    """Say if what stands at *path* was written into ``[source.NAME]``, and not into a preset."""
    layer = doc.layers[-1]
    return layer.root[:1] == ("source",) and (*layer.root, *path) in layer.found


def _check_kinds(doc: Document, listed: Sequence[tuple[Path, WayFile]]) -> None:
    """Check that no public key can be taken for a secret: whoever knows it could sign with it."""
    kinds = {one.verify in PUBLIC for _, one in listed if "secrets" in _KNOBS[_named(one)]}
    for path, one in listed if len(kinds) == 2 else ():
        if one.verify in PUBLIC and not one.strip_key_prefix:
            hint = "what do public keys begin with, so that none is taken for a secret?"
            doc.wrong((*path, "strip_key_prefix"), "missing", hint)


# -- secrets --


def shared(sources: Mapping[str, Source]) -> Iterator[tuple[str, str]]:
    """Yield the name of each source that has a secret of an earlier one, and that one's; not public keys."""
    first: dict[Secret, str] = {}
    for name, source in sources.items():
        held = {one for way in source.ways if way.verify not in PUBLIC for one in way.secrets}
        owners = [first.setdefault(secret, name) for secret in held]
        yield from ((name, other) for other in sorted(set(owners) - {name}))


def _dealt(ways: Sequence[Way], secrets: Mapping[Path, Secret]) -> tuple[Way, ...]:
    """Give each way the secrets that are for it; a way that is left without proves nothing, and goes."""
    dealt = [_holding(way, tuple(s for s in secrets.values() if way in _claimants(s, ways))) for way in ways]
    return tuple(way for way in dealt if way.secrets or "secrets" not in _KNOBS[way.verify])


def _holding(way: Way, secrets: tuple[Secret, ...]) -> Way:
    return replace(way, secrets=secrets) if "secrets" in _KNOBS[way.verify] else way


def _claimants(secret: Secret, ways: Sequence[Way]) -> list[Way]:
    """Name the ways whose key a secret is."""
    return [way for way in _meant(secret, ways) if not _flaw(way, secret)]


def _meant(secret: Secret, ways: Sequence[Way]) -> list[Way]:
    """
    Name the ways for which a secret is meant: where several have prefixes for theirs, these decide.

    What has none is the first way's, and of those that ask for none. Where some take public keys and others
    secrets, only a prefix can tell: a public key that was taken for a secret would let anyone sign.
    """
    value = secret.reveal()
    spending = [way for way in ways if "secrets" in _KNOBS[way.verify]]
    marked = [way for way in spending if way.strip_key_prefix and value.startswith(way.strip_key_prefix)]
    mixed = len({way.verify in PUBLIC for way in spending}) == 2
    plain = [way for way in spending if not way.strip_key_prefix or (way is spending[0] and not mixed)]
    return marked or plain


def _flaw(way: Way, secret: Secret) -> str:
    """Say why *secret* is no key of *way*; "" if it is one."""
    value = secret.reveal()
    if way.verify == "basic" and not value.partition(":")[1]:
        return "no user:password"
    if way.verify == "token" and way.place == "path" and not _STEP.fullmatch(value):
        return "a path can't hold all its characters"
    try:
        key(way, value)
    except Unreadable as error:
        return str(error)
    return ""


def _fits(doc: Document, path: Path, secret: Secret, ways: Sequence[Way]) -> bool:
    """Check that a secret is a key of one of *ways*, and long enough; never say anything of its value."""
    meant, claimants = _meant(secret, ways), _claimants(secret, ways)
    if not meant:
        begins = ", ".join(sorted({way.strip_key_prefix for way in ways if way.strip_key_prefix}))
        doc.wrong(path, f"{secret.origin} begins with none of {begins}", "which kind of key is it?")
    elif not claimants:
        doc.wrong(path, f"{secret.origin} is no key: {_flaw(meant[0], secret)}", _hint(meant[0]))
    elif any(way.verify not in PUBLIC and len(key(way, secret.reveal())) < SHORTEST_KEY for way in claimants):
        doc.wrong(path, f"{secret.origin} is shorter than {SHORTEST_KEY} bytes", "it could be guessed")
    return bool(claimants)


def _hint(way: Way) -> str:
    if way.verify == "token":
        return "openssl rand -hex 24"
    return f'key_encoding = "{way.key_encoding}"' if way.verify in SIGNATURES else "with a colon between"


def _secrets(
    doc: Document, file: SourceFile, environ: Mapping[str, str] | None
) -> Iterator[tuple[Path, Secret]]:
    if not file.secrets:
        doc.wrong(("secrets",), "missing", HOW)
    for number, text in enumerate(file.secrets):
        path: Path = ("secrets", number) if isinstance(doc.data["secrets"], list) else ("secrets",)
        if secret := find(doc, path, text, environ):
            yield path, secret
