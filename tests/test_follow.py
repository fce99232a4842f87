"""What becomes of a case: every state, every thing that can happen, one move each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from shore import ENDED, KEY, LATER, call, case, check, failure, told
from test_store import NOW

from relay import follow, people
from relay.call import NEVER, Call, Seen, State, Step
from relay.case import DAY_MS, HOUR_MS, Act, Case, Move, Policy, Stand
from relay.errors import Rejected

# -- state x happening --

OWN: dict[Stand, Call] = {
    Stand.OPEN: call(),
    Stand.RETRYING: call(State.RUNNING, lease="a", due_at=LATER + 60_000),
    Stand.WATCHING: check(State.QUEUED),
    Stand.NEEDS_PERSON: call(State.UNKNOWN, due_at=NEVER),
    Stand.RECOVERED: call(State.DONE),
    Stand.GAVE_UP: call(State.DEAD),
    Stand.CLOSED: call(State.CANCELLED),
}

EVENT_TABLE = [
    # state, it failed, it had failed before, it is well
    (Stand.OPEN, ("open", "joined", ""), ("open", "joined", ""), ("recovered", "recovered", "drop")),
    (Stand.RETRYING, ("retrying", "joined", ""), ("retrying", "joined", ""),
     ("recovered", "recovered", "drop")),
    (Stand.WATCHING, ("watching", "joined", "let go"), ("watching", "stale", ""),
     ("recovered", "recovered", "drop")),
    (Stand.NEEDS_PERSON, ("needs_person", "joined", ""), ("needs_person", "joined", ""),
     ("recovered", "recovered", "drop")),
    (Stand.RECOVERED, ("retrying", "opened", "retry"), ("recovered", "stale", ""), ("recovered", "well", "")),
    (Stand.GAVE_UP, ("gave_up", "joined", ""), ("gave_up", "joined", ""), ("gave_up", "well", "")),
    (Stand.CLOSED, ("retrying", "opened", "retry"), ("closed", "stale", ""), ("closed", "well", "")),
]  # fmt: skip

SETTLED: dict[str, Call] = {
    "accepted": call(State.DONE),
    "dead": call(State.DEAD),
    "running": call(State.DONE, seen=Seen.RUNNING, tries=0),
    "well": call(State.DONE, seen=Seen.RECOVERED, tries=0),
    "it ran and failed": call(State.DONE, seen=Seen.FAILED),
    "sent again": call(State.QUEUED, tries=1, doubts=1),
    "looked at": call(State.UNKNOWN),
    "nobody can tell": call(State.UNKNOWN, due_at=NEVER),
    "withdrawn": call(State.CANCELLED),
    "check: well": check(seen=Seen.RECOVERED),
    "check: failed": check(seen=Seen.FAILED),
    "check: not yet": check(State.QUEUED),
    "check: refused": check(State.DEAD),
}

SETTLED_TABLE = [
    (Stand.RETRYING, "accepted", ("watching", "accepted", "")),
    (Stand.RETRYING, "dead", ("gave_up", "gave_up", "drop")),
    (Stand.RETRYING, "running", ("watching", "accepted", "")),
    (Stand.RETRYING, "well", ("recovered", "recovered", "drop")),
    (Stand.RETRYING, "it ran and failed", ("retrying", "failed_again", "retry")),
    (Stand.RETRYING, "sent again", ("", "", "")),
    (Stand.RETRYING, "looked at", ("", "", "")),
    (Stand.RETRYING, "nobody can tell", ("needs_person", "needs_person", "")),
    (Stand.RETRYING, "withdrawn", ("", "", "")),
    (Stand.NEEDS_PERSON, "nobody can tell", ("", "", "")),
    (Stand.NEEDS_PERSON, "accepted", ("watching", "accepted", "")),
    (Stand.NEEDS_PERSON, "check: well", ("recovered", "recovered", "drop")),
    (Stand.NEEDS_PERSON, "check: failed", ("retrying", "failed_again", "retry")),
    (Stand.WATCHING, "check: well", ("recovered", "recovered", "drop")),
    (Stand.WATCHING, "check: failed", ("open", "failed_again", "retry")),
    (Stand.WATCHING, "check: not yet", ("", "", "")),
    (Stand.WATCHING, "check: refused", ("gave_up", "gave_up", "drop")),
    *((end, how, ("", "", "")) for end in ENDED for how in ("dead", "well", "running", "check: failed")),
    *((end, "withdrawn", ("", "", "")) for end in ENDED),
    *((end, "accepted", (end.value, "late", "")) for end in ENDED),
]  # fmt: skip


@pytest.mark.parametrize(("state", "fails", "failed", "_well"), EVENT_TABLE)
def test_a_failure_joins_the_case_or_opens_one(
    state: Stand, fails: tuple[str, str, str], failed: tuple[str, str, str], _well: tuple[str, str, str]
) -> None:
    """Only what ended, or what was seen to fail after an accepted retry, is called again."""
    before = case(state)

    assert fails == told(follow.failed(before, failure(), "ev_2", LATER, LATER, OWN[state]))
    assert failed == told(follow.failed(before, failure(), "ev_2", NOW, LATER, OWN[state]))


@pytest.mark.parametrize(("state", "_fails", "_failed", "well"), EVENT_TABLE)
def test_a_recovery_ends_what_is_not_ended(
    state: Stand, _fails: tuple[str, str, str], _failed: tuple[str, str, str], well: tuple[str, str, str]
) -> None:
    """I8: what stands at an end stays there, and hears of it all the same."""
    move = follow.recovered(case(state), "an event says so", "ev_2", LATER)

    assert well == told(move)
    assert (move.case.ended_at, move.case.deadline_at) == (NOW if state in ENDED else LATER, None)
    assert ("an event says so", "ev_2") == (move.moment.what, move.moment.ref)


@pytest.mark.parametrize(("state", "how", "becomes"), SETTLED_TABLE)
def test_a_call_that_was_tried_moves_its_case(state: Stand, how: str, becomes: tuple[str, str, str]) -> None:
    """Accepted is watched, seen is believed, what nobody can tell is a person's; the rest changes nothing."""
    assert becomes == told(follow.settled(case(state), SETTLED[how], LATER))


