"""Is what stands inside a value right?  Patterns, templates, and the names of headers."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from relay.document import Document
from relay.errors import ConfigError
from relay.event import Json
from relay.match import ENVELOPE, Pattern
from relay.place import Path
from relay.template import Misused, names

HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
OURS: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""Headers that frame the request: the HTTP client writes them, and two of a kind are an attack."""


def pattern(
    doc: Document, path: Path, table: Mapping[str, Json], names: Collection[str] | None = None
) -> Pattern | None:
    """
    Compile the pattern at *path*; its problems are keyed within it.

    It is over events, with what comes around them, or over a provider's answer, which has these *names*.
    """
    try:
        return Pattern(table, names or (), toml=True, envelope=ENVELOPE if names is None else ())
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        inner, rest = _follow(dict(table), problem.key)
        doc.wrong((*path, *inner), problem.what, problem.hint, below=rest)
    return None


def _follow(table: Json, key: str) -> tuple[Path, str]:
    """Follow a dotted *key*, items counted from 0, as far as it was written; return the rest, too."""
    path: Path = ()
    here = table
    for found in re.finditer(r'("(?:\\.|[^"\\])*")|\[(\d+)\]|([^.\[\]"]+)', key):
        quoted, number, bare = found.groups()
        step: str | int = int(number) if number else json.loads(quoted) if quoted else bare
        match here, step:
            case dict(), str() if step in here:
                here = here[step]
            case list(), int() if step < len(here):
                here = here[step]
            case _:
                return path, key[found.start() :]
        path = (*path, step)
    return path, ""


def template(doc: Document, path: Path, value: Json) -> Iterator[tuple[Path, str]]:
    """Yield each placeholder of a tree of templates with its place; what can't be read is a problem."""
    match value:
        case dict():
            for key, item in value.items():
                yield from template(doc, (*path, key), item)
        case list():
            for number, item in enumerate(value):
                yield from template(doc, (*path, number), item)
        case _:
            try:
                found = list(names(value))
            except Misused as error:
                doc.wrong(path, error.what, error.hint)
            else:
                yield from ((path, name) for name in found)


def holes(*templates: Json) -> set[str]:
    """Return all placeholders of *templates*; a broken one has none (its problem is told elsewhere)."""
    found: set[str] = set()
    for one in templates:
        try:
            found.update(names(one))
        except ValueError:
            continue
    return found


def body_path(doc: Document, path: Path, text: str) -> None:
    """Check a dotted path into an answer's body."""
    if not re.fullmatch(r'[^\s{}|".]+(\.[^\s{}|".]+)*', text):
        doc.wrong(path, f'expected a path into the body, such as "data.id", got {text!r}')


def header(doc: Document, path: Path, name: str) -> None:
    """Check the name of a header that a request shall carry."""
    if not HEADER.fullmatch(name):
        doc.wrong(path, "this is no name of a header")
    elif name.lower() in OURS:
        doc.wrong(path, f"the header {name} is written by relay itself")
