"""What does the store know about calls?  One queue: claimed, tried, settled, swept."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Final

import orjson

from relay.call import NEVER, Attempt, Call, Claim, Kind, Priority, Signal, State, Step
from relay.case import Case, Move, Stand
from relay.engine import Row
from relay.event import Millis
from relay.follow import ON_ITS_WAY
from relay.gate import Gate, admit, learn, resume
from relay.provider import Limit
from relay.store.cases import Kept
from relay.store.events import Recorded
from relay.store.rows import attempt_of, call_of, call_row
from relay.store.windows import Windows
from relay.storm import Turn
from relay.trial import SETTLES_MS
from relay.window import Change, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What a worker can take of one provider now."""

    limit: Limit
    free: int  #: requests it has room for
    lease_ms: Millis  #: the longest a request can take, and then some
    batch: int = 1  #: the most calls that a request of this provider is shared by
    keeps: frozenset[str] = frozenset()  #: its actions whose answer may name a new id


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a worker got, when it should ask again even if nobody wakes it, and what was overdue."""

    claims: tuple[Claim, ...]
    ask_at: Millis | None
    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()
    over: tuple[Span, ...] = ()  #: windows of rules that have ended, and have to act now
    windows: tuple[Change, ...] = ()  #: what happened to others


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """
    What became of a settlement: the gate before and after, and what it made of its case.

    *ours* False: the lease was lost. *withdrawn*: the case has ended, so that the call is not tried again.
    """

    ours: bool
    before: Gate | None = None
    gate: Gate | None = None
    withdrawn: bool = False
    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()
    recorded: tuple[Recorded, ...] = ()  #: the events that a page of a watch brought


class Calls(Windows):
    """The queue."""

    def claim(self, slots: Mapping[str, Slot], now: Millis, lease: str) -> Claimed:
        """
        Lease due calls of each provider, as many as its gate admits and the worker has room for.

        Each claim's attempt, the intent, is written in this same transaction: no byte leaves before it is
        durable. What the gate turns away was never claimed, so waiting costs no try. Calls that share a
        request pass the gate as one. What is overdue is acted on first: it may make calls due, or withdraw
        them.
        """
        kept, ended = self.be_on_time(now), self.end(now)
        claims: list[Claim] = []
        ask_at = [at for at in [self.next_time()] if at is not None]
        for provider, slot in slots.items():
            if slot.free <= 0:
                continue  # a call that ends will wake the worker
            # The gate first: who has it has the provider, on all nodes.
            gate: Gate | None = None
            due = self._due(provider, now, slot.free * slot.batch)
            clear = self._clear(provider, due, slot)
            if clear:
                requests = _shared(clear)[: slot.free]
                gate, admitted = admit(self._gate(provider), slot.limit, now, len(requests), slot.lease_ms)
                if admitted:
                    self._rows("keep_gate", asdict(gate))
                    ids = [row["id"] for request in requests[:admitted] for row in request]
                    claims += self._lease(sorted(ids), slot, now, lease)
            due_at = self._next_due(provider)
            if due_at < NEVER:
                patience = now + ASK_AGAIN_MS if len(clear) < len(due) else 0
                ask_at.append(max(due_at, gate.opens_at(slot.limit) if gate else now, patience))
        return Claimed(
            claims=tuple(claims),
            ask_at=min(ask_at, default=None),
            moves=kept.moves,
            turns=kept.turns,
            over=ended.spans,
            windows=ended.changes,
        )

    def _due(self, provider: str, now: Millis, limit: int) -> list[Row]:
        """Return due calls, those of a higher priority first."""
        due: list[Row] = []
        for priority in Priority:
            asked = {"provider": provider, "priority": priority.value, "now": now, "limit": limit - len(due)}
            due += self._rows("due", asked) if len(due) < limit else []
        return due

    def _next_due(self, provider: str) -> Millis:
        """Return when the next call of a provider is due; NEVER if none waits for a time."""
        asked = [{"provider": provider, "priority": priority.value} for priority in Priority]
        times = [self._rows("next_due", one)[0]["due_at"] for one in asked]
        return min((at for at in times if at is not None), default=NEVER)

    def _clear(self, provider: str, due: list[Row], slot: Slot) -> list[Row]:
        """
        Leave out the first sends for resources that may be others under a new id, with no budget left.

        A retry that is out may have made the new id already, and its answer is what tells. Until that is
        here, what has failed since it went out may be what became of it, and of all others that are out.
        """
        first = [row for row in due if row["action"] in slot.keeps and _sends_first(row)]
        out = self._rows("out", {"provider": provider}) if first else []
        held = {row["id"] for row in first if _ancestors(row, out) >= row["room"]}
        return [row for row in due if row["id"] not in held]

    def _lease(self, ids: Iterable[str], slot: Slot, now: Millis, lease: str) -> list[Claim]:
        claims = []
        for id_ in ids:
            rows = self._rows("claim", {"id": id_, "lease": lease, "until": now + slot.lease_ms})
            if not rows:
                continue
            call = call_of(rows[0])
            attempt = Attempt(call=call.id, number=call.attempts, step=call.step, began_at=now)
            begun = {"call_id": call.id, "number": attempt.number, "step": attempt.step.value}
            self._rows("begin", begun | {"began_at": attempt.began_at, "answer": b""})
            if call.kind is Kind.RETRY:
                self._rows("under_way", {"call_id": call.id, "why": ON_ITS_WAY})
            claims.append(Claim(call=call, attempt=attempt, lease=lease))
        return claims

    def settle(
        self, claim: Claim, call: Call, attempt: Attempt, signal: Signal | None, now: Millis
    ) -> Settled:
        """
        Write down one try, move its call on, and let gate and case learn; nothing if the lease was lost.

        A call whose case has ended meanwhile, or no longer waits for it, is not tried again.
        """
        case = self.take(call.case) if call.case else None
        withdrawn = _forsaken(case, call)
        if withdrawn:
            why = f"not tried again: the case is {case.state.value if case else 'gone'}"
            call = replace(call, state=State.CANCELLED, why=why, settled_at=now)
        if not self._rows("settle", call_row(call) | {"lease": claim.lease}):
            return Settled(ours=False)
        self._end(attempt)
        before = self._gate(call.provider)
        gate = learn(before, signal, claim.attempt.began_at, now)
        if gate != before:
            self._rows("keep_gate", asdict(gate))
        kept: Kept = self.follow_up(case, call, now)
        return Settled(
            ours=True, before=before, gate=gate, withdrawn=withdrawn, moves=kept.moves, turns=kept.turns
        )

    def _end(self, attempt: Attempt) -> None:
        row = asdict(attempt)
        row["call_id"] = row.pop("call")
        self._rows("end", row)

    def sweep(self, now: Millis, *, everything: bool = False) -> list[str]:
        """
        Take back what dead workers held, or *everything* that is out; return the calls' ids.

        What was being sent is looked at as late as after any doubt: the state from before may still show.
        """
        swept = []
        for row in self._rows("lost", {"now": NEVER if everything else now}):
            why = (
                "relay died while the call was out"
                if row["step"] == Step.SEND
                else "relay died while looking"
            )
            look_at = now + SETTLES_MS if row["step"] == Step.SEND else now
            self._rows("sweep", {"id": row["id"], "why": why, "look_at": look_at})
            self._end(
                Attempt(
                    call=row["id"],
                    number=row["attempts"],
                    step=Step(row["step"]),
                    began_at=0,
                    ended_at=now,
                    outcome="unknown",
                    why=why,
                )
            )
            self._withdraw(row["id"], now)
            swept.append(row["id"])
        return swept

    def _withdraw(self, id_: str, now: Millis) -> None:
        """Withdraw a call that nobody waits for any more; what it may have done counts all the same."""
        call = call_of(self._rows("call", {"id": id_})[0])
        case = self.take(call.case) if call.case else None
        if case is not None and _forsaken(case, call):
            why = f"{call.why}, and the case is {case.state.value}"
            self._rows("cancel", {"id": id_, "why": why, "now": now})
            self.follow_up(case, replace(call, state=State.CANCELLED, why=why, settled_at=now), now)

    def calls(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        event: str | None = None,
        case: str | None = None,
        provider: str | None = None,
        state: str | None = None,
    ) -> list[Call]:
        """Return calls, newest first; the runs of watches are not among them, unless asked by *id*."""
        if id is not None:
            return [call_of(row) for row in self._rows("call", {"id": id})]
        asked = {
            "limit": limit, "before": before, "event_id": event, "case_id": case, "provider": provider,
            "state": state,
        }  # fmt: skip
        return [call_of(row) for row in self._rows("calls", asked)]

    def attempts(self, call: str) -> list[Attempt]:
        """Return a call's tries in order."""
        return [attempt_of(row) for row in self._rows("attempts", {"call_id": call})]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many calls stand where: provider → state → number."""
        found: dict[str, dict[str, int]] = {}
        for row in self._rows("counts", {}):
            found.setdefault(row["provider"], {})[row["state"]] = row["calls"]
        return found

    # -- gates --

    def _gate(self, provider: str) -> Gate:
        """Take a provider's gate for this transaction; a new one is open."""
        taken = self._rows("take_gate", {"provider": provider})
        if not taken:
            self._rows("new_gate", {"provider": provider})
            taken = self._rows("take_gate", {"provider": provider})
        return Gate(**taken[0])

    def gates(self) -> dict[str, Gate]:
        """Return what is known of each provider that was ever called."""
        return {row["provider"]: Gate(**row) for row in self._rows("gates", {})}

    def resume(self, providers: Collection[str] | None = None) -> None:
        """
        Ready the gates for a fresh start, when no worker of ours holds a call.

        With *providers*, only theirs that are paused: their credentials have changed.
        """
        for gate in self.gates().values():
            if providers is None or (gate.paused and gate.provider in providers):
                self._rows("keep_gate", asdict(resume(gate)))


