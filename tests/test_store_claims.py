"""Who gets which call, and when, and what of a worker that died?  Held on every engine."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Door
from test_store import LEASE, NOW, WEEK, claim, delivery, done, ended, only, owed, record, slots

from relay.call import NEVER, Answered, Attempt, Failed, State, Step, Throttled
from relay.engine import SQLite
from relay.gate import REST_MS, TRIP
from relay.provider import Limit
from relay.store import Claimed, Slot, Store
from relay.trial import SETTLES_MS


def numbers(claimed: Claimed) -> list[int]:
    return [int(held.call.id[3:]) for held in claimed.claims]


def ask(store: Door, now: int = NOW, *, free: int = 8, limit: Limit | None = None) -> Claimed:
    return store(Store.claim, slots(free=free, limit=limit or Limit()), now, "a")


def test_a_claim_leases_the_call_and_writes_the_intent(store: Door) -> None:
    """I4: call and attempt say together that a try has begun, by whom and until when."""
    call = owed()
    record(store, delivery(), call)
    (held,) = claim(store, now=NOW + 3)

    leased = replace(call, state=State.RUNNING, lease="a", due_at=NOW + 3 + LEASE, attempts=1)
    intent = Attempt(call=call.id, number=1, step=Step.SEND, began_at=NOW + 3)
    assert (leased, intent, "a") == (held.call, held.attempt, held.lease)
    assert leased == only(store)
    assert [intent] == store(Store.attempts, call.id)


def test_a_claim_survives_a_crash_right_after_it(tmp_path: Path) -> None:
    """What the disk holds when `claim` returns has the lease and the intent; before, it has neither."""

    def crashed(name: str) -> Path:
        (tmp_path / name).mkdir()
        for file in tmp_path.glob("relay.db*"):
            shutil.copy(file, tmp_path / name)
        return tmp_path / name / "relay.db"

    with closing(SQLite(tmp_path / "relay.db")) as engine:
        store = Door(engine)
        record(store, delivery(), owed())
        with engine.group():
            Store(store.link).claim(slots(), NOW, "a")
            before = crashed("before")
        after = crashed("after")

    for place, state, attempts in ((before, State.QUEUED, 0), (after, State.RUNNING, 1)):
        with closing(SQLite(place)) as engine:
            assert state is only(Door(engine)).state
            assert attempts == len(Door(engine)(Store.attempts, "ca_000001"))


def test_the_call_that_waits_longest_goes_first(store: Door) -> None:
    """Calls are taken by due time and then by id, never before their time, no more than there is room for."""
    dues = {1: NOW, 2: NOW - 5, 3: NOW + 1, 4: NOW - 9, 5: NOW - 5}
    record(store, delivery(), *(owed(number, due_at=due) for number, due in dues.items()))

    assert [[4], [2], [5], [1], []] == [numbers(ask(store, free=1)) for _ in dues]
    assert [3] == numbers(ask(store, NOW + 1))


def test_only_calls_that_wait_for_a_worker_are_claimed(store: Door) -> None:
    """Queued calls, and unknown ones whose look is due; held and ended ones wait for somebody else."""
    record(
        store, delivery(), owed(1), owed(2, state=State.UNKNOWN, step=Step.LOOK),
        owed(3, state=State.UNKNOWN, due_at=NEVER), owed(4, state=State.HELD),
        owed(5, state=State.DEAD, settled_at=NOW), owed(6, provider="xpkg"),
    )  # fmt: skip

    assert [1, 2] == numbers(ask(store))
    assert [] == numbers(ask(store, NOW + WEEK))


def test_a_call_is_never_held_twice(store: Door) -> None:
    """While a lease stands nobody else gets the call; attempts are numbered on when it comes back."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    assert () == claim(store, lease="b", now=NOW + LEASE - 1)
    store(Store.settle, held, *ended(held, "retry", state=State.QUEUED, due_at=NOW), None, NOW)
    (again,) = claim(store, lease="b")

    assert ("b", 2) == (again.lease, again.attempt.number)
    assert [1, 2] == [attempt.number for attempt in store(Store.attempts, held.call.id)]


@pytest.mark.parametrize(
    ("free", "dues", "got", "ask_at"),
    [
        (8, [], [], None),
        (8, [NOW + 7, NOW + 3], [], NOW + 3),
        (8, [NOW, NOW + 3], [1], NOW + 3),
        (8, [NOW], [1], None),
        (0, [NOW], [], None),
        (-1, [NOW], [], None),
        (8, [NEVER], [], None),
    ],
    ids=["nothing", "later", "now and later", "all taken", "no room", "less than no room", "a person's"],
)
def test_ask_at_without_a_gate(
    store: Door, free: int, dues: list[int], got: list[int], ask_at: int | None
) -> None:
    """The worker sleeps until the next due call; without room, until a call ends and wakes it."""
    record(store, delivery(), *(owed(number, due_at=due) for number, due in enumerate(dues, 1)))
    claimed = ask(store, free=free)

    assert (got, ask_at) == (numbers(claimed), claimed.ask_at)


