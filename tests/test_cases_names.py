"""Does the store know a case by all its names, share requests, and tell what happened in order?"""

from dataclasses import replace
from typing import Any

import pytest
from conftest import Door
from shore import KEY, Shore, failure
from test_store import LEASE

from relay.call import Claim, Kind, Refused, Seen, State, Step
from relay.case import Act, Stand
from relay.errors import Rejected
from relay.provider import Limit
from relay.store import Claimed, Slot, Store
from relay.store.calls import ASK_AGAIN_MS

HOUR = 3_600_000
LEAST: dict[str, Any] = {"looks": True, "check_ms": 5_000, "recover_ms": HOUR, "keep": "job_id"}


@pytest.fixture
def shore(store: Door) -> Shore:
    return Shore(store)


# -- people --


def test_a_case_closed_over_its_running_call_can_be_taken_up_again(shore: Shore) -> None:
    """The call that is out is the retry that the person wants: no second one is made."""
    shore.fail()
    (held,) = shore.claim()
    shore.act(KEY, Act.CLOSE)
    move = shore.act(KEY, Act.RETRY)
    assert (Stand.RETRYING, None, 1) == (move.case.state, move.case.ended_at, len(shore.calls()))
    shore.settle(held)

    assert (Stand.WATCHING, 1) == (shore.case().state, shore.case().retries)


def test_an_older_case_is_not_taken_up_beside_a_newer_one(shore: Shore) -> None:
    """I3: under any of its names, the resource has one live case."""
    first = shore.fail(**LEAST).case
    shore.accept(alias="us_jb_2")
    shore.now += 1
    shore.well()
    shore.now += 1
    newer = shore.fail("flatfile:job_id=us_jb_2").case
    assert newer.id != first.id

    with pytest.raises(Rejected, match=f"409 Not possible: the resource has a newer case: {newer.id}"):
        shore.act(first.id, Act.RETRY)
    shore.act(newer.id, Act.CLOSE)
    assert Stand.RETRYING is shore.act(first.id, Act.RETRY).case.state
    assert first.id == shore.case("flatfile:job_id=us_jb_2").id


# -- lineage --


def test_a_new_id_leads_to_the_same_case(shore: Shore) -> None:
    """Events under the old and the new id join one case; its next call goes to the new one."""
    first = shore.fail(**LEAST | {"looks": False}, wait_ms=(0,)).case
    shore.accept(alias="us_jb_2")
    shore.now += 1
    move = shore.fail("flatfile:job_id=us_jb_2")

    assert (first.id, "failed_again") == (move.case.id, move.moment.kind)
    assert move.queue is not None
    assert {"job_id": "us_jb_2"} == move.queue.values
    shore.accept(alias="us_jb_3")
    shore.now += 1
    shore.well("flatfile:job_id=us_jb_3")
    assert [first.id] * 3 == [shore.case(f"flatfile:job_id=us_jb_{n}").id for n in (1, 2, 3)]
    assert Stand.RECOVERED is shore.case().state


def test_a_case_opened_under_the_new_id_is_taken_in(shore: Shore) -> None:
    """It failed under the new id before the answer that told of it: the same resource, failed again."""
    first = shore.fail(**LEAST).case
    (held,) = shore.claim()
    shore.now += 1
    early = shore.fail("flatfile:job_id=us_jb_2", **LEAST, wait_ms=(60_000,)).case
    shore.now += 1
    moves = shore.settle(held, alias="us_jb_2").moves

    assert ["accepted", "closed", "merged", "failed_again"] == [move.moment.kind for move in moves]
    assert f"it goes on as a part of {first.id}" == shore.store(Store.case, early.id)[0].case.why
    case = shore.case("flatfile:job_id=us_jb_2")
    assert (first.id, ("flatfile:job_id=us_jb_2",), 1) == (case.id, case.aliases, case.retries)
    (waits,) = shore.waiting()
    assert (Kind.RETRY, case.call, {"job_id": "us_jb_2"}) == (waits.kind, waits.id, waits.values)


@pytest.mark.parametrize("how", ["out", "in doubt", "taken"])
def test_a_case_under_the_new_id_that_is_further_on_takes_over(shore: Shore, how: str) -> None:
    """I3, I6: its retry can't be taken back, so it goes on, with all names and all that both have spent."""
    first = shore.fail(**LEAST).case
    (held,) = shore.claim()
    shore.now += 1
    second = shore.fail("flatfile:job_id=us_jb_2", **LEAST).case
    (other,) = shore.claim()
    if how == "in doubt":
        shore.settle(other, state=State.UNKNOWN, due_at=shore.now + 9_000, step=Step.LOOK, doubts=1)
    elif how == "taken":
        shore.settle(other)
    shore.now += 1
    shore.settle(held, alias="us_jb_2")

    assert (Stand.CLOSED, second.id) == (shore.store(Store.case, first.id)[0].case.state, shore.case().id)
    assert 1 == len([call for call in shore.waiting() if call.kind is Kind.RETRY or how == "taken"])
    if how == "out":
        shore.settle(other)
    case = shore.case()
    assert (1 + (how != "in doubt"), (KEY,)) == (case.retries, case.aliases)
    assert case.retries == len(case.spent)
    shore.now += 1
    assert second.id == shore.fail().case.id


