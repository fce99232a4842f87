"""Does the store keep what it is told, and hand out each call once?  Held on every engine."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import Door

from relay.call import NEVER, Answered, Attempt, Call, Claim, Failed, Refused, Signal, State, Step, Throttled
from relay.deed import Plan
from relay.event import Decision, Event, Trust
from relay.gate import REFUSED_REST_MS, REST_MS, TRIP
from relay.provider import Limit
from relay.store import Recorded, Slot, Store
from relay.store import event as event_of
from relay.store.rows import call_row

NOW = 1_700_000_000_000
WEEK = 7 * 86_400_000
LEASE = 60_000
NO_LIMIT = Limit()


def delivery(number: int = 1, **changes: Any) -> Event:
    """Return an event, another one for each *number*."""
    body = changes.pop("body", b'{"n": %d}' % number)
    event = Event(
        id=f"ev_{number:06d}", source="flatfile", type="job:failed", delivery=f"d{number}",
        digest=hashlib.sha256(body).hexdigest(), received_at=NOW, verified=Trust.VERIFIED,
        headers={"content-type": "application/json"}, body=body,
    )  # fmt: skip
    return replace(event, **changes)


def owed(number: int = 1, **changes: Any) -> Call:
    """Return a call, another one for each *number*, caused by the first event."""
    call = Call(
        id=f"ca_{number:06d}", event="ev_000001", key=f"job {number}", rule="retry", provider="flatfile",
        action="retry", values={"job_id": f"us_jb_{number}", "n": [1, None, True, "ü"]},
        due_at=NOW, created_at=NOW,
    )  # fmt: skip
    return replace(call, **changes)


def recording(store: Store, event: Event, calls: Sequence[Call], dedupe_ms: int = WEEK) -> Recorded:
    """Record an event with calls of no case: what happens to calls, whoever made them."""
    recorded = store.record(event, Plan(Decision.MATCHED), version="v1", dedupe_ms=dedupe_ms)
    for call in () if recorded.duplicate else calls:
        store._rows("queue", call_row(call))
    return recorded


def record(store: Door, event: Event, *calls: Call, dedupe_ms: int = WEEK) -> Recorded:
    return store(recording, event, calls, dedupe_ms)


def slots(free: int = 8, limit: Limit = NO_LIMIT, **more: int) -> dict[str, Slot]:
    """Return room for *free* calls of flatfile, and for more of the providers named."""
    return {
        name: Slot(limit=limit, free=room, lease_ms=LEASE)
        for name, room in ({"flatfile": free} | more).items()
    }


def claim(store: Door, now: int = NOW, lease: str = "a", **room: Any) -> tuple[Claim, ...]:
    return store(Store.claim, slots(**room), now, lease).claims


def ended(held: Claim, outcome: str, **changes: Any) -> tuple[Call, Attempt]:
    """Return a claimed call and its attempt as they are after a try."""
    attempt = replace(
        held.attempt, ended_at=NOW + 5, status=200, outcome=outcome, why="so", answer=b"\x00\xff"
    )
    return replace(held.call, lease=None, tries=held.call.tries + 1, why="so", **changes), attempt


def done(store: Door, held: Claim, signal: Signal | None = None, now: int = NOW + 5) -> bool:
    call, attempt = ended(held, "done", state=State.DONE, settled_at=now)
    return store(Store.settle, held, call, attempt, signal, now).ours


def only(store: Door) -> Call:
    (call,) = store(Store.calls)
    return call


# -- events --


def test_an_event_and_its_calls_come_back_as_they_went_in(store: Door) -> None:
    """What is recorded is read back equal, field by field."""
    event, calls = delivery(), [owed(1), owed(2, state=State.HELD, due_at=NEVER, step=Step.LOOK)]

    kept = Recorded(event=event.id, duplicate=False, decision=Decision.MATCHED)
    assert kept == record(store, event, *calls)
    (row,) = store(Store.events)
    assert event == event_of(row)
    assert ("matched", "v1", 2) == (row["decision"], row["rule_version"], row["calls"])
    assert calls[::-1] == store(Store.calls)


def test_the_events_of_one_delivery_are_kept_together_or_not_at_all(store: Door) -> None:
    """One that the database refuses takes the others with it; a known one among them is told by its id."""
    plan = Plan(Decision.NO_RULE)
    bad: Any = delivery(3, tells="nonsense")
    with pytest.raises(Exception, match="CHECK constraint"):
        store(
            Store.record_all,
            [(delivery(1), plan), (delivery(2), plan), (bad, plan)],
            version="v",
            dedupe_ms=1,
        )
    assert [] == store(Store.events)

    record(store, delivery(1))
    both = [(replace(delivery(1), id="ev_000009"), plan), (delivery(2), plan)]
    kept = store(Store.record_all, both, version="v", dedupe_ms=1)
    assert [("ev_000001", True), ("ev_000002", False)] == [(one.event, one.duplicate) for one in kept]


@pytest.mark.parametrize(
    "body", [b"", b"a\x00b\x00", bytes(range(256)), b"\xc3\x28 \xed\xa0\x80", b"\x00\xff" * (1 << 19)],
    ids=["empty", "nul", "every byte", "no UTF-8", "1 MiB"],
)  # fmt: skip
def test_bodies_are_kept_byte_for_byte(store: Door, body: bytes) -> None:
    """The raw bytes are evidence: none is added, lost or read as text."""
    record(store, delivery(body=body))

    (row,) = store(Store.events)
    assert bytes is type(row["body"])
    assert body == row["body"]


def test_what_an_event_lacks_stays_away(store: Door) -> None:
    """No type, no delivery id and a flaw are kept as such; without an id, the bytes alone tell duplicates."""
    record(store, delivery(1, type=None, delivery=None, flaw="no JSON"))
    record(store, delivery(2, delivery=None))

    (row,) = store(Store.events, id="ev_000001")
    assert (None, None, "no JSON") == (row["type"], row["delivery"], row["flaw"])
    assert ["ev_000002", "ev_000001"] == [row["id"] for row in store(Store.events)]


def test_an_event_is_kept_with_all_its_calls_or_not_at_all(store: Door) -> None:
    """A call that the database refuses takes its event, the marks and the other calls with it."""
    with pytest.raises(Exception, match=r"(?i)constraint"):
        record(store, delivery(), owed(1), owed(1))

    assert ([], []) == (store(Store.events), store(Store.calls))
    assert False is record(store, delivery(), owed(1)).duplicate


@pytest.mark.parametrize(
    "again",
    [
        delivery(2, delivery="d1"),
        delivery(2, body=b'{"n": 1}'),
        delivery(2, delivery=None, body=b'{"n": 1}'),
        delivery(2, delivery="d1", body=b'{"n": 1}', received_at=NOW + WEEK - 1),
    ],
    ids=["the same id", "the same bytes", "the same bytes, no id", "both, at the last moment"],
)
def test_a_duplicate_changes_nothing_and_names_the_first(store: Door, again: Event) -> None:
    """I2: a delivery known by its id or by its bytes is not decided again."""
    record(store, delivery(1), owed(1))

    assert Recorded(event="ev_000001", duplicate=True) == record(store, again, owed(2, event="ev_000002"))
    assert (1, 1) == (len(store(Store.events)), len(store(Store.calls)))


def test_a_duplicate_of_two_events_is_the_first_ones(store: Door) -> None:
    """With the id of one event and the bytes of another, it belongs to the earlier."""
    record(store, delivery(1))
    record(store, delivery(2))

    assert "ev_000001" == record(store, delivery(3, delivery="d2", body=b'{"n": 1}')).event
    assert "ev_000001" == record(store, delivery(3, delivery="d1", body=b'{"n": 2}')).event


def test_ids_and_bytes_are_told_apart_by_source(store: Door) -> None:
    """Two sources may use the same delivery ids, and an id that looks like a digest is only an id."""
    record(store, delivery(1))
    digest = delivery(1).digest

    assert False is record(store, delivery(2, body=b'{"n": 1}', delivery="d1", source="xpkg")).duplicate
    assert False is record(store, delivery(3, delivery=f"sha256:{digest}")).duplicate
    assert False is record(store, delivery(4, delivery=digest)).duplicate


def test_after_its_time_a_delivery_is_new_again(store: Door) -> None:
    """When the dedupe time has run out, the same delivery is a new event, and the one that repeats name."""
    record(store, delivery(1), dedupe_ms=1_000)
    later = {"delivery": "d1", "body": b'{"n": 1}'}

    assert Recorded(event="ev_000002", duplicate=False, decision=Decision.MATCHED) == record(
        store, delivery(2, received_at=NOW + 1_000, **later)
    )
    assert Recorded(event="ev_000002", duplicate=True) == record(
        store, delivery(3, received_at=NOW + 1_001, **later)
    )


def test_forget_drops_only_marks_that_have_run_out(store: Door) -> None:
    """Forgetting frees room and changes no answer; the events stay."""
    record(store, delivery(1), dedupe_ms=1_000)
    record(store, delivery(2), dedupe_ms=1_001)
    store(Store.forget, NOW + 1_000)

    assert False is record(store, delivery(3, delivery="d1")).duplicate
    assert True is record(store, delivery(4, delivery="d2")).duplicate
    assert 3 == len(store(Store.events))


# -- reading --


def test_events_are_read_in_pages_newest_first(store: Door) -> None:
    """Going on from the last id of a page, every event is met once; filters narrow."""
    for number in range(1, 8):
        record(store, delivery(number, source="xpkg" if number % 2 else "flatfile"))

    pages, before = [], None
    while page := [row["id"] for row in store(Store.events, limit=3, before=before)]:
        pages.append([int(id_[3:]) for id_ in page])
        before = page[-1]
    assert [[7, 6, 5], [4, 3, 2], [1]] == pages
    assert ["ev_000004", "ev_000002"] == [
        row["id"] for row in store(Store.events, source="flatfile", before="ev_000006")
    ]
    assert ["ev_000003"] == [row["id"] for row in store(Store.events, id="ev_000003")]
    assert [] == store(Store.events, decision="no_rule")
    assert 7 == len(store(Store.events, decision="matched"))


def test_calls_are_read_in_pages_and_by_what_they_are(store: Door) -> None:
    """The same pages for calls, filtered by event, provider and state."""
    record(store, delivery(1), *(owed(n, provider="xpkg" if n % 2 else "flatfile") for n in range(1, 5)))
    record(store, delivery(2), owed(5, event="ev_000002", state=State.HELD))

    def ids(**asked: Any) -> list[int]:
        return [int(call.id[3:]) for call in store(Store.calls, **asked)]

    assert [5, 4] == ids(limit=2)
    assert [3, 2] == ids(limit=2, before="ca_000004")
    assert [3] == ids(id="ca_000003")
    assert [5] == ids(event="ev_000002")
    assert [3, 1] == ids(provider="xpkg")
    assert [5] == ids(state="held")
    assert [] == ids(state="held", provider="xpkg")


def test_counts_say_where_the_calls_of_each_provider_stand(store: Door) -> None:
    """Counts are by provider and state; what is not there is not named."""
    record(store, delivery(), owed(1), owed(2), owed(3, state=State.HELD), owed(4, provider="xpkg"))
    claim(store, free=1)

    assert {"flatfile": {"running": 1, "queued": 1, "held": 1}, "xpkg": {"queued": 1}} == store(Store.counts)


# -- settling, and the gate that learns --


def test_settling_moves_the_call_and_completes_its_attempt(store: Door) -> None:
    """After a try the call stands where the outcome put it; its attempt says how it went, for good."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    call, attempt = ended(held, "retry", state=State.QUEUED, due_at=NOW + 9, step=Step.LOOK, looks=3)

    assert True is store(Store.settle, held, call, attempt, None, NOW + 5).ours
    assert call == only(store)
    late = {"outcome": "dead", "why": "", "status": 500, "answer": b"", "ended_at": NOW + 9}
    assert [] == store.link.rows("end", late | {"call_id": call.id, "number": 1})
    assert [attempt] == store(Store.attempts, call.id)


