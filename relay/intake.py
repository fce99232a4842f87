"""What becomes of one delivery?  Verified, read, matched, planned and kept, before anyone is told so."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final, ParamSpec, TypeVar

import structlog

from relay import report
from relay.bucket import Buckets
from relay.clock import now_ms
from relay.deed import Plan
from relay.errors import Rejected
from relay.event import Does, Event, Millis, Trust, as_name
from relay.greet import Greeting, greet, permit
from relay.keep import Keeper
from relay.log import scrub
from relay.plan import plan
from relay.reload import InForce
from relay.ring import Ring
from relay.source import Incoming, Source
from relay.store import Recorded, Store
from relay.unpack import unpack
from relay.verify import Proof, verify, waste

log = structlog.get_logger()

INLINE: Final = 64 << 10
"""Bytes of a body that is verified at once; a longer one is in a thread, and holds nobody up."""


_Asked = ParamSpec("_Asked")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """
    What the sender is told: its events' ids, the calls that they caused, and if all were there before.

    Or it is greeted: then nothing was kept.
    """

    events: tuple[str, ...] = ()
    calls: int = 0
    duplicate: bool = False
    status: int = 202  #: of an event that was kept
    greeting: Greeting | None = None


class Intake:
    """The way in."""

    def __init__(
        self,
        in_force: InForce,
        keep: Keeper,
        wake: Callable[[], None],
        clock: Callable[[], Millis] = now_ms,
        ring: Ring | None = None,
    ) -> None:
        self._in_force, self._keep, self._wake, self._clock = in_force, keep, wake, clock
        self._buckets = Buckets()
        self._ring = ring  #: without it, senders whose keys have to be fetched are not known

    def source(self, name: str) -> Source | None:
        """Return a source by its name in the path."""
        return self._in_force.rules.sources.get(name)

    def full(self, name: str) -> Rejected | None:
        """Return what a sender is told whose source has no room for another delivery; None: there is."""
        source = self.source(name)
        if source is None or source.limit is None:
            return None
        wait_ms = self._buckets.wait_ms(name, source.limit, self._clock())
        return _limited(wait_ms) if wait_ms else None

    async def take(self, name: str, incoming: Incoming) -> Taken:
        """
        Take one delivery in; return when all that it holds is committed to disk.

        Raises Rejected: 401 for a sender that is not known, 503 if that can't be told now, 429 for one that
        posts too often, 413 for too many events at once; StoreError if it could not be kept.
        """
        began, rules = perf_counter(), self._in_force.rules
        source, size = rules.sources.get(name), len(incoming.body)
        if source is None:
            await _run(incoming, waste, incoming.body)
            log.warning("hook.refused", source=as_name(name), why="unknown_source", bytes=size)
            raise _nobody()
        now = self._clock()
        proof = await self._proof(source, incoming, now)
        if proof.trust is Trust.FAILED:
            log.warning("hook.refused", source=source.name, why=proof.flaw, bytes=size)
            raise _nobody()
        if source.limit is not None and (wait_ms := self._buckets.take(source.name, source.limit, now)):
            log.warning("hook.refused", source=source.name, why="limited", bytes=size)
            raise _limited(wait_ms)
        try:
            events = unpack(source, _scrubbed(incoming), proof.trust, now, proof.signed, proof.headers)
        except Rejected:
            log.warning("hook.refused", source=source.name, why="too_many_events", bytes=size)
            raise
        if greeting := greet(source, events):
            log.info("hook.greeted", source=source.name, type=events[0].type, secret=proof.by or None)
            return Taken(status=200, greeting=greeting)
        made = [(event, plan(event, rules, event.received_at)) for event in events]
        recorded = await self._keep(Store.record_all, made, version=rules.version, dedupe_ms=source.dedupe_ms)
        if any(one.moves or one.windows for one in recorded):
            self._wake()
        took = round((perf_counter() - began) * 1000, 1)
        for (event, planned), one in zip(made, recorded, strict=True):
            tell(event, planned, one, secret=proof.by or None, bytes=len(event.body), took_ms=took)
            report.moves(one.moves)
            report.turns(one.turns)
        return Taken(
            events=tuple(one.event for one in recorded),
            calls=sum(len(_queued(one)) for one in recorded),
            duplicate=all(one.duplicate for one in recorded),
            status=source.answer,
        )

    async def _proof(self, source: Source, incoming: Incoming, now: Millis) -> Proof:
        """Verify, again for as long as fetched keys are new. Raises Rejected (503) if they can't be had."""
        proof = await _run(incoming, verify, source, incoming, now, self._ring.keys if self._ring else None)
        while self._ring and proof.wants and proof.trust is Trust.FAILED:
            try:
                new = await self._ring.fetch(proof.wants, source)
            except Rejected:
                log.warning(
                    "hook.refused", source=source.name, why="keys_not_fetched", bytes=len(incoming.body)
                )
                raise
            if not new:
                break
            proof = await _run(incoming, verify, source, incoming, now, self._ring.keys)
        return proof

    def permit(self, name: str, headers: Mapping[str, Sequence[str]]) -> Mapping[str, str] | None:
        """
        Return the headers that let a sender post which asks by OPTIONS whether it may.

        None: nobody may ask, as at a source that is not there. Raises Rejected (403) for a stranger.
        """
        source = self._in_force.rules.sources.get(name)
        if source is None or not source.origins:
            return None
        origin = as_name(", ".join(headers.get("webhook-request-origin", ())))
        told = permit(source, headers)
        if told is None:
            log.warning("hook.refused", source=source.name, why="unknown_origin", origin=origin)
            raise Rejected(403, "Not permitted", "this origin may not post here")
        log.info("hook.greeted", source=source.name, origin=origin)
        return told


async def _run(
    incoming: Incoming, judge: Callable[_Asked, _Found], *args: _Asked.args, **kwargs: _Asked.kwargs
) -> _Found:
    """Let *judge*, which is pure, look at a delivery, where its length holds nobody up."""
    if len(incoming.body) <= INLINE:
        return judge(*args, **kwargs)
    return await asyncio.to_thread(judge, *args, **kwargs)


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


def _scrubbed(incoming: Incoming) -> Incoming:
    """Cut our own secrets out before anything is kept: a provider may tell what it was called with."""
    headers = {name: tuple(map(scrub.text, values)) for name, values in incoming.headers.items()}
    return replace(incoming, headers=headers, body=scrub.bytes(incoming.body))


def _limited(wait_ms: Millis) -> Rejected:
    return Rejected(429, "Too many requests", "this source has a limit", max(1, -(-wait_ms // 1000)))


def _nobody() -> Rejected:
    """One answer for an unknown source and for a wrong secret, so that nobody can search for sources."""
    return Rejected(
        401, "Not accepted", "no such source, or a wrong signature or token; relay's log says which"
    )