def test_ask_at_is_the_first_of_all_providers(store: Door) -> None:
    """One sleep serves all providers that have room."""
    record(
        store, delivery(), owed(1, due_at=NOW + 9), owed(2, provider="xpkg", due_at=NOW + 4),
        owed(3, provider="writer", due_at=NOW + 2),
    )  # fmt: skip

    assert NOW + 4 == store(Store.claim, slots(xpkg=1, writer=0), NOW, "a").ask_at


def test_a_rate_limit_admits_a_burst_and_then_one_each_interval(store: Door) -> None:
    """What the limit turns away is not claimed, costs no try, and is asked for exactly when it may go."""
    record(store, delivery(), *map(owed, range(1, 8)))
    limit = Limit(every_ms=100, burst=3)

    first = ask(store, limit=limit)
    assert ([1, 2, 3], NOW + 100) == (numbers(first), first.ask_at)
    early = ask(store, NOW + 99, limit=limit)
    assert ([], NOW + 100) == (numbers(early), early.ask_at)
    assert [4] == numbers(ask(store, NOW + 100, limit=limit))
    assert [5, 6] == numbers(ask(store, NOW + 350, limit=limit))
    assert {0} == {call.attempts for call in store(Store.calls, state="queued")}


def test_room_that_is_not_used_costs_no_rate(store: Door) -> None:
    """The limit pays only for calls that were claimed."""
    record(store, delivery(), owed(1), owed(2, due_at=NOW + 1), owed(3, due_at=NOW + 1))
    limit = Limit(every_ms=100, burst=2)

    assert [1] == numbers(ask(store, limit=limit))
    second = ask(store, NOW + 1, limit=limit)
    assert ([2], NOW + 100) == (numbers(second), second.ask_at)


def test_a_throttled_provider_is_asked_when_it_said(store: Door) -> None:
    """Retry-After shuts the gate for all calls of the provider, until that instant."""
    record(store, delivery(), owed(1), owed(2))
    (held,) = claim(store, free=1)
    store(Store.settle, held, *ended(held, "retry", state=State.QUEUED), Throttled(NOW + 500), NOW)
    claimed = ask(store, NOW + 499)

    assert ([], NOW + 500) == (numbers(claimed), claimed.ask_at)
    assert [2] == numbers(ask(store, NOW + 500))


def test_an_ill_provider_gets_one_probe(store: Door) -> None:
    """After the rest one call goes and the gate shuts behind it for a lease; its answer opens it."""
    record(store, delivery(), *map(owed, range(1, TRIP + 4)))
    for held in claim(store, free=TRIP):
        store(Store.settle, held, *ended(held, "dead", state=State.DEAD, settled_at=NOW), Failed(), NOW)
    shut = ask(store)
    assert ([], NOW + REST_MS) == (numbers(shut), shut.ask_at)

    probe = ask(store, NOW + REST_MS)
    assert ([TRIP + 1], NOW + REST_MS + LEASE) == (numbers(probe), probe.ask_at)
    assert [] == numbers(ask(store, NOW + REST_MS + LEASE - 1))
    assert True is done(store, probe.claims[0], Answered(), NOW + REST_MS + 1)
    assert [TRIP + 2, TRIP + 3] == numbers(ask(store, NOW + REST_MS + 1))


def test_a_gate_holds_up_no_other_provider(store: Door) -> None:
    """I9: the calls of one provider go while another's wait."""
    record(store, delivery(), owed(1), owed(2), owed(3, provider="xpkg"), owed(4, provider="xpkg"))
    limits = {"flatfile": Limit(every_ms=1_000), "xpkg": Limit()}
    room = {name: Slot(limit=limit, free=8, lease_ms=LEASE) for name, limit in limits.items()}
    claimed = store(Store.claim, room, NOW, "a")

    assert ([1, 3, 4], NOW + 1_000) == (numbers(claimed), claimed.ask_at)


# -- the sweep --


