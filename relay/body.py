"""What JSON does a body hold, and is it safe to read?"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

import orjson

from relay.event import Json

DEEPEST: Final = 64
"""Levels of lists and tables that are read."""

MOST: Final = 100_000
"""Values in one body, of whatever kind: 1 MiB of events has some twenty thousand."""

_LONG_INTEGER: Final = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_KEY_OR_TEXT: Final = re.compile(rb'("(?:[^"\\]++|\\.)*+")(\s*:\s*)?', re.DOTALL)
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|[^\s"\[\]{}:,]+', re.DOTALL)


class Unparsable(ValueError):
    """The body is not JSON, or not JSON that every reader understands alike."""


def parse(body: bytes) -> Json:
    """
    Read *body* as JSON, so that no two readers can disagree about it.

    Raises Unparsable for what is not UTF-8 JSON (RFC 8259), NaN, lone surrogates, more than 64 levels or
    100,000 values, integers beyond 64 bits (orjson would make them floats: a wrong id) and keys that stand
    twice. Takes time and memory in proportion to the body's length, whatever stands in it.
    """
    # What is too much is not even built. The strings, too, may have commas and brackets in them, so most
    # bodies are known to be small enough by the first look.
    if _least(body) > MOST and _least(_bones(body)) > MOST:
        raise Unparsable(f"more than {MOST} values")
    try:
        data: Json = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unparsable(f"not JSON: {error}") from None
    bones = _bones(body)
    for match in _LONG_INTEGER.finditer(bones):
        if not -(1 << 63) <= int(match.group()[:40]) < 1 << 64:
            raise Unparsable(f"an integer beyond 64 bits: {match.group()[:24].decode()}")
    members = _members(data)
    if members != bones.count(b":"):
        raise Unparsable("a key stands twice in one object")
    return data


def _least(bones: bytes) -> int:
    """Return how many values there are at least: each comma parts two, and each bracket opens one."""
    return max(bones.count(b",") + 1, bones.count(b"[") + bones.count(b"{"))


def _bones(body: bytes) -> bytes:
    """
    Return JSON text without its strings.

    A backslash stands in strings only, so it can go with what it escapes; every second quote then ends a
    string. Of what is not JSON something is left, too: that is found out later.
    """
    return b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def _members(data: Json) -> int:
    """Count the members of all objects. Raises Unparsable below 64 levels, and for too many values."""
    members, values, level, here = 0, 0, 0, [data]
    while here:
        level += 1
        values += len(here)
        if values > MOST:
            raise Unparsable(f"more than {MOST} values")
        below: list[Json] = []
        for value in here:
            if isinstance(value, dict):
                members += len(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if level > DEEPEST and any(isinstance(value, dict | list) for value in here):
            raise Unparsable(f"nested more than {DEEPEST} levels deep")
        here = below
    return members


def redact(body: bytes, names: Collection[str]) -> bytes:
    """
    Cut the values of all members called *names*, at any depth, out of JSON text.

    Everything else keeps its bytes. Text that is not JSON is cut from the first such name to its end, because
    what can't be understood must not be stored either.
    """
    if not names:
        return body
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        found = _spelled(frozenset(names)).search(body)
        return body[: found.end()] + b"[removed]" if found else body
    kept: list[bytes] = []
    done = 0
    key = _KEY_OR_TEXT.search(body)
    while key:
        end = key.end()
        if key.group(2) and orjson.loads(key.group(1)) in names:
            kept += [body[done:end], b'"[removed]"']
            done = end = _end(body, end)
        key = _KEY_OR_TEXT.search(body, end)
    return b"".join([*kept, body[done:]])


def _end(body: bytes, start: int) -> int:
    """Where the value that begins at *start* ends."""
    depth = 0
    for token in _TOKEN.finditer(body, start):
        text = token.group()
        depth += (text in {b"[", b"{"}) - (text in {b"]", b"}"})
        if depth == 0:
            return token.end()
    return len(body)


@lru_cache(maxsize=64)
def _spelled(names: frozenset[str]) -> re.Pattern[bytes]:
    """Find *names* however a broken text may spell them: with JSON's escapes, or in UTF-16."""
    return re.compile("|".join("\0*".join(map(_char, name)) for name in names).encode())


def _char(char: str) -> str:
    """Find one character as it is or as JSON escapes it, beyond U+FFFF by two."""
    units = re.findall("....", char.encode("utf-16-be").hex())
    escaped = "\0*".join("\0*".join((r"\\", "u", *unit)) for unit in units)
    return rf"(?:\\?{re.escape(char)}|(?i:{escaped}))"
