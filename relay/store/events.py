"""What does the store know about events?  Each is kept once, with all that it causes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from relay.case import Failure, Move, Recovery
from relay.engine import Row
from relay.event import Decision, Event, Millis
from relay.store.cases import Cases, Kept
from relay.storm import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of an event: *duplicate* means that *event* is an earlier one's id."""

    event: str
    duplicate: bool
    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()


class Events(Cases):
    """What came in."""

    def record(
        self,
        event: Event,
        decision: Decision,
        failures: Sequence[Failure] = (),
        recoveries: Sequence[Recovery] = (),
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
            "decision": decision.value,
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
        kept = Kept()
        for recovery in recoveries:
            kept += self.recover(recovery, event.id, now)
        for failure in failures:
            kept += self.fail(failure, event.id, event.received_at if seen_at is None else seen_at, now)
        return Recorded(event=event.id, duplicate=False, moves=kept.moves, turns=kept.turns)

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
        return [row | {"headers": orjson.loads(row["headers"])} for row in rows]
