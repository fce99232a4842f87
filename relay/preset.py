"""Who may post to a source?  From ``[source.NAME]`` or a watch, and its preset, to a `Source`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from relay.document import Document, Layer, merged
from relay.inner import HEADER, pattern
from relay.match import Pattern
from relay.place import Path
from relay.rule import Source
from relay.schema import PresetFile, SourceFile
from relay.secret import Secret
from relay.vault import HOW, find

SHORTEST_KEY: Final = 16
"""Bytes of a source's secret: a shorter one can be guessed by trying."""

_PROOF: Final = frozenset({"header", "in", "algorithm", "encoding", "prefix"})
_KNOBS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "hmac": frozenset({"header", "algorithm", "encoding", "prefix", "secrets"}),
        "token": frozenset({"header", "in", "prefix", "secrets"}),
        "path": frozenset({"in", "secrets"}),
        "none": frozenset({"i_know_this_is_unauthenticated"}),
    }
)
"""Which keys about proof have a meaning with which verify; "path" is a token in the path."""


def laid(presets: list[Layer], own: Layer) -> list[Layer]:
    """Lay the operator's own table over its presets."""
    below: dict[str, Any] = {}
    for layer in presets:
        below = merged(below, layer.data)
    if own.data.get("verify", below.get("verify")) != below.get("verify"):
        # A way of one's own leaves all of the preset's proof behind, not half of it.
        presets = [
            replace(layer, data={key: value for key, value in layer.data.items() if key not in _PROOF})
            for layer in presets
        ]
    if "recovered" in own.data:
        # A pattern is one thing: half of the preset's in half of the operator's would be met by nothing.
        presets = [
            replace(layer, data={key: value for key, value in layer.data.items() if key != "recovered"})
            for layer in presets
        ]
    return [*presets, own]


def compile_preset(doc: Document) -> None:
    """Check a preset by itself, whoever uses it; problems go to the document."""
    if file := doc.fit(PresetFile):
        _recovered(doc, file)


def watched(doc: Document, name: str) -> Source:
    """
    Return the source of a watch that has none in the rules: where its preset's events keep what they say.

    Nobody can post to it: it is not among those that stand behind a path.
    """
    file = (doc.fit(PresetFile, quiet=True) if doc.data else None) or PresetFile()
    return Source(
        name=name,
        verify="none",
        delivery=tuple(file.delivery),
        type=tuple(file.type),
        time=tuple(file.time),
        recovered=_recovered(doc, file),
        redact=tuple(file.redact),
        max_bytes=file.max_bytes,
        dedupe_ms=file.dedupe,
    )


def _recovered(doc: Document, file: PresetFile) -> Pattern | None:
    return None if file.recovered is None else pattern(doc, ("recovered",), file.recovered)


def compile_source(doc: Document, name: str, environ: Mapping[str, str] | None) -> Source | None:
    """Check the whole *doc*, and return its source if its form is right; problems go to the document."""
    file = doc.fit(SourceFile)
    if file is None:
        return None
    if file.verify is None:
        doc.wrong(("verify",), "missing", 'who may post here? "hmac", "token" or "none"')
        return None
    _proof(doc, file)
    keys = _secrets(doc, file, environ) if file.verify != "none" else ()
    header = file.header.lower()
    bearer = file.verify == "token" and file.place == "header" and header == "authorization"
    return Source(
        name=name,
        verify=file.verify,
        secrets=keys,
        header=header,
        place=file.place,
        algorithm=file.algorithm,
        encoding=file.encoding,
        prefix="Bearer " if bearer and "prefix" not in doc.data else file.prefix,
        delivery=tuple(file.delivery),
        type=tuple(file.type),
        time=tuple(file.time),
        recovered=_recovered(doc, file),
        redact=tuple(file.redact),
        max_bytes=file.max_bytes,
        dedupe_ms=file.dedupe,
    )


def _proof(doc: Document, file: SourceFile) -> None:
    """Check that the keys about proof go together."""
    assert file.verify is not None
    way = "path" if file.verify == "token" and file.place == "path" else file.verify
    said = 'in = "path"' if way == "path" else f'verify = "{file.verify}"'
    for key in sorted(frozenset().union(*_KNOBS.values()) & doc.data.keys() - _KNOBS[way]):
        doc.wrong((key,), f"has no meaning with {said}")
    if way == "hmac" and "header" not in doc.data:
        doc.wrong(("header",), "missing", "which header brings the signature?")
    if way == "none" and not file.i_know_this_is_unauthenticated:
        hint = "if that is meant: i_know_this_is_unauthenticated = true"
        doc.wrong(("verify",), "anyone could post events here", hint)
    if not HEADER.fullmatch(file.header):
        doc.wrong(("header",), "this is no name of a header")
    for key, several in (("delivery", file.delivery), ("type", file.type), ("time", file.time)):
        for number, one in enumerate(several):
            if not re.fullmatch(r"body:[^\s{}]+|header:[A-Za-z0-9_-]+", one):
                at = (key, number) if isinstance(doc.data[key], list) else (key,)
                doc.wrong(at, 'expected "body:path.in.it" or "header:name"', f"got {one!r}")


def _secrets(doc: Document, file: SourceFile, environ: Mapping[str, str] | None) -> tuple[Secret, ...]:
    if not file.secrets:
        doc.wrong(("secrets",), "missing", HOW)
    found = []
    for number, text in enumerate(file.secrets):
        path: Path = ("secrets", number) if isinstance(doc.data["secrets"], list) else ("secrets",)
        if secret := find(doc, path, text, environ):
            if environ is not None and len(secret.reveal().encode()) < SHORTEST_KEY:
                doc.wrong(
                    path, f"{secret.origin} is shorter than {SHORTEST_KEY} bytes", "it could be guessed"
                )
            found.append(secret)
    return tuple(found)
