"""When a provider may be called: the rate is never exceeded, and nothing locks the gate for ever."""

from dataclasses import replace
from itertools import pairwise

import pytest
from build import NOW
from hypothesis import given
from hypothesis import strategies as st

from relay.call import Answered, Failed, Refused, Signal, Throttled
from relay.event import Millis
from relay.gate import (
    LONGEST_REST_MS,
    LONGEST_WAIT_MS,
    REFUSED_REST_MS,
    REST_MS,
    TRIP,
    Gate,
    admit,
    learn,
    rest_ms,
    resume,
)
from relay.provider import Limit

PROBE = 60_000
FREE = Limit()
OPEN = Gate(provider="x")
NO = Refused("401: no")


def told(gate: Gate, *signals: Signal, began: Millis = NOW, now: Millis = NOW) -> Gate:
    """Let *gate* learn several things about calls that began together."""
    for signal in signals:
        gate = learn(gate, signal, began, now)
    return gate


def tripped(now: Millis = NOW) -> Gate:
    return told(OPEN, *[Failed()] * TRIP, began=now - 1, now=now)


# -- the rate --

LIMITS = st.builds(Limit, every_ms=st.integers(1, 5_000), burst=st.integers(1, 20))
ASKS = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 12)), max_size=60)


@given(LIMITS, ASKS)
def test_no_window_holds_more_than_the_limit(limit: Limit, asks: list[tuple[int, int]]) -> None:
    """Any window holds at most ``burst`` calls and one for each full interval in it, whoever asks when."""
    gate, now, passed = OPEN, NOW, list[Millis]()
    for pause, wanted in asks:
        now += pause
        gate, admitted = admit(gate, limit, now, wanted, PROBE)
        assert 0 <= admitted <= wanted
        passed += [now] * admitted
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            window = passed[last] - passed[first]
            assert last - first + 1 <= limit.burst + window // limit.every_ms


