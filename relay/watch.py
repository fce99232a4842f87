"""How does a run of a watch go?  Page after page, and what is new on them becomes events."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from relay import intake, listing
from relay.call import Call, Done, Retry, State, Step, Verdict
from relay.clock import rfc3339
from relay.engine import Row
from relay.errors import Unfit
from relay.event import Event, Json, Millis, Trust
from relay.judge import after
from relay.listing import Item, Page, own
from relay.log import scrub
from relay.look import judge_page, unread
from relay.plan import plan, source_of
from relay.provider import Answer, Listing, Reply, Request
from relay.render import listing_request
from relay.rule import Ruleset, Watch
from relay.source import Source
from relay.store import Run, Settled, Sighting
from relay.trial import PageTrial
from relay.unpack import read

log = structlog.get_logger()

# What a run has to know of itself, beside where it stands, among the values of its call.
BEGAN: Final = "@began"
"""When its first page was asked for."""
SINCE: Final = "@since"
"""The time from which on it reads: the same for all its pages."""
FLAWS: Final = "@flaws"
"""How many items could not be read."""
FLAW: Final = "@flaw"
"""The first of them."""
FAILING: Final = "@failing"
"""A page was not read, and that has been said; it goes well again when a whole run has."""

STUCK: Final = 6
"""So many times in a row a page is asked for before its run begins again at the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What one page meant: how its run goes on from *before*, and what the store shall keep of it."""

    before: Call
    call: Call
    verdict: Verdict
    run: Run


# -- asking --


def begun(call: Call, about: Listing, row: Row | None, now: Millis) -> Call:
    """Return a run's call as it begins; *row* is what the store knows of its watch."""
    ran_at, armed_at = (row["ran_at"], row["armed_at"]) if row else (None, call.created_at)
    since = listing.since(about, ran_at, armed_at)
    return replace(call, values={**call.values, BEGAN: now, SINCE: since})


def asked(trial: PageTrial) -> Request:
    """Return the request for the page at which a run stands. Raises Unfit."""
    values = trial.call.values
    filled = {**own(values), "since": values[SINCE]}
    return listing_request(
        trial.provider, trial.listing, filled, listing.query(trial.listing, values), trial.now
    )


# -- what the answer means --


def turned(trial: PageTrial, answer: Answer | Unfit, seen_at: Millis, rules: Ruleset) -> Leaf:
    """
    Say what the answer to a page means for its run; an Unfit is why it could not be asked for.

    *seen_at* is when that was: a case that has recovered since is not failed by what the page still shows.
    """
    watch, began = rules.watches[trial.call.key], trial.call.values[BEGAN]
    source = source_of(rules, watch.source)
    assert source is not None
    assert isinstance(began, int)
    # Never in the past: a run that takes longer than `every` is followed by the next at once.
    next_at = max(trial.now, began + watch.every_ms)
    verdict, page = _read(trial, answer, trial.now + watch.every_ms)
    call = after(trial.call, verdict, trial.now)
    call = replace(call, why=scrub.text(call.why))
    values = dict(call.values)
    run = Run(
        watch=watch.name,
        seen_at=seen_at,
        sightings=tuple(_sightings(page, watch, source, seen_at, rules, trial.now)) if page else (),
        version=rules.version,
        dedupe_ms=source.dedupe_ms,
        log=trial.listing.log,
    )
    if page is None:
        # The same page once more; but the place where a list goes on may not be known for ever.
        values = own(values) if call.looks % STUCK == 0 else values
        call, run = replace(call, values={**values, FAILING: True}), replace(run, why=call.why)
    elif page.cut:
        # What a run has not reached is not gone: it is not over, and begins again at the first page.
        call = _waits(call, next_at, page.cut, {**own(values), FAILING: True})
        run = replace(run, why=page.cut)
    elif page.next is not None:
        values = {**_flaws(values, page), **page.next}
        call = _waits(call, trial.now, f"{call.why}, goes on with the next page", values)
    else:
        values.pop(FAILING, None)
        call = replace(call, values=_flaws(values, page))
        run = replace(run, over=True, next_at=next_at, why=_flawed(call.values))
    return Leaf(before=trial.call, call=call, verdict=verdict, run=run)


