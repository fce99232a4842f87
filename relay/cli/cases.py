"""Which cases are there, what happened to one, and what do the watches see?  Read beside a running server."""

import os
from pathlib import Path
from typing import Any, Final

import click

from relay.case import Case, Moment, Stand
from relay.cli import options
from relay.clock import now_ms, rfc3339
from relay.config import database
from relay.engine import Row, reader
from relay.errors import StoreError
from relay.event import Millis
from relay.load import load
from relay.log import plain
from relay.public import case_next, case_shown, case_why, moment_shown, no_case, watch_shown
from relay.rule import Watch
from relay.store import Shown, Store

NEAR: Final = 1000
"""Cases among which one of nearly that name is looked for."""


@click.command()
@options.db
@click.option("--state", type=click.Choice([s.value for s in Stand]), help="Only those in this state.")
@click.option("--provider", metavar="NAME", help="Only this provider's.")
@click.option("--rule", metavar="NAME", help="Only those that this rule opened.")
@options.page
@options.as_json
def cases(
    db: str,
    state: str | None,
    provider: str | None,
    rule: str | None,
    limit: int,
    before: str | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Show the cases, newest first: what failed, and where it stands."""
    store = Store(reader(database(db)))
    asked = {"state": state, "provider": provider, "rule": rule, "before": before}
    found = store.cases(limit=limit, **asked)
    now = now_ms()
    if as_json:
        options.print_json(options.items([case_shown(one.case, one.call, now) for one in found], limit))
        return
    if not found:
        click.echo("no such cases" if any(asked.values()) else "no cases")
        return
    gates = store.gates()
    columns = ("id", "state", "retries", "next", "key", "why")
    cells = (
        (
            one.case.id,
            one.case.state.value,
            f"{one.case.retries} of {one.case.policy.retries}",
            options.local(rfc3339(case_next(one.case, one.call, gates.get(one.case.provider)))),
            one.case.key,
            case_why(one.case, one.call),
        )
        for one in found
    )
    options.table(columns, cells, below=2, colours=options.OF_CASES)


@click.command()
@click.argument("name", metavar="ID|KEY")
@options.db
@options.as_json
def case(name: str, db: str, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Show one case with all that happened to it, in order.

    It is named by its id, or by the key or an alias of its resource: then it is the newest.
    """
    store = Store(reader(database(db)))
    found = store.case(name)
    if not found:
        raise StoreError(no_case(name, (one.case for one in store.cases(limit=NEAR))))
    first, *others = found
    moments = store.timeline(first.case.id)
    if as_json:
        shown = case_shown(first.case, first.call, now_ms())
        options.print_json(shown | {"timeline": [moment_shown(moment) for moment in moments]})
        return
    next_at = case_next(first.case, first.call, store.gates().get(first.case.provider))
    options.facts(_told(first, next_at, others), *FACTS)
    click.echo()
    _timeline(moments)


FACTS: Final = (
    *("id", "key", "aliases", "call", "with", "rule", "state", "why", "next", "retries", "storm"),
    *("opened", "ended", "also"),
)


def _told(shown: Shown, next_at: Millis | None, others: list[Shown]) -> dict[str, Any]:
    """Say the facts of a case as a person reads them."""
    case = shown.case
    told = case_shown(case, shown.call, now_ms())
    budget = told["budget"]
    left = max(0, budget["retries"] - budget["spent"])
    return {
        "id": case.id,
        "key": case.key,
        "aliases": ", ".join(case.aliases),
        "call": f"{case.provider}.{case.action}",
        "with": ", ".join(f"{name} = {value}" for name, value in case.values.items()),
        "rule": case.rule,
        "state": case.state.value,
        "why": told["why"],
        "next": options.local(rfc3339(next_at)),
        "retries": f"{case.retries}; {left} left of {budget['retries']} within {budget['within']}",
        "storm": told["storm"],
        "opened": options.local(told["opened_at"]),
        "ended": _ended(case, told["ended_at"]),
        "also": ", ".join(f"{one.case.id} of {one.case.provider}" for one in others),
    }


def _ended(case: Case, at: str | None) -> str:
    return f"{options.local(at)}, after {span(case.ended_at - case.opened_at)}" if case.ended_at else ""


def _timeline(moments: list[Moment]) -> None:
    """Print what happened: when, what kind of thing, who did it, and what."""
    acted = any(moment.by for moment in moments)
    columns = ("at", "kind", *(("by",) if acted else ()), "about", "what")
    cells = (
        (
            options.local(rfc3339(moment.at)),
            moment.kind,
            *((moment.by or "",) if acted else ()),
            moment.ref or "",
            moment.what,
        )
        for moment in moments
    )
    options.table(columns, cells, below=1, colours=options.OF_CASES)


@click.command()
@options.rules
@options.db
@options.as_json
def watches(rules: Path, db: str, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show each watch: when it last read its list, and what it saw."""
    known = load(rules, os.environ, secrets=False).watches
    path, now = database(db), now_ms()
    if path.exists():
        rows = {row["name"]: row for row in Store(reader(path)).watches()}
    else:
        rows = {}
        click.echo(plain(f"relay: there is no database yet: {path}; `relay serve` makes it"), err=True)
    rows |= {name: _unarmed(watch, now) for name, watch in known.items() if name not in rows}
    shown = [watch_shown(row, known.get(name), now) for name, row in sorted(rows.items())]
    if as_json:
        options.print_json({"items": shown, "next": None})
        return
    if not shown:
        click.echo("no watches")
        return
    columns = ("watch", "state", "ran", "lag", "items", "fresh", "standing", "failures", "next", "why")
    cells = (
        (
            row["name"],
            row["state"],
            options.local(row["ran_at"]),
            span(row["lag_ms"]),
            *(str(row[name]) for name in ("items", "fresh", "standing", "failures")),
            options.local(row["next_at"]),
            row["why"],
        )
        for row in shown
    )
    options.table(columns, cells, below=1, colours=options.OF_CASES)


def _unarmed(watch: Watch, now: Millis) -> Row:
    """Return the row of a watch that no relay has run yet."""
    row = dict.fromkeys(("items", "fresh", "standing", "failures"), 0)
    none = dict.fromkeys(("ran_at", "took_ms", "next_at"))
    return {
        "name": watch.name, "provider": watch.provider, "listing": watch.listing, "armed_at": now, "why": "",
        **row, **none,
    }  # fmt: skip


UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"))


def span(millis: Millis) -> str:
    """Write how long something took, in the unit that says enough."""
    for unit, name in UNITS:
        if millis >= 2 * unit:
            return f"{millis // unit}{name}"
    return f"{max(0, millis) / 1000:.3g}s"
