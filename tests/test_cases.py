"""Does the store keep cases as `follow` decides, on every engine: one call in flight, whatever comes?"""

import random
from dataclasses import replace
from typing import Any

import pytest
from conftest import Door
from shore import KEY, Shore, failure
from test_store import NOW, WEEK

from relay.call import NEVER, Kind, Seen, State, Step
from relay.case import Act, Move, Stand
from relay.errors import Rejected
from relay.store import Store

HOUR = 3_600_000
LEAST: dict[str, Any] = {"looks": True, "check_ms": 5_000, "recover_ms": HOUR, "keep": "job_id"}


@pytest.fixture
def shore(store: Door) -> Shore:
    return Shore(store)


# -- one case, one call --


def test_a_case_comes_back_as_it_went_in(shore: Shore) -> None:
    """What a move says is what is read, by id, by key and in the list, with its call."""
    move = shore.fail(only="daily 00:00-24:00 UTC", batch="ids:9", wait_ms=(0, 5))

    (shown,) = shore.store(Store.cases)
    assert (move.case, move.queue) == (shown.case, shown.call)
    assert [shown] == shore.store(Store.case, move.case.id) == shore.store(Store.case, KEY)
    assert [] == shore.store(Store.case, "nothing")


@pytest.mark.parametrize("luck", range(5))
def test_a_hundred_failures_are_one_call(shore: Shore, luck: int) -> None:
    """I3: failures, people, answers and checks in any order never make a second call in flight."""
    order = random.Random(luck)
    for number in range(100):
        match order.choice(["fail", "fail", "fail", "work", "act", "time", "check", "stale"]):
            case "fail":
                shore.fail()
            case "stale":
                shore.fail(seen_at=shore.now - 5_000)
            case "work":
                for held in shore.claim():
                    shore.settle(held)
            case "check":
                for held in shore.claim():
                    shore.settle(held, seen=Seen.FAILED)
            case "act" if number:
                for shown in shore.store(Store.cases):
                    if not shown.case.ended:
                        shore.act(shown.case.id, Act.RETRY)
            case _:
                shore.now += order.choice([1, 1_000, HOUR])
        assert 1 >= len(shore.waiting())
        assert 1 >= sum(not one.case.ended for one in shore.store(Store.cases))
        own = {one.case.call for one in shore.store(Store.cases) if not one.case.ended}
        assert own >= {call.id for call in shore.waiting()}


def test_two_live_cases_of_one_resource_are_refused(shore: Shore) -> None:
    """The table itself holds that a resource has one live case; ended ones may be many."""
    move = shore.fail()
    shore.event()
    row = shore.store.link.rows("case", {"id": move.case.id})[0]
    with pytest.raises(Exception, match=r"(?i)unique"), shore.store.engine.group():
        shore.store.link.rows("open_case", row | {"id": "case_2"})
    with shore.store.engine.group():
        ended = {"id": "case_2", "state": "closed", "ended_at": NOW}
        shore.store.link.rows("open_case", row | ended)


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "lost"}, {"state": "closed"}, {"ended_at": NOW}, {"storming": "wet"}, {"event_id": "ev_9"},
        {"state": "closed", "ended_at": NOW, "deadline_at": NOW}, {"why": None},
    ],
)  # fmt: skip
def test_a_case_that_must_not_be_is_refused(shore: Shore, wrong: dict[str, Any]) -> None:
    """The table itself holds what every case must be."""
    row = shore.store.link.rows("case", {"id": shore.fail().case.id})[0]

    with pytest.raises(Exception, match=r"(?i)constraint"), shore.store.engine.group():
        shore.store.link.rows("open_case", row | {"id": "case_2", "key": "other"} | wrong)


def test_two_providers_may_have_the_same_key(shore: Shore) -> None:
    """A key is its provider's own; who asks by the key alone gets both, and a person must say which."""
    shore.event(failure("7"), replace(failure("7"), provider="xpkg"))

    assert {"flatfile", "xpkg"} == {shown.case.provider for shown in shore.store(Store.case, "7")}
    with pytest.raises(Rejected, match="409 Several cases"):
        shore.act("7", Act.CLOSE)
    shore.act(shore.store(Store.case, "7")[0].case.id, Act.CLOSE)
    assert Stand.CLOSED is shore.act("7", Act.CLOSE).case.state
    with pytest.raises(Rejected, match="404 No such case: no case has the id, key or alias 8"):
        shore.act("8", Act.CLOSE)


# -- what becomes of it --


