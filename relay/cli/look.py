"""Are the files right, and which rules does an event meet?"""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click

from relay.call import Step
from relay.case import Failure
from relay.cli import options
from relay.clock import now_ms
from relay.errors import ConfigError, Problem
from relay.event import Event, Json, Millis, Trust
from relay.intake import received
from relay.load import load
from relay.log import plain
from relay.plan import plan, source_of
from relay.provider import Upload
from relay.render import request
from relay.rule import Rule, Ruleset, Source

TRUST: Final = {"hmac": Trust.VERIFIED, "token": Trust.AUTHENTICATED, "none": Trust.UNATTEMPTED}
"""How far a sender is known that has proved itself as its source wants."""


@click.command()
@click.argument("rules", type=options.FILE, default=Path("rules.toml"), envvar="RELAY_RULES")
@click.option("--no-secrets", is_flag=True, help="Do not look whether secrets and folders are there.")
@options.as_json
def check(rules: Path, no_secrets: bool, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Check RULES and all it draws on, and run its tests.

    Tells all problems at once. Exits with 0 if all is well, 1 if a test fails, 2 if a file is wrong.
    """
    try:
        found = load(rules, os.environ, secrets=not no_secrets)
    except ConfigError as error:
        if not as_json:
            raise
        options.print_json({"ok": False, "problems": [asdict(problem) for problem in error.problems]})
        raise SystemExit(2) from None
    failed = list(_failed_tests(found))
    tests = sum(len(rule.tests) for rule in found.rules)
    counts = {"rules": len(found.rules), "sources": len(found.sources), "providers": len(found.providers)}
    if as_json:
        options.print_json(
            {"ok": not failed, "version": found.version, **counts, "tests": tests}
            | {"problems": [asdict(problem) for problem in failed]}
        )
    elif failed:
        for problem in failed:
            click.echo(plain(str(problem)), err=True)
    else:
        told = ", ".join(_count(number, name[:-1]) for name, number in counts.items())
        click.echo(f"{rules}: fine. {told}; {tests} of {tests} tests pass. Version {found.version}.")
        if not found.sources:
            click.echo("There is no source: nothing can come in.")
    if failed:
        raise SystemExit(1)


def _failed_tests(rules: Ruleset) -> list[Problem]:
    """Run every rule's tests: does the event cause as many calls by this rule as the file says?"""
    failed = []
    for rule in rules.rules:
        for test in rule.tests:
            event = _event(rules, rule.sources[0], test.event)
            failures = plan(event, _alone(rules, rule), event.received_at).failures
            made = sum(not failure.flaw for failure in failures)
            if made != test.calls:
                missed = rule.when.miss(test.event)
                why = [str(missed)] if missed else [failure.flaw for failure in failures if failure.flaw]
                what = f"expected {_count(test.calls, 'call')}, got {made}"
                what = f"{what}: {'; '.join(why)}" if why else what
                failed.append(Problem(file=str(rules.path), line=test.line, key=test.key, what=what))
    return failed


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _alone(rules: Ruleset, rule: Rule) -> Ruleset:
    return replace(rules, rules=(rule,))


def _event(rules: Ruleset, source: str, data: Json) -> Event:
    """Make a test's event, as if its sender had proved itself."""
    by = source_of(rules, source) or Source(name=source, verify="none")
    return replace(received(by, {}, b"{}", Trust.VERIFIED, now_ms()), data=data)


@click.command()
@click.argument("source")
@click.argument("event", metavar="EVENT.json", type=options.FILE)
@options.rules
@options.as_json
def match(source: str, event: Path, rules: Path, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Say which calls an event would cause by which rule, or why not.

    For each rule of SOURCE: the call that EVENT.json would cause and the case that it is for, the case that
    it would end as recovered, or the first condition that failed and the value it saw. Sends nothing.
    EVENT.json may be - for standard input.
    """
    found = load(rules, os.environ, secrets=False)
    by = source_of(found, source) or options.source(found, source)
    # What only a watch brings in was asked for by relay itself.
    trust = TRUST[by.verify] if source in found.sources else Trust.VERIFIED
    made = received(by, {}, options.read(event), trust, now_ms())
    if made.flaw:
        place = "standard input" if str(event) == "-" else str(event)
        raise ConfigError([Problem(file=place, what=made.flaw)])
    told = [_explained(found, rule, made) for rule in found.rules]
    if as_json:
        options.print_json({"source": source, "type": made.type, "delivery": made.delivery, "rules": told})
        return
    mine = [row for row, rule in zip(told, found.rules, strict=True) if source in rule.sources]
    for row in mine:
        click.echo(plain(f"{_mark(row)} {row['rule']}"))
        for line in _lines(row):
            click.echo(plain(f"    {line}"))
    if not mine:
        click.echo(f"no rule is for {source}")
    if others := len(told) - len(mine):
        click.echo(f"{others} {'rules are' if others > 1 else 'rule is'} for other sources")


def _mark(row: dict[str, Any]) -> str:
    """Mark a rule that has a use for the event, one that has none, and one whose call can't be made."""
    if not row["meets"] and row["recovers"] is None:
        return "✗"
    return "!" if any("dead" in call for call in row["calls"]) else "✓"


def _explained(rules: Ruleset, rule: Rule, event: Event) -> dict[str, Any]:
    """Explain one rule's part: its call, what it takes for recovered, or the first condition that failed."""
    row: dict[str, Any] = {"rule": rule.name, "meets": False, "why": "", "calls": [], "recovers": None}
    if event.source not in rule.sources:
        return row | {"why": f"from: wanted {' or '.join(rule.sources)}, saw {event.source}"}
    made = plan(event, _alone(rules, rule), event.received_at)
    missed = rule.when.miss(event.data)
    return row | {
        "meets": missed is None,
        "why": "" if missed is None else str(missed),
        "calls": [_rendered(rules, failure, event.received_at) for failure in made.failures],
        "recovers": made.recoveries[0].key if made.recoveries else None,
    }


def _rendered(rules: Ruleset, failure: Failure, now: Millis) -> dict[str, Any]:
    provider = rules.providers[failure.provider]
    row: dict[str, Any] = {
        "call": f"{failure.provider}.{failure.action}",
        "case": failure.key,
        "with": dict(failure.values),
    }
    if failure.flaw:
        return row | {"dead": failure.flaw}
    action = provider.actions[failure.action]
    made = request(provider, action.shape, action, failure.values, now)
    body = made.body.decode() if isinstance(made.body, bytes) else _form(made.body)
    return row | {
        "first": failure.step.value,
        "request": f"{made.method} {made.url}",
        "body": body or None,
        "notes": list(_notes(failure)),
    }


def _notes(failure: Failure) -> Iterator[str]:
    """Say what stands between the failure and its call."""
    policy = failure.policy
    if policy.approve:
        yield "held for a yes"
    if failure.step is Step.LOOK:
        yield "looks first"
    if policy.batch:
        yield "batched"
    if policy.only:
        yield f"only {policy.only}"


def _form(upload: Upload) -> str:
    """Show a multipart body as one would type it for curl."""
    files = (f"{name}=@{path.relative_to(upload.root)}" for name, path, _ in upload.files)
    return " ".join([*(f"{name}={value}" for name, value in upload.fields), *files])


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """Write a rule's part: each call with its case and its notes, or what recovers, or why nothing does."""
    for call in row["calls"]:
        if "dead" in call:
            yield f"{call['call']}: {call['dead']}"
        else:
            yield f"{call['call']}: {call['request']} {call['body'] or ''}".rstrip()
            yield "; ".join(filter(None, (f"case {call['case']}", ", ".join(call["notes"]))))
    if row["recovers"] is not None:
        yield f"recovers {row['recovers']}"
    elif not row["calls"]:
        yield row["why"]
