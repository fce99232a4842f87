"""What does the database know?  Read beside a running server, changing nothing."""

import os
from pathlib import Path
from typing import Any, Final

import click

from relay.call import Call, Kind, State
from relay.cli import options
from relay.clock import now_ms, rfc3339
from relay.config import database
from relay.engine import Row, reader
from relay.errors import StoreError
from relay.event import Decision
from relay.load import load
from relay.log import plain
from relay.public import call_shown, event_shown, gone_shown, next_at, provider_shown, window_shown
from relay.store import Store

ANSWER: Final = 200
"""Characters of an answer that a person is shown; --json has the rest."""


def _store(db: str) -> Store:
    return Store(reader(database(db)))


@click.command()
@click.argument("event", metavar="[ID]", required=False)
@options.db
@click.option("--source", metavar="NAME", help="Only this source's.")
@click.option("--decision", type=click.Choice([d.value for d in Decision]), help="Only those so decided.")
@options.page
@options.as_json
def events(
    event: str | None,
    db: str,
    source: str | None,
    decision: str | None,
    limit: int,
    before: str | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Show what came in, newest first; or one event, with its body."""
    store = _store(db)
    rows = store.events(limit=limit, before=before, id=event, source=source, decision=decision)
    if event:
        _one_event(store, event, rows, as_json=as_json)
        return
    shown = [event_shown(row) for row in rows]
    if as_json:
        options.print_json(options.items(shown, limit))
        return
    if not shown:
        click.echo("no events" if not (source or decision or before) else "no such events")
        return
    columns = ("id", "received", "source", "decision", "calls", "type", "why")
    cells = (
        (
            row["id"],
            options.local(row["received_at"]),
            row["source"],
            row["decision"],
            str(row["calls"]),
            row["type"] or "",
            row["why"] or "",
        )
        for row in shown
    )
    options.table(columns, cells, below=2)


def _one_event(store: Store, event: str, rows: list[Row], *, as_json: bool) -> None:
    if not rows:
        raise StoreError(f"there is no event {event}")
    row = rows[0]
    calls = store.calls(event=event, limit=1000)
    body = row["body"].decode("utf-8", "replace")
    cases = [one.case.id for one in store.told(event)]
    inside = {"calls": [call_shown(call) for call in calls], "headers": row["headers"], "body": body}
    shown = event_shown(row) | {"cases": cases} | inside
    if as_json:
        options.print_json(shown)
        return
    options.facts(
        shown | {"cases": ", ".join(cases)},
        *(
            "id",
            "source",
            "type",
            "delivery",
            "resource",
            "tells",
            "received_at",
            "verified",
            "decision",
            "why",
        ),
        *("rule_version", "cases"),
    )
    click.echo()
    click.echo(plain(body, "\n\t"))
    if shown["rules"]:
        click.echo()
        columns = ("rule", "does", "what", "key", "why")
        options.table(columns, ([part[name] for name in columns] for part in shown["rules"]), below=2)
    if calls:
        click.echo()
        _call_table(store, calls)


@click.command()
@click.argument("call", metavar="[ID]", required=False)
@options.db
@click.option(
    "--state", type=click.Choice([state.value for state in State]), help="Only those in this state."
)
@click.option("--provider", metavar="NAME", help="Only this provider's.")
@click.option("--event", metavar="ID", help="Only those that this event caused.")
@click.option("--case", metavar="ID", help="Only those for this case.")
@options.page
@options.as_json
def calls(
    call: str | None,
    db: str,
    state: str | None,
    provider: str | None,
    event: str | None,
    case: str | None,
    limit: int,
    before: str | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Show the calls, newest first; or one call, with every try."""
    store = _store(db)
    asked = {"state": state, "provider": provider, "event": event, "case": case, "before": before}
    found = store.calls(limit=limit, id=call, **asked)
    if call:
        if not found:
            raise StoreError(f"there is no call {call}")
        _one_call(call_shown(found[0], store.attempts(call)), as_json=as_json)
        return
    if as_json:
        options.print_json(options.items([call_shown(each) for each in found], limit))
    elif found:
        _call_table(store, found)
    else:
        click.echo("no such calls" if any(asked.values()) else "no calls")


def _call_table(store: Store, calls: list[Call]) -> None:
    gates = store.gates()
    columns = ("id", "state", "call", "tries", "next", "key", "why")
    cells = (
        (
            call.id,
            call.state.value,
            _called(call),
            str(call.tries),
            options.local(rfc3339(next_at(call, gates.get(call.provider)))),
            call.key,
            call.why,
        )
        for call in calls
    )
    options.table(columns, cells, below=2)


def _called(call: Call) -> str:
    """Name what is called; of a check, what it is the check of."""
    name = f"{call.provider}.{call.action}"
    return name if call.kind is Kind.RETRY else f"{name} ({call.kind})"


def _one_call(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        options.print_json(shown)
        return
    options.facts(
        shown, "id", "kind", "event", "case", "key", "rule", "provider", "action", "state", "why", "due_at",
        "settled_at", "doubles",
    )  # fmt: skip
    for name, value in shown["values"].items():
        click.echo(plain(f"{'with':13} {name} = {value}"))
    if not shown["attempts"]:
        return
    columns = ("try", "began", "what", "status", "outcome", "why", "answer")
    cells = (
        (
            str(each["number"]),
            options.local(each["began_at"]),
            each["step"],
            str(each["status"] or ""),
            each["outcome"] or "running",
            each["why"],
            each["answer"] if len(each["answer"]) <= ANSWER else each["answer"][:ANSWER] + "…",
        )
        for each in shown["attempts"]
    )
    click.echo()
    options.table(columns, cells, below=2)


@click.command()
@options.rules
@options.db
@options.as_json
def providers(rules: Path, db: str, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show each provider: may it be called now, how do its calls stand?"""
    known = load(rules, os.environ, secrets=False).providers
    path = database(db)
    store = _store(db) if path.exists() else None
    if store is None:
        click.echo(plain(f"relay: there is no database yet: {path}; `relay serve` makes it"), err=True)
    gates = store.gates() if store else {}
    counts = store.counts() if store else {}
    now = now_ms()
    shown = [provider_shown(p, gates.get(name), counts.get(name, {}), now) for name, p in known.items()]
    shown += [gone_shown(name, stand) for name, stand in counts.items() if name not in known]
    if as_json:
        options.print_json({"items": shown, "next": None})
        return
    columns = ("provider", "gate", "opens", "calls", "can", "at", "why")
    cells = (
        (
            row["name"],
            row["gate"],
            options.local(row["opens_at"]),
            " ".join(f"{number} {state}" for state, number in row["calls"].items()) or "none",
            ", ".join(row["actions"]),
            row["base_url"],
            row["why"],
        )
        for row in shown
    )
    options.table(columns, cells, below=2)


@click.command()
@options.db
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most."
)
@options.as_json
def windows(db: str, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Show the open windows of rules.

    What waits in each, or is held back by it, and until when.
    """
    rows = _store(db).spans(now_ms(), limit=limit + 1)
    shown = [window_shown(row) for row in rows[:limit]]
    if as_json:
        options.print_json({"items": shown, "next": None})
        return
    if not shown:
        click.echo("no windows")
        return
    if len(rows) > limit:
        click.echo(f"the first {limit} to end; there are more (--limit)", err=True)
    columns = ("rule", "window", "key", "events", "opened", "ends", "first event")
    cells = (
        (
            row["rule"],
            row["kind"],
            row["key"],
            f"{row['events']} of {row['threshold']}" if row["threshold"] else str(row["events"]),
            options.local(row["opened_at"]),
            options.local(row["ends_at"]),
            row["event"],
        )
        for row in shown
    )
    options.table(columns, cells, below=1)
