"""What does the store know about watches?  Their runs, and what each has told already."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.call import Attempt, Call, Claim, Kind, Signal, Step
from relay.case import Case, Stand
from relay.deed import Plan
from relay.engine import Row
from relay.event import Event, Millis, new_id
from relay.rule import Watch
from relay.store.calls import Calls, Settled
from relay.store.events import Events, Recorded
from relay.store.rows import call_of, call_row, case_of

MISSED: Final = 2
"""
Complete runs in a row that don't see an item any more: then it has left the list.

One is not enough: where pages are numbered, what leaves the list while it is read moves the rest up.
"""

KEPT_RUNS: Final = 20
"""Ended runs of a watch that stay, with their tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One item of a page, as the event that it is if it is new."""

    item: str
    event: Event
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One page of a watch's run. *over*: it was the last one, and the next run begins at *next_at*."""

    watch: str
    seen_at: Millis  #: when the page was asked for
    sightings: tuple[Sighting, ...] = ()
    version: str = ""  #: of the rules that decided
    dedupe_ms: Millis = 0
    log: bool = False  #: an item that was told once is never new
    over: bool = False
    next_at: Millis = 0
    why: str = ""  #: what is wrong with it; empty: nothing


class Watches(Calls, Events):
    """Standing questions, each with one call that waits or runs."""

    def arm(self, watches: Mapping[str, Watch], now: Millis) -> None:
        """See that each watch has one run that waits, and that those no longer wanted have none."""
        waiting: set[str] = set()
        for row in self._rows("runs", {}):
            run, watch = call_of(row), watches.get(row["key"])
            if watch and _runs(run, watch) and run.key not in waiting:
                waiting.add(run.key)
            else:
                why = "the rules have this watch no longer, or otherwise"
                self._rows("cancel", {"id": run.id, "why": why, "now": now})
        for row in self._rows("standing_watches", {}):
            if row["name"] not in watches:
                self._rows("unwatch", {"watch": row["name"]})
                self._rows("gone_watch", {"name": row["name"]})
        for watch in watches.values():
            armed = {"name": watch.name, "provider": watch.provider, "listing": watch.listing}
            self._rows("arm_watch", armed | {"armed_at": now})
            if watch.name not in waiting:
                # It begins anew: what an unfinished run has seen is no part of it.
                row = self._rows("watch", {"name": watch.name})[0]
                self._rows("keep_watch", row | {"run_at": None, "run_items": 0, "run_fresh": 0})
                self._rows("queue", call_row(_run(watch, now, now)))

    def page(
        self, claim: Claim, call: Call, attempt: Attempt, signal: Signal | None, now: Millis, *, run: Run
    ) -> Settled:
        """
        Settle one page of a run: what it shows for the first time becomes events, all in one transaction.

        A failed item is told once for as long as runs go on seeing it; again when a case of it recovered
        before this page was asked for, or when it had left the list.
        """
        settled = self.settle(claim, call, attempt, signal, now)
        rows = self._rows("watch", {"name": run.watch})
        if not settled.ours or not rows:
            return settled
        watch = rows[0]
        run_at = run.seen_at if watch["run_at"] is None else watch["run_at"]
        told = [self._see(run, run_at, sighting, now) for sighting in run.sightings]
        watch["run_at"] = run_at
        watch["run_items"] += len(run.sightings)
        watch["run_fresh"] += sum(recorded is not None for recorded in told)
        watch["why"] = run.why
        watch["failures"] = watch["failures"] + 1 if run.why else 0
        if run.over:
            self._rows("missed", {"watch": run.watch, "run_at": run_at})
            self._rows("unsee", {"watch": run.watch, "missed": MISSED})
            watch |= {
                "run_at": None, "run_items": 0, "run_fresh": 0, "ran_at": run_at, "took_ms": now - run_at,
                "items": watch["run_items"], "fresh": watch["run_fresh"],
            }  # fmt: skip
            if all(row["key"] != run.watch for row in self._rows("runs", {})):
                self._rows("queue", call_row(_next(call, max(run.next_at, now), now)))
            self._prune(run.watch)
        self._rows("keep_watch", watch)
        fresh = [recorded for recorded in told if recorded is not None]
        return Settled(
            ours=True,
            before=settled.before,
            gate=settled.gate,
            moves=(*settled.moves, *(move for one in fresh for move in one.moves)),
            turns=(*settled.turns, *(turn for one in fresh for turn in one.turns)),
            recorded=tuple(fresh),
        )

    def _see(self, run: Run, run_at: Millis, sighting: Sighting, now: Millis) -> Recorded | None:
        """Record an item's event, unless it was told; return None then."""
        where = {"watch": run.watch, "item": sighting.item}
        known = self._rows("sighting", where)
        if known and (run.log or not self._healed(sighting, known[0]["case_id"], run.seen_at)):
            self._rows("still_there", where | {"run_at": run_at})
            return None
        recorded = self.record(
            sighting.event,
            sighting.plan,
            version=run.version,
            dedupe_ms=run.dedupe_ms,
            seen_at=run.seen_at,
            now=now,
        )
        case = self._case_of(sighting)
        case_id = case.id if case else None
        self._rows("sighted", where | {"event_id": recorded.event, "case_id": case_id, "run_at": run_at})
        return None if recorded.duplicate else recorded

    def _case_of(self, sighting: Sighting) -> Case | None:
        """Return the last case of the first resource that an item calls failed."""
        deeds = (sighting.plan.deed, *(wait.deed for wait in sighting.plan.waits))
        failed = [failure for deed in deeds for failure in deed.failures]
        named = [self._named(failure.provider, failure.key) for failure in failed[:1]]
        return named[0] if named else None

    def _healed(self, sighting: Sighting, case_id: str | None, seen_at: Millis) -> bool:
        """Say whether an item's case had recovered when the item was seen to fail."""
        case = self._case_of(sighting)  # it may have gone on as a part of another one
        if case is None:
            rows = self._rows("case", {"id": case_id}) if case_id else []
            case = case_of(rows[0]) if rows else None
        return (
            case is not None
            and case.state is Stand.RECOVERED
            and case.ended_at is not None
            and case.ended_at < seen_at
        )

    def _prune(self, watch: str) -> None:
        for row in self._rows("old_runs", {"key": watch, "kept": KEPT_RUNS}):
            self._rows("drop_tries", {"id": row["id"]})
            self._rows("drop_call", {"id": row["id"]})

    def watches(self) -> list[Row]:
        """Return what each watch has done, how many items it goes on seeing, and when it runs next."""
        return self._rows("watches", {})

    def watch(self, name: str) -> Row | None:
        """Return one watch as it stands."""
        return next(iter(self._rows("watch", {"name": name})), None)


def _runs(run: Call, watch: Watch) -> bool:
    """Say whether a call asks what this watch wants to be asked."""
    given = {name: value for name, value in run.values.items() if not name.startswith("@")}
    return (run.provider, run.action, given) == (watch.provider, watch.listing, dict(watch.with_))


def _run(watch: Watch, due_at: Millis, now: Millis) -> Call:
    return Call(
        id=new_id("call", now), kind=Kind.PAGE, event=None, key=watch.name, rule="", provider=watch.provider,
        action=watch.listing, values=watch.with_, step=Step.LOOK, due_at=due_at, created_at=now,
    )  # fmt: skip


def _next(call: Call, due_at: Millis, now: Millis) -> Call:
    """Return the run after this one; it begins at the first page."""
    values = {name: value for name, value in call.values.items() if not name.startswith("@")}
    return Call(
        id=new_id("call", now), kind=Kind.PAGE, event=None, key=call.key, rule="", provider=call.provider,
        action=call.action, values=values, step=Step.LOOK, due_at=due_at, created_at=now,
    )  # fmt: skip