@pytest.mark.parametrize("thief", ["late", "foreign", "second"])
def test_who_does_not_hold_the_lease_changes_nothing(store: Door, thief: str) -> None:
    """A swept worker, a foreign lease and a second settlement leave call, attempt and gate as they were."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    if thief == "late":
        store(Store.sweep, NOW + LEASE)
        claim(store, now=NOW + LEASE, lease="b")
    elif thief == "foreign":
        held = replace(held, lease="b")
    else:
        call, attempt = ended(held, "unknown", state=State.UNKNOWN, due_at=NOW)
        store(Store.settle, held, call, attempt, None, NOW)
    before = (store(Store.calls), store(Store.attempts, "ca_000001"), store(Store.gates))

    assert False is done(store, held, Failed())
    assert before == (store(Store.calls), store(Store.attempts, "ca_000001"), store(Store.gates))


@pytest.mark.parametrize("end", [State.DONE, State.DEAD, State.CANCELLED])
def test_a_final_state_never_changes(store: Door, end: State) -> None:
    """I8: no claim, sweep or settlement moves a call that has ended."""
    record(store, delivery(), owed(1), owed(2, state=end, settled_at=NOW))
    (held,) = claim(store)
    call, attempt = ended(held, end.value, state=end, settled_at=NOW)
    store(Store.settle, held, call, attempt, None, NOW)
    before = store(Store.calls)

    assert () == claim(store, now=NOW + WEEK)
    assert [] == store(Store.sweep, NOW + WEEK, everything=True)
    assert False is done(store, held)
    assert None is store(Store.claim, slots(), NOW + WEEK, "b").ask_at
    assert before == store(Store.calls)


def test_a_settlement_that_the_table_refuses_leaves_the_lease(store: Door) -> None:
    """A call can't be settled as running, nor final without an instant: its worker still holds it."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    for wrong in ({"state": State.RUNNING}, {"state": State.DONE}, {"state": State.QUEUED, "settled_at": 1}):
        with pytest.raises(Exception, match=r"(?i)check constraint"):
            store(Store.settle, held, *ended(held, "done", **wrong), None, NOW)

    assert held.call == only(store)
    assert [held.attempt] == store(Store.attempts, held.call.id)
    assert True is done(store, held)


