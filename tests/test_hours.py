"""When calls may be sent: the hours of a week, as a clock on the wall shows them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.hours import DAYS, Hours, NoHours, hours

MINUTE = 60_000


def millis(text: str, zone: str = "UTC") -> int:
    """Return the instant at which a clock on the wall shows this; then "again": for the second time."""
    clock, again, _ = text.partition(" again")
    at = datetime.fromisoformat(clock).replace(tzinfo=ZoneInfo(zone), fold=1 if again else 0)
    return round(at.timestamp() * 1000)


def shown(at: int, zone: str) -> str:
    """Return what the clock on the wall shows."""
    return f"{datetime.fromtimestamp(at / 1000, ZoneInfo(zone)):%a %Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("text", "at", "opens"),
    [
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-03-02T08:00", "Mon 2026-03-02 08:00"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-03-02T17:59", "Mon 2026-03-02 17:59"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-03-02T07:59", "Mon 2026-03-02 08:00"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-03-02T18:00", "Tue 2026-03-03 08:00"),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", "2026-03-06T18:00", "Mon 2026-03-09 08:00"),
        ("Mon,Wed,Fri 08:00-18:00 Europe/Berlin", "2026-03-02T18:00", "Wed 2026-03-04 08:00"),
        ("Sat-Mon 08:00-18:00 Europe/Berlin", "2026-03-03T08:00", "Sat 2026-03-07 08:00"),
        ("Mon-Tue,Sun 08:00-18:00 Europe/Berlin", "2026-03-03T18:00", "Sun 2026-03-08 08:00"),
        ("daily 22:00-06:00 Europe/Berlin", "2026-03-03T06:00", "Tue 2026-03-03 22:00"),
        ("daily 22:00-06:00 Europe/Berlin", "2026-03-03T05:59", "Tue 2026-03-03 05:59"),
        ("Fri 22:00-06:00 Europe/Berlin", "2026-03-07T05:59", "Sat 2026-03-07 05:59"),
        ("Fri 22:00-06:00 Europe/Berlin", "2026-03-06T05:59", "Fri 2026-03-06 22:00"),
        ("Sun 00:00-24:00 Europe/Berlin", "2026-03-09T00:00", "Sun 2026-03-15 00:00"),
        ("mon-FRI 08:00-18:00 Asia/Kathmandu", "2026-03-07T12:00", "Mon 2026-03-09 08:00"),
    ],
)
def test_hours_open(text: str, at: str, opens: str) -> None:
    """The end of the hours is outside; days run on over Sunday, hours over midnight to the day after."""
    zone = text.rsplit(maxsplit=1)[-1]

    assert opens == shown(Hours(text).opens(millis(at, zone)), zone)


@pytest.mark.parametrize(
    ("text", "at", "opens"),
    [
        # 29 March 2026: 01:59 is followed by 03:00.
        ("daily 02:30-04:00", "2026-03-29T00:00", "2026-03-29T03:00"),
        ("daily 02:00-03:00", "2026-03-29T00:00", "2026-03-30T02:00"),
        ("Sun 02:00-03:00", "2026-03-23T00:00", "2026-04-05T02:00"),
        ("daily 03:00-04:00", "2026-03-29T01:59", "2026-03-29T03:00"),
        ("daily 22:00-06:00", "2026-03-29T04:00", "2026-03-29T04:00"),
        # 25 October 2026: 02:59 is followed by 02:00, for the second time.
        ("daily 02:30-02:45", "2026-10-25T02:45", "2026-10-25T02:30 again"),
        ("daily 02:30-02:45", "2026-10-25T02:45 again", "2026-10-26T02:30"),
        ("daily 01:00-02:30", "2026-10-25T02:30", "2026-10-25T02:00 again"),
        ("daily 03:00-04:00", "2026-10-25T02:30", "2026-10-25T03:00"),
        ("daily 02:00-03:00", "2026-10-25T02:30 again", "2026-10-25T02:30 again"),
    ],
)
def test_when_the_clocks_are_set(text: str, at: str, opens: str) -> None:
    """Hours that the clock skips do not come that day; those that it shows twice open twice."""
    found = Hours(f"{text} Europe/Berlin").opens(millis(at, "Europe/Berlin"))

    assert millis(opens, "Europe/Berlin") == found


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia")
INSTANTS = st.one_of(
    st.datetimes(datetime(2001, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    # Around the nights in which clocks were set, in all of these zones.
    *(
        st.timedeltas(timedelta(days=-2), timedelta(days=2)).map(datetime(*day, tzinfo=UTC).__add__)
        for day in ((2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1), (2011, 12, 30), (2026, 4, 5))
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    days=st.one_of(st.just(frozenset(DAYS)), st.sets(st.sampled_from(DAYS), min_size=1).map(frozenset)),
    start=st.integers(0, 24 * 60 - 1),
    length=st.integers(1, 24 * 60),
    zone=st.sampled_from(ZONES),
    at=INSTANTS,
)
@example(
    days=frozenset(["Sun"]),
    start=120,
    length=30,
    zone="Europe/Berlin",
    at=datetime(2026, 10, 25, 0, 45, tzinfo=UTC),
)
def test_the_first_minute_inside(
    days: frozenset[str], start: int, length: int, zone: str, at: datetime
) -> None:
    """The answer is not before the question, lies inside, and no minute between the two does."""
    end = (start + length) % (24 * 60)
    times = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    times = f"{times[:6]}24:00" if not end else times
    if end == start:
        times, start, end = "00:00-24:00", 0, 0
    wall = ZoneInfo(zone)

    def inside(instant: int) -> bool:
        clock = datetime.fromtimestamp(instant / 1000, wall)
        today, yesterday = DAYS[clock.weekday()], DAYS[clock.weekday() - 1]
        minute = clock.hour * 60 + clock.minute
        if start < (end or 24 * 60):
            return today in days and start <= minute < (end or 24 * 60)
        return (today in days and minute >= start) or (yesterday in days and minute < end)

    asked = round(at.timestamp() * 1000)
    found = Hours(f"{','.join(sorted(days))} {times} {zone}").opens(asked)

    assert found >= asked
    assert inside(found)
    assert found == asked or not inside(found - 1)
    minutes = range(asked, found, MINUTE)
    assert not any(map(inside, minutes))


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", "expected days, times and a zone", 'as in "Mon-Fri 08:00-18:00 Europe/Berlin"'),
        ("Mon-Fri 08:00-18:00", "expected days, times and a zone", "as in"),
        ("Mon - Fri 08:00-18:00 UTC", "expected days, times and a zone", "as in"),
        ("Mon-Fry 08:00-18:00 UTC", "'Fry' is no day", "did you mean 'Fri'?"),
        ("Monday 08:00-18:00 UTC", "'Monday' is no day", "did you mean 'Mon'?"),
        ("dayly 08:00-18:00 UTC", "'dayly' is no day", "did you mean 'daily'?"),
        ("weekdays 08:00-18:00 UTC", "'weekdays' is no day", "did you mean 'Mon-Fri'?"),
        ("Mon, 08:00-18:00 UTC", "'' is no day", "known: Mon Tue Wed Thu Fri Sat Sun and daily"),
        ("daily 8-18 UTC", "expected times such as 08:00-18:00, got '8-18'", "24 hours, two digits each"),
        ("daily 08:00-25:00 UTC", "'08:00-25:00' is beyond the hours of a day", "00:00-24:00 is all of it"),
        ("daily 24:00-06:00 UTC", "'24:00-06:00' is beyond the hours of a day", "00:00-24:00 is all of it"),
        ("daily 08:60-09:00 UTC", "'08:60-09:00' is beyond the hours of a day", "00:00-24:00 is all of it"),
        ("daily 08:00-08:00 UTC", "'08:00-08:00' begins when it ends", "00:00-24:00 is all of a day"),
        ("daily 08:00-18:00 Europe/Berln", "there is no time zone 'Europe/Berln'", "mean 'Europe/Berlin'?"),
        ("daily 08:00-18:00 Berlin", "there is no time zone 'Berlin'", "did you mean 'Europe/Berlin'?"),
        ("daily 08:00-18:00 CEST", "there is no time zone 'CEST'", "as in Europe/Berlin"),
        ("daily 08:00-18:00 Europe", "there is no time zone 'Europe'", "as in Europe/Berlin"),
        ("daily 08:00-18:00 ../UTC", "there is no time zone '../UTC'", "did you mean 'UTC'?"),
    ],
)
def test_no_hours(text: str, what: str, hint: str) -> None:
    """What can't be read is told with a way out, as a ValueError like other values'."""
    with pytest.raises(NoHours) as caught:
        hours(text)

    assert isinstance(caught.value, ValueError)
    assert what == caught.value.what
    assert hint in caught.value.hint
    assert f"{what} ({caught.value.hint})" == str(caught.value)


def test_hours_are_read_once() -> None:
    """Every call of a rule asks for the same text."""
    assert hours("daily 08:00-18:00 UTC") is hours("daily 08:00-18:00 UTC")
