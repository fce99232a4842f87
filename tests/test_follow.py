"""What becomes of a case: every state, every thing that can happen, one move each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from shore import ENDED, KEY, LATER, call, case, check, failure, play, told
from test_store import NOW

from relay import follow
from relay.call import NEVER, Call, Seen, State, Step
from relay.case import DAY_MS, HOUR_MS, Act, Case, Move, Policy, Stand, Storming
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
    (Stand.WATCHING, ("open", "failed_again", "retry"), ("watching", "stale", ""),
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


Becomes: TypeAlias = tuple[str, str, str] | int
AT_AN_END: dict[Act, Becomes] = {
    Act.RETRY: ("retrying", "released", "retry"), Act.CLOSE: 409, Act.SNOOZE: 409, Act.APPROVE: 409,
    Act.REJECT: 409,
}  # fmt: skip
ACTS: list[tuple[Stand, Call, dict[Act, Becomes]]] = [
    (Stand.OPEN, call(), {
        Act.RETRY: ("retrying", "released", "let go"), Act.CLOSE: ("closed", "closed", "drop"),
        Act.SNOOZE: ("open", "snoozed", "let go"), Act.APPROVE: 409, Act.REJECT: 409}),
    (Stand.OPEN, call(State.HELD), {
        Act.RETRY: ("retrying", "released", "let go"), Act.CLOSE: ("closed", "closed", "drop"),
        Act.SNOOZE: ("open", "snoozed", ""), Act.APPROVE: ("retrying", "released", "let go"),
        Act.REJECT: ("closed", "closed", "drop")}),
    (Stand.RETRYING, call(State.RUNNING, lease="a"), {
        Act.RETRY: ("retrying", "joined", ""), Act.CLOSE: ("closed", "closed", "drop"), Act.SNOOZE: 409,
        Act.APPROVE: 409, Act.REJECT: 409}),
    (Stand.RETRYING, call(tries=1), {
        Act.RETRY: ("retrying", "joined", "let go"), Act.SNOOZE: ("open", "snoozed", "let go")}),
    (Stand.RETRYING, call(State.UNKNOWN), {Act.RETRY: ("retrying", "joined", ""), Act.SNOOZE: 409}),
    (Stand.WATCHING, check(State.QUEUED), {
        Act.RETRY: ("watching", "joined", ""), Act.CLOSE: ("closed", "closed", "drop"),
        Act.SNOOZE: ("watching", "snoozed", ""), Act.APPROVE: 409, Act.REJECT: 409}),
    (Stand.NEEDS_PERSON, call(State.UNKNOWN, due_at=NEVER), {
        Act.RETRY: ("retrying", "released", "let go"), Act.CLOSE: ("closed", "closed", "drop"),
        Act.SNOOZE: ("needs_person", "snoozed", ""), Act.APPROVE: 409, Act.REJECT: 409}),
    (Stand.NEEDS_PERSON, check(State.CANCELLED), {
        Act.RETRY: ("retrying", "released", "retry"), Act.SNOOZE: ("needs_person", "snoozed", "")}),
    (Stand.NEEDS_PERSON, call(State.HELD), {
        Act.APPROVE: ("retrying", "released", "let go"), Act.REJECT: ("closed", "closed", "drop")}),
    *((end, OWN[end], AT_AN_END) for end in ENDED),
    # Its call was out when the case ended, and still is: it is taken up again, not doubled.
    (Stand.CLOSED, call(State.RUNNING, lease="a"), {Act.RETRY: ("retrying", "released", "let go")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "own", "act", "becomes"),
    [(state, own, act, becomes) for state, own, acts in ACTS for act, becomes in acts.items()],
)
def test_a_persons_act_in_each_state(
    state: Stand, own: Call, act: Act, becomes: tuple[str, str, str] | int
) -> None:
    """What can be done now is done, in the person's name; what can't is refused with a reason."""

    def acted() -> Move:
        return follow.acted(case(state), own, act, by="ada", why="", now=LATER, until=LATER + HOUR_MS)

    if isinstance(becomes, int):
        with pytest.raises(Rejected) as caught:
            acted()
        assert (becomes, True) == (caught.value.status, bool(caught.value.why))
        return
    move = acted()
    assert becomes == told(move)
    assert "ada" == move.moment.by
    assert move.case.ended is (move.case.ended_at is not None)
    assert not (move.case.ended and move.case.deadline_at)


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
        follow.acted(move.case, move.queue, Act.RETRY, by="ada", why="", now=NOW)


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
         "it failed: retry 1 of 3 waits for its time"),
        ({"only": "Tue 22:00-23:00 UTC"}, "retrying", 0, "a retry is on its way"),
        ({"only": "Tue 22:00-22:14 UTC", "wait_ms": (60_000,)}, "open", 7 * DAY_MS - 800_000,
         "it failed: retry 1 of 3 waits for its time"),
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


# -- held, released, snoozed --


def test_a_retry_that_needs_a_yes_is_held() -> None:
    """It is due never, the case has a deadline, and each further retry asks again."""
    policy: dict[str, Any] = {"approve": True, "approve_ms": HOUR_MS}
    move = follow.failed(None, failure(**policy), "ev_1", NOW, NOW)

    assert move.queue is not None
    assert (State.HELD, NEVER, NOW + HOUR_MS, Stand.OPEN, "it failed: retry 1 of 3 waits for a yes") == (
        move.queue.state, move.queue.due_at, move.case.deadline_at, move.case.state, move.case.why,
    )  # fmt: skip
    again = follow.failed(case(Stand.WATCHING, policy=Policy(**policy)), failure(), "ev_2", LATER, LATER)
    assert again.queue is not None
    assert (State.HELD, LATER + HOUR_MS) == (again.queue.state, again.case.deadline_at)


def test_a_person_goes_before_hours_batches_and_storms() -> None:
    """Who says "now" means now, alone, and once more than the budget has; the look before it stays."""
    shut = Policy(only="Mon-Fri 08:00-18:00 UTC", batch="ids:9", batch_ms=2_000, approve=True)
    waits = call(State.HELD, only=shut.only, batch=shut.batch, step=Step.LOOK, room=0)
    parked = case(policy=shut, storming=Storming.PARKED, deadline_at=NOW + 5)
    move = follow.acted(parked, waits, Act.APPROVE, by="ada", why="go", now=LATER)

    assert (
        replace(waits, state=State.QUEUED, due_at=LATER, only="", batch="", room=1, why="go") == move.change
    )
    assert (Storming.CALM, None) == (move.case.storming, move.case.deadline_at)
    # Nobody is no person: the hours stand.
    silent = follow.overdue(replace(parked, policy=replace(shut, approve_then="approve")), waits, LATER)
    assert silent.change is not None
    assert (shut.only, shut.batch, 0) == (silent.change.only, silent.change.batch, silent.change.room)
    assert (35_200_000 + NOW, "open") == (silent.change.due_at, silent.case.state.value)


def test_a_person_sends_what_nobody_could_tell() -> None:
    """A call in doubt is sent again, once, at the person's word: there is room for it, and it is no look."""
    doubtful = call(State.UNKNOWN, due_at=NEVER, doubts=3, room=3)
    move = follow.acted(case(Stand.NEEDS_PERSON), doubtful, Act.RETRY, by="ada", why="", now=LATER)

    assert move.change is not None
    assert (State.QUEUED, Step.SEND, LATER, 4, "ada wants a retry") == (
        move.change.state, move.change.step, move.change.due_at, move.change.room, move.change.why,
    )  # fmt: skip


