"""Everything relay remembers. Each method is one job inside a transaction; `keep` is the door to it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from relay.call import NEVER, Attempt, Call, Claim, Signal, State, Step
from relay.engine import Link, Row
from relay.event import Decision, Event, Millis, Trust
from relay.gate import Gate, admit, learn, resume
from relay.provider import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What a worker can take of one provider now."""

    limit: Limit
    free: int  #: calls it has room for
    lease_ms: Millis  #: the longest a call can take, and then some


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a worker got, and when it should ask again even if nobody wakes it."""

    claims: tuple[Claim, ...]
    ask_at: Millis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an event: *duplicate* means that *event* is an earlier one's id."""

    event: str
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a settlement: the gate before and after, or *ours* False for a lease that was lost."""

    ours: bool
    before: Gate | None = None
    gate: Gate | None = None


class Store:
    """The questions and acts that the rest of relay has for its database."""

    def __init__(self, link: Link) -> None:
        self._rows = link.rows

    # -- events --

    def record(
        self, event: Event, decision: Decision, calls: Sequence[Call], *, version: str, dedupe_ms: Millis
    ) -> Recorded:
        """Keep *event* and the calls it causes, together or not at all; a known delivery changes nothing."""
        marks = [f"sha256:{event.digest}"] + ([f"id:{event.delivery}"] if event.delivery else [])
        asked = {"source": event.source, "by_bytes": marks[0], "by_id": marks[-1], "now": event.received_at}
        for row in self._rows("known", asked):
            return Recorded(event=row["event_id"], duplicate=True)
        row = asdict(event) | {
            "headers": orjson.dumps(dict(event.headers)).decode(),
            "decision": decision.value,
            "rule_version": version,
        }
        del row["data"]
        self._rows("record", row)
        for mark in marks:
            until = event.received_at + dedupe_ms
            self._rows(
                "remember", {"source": event.source, "mark": mark, "event_id": event.id, "until": until}
            )
        for call in calls:
            self._rows("queue", _call_row(call))
        return Recorded(event=event.id, duplicate=False)

    def forget(self, now: Millis) -> None:
        """Drop the marks of deliveries that are too old to be duplicates."""
        self._rows("forget", {"now": now})

    def events(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        source: str | None = None,
        decision: str | None = None,
    ) -> list[Row]:
        """Return events as rows, newest first, with the number of their calls."""
        asked = {"limit": limit, "before": before, "id": id, "source": source, "decision": decision}
        return [row | {"headers": orjson.loads(row["headers"])} for row in self._rows("events", asked)]

    # -- calls --

    def claim(self, slots: Mapping[str, Slot], now: Millis, lease: str) -> Claimed:
        """
        Lease due calls of each provider, as many as its gate admits and the worker has room for.

        Each claim's attempt, the intent, is written in this same transaction: no byte leaves before it is
        durable. What the gate turns away was never claimed, so waiting costs no try.
        """
        claims: list[Claim] = []
        ask_at: list[Millis] = []
        for provider, slot in slots.items():
            if slot.free <= 0:
                continue  # a call that ends will wake the worker
            asked = {"provider": provider, "now": now, "limit": slot.free}
            wanted = self._rows("due", asked)[0]["due"]
            gate = None
            if wanted:
                gate, admitted = admit(self._gate(provider), slot.limit, now, wanted, slot.lease_ms)
                if admitted:
                    self._rows("keep_gate", asdict(gate))
                    claims += self._lease(asked | {"limit": admitted}, slot, lease)
            due_at = self._rows("next_due", {"provider": provider})[0]["due_at"]
            if due_at is not None:
                ask_at.append(max(due_at, gate.opens_at(slot.limit) if gate else now))
        return Claimed(claims=tuple(claims), ask_at=min(ask_at, default=None))

    def _lease(self, asked: dict[str, Any], slot: Slot, lease: str) -> list[Claim]:
        until = asked["now"] + slot.lease_ms
        rows = self._rows("claim", asked | {"lease": lease, "until": until})
        calls = sorted(map(_call, rows), key=lambda call: call.id)
        claims = []
        for call in calls:
            attempt = Attempt(call=call.id, number=call.attempts, step=call.step, began_at=asked["now"])
            begun = {"call_id": call.id, "number": attempt.number, "step": attempt.step.value}
            self._rows("begin", begun | {"began_at": attempt.began_at, "answer": b""})
            claims.append(Claim(call=call, attempt=attempt, lease=lease))
        return claims

    def settle(
        self, claim: Claim, call: Call, attempt: Attempt, signal: Signal | None, now: Millis
    ) -> Settled:
        """Write down one try, move its call on and let the gate learn; nothing if the lease was lost."""
        if not self._rows("settle", _call_row(call) | {"lease": claim.lease}):
            return Settled(ours=False)
        self._end(attempt)
        before = self._gate(call.provider)
        gate = learn(before, signal, claim.attempt.began_at, now)
        if gate != before:
            self._rows("keep_gate", asdict(gate))
        return Settled(ours=True, before=before, gate=gate)

    def _end(self, attempt: Attempt) -> None:
        row = asdict(attempt)
        row["call_id"] = row.pop("call")
        self._rows("end", row)

    def sweep(self, now: Millis, *, everything: bool = False) -> list[str]:
        """Take back what dead workers held, or *everything* that is out; return the calls' ids."""
        swept = []
        for row in self._rows("lost", {"now": NEVER if everything else now}):
            why = (
                "relay died while the call was out"
                if row["step"] == Step.SEND
                else "relay died while looking"
            )
            self._rows("sweep", {"id": row["id"], "why": why, "now": now})
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
            swept.append(row["id"])
        return swept

    def calls(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        event: str | None = None,
        provider: str | None = None,
        state: str | None = None,
    ) -> list[Call]:
        """Return calls, newest first."""
        asked = {
            "limit": limit,
            "before": before,
            "id": id,
            "event_id": event,
            "provider": provider,
            "state": state,
        }
        return [_call(row) for row in self._rows("calls", asked)]

    def attempts(self, call: str) -> list[Attempt]:
        """Return a call's tries in order."""
        return [_attempt(row) for row in self._rows("attempts", {"call_id": call})]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many calls stand where: provider → state → number."""
        found: dict[str, dict[str, int]] = {}
        for row in self._rows("counts", {}):
            found.setdefault(row["provider"], {})[row["state"]] = row["calls"]
        return found

    # -- gates, and the store itself --

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

    def resume(self) -> None:
        """Ready the gates for a fresh start, when no worker of ours holds a call."""
        for gate in self.gates().values():
            self._rows("keep_gate", asdict(resume(gate)))

    def pulse(self, now: Millis) -> None:
        """Write and sync something, to know that an insert would work now."""
        self._rows("pulse", {"at": now})


def event(row: Row) -> Event:
    """Make an event of its row; its data is read again from the body by whoever needs it."""
    names = ("id", "source", "type", "delivery", "digest", "received_at", "headers", "body", "flaw")
    return Event(verified=Trust(row["verified"]), **{name: row[name] for name in names})


def _call(row: Row) -> Call:
    row = dict(row)
    return Call(
        event=row.pop("event_id"),
        case=row.pop("case_key"),
        values=orjson.loads(row.pop("args")),
        state=State(row.pop("state")),
        step=Step(row.pop("step")),
        **row,
    )


def _call_row(call: Call) -> dict[str, Any]:
    row = asdict(call)
    row["event_id"], row["case_key"] = row.pop("event"), row.pop("case")
    row["args"] = orjson.dumps(row.pop("values"), option=orjson.OPT_SORT_KEYS).decode()
    return row


def _attempt(row: Row) -> Attempt:
    row = dict(row)
    return Attempt(call=row.pop("call_id"), step=Step(row.pop("step")), **row)