@pytest.mark.parametrize(
    ("state", "own", "policy", "becomes"),
    [
        (Stand.WATCHING, check(State.QUEUED), {}, ("needs_person", "needs_person", "drop")),
        (Stand.WATCHING, call(State.DONE), {}, ("needs_person", "needs_person", "drop")),
        (Stand.OPEN, call(State.HELD), {"approve_then": "ask"}, ("needs_person", "needs_person", "")),
        (Stand.OPEN, call(State.HELD), {"approve_then": "approve"}, ("retrying", "released", "let go")),
        (Stand.OPEN, call(State.HELD), {"approve_then": "reject"}, ("closed", "closed", "drop")),
        (Stand.NEEDS_PERSON, call(State.UNKNOWN, due_at=NEVER), {}, ("needs_person", "snoozed", "")),
        (Stand.NEEDS_PERSON, call(State.HELD), {"approve_then": "approve"}, ("needs_person", "snoozed", "")),
    ],
)
def test_a_deadline_always_goes(
    state: Stand, own: Call, policy: dict[str, Any], becomes: tuple[str, str, str]
) -> None:
    """A deadline moves the case, or is at least over: none fires twice."""
    before = replace(case(state, policy=Policy(approve=bool(policy), **policy)), deadline_at=NOW)
    move = follow.overdue(before, own, LATER)

    assert becomes == told(move)
    assert move.case.deadline_at is None


# -- the first failure --


def test_the_first_failure_opens_a_case_with_its_retry() -> None:
    """The case has the rule's word, and the call all that the case knows."""
    wanted = failure(step=Step.LOOK, batch="file_ids:100", only="daily 00:00-24:00 UTC")
    move = follow.failed(None, wanted, "ev_1", NOW, NOW)

    opened, queued = move.case, move.queue
    assert queued is not None
    assert (None, "retrying", "opened", "ev_1") == (
        move.before, opened.state.value, move.moment.kind, move.moment.ref,
    )  # fmt: skip
    assert (KEY, "flatfile", "retry jobs", "retry", "ev_1", queued.id, ()) == (
        opened.key, opened.provider, opened.rule, opened.action, opened.event, opened.call, opened.aliases,
    )  # fmt: skip
    assert (opened.id, KEY, "ev_1", {"job_id": "us_jb_1"}, Step.LOOK, NOW, 3) == (
        queued.case, queued.key, queued.event, queued.values, queued.step, queued.due_at, queued.room,
    )  # fmt: skip
    assert ("file_ids:100", "daily 00:00-24:00 UTC", State.QUEUED) == (
        queued.batch,
        queued.only,
        queued.state,
    )
    assert "it failed: retry 1 of 3" == move.moment.what


def test_what_cannot_be_sent_gave_up_at_once() -> None:
    """A flaw is an end with its reason, and with a call that shows it; no person can make it go."""
    move = follow.failed(None, failure(flaw="not sent: job_id is missing"), "ev_1", NOW, NOW)

    assert move.queue is not None
    assert (None, Stand.GAVE_UP, "not sent: job_id is missing", NOW) == (
        move.before, move.case.state, move.case.why, move.case.ended_at,
    )  # fmt: skip
    assert (State.DEAD, NOW, move.case.call) == (move.queue.state, move.queue.settled_at, move.queue.id)
    with pytest.raises(
        Rejected, match="409 Not possible: there is nothing to send: not sent: job_id is missing"
    ):
        people.acted(move.case, move.queue, Act.RETRY, by="ada", why="", now=NOW)