def test_the_gate_learns_from_each_signal(store: Door) -> None:
    """Failures trip it, an answer mends it, Retry-After and a refusal shut it; no signal, no change."""
    record(store, delivery(), *map(owed, range(1, TRIP + 5)))
    first, *held = claim(store, free=TRIP + 4)
    assert True is done(store, first, None)
    for each in held[:TRIP]:
        done(store, each, Failed(), NOW + 7)

    gate = store(Store.gates)["flatfile"]
    assert (TRIP, 1, NOW + 7, NOW + 7 + REST_MS) == (
        gate.failures, gate.trips, gate.tripped_at, gate.shut_until,
    )  # fmt: skip
    assert 0 == len(claim(store, now=NOW + 7 + REST_MS - 1))

    done(store, held[TRIP], Throttled(NOW + 99), NOW + 8)
    gate = store(Store.gates)["flatfile"]
    assert (NOW + 99, TRIP) == (gate.throttled_until, gate.failures)  # a straggler opens nothing
    done(
        store, replace(held[TRIP + 1], attempt=replace(held[TRIP + 1].attempt, began_at=NOW + 8)), Answered()
    )
    assert (0, 0) == (store(Store.gates)["flatfile"].failures, store(Store.gates)["flatfile"].shut_until)
    done(store, held[TRIP + 2], Refused("401"), NOW + 9)
    gate = store(Store.gates)["flatfile"]
    assert ("401", NOW + 9 + REFUSED_REST_MS) == (gate.paused, gate.shut_until)


