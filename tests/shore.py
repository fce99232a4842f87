"""What do tests of cases share?  Cases and calls as values, and a store that is driven step by step."""

from collections import Counter
from dataclasses import replace
from typing import Any

from conftest import Door
from test_store import LEASE, NOW, WEEK, delivery, slots

from relay import follow
from relay.call import NEVER, Answered, Call, Claim, Kind, Seen, State, Step
from relay.case import HOUR_MS, Act, Case, Failure, Move, Policy, Recovery, Stand
from relay.deed import Deed, Plan
from relay.event import Decision
from relay.provider import Limit
from relay.store import Claimed, Recorded, Settled, Slot, Store
from relay.storm import Turn, Weather

LATER = NOW + 10
KEY = "flatfile:job_id=us_jb_1"
ENDED = (Stand.RECOVERED, Stand.GAVE_UP, Stand.CLOSED)


def failure(key: str = KEY, *, step: Step = Step.SEND, flaw: str = "", **policy: Any) -> Failure:
    """Return what a rule makes of a failed job."""
    return Failure(
        rule="retry jobs", provider="flatfile", action="retry", key=key, values={"job_id": "us_jb_1"},
        policy=Policy(**policy), step=step, flaw=flaw,
    )  # fmt: skip


def case(state: Stand = Stand.OPEN, *, policy: Policy | None = None, **more: Any) -> Case:
    """Return a case that has come to a state in the usual way."""
    given: dict[str, Any] = {
        "id": "case_1", "key": KEY, "provider": "flatfile", "rule": "retry jobs", "action": "retry",
        "values": {"job_id": "us_jb_1"}, "policy": policy or Policy(), "state": state, "why": "so",
        "event": "ev_1",
        "call": "call_1", "opened_at": NOW - 1_000,
    }  # fmt: skip
    if state is Stand.WATCHING:
        given |= {"accepted_at": NOW, "deadline_at": NOW + HOUR_MS, "spent": (NOW,), "retries": 1}
    if state in ENDED:
        given["ended_at"] = NOW
    return Case(**given | more)


def call(state: State = State.QUEUED, **more: Any) -> Call:
    """Return the case's own call."""
    given: dict[str, Any] = {
        "id": "call_1", "event": "ev_1", "case": "case_1", "key": KEY, "rule": "retry jobs",
        "provider": "flatfile", "action": "retry", "values": {"job_id": "us_jb_1"}, "state": state,
        "due_at": NOW, "created_at": NOW,
    }  # fmt: skip
    if state in {State.DONE, State.DEAD, State.CANCELLED}:
        given["settled_at"] = LATER
    if state in {State.DONE, State.DEAD}:
        given["tries"] = 1
    if state is State.HELD:
        given["due_at"] = NEVER
    if state is State.UNKNOWN:
        given |= {"tries": 1, "doubts": 1, "step": Step.LOOK}
    return Call(**given | more)


def check(state: State = State.DONE, **more: Any) -> Call:
    return call(state, kind=Kind.CHECK, step=Step.LOOK, tries=0, **more)


def told(move: Move | None) -> tuple[str, str, str]:
    """Say a move in three words: where the case stands, what happened, and what is called for it."""
    if move is None:
        return "", "", ""
    wanted = move.queue.kind.value if move.queue else "let go" if move.change else "drop" if move.drop else ""
    return move.case.state.value, move.moment.kind, wanted


def play(before: Case, at: int, **more: Any) -> Move:
    """Let the case's retry be accepted and fail again."""
    taken = follow.settled(before, call(State.DONE, id=before.call, **more), at)
    assert taken is not None
    return follow.failed(taken.case, failure(), "ev_9", at + 1, at + 1)