def test_accepted_checked_recovered(shore: Shore) -> None:
    """One retry, a check and another, an end, and nothing left to do."""
    shore.fail(**LEAST)
    shore.now += 10
    moved = shore.accept().moves[0]
    assert (Stand.RETRYING, Stand.WATCHING) == (moved.before and moved.before.state, moved.case.state)
    assert () == shore.claim()
    assert shore.now + 5_000 == shore.ask_at()
    shore.now += 5_000
    (look,) = shore.claim()
    assert (Kind.CHECK, Step.LOOK, Stand.WATCHING) == (look.call.kind, look.call.step, shore.case().state)
    shore.settle(look, state=State.QUEUED, due_at=shore.now + 15_000)
    shore.now += 15_000
    (again,) = shore.claim()
    (end,) = shore.settle(again, seen=Seen.RECOVERED).moves

    assert (Stand.RECOVERED, shore.now, 1) == (end.case.state, end.case.ended_at, end.case.retries)
    assert ([], None) == (shore.waiting(), shore.ask_at())
    assert end.case == shore.case()


def test_a_recovery_event_ends_the_case_and_withdraws_its_check(shore: Shore) -> None:
    """Once an event says that it is well, nobody asks any more; of what nobody knows, nothing is made."""
    assert () == shore.well("flatfile:job_id=other").moves
    shore.fail(**LEAST)
    shore.accept()
    (move,) = shore.well().moves

    assert (Stand.RECOVERED, "an event says that it recovered") == (move.case.state, move.case.why)
    assert [] == shore.waiting()
    (late,) = shore.well().moves
    assert ("well", Stand.RECOVERED) == (late.moment.kind, late.case.state)


def test_a_call_in_doubt_moves_the_case_to_a_person_and_back(shore: Shore) -> None:
    """What nobody can tell stands at a person, who closes it or sends it once more."""
    shore.fail()
    (move,) = shore.accept(state=State.UNKNOWN, due_at=NEVER, step=Step.LOOK, doubts=1).moves
    assert Stand.NEEDS_PERSON is move.case.state
    assert None is shore.ask_at()
    shore.act(KEY, Act.RETRY)
    (held,) = shore.claim()

    assert (Step.SEND, 2) == (held.call.step, held.attempt.number)
    shore.settle(held)
    assert (Stand.WATCHING, 2) == (shore.case().state, shore.case().retries)


@pytest.mark.parametrize("how", ["closed", "well"])
@pytest.mark.parametrize("end", [State.QUEUED, State.UNKNOWN])
def test_a_call_whose_case_has_ended_is_not_tried_again(shore: Shore, how: str, end: State) -> None:
    """What would wait for nobody is withdrawn when it comes back; what it may have done counts."""
    shore.fail()
    (held,) = shore.claim()
    shore.act(KEY, Act.CLOSE) if how == "closed" else shore.well()
    settled = shore.settle(held, state=end, due_at=shore.now, doubts=1)

    assert (True, State.CANCELLED) == (settled.withdrawn, shore.calls()[0].state)
    assert (1, ["late"]) == (shore.case().retries, [move.moment.kind for move in settled.moves])
    assert shore.case().ended


def test_an_answer_that_comes_after_the_end_is_counted(shore: Shore) -> None:
    """I6: recovered while its call was out, and failed again: the next case has one retry less."""
    for left in (2, 1):
        shore.fail(wait_ms=(0,))
        (held,) = shore.claim()
        shore.now += 1
        shore.well()
        shore.now += 1
        shore.settle(held)
        shore.now += 1
        move = shore.fail(wait_ms=(0,))
        assert move.queue is not None
        assert left == move.queue.room
    shore.accept()
    shore.now += 1
    assert Stand.GAVE_UP is shore.fail().case.state
    assert 3 == sum(call.tries for call in shore.calls())


def test_a_new_case_waits_for_a_call_that_is_still_out(shore: Shore) -> None:
    """I3: two calls for one resource are never out together, though the first one's case has ended."""
    shore.fail(wait_ms=(0,))
    (held,) = shore.claim()
    shore.now += 1
    shore.well()
    shore.now += 1
    move = shore.fail(wait_ms=(0,))

    assert move.queue is not None
    assert (held.call.due_at, 2, ()) == (move.queue.due_at, move.queue.room, shore.claim())
    shore.settle(held)
    shore.now = held.call.due_at
    assert 1 == len(shore.claim())


def test_a_doubt_that_is_withdrawn_counts(shore: Shore) -> None:
    """I6: a call that timed out and waits for a look has spent, though the case recovers before it."""
    for _ in range(3):
        shore.fail(wait_ms=(0,))
        shore.accept(state=State.UNKNOWN, due_at=shore.now + 2_000, step=Step.LOOK, doubts=1)
        shore.now += 1
        shore.well()
        shore.now += 1

    assert [State.CANCELLED] * 3 == [call.state for call in shore.calls()]
    assert Stand.GAVE_UP is shore.fail(wait_ms=(0,)).case.state