def test_a_settlement_tells_the_gate_before_and_after(store: Door) -> None:
    """What changed for the provider can be said once, by who changed it."""
    record(store, delivery(), owed())
    (held,) = claim(store)
    settled = store(Store.settle, held, *ended(held, "retry", state=State.QUEUED), Refused("403"), NOW)

    assert settled.before is not None
    assert settled.gate is not None
    assert ("", "403") == (settled.before.paused, settled.gate.paused)
    assert {"flatfile": settled.gate} == store(Store.gates)


def test_a_fresh_start_lets_a_paused_provider_be_asked(store: Door) -> None:
    """Resume opens a pause, keeps Retry-After, and forgets the probe that nobody waits for any more."""
    record(store, delivery(), owed(1), owed(2), owed(3, provider="xpkg"))
    for held in claim(store, free=1, xpkg=1):
        signal = Refused("401") if held.call.provider == "flatfile" else Throttled(NOW + 70)
        store(Store.settle, held, *ended(held, "retry", state=State.QUEUED, due_at=NOW), signal, NOW)
    assert () == claim(store)
    store(Store.resume)

    assert () == claim(store, free=0, xpkg=1, now=NOW + 69)
    assert 1 == len(claim(store, now=NOW))
    assert () == claim(store, now=NOW + 1)
    store(Store.resume)
    assert 1 == len(claim(store, now=NOW + 2))