class Sea:
    """A store, and the cases of one provider in it."""

    def __init__(self, store: Door, **policy: Any) -> None:
        self.store, self.now = store, NOW
        self.policy: dict[str, Any] = {"storm_cases": 20, "storm_ms": 10_000, "wait_ms": (0,)} | policy
        self.turns: list[Turn] = []
        self.number = 0

    def fail(self, key: str = "", **policy: Any) -> Case:
        """Let a resource fail; return its case."""
        self.number += 1
        wanted = failure(key or f"job {self.number}", **self.policy | policy)
        recorded = self.store(
            Store.record, delivery(self.number, received_at=self.now),
            Plan(Decision.MATCHED, Deed(failures=(wanted,))),
            version="v1", dedupe_ms=WEEK,
        )  # fmt: skip
        self.turns += recorded.turns
        return recorded.moves[0].case

    def claim(self, free: int = 1_000) -> tuple[Claim, ...]:
        """Take what is due."""
        claimed = self.claimed(free)
        return claimed.claims

    def claimed(self, free: int = 1_000) -> Claimed:
        """Take what is due, and tell all of it."""
        claimed = self.store(Store.claim, slots(free=free), self.now, "a")
        self.turns += claimed.turns
        return claimed

    def settle(self, held: Claim, **end: Any) -> Settled:
        """Let a try end."""
        given: dict[str, Any] = {"state": State.DONE, "settled_at": self.now, "why": "so"} | end
        ended = replace(held.call, lease=None, tries=held.call.tries + (held.call.step is Step.SEND), **given)
        attempt = replace(held.attempt, ended_at=self.now, outcome="done")
        settled = self.store(Store.settle, held, ended, attempt, Answered(), self.now)
        self.turns += settled.turns
        return settled

    def accept(self, free: int = 1_000) -> list[str]:
        """Let the provider take each retry that is due; return their cases."""
        taken = []
        for held in self.claim(free):
            assert held.call.kind is Kind.RETRY
            self.settle(held)
            assert held.call.case is not None
            taken.append(held.call.case)
        return taken

    def well(self, case_: str) -> None:
        """Let an event say that a case's resource is well."""
        found = self.store(Store.case, case_)[0].case
        self.now += 1
        kept = self.store(Store.follow_up, found, self._seen(found, Seen.RECOVERED), self.now)
        self.turns += kept.turns

    def ill(self, case_: str) -> None:
        """Let a watched resource fail again."""
        found = self.store(Store.case, case_)[0].case
        self.now += 1
        kept = self.store(Store.follow_up, found, self._seen(found, Seen.FAILED), self.now)
        self.turns += kept.turns

    def _seen(self, of: Case, seen: Seen) -> Call:
        assert of.state is Stand.WATCHING
        assert of.call is not None
        return call(State.DONE, id=of.call, case=of.id, kind=Kind.CHECK, seen=seen, tries=0)

    def weather(self) -> Weather:
        """Return how the provider fares."""
        return self.store(Store.weather)["flatfile"]

    def states(self) -> dict[str, int]:
        """Count the cases by what the storm makes of them."""
        return dict(Counter(one.case.storming.value for one in self.store(Store.cases, limit=10_000)))


class Shore:
    """A store with a clock, and short words for what happens to it."""

    def __init__(self, store: Door) -> None:
        self.store, self.now, self.number = store, NOW, 0

    def event(self, *told: Failure | Recovery, seen_at: int | None = None) -> Recorded:
        """Let an event come in, a moment after the one before: within one, ids are in no order."""
        self.number, self.now = self.number + 1, self.now + 1
        return self.store(
            Store.record, delivery(self.number, received_at=self.now), Plan(Decision.MATCHED, Deed(
                failures=tuple(one for one in told if isinstance(one, Failure)),
                recoveries=tuple(one for one in told if isinstance(one, Recovery)),
            )),
            version="v1", dedupe_ms=WEEK, seen_at=seen_at,
        )  # fmt: skip

    def fail(self, key: str = KEY, *, seen_at: int | None = None, **policy: Any) -> Move:
        """Let a resource fail."""
        job = {"job_id": key.rpartition("=")[2]}
        return self.event(replace(failure(key, **policy), values=job), seen_at=seen_at).moves[0]

    def well(self, key: str = KEY) -> Recorded:
        """Let an event say that a resource is well."""
        return self.event(Recovery(rule="retry jobs", provider="flatfile", key=key))

    def claim(self, free: int = 8, batch: int = 1) -> tuple[Claim, ...]:
        """Take what is due."""
        slot = Slot(limit=Limit(), free=free, lease_ms=LEASE, batch=batch)
        return self.store(Store.claim, {"flatfile": slot}, self.now, "a").claims

    def ask_at(self) -> int | None:
        """Return when a worker would ask again, where nothing is due."""
        return self.store(Store.claim, slots(free=1), self.now, "b").ask_at

    def settle(self, held: Claim, **end: Any) -> Settled:
        """Let a try end: as accepted, if nothing else is said."""
        sent = held.call.step is Step.SEND
        final = end.get("state", State.DONE) in {State.DONE, State.DEAD}
        given: dict[str, Any] = {"state": State.DONE, "settled_at": self.now if final else None, "why": "so"}
        ended = replace(held.call, lease=None, tries=held.call.tries + sent, **given | end)
        attempt = replace(held.attempt, ended_at=self.now, outcome="done", status=200, why="so")
        return self.store(Store.settle, held, ended, attempt, Answered(), self.now)

    def accept(self, **end: Any) -> Settled:
        """Let what is due be taken by the provider."""
        (held,) = self.claim()
        return self.settle(held, **end)

    def act(self, name: str, act: Act, **more: Any) -> Move:
        """Let a person act."""
        return self.store(Store.act, name, act, by="ada", why="", now=self.now, **more)

    def case(self, name: str = KEY) -> Case:
        """Return the last case of a name."""
        return self.store(Store.case, name)[0].case

    def calls(self, state: str | None = None) -> list[Call]:
        """Return all calls, the newest first."""
        return self.store(Store.calls, state=state, limit=1_000)

    def waiting(self) -> list[Call]:
        """Return the calls that are not ended."""
        return [call for call in self.calls() if call.settled_at is None]
