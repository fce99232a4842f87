"""Is it a storm, who is let go in it, and is it told once?  In values, and in a store with 500 cases."""

from dataclasses import replace

import pytest
from shore import call, case
from test_store import NOW

from relay import storm
from relay.call import NEVER
from relay.case import Moment, Move, Policy, Stand, Storming
from relay.storm import HELPFUL, LONGEST_REST_MS, PATIENCE_MS, REST_MS, TALLY, Weather

HOUR = 3_600_000
POLICY = Policy(storm_cases=20, storm_ms=10_000)
CALM = Weather(provider="flatfile")
STORM = replace(CALM, began_at=NOW)


def moved(before: Stand | None, after: Stand, kind: str = "", *, by: str | None = None) -> Move:
    """Return a move between two states."""
    return Move(
        before=case(before) if before else None, case=case(after), moment=Moment(kind=kind, what="", by=by)
    )


# -- values --


@pytest.mark.parametrize(
    ("weather", "lately", "cases", "said"),
    [
        (CALM, 20, 20, ""),
        (CALM, 21, 20, "more than 20 cases in 10 s"),
        (CALM, 1_000, 0, ""),
        (STORM, 1_000, 20, ""),
        (replace(CALM, tally="-" * 16 + "+" * 4), 1, 20, "of the last 20 retries, 4 helped"),
        (replace(CALM, tally="-" * 15 + "+" * 5), 1, 20, ""),
        (replace(CALM, tally="-" * 19), 1, 20, ""),
        (replace(CALM, tally="-" * 20), 1, 0, ""),
    ],
)
def test_when_a_storm_breaks_out(weather: Weather, lately: int, cases: int, said: str) -> None:
    """Too many cases at once, or retries that hardly help; never twice, and never where 0 is allowed."""
    assert said == storm.breaks_out(weather, lately, replace(POLICY, storm_cases=cases))


@pytest.mark.parametrize(
    ("move", "helped"),
    [
        (moved(None, Stand.RETRYING, "opened"), None),
        (moved(None, Stand.GAVE_UP, "gave_up"), None),
        (moved(Stand.RETRYING, Stand.WATCHING, "accepted"), None),
        (moved(Stand.WATCHING, Stand.RECOVERED, "recovered"), True),
        (moved(Stand.RETRYING, Stand.RECOVERED, "recovered"), True),
        (moved(Stand.WATCHING, Stand.OPEN, "failed_again"), False),
        (moved(Stand.RETRYING, Stand.RETRYING, "failed_again"), False),
        (moved(Stand.RETRYING, Stand.OPEN, "failed_again"), False),
        (moved(Stand.WATCHING, Stand.NEEDS_PERSON, "needs_person"), False),
        (moved(Stand.RETRYING, Stand.GAVE_UP, "gave_up"), False),
        (moved(Stand.RETRYING, Stand.RETRYING, "joined"), None),
        (moved(Stand.OPEN, Stand.NEEDS_PERSON, "needs_person"), None),
        (moved(Stand.OPEN, Stand.CLOSED, "closed"), None),
        (moved(Stand.WATCHING, Stand.CLOSED, "closed", by="ada"), None),
        (moved(Stand.GAVE_UP, Stand.RETRYING, "released", by="ada"), None),
        (moved(Stand.GAVE_UP, Stand.GAVE_UP, "late"), None),
    ],
    ids=lambda value: None if isinstance(value, bool | None) else f"{value.moment.kind}",
)
def test_what_tells_that_a_retry_helped(move: Move, helped: bool | None) -> None:
    """Recovered: yes. Failed again, or nobody knows: no. No retry was out, or a person acted: nothing."""
    assert helped is storm.result(move)


def test_the_tally_has_an_end() -> None:
    """The last results count, in any weather; what came before them is forgotten."""
    weather = CALM
    for number in range(30):
        weather = storm.learned(weather, helped=number < 10, probe=False, now=NOW)

    assert "-" * TALLY == weather.tally
    assert weather.useless
    for _ in range(HELPFUL + 1):
        weather = storm.learned(weather, helped=True, probe=False, now=NOW)
    assert not weather.useless


