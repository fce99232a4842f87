"""What becomes of a case when a rule says that a person must look before anything is done?"""

from dataclasses import replace

import pytest
from shore import LATER, call, case, check, failure
from test_store import NOW

from relay import follow, people
from relay.call import NEVER, Call, State
from relay.case import Act, Case, Stand
from relay.errors import Rejected

ASKS = replace(failure(), person="no credit left")


def test_a_case_opens_for_a_person() -> None:
    """Nothing is queued: the case says why, and its call is at hand."""
    move = follow.failed(None, ASKS, "ev_1", NOW, NOW)
    assert (Stand.NEEDS_PERSON, "no credit left", None) == (move.case.state, move.case.why, move.case.call)
    assert (None, None, "opened") == (move.before, move.queue, move.moment.kind)
    assert ASKS.values == move.case.values


def test_a_person_has_it_retried() -> None:
    """Their yes is the first retry."""
    case_ = follow.failed(None, ASKS, "ev_1", NOW, NOW).case
    move = people.acted(case_, None, Act.RETRY, by="ann", why="", now=LATER)
    assert move.queue is not None
    assert (Stand.RETRYING, LATER, ASKS.values) == (move.case.state, move.queue.due_at, move.queue.values)


def test_where_nobody_can_be_called_a_person_can_only_close() -> None:
    """A retry is refused with the reason."""
    nobody = replace(ASKS, provider="flatfile", action="", values={})
    case_ = follow.failed(None, nobody, "ev_1", NOW, NOW).case
    with pytest.raises(Rejected, match="calls nobody") as caught:
        people.acted(case_, None, Act.RETRY, by="ann", why="", now=LATER)
    assert 409 == caught.value.status
    assert Stand.CLOSED is people.acted(case_, None, Act.CLOSE, by="ann", why="", now=LATER).case.state


@pytest.mark.parametrize(
    ("state", "own"),
    [
        (Stand.OPEN, call()),
        (Stand.OPEN, call(State.HELD, due_at=NEVER)),
        (Stand.RETRYING, call(State.RUNNING, lease="a", due_at=LATER + 60_000)),
        (Stand.WATCHING, check(State.QUEUED)),
    ],
)
def test_a_case_that_is_there_goes_to_a_person(state: Stand, own: Call) -> None:
    """What waits is withdrawn, and no deadline moves the case."""
    move = follow.failed(case(state), ASKS, "ev_2", LATER, LATER, own)
    assert (Stand.NEEDS_PERSON, "no credit left", None) == (
        move.case.state,
        move.case.why,
        move.case.deadline_at,
    )
    assert ("no credit left", "ev_2", "needs_person") == (move.drop, move.case.event, move.moment.kind)


def test_who_was_asked_is_asked_once() -> None:
    """A case that waits for a person takes further failures in."""
    first: Case = follow.failed(None, ASKS, "ev_1", NOW, NOW).case
    move = follow.failed(first, ASKS, "ev_2", LATER, LATER)
    assert (Stand.NEEDS_PERSON, "joined", "") == (move.case.state, move.moment.kind, move.drop)


def test_a_resource_that_is_well_needs_nobody() -> None:
    """A recovery event ends the case."""
    case_ = follow.failed(None, ASKS, "ev_1", NOW, NOW).case
    assert Stand.RECOVERED is follow.recovered(case_, "it is well", "ev_2", LATER).case.state


def test_after_its_end_a_failure_opens_anew() -> None:
    """As with any case."""
    closed = case(Stand.CLOSED, ended_at=NOW)
    move = follow.failed(closed, ASKS, "ev_2", LATER, LATER)
    assert (Stand.NEEDS_PERSON, None) == (move.case.state, move.before)