def _read(trial: PageTrial, answer: Answer | Unfit, later_at: Millis) -> tuple[Verdict, Page | None]:
    """Return what was asked for, if it came."""
    if isinstance(answer, Unfit):
        later = Retry(later_at, f"not asked: {answer}", step=Step.LOOK, spent=False)
        return Verdict(later, None, blurred=True), None
    verdict = judge_page(trial, answer)
    if not isinstance(verdict.outcome, Done):
        return verdict, None
    assert isinstance(answer, Reply)
    try:
        return verdict, listing.read(trial.listing, answer, trial.call.values)
    except Unfit as error:
        return unread(trial, answer, f"{answer.status}: {error}"), None


def _waits(call: Call, at: Millis, why: str, values: Mapping[str, Json]) -> Call:
    waits = replace(call, state=State.QUEUED, step=Step.LOOK, due_at=at, why=why, settled_at=None)
    return replace(waits, values=values)


def _sightings(
    page: Page, watch: Watch, source: Source, seen_at: Millis, rules: Ruleset, now: Millis
) -> Iterator[Sighting]:
    """Make of each item the event that it is, if the store finds that it is new."""
    for item in page.items:
        event = _event(item, watch, source, seen_at, now)
        yield Sighting(item=item.id, event=event, plan=plan(event, rules, now))


def _event(item: Item, watch: Watch, source: Source, seen_at: Millis, now: Millis) -> Event:
    """Make an event of an item: verified, for we have asked the provider ourselves."""
    event = read(source, {}, scrub.bytes(item.event), Trust.VERIFIED, now)
    # Whether an item is new is known by its id in the list. A second failure may look just like the first: of
    # all that was pushed, only the sender's own id of the delivery makes it the same.
    sighting = b"\0".join([item.event, watch.name.encode(), item.id.encode(), str(seen_at).encode()])
    return replace(event, digest=hashlib.sha256(sighting).hexdigest())


def _flaws(values: Mapping[str, Json], page: Page) -> dict[str, Json]:
    """Return *values* with what could not be read counted, and the first of it remembered."""
    if not page.flaws:
        return dict(values)
    found = values.get(FLAWS, 0)
    assert isinstance(found, int)
    first = values.get(FLAW, scrub.text(page.flaws[0])[:200])
    return {**values, FLAWS: found + len(page.flaws), FLAW: first}


def _flawed(values: Mapping[str, Json]) -> str:
    count = values.get(FLAWS, 0)
    return f"{count} {'item' if count == 1 else 'items'} not read: {values[FLAW]}" if count else ""


def tell(leaf: Leaf, settled: Settled, row: Row | None) -> None:
    """Say what a page brought, and once what changed; *row* is the watch as it stands after a whole run."""
    run, call = leaf.run, leaf.call
    was_failing, is_failing = FAILING in leaf.before.values, FAILING in call.values
    mine = {"watch": run.watch, "provider": call.provider}
    seen = {sighting.event.id: sighting for sighting in run.sightings}
    for recorded in settled.recorded:
        if (sighting := seen.get(recorded.event)) is not None:
            event = sighting.event
            intake.tell(event, sighting.plan, recorded, watch=run.watch, bytes=len(event.body))
    if is_failing and not was_failing:
        log.warning("watch.failing", **mine, why=run.why, next_at=rfc3339(call.due_at))
    elif was_failing and not is_failing:
        log.info("watch.recovered", **mine)
    if row is not None:
        counts = {name: row[name] for name in ("items", "fresh", "took_ms")}
        log.info("watch.ran", **mine, **counts, why=run.why or None, next_at=rfc3339(run.next_at))
