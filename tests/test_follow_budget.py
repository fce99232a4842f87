"""How often is a resource retried, did it help, and under which names does it go on?"""

from dataclasses import replace
from typing import Any

import pytest
from shore import ENDED, LATER, call, case, check, failure, play, told
from test_store import NOW

from relay import follow
from relay.call import Call, Kind, Seen, State, Step
from relay.case import DAY_MS, HOUR_MS, Policy, Stand

# -- budgets --


def test_waits_grow_and_the_budget_ends() -> None:
    """Each retry that was taken and failed waits longer; after the last there is one end, with its reason."""
    move = follow.failed(None, failure(), "ev_1", NOW, NOW)
    dues = []
    for at in (NOW + 1_000, NOW + 2_000, NOW + 3_000):
        assert move.queue is not None
        dues.append((move.queue.due_at - move.queue.created_at, move.queue.room))
        move = play(move.case, at)

    assert [(0, 3), (300_000, 2), (HOUR_MS, 1)] == dues
    assert (Stand.GAVE_UP, 3, "it failed again, and its budget is spent: 3 retries within 24 h") == (
        move.case.state, move.case.retries, move.case.why,
    )  # fmt: skip
    assert None is move.queue


def test_the_window_slides() -> None:
    """A retry counts for as long as the window is, to the millisecond; all of them stay on record."""
    spent = (NOW - DAY_MS, NOW - DAY_MS + 1, NOW - 5)
    watching = case(Stand.WATCHING, spent=spent, retries=3)

    move = follow.failed(watching, failure(), "ev_2", NOW + 1, NOW)
    assert ("open", "failed_again", "retry") == told(move)
    assert move.queue is not None
    assert (1, NOW + HOUR_MS) == (move.queue.room, move.queue.due_at)
    earlier = follow.failed(watching, failure(), "ev_2", NOW + 1, NOW - 1)
    assert "gave_up" == earlier.case.state.value


def test_what_gave_up_takes_in_failures_for_its_window() -> None:
    """I6: no call and no new case for as long as the window; after it, a case with a budget of its own."""
    spent = (NOW - 3, NOW - 2, NOW - 1)
    given_up = case(Stand.GAVE_UP, spent=spent, retries=3)
    end = NOW + DAY_MS

    assert ("gave_up", "joined", "") == told(follow.failed(given_up, failure(), "ev_2", end - 1, end - 1))
    move = follow.failed(given_up, failure(), "ev_2", end, end)
    assert ("retrying", "opened", "retry") == told(move)
    assert (None, 0) == (move.before, move.case.retries)


@pytest.mark.parametrize("end", [Stand.RECOVERED, Stand.CLOSED])
def test_a_new_case_goes_on_with_what_is_left(end: Stand) -> None:
    """I6: recovered and failed in turn spends one budget, and the wait is that of the next retry."""
    move = follow.failed(case(end, spent=(NOW - 2, NOW - 1)), failure(), "ev_2", LATER, LATER)
    assert move.queue is not None
    assert (1, LATER + HOUR_MS, 0) == (move.queue.room, move.queue.due_at, move.case.retries)

    spent = follow.failed(case(end, spent=(NOW - 2, NOW - 1, NOW)), failure(), "ev_2", LATER, LATER)
    assert (None, "gave_up", "gave_up", "") == (
        spent.before,
        *told(spent)[:2],
        "" if not spent.queue else "!",
    )


def test_a_resource_that_was_retried_before_is_looked_at_first() -> None:
    """A list may go on to show what has recovered: where there is a check, it comes before a second retry."""
    ended = case(Stand.RECOVERED, spent=(NOW - 1,))

    for looks, step in ((True, Step.LOOK), (False, Step.SEND)):
        move = follow.failed(ended, failure(looks=looks), "ev_2", LATER, LATER)
        assert move.queue is not None
        assert step is move.queue.step
        again = follow.failed(
            case(Stand.WATCHING, policy=Policy(looks=looks)), failure(), "ev_2", LATER, LATER
        )
        assert again.queue is not None
        assert step is again.queue.step
    late = follow.failed(ended, failure(looks=True), "ev_2", NOW + DAY_MS, NOW + DAY_MS)
    assert late.queue is not None
    assert Step.SEND is late.queue.step


