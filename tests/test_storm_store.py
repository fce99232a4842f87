"""Does a storm in the store let one go after the other, and is it told once?"""

from collections import Counter
from dataclasses import replace

import pytest
from conftest import Door
from shore import Sea, failure
from test_store import NOW, WEEK, delivery, slots

from relay.case import Act, Stand, Storming
from relay.deed import Deed, Plan
from relay.event import Decision
from relay.store import Store
from relay.storm import PATIENCE_MS, REST_MS, TALLY, Weather

HOUR = 3_600_000
CALM = Weather(provider="flatfile")


@pytest.fixture
def sea(store: Door) -> Sea:
    return Sea(store)


def test_five_hundred_failures_are_one_storm(sea: Sea) -> None:
    """It is said once; one goes first, each that helped lets one more out, and all recover."""
    for _ in range(500):
        sea.fail()
        sea.now += 20
    assert [("flatfile", True)] == [(turn.provider, turn.began) for turn in sea.turns]
    assert 21 == sea.turns[0].waiting  # none of them had begun
    assert {"parked": 499, "out": 1} == sea.states()

    waves = []
    while taken := sea.accept():
        waves.append(len(taken))
        sea.now += 1_000
        for one in taken:
            sea.well(one)
    assert [1, 2, 4, 8, 16, 32, 64, 128] == waves[:8]
    assert 500 == sum(waves)
    assert {"recovered"} == {one.case.state.value for one in sea.store(Store.cases, limit=1_000)}
    sea.now += 10_000  # one more within these would have begun it again
    sea.claim()
    assert [True, False] == [turn.began for turn in sea.turns]
    assert replace(CALM, tally=sea.weather().tally) == sea.weather()


def test_a_storm_that_goes_on_is_said_once(sea: Sea) -> None:
    """Where each retry helps at once, ever new failures are still one storm: it ends when they are few."""
    for number in range(200):
        sea.fail()
        for one in sea.accept():
            sea.well(one)
        sea.now += 40
        assert number < 20 or 1 == len(sea.turns)
    sea.now += 10_000
    sea.claim()

    assert [True, False] == [turn.began for turn in sea.turns]
    assert {"calm": 200} == sea.states()


def test_a_useless_probe_makes_all_rest(sea: Sea) -> None:
    """Nothing goes until the rest is over, then one; the rest doubles, and a claim comes at its end."""
    for _ in range(40):
        sea.fail(wait_ms=(0, 24 * HOUR), retries=9)
    for rest in (REST_MS, 2 * REST_MS, 4 * REST_MS):
        (taken,) = sea.accept()
        sea.ill(taken)
        assert [] == sea.accept()
        assert sea.now + rest == sea.weather().rests_until == sea.claimed().ask_at
        sea.now += rest - 1
        assert [] == sea.accept()
        sea.now += 1

    assert 1 == len(sea.accept())
    assert 1 == len(sea.turns)


def test_a_rest_ends_though_failures_go_on(sea: Sea) -> None:
    """A failure that comes in as the rest has just ended, before a worker looks, does not put it off."""
    for _ in range(30):
        sea.fail(retries=9)
    (taken,) = sea.accept()
    sea.ill(taken)
    sea.now += REST_MS
    sea.fail()

    assert 1 == len(sea.accept())


def test_each_probe_is_another_case(sea: Sea) -> None:
    """While nothing helps, no case spends its whole budget as the probe: the longest waiting goes next."""
    for _ in range(30):
        sea.fail(retries=9)
        sea.now += 1
    probes = []
    for _ in range(25):
        (taken,) = sea.accept()
        probes.append(taken)
        sea.ill(taken)
        sea.now = sea.weather().rests_until

    assert 25 == len(set(probes))


def test_a_retry_in_a_storm_comes_no_sooner_than_by_itself(sea: Sea) -> None:
    """What failed again waits its hour, storm or not; meanwhile others are let go."""
    for _ in range(22):
        sea.fail(wait_ms=(0, HOUR), retries=9)
    (first,) = sea.accept()
    sea.ill(first)
    again = sea.now + HOUR
    seen = {first}
    while sea.now < again:
        sea.now = min(again - 1, sea.claimed(free=0).ask_at or again) if sea.now < again - 1 else again
        for one in sea.accept():
            assert one not in seen or sea.now >= again
            seen.add(one)
            sea.well(one)

    assert 22 == len(seen)
    sea.now += PATIENCE_MS  # within these the storm looks who is ready
    for one in sea.accept():
        sea.well(one)
    found = sea.store(Store.case, first)[0].case
    assert (Stand.RECOVERED, 2) == (found.state, found.retries)


