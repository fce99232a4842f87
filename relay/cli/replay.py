"""What would other rules have made of what came in?  Read only; nothing is sent."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from relay.cli import options
from relay.clock import now_ms, rfc3339
from relay.condition import counted
from relay.config import database
from relay.engine import reader
from relay.errors import StoreError
from relay.event import Millis
from relay.load import load
from relay.log import plain
from relay.replay import Comparison, Difference, Tally, longest, quiet
from relay.rule import Ruleset
from relay.store import Store


@click.command()
@click.option("--since", required=True, metavar="TIME", help="From when on: 12h or 7d ago, or an instant.")
@click.option("--until", metavar="TIME", help="Until when, in the same way; else until now.")
@click.option("--source", metavar="NAME", help="Only this source's events.")
@options.rules
@click.option("--diff", is_flag=True, help="Show what would be different: there is nothing else so far.")
@click.option(
    "--against", type=options.FILE, help="Compare with this file of rules, not with what was decided."
)
@click.option(
    "--limit", type=click.IntRange(0, 100_000), default=20, show_default=True,
    help="How many events to show; all are counted.",
)  # fmt: skip
@options.db
@options.as_json
def replay(
    since: str,
    until: str | None,
    source: str | None,
    rules: Path,
    diff: bool,  # noqa: FBT001 - click's way
    against: Path | None,
    limit: int,
    db: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """
    Show what other rules would have made of past events.

    Plans the events that came since TIME anew, with their windows, and compares who would be called for which
    resource, told or asked with what was decided then. Sends nothing and writes nothing. Exits with 0 if all
    is the same, 1 if something differs, 2 if it can't say.
    """
    if not diff:
        raise click.UsageError("only --diff exists so far: replay compares, and never sends anything")
    now = now_ms()
    ends = options.instant(until, "--until", now) if until else now
    begins = options.instant(since, "--since", now)
    if begins >= ends:
        raise click.UsageError(f"there is no time between {rfc3339(begins)} and {rfc3339(ends)}")
    new = load(rules, os.environ, secrets=False)
    old = load(against, os.environ, secrets=False) if against else None
    try:
        store = Store(reader(database(db)))
        found = Comparison(new, old, since=begins, many=limit)
        # What came before is seen, too, but not compared: windows shall stand as they stood.
        early, sure = quiet(
            lambda since, until: store.past_count(since, until, source), begins, longest(new, old)
        )
        if not sure:
            click.echo(f"relay: {UNSURE}", err=True)
        with _bar(store.past_count(early, ends, source)) as step:
            for row in store.past(early, ends, source):
                found.take(row)
                step()
        found.finish(ends)
    except StoreError as error:
        click.echo(plain(f"relay: {error}"), err=True)
        raise SystemExit(2) from None
    if as_json:
        options.print_json(_shown(found, new, old, begins, ends))
    else:
        for line in _lines(found, new, old):
            click.echo(line)
    raise SystemExit(1 if found.tally.different else 0)


UNSURE: Final = (
    "windows may have begun elsewhere: before --since there is no time in which nothing came for as long as"
    " the longest of them lasts"
)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Draw how far it has come, for whoever sits before a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to load
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("events", total=total)
        yield lambda: progress.advance(task)


# -- for programs --


def _shown(
    found: Comparison, new: Ruleset, old: Ruleset | None, begins: Millis, ends: Millis
) -> dict[str, Any]:
    tally = found.tally
    return {
        "since": rfc3339(begins),
        "until": rfc3339(ends),
        "rule_version": new.version,
        "against": old.version if old else None,
        "items": [_item(one) for one in found.differences],
        "totals": {
            "events": tally.events,
            "same": tally.same,
            "different": tally.different,
            "get_a_call": tally.get,
            "lose_a_call": tally.lose,
            "windows_open": tally.unsure,
            "not_comparable": tally.unknown,
        },
        "by_rule": by_rule(tally),
    }


def _item(one: Difference) -> dict[str, Any]:
    return {
        "event": one.old.event,
        "source": one.old.source,
        "received_at": rfc3339(one.old.at),
        "old": {"decision": one.old.decision.value, "parts": [asdict(part) for part in one.lost()]},
        "new": {"decision": one.new.decision.value, "parts": [asdict(part) for part in one.gained()]},
    }


def by_rule(tally: Tally) -> dict[str, dict[str, int]]:
    """Return how many parts each rule lost and gained, the rules with the most first."""
    both = tally.lost + tally.gained
    return {rule: {"lost": tally.lost[rule], "gained": tally.gained[rule]} for rule, _ in both.most_common()}


# -- for people --


def _lines(found: Comparison, new: Ruleset, old: Ruleset | None) -> Iterator[str]:
    """Write what differs event by event, then how much of it there is."""
    tally = found.tally
    for one in found.differences:
        yield plain(f"{one.old.event}  {options.local(rfc3339(one.old.at))}  {one.old.source}")
        yield from (click.style(plain(f"  - {effect}"), fg="red") for effect in one.lost())
        yield from (click.style(plain(f"  + {effect}"), fg="green") for effect in one.gained())
    if more := tally.different - len(found.differences):
        yield f"… and {counted(more, 'more event')} (--limit)"
    if found.differences:
        yield ""
    against = f"version {old.version}" if old else "what was decided"
    yield f"{counted(tally.events, 'event')}, version {new.version} against {against}: {_said(tally)}"
    if tally.different:
        widths = max(len(rule) for rule in by_rule(tally))
        for rule, counts in by_rule(tally).items():
            yield plain(f"  {rule.ljust(widths)}  -{counts['lost']:,} +{counts['gained']:,}")


def _said(tally: Tally) -> str:
    """Say how many events are of which kind, those of which there are any."""
    kinds = {
        "the same": tally.same,
        "different": tally.different,
        "with a call that they did not get": tally.get,
        "without a call that they got": tally.lose,
        "not compared, for a window was open at the end": tally.unsure,
        "not compared, for an earlier relay kept no more than their calls": tally.unknown,
    }
    return "; ".join(f"{number:,} {what}" for what, number in kinds.items() if number) or "nothing to compare"
