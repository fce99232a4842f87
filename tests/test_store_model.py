"""Whatever happens in whatever order: does the store do what a small dict of calls would do?"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from conftest import Door
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from test_store import LEASE, NOW, delivery, owed, recording, slots

from relay.call import MOVES, NEVER, Answered, Call, Claim, Failed, Refused, Signal, State, Step, Throttled
from relay.engine import SQLite
from relay.gate import admit, learn
from relay.provider import Limit
from relay.store import Store
from relay.trial import SETTLES_MS

PROVIDERS = ("flatfile", "xpkg")
DEDUPE = 90_000
HELD = 9  #: a wait that means "for a person"
FINAL = {State.DONE, State.DEAD, State.CANCELLED}
ENDS = ("done", "retry", "look again", "unknown", "person", "dead")

signals = st.one_of(
    st.none(),
    st.builds(Answered),
    st.builds(Failed),
    st.builds(Refused, st.just("401")),
    st.integers(0, 30_000).map(lambda wait: Throttled(NOW + wait)),
)

limits = st.sampled_from([Limit(), Limit(), Limit(every_ms=700, burst=2)])
wanted_calls = st.lists(
    st.tuples(st.sampled_from(PROVIDERS), st.sampled_from(Step), st.sampled_from([500, 0, 1, 2, HELD])),
    min_size=2,
    max_size=5,
)


@dataclass
class Known:
    """What the model knows of one call."""

    call: Call
    outcomes: list[str | None] = field(default_factory=list)  #: of its attempts; None: under way


def ended(claim: Claim, how: str, now: int, wait: int) -> Call:
    """Return the claimed call as *how* leaves it."""
    tries = claim.call.tries + (claim.call.step is Step.SEND)
    call = replace(claim.call, lease=None, tries=tries, why=how)
    match how:
        case "done":
            return replace(call, state=State.DONE, settled_at=now)
        case "dead":
            return replace(call, state=State.DEAD, settled_at=now)
        case "retry":
            return replace(call, state=State.QUEUED, step=Step.SEND, due_at=now + wait)
        case "look again":
            return replace(call, state=State.QUEUED, step=Step.LOOK, due_at=now + wait, looks=call.looks + 1)
        case "unknown":
            return replace(call, state=State.UNKNOWN, step=Step.LOOK, due_at=now + wait)
        case _:
            return replace(call, state=State.UNKNOWN, step=Step.LOOK, due_at=NEVER)


class StoreMachine(RuleBasedStateMachine):
    """The store and a model of it, side by side."""

    claims = Bundle[Claim]("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.start()
        self.now = NOW
        self.leases = 0
        self.calls: dict[str, Known] = {}
        self.events: list[str] = []
        self.marks: dict[str, tuple[int, str]] = {}  #: mark → until when, and the event

    def start(self) -> None:
        """Open the database."""
        self.engine = SQLite(Path(self.folder.name) / "relay.db")
        self.store, self.reading = Door(self.engine), Store(self.engine.link())

    def teardown(self) -> None:
        """End what was started."""
        self.engine.close()
        self.folder.cleanup()

    @initialize(limit=limits, calls=wanted_calls)
    def begin(self, limit: Limit, calls: list[tuple[str, Step, int]]) -> None:
        """Give every provider one limit, and begin with some calls."""
        self.limit = limit
        self.record(None, b"begin", calls)

    def moved(self, call: Call) -> None:
        """Let the model follow, if the move is one that is allowed."""
        known = self.calls[call.id]
        assert call.state in MOVES[known.call.state], (known.call.state, call.state)
        known.call = call

    @rule(delivered=st.none() | st.integers(0, 3), body=st.binary(max_size=1), calls=wanted_calls)
    def record(self, delivered: int | None, body: bytes, calls: list[tuple[str, Step, int]]) -> None:
        """Record what is new, or a duplicate of the first event that bears one of its marks."""
        name = None if delivered is None else f"d{delivered}"
        event = delivery(len(self.events) + 1, delivery=name, body=body, received_at=self.now)
        marks = [f"bytes {body.hex()}"] + ([] if name is None else [name])
        alive = [self.marks[mark][1] for mark in marks if self.marks.get(mark, (0, ""))[0] > self.now]
        wanted = [
            owed(
                len(self.calls) + number, event=event.id, provider=provider, step=step,
                due_at=self.now + wait, created_at=self.now,
                state=State.HELD if wait == HELD else State.QUEUED,
            )
            for number, (provider, step, wait) in enumerate(calls, 1)
        ]  # fmt: skip

        recorded = self.store(recording, event, wanted, DEDUPE)
        assert recorded.duplicate is bool(alive)
        assert recorded.event == (min(alive) if alive else event.id)
        if not alive:
            self.events.append(event.id)
            self.calls |= {call.id: Known(call) for call in wanted}
            self.marks |= dict.fromkeys(marks, (self.now + DEDUPE, event.id))

    @rule(target=claims, free=st.integers(0, 2), more=st.integers(0, 3))
    def claim(self, free: int, more: int) -> MultipleResults[Claim]:
        """Due calls, the longest waiting first, as many as there is room and as the gate admits."""
        self.leases += 1
        lease, room = f"l{self.leases}", {"flatfile": free, "xpkg": more}
        expected = []
        gates = self.reading.gates()
        for provider, places in room.items():
            waiting = [known.call for known in self.calls.values() if known.call.provider == provider]
            due = [c for c in waiting if c.state in {State.QUEUED, State.UNKNOWN} and c.due_at <= self.now]
            wanted = min(places, len(due))
            if provider in gates:
                wanted = admit(gates[provider], self.limit, self.now, wanted, LEASE)[1]
            elif self.limit.every_ms:
                wanted = min(wanted, self.limit.burst)
            expected += sorted(due, key=lambda call: (call.due_at, call.id))[:wanted]

        claimed = self.store(Store.claim, slots(limit=self.limit, free=free, xpkg=more), self.now, lease)
        assert {call.id for call in expected} == {claim.call.id for claim in claimed.claims}
        assert claimed.claims or claimed.ask_at is None or claimed.ask_at > self.now
        for claim in claimed.claims:
            known = self.calls[claim.call.id]
            known.outcomes.append(None)
            assert claim.attempt.number == len(known.outcomes)
            self.moved(
                replace(
                    known.call, state=State.RUNNING, lease=lease, due_at=self.now + LEASE,
                    attempts=known.call.attempts + 1,
                )
            )  # fmt: skip
            assert claim.call == known.call
        return multiple(*claimed.claims)

    def settle_one(self, claim: Claim, how: str, wait: int, signal: Signal | None) -> None:
        """Settle, and let the model follow if the lease is still this claim's."""
        call = ended(claim, how, self.now, wait)
        attempt = replace(claim.attempt, ended_at=self.now, outcome=how, why=how)
        ours = self.calls[call.id].call.lease == claim.lease
        gates = self.reading.gates()

        assert ours is self.store(Store.settle, claim, call, attempt, signal, self.now).ours
        if ours:
            self.moved(call)
            self.calls[call.id].outcomes[claim.attempt.number - 1] = how
            gates[call.provider] = learn(gates[call.provider], signal, claim.attempt.began_at, self.now)
        assert gates == self.reading.gates()

    @rule(claim=consumes(claims), how=st.sampled_from(ENDS), wait=st.integers(0, 5_000), signal=signals)
    def settle(self, claim: Claim, how: str, wait: int, signal: Signal | None) -> None:
        """Who holds the lease moves the call; who lost it changes nothing."""
        self.settle_one(claim, how, wait, signal)

    @rule(claim=claims, how=st.sampled_from(ENDS))
    def settle_perhaps_again(self, claim: Claim, how: str) -> None:
        """Keep the claim at hand, to be settled a second time."""
        self.settle_one(claim, how, 0, None)

    @rule(everything=st.booleans())
    def sweep(self, *, everything: bool) -> None:
        """Take back what nobody holds any more: unknown if it may have arrived."""
        lost = [
            known for known in self.calls.values()
            if known.call.state is State.RUNNING and (everything or known.call.due_at <= self.now)
        ]  # fmt: skip
        swept = self.store(Store.sweep, self.now, everything=everything)

        assert sorted(swept) == sorted(known.call.id for known in lost)
        for known in lost:
            sent = known.call.tries + (known.call.step is Step.SEND)
            (stored,) = self.reading.calls(id=known.call.id)
            known.outcomes[-1] = "unknown"
            self.moved(
                replace(
                    known.call, state=State.UNKNOWN if sent else State.QUEUED, step=Step.LOOK, tries=sent,
                    doubts=known.call.doubts + (known.call.step is Step.SEND), lease=None, why=stored.why,
                    due_at=self.now + (SETTLES_MS if known.call.step is Step.SEND else 0),
                )
            )  # fmt: skip

    @rule(passed=st.sampled_from([1, 500, LEASE, 1_000_000]))
    def time_passes(self, passed: int) -> None:
        """Let some time pass, and forget old marks: that changes no answer."""
        self.now += passed
        self.store(Store.forget, self.now)

    @rule()
    def restart(self) -> None:
        """Find, as a new process, what the old one left."""
        self.engine.close()
        self.start()
        self.store(Store.resume)

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        """Hold that every recorded event is there, and every call stands where the model says."""
        assert self.events[::-1] == [row["id"] for row in self.reading.events(limit=10_000)]
        stored = {call.id: call for call in self.reading.calls(limit=10_000)}
        assert {id_: known.call for id_, known in self.calls.items()} == stored
        assert all((call.settled_at is not None) == (call.state in FINAL) for call in stored.values())

    @invariant()
    def attempts_tell_the_whole_story(self) -> None:
        """Hold that attempts have no gaps, and that only the last of a running call is under way."""
        for id_, known in self.calls.items():
            attempts = self.reading.attempts(id_)
            assert list(range(1, known.call.attempts + 1)) == [attempt.number for attempt in attempts]
            assert known.outcomes == [attempt.outcome for attempt in attempts]
            under_way = [attempt.number for attempt in attempts if attempt.ended_at is None]
            assert under_way == ([len(attempts)] if known.call.state is State.RUNNING else [])


TestStoreModel: Callable[[], object] = StoreMachine.TestCase
StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