def test_each_probe_that_helped_lets_one_more_out() -> None:
    """Slow start: one, two, three; what was no probe teaches nothing but the tally."""
    weather = STORM
    for width in (2, 3, 4):
        weather = storm.learned(weather, helped=True, probe=True, now=NOW)
        assert (width, 0, 0) == (weather.width, weather.rests, weather.rests_until)
    weather = storm.learned(weather, helped=False, probe=False, now=NOW)
    assert (4, "+++-") == (weather.width, weather.tally)
    assert (1, 4, 0) == (storm.room(weather, 3), storm.room(weather, 0), storm.room(weather, 9))


def test_a_probe_that_did_not_help_shuts_for_a_rest_that_doubles() -> None:
    """All rest, for ever longer up to a bound; one that helped begins anew."""
    weather, now, rests = replace(STORM, width=7), NOW, []
    for _ in range(8):
        weather = storm.learned(weather, helped=False, probe=True, now=now)
        rests.append(weather.rests_until - now)
        assert 0 == storm.room(weather, 0)
        now = weather.rests_until
        weather = storm.rested(weather)
        assert (1, 0) == (storm.room(weather, 0), weather.rests_until)

    assert [REST_MS, REST_MS * 2, REST_MS * 4, REST_MS * 8, REST_MS * 16, *[LONGEST_REST_MS] * 3] == rests
    weather = storm.learned(weather, helped=True, probe=True, now=now)
    assert (2, 0) == (weather.width, weather.rests)


def test_how_long_the_first_rest_is_can_be_said() -> None:
    """A provider's file may want to know sooner, or later, whether retries help again; the bound stays."""
    weather, rests = STORM, []
    for _ in range(4):
        weather = storm.learned(weather, helped=False, probe=True, now=NOW, rest_ms=200_000)
        rests.append(weather.rests_until - NOW)
        weather = storm.rested(weather)

    assert [200_000, 400_000, 800_000, LONGEST_REST_MS] == rests


@pytest.mark.parametrize("width", [0, 3])
def test_what_is_over_is_not_begun_anew(width: int) -> None:
    """A rest or a patience that has just ended stays so until it is acted on, whatever comes in between."""
    weather = replace(STORM, width=width, rests=1, rests_until=NOW)

    assert weather == storm.patient(weather, NOW + 1)
    assert NOW + PATIENCE_MS == storm.patient(STORM, NOW).rests_until


def test_what_was_out_before_the_rest_makes_it_no_longer() -> None:
    """Twenty that fail at once are one useless probe; one of them that helped ends the rest."""
    weather = replace(STORM, width=20)
    for at in range(20):
        weather = storm.learned(weather, helped=False, probe=True, now=NOW + at)
    assert (1, NOW + REST_MS, "-" * 20) == (weather.rests, weather.rests_until, weather.tally)

    weather = storm.learned(weather, helped=True, probe=True, now=NOW + 20)
    assert (1, 0, 0) == (weather.width, weather.rests, weather.rests_until)


def test_parking_keeps_the_time_of_a_retry() -> None:
    """A storm makes no retry come sooner: its own time is kept beyond NEVER, however often it is parked."""
    waits = call(due_at=NOW + HOUR)
    parked_case, parked_call = storm.parked(case(Stand.RETRYING), waits)

    assert (Stand.OPEN, Storming.PARKED, NEVER + NOW + HOUR) == (
        parked_case.state, parked_case.storming, parked_call.due_at,
    )  # fmt: skip
    assert parked_call == storm.parked(parked_case, parked_call)[1]
    gone, freed = storm.let_go(parked_case, parked_call, NOW + HOUR)
    assert (Stand.RETRYING, Storming.OUT, NOW + HOUR) == (gone.state, gone.storming, freed.due_at)