def test_a_case_that_takes_over_changes_no_call_that_has_ended(shore: Shore) -> None:
    """I8: what is left of the budget is for calls that are still to be made."""
    blind = {**LEAST, "looks": False}
    shore.fail(**blind)
    (held,) = shore.claim()
    shore.now += 1
    second = shore.fail("flatfile:job_id=us_jb_2", **blind).case
    (other,) = shore.claim()
    shore.settle(other)
    (taken,) = shore.store(Store.calls, id=other.call.id)
    shore.now += 1
    shore.settle(held, alias="us_jb_2")

    assert second.id == shore.case().id
    assert [taken] == shore.store(Store.calls, id=other.call.id)


def test_a_look_under_the_new_id_is_no_retry(shore: Shore) -> None:
    """I6: a case that is only looked at is taken in, and its look leads to no call beside the budget."""
    first = shore.fail(**LEAST, retries=1).case
    (held,) = shore.claim()
    shore.now += 1
    early = failure("flatfile:job_id=us_jb_2", step=Step.LOOK, **LEAST, retries=1)
    second = shore.event(early).moves[0].case
    (look,) = shore.claim()
    shore.now += 1
    shore.settle(held, alias="us_jb_2")
    late = shore.settle(look, state=State.QUEUED, step=Step.SEND, due_at=shore.now)

    assert (Stand.GAVE_UP, 1) == (shore.case(first.id).state, shore.case(first.id).retries)
    assert (Stand.CLOSED, True) == (shore.case(second.id).state, late.withdrawn)
    assert () == shore.claim()


def test_a_case_that_may_be_another_one_waits_for_the_answer(shore: Shore) -> None:
    """I6: what failed while retries are out that may name a new id has no more budget than they leave."""

    def ask() -> Claimed:
        slot = Slot(limit=Limit(), free=8, lease_ms=LEASE, keeps=frozenset({"retry"}))
        return shore.store(Store.claim, {"flatfile": slot}, shore.now, "a")

    shore.fail(**LEAST, wait_ms=(0,))
    shore.accept()
    shore.now += 5_000
    (check,) = shore.claim()
    shore.fail("older", **LEAST, retries=1, wait_ms=(5,))
    shore.now += 1
    shore.settle(check, seen=Seen.FAILED)
    (look,) = shore.claim()
    shore.settle(look, state=State.QUEUED, step=Step.SEND, due_at=shore.now)
    (held,) = shore.claim()
    shore.fail("may be its child", **LEAST, retries=2)
    shore.fail("may be, too, and has more", **LEAST, retries=3)
    shore.event(failure("may be, but is looked at", step=Step.LOOK, **LEAST, retries=2))
    shore.now += 5

    claimed = ask()
    assert {"older", "may be, too, and has more", "may be, but is looked at"} == keys(claimed.claims)
    assert shore.now + ASK_AGAIN_MS == claimed.ask_at
    assert () == ask().claims
    shore.settle(held)
    assert {"may be its child"} == keys(ask().claims)


def test_a_name_that_an_ended_case_bore_goes_on_with_the_live_one(shore: Shore) -> None:
    """The new id was a resource of its own once, and has ended: from now on it is this one."""
    other = shore.fail("flatfile:job_id=us_jb_2").case
    shore.act(other.id, Act.CLOSE)
    shore.now += 1
    first = shore.fail(**LEAST).case
    shore.accept(alias="us_jb_2")

    assert first.id == shore.case("flatfile:job_id=us_jb_2").id
    assert Stand.CLOSED is shore.store(Store.case, other.id)[0].case.state


# -- batches --


def keys(claims: tuple[Claim, ...]) -> set[str]:
    return {held.call.key for held in claims}


def test_calls_of_a_batch_go_as_one_request(shore: Shore) -> None:
    """Room for one request takes as many calls as one request holds, each with its own attempt."""
    for number in range(7):
        shore.fail(f"job {number}", batch="ids:5")
    claims = shore.claim(free=1, batch=5)

    assert {f"job {number}" for number in range(5)} == keys(claims)
    assert {1} == {held.attempt.number for held in claims}
    assert {"job 5", "job 6"} == keys(shore.claim(free=1, batch=5))