@pytest.mark.parametrize("step", Step)
def test_the_sweep_withdraws_what_nobody_waits_for(shore: Shore, step: Step) -> None:
    """A worker died with the call of a case that has ended: it is not queued again, and a send counts."""
    shore.event(failure(step=step, looks=True))
    (held,) = shore.claim()
    shore.act(KEY, Act.CLOSE)
    assert [held.call.id] == shore.store(Store.sweep, shore.now, everything=True)

    assert ([], State.CANCELLED) == (shore.waiting(), shore.calls()[0].state)
    assert (step is Step.SEND) == shore.case().retries == len(shore.case().spent)


def test_a_fourth_failure_gives_up_once(shore: Shore) -> None:
    """I6: a provider that fails for ever gets its budget and one end, whatever it sends for a day."""
    moves: list[Move] = []
    for _ in range(400):
        moves.append(shore.fail(wait_ms=(0,)))
        for held in shore.claim():
            moves += shore.settle(held).moves
        shore.now += 60_000

    assert 3 == len(shore.calls())
    assert 1 == sum(move.case.state is Stand.GAVE_UP and move.moment.kind == "gave_up" for move in moves)
    assert 1 == len(shore.store(Store.cases))


# -- time --


def test_deadlines_fire_from_a_claim(shore: Shore) -> None:
    """Each is in `ask_at`, fires when a worker claims, with no provider's room needed, and never twice."""
    shore.fail(recover_ms=HOUR)
    deadline = shore.accept().moves[0].case.deadline_at
    assert deadline == shore.now + HOUR
    shore.now += 5
    shore.fail("held", approve=True, approve_ms=60_000)
    assert shore.now + 60_000 == shore.ask_at()
    shore.now += 60_000
    claimed = shore.store(Store.claim, {}, shore.now, "a")
    assert [(Stand.OPEN, Stand.NEEDS_PERSON)] == [
        (move.before and move.before.state, move.case.state) for move in claimed.moves
    ]
    assert deadline == claimed.ask_at
    shore.now = deadline
    (move,) = shore.store(Store.claim, {}, shore.now, "a").moves
    assert (Stand.NEEDS_PERSON, None) == (move.case.state, shore.ask_at())
    assert () == shore.store(Store.claim, {}, shore.now + WEEK, "a").moves


def test_many_deadlines_fire_in_several_claims(shore: Shore) -> None:
    """However many pass at once, each claim does a bounded part of the work and asks to be called again."""
    for number in range(150):
        shore.fail(f"job {number}", approve=True, approve_ms=HOUR)
    shore.now += HOUR
    first = shore.store(Store.claim, {}, shore.now, "a")
    second = shore.store(Store.claim, {}, shore.now, "a")

    assert (100, 50) == (len(first.moves), len(second.moves))
    assert (shore.now >= (first.ask_at or NEVER), None) == (True, second.ask_at)


def test_a_yes_that_comes_too_late_for_a_no(shore: Shore) -> None:
    """A deadline that rejects closes the case and withdraws its call; one that approves makes it due."""
    shore.fail("a", approve=True, approve_then="reject", approve_ms=HOUR)
    shore.fail("b", approve=True, approve_then="approve", approve_ms=HOUR)
    assert () == shore.claim()
    shore.now += HOUR
    (held,) = shore.claim()

    assert ("b", Stand.RETRYING) == (held.call.key, shore.case("b").state)
    (gone,) = shore.store(Store.case, "a")
    assert gone.call is not None
    assert (Stand.CLOSED, State.CANCELLED) == (gone.case.state, gone.call.state)
    with pytest.raises(Rejected, match="409"):
        shore.act("a", Act.APPROVE)


def test_a_snoozed_case_sleeps_until_then(shore: Shore) -> None:
    """Its retry waits; when it goes, the case is on its way again."""
    shore.fail()
    shore.act(KEY, Act.SNOOZE, until=shore.now + HOUR)
    assert ((), Stand.OPEN, shore.now + HOUR) == (shore.claim(), shore.case().state, shore.ask_at())
    shore.now += HOUR
    assert 1 == len(shore.claim())
    assert Stand.RETRYING is shore.case().state


@pytest.mark.parametrize("how", ["settled", "swept"])
def test_a_check_that_was_out_at_its_deadline_is_the_last(shore: Shore, how: str) -> None:
    """When a person was asked, nobody goes on asking the provider."""
    shore.fail(**LEAST)
    shore.accept()
    shore.now += HOUR - 1
    (look,) = shore.claim()
    shore.now += 1
    shore.claim()
    assert Stand.NEEDS_PERSON is shore.case().state
    if how == "settled":
        shore.settle(look, state=State.QUEUED, due_at=shore.now)
    else:
        shore.store(Store.sweep, shore.now, everything=True)

    assert ([], ()) == (shore.waiting(), shore.claim())
