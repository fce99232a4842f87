"""What does the store know about windows of rules?  What is in each, and that it acts once."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from relay.case import Move
from relay.deed import Deed, Said, Wait
from relay.engine import Row
from relay.event import Event, Millis, Part
from relay.rule import Window
from relay.store.cases import Cases, Kept
from relay.store.rows import event_of
from relay.storm import Turn
from relay.window import LATE, Change, Entered, Span, discarded, entered

ENDED: Final = 50
"""Windows that act, or are discarded, at once."""

QUIET: Final = 1_000
"""Windows that are taken away at once, where nothing happens at their end."""

BODIES: Final = 1_000
"""Events of one window whose bodies its templates can draw on; all are counted."""

BYTES: Final = 4 << 20
"""How long these bodies are together at most: none is left out that is the first."""


@dataclass(frozen=True, slots=True)
class Over:
    """What became of windows that have ended: those that have to act now, and those that did not get full."""

    spans: tuple[Span, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What a window did at its end. *ours* False: it had acted already, or what was expected came."""

    ours: bool
    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()
    says: tuple[Said, ...] = ()


@dataclass(slots=True)
class Passed:
    """What the windows of an event say."""

    acted: list[Deed] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


class Windows(Cases):
    """Windows of rules that are open, or have still to act."""

    def pass_through(self, event: str, waits: Sequence[Wait], seen_at: Millis, now: Millis) -> Passed:
        """Let windows take an event in, in order: one may close what the next opens anew."""
        passed = Passed()
        for wait in waits:
            made = self._enter(event, wait, seen_at, now)
            passed.changes += made.changes
            if made.acts:
                passed.acted.append(wait.deed)
            elif made.part is not None:
                passed.parts.append(made.part)
        return passed

    def _enter(self, event: str, wait: Wait, seen_at: Millis, now: Millis) -> Entered:
        taken = self._rows("take_span", {"rule": wait.rule, "key": wait.key})
        open_ = _span_of(taken[0]) if taken else None
        known = wait.window is Window.ONCE_AFTER and open_ is not None and self._marked(open_, wait.mark)
        made = entered(open_, wait, event, now, known=known, seen_at=seen_at)
        if made.over is not None:
            self._lay_aside(made.over)
        elif open_ is not None and made.span is None:
            self._rows("close_span", _row(open_))
        if made.span is not None:
            opens = made.span.event == event
            if made.span != open_:
                self._rows("open_span" if opens else "keep_span", _row(made.span))
            if made.span.kind is Window.ONCE_AFTER and (opens or not known):
                self._collect(made.span, wait.mark, event)
        return made

    def _marked(self, span: Span, mark: str) -> bool:
        return bool(self._rows("marked", {"rule": span.rule, "opened_by": span.event, "mark": mark}))

    def _collect(self, span: Span, mark: str, event: str) -> None:
        row = {"rule": span.rule, "opened_by": span.event, "mark": mark, "number": span.events}
        self._rows("collect", row | {"event_id": event})

    def _lay_aside(self, span: Span) -> None:
        """Make room for the next window of its key."""
        if span.kind in LATE:
            self._rows("end_span", _row(span))
        elif span.kind is Window.ACCUMULATE_WITHIN:
            self._discard(span)
        else:
            self._rows("close_span", _row(span))

    def _discard(self, span: Span) -> Change:
        change, deed = discarded(span)
        self._rows("close_span", _row(span))
        self._note(span.event, deed.parts)
        return change

    def _note(self, event: str, parts: Sequence[Part]) -> None:
        """Add to what became of an event."""
        row = self._rows("event", {"id": event})[0]
        told = orjson.dumps([*orjson.loads(row["parts"]), *parts]).decode()
        self._rows("redecide", {"id": event, "decision": row["decision"], "parts": told})

    # -- at their end --

    def end(self, now: Millis) -> Over:
        """Return windows that have ended and have to act; what else has ended is taken away."""
        self._rows("wind_back", {"now": now})
        self._rows("quiet_spans", {"now": now, "limit": QUIET})
        spans = [_span_of(row) for row in self._rows("ended_spans", {"now": now, "limit": ENDED})]
        changes = tuple(self._discard(span) for span in spans if span.kind not in LATE)
        return Over(tuple(span for span in spans if span.kind in LATE), changes)

    def next_time(self) -> Millis | None:
        """Return when a deadline or a window is over next."""
        times = [super().next_time(), self._rows("next_span", {})[0]["at"]]
        return min((at for at in times if at is not None), default=None)

    def collected(self, span: Span) -> list[Event]:
        """Return the events of a window in the order in which they came, at most `BODIES` and `BYTES`."""
        asked = {"rule": span.rule, "opened_by": span.event, "limit": BODIES}
        ids: list[str] = []
        room = BYTES
        for row in self._rows("collected", asked):
            room -= row["bytes"]
            if ids and room < 0:
                break
            ids.append(row["id"])
        rows = [self._rows("event", {"id": id_})[0] for id_ in ids or [span.event]]
        return [event_of(row | {"headers": orjson.loads(row["headers"])}) for row in rows]

    def close(self, span: Span, deed: Deed, now: Millis) -> Closed:
        """
        Let a window that has ended act, once: nothing, if it does not stand any more as it was.

        Its first event is told what came of it.
        """
        if not self._rows("close_span", _row(span)):
            return Closed(ours=False)
        self._rows("uncollect", {"rule": span.rule, "opened_by": span.event})
        # That something did not come is seen when its time is over; what did come, when it came.
        seen_at = span.ends_at if span.kind is Window.EXPECT else span.seen_at
        kept = Kept()
        for failure in deed.failures:
            kept += self.fail(failure, span.event, seen_at, now)
        self._note(span.event, deed.parts)
        return Closed(ours=True, moves=kept.moves, turns=kept.turns, says=deed.says)

    def spans(self, now: Millis = 0, *, limit: int = 1_000) -> list[Row]:
        """Return the windows that are open *now* or have still to act, the next that ends first."""
        return self._rows("spans", {"now": now, "limit": limit})


def _span_of(row: Row) -> Span:
    """Make a window of its row."""
    return Span(event=row["event_id"], kind=Window(row["kind"]), **{name: row[name] for name in _SAME})


def _row(span: Span) -> dict[str, Any]:
    """Make a row of a window."""
    row = asdict(span)
    row["event_id"] = row.pop("event")
    return row


_SAME: Final = ("rule", "key", "events", "threshold", "opened_at", "ends_at", "seen_at")
