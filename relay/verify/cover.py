"""Which bytes does a signature cover?  From `signed`, such as ``{timestamp}.{body}``, to them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from relay.condition import near
from relay.source import Way
from relay.template import Misused
from relay.verify.shown import Shown, wire

What: TypeAlias = Literal["text", "body", "timestamp", "url", "method", "header", "member"]

PLAIN: Final[dict[str, What]] = {
    "body": "body",
    "timestamp": "timestamp",
    "url": "url",
    "method": "method",
}
"""Holes that need no name."""

NAMED: Final[dict[str, What]] = {"header": "header", "body": "member"}
"""Holes with a name behind their colon."""

HOLES: Final = "{body} {timestamp} {url} {method} {header:NAME} {body:PATH}"

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of what is signed: a text, or a hole; the name is a header's or a path into the body."""

    what: What
    name: str = ""


@lru_cache(maxsize=256)
def parts(signed: str) -> tuple[Part, ...]:
    """
    Take *signed* apart.

    Raises Misused, fit for a person to read, where a hole is none that is known, or nothing is signed.
    """
    found = tuple(_part(match[0], match[1]) for match in _PIECE.finditer(signed))
    if all(one.what == "text" for one in found):
        raise Misused("this signs nothing of a delivery", f"known are {HOLES}")
    return found


def _part(piece: str, hole: str | None) -> Part:
    if hole is None:
        if piece in {"{", "}"}:
            raise Misused(f"a lone {piece!r}; write {piece * 2!r} for a brace")
        return Part("text", {"{{": "{", "}}": "}"}.get(piece, piece))
    word, colon, name = hole.partition(":")
    if not colon and word in PLAIN:
        return Part(PLAIN[word])
    if colon and word in NAMED and re.fullmatch(r"[^\s{}]+", name):
        return Part(NAMED[word], name.lower() if word == "header" else name)
    known = {f"{one}:" for one in NAMED} if colon else PLAIN
    raise Misused(f"there is no {{{hole}}}", near(f"{word}:" if colon else word, known))


def covers(way: Way, wanted: Collection[What]) -> bool:
    """Say if the signature of *way* covers one of the *wanted* parts; False if `signed` can't be read."""
    try:
        return any(one.what in wanted for one in parts(way.signed))
    except Misused:
        return False


def headers(way: Way) -> frozenset[str]:
    """Name the headers that the signature of *way* covers, that of its time among them. Raises Misused."""
    holes = parts(way.signed)
    where, _, name = way.timestamp.partition(":")
    timed = {name.lower()} if where == "header" and Part("timestamp") in holes else set()
    return frozenset(timed | {one.name for one in holes if one.what == "header"})


def cover(way: Way, shown: Shown, stamp: str) -> bytes:
    """Return the bytes that are signed, the timestamp as it was sent. Raises Flawed."""
    return b"".join(_bytes(one, way, shown, stamp) for one in parts(way.signed))


def _bytes(part: Part, way: Way, shown: Shown, stamp: str) -> bytes:
    match part.what:
        case "text":
            return part.name.encode()
        case "body":
            return shown.incoming.body
        case "timestamp":
            return wire(stamp)
        case "url":
            return shown.url(way)
        case "method":
            return shown.incoming.method.encode("ascii", "replace")
        case "header":
            return wire(shown.header(part.name))
        case "member":
            return shown.member(part.name).encode()