COUNTED = [
    ("accepted by its answer", call(State.DONE), 1),
    ("accepted after two doubts", call(State.DONE, tries=3, doubts=2), 3),
    ("seen running after a doubt", call(State.DONE, doubts=1, seen=Seen.RUNNING), 1),
    ("seen recovered after a doubt", call(State.DONE, doubts=1, seen=Seen.RECOVERED), 1),
    ("it ran and failed", call(State.DONE, doubts=1, seen=Seen.FAILED), 1),
    ("a look before any send", call(State.DONE, tries=0, seen=Seen.RECOVERED), 0),
    ("refused after tries", call(State.DEAD, tries=3), 0),
    ("refused after a doubt", call(State.DEAD, tries=3, doubts=1), 1),
    ("a check", check(seen=Seen.RECOVERED, doubts=5), 0),
]


@pytest.mark.parametrize(("call_", "times"), [row[1:] for row in COUNTED], ids=[row[0] for row in COUNTED])
def test_what_the_provider_may_have_done_is_counted(call_: Call, times: int) -> None:
    """Only sends that were taken, or in doubt, spend the budget: not looks, and not refusals."""
    move = follow.settled(case(Stand.RETRYING, spent=(NOW,), retries=4), call_, LATER)

    assert move is not None
    assert (4 + times, (NOW, *[LATER] * times)) == (move.case.retries, move.case.spent)


@pytest.mark.parametrize("end", ENDED)
def test_a_call_that_ends_after_its_case_is_counted(end: Stand) -> None:
    """I6, I8: what was out when the case ended spends the budget of the resource, and moves nothing else."""
    before = case(end)
    for late in (call(State.DONE), call(State.CANCELLED, tries=1, doubts=1)):
        move = follow.settled(before, late, LATER)
        assert move is not None
        assert replace(before, retries=1, spent=(LATER,)) == move.case
    assert None is follow.settled(before, call(State.CANCELLED), LATER)


@pytest.mark.parametrize(
    ("out", "spent", "due_at"),
    [
        (call(State.RUNNING, lease="a", due_at=LATER + 60_000), 1, LATER + HOUR_MS),
        (
            call(State.RUNNING, lease="a", due_at=LATER + 2 * HOUR_MS, doubts=1, tries=1),
            2,
            LATER + 2 * HOUR_MS,
        ),
        (call(State.RUNNING, lease="a", due_at=LATER + 60_000, step=Step.LOOK), 0, LATER + 60_000),
        (call(State.DONE), 0, LATER),
        (None, 0, LATER),
    ],
)
def test_a_new_case_reckons_with_a_call_that_is_still_out(out: Call | None, spent: int, due_at: int) -> None:
    """I3, I6: who ended the case did not end its call: it counts, and the next goes when it can't be out."""
    policy: dict[str, Any] = {"wait_ms": (0, HOUR_MS)}
    move = follow.failed(case(Stand.RECOVERED), failure(**policy), "ev_2", LATER, LATER, out)

    assert move.queue is not None
    assert ((LATER,) * spent, 3 - spent, due_at) == (move.case.spent, move.queue.room, move.queue.due_at)


def test_doubts_of_a_dead_call_end_the_case() -> None:
    """A call whose doubts have spent the budget is dead, and the case with it, for the call's reason."""
    dead = call(State.DEAD, doubts=3, tries=3, why="it has still failed, and its budget is spent")
    move = follow.settled(case(Stand.RETRYING), dead, LATER)

    assert move is not None
    assert (Stand.GAVE_UP, dead.why, (LATER,) * 3) == (move.case.state, move.case.why, move.case.spent)


# -- did it help? --


