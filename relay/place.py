"""Where in a TOML text does a key stand?  tomllib keeps no lines; an error without one is half an error."""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("rule", 0, "when", "topic")``."""

_KEY: Final = re.compile(r"""[ \t]*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([\w-]+))[ \t]*""", re.ASCII)
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]+"  # a date and a time with a blank between them
    r"|[^\s,\]}#]+",
    re.DOTALL,
)


def places(text: str) -> dict[Path, int]:
    """Map every key and list item of *text*, which tomllib accepts, to its line, counted from 1."""
    return _Scanner(text).scan()


def line(found: Mapping[Path, int], path: Path) -> int | None:
    """Return the line of *path*, or of the nearest key around it; None where nothing of it was written."""
    for end in range(len(path), 0, -1):
        if path[:end] in found:
            return found[path[:end]]
    return None


def written(path: Path) -> str:
    """Say *path* as people write it, items counted from 1: ``rule[2].when.status``."""
    said = ""
    for step in path:
        match step:
            case int():
                said += f"[{step + 1}]"
            case str():
                said += ("." if said else "") + (step if re.fullmatch(r"[\w-]+", step) else f'"{step}"')
    return said


class _Scanner:
    """Goes through the text once and checks nothing: tomllib has done that."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.found: dict[Path, int] = {}
        self.lengths: dict[Path, int] = {}  # of arrays of tables, so far

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self.blank() < len(self.text):
            table = self.header() if self.text[self.at] == "[" else self.pair(table)
        return self.found

    def blank(self) -> int:
        """Go over space, line ends and comments."""
        if match := _BLANK.match(self.text, self.at):
            self.at = match.end()
        return self.at

    def note(self, path: Path) -> None:
        """Keep the first line where *path*, and each table around it, is spoken of."""
        here = bisect_right(self.starts, self.at)
        for end in range(1, len(path) + 1):
            self.found.setdefault(path[:end], here)

    def key(self) -> Path:
        """Read a dotted key."""
        steps: list[str] = []
        while match := _KEY.match(self.text, self.at):
            basic, literal, bare = match.groups()
            if basic is not None:
                bare = tomllib.loads(f'k = "{basic}"')["k"]
            steps.append(bare if literal is None else literal)
            self.at = match.end()
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
        return tuple(steps)

    def header(self) -> Path:
        """Read ``[table]`` or ``[[item]]``, and return its path."""
        start, double = self.at, self.text.startswith("[[", self.at)
        self.at += 1 + double
        keys = self.key()
        end, self.at = self.at + 1 + double, start
        path: Path = ()
        for number, step in enumerate(keys, 1):
            path = (*path, step)
            if double and number == len(keys):
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        self.note(path)
        self.at = end
        return path

    def pair(self, table: Path) -> Path:
        """Read ``key = value``, and return the table that goes on after it."""
        start = self.at
        keys = self.key()
        end, self.at = self.at + 1, start
        path = (*table, *keys)
        self.note(path)
        self.at = end
        self.value(path)
        return table

    def value(self, path: Path) -> None:
        """Go over one value; the items and keys in it are noted."""
        self.blank()
        match self.text[self.at]:
            case "[":
                self.items(path)
            case "{":
                self.inline(path)
            case _:
                if match := _SCALAR.match(self.text, self.at):
                    self.at = match.end()

    def items(self, path: Path) -> None:
        self.at += 1
        count = 0
        while self.text[self.blank()] != "]":
            self.note((*path, count))
            self.value((*path, count))
            count += 1
            if self.text[self.blank()] == ",":
                self.at += 1
        self.at += 1

    def inline(self, path: Path) -> None:
        self.at += 1
        while self.text[self.blank()] != "}":
            self.pair(path)
            if self.text[self.blank()] == ",":
                self.at += 1
        self.at += 1