def test_only_likes_share_a_request(shore: Shore) -> None:
    """Another action, another batch, a look, a call that goes alone: a request of its own."""
    shore.fail("a", batch="ids:5")
    shore.event(replace(failure("b", batch="ids:5"), action="other"))
    shore.fail("c", batch="ids:5")
    shore.fail("d", batch="names:5")
    shore.event(failure("e", batch="ids:5", step=Step.LOOK))
    shore.fail("f")
    shore.fail("g", batch="ids:5")

    assert [{"a", "c", "g"}, {"b"}, {"d"}, {"e"}, {"f"}] == [
        keys(shore.claim(free=1, batch=9)) for _ in range(5)
    ]


def test_the_gate_admits_requests_not_calls(shore: Shore) -> None:
    """One admission a request, however many share it; what is turned away was never claimed."""
    for number in range(10):
        shore.fail(f"job {number}", batch="ids:4")
    slot = Slot(limit=Limit(every_ms=1_000, burst=2), free=8, lease_ms=LEASE, batch=4)
    claimed = shore.store(Store.claim, {"flatfile": slot}, shore.now, "a")

    assert (8, shore.now + 1_000) == (len(claimed.claims), claimed.ask_at)
    assert {0} == {call.attempts for call in shore.calls("queued")}
    again = shore.store(Store.claim, {"flatfile": slot}, shore.now + 1_000, "a")
    assert 2 == len(again.claims)


def test_a_paused_provider_is_asked_with_one_request(shore: Shore) -> None:
    """An ill provider's probe is one request, be it a batch."""
    for number in range(6):
        shore.fail(f"job {number}", batch="ids:3")
    first = shore.claim(free=1, batch=3)
    for held in first:
        ended = replace(held.call, state=State.QUEUED, lease=None, due_at=shore.now)
        attempt = replace(held.attempt, ended_at=shore.now, outcome="retry")
        shore.store(Store.settle, held, ended, attempt, Refused("401"), shore.now)
    assert () == shore.claim(batch=3)
    shore.store(Store.resume)

    assert 3 == len(shore.claim(batch=3))
    assert () == shore.claim(batch=3)


# -- reading --


def test_a_timeline_tells_all_in_order(shore: Shore) -> None:
    """Events, tries, checks and people's acts, as they happened; in one millisecond causes come first."""
    shore.fail(**LEAST, wait_ms=(0,), approve=True)
    shore.fail()
    shore.act(KEY, Act.APPROVE)
    (held,) = shore.claim()
    shore.settle(held)
    shore.now += 5_000
    (look,) = shore.claim()
    shore.settle(look, seen=Seen.FAILED)
    shore.act(KEY, Act.APPROVE)
    (held,) = shore.claim()
    moments = shore.store(Store.timeline, shore.case().id)

    assert [
        "opened", "joined", "released", "send", "accepted", "check", "failed_again", "released", "look",
    ] == [moment.kind for moment in moments]  # fmt: skip
    assert [None, None, "ada"] == [moment.by for moment in moments[:3]]
    assert ("ev_000001", "ev_000002", held.call.id, "under way") == (
        moments[0].ref, moments[1].ref, moments[-1].ref, moments[-1].what,
    )  # fmt: skip
    assert "done: 200: so" == moments[3].what
    assert sorted(moment.at for moment in moments) == [moment.at for moment in moments]


def test_cases_are_read_in_pages_and_by_what_they_are(shore: Shore) -> None:
    """Going on from the last id of a page each case is met once; filters narrow."""
    for number in range(7):
        shore.now += 1
        shore.fail(f"job {number}", retries=0 if number % 2 else 3)

    def found(**asked: Any) -> list[str]:
        return [shown.case.key for shown in shore.store(Store.cases, **asked)]

    page = shore.store(Store.cases, limit=3)
    assert ["job 6", "job 5", "job 4"] == [shown.case.key for shown in page]
    assert ["job 3", "job 2"] == found(limit=2, before=page[-1].case.id)
    assert ["job 5", "job 3", "job 1"] == found(state="gave_up")
    assert ["job 4"] == found(key="job 4")
    assert ([], []) == (found(provider="xpkg"), found(rule="other"))
    assert 7 == len(found(provider="flatfile", rule="retry jobs"))


def test_a_failed_event_keeps_nothing(shore: Shore) -> None:
    """What one of an event's failures can't do undoes the event, its cases and its calls."""
    broken = replace(failure("b"), values={"n": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        shore.event(failure("a"), broken)

    assert ([], [], []) == (shore.store(Store.cases), shore.calls(), shore.store(Store.events))