def test_an_accepted_retry_is_watched_with_a_check_and_a_deadline() -> None:
    """Where there is a check it is asked after its time; the deadline stands in any case."""
    policy = Policy(looks=True, check_ms=7_000, recover_ms=HOUR_MS)
    move = follow.settled(case(Stand.RETRYING, policy=policy), call(State.DONE), LATER)

    assert move is not None
    assert move.queue is not None
    assert (Kind.CHECK, Step.LOOK, LATER + 7_000, move.case.call) == (
        move.queue.kind, move.queue.step, move.queue.due_at, move.queue.id,
    )  # fmt: skip
    assert (LATER, LATER + HOUR_MS) == (move.case.accepted_at, move.case.deadline_at)
    blind = follow.settled(case(Stand.RETRYING, policy=replace(policy, looks=False)), call(State.DONE), LATER)
    assert blind is not None
    assert (None, "call_1", LATER + HOUR_MS) == (blind.queue, blind.case.call, blind.case.deadline_at)


def test_a_later_failure_of_a_watched_case_takes_its_check_away() -> None:
    """One call in flight: the retry takes the place of the check, which is withdrawn."""
    move = follow.failed(case(Stand.WATCHING), failure(), "ev_2", NOW + 1, LATER)

    assert move.queue is not None
    assert ("ev_2", "ev_2", move.queue.id, "it failed again") == (
        move.case.event, move.queue.event, move.case.call, move.drop,
    )  # fmt: skip
    assert None is move.case.deadline_at


# -- lineage --

ALIASES = [
    # key, id, new id, alias, next alias
    ("flatfile:job_id=us_jb_1", "us_jb_1", "us_jb_2", ("flatfile:job_id=us_jb_2",)),
    ("job us_jb_1 of space us_sp_1", "us_jb_1", "us_jb_2", ("job us_jb_2 of space us_sp_1",)),
    ("us_jb_1", "us_jb_1", "us_jb_2", ("us_jb_2",)),
    ("x:a=1,b=11,c=1", "1", "2", ("x:a=2,b=11,c=2",)),
    ("us_jb_11", "us_jb_1", "us_jb_2", ()),
    ("pipeline main", "us_jb_1", "us_jb_2", ()),
    ("j:7", 7, "8", ("j:8",)),
    ("j:a.b", "a.b", r"\1", (r"j:\1",)),
    ("flatfile:job_id=us_jb_1", "us_jb_1", "us_jb_1", ()),
]


@pytest.mark.parametrize(("key", "old", "new", "aliases"), ALIASES)
def test_a_new_id_becomes_an_alias(key: str, old: Any, new: str, aliases: tuple[str, ...]) -> None:
    """The old id is replaced where the key has it as a word; the next call goes to the new one."""
    before = case(Stand.RETRYING, key=key, values={"job_id": old, "n": 1}, policy=Policy(keep="job_id"))
    move = follow.settled(before, call(State.DONE, alias=new), LATER)

    assert move is not None
    assert (aliases, {"job_id": old if str(old) == new else new, "n": 1}) == (
        move.case.aliases,
        move.case.values,
    )
    again = follow.failed(move.case, failure(), "ev_2", LATER + 1, LATER + 1)
    assert again.queue is not None
    assert move.case.values == again.queue.values


def test_each_retry_may_bring_a_new_id() -> None:
    """Three retries under three ids are one case with all its names, in order; going back adds none."""
    known = case(Stand.RETRYING, policy=Policy(keep="job_id"))
    for new in ("us_jb_2", "us_jb_3", "us_jb_1", "us_jb_4"):
        move = follow.settled(known, call(State.DONE, alias=new), LATER)
        assert move is not None
        known = move.case

    assert tuple(f"flatfile:job_id=us_jb_{n}" for n in (2, 3, 4)) == known.aliases
    assert {"job_id": "us_jb_4"} == known.values


@pytest.mark.parametrize(("keep", "alias"), [("", "us_jb_2"), ("other", "us_jb_2"), ("job_id", None)])
def test_no_alias_without_a_value_to_keep(keep: str, alias: str | None) -> None:
    """Where the action does not say which value is renewed, or the answer says no id, nothing is learnt."""
    move = follow.settled(
        case(Stand.RETRYING, policy=Policy(keep=keep)), call(State.DONE, alias=alias), LATER
    )

    assert move is not None
    assert ((), {"job_id": "us_jb_1"}) == (move.case.aliases, move.case.values)
