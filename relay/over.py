"""What becomes of a rule's window that has ended?  It acts once, by the rules in force."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from relay import report
from relay.body import parse
from relay.deed import Deed
from relay.errors import StoreBusy, StoreError
from relay.event import Event, Millis
from relay.keep import Keeper
from relay.rule import Ruleset
from relay.store import Store
from relay.window import Change, Span, dropped, outcome

log = structlog.get_logger()


async def act(spans: Iterable[Span], rules: Ruleset, keep: Keeper, clock: Callable[[], Millis]) -> bool:
    """
    Let windows that have ended act; return False if there is no room for it now: they are claimed again.

    Whoever comes first lets one act: where it does not stand any more as it did, nothing happens.
    """
    ends = await asyncio.gather(*(_act(span, rules, keep, clock) for span in spans), return_exceptions=True)
    for end in ends:
        if isinstance(end, StoreBusy):
            log.error("store.busy", why=str(end))
            return False
        if isinstance(end, BaseException) and not isinstance(end, StoreError):
            raise end
    return True  # where the keeper is broken, the next claim says so


async def _act(span: Span, rules: Ruleset, keep: Keeper, clock: Callable[[], Millis]) -> None:
    events = await keep(Store.collected, span)
    change, deed = _outcome(span, rules, events, clock())
    closed = await keep(Store.close, span, deed, clock())
    if closed.ours:
        report.windows([change])
        report.says(closed.says, span.event)
        report.moves(closed.moves)
        report.turns(closed.turns)


def _outcome(span: Span, rules: Ruleset, events: Sequence[Event], now: Millis) -> tuple[Change, Deed]:
    """Return what becomes of a window; one that meets a bug is dropped, or it would come again for ever."""
    try:
        read = [replace(event, data=parse(event.body)) for event in events]
        change, deed = outcome(span, rules, read, now)
        # The event says which rules decided it; these may be others.
        why = f"at its window's end, by rules {rules.version}"
        parts = tuple(replace(part, why=f"{part.why}; {why}" if part.why else why) for part in deed.parts)
        return change, replace(deed, parts=parts)
    except Exception as error:
        log.exception("window.failed", rule=span.rule, key=span.key or None, event_id=span.event)
        return dropped(span, f"a bug in relay: {error!r}")