@pytest.mark.parametrize(
    ("held", "after"),
    [
        ({}, {"state": State.UNKNOWN, "tries": 1, "doubts": 1, "due_at": NOW + LEASE + SETTLES_MS}),
        ({"step": Step.LOOK}, {"state": State.QUEUED, "tries": 0, "doubts": 0, "due_at": NOW + LEASE}),
        (
            {"step": Step.LOOK, "state": State.UNKNOWN},
            {"state": State.QUEUED, "tries": 0, "doubts": 0, "due_at": NOW + LEASE},
        ),
    ],
    ids=["a send", "a look before any send", "a look"],
)
def test_the_sweep_takes_back_what_a_dead_worker_held(
    store: Door, held: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """What was being sent may have arrived: unknown, looked at when that shows. A mere look did no harm."""
    record(store, delivery(), owed(**held))
    (lost,) = claim(store)

    assert [] == store(Store.sweep, NOW + LEASE - 1)
    assert lost.call == only(store)
    assert [lost.call.id] == store(Store.sweep, NOW + LEASE)
    swept = only(store)
    assert {**after, "step": Step.LOOK, "lease": None, "attempts": 1} == {
        name: getattr(swept, name) for name in (*after, "step", "lease", "attempts")
    }
    (attempt,) = store(Store.attempts, lost.call.id)
    assert ("unknown", NOW + LEASE, swept.why) == (attempt.outcome, attempt.ended_at, attempt.why)
    assert (lost.attempt.began_at, lost.attempt.step) == (attempt.began_at, attempt.step)


def test_a_look_that_died_after_a_send_stays_unknown(store: Door) -> None:
    """I5: a call that may have arrived is never queued by a sweep, however often looks die."""
    record(store, delivery(), owed())
    claim(store)
    store(Store.sweep, NOW, everything=True)
    for _ in range(2):
        (look,) = claim(store, now=NOW + SETTLES_MS)
        assert Step.LOOK is look.call.step
        store(Store.sweep, NOW, everything=True)
        assert (State.UNKNOWN, 1, 1) == (only(store).state, only(store).tries, only(store).doubts)
    assert ["unknown"] * 3 == [attempt.outcome for attempt in store(Store.attempts, look.call.id)]


def test_the_sweep_leaves_alone_what_is_not_lost(store: Door) -> None:
    """Only running calls are swept; *everything* means the leases that still stand, too."""
    record(store, delivery(), owed(1), owed(2), owed(3, state=State.HELD), owed(4, state=State.UNKNOWN))
    (held,) = claim(store, free=1)
    before = {call.id: call for call in store(Store.calls)}

    assert [] == store(Store.sweep, NOW)
    assert before == {call.id: call for call in store(Store.calls)}
    assert [held.call.id] == store(Store.sweep, NOW, everything=True)
    after = {call.id: call for call in store(Store.calls)}
    assert before | {held.call.id: after[held.call.id]} == after
    assert [] == store(Store.sweep, NOW, everything=True)


# -- what the tables refuse --

REFUSED = {
    "a call that no event caused": {"event": "ev_000009"},
    "an unknown state": {"state": "lost"},
    "an unknown step": {"step": "wait"},
    "a call of no known kind": {"kind": "guess"},
    "a call of a case that is not there": {"case": "case_9"},
    "no key": {"key": None},
    "running, by nobody": {"state": State.RUNNING},
    "ended, at no time": {"state": State.DONE},
    "not ended, at a time": {"settled_at": NOW},
    "no reason": {"why": None},
    "no due time": {"due_at": None},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_a_call_that_must_not_be_is_refused(store: Door, changes: dict[str, Any]) -> None:
    """The table itself holds what every call must be."""
    with pytest.raises(Exception, match=r"(?i)constraint"):
        record(store, delivery(), owed(**changes))

    assert [] == store(Store.events)


def test_an_attempt_that_must_not_be_is_refused(store: Door) -> None:
    """An attempt belongs to a call, has its number for itself, and an outcome exactly when it has ended."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    call, attempt = ended(held, "done", state=State.DONE, settled_at=NOW)
    for wrong in (replace(attempt, outcome=None), replace(attempt, ended_at=None)):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            store(Store.settle, held, call, wrong, None, NOW)
    for wrong in (attempt, replace(attempt, call="ca_000009")):
        row = {"call_id": wrong.call, "number": 1, "step": "send", "began_at": NOW, "answer": b""}
        with pytest.raises(Exception, match=r"(?i)constraint"), store.engine.group():
            store.link.rows("begin", row)

    assert [held.attempt] == store(Store.attempts, held.call.id)


@pytest.mark.parametrize("changes", [{"verified": "perhaps"}, {"source": None}, {"body": None}])
def test_an_event_that_must_not_be_is_refused(store: Door, changes: dict[str, Any]) -> None:
    """The table itself holds what every event must have."""
    with pytest.raises(Exception, match=r"(?i)constraint"):
        record(store, replace(delivery(), **changes))

    assert [] == store(Store.events)
