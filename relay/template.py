"""How is a text with holes filled?  ``{path}`` stands for a value; ``{{`` and ``}}`` for braces."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, TypeAlias

from relay.errors import Unfit
from relay.event import Json

Get: TypeAlias = Callable[[str], Json]
"""Look a placeholder up; raises Unfit where there is nothing."""

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_PATH: Final = re.compile(r"[^\s{}|\"]+")


@lru_cache(maxsize=4096)
def pieces(text: str) -> tuple[tuple[str, bool], ...]:
    """
    Split *text* into (text, is a hole) pairs.

    Raises ValueError, fit for a person to read, where a brace stands alone or a hole is empty.
    """
    found: list[tuple[str, bool]] = []
    for match in _PIECE.finditer(text):
        piece, path = match.group(), match.group(1)
        if path is not None:
            if not _PATH.fullmatch(path):
                message = f"expected a path between the braces, as in {{context.jobId}}, got {piece!r}"
                raise ValueError(message)
            found.append((path, True))
        elif piece in {"{", "}"}:
            raise ValueError(f"a lone {piece!r}; write {piece * 2!r} for a brace")
        else:
            found.append((piece.replace("{{", "{").replace("}}", "}"), False))
    return tuple(found)


def names(template: Json) -> Iterator[str]:
    """Every placeholder in a tree of templates. Raises ValueError as `pieces` does."""
    match template:
        case str():
            yield from (piece for piece, hole in pieces(template) if hole)
        case list():
            for item in template:
                yield from names(item)
        case dict():
            for item in template.values():
                yield from names(item)
        case _:
            return


def at(data: Json, path: str) -> Json:
    """Return what stands at a dotted *path* of *data*; a number picks from a list. Raises Unfit."""
    here = data
    for step in path.split("."):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isascii() and step.isdigit() and int(step) < len(here):
            here = here[int(step)]
        else:
            raise Unfit(f"{path} is missing")
    return here


def text(template: str, get: Get, encode: Callable[[str], str] = str) -> str:
    """Fill *template* as text, each value through *encode*. Raises Unfit."""
    return "".join(encode(plain(get(piece), piece)) if hole else piece for piece, hole in pieces(template))


def plain(value: Json, name: str) -> str:
    """Say a value as text. Raises Unfit for null, lists, tables and fractions, which no id is."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case _:
            raise Unfit(f"{name} is {kind(value)}, expected text")


def fill(template: Json, get: Get) -> Json:
    """Fill a tree of templates; a text that is one hole and nothing else keeps the value's type."""
    match template:
        case str():
            match pieces(template):
                case ((name, True),):
                    return get(name)
                case _:
                    return text(template, get)
        case list():
            return [fill(item, get) for item in template]
        case dict():
            return {key: fill(item, get) for key, item in template.items()}
        case _:
            return template


def kind(value: Json) -> str:
    """Name the JSON type of *value*, for a message."""
    names_: dict[type, str] = {
        type(None): "null",
        bool: "true or false",
        str: "text",
        int: "a number",
        float: "a fraction",
        list: "a list",
        dict: "a table",
    }
    return names_.get(type(value), "a date")  # TOML has dates, and rules are written in it
