"""What filters and defaults make of a value, what they refuse at load, and what when an event comes."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import Unfit
from relay.event import Json
from relay.filter import CODES, FILTERS
from relay.template import at, fill, pieces, text

DATA: Json = {
    "text": "  Ab ",
    "empty": "",
    "null": None,
    "n": 7,
    "half": 0.5,
    "on": True,
    "ids": ["a", 2, True],
    "odd": ["a", None],
    "none": [],
    "nulls": [None],
    "table": {"b": 1, "a": [None]},
    "at": "2026-11-22T01:02:03.004+02:00",
}


def get(path: str) -> Json:
    return at(DATA, path)


@pytest.mark.parametrize(
    ("expected", "template"),
    [
        ("a", "{ids|first}"),
        (True, "{ids|last}"),
        ("a, 2, true", '{ids|join:", "}'),
        ("", '{none|join:", "}'),
        ("  ab ", "{text|lower}"),
        ("  AB ", "{text|upper}"),
        ("Ab", "{text|trim}"),
        ("AB", "{text|trim|upper}"),
        ("A", "{ids|first|upper}"),
        ('{"b":1,"a":[null]}', "{table|json}"),
        ("null", "{null|json}"),
        ("7", "{n|json}"),
        ("0.5", "{half|json}"),
        ('"  Ab "', "{text|json}"),
        ("2026-11-21 23:02", '{at|date:"%Y-%m-%d %H:%M"}'),
        (None, "{null}"),
        (None, "{nulls|first}"),
    ],
)
def test_filters(expected: Json, template: str) -> None:
    """Each filter makes of a value what its name says, one behind the other; the type is the last one's."""
    assert (type(expected), expected) == (type(made := fill(template, get)), made)


@pytest.mark.parametrize(
    ("expected", "template"),
    [
        ("x", '{nope|"x"}'),
        ("x", '{nope.a.b|"x"}'),
        ("x", '{null|"x"}'),
        ("", '{empty|"x"}'),
        ([], '{none|"x"}'),
        (7, '{n|"x"}'),
        (0, "{nope|0}"),
        (-1.5, "{nope|-1.5}"),
        (False, "{nope|false}"),
        (None, "{nope|null}"),
        ([], "{nope|[]}"),
        (["a", 1, None], '{nope|["a", 1 , null]}'),
        ("a-1", '{nope|["a",1]|join:"-"}'),
        ("X", '{nope|"x"|upper}'),
        ("x", '{nope|upper|"x"}'),
        ("x", '{null|upper|"x"}'),
        ("x", '{none|first|"x"}'),
        ("x", '{nulls|first|"x"}'),
        ("x", '{none|first|upper|"x"}'),
        ("null", '{null|json|"x"}'),
        ("x", '{nope|json|"x"}'),
        ("x", '{nope|[]|last|"x"}'),
        ("x", '{null|null|"x"}'),
        ("never", '{nope|date:"%Y"|"never"}'),
    ],
)
def test_a_default_stands_in_for_what_is_missing_or_null(expected: Json, template: str) -> None:
    """Up to where it stands: also for the first of nothing. An empty text, an empty list and 0 are values."""
    assert (type(expected), expected) == (type(made := fill(template, get)), made)


@pytest.mark.parametrize(
    ("flaw", "template"),
    [
        ("nope is missing", "{nope|upper}"),
        ("none is an empty list", "{none|first}"),
        ("none is an empty list", "{none|last|upper}"),
        ("null is null, and upper wants text", "{null|upper}"),
        ("nulls|first is null, and lower wants text", "{nulls|first|lower}"),
        ("n is a number, and lower wants text", "{n|lower}"),
        ("ids is a list, and trim wants text", '{ids|trim|"x"}'),
        ("text is text, and first wants a list", "{text|first}"),
        ("text is text, and join wants a list", '{text|join:","}'),
        ("odd.1 is null, expected text", '{odd|join:","}'),
        ("table is a table, and first wants a list", "{table|first}"),
        ("on is true or false, and date wants a time", '{on|date:"%Y"}'),
        ("ids|first is no time: expected ISO 8601", '{ids|first|date:"%Y"}'),
        ("nulls|first is null, expected text", "x{nulls|first}"),
        ("ids is a list, expected text", '{ids|"x"}!'),
    ],
)
def test_what_a_filter_does_not_take_is_named(flaw: str, template: str) -> None:
    """The reason has the path, the filter, and what was found; a default hides only what is not there."""
    with pytest.raises(Unfit) as caught:
        fill(template, get)
    assert str(caught.value).startswith(flaw)


