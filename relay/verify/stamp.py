"""When was this signed, and is that now?"""

import re
from datetime import UTC, datetime
from typing import Final

from relay.clock import rfc3339
from relay.event import Millis
from relay.source import Way
from relay.verify.proof import Flaw, Flawed
from relay.verify.shown import Shown

_DIGITS: Final = re.compile(r"[0-9]{1,13}")
_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
"""RFC 3339 5.6, with at most nine digits of a second: Twitch writes them all."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS: Final = {"s": 10**9, "ms": 10**6}


def stamp(way: Way, shown: Shown, found: list[tuple[str, str]]) -> str:
    """Return the timestamp as it was sent; *found* are the items of the signature. Raises Flawed."""
    where, _, name = way.timestamp.partition(":")
    if where == "header":
        return shown.header(name.lower())
    if where == "body":
        return shown.member(name)
    values = [value for label, value in found if label == name]
    if len(values) != 1:
        raise Flawed(Flaw.DOUBLED if values else Flaw.MISSING)
    return values[0]


def nanos(text: str, unit: str) -> int | None:
    """
    Return the instant that *text* means in *unit* (s, ms or iso), in nanoseconds since 1970; None if in none.

    A number is 1 to 13 digits of ASCII: no sign, point, space or underscore, and no other script's digits.
    """
    if unit != "iso":
        return int(text) * _NANOS[unit] if _DIGITS.fullmatch(text) else None
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    date, time, fraction, offset = match.groups()
    try:
        at = datetime.fromisoformat(f"{date}T{time}{offset.upper()}")
        seconds = (at - _EPOCH) // (_EPOCH.resolution * 10**6)
    except (ValueError, OverflowError):
        return None
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))


def off(way: Way, text: str, now: Millis) -> Flaw | None:
    """Say what is wrong with the timestamp *text*; at exactly the tolerance, on both sides, nothing is."""
    at = nanos(text, way.timestamp_unit)
    if at is None:
        return Flaw.MALFORMED
    late = now * 10**6 - at
    if abs(late) <= way.tolerance_ms * 10**6:
        return None
    return Flaw.OLD if late > 0 else Flaw.EARLY


def written(way: Way, now: Millis) -> str:
    """Write *now* as the way's senders do."""
    match way.timestamp_unit:
        case "s":
            return str(now // 1000)
        case "ms":
            return str(now)
        case "iso":
            return rfc3339(now) or ""