@given(LIMITS, ASKS)
def test_the_gate_is_an_exact_bucket(limit: Limit, asks: list[tuple[int, int]]) -> None:
    """It lets through just what a bucket of ``burst`` tokens would, one filled in each interval."""
    gate, now, tokens = OPEN, NOW, limit.burst * limit.every_ms  # in thousandths that one ms fills
    for pause, wanted in asks:
        now += pause
        tokens = min(limit.burst * limit.every_ms, tokens + pause)
        expected = min(wanted, tokens // limit.every_ms)
        tokens -= expected * limit.every_ms
        gate, admitted = admit(gate, limit, now, wanted, PROBE)
        assert expected == admitted


@given(LIMITS, ASKS, st.sampled_from([OPEN, tripped(), told(OPEN, NO), told(OPEN, Throttled(NOW + 700))]))
def test_waiting_as_told_is_enough(limit: Limit, asks: list[tuple[int, int]], gate: Gate) -> None:
    """At the instant it names the gate lets a call through, and at no instant before."""
    now = NOW
    for pause, wanted in asks:
        now += pause
        gate, admitted = admit(gate, limit, now, wanted, PROBE)
        if admitted < wanted:
            opens = gate.opens_at(limit)
            assert opens > now
            assert admit(gate, limit, opens - 1, 1, PROBE)[1] == 0
            assert admit(gate, limit, opens, 1, PROBE)[1] == 1


def test_no_limit_no_wait() -> None:
    """Without a limit everything goes, and the gate stays as it is."""
    assert (OPEN, 1_000) == admit(OPEN, FREE, NOW, 1_000, PROBE)
    assert (OPEN, 0) == admit(OPEN, FREE, NOW, 0, PROBE)


def test_a_clock_that_steps_back_lets_nothing_more_through() -> None:
    """The rate holds when the clock is set back."""
    limit = Limit(every_ms=1_000, burst=2)
    gate, _ = admit(OPEN, limit, NOW, 2, PROBE)
    assert (gate, 0) == admit(gate, limit, NOW - 60_000, 5, PROBE)


# -- Retry-After --


def test_retry_after_is_a_floor_and_later_ones_do_not_lower_it() -> None:
    """Nobody calls before the latest instant that the provider asked for."""
    gate = told(OPEN, Throttled(NOW + 5_000), Throttled(NOW + 1_000), Answered())
    assert (gate, 0) == admit(gate, FREE, NOW + 4_999, 1, PROBE)
    assert admit(gate, FREE, NOW + 5_000, 3, PROBE)[1] == 3


def test_retry_after_is_believed_up_to_a_day() -> None:
    """An absurd Retry-After does not lock a provider for years."""
    assert NOW + LONGEST_WAIT_MS == told(OPEN, Throttled(NOW + 10**13)).opens_at(FREE)


def test_too_many_requests_are_no_failure() -> None:
    """A provider that throttles us is well: the breaker stays shut, and a count of failures ends."""
    gate = told(OPEN, *[Failed()] * (TRIP - 1), Throttled(NOW), Failed())
    assert not gate.ill
    assert 1 == gate.failures


# -- the breaker --


def test_the_breaker_opens_at_the_last_of_several_failures_in_a_row() -> None:
    """One failure less, or a success between, and it stays as it is."""
    nearly = told(OPEN, *[Failed()] * (TRIP - 1))
    assert not nearly.ill
    assert nearly.opens_at(FREE) <= NOW
    assert not told(nearly, Answered(), *[Failed()] * (TRIP - 1)).ill

    gate = told(nearly, Failed())
    assert gate.ill
    assert NOW + REST_MS == gate.opens_at(FREE)


def test_one_probe_at_a_time() -> None:
    """After its rest an ill provider gets one call, and the next only when that one has told or hung."""
    gate = tripped()
    rested = NOW + REST_MS
    assert admit(gate, FREE, rested - 1, 9, PROBE)[1] == 0
    gate, admitted = admit(gate, FREE, rested, 9, PROBE)
    assert 1 == admitted
    assert admit(gate, FREE, rested + PROBE - 1, 9, PROBE)[1] == 0
    assert admit(gate, FREE, rested + PROBE, 9, PROBE)[1] == 1


def test_rest_doubles_to_the_cap() -> None:
    """Each probe that fails makes the next rest twice as long, up to ten minutes."""
    gate, now, rests = tripped(), NOW, list[Millis]()
    for _ in range(9):
        rests.append(gate.opens_at(FREE) - now)
        gate, _ = admit(gate, FREE, gate.opens_at(FREE), 1, PROBE)
        now = gate.shut_until - PROBE + 500
        gate = told(gate, Failed(), began=now - 500, now=now)
    assert [30_000, 60_000, 120_000, 240_000, 480_000, *[LONGEST_REST_MS] * 4] == rests


@pytest.mark.parametrize("number", [-1, 0, 5, 10_000])
def test_rest_has_bounds(number: int) -> None:
    """Whatever was counted, a rest is between half a minute and ten minutes."""
    assert REST_MS <= rest_ms(number) <= LONGEST_REST_MS
    assert rest_ms(number) <= rest_ms(number + 1)


@pytest.mark.parametrize("late", [0, 1, 5_000])
@pytest.mark.parametrize("signal", [Failed(), Answered(), NO])
def test_stragglers_change_nothing(late: Millis, signal: Signal) -> None:
    """What set out before the breaker opened, or in that very millisecond, does not move it again."""
    gate = told(OPEN, *[Failed()] * TRIP, began=NOW, now=NOW)
    assert gate == told(gate, signal, signal, began=NOW, now=NOW + late)
    assert gate == told(gate, signal, began=NOW - 9_000, now=NOW + late)


def test_a_straggler_may_still_ask_for_time() -> None:
    """A late Retry-After is obeyed, and opens nothing."""
    gate = told(tripped(), Throttled(NOW + 40_000), began=NOW - 5, now=NOW + 5)
    assert gate.ill
    assert NOW + 40_000 == gate.opens_at(FREE)


@pytest.mark.parametrize("signal", [Answered(), Throttled(NOW)])
@pytest.mark.parametrize("ill", [tripped(), told(OPEN, NO)])
def test_a_success_closes(signal: Signal, ill: Gate) -> None:
    """One probe that is answered, with too many requests even, opens the gate for all, with a clean slate."""
    rested = ill.opens_at(FREE)
    gate, _ = admit(ill, FREE, rested, 1, PROBE)
    gate = told(gate, signal, began=rested, now=rested + 10)
    assert not gate.ill
    assert (0, 0, "") == (gate.failures, gate.trips, gate.paused)
    assert admit(gate, FREE, rested + 10, 5, PROBE)[1] == 5


# -- the pause --


def test_a_refusal_pauses_once() -> None:
    """Calls that were out when the first one was refused neither pause it longer nor end the pause."""
    gate = told(OPEN, NO)
    assert gate.ill
    assert "401: no" == gate.paused
    assert NOW + REFUSED_REST_MS == gate.opens_at(FREE)
    for signal in (Refused("403: late"), Answered(), Failed()):
        assert gate == told(gate, signal, began=NOW, now=NOW + 100)


def test_a_probe_that_is_refused_pauses_again() -> None:
    """While the credentials stay wrong, one call each quarter of an hour asks."""
    gate = told(OPEN, NO)
    began = gate.opens_at(FREE)
    gate, admitted = admit(gate, FREE, began, 7, PROBE)
    assert 1 == admitted
    gate = told(gate, NO, began=began, now=began + 80)
    assert began + 80 + REFUSED_REST_MS == gate.opens_at(FREE)


# -- a fresh start --


def test_a_fresh_start_lets_a_paused_provider_try_at_once() -> None:
    """Credentials may have changed: one call asks, and only one."""
    gate = resume(told(OPEN, NO))
    assert admit(gate, FREE, NOW + 1, 9, PROBE)[1] == 1
    assert gate.ill


@pytest.mark.parametrize("trips", [1, 2, 3])
def test_a_fresh_start_keeps_the_rest_but_not_the_probe(trips: int) -> None:
    """The breaker's own time stands; a probe that died with relay is not waited for."""
    gate = replace(tripped(), trips=trips, shut_until=NOW + rest_ms(trips - 1))
    assert gate == resume(gate)
    probing, _ = admit(gate, FREE, gate.opens_at(FREE), 1, PROBE)
    assert gate.opens_at(FREE) == resume(probing).opens_at(FREE)


@given(st.lists(st.sampled_from([Answered(), Failed(), Throttled(NOW + 9_000), NO]), max_size=12))
def test_a_fresh_start_never_makes_a_wait_longer(signals: list[Signal]) -> None:
    """Nothing is held longer for a restart, and no limit or Retry-After is forgotten."""
    gate = told(OPEN, *signals, began=NOW + 1)
    limit = Limit(every_ms=1_000)
    gate, _ = admit(gate, limit, NOW + 1, 1, PROBE)
    fresh = resume(gate)
    assert fresh.opens_at(limit) <= gate.opens_at(limit)
    assert replace(gate, shut_until=0) == replace(fresh, shut_until=0)


STORY = st.lists(
    st.tuples(
        st.integers(0, 120_000),  # until somebody asks
        st.integers(0, 90_000),  # until the call tells, if it does
        st.sampled_from([Answered(), Failed(), Throttled(NOW + 50_000), NO, None]),
    ),
    max_size=30,
)


@given(STORY, LIMITS)
def test_whatever_happened_the_gate_opens_again(
    story: list[tuple[int, int, Signal | None]], limit: Limit
) -> None:
    """After any story, probes that never told included, it opens within a day, and a success heals it."""
    gate, now, told_at = OPEN, NOW, [NOW]
    for pause, took, signal in story:
        now += pause
        gate, admitted = admit(gate, limit, now, 1, PROBE)
        if admitted and signal is not None:
            gate = learn(gate, signal, now, now + took)
            told_at.append(now + took)
    opens = gate.opens_at(limit)
    assert opens <= max(now, *told_at) + LONGEST_WAIT_MS
    gate, admitted = admit(gate, limit, max(opens, *told_at) + 1, 1, PROBE)
    assert 1 == admitted
    began = max(opens, *told_at) + 1
    assert not told(gate, Answered(), began=began, now=began + 1).ill


def test_times_go_up() -> None:
    """The constants of rest are in order, each longer than the one before."""
    assert all(a < b for a, b in pairwise([0, REST_MS, LONGEST_REST_MS, REFUSED_REST_MS, LONGEST_WAIT_MS]))


def test_a_probe_that_told_nothing_lets_another_one_ask() -> None:
    """A call that failed on our side says nothing of the provider: its gate does not stay shut for it."""
    ill, _ = admit(Gate(provider="p", failures=TRIP, tripped_at=NOW - 60_000), Limit(), NOW, 1, 3_600_000)
    assert NOW + 3_600_000 == ill.opens_at(Limit())

    assert NOW + 5 == learn(ill, None, NOW, NOW + 5).opens_at(Limit())


def test_a_straggler_that_told_nothing_changes_nothing() -> None:
    """What set out before the breaker opened was no probe: the rest stands."""
    ill = Gate(provider="p", failures=TRIP, tripped_at=NOW, shut_until=NOW + 30_000)

    assert ill == learn(ill, None, NOW - 10, NOW + 5)


def test_a_paused_provider_that_was_out_of_reach_is_asked_again_soon() -> None:
    """A probe that did not get through told nothing about the credentials: half a minute, not an hour."""
    paused = Gate(provider="p", paused="401", tripped_at=NOW - 60_000)
    probed, _ = admit(paused, Limit(), NOW, 1, 3_600_000)

    after_it = learn(probed, Failed(), NOW, NOW + 5)

    assert NOW + 5 + 30_000 == after_it.opens_at(Limit())
    assert "401" == after_it.paused
