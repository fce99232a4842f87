"""Which rules does an event meet, and if not, why?"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from relay.cli import options
from relay.clock import now_ms
from relay.config import database
from relay.engine import Row, reader
from relay.errors import ConfigError, Problem, StoreError
from relay.event import Does, Event, Millis
from relay.explain import NEAREST, explain
from relay.load import load
from relay.log import plain
from relay.plan import source_of
from relay.public import explanation_shown, stored_shown
from relay.replay import again, tried
from relay.rule import Ruleset
from relay.store import Store


@click.command()
@click.argument("source", required=False)
@click.argument("file", metavar="[EVENT.json]", type=options.FILE, required=False)
@click.option("--event", metavar="ID", help="Ask about this event of the database instead.")
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header of EVENT.json's.")
@click.option("--now", "at", metavar="TIME", help="Judge as if it were then, as in 2026-11-23T08:00Z.")
@click.option("--all", "every", is_flag=True, help=f"Show all rules, not the nearest {NEAREST}.")
@options.rules
@options.db
@options.as_json
def match(
    source: str | None,
    file: Path | None,
    event: str | None,
    headers: Sequence[str],
    at: str | None,
    every: bool,  # noqa: FBT001 - click's way
    rules: Path,
    db: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """
    Say what an event would cause by which rule, or why not.

    For each rule of SOURCE: the calls that EVENT.json would cause and the cases that they are for, the case
    that it would end as recovered, or the first condition that failed and the value it saw; those that nearly
    match first. Sends nothing. EVENT.json may be - for standard input. With --event, an event that has come
    is explained, and what was decided then, if that differs.
    """
    now = options.instant(at, "--now") if at else None
    found = load(rules, os.environ, secrets=False)
    row: Row | None = None
    if event is not None:
        if source is not None or headers:
            raise click.UsageError("--event has its own source, body and headers")
        row = _stored(event, db)
        made = again(row, found)
        now = made.received_at if now is None else now
    else:
        if source is None or file is None:
            raise click.UsageError("expected SOURCE and EVENT.json, or --event ID")
        now = now_ms() if now is None else now
        made = _tried(found, source, headers, file, now)
    told = explain(made, found, now)
    most = None if every else NEAREST
    shown = stored_shown(row, told, most) if row else explanation_shown(told, most)
    if as_json:
        options.print_json(shown)
        return
    for line in lines(shown):
        click.echo(plain(line))


def _stored(event: str, db: str) -> Row:
    rows = Store(reader(database(db))).events(id=event)
    if not rows:
        raise StoreError(f"there is no event {event}")
    return rows[0]


def _tried(rules: Ruleset, source: str, headers: Iterable[str], file: Path, now: Millis) -> Event:
    """Make an event of a file. Raises ConfigError for one that is no JSON."""
    by = source_of(rules, source) or options.source(rules, source)
    named = dict(_header(one) for one in headers)
    made = tried(rules, by, named, options.read(file), now)
    if made.flaw:
        place = "standard input" if str(file) == "-" else str(file)
        raise ConfigError([Problem(file=place, what=made.flaw)])
    return made


def _header(text: str) -> tuple[str, str]:
    name, is_, value = text.partition("=")
    if not is_ or not name.strip():
        raise click.BadParameter(f"expected NAME=VALUE, got '{plain(text)}'", param_hint="--header")
    return name.strip(), value.strip()


# -- for people --


def lines(shown: dict[str, Any]) -> Iterator[str]:
    """Write an explanation: each rule with what it does, or with why it does nothing."""
    if shown["why"]:
        yield f"no rule is asked: {shown['why']}"
    for row in shown["rules"]:
        yield f"{_mark(row)} {row['rule']}"
        for line in _does(row) if row["acts"] else _why(row):
            yield f"    {line}"
    if left := shown["left_out"]:
        yield f"{left:,} more {'rules have' if left > 1 else 'rule has'} no part in it (--all shows them)"
    if not shown["rules"] and not shown["why"]:
        yield f"no rule is for {shown['source']}"
    if others := shown["others"]:
        yield f"{others:,} {'rules are' if others > 1 else 'rule is'} for other sources"
    if then := shown.get("then"):
        at = f"{options.local(then['received_at'])} by version {then['rule_version']}"
        yield f"then, at {at}: {then['decision']}"
        for part in then["rules"]:
            yield f"    {part['rule']}: {said(part)}"


def _mark(row: dict[str, Any]) -> str:
    """Mark a rule that has a part in the event, one that has none, and one whose call can't be made."""
    if not row["acts"]:
        return "✗"
    unjudged = any(part["does"] == Does.UNJUDGED for part in row["parts"])
    return "!" if unjudged or any("dead" in call for call in row["calls"]) else "✓"


def _why(row: dict[str, Any]) -> Iterator[str]:
    if row["stopped_by"]:
        yield f"not asked: {row['stopped_by']} above stops"
    if row["meets"]:
        yield "would match" if row["stopped_by"] else "matches, and wants nothing"
    else:
        yield f"matches except {row['why']}" if row["near"] and row["fields"]["of"] > 1 else row["why"]


def _does(row: dict[str, Any]) -> Iterator[str]:
    """Write a rule's part: its window, each call with its case and its notes, and what else it does."""
    for window in row["windows"]:
        yield _window(window)
    for call in row["calls"]:
        if "dead" in call:
            yield f"{call['call']}: {call['dead']}"
            continue
        if "request" in call:
            yield f"{call['call']}: {call['request']} {call['body'] or ''}".rstrip()
        else:
            yield call["call"]
        yield "; ".join(filter(None, (f"case {call['case']}", ", ".join(call["notes"]))))
    for part in (*row["parts"], *row["then"]):
        if part["does"] != "call":
            yield said(part)


def _window(window: dict[str, Any]) -> str:
    key = f" for {window['key']}" if window["key"] else ""
    if window["seen"]:
        return f"this is what it expects{key}, if it does"
    words = {
        "once_within": f"only the first within {window['within']} acts",
        "once_after": f"acts once for all of {window['within']}",
        "accumulate_within": f"acts if {window['threshold']:,} come within {window['within']}",
        "expect": f"acts unless what it expects comes within {window['within']}",
    }
    return words[window["window"]] + key


def said(part: dict[str, Any]) -> str:
    """Write a rule's part as a person would say it."""
    words = {
        "call": f"calls {part['what']} for {part['key']}",
        "person": f"asks a person about {part['key']}",
        "tell": f"tells {part['what']}",
        "recover": f"recovers {part['key']}",
        "ignore": "ignores it",
        "wait": "waits",
        "seen": "expected it",
        "throttled": "passes it over",
        "old": "is too late",
        "shadow": "only a shadow",
        "unjudged": "can't be judged",
    }
    return f"{words[part['does']]}{': ' if part['why'] else ''}{part['why']}"
