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
from relay.errors import Rejected, Unfit
from relay.event import Event, Json, Millis, Trust, as_name, new_id
from relay.keep import Keeper
from relay.plan import Plan, plan
from relay.rule import Ruleset, Source
from relay.store import Recorded, Sighting, Store
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
        self, rules: Ruleset, keep: Keeper, wake: Callable[[], None], clock: Callable[[], Millis] = now_ms
    ) -> None:
        self._rules, self._keep, self._wake, self._clock = rules, keep, wake, clock

    def source(self, name: str) -> Source | None:
        """Return a source by its name in the path."""
        return self._rules.sources.get(name)

    async def take(self, name: str, headers: Mapping[str, Iterable[str]], body: bytes, token: str) -> Taken:
        """
        Take one delivery in; return when it is committed to disk.

        *headers* maps lower-case names to all their values; *token* is the path's last part, if any.
        Raises Rejected (401) for a sender that is not known, StoreError if it could not be kept.
        """
        began = perf_counter()
        source = self.source(name)
        if source is None:
            waste(body)
            log.warning("hook.refused", source=as_name(name), why="unknown_source", bytes=len(body))
            raise _nobody()
        trust = verify(source, headers, body, token)
        if isinstance(trust, Flaw):
            log.warning("hook.refused", source=source.name, why=trust.value, bytes=len(body))
            raise _nobody()
        event = received(source, headers, body, trust, self._clock())
        made = plan(event, self._rules, event.received_at)
        recorded = await self._keep(
            Store.record,
            event,
            made.decision,
            made.failures,
            made.recoveries,
            version=self._rules.version,
            dedupe_ms=source.dedupe_ms,
        )
        if recorded.moves:
            self._wake()
        tell(event, made, recorded, bytes=len(body), took_ms=round((perf_counter() - began) * 1000, 1))
        report.moves(recorded.moves)
        report.turns(recorded.turns)
        return Taken(recorded.event, len(_queued(recorded)), recorded.duplicate)


def tell(event: Event, made: Plan | Sighting, recorded: Recorded, **more: object) -> None:
    """Say in one line what became of an event; *more* is what only its way in knows."""
    log.info(
        "event.taken",
        event_id=recorded.event,
        source=event.source,
        type=event.type,
        delivery=event.delivery,
        verified=event.verified.value,
        decision=made.decision.value,
        flaw=event.flaw or None,
        duplicate=recorded.duplicate,
        rules=[*(one.rule for one in made.failures), *(one.rule for one in made.recoveries)],
        cases=[move.case.id for move in recorded.moves],
        became=[move.moment.kind for move in recorded.moves],
        calls=_queued(recorded),
        dead=[failure.flaw for failure in made.failures if failure.flaw] or None,
        **more,
    )


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
    named = {
        ref.removeprefix("header:") for ref in (*source.delivery, *source.type) if ref.startswith("header:")
    }
    shown = (KEPT_HEADERS | named) - {source.header}
    event = Event(
        id=new_id("ev", now),
        source=source.name,
        type=None,
        delivery=None,
        digest=hashlib.sha256(body).hexdigest(),
        received_at=now,
        verified=trust,
        headers={key: ", ".join(values)[:1024] for key, values in headers.items() if key in shown},
        body=kept,
        data=data,
        flaw=flaw,
    )
    return replace(event, type=_first(source.type, event), delivery=_first(source.delivery, event))


def _first(references: Iterable[str], event: Event) -> str | None:
    """Return the first of ``header:NAME`` and ``body:PATH`` that is there, as text."""
    for reference in references:
        kind, _, place = reference.partition(":")
        found: Json = event.headers.get(place) if kind == "header" else _at(event.data, place)
        if found is not None and (shown := str(found).strip()):
            return as_name(shown)
    return None


def _at(data: Json, place: str) -> str | None:
    try:
        return plain(at(data, place), place)
    except Unfit:
        return None


def _nobody() -> Rejected:
    """One answer for an unknown source and for a wrong secret, so that nobody can search for sources."""
    return Rejected(
        401, "Not accepted", "no such source, or a wrong signature or token; relay's log says which"
    )