ASK_AGAIN_MS: Final = 250
"""How soon a worker that nobody wakes asks again for what waits for another call's answer."""

ALONE: Final = ""
"""The batch of a call that shares its request with none."""


def _sends_first(row: Row) -> bool:
    """Say whether a call is a case's retry that was never sent."""
    fresh = row["opened_at"] is not None and not row["tries"]
    return fresh and row["kind"] == Kind.RETRY and row["step"] == Step.SEND


def _ancestors(row: Row, out: Iterable[Row]) -> int:
    """Count what may have been spent already for the resource of a call, by retries that are out."""
    return sum(
        1 + len(orjson.loads(other["spent"]))
        for other in out
        if other["action"] == row["action"] and other["began_at"] <= row["opened_at"]
    )


def _shared(due: Iterable[Row]) -> list[list[Row]]:
    """Group due calls into requests: those of one batch share one, up to its size; the oldest first."""
    first: dict[Any, int] = {}
    for number, row in enumerate(due):
        first.setdefault(_request(row), number)
    ordered = sorted(due, key=lambda row: first[_request(row)])
    requests: list[list[Row]] = []
    for _, rows in groupby(ordered, key=_request):
        all_ = list(rows)
        size = batch_size(all_[0]["batch"]) if all_[0]["step"] == Step.SEND else 1
        requests += [all_[at : at + size] for at in range(0, len(all_), size)]
    return requests


def _request(row: Row) -> tuple[str, ...]:
    together = row["batch"] != ALONE and row["step"] == Step.SEND
    return (row["action"], row["batch"]) if together else (row["id"],)


def batch_size(batch: str) -> int:
    """Return how many calls may share a request: the number in ``field:max``; 1 for none."""
    return int(batch.rpartition(":")[2]) if batch else 1


def _forsaken(case: Case | None, call: Call) -> bool:
    """Say whether a call would be tried again that nobody waits for."""
    if case is None or call.settled_at is not None:
        return False
    late = call.kind is Kind.CHECK and case.state is not Stand.WATCHING
    return late or case.ended or case.call != call.id
