"""Are the files right, and do their tests pass?"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from relay.cli import options
from relay.clock import now_ms
from relay.condition import counted
from relay.errors import ConfigError, Problem
from relay.load import load, own_presets
from relay.log import plain
from relay.probe import probe
from relay.proof import Failed, failed
from relay.rule import Ruleset, RuleTest
from relay.sample import samples


@click.command()
@click.argument("rules", type=options.FILE, default=Path("rules.toml"), envvar="RELAY_RULES")
@click.option(
    "--tests",
    "folders",
    metavar="DIR",
    type=options.FILE,
    multiple=True,
    help="Test all rules with the event files in this folder, too; may stand several times.",
)
@click.option("--no-secrets", is_flag=True, help="Do not look whether secrets and folders are there.")
@options.as_json
def check(rules: Path, folders: Sequence[Path], no_secrets: bool, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Check RULES and all it draws on, and run its tests.

    Samples and vectors of presets beside RULES are tried, too.

    Tells all problems at once, and of each test that fails how what came differs from what was expected.
    Exits with 0 if all is well, 1 if a test fails, 2 if a file is wrong.
    """
    try:
        found = load(rules, os.environ, secrets=not no_secrets)
        more = _samples(folders, found)
        shown = _presets(rules)
    except ConfigError as error:
        if not as_json:
            raise
        options.print_json({"ok": False, "problems": [asdict(problem) for problem in error.problems]})
        raise SystemExit(2) from None
    tests = sum(len(rule.tests) for rule in found.rules) + len(more) + shown
    bad = list(failed(found, more, now_ms()))
    counts = {"rules": len(found.rules), "sources": len(found.sources), "providers": len(found.providers)}
    passed = f"{tests - len(bad):,} of {tests:,} tests pass"
    if as_json:
        options.print_json(
            {"ok": not bad, "version": found.version, **counts, "tests": tests, "passed": tests - len(bad)}
            | {"problems": [row for one in bad for row in _rows(one, str(found.path))]}
        )
    elif bad:
        for one in bad:
            _show(one, str(found.path))
        click.echo(f"{passed}.", err=True)
    else:
        told = ", ".join(counted(number, name[:-1]) for name, number in counts.items())
        click.echo(f"{rules}: fine. {told}; {passed}. Version {found.version}.")
        if not found.sources:
            click.echo("There is no source: nothing can come in.")
    if bad:
        raise SystemExit(1)


def _presets(rules: Path) -> int:
    """Try the samples of presets that stand beside the rules, and count them. Raises ConfigError."""
    problems: list[Problem] = []
    tried = sum(probe(doc, name, now_ms()) for name, doc in own_presets(rules, problems).items())
    if problems:
        raise ConfigError(problems)
    return tried


def _samples(folders: Sequence[Path], rules: Ruleset) -> list[RuleTest]:
    """Read all folders of event files. Raises ConfigError with the problems of all of them."""
    found: list[RuleTest] = []
    problems: list[Problem] = []
    for folder in folders:
        try:
            found += samples(folder, rules)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _rows(one: Failed, file: str) -> list[dict[str, Any]]:
    """Return a failed test for programs."""
    return [
        asdict(problem)
        | {"expected": found.expected, "got": found.got, "diff": found.diff(), "why": list(one.why)}
        for problem, found in one.problems(file)
    ]


def _show(one: Failed, file: str) -> None:
    """Show a failed test to people: each difference with its place, and how one becomes the other."""
    for problem, found in one.problems(file):
        click.echo(plain(str(problem)), err=True)
        for line in found.diff():
            colour = {"-": "red", "+": "green"}.get(line[:1])
            click.secho(f"    {plain(line)}", fg=colour, err=True)
