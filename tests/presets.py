"""The files of relay/sources, as tests need them: read, and each put to work with made-up secrets."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import tomli_w
from build import NOW

from relay import mint
from relay.document import Document, read
from relay.errors import Problem
from relay.event import Millis
from relay.load import BUILT_IN, load
from relay.moment import instant
from relay.preset import compile_preset
from relay.schema import PresetFile, WayFile
from relay.source import Incoming, Preset, Sample, Source, Way
from relay.verify.key import PUBLIC

NAMES: Final = tuple(sorted(file.stem for file in (BUILT_IN / "sources").glob("*.toml")))

NEEDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "jwt": {"audience": "https://relay.example.com"},
    "sns": {"keys": "file:/relay.crt", "topics": ["arn:aws:sns:us-west-2:123456789012:MyTopic"]},
    "none": {"i_know_this_is_unauthenticated": True},
}
"""What no preset can know, by way of proof: the operator says it."""

URL: Final = "https://relay.example.com/hooks/NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """A preset's source with a made-up secret, and one of its ways that this is for."""

    source: Source
    way: Way | None  #: None: anyone may post
    private: bytes | None = None  #: the key that signs, where the secret is a public one
    keys: Mapping[str, bytes]  #: what would be fetched, by its address

    def alone(self) -> Source:
        """Return the source as if this were its only way."""
        return replace(self.source, ways=(self.way,)) if self.way else self.source


@cache
def document(name: str) -> Document:
    """Return a preset's file; its problems are in it."""
    problems: list[Problem] = []
    layer, _ = read(BUILT_IN / "sources" / f"{name}.toml", f"{name}.toml", problems)
    return Document([layer] if layer else [], problems)


@cache
def told(name: str) -> Preset:
    """Return what a preset tells of itself."""
    found = compile_preset(document(name), name)
    assert found is not None, document(name).problems
    return found


def file(name: str, **other: Any) -> PresetFile:
    """Return a preset's keys, some of them *other* than they are."""
    return PresetFile.model_validate(document(name).data | other)


def listed(name: str) -> list[WayFile]:
    """Return the ways of proof of a preset."""
    return [file(name), *file(name).also]


def ways() -> Iterator[tuple[str, int]]:
    """Yield each way of each preset: its name, and the number of the way."""
    return ((name, number) for name in NAMES for number in range(len(listed(name))))


@cache
def _private(kind: Any) -> bytes:
    return mint.fresh(kind)


def at_work(folder: Path, name: str, number: int, **more: Any) -> AtWork:
    """Load rules with one source that has a preset, as an operator would write them."""
    said = listed(name)[number]
    private = _private(said.verify) if said.verify in PUBLIC | {"jwt", "sns"} else None
    own: dict[str, Any] = {"preset": name, **NEEDS.get(said.verify or "", {})}
    if said.verify not in NEEDS:
        own["secrets"] = ["env:SECRET"]
    if any(one.verify == "twilio" or "{url}" in one.signed for one in listed(name)):
        own["public_url"] = URL.replace("NAME", name)
    (folder / "rules.toml").write_text(tomli_w.dumps({"source": {name: own | more}}))
    source = load(folder / "rules.toml", {"SECRET": secret(said, private)}).sources[name]
    if said.verify == "none":
        return AtWork(source=source, way=None, keys={})
    marks = (said.verify, said.header.lower(), said.field)
    (way,) = [one for one in source.ways if (one.verify, one.header, one.field) == marks]
    keys = {}
    if private and said.verify == "jwt":
        keys = {way.keys: mint.jwks(private)}
    if private and said.verify == "sns":
        keys = {way.keys: mint.certificate(private, min(map(moment, told(name).samples)))}
    return AtWork(source=source, way=way, private=private, keys=keys)


def secret(way: WayFile, private: bytes | None, which: str = "made up") -> str:
    """Make a secret up, of the kind that a way takes; for another word *which* another one."""
    if private is not None and way.verify in PUBLIC:
        spelt = Way(verify="ed25519", key_encoding=way.key_encoding, strip_key_prefix=way.strip_key_prefix)
        return mint.public(spelt, private)
    if way.verify == "basic":
        return f"relay:a-password-that-is-{which}"
    raw = hashlib.sha256(which.encode()).digest()
    # In hex where it is text: it may have to stand in a path.
    spelt_ = base64.b64encode(raw).decode() if way.key_encoding == "base64" else raw.hex()
    return way.strip_key_prefix + spelt_


def incoming(sample: Sample) -> Incoming:
    """Return a sample as it would come, but for what shows who sent it."""
    headers = {name: (value,) for name, value in sample.headers.items()}
    return Incoming(headers=headers, body=sample.body, query=sample.query)


def moment(sample: Sample) -> Millis:
    """Return when a sample was sent: when what it tells of happened, or else `NOW`."""
    return next((at for one in sample.events if (at := instant(one["time"])) is not None), NOW)
