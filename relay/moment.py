"""Which instant does a value mean, how long is "15m", and what may a pattern ask of a time?"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from relay.clock import rfc3339
from relay.condition import Condition, Wrong, scenic, shown
from relay.event import Json, Millis

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_NUMBER: Final = re.compile(r"\d{10}(?:\d{3})?(?:\.\d{1,9})?", re.ASCII)
"""Seconds or milliseconds, from 2001 on: shorter or longer digits may be a date, or anything."""
_UNITS: Final[Mapping[str, int]] = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

SECONDS_BELOW: Final = 10**11
"""Below it a number means seconds since 1970, until the year 5138; else milliseconds, from March 1973 on."""


def instant(value: Json) -> Millis | None:
    """
    Return the instant that *value* means, to the millisecond; None if it means none.

    That is ISO 8601 text with an offset or Z, or seconds or milliseconds since 1970, also written as text.
    """
    if isinstance(value, str):
        if not 0 < len(value) <= 64:
            return None
        if not _NUMBER.fullmatch(value):
            return _written(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**17:
        return None
    return int(value * 1000 // 1) if abs(value) < SECONDS_BELOW else int(value // 1)


def _written(text: str) -> Millis | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return stamped(at)


def stamped(at: datetime) -> Millis | None:
    """Return the instant of a date and time; None if it has no offset."""
    return None if at.tzinfo is None else (at - _EPOCH) // _MS


def duration(text: object) -> Millis | None:
    """Return how long ``500ms``, ``10s``, ``5m``, ``1h`` or ``7d`` is; None if *text* says no time."""
    found = (
        re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", text, re.ASCII)
        if isinstance(text, str)
        else None
    )
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


Compare: TypeAlias = Callable[[Any, Any], bool]


def later_or_earlier(compare: Compare, word: str) -> Callable[[object], Condition]:
    """Return the operator that compares instants with the one that a pattern names."""
    shape = 'write "2026-01-31T08:00:00Z"'

    def make(value: object) -> Condition:
        if isinstance(value, datetime):
            at, what = stamped(value), "a time"
        else:
            at = instant(value) if isinstance(value, str) and not value.isdecimal() else None
            what = shown(value)
        if at is None:
            raise Wrong(f"expected a date and time with its offset or Z, got {what}", shape)
        return _times(compare, at, f"a time {word} {rfc3339(at)}")

    return make


def age(compare: Compare, word: str) -> Callable[[object], Condition]:
    """Return the operator that compares instants with now, less the time that a pattern names."""

    def make(value: object) -> Condition:
        long = duration(value)
        if long is None:
            raise Wrong(f'expected a time such as "15m" or "7d", got {shown(value)}')
        wanted = f"a time {word} {value} ago"
        return scenic(
            lambda scene: _times(compare, scene.now - long, f"{wanted}: {rfc3339(scene.now - long)}"), wanted
        )

    return make


def _times(compare: Compare, at: Millis, wanted: str) -> Condition:
    def holds(seen: Json) -> bool:
        meant = instant(seen)
        return meant is not None and compare(meant, at)

    return Condition(holds, wanted)
