"""What becomes of a case when a person acts, or was asked to?"""

from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from shore import ENDED, LATER, call, case, check, failure, play, told
from test_follow import OWN
from test_store import NOW

from relay import follow, people
from relay.call import NEVER, Call, State, Step
from relay.case import HOUR_MS, Act, Move, Policy, Stand, Storming
from relay.errors import Rejected

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
        Act.SNOOZE: 409, Act.APPROVE: 409, Act.REJECT: 409}),
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
        return people.acted(case(state), own, act, by="ada", why="", now=LATER, until=LATER + HOUR_MS)

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
    move = people.acted(parked, waits, Act.APPROVE, by="ada", why="go", now=LATER)

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
    move = people.acted(case(Stand.NEEDS_PERSON), doubtful, Act.RETRY, by="ada", why="", now=LATER)

    assert move.change is not None
    assert (State.QUEUED, Step.SEND, LATER, 4, "ada wants a retry") == (
        move.change.state, move.change.step, move.change.due_at, move.change.room, move.change.why,
    )  # fmt: skip


def test_an_ended_case_is_taken_up_again_by_a_person() -> None:
    """I8: it lives again with all that it has spent, and with one send."""
    spent = (NOW - 3, NOW - 2, NOW - 1)
    move = people.acted(
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
        people.acted(case(), call(), Act.SNOOZE, by="ada", why="", now=LATER, until=until)


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
    move = people.acted(case(), own, Act.SNOOZE, by="ada", why="", now=LATER, until=until)

    assert move.change is not None
    assert (due_at, None) == (move.change.due_at, move.case.deadline_at)


def test_a_snooze_moves_a_deadline_only_on() -> None:
    """Who asks stays silent until then; a deadline that is later stands."""
    for until, deadline in ((LATER + 1, NOW + HOUR_MS), (NOW + 2 * HOUR_MS, NOW + 2 * HOUR_MS)):
        before = replace(case(Stand.NEEDS_PERSON), deadline_at=NOW + HOUR_MS)
        move = people.acted(
            before, OWN[Stand.NEEDS_PERSON], Act.SNOOZE, by="ada", why="", now=LATER, until=until
        )
        assert (deadline, None) == (move.case.deadline_at, move.change)