def test_a_storm_keeps_to_the_hours(sea: Sea) -> None:
    """What is let go at night stays parked until its hours open, and then goes."""
    # 2023-11-14 22:13 UTC: until 22:15 the hours are open.
    for _ in range(30):
        sea.fail(only="daily 08:00-22:15 UTC")
    (first,) = sea.accept()
    sea.now += 5 * 60_000
    sea.well(first)
    assert [] == sea.accept()
    opens = NOW + 35_200_000
    for _ in range(1_000):
        if sea.now >= opens:
            break
        sea.now = max(sea.now + 1, sea.claimed(free=0).ask_at or opens)
        assert sea.now >= opens or [] == sea.accept()
    for _ in range(100):
        sea.now += PATIENCE_MS
        for one in sea.accept():
            sea.well(one)

    assert {"recovered": 30} == Counter(one.case.state.value for one in sea.store(Store.cases, limit=99))


def test_patience_with_what_says_nothing_has_an_end(sea: Sea) -> None:
    """A probe whose end nobody tells holds the others up only so long: every few minutes one more goes."""
    for _ in range(25):
        sea.fail()
    gone = []
    for _ in range(25):
        gone += sea.accept()
        assert [] == sea.accept()
        if sea.states().get("parked"):
            ask_at = sea.claimed().ask_at
            assert ask_at is not None
            assert sea.now < ask_at <= sea.now + PATIENCE_MS
            sea.now = ask_at

    assert 25 == len(set(gone))


def test_what_was_out_as_the_storm_began_is_a_probe(sea: Sea) -> None:
    """Cases whose retry had begun are not parked; the first of them that helped lets others go."""
    for _ in range(20):
        sea.fail()
    held = sea.claim(free=5)
    for one in held[:3]:
        sea.settle(one)
    sea.fail()

    assert {"out": 5, "parked": 16} == sea.states()
    assert 16 == sea.turns[0].waiting
    assert () == sea.claim()
    for one in held[:3]:
        assert one.call.case
        sea.well(one.call.case)
    assert {"out": 4, "parked": 14, "calm": 3} == sea.states()


def test_a_persons_retry_passes_the_storm(sea: Sea) -> None:
    """Who says now means now: it is due at once, counts for no probe, and the storm goes on."""
    cases = [sea.fail() for _ in range(25)]
    (first,) = sea.accept()
    move = sea.store(Store.act, cases[-1].id, Act.RETRY, by="ada", why="", now=sea.now)

    assert (Stand.RETRYING, Storming.CALM) == (move.case.state, move.case.storming)
    assert [cases[-1].id] == sea.accept()
    assert {"out": 1, "parked": 23, "calm": 1} == sea.states()
    sea.ill(cases[-1].id)
    assert (1, 0) == (sea.weather().width, sea.weather().rests)
    sea.well(first)
    assert 2 == len(sea.accept())


def test_a_storm_that_a_person_ends_is_told_by_the_next_claim(sea: Sea) -> None:
    """When a person closes the last that waits, the next claim says that the storm is over."""
    cases = [sea.fail() for _ in range(21)]
    sea.accept()
    sea.now += 20_000
    for one in cases[1:]:
        sea.store(Store.act, one.id, Act.CLOSE, by="ada", why="", now=sea.now)
    assert [True] == [turn.began for turn in sea.turns]
    sea.claim()

    assert [True, False] == [turn.began for turn in sea.turns]
    assert not sea.weather().stormy


def test_a_tally_of_useless_retries_begins_a_storm(sea: Sea) -> None:
    """Twenty retries far apart that did not help: the next case that opens waits for a probe."""
    for _ in range(TALLY):
        sea.fail(wait_ms=(0, 24 * HOUR))
        (taken,) = sea.accept()
        sea.ill(taken)
        sea.now += 60_000
    assert [] == sea.turns
    sea.fail()

    (turn,) = sea.turns
    assert (True, "of the last 20 retries, 0 helped") == (turn.began, turn.why)


def test_cases_that_wait_for_a_yes_make_no_storm(sea: Sea) -> None:
    """Nothing would be parked, so nothing is said; but a deadline's yes is, in the storm of others."""
    for _ in range(50):
        sea.fail(approve=True, approve_then="approve", approve_ms=HOUR)
    assert ([], {"calm": 50}) == (sea.turns, sea.states())
    for _ in range(25):
        sea.fail()
    assert 1 == len(sea.turns)
    (first,) = sea.accept()
    sea.now += HOUR
    sea.accept()

    assert first
    assert 50 <= sea.states()["parked"]


def test_two_providers_have_two_weathers(store: Door) -> None:
    """I9: the storm of one holds up no other."""
    sea = Sea(store)
    for _ in range(30):
        sea.fail()
    other = replace(failure("package 1", storm_cases=20), provider="xpkg")
    event = delivery(99, source="xpkg", received_at=sea.now)
    store(Store.record, event, Plan(Decision.MATCHED, Deed(failures=(other,))), version="v1", dedupe_ms=WEEK)

    claims = store(Store.claim, slots(xpkg=8), sea.now, "a").claims
    assert Counter(flatfile=1, xpkg=1) == Counter(held.call.provider for held in claims)