def test_what_can_be_sent_now_is_sent() -> None:
    """When the rule was mended, the next failure of a resource that could not be retried is a new case."""
    flawed = follow.failed(None, failure(flaw="not sent: job_id is missing"), "ev_1", NOW, NOW).case

    assert "joined" == follow.failed(flawed, failure(flaw="not sent"), "ev_2", LATER, LATER).moment.kind
    assert "opened" == follow.failed(flawed, failure(), "ev_2", LATER, LATER).moment.kind


@pytest.mark.parametrize(
    ("policy", "state", "due_in", "why"),
    [
        ({}, "retrying", 0, "a retry is on its way"),
        ({"wait_ms": (10_000,)}, "open", 10_000, "it failed: retry 1 of 3 waits for its time"),
        ({"batch": "ids:9", "batch_ms": 3_000}, "retrying", 1_000, "a retry is on its way"),
        ({"only": "Mon-Fri 08:00-18:00 UTC"}, "open", 35_200_000,
         "it failed: retry 1 of 3 waits for its hours, Mon-Fri 08:00-18:00 UTC"),
        ({"only": "Tue 22:00-23:00 UTC"}, "retrying", 0, "a retry is on its way"),
        ({"only": "Tue 22:00-22:14 UTC", "wait_ms": (60_000,)}, "open", 7 * DAY_MS - 800_000,
         "it failed: retry 1 of 3 waits for its hours, Tue 22:00-22:14 UTC"),
        ({"retries": 0}, "gave_up", None, "it failed, and its budget is spent: 0 retries within 24 h"),
    ],
)  # fmt: skip
def test_when_the_first_retry_goes(policy: dict[str, Any], state: str, due_in: int | None, why: str) -> None:
    """Waits, batches and hours are counted from now, one after the other."""
    move = follow.failed(None, failure(**policy), "ev_1", NOW, NOW)

    due = None if move.queue is None else move.queue.due_at - NOW
    assert (state, due_in, why) == (move.case.state.value, due, move.case.why)


def test_all_of_one_moment_go_together() -> None:
    """Failures within one wait of a batch are due at one instant, and none is due before it came."""
    dues: dict[int, list[int]] = {}
    for at in range(NOW, NOW + 4_000, 250):
        move = follow.failed(None, failure(batch="ids:9", batch_ms=2_000), "ev_1", at, at)
        assert move.queue is not None
        assert 0 < move.queue.due_at - at <= 2_000
        dues.setdefault(move.queue.due_at, []).append(at)

    assert [8, 8] == [len(ats) for ats in dues.values()]


# -- nobody is left alone --

HAPPENINGS: dict[str, Callable[[Case, Call], Move | None]] = {
    "failed": lambda case, own: follow.failed(case, failure(), "ev_2", LATER, LATER, own),
    "well": lambda case, own: follow.recovered(case, "well", "ev_2", LATER),
    **{
        f"settled: {how}": lambda case, own, how=how: follow.settled(case, SETTLED[how], LATER)  # type: ignore[misc]
        for how in SETTLED
    },
    "overdue": lambda case, own: follow.overdue(replace(case, deadline_at=NOW), own, LATER),
    **{
        act.value: lambda case, own, act=act: people.acted(  # type: ignore[misc]
            case, own, act, by="ada", why="", now=LATER, until=LATER + 9
        )
        for act in Act
    },
}


@pytest.mark.parametrize("happens", HAPPENINGS)
@pytest.mark.parametrize("approve", [False, True])
@pytest.mark.parametrize("state", [stand for stand in Stand if stand not in ENDED])
def test_whatever_happens_somebody_moves_it(state: Stand, happens: str, *, approve: bool) -> None:
    """I7: what a move leaves open has a call that comes due, a deadline, or a person."""
    own = call(State.HELD) if approve and state is Stand.OPEN else OWN[state]
    before = case(state, policy=Policy(approve=approve, looks=True))
    before = replace(before, deadline_at=NOW + HOUR_MS) if own.state is State.HELD else before
    try:
        move = HAPPENINGS[happens](before, own)
    except Rejected:
        return
    after = before if move is None else move.case
    waits = own if move is None else move.queue or move.change or own
    if move is None:  # a try that changes nothing leaves its call as it stands
        waits = SETTLED[happens.removeprefix("settled: ")]
    if happens == "settled: withdrawn":
        return  # nobody withdraws a call but a move of its case
    comes = waits.settled_at is None and waits.due_at < NEVER
    assert after.ended or after.state is Stand.NEEDS_PERSON or after.deadline_at or comes
