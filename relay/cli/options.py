"""Which options do several commands share?"""

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.cells import cell_len

from relay.condition import near
from relay.errors import ConfigError, Problem
from relay.event import Millis
from relay.log import plain
from relay.rule import Ruleset
from relay.schema.units import duration
from relay.source import Source

F = TypeVar("F", bound=Callable[..., Any])

COLOURS: Final[Mapping[str, str]] = {
    "done": "green",
    "matched": "green",
    "open": "green",
    "dead": "red",
    "paused": "red",
    "down": "red",
    "unparsable": "red",
    "unjudged": "red",
    "unknown": "yellow",
    "throttled": "yellow",
    "waiting": "yellow",
    "gone": "yellow",
    "running": "cyan",
}
"""Words that a reader should find at a glance."""

OF_CASES: Final[Mapping[str, str]] = {
    **COLOURS,
    "open": "yellow",
    "retrying": "cyan",
    "watching": "cyan",
    "needs_person": "magenta",
    "recovered": "green",
    "gave_up": "red",
    "well": "green",
    "behind": "yellow",
    "failing": "red",
}
"""The same for cases and watches: an open gate is good news, an open case is none."""

FILE = click.Path(path_type=Path)


def rules(command: F) -> F:
    """Add ``--rules``."""
    return click.option(
        "--rules",
        type=FILE,
        default=Path("rules.toml"),
        envvar="RELAY_RULES",
        show_default=True,
        show_envvar=True,
        help="The file of rules.",
    )(command)


def db(command: F) -> F:
    """Add ``--db``."""
    return click.option(
        "--db",
        default="sqlite:///relay.db",
        envvar="RELAY_DB",
        show_default=True,
        show_envvar=True,
        help="The database.",
    )(command)


def as_json(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text for people.")(
        command
    )


def page(command: F) -> F:
    """Add ``--limit`` and ``--before``."""
    command = click.option(
        "--before", metavar="ID", help="Go on after this one: the `next` of the page before."
    )(command)
    return click.option(
        "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most."
    )(command)


def to(**more: Any) -> Callable[[F], F]:
    """Add ``--to``."""
    return click.option("--to", metavar="URL", envvar="RELAY_TO", show_envvar=True, **more)


def read(path: Path) -> bytes:
    """Read a file, or standard input for ``-``. Raises ConfigError."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(file=str(path), what=(error.strerror or "unreadable").lower())]) from None


def print_json(data: Any) -> None:
    """Print *data* for programs."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def items(rows: list[Any], limit: int) -> dict[str, Any]:
    """Return a page as the API gives it: ``next`` goes into ``--before``."""
    return {"items": rows, "next": rows[-1]["id"] if len(rows) == limit else None}


def source(found: Ruleset, name: str) -> Source:
    """Return a source by its name. Raises ConfigError with a near miss."""
    if name in found.sources:
        return found.sources[name]
    what = f"there is no source '{plain(name)}'"
    raise ConfigError([Problem(file=str(found.path), what=what, hint=near(name, found.sources))])


def facts(shown: Mapping[str, Any], *keys: str) -> None:
    """Print those of *shown* that there is something to say of."""
    for key in keys:
        if shown[key]:
            click.echo(plain(f"{key:13} {shown[key]}"))


def instant(text: str, name: str, before: Millis | None = None) -> Millis:
    """Read an instant (without a zone, the reader's own) or a time *before* one. Raises BadParameter."""
    try:
        if before is not None and text[:1].isdigit() and not {"-", ":"} & set(text):
            return before - duration(text)
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        ago = "a time such as 90m, 12h or 7d, or " if before is not None else ""
        what = f"expected {ago}an instant such as 2026-11-23T08:00, got '{plain(text)}'"
        raise click.BadParameter(what, param_hint=name) from None


def local(instant: str | None) -> str:
    """Write an instant in the reader's own time; today's without the date."""
    if instant is None:
        return ""
    here = datetime.fromisoformat(instant).astimezone()
    today = here.date() == datetime.now().astimezone().date()
    return here.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    below: int,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """
    Print a table.

    Where it is too wide for the terminal, the last *below* columns stand on lines of their own under each
    row, so that an id is never broken. What is no terminal gets one line a row, however long.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    cells = [[plain(" ".join(cell.split())) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    under = below if sum(widths) + 2 * (len(widths) - 1) > width else 0
    shown = len(columns) - under
    click.secho(_row(columns[:shown], widths, {}), bold=True)
    for row in cells:
        click.echo(_row(row[:shown], widths, colours))
        for cell in filter(None, row[shown:]):
            click.echo(textwrap.indent(textwrap.fill(cell, width - 4, break_on_hyphens=False), "    "))


def _row(cells: Sequence[str], widths: Sequence[int], colours: Mapping[str, str]) -> str:
    padding = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=False)]
    padding[-1] = ""
    styled = (click.style(cell, fg=colours[cell]) if cell in colours else cell for cell in cells)
    return "  ".join(cell + pad for cell, pad in zip(styled, padding, strict=True)).rstrip()