@pytest.mark.parametrize(
    ("flaw", "template"),
    [
        ("there is no filter 'uper' (did you mean 'upper'?)", "{a|uper}"),
        ("there is no filter 'frist' (did you mean 'first'?)", "{a|frist}"),
        (
            "there is no filter 'unknown' (a default stands in quotes: {path|\"unknown\"}; known: "
            + ", ".join(sorted(FILTERS))
            + ")",
            "{a|unknown}",
        ),
        ("first takes no argument", "{a|first:1}"),
        ("upper takes no argument", '{a|upper:""}'),
        ("upper takes no argument", "{a|upper:null}"),
        ('join needs an argument (join:", ")', "{a|join}"),
        ('expected a text behind join:, got a number (join:", ")', "{a|join:1}"),
        ('expected a text behind join:, got null (join:", ")', "{a|join:null}"),
        ('date needs an argument (date:"%Y-%m-%d")', "{a|date}"),
        (
            "date does not know '%Q' (known: " + " ".join(f"%{code}" for code in CODES) + ")",
            '{a|date:"%Y-%Q"}',
        ),
        ("date does not know '%-' (known: ", '{a|date:"%-d"}'),
        ("date does not know '%' (known: ", '{a|date:"100%"}'),
        ("date would write 'YYYY' whatever the time (date:\"%Y-%m-%d\")", '{a|date:"YYYY"}'),
        ("first wants a list, and join makes a text", '{a|join:","|first}'),
        ("join wants a list, and upper makes a text", '{a|upper|[]|join:","}'),
        ("behind a default there is nothing for another default to do", '{a|"x"|"y"}'),
        ("behind a default there is nothing for another default to do", '{a|"x"|upper|"y"}'),
        ("the default is text, and join wants a list", '{a|"x"|join:","}'),
        ("the default is a number, and upper wants text", "{a|0|upper}"),
        ("the default is an empty list", "{a|[]|first}"),
        ("the default is no time", '{a|"never"|date:"%Y"}'),
        ("the default is null, expected text", "x{a|null}"),
        ("the default is a fraction, expected text", "{a|0.5}%"),
        ("the default is a list, expected text", "{a|[]} "),
    ],
)
def test_what_can_never_work_is_told_at_load(flaw: str, template: str) -> None:
    """A misspelt filter, a wrong argument, steps that can't follow each other: before any event."""
    with pytest.raises(ValueError, match=r".") as caught:
        pieces(template)
    assert str(caught.value).startswith(flaw)


# -- dates --


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("2026-11-21 23:02:03.004000", "2026-11-22T01:02:03.004+02:00"),
        ("2026-11-22 01:02:03.000000", "2026-11-22T01:02:03Z"),
        ("2026-11-22 01:02:03.123000", "2026-11-22 01:02:03.123456789Z"),
        ("0001-01-01 00:00:00.000000", "0001-01-01T00:00:00Z"),
        ("2023-11-14 22:13:20.000000", 1_700_000_000),
        ("2023-11-14 22:13:20.500000", 1_700_000_000.5),
        ("2023-11-14 22:13:20.999000", 1_700_000_000_999),
        ("2023-11-14 22:13:20.000000", "1700000000"),
        ("2023-11-14 22:13:20.250000", "1700000000.250100"),
        ("2023-11-14 22:13:20.999000", "1700000000999"),
        ("1970-01-01 00:00:00.000000", 0),
        ("1969-12-31 23:59:59.000000", -1),
        ("5138-11-16 09:46:39.000000", 99_999_999_999),
        ("1973-03-03 09:46:40.000000", 100_000_000_000),
    ],
)
def test_times_that_are_read(expected: str, said: Json) -> None:
    """ISO 8601 with an offset, or seconds or milliseconds since 1970; written in UTC."""
    assert expected == fill('{at|date:"%Y-%m-%d %H:%M:%S.%f"}', lambda _: said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "x",
        "2026-11-22",
        "2026-11-22T01:02:03",
        "2026-13-22T01:02:03Z",
        "Sun, 22 Nov 2026 01:02:03 GMT",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "\u0661" * 10,
        10**16,
        10**30,
        -(10**30),
        float("inf"),
        float("nan"),
    ],
)
def test_what_is_no_time(said: Json) -> None:
    """Without an offset, of another form, or beyond all years: Unfit, for a wrong time is worse than none."""
    with pytest.raises(Unfit, match=r"^at is no time: expected ISO 8601 with an offset"):
        fill('{at|date:"%Y"}', lambda _: said)


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(sorted(CODES.keys() - {"s"})))
@example(datetime(2026, 1, 4, 0, tzinfo=UTC), "I")
@example(datetime(2026, 1, 4, 12, tzinfo=UTC), "I")
@example(datetime(2026, 1, 4, 12, tzinfo=UTC), "p")
def test_codes_mean_what_strftime_says(when: datetime, code: str) -> None:
    """Each code of a date is strftime's own, with years of four digits."""
    when = when.replace(microsecond=when.microsecond // 1000 * 1000)
    expected = f"{when.year:04}" if code == "Y" else when.strftime(f"%{code}")
    assert f"<{expected}>" == text(f'<{{at|date:"%{code}"}}>', lambda _: when.isoformat())


def test_seconds_since_1970() -> None:
    """``%s`` counts from 1970 in UTC, wherever the machine stands; ``%%`` is a percent sign."""
    assert "1700000000%Y" == fill('{at|date:"%s%%Y"}', lambda _: 1_700_000_000_999)
