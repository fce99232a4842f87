"""When do the hours open in which calls may be sent?  ``Mon-Fri 08:00-18:00 Europe/Berlin``."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from relay.condition import nearest
from relay.event import Millis

_WEEK: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS: Final = tuple(day[:3] for day in _WEEK)
_MEANT: Final = {
    **dict(zip((*DAYS, *_WEEK), (*DAYS, *DAYS), strict=True)),
    "daily": "daily",
    "always": "daily",
    "weekdays": "Mon-Fri",
    "weekend": "Sat-Sun",
}
"""What people write for days, and how it is written here."""

_DAY_MS: Final = 86_400_000
_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY: Final = 4  #: days from 1970-01-01, a Thursday, to the first Monday
_AHEAD: Final = 15
"""Days in which the hours open for certain: a clock may skip those of one week, never of two."""


class NoHours(ValueError):
    """A text that says no hours: *what* is wrong with it, and a *hint*."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} ({hint})" if hint else what)


class Hours:
    """
    The hours of a week in which the clock on a wall of the zone shows a time between two others.

    Raises NoHours, a ValueError fit for people, for a *text* that says none.
    """

    __slots__ = ("_days", "_length", "_start", "_zone")

    def __init__(self, text: str) -> None:
        match text.split():
            case [days, times, zone]:
                self._days = frozenset(_days(days))
                self._start, self._length = _times(times)
                self._zone = _zone(zone)
            case _:
                shape = 'as in "Mon-Fri 08:00-18:00 Europe/Berlin" or "daily 22:00-06:00 UTC"'
                raise NoHours("expected days, times and a zone", shape)

    def opens(self, at: Millis) -> Millis:
        """Return the first instant from *at* on that lies within the hours: *at* itself if it does."""
        today = (at + self._offset(at)) // _DAY_MS
        return min(
            instant
            for day in range(today - 1, today + _AHEAD)  # from yesterday: its hours may last over midnight
            if (day - _MONDAY) % 7 in self._days
            for instant in self._opens_on(day, at)
        )

    def _opens_on(self, day: int, at: Millis) -> Iterator[Millis]:
        """Yield the first instants from *at* on in the hours of *day*: two where the clock is set."""
        start = day * _DAY_MS + self._start  # as the wall shows it, as if it were UTC
        end = start + self._length
        for since, until, offset in self._steady(start - _DAY_MS, end + _DAY_MS):
            first = max(start - offset, since, at)
            if first < min(end - offset, until):
                yield first

    def _steady(self, since: Millis, until: Millis) -> Iterator[tuple[Millis, Millis, Millis]]:
        """Part a time of few days where the clock is set: (since, until, how far it is ahead of UTC)."""
        before, after = self._offset(since), self._offset(until)
        if before == after:
            yield since, until, before
            return
        low, high = since, until
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        yield since, high, before
        yield high, until, after

    def _offset(self, at: Millis) -> Millis:
        offset = (_EPOCH + at * _MS).astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset // _MS


@lru_cache(maxsize=256)
def hours(text: str) -> Hours:
    """Return the hours that *text* says, made once for each text. Raises NoHours."""
    return Hours(text)


def _days(text: str) -> Iterator[int]:
    if text.lower() == "daily":
        yield from range(7)
        return
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = _day(first)
        end = _day(last) if dash else start
        yield from ((start + n) % 7 for n in range((end - start) % 7 + 1))


def _day(text: str) -> int:
    name = text.title()
    if name not in DAYS:
        near = _MEANT.get(nearest(text, _MEANT))
        known = f"known: {' '.join(DAYS)} and daily"
        raise NoHours(f"{text!r} is no day", f"did you mean '{near}'?" if near else known)
    return DAYS.index(name)


def _times(text: str) -> tuple[Millis, Millis]:
    """Return when the hours of a day begin, and how long they last."""
    match = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text, re.ASCII)
    if match is None:
        raise NoHours(f"expected times such as 08:00-18:00, got {text!r}", "24 hours, two digits each")
    numbers = [int(number) for number in match.groups()]
    start, end = (60 * hour + minute for hour, minute in (numbers[:2], numbers[2:]))
    if start >= 24 * 60 or end > 24 * 60 or max(numbers[1], numbers[3]) > 59:
        raise NoHours(f"{text!r} is beyond the hours of a day", "00:00-24:00 is all of it")
    if start == end:
        raise NoHours(f"{text!r} begins when it ends", "00:00-24:00 is all of a day")
    return start * 60_000, (end - start) % (24 * 60) * 60_000 or _DAY_MS


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last for a folder of zones: "Europe"
        known = available_timezones()
    near = nearest(name, known)
    if "/" not in name:
        cities = {one.rpartition("/")[2]: one for one in sorted(known) if "/" in one}
        near = cities.get(nearest(name, cities, 0.8), "")
    hint = f"did you mean '{near}'?" if near else "as in Europe/Berlin"
    raise NoHours(f"there is no time zone {name!r}", hint)
