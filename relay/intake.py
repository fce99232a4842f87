"""What becomes of one delivery?  Verified, read, matched, planned and kept, before anyone is told so."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import structlog

from relay import report
from relay.body import Unparsable, parse, redact
from relay.clock import now_ms
from relay.deed import Plan
from relay.errors import Rejected, Unfit
from relay.event import Does, Event, Millis, Trust, as_name, new_id
from relay.keep import Keeper
from relay.moment import instant
from relay.plan import plan
from relay.reload import InForce
from relay.rule import Source
from relay.store import Recorded, Store
from relay.template import at, plain
from relay.verify import Flaw, verify, waste

log = structlog.get_logger()

KEPT_HEADERS: Final = frozenset({"content-type", "user-agent", "traceparent"})
"""Stored with an event, beside those that hold its delivery id and type; the rest may hold credentials."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the sender is told: the event's id, the calls that it caused, and if it was there before."""

    event: str
    calls: int
    duplicate: bool


class Intake:
    """The way in."""

    def __init__(
        self, in_force: InForce, keep: Keeper, wake: Callable[[], None], clock: Callable[[], Millis] = now_ms
    ) -> None:
        self._in_force, self._keep, self._wake, self._clock = in_force, keep, wake, clock

    def source(self, name: str) -> Source | None:
        """Return a source by its name in the path."""
        return self._in_force.rules.sources.get(name)

    async def take(self, name: str, headers: Mapping[str, Iterable[str]], body: bytes, token: str) -> Taken:
        """
        Take one delivery in; return when it is committed to disk.

        *headers* maps lower-case names to all their values; *token* is the path's last part, if any.
        Raises Rejected (401) for a sender that is not known, StoreError if it could not be kept.
        """
        began, rules = perf_counter(), self._in_force.rules
        source = rules.sources.get(name)
        if source is None:
            waste(body)
            log.warning("hook.refused", source=as_name(name), why="unknown_source", bytes=len(body))
            raise _nobody()
        trust = verify(source, headers, body, token)
        if isinstance(trust, Flaw):
            log.warning("hook.refused", source=source.name, why=trust.value, bytes=len(body))
            raise _nobody()
        event = received(source, headers, body, trust, self._clock())
        made = plan(event, rules, event.received_at)
        recorded = await self._keep(
            Store.record,
            event,
            made,
            version=rules.version,
            dedupe_ms=source.dedupe_ms,
        )
        if recorded.moves or recorded.windows:
            self._wake()
        tell(event, made, recorded, bytes=len(body), took_ms=round((perf_counter() - began) * 1000, 1))
        report.moves(recorded.moves)
        report.turns(recorded.turns)
        return Taken(recorded.event, len(_queued(recorded)), recorded.duplicate)


def tell(event: Event, made: Plan, recorded: Recorded, **more: object) -> None:
    """Say in one line what became of an event, and what rules want to be said; *more* is of its way in."""
    deed = recorded.deed
    unjudged = any(part.does is Does.UNJUDGED for part in deed.parts)
    speak = log.warning if unjudged else log.info
    speak(
        "event.taken",
        event_id=recorded.event,
        source=event.source,
        type=event.type,
        delivery=event.delivery,
        verified=event.verified.value,
        decision=(recorded.decision or made.decision).value,
        flaw=event.flaw or None,
        duplicate=recorded.duplicate,
        rules=list(dict.fromkeys(one.rule for one in deed.parts)),
        did=[one.does.value for one in deed.parts],
        cases=[move.case.id for move in recorded.moves],
        became=[move.moment.kind for move in recorded.moves],
        calls=_queued(recorded),
        dead=[failure.flaw for failure in deed.failures if failure.flaw] or None,
        **more,
    )
    report.windows(recorded.windows)
    report.says(deed.says, recorded.event)


def _queued(recorded: Recorded) -> list[str]:
    return [move.queue.id for move in recorded.moves if move.queue is not None]


def received(
    source: Source, headers: Mapping[str, Iterable[str]], body: bytes, trust: Trust, now: Millis
) -> Event:
    """Make an event of a verified delivery: redacted, read, with its ids."""
    kept = redact(body, source.redact)
    flaw, data = "", None
    try:
        data = parse(kept)
    except Unparsable as error:
        flaw = str(error)
    named = (*source.delivery, *source.type, *source.time)
    kept_headers = {*KEPT_HEADERS, *source.asked, *_headers(named)} - {source.header}
    event = Event(
        id=new_id("ev", now),
        source=source.name,
        type=None,
        delivery=None,
        digest=hashlib.sha256(body).hexdigest(),
        received_at=now,
        verified=trust,
        headers={key: ", ".join(values)[:1024] for key, values in headers.items() if key in kept_headers},
        body=kept,
        data=data,
        flaw=flaw,
    )
    happened = (instant(found) for one in source.time if (found := _found(one, event)) is not None)
    return replace(
        event,
        type=_first(source.type, event),
        delivery=_first(source.delivery, event),
        happened_at=next((at for at in happened if at is not None), None),
    )


def _headers(references: Iterable[str]) -> set[str]:
    return {one.removeprefix("header:") for one in references if one.startswith("header:")}


def _first(references: Iterable[str], event: Event) -> str | None:
    """Return the first of ``header:NAME`` and ``body:PATH`` that is there, as text."""
    for reference in references:
        found = _found(reference, event)
        if found is not None and (shown := str(found).strip()):
            return as_name(shown)
    return None


def _found(reference: str, event: Event) -> str | None:
    kind, _, place = reference.partition(":")
    try:
        return event.headers.get(place) if kind == "header" else plain(at(event.data, place), place)
    except Unfit:
        return None


def _nobody() -> Rejected:
    """One answer for an unknown source and for a wrong secret, so that nobody can search for sources."""
    return Rejected(
        401, "Not accepted", "no such source, or a wrong signature or token; relay's log says which"
    )