def test_an_ended_case_is_taken_up_again_by_a_person() -> None:
    """I8: it lives again with all that it has spent, and with one send."""
    spent = (NOW - 3, NOW - 2, NOW - 1)
    move = follow.acted(
        case(Stand.GAVE_UP, spent=spent), OWN[Stand.GAVE_UP], Act.RETRY, by="ada", why="", now=LATER
    )

    assert move.queue is not None
    assert (1, LATER, spent, None, move.queue.id) == (
        move.queue.room, move.queue.due_at, move.case.spent, move.case.ended_at, move.case.call,
    )  # fmt: skip
    assert "gave_up" == play(move.case, LATER + 5).case.state.value


@pytest.mark.parametrize("until", [None, LATER, LATER - 1])
def test_a_snooze_wants_a_time_to_come(until: int | None) -> None:
    """A snooze without an end, or with one that has passed, is refused as a wrong request."""
    with pytest.raises(Rejected, match="400 Snooze until when"):
        follow.acted(case(), call(), Act.SNOOZE, by="ada", why="", now=LATER, until=until)


@pytest.mark.parametrize(
    ("own", "until", "due_at"),
    [
        (call(due_at=NOW), LATER + 9, LATER + 9),
        (call(due_at=LATER + 99), LATER + 9, LATER + 99),
        (call(due_at=NEVER + NOW), LATER + 9, NEVER + LATER + 9),
    ],
    ids=["due", "due later", "held up by a storm"],
)
def test_a_snoozed_retry_comes_no_sooner(own: Call, until: int, due_at: int) -> None:
    """It waits for the snooze and for all that it waited for before."""
    move = follow.acted(case(), own, Act.SNOOZE, by="ada", why="", now=LATER, until=until)

    assert move.change is not None
    assert (due_at, None) == (move.change.due_at, move.case.deadline_at)


@pytest.mark.parametrize("state", [Stand.WATCHING, Stand.NEEDS_PERSON])
def test_a_snooze_moves_a_deadline_only_on(state: Stand) -> None:
    """Who watches or asks stays silent until then; a deadline that is later stands."""
    for until, deadline in ((LATER + 1, NOW + HOUR_MS), (NOW + 2 * HOUR_MS, NOW + 2 * HOUR_MS)):
        before = replace(case(state), deadline_at=NOW + HOUR_MS)
        move = follow.acted(before, OWN[state], Act.SNOOZE, by="ada", why="", now=LATER, until=until)
        assert (deadline, None) == (move.case.deadline_at, move.change)


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
        act.value: lambda case, own, act=act: follow.acted(  # type: ignore[misc]
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
