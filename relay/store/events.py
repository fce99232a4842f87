"""What does the store know about events?  Each is kept once, with all that it causes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import orjson

from relay.case import Move
from relay.deed import Deed, Plan
from relay.engine import Row
from relay.event import Decision, Event, Millis
from relay.store.cases import Kept
from relay.store.windows import Windows
from relay.storm import Turn
from relay.window import Change, decided, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an event: *duplicate* means that *event* is an earlier one's id."""

    event: str
    duplicate: bool
    decision: Decision | None = None  #: with what the windows said; None of a duplicate
    deed: Deed = field(default_factory=Deed)  #: what was done at once, by windows, too
    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()
    windows: tuple[Change, ...] = ()  #: what happened to them


class Events(Windows):
    """What came in."""

    def record(
        self,
        event: Event,
        plan: Plan,
        *,
        version: str,
        dedupe_ms: Millis,
        seen_at: Millis | None = None,
        now: Millis | None = None,
    ) -> Recorded:
        """
        Keep *event* and all that it causes, together or not at all; a known delivery changes nothing.

        *seen_at* is when the resource was seen to fail, if not when the event came.
        """
        marks = [f"sha256:{event.digest}"] + ([f"id:{event.delivery}"] if event.delivery else [])
        asked = {"source": event.source, "by_bytes": marks[0], "by_id": marks[-1], "now": event.received_at}
        for row in self._rows("known", asked):
            return Recorded(event=row["event_id"], duplicate=True)
        row = asdict(event) | {
            "headers": orjson.dumps(dict(event.headers)).decode(),
            "decision": plan.decision.value,
            "parts": orjson.dumps(plan.deed.parts).decode(),
            "rule_version": version,
        }
        del row["data"]
        self._rows("record", row)
        until = event.received_at + dedupe_ms
        for mark in marks:
            self._rows(
                "remember", {"source": event.source, "mark": mark, "event_id": event.id, "until": until}
            )
        now = event.received_at if now is None else now
        seen_at = event.received_at if seen_at is None else seen_at
        passed = self.pass_through(event.id, plan.waits, seen_at, now)
        deed = together(plan.deed, passed.acted, passed.parts)
        decision = decided(plan, deed)
        if plan.waits:
            parts = orjson.dumps(deed.parts).decode()
            self._rows("redecide", {"id": event.id, "decision": decision.value, "parts": parts})
        kept = Kept()
        for recovery in deed.recoveries:
            kept += self.recover(recovery, event.id, now)
        for failure in deed.failures:
            kept += self.fail(failure, event.id, seen_at, now)
        return Recorded(
            event=event.id,
            duplicate=False,
            decision=decision,
            deed=deed,
            moves=kept.moves,
            turns=kept.turns,
            windows=tuple(passed.changes),
        )

    def record_all(
        self, several: Sequence[tuple[Event, Plan]], *, version: str, dedupe_ms: Millis
    ) -> tuple[Recorded, ...]:
        """Keep the events of one delivery: all of them, or none."""
        return tuple(
            self.record(event, plan, version=version, dedupe_ms=dedupe_ms) for event, plan in several
        )

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
        if id is None:
            asked = {"limit": limit, "before": before, "source": source, "decision": decision}
            rows = self._rows("events", asked)
        else:
            rows = self._rows("event", {"id": id})
        return [
            row | {"headers": orjson.loads(row["headers"]), "parts": orjson.loads(row["parts"])}
            for row in rows
        ]
