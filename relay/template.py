"""
How is a text with holes filled?

``{path}`` stands for a value, ``{path|"x"}`` for one with a default, ``{path|first|upper}`` for what filters
make of it; ``{{`` and ``}}`` for braces.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import orjson

from relay.body import Unparsable, parse
from relay.condition import near
from relay.errors import Unfit
from relay.event import Json
from relay.filter import Gap, Misused, Step, kind, plain, step

__all__ = ["Get", "Misused", "at", "fill", "kind", "names", "needed", "pieces", "plain", "text"]

Get: TypeAlias = Callable[[str], Json]
"""Look a placeholder's path up; raises Unfit where there is nothing."""

LONGEST: Final = 65_536
"""Bytes that one template may become."""

ENVELOPE: Final[Mapping[str, str]] = {
    "$source": r"\$source",
    "$type": r"\$type",
    "$verified": r"\$verified",
    "$id": r"\$id",
    "$received_at": r"\$received_at",
    "$resource": r"\$resource",
    "$headers.NAME": r"\$headers\.[^\s{}|\"]+",
    "$count": r"\$count",
    "$events": r"\$events(\..+)?",
}
"""What a path may begin with a $ for: what relay knows of an event besides its body."""

_OURS: Final = re.compile("|".join(ENVELOPE.values()))
_LITERAL: Final = re.compile(r"[^{}]+|\{\{|\}\}")
_PATH: Final = re.compile(r"[^\s{}|\"]+")
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,8}")

_ONE: Final = r'(?:"(?:[^"\\]++|\\.)*+"|true|false|null|-?[0-9][0-9.eE+-]*+)'
_SAID: Final = rf"{_ONE}|\[ *(?:{_ONE}(?: *, *{_ONE})*+ *)?\]"
_STEP: Final = re.compile(
    rf" *\| *(?:(?P<default>{_SAID})|(?P<filter>[A-Za-z_-][\w-]*+)(?:: *(?P<argument>{_SAID}))?)(?=[ |}}])",
    re.DOTALL,
)
_ESCAPED: Final = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r"})
"""In TOML's double quotes ``\n`` is a line break already, and JSON has none in a text."""


@dataclass(frozen=True, slots=True)
class _Default:
    """Stands in for what is missing or null up to here."""

    value: Json


@dataclass(frozen=True, slots=True)
class _Hole:
    path: str
    steps: tuple[Step | _Default, ...] = ()

    @property
    def called(self) -> str:
        """Name it in a message."""
        return "|".join([self.path, *(one.name for one in self.steps if isinstance(one, Step))])

    def value(self, get: Get) -> Json:
        """Look the path up, and take what is there through all steps. Raises Unfit."""
        try:
            value, gap = get(self.path), None
        except Unfit as missing:
            value, gap = None, missing
        return _through(self.steps, value, gap, self.path) if self.steps or gap else value


def _through(steps: Iterable[Step | _Default], value: Json, gap: Unfit | None, called: str) -> Json:
    """Take *value*, or the *gap* where none is, through *steps*. Raises Unfit."""
    for one in steps:
        if isinstance(one, _Default):
            if gap is not None or value is None:
                value, gap = one.value, None
            continue
        if gap is None:
            try:
                value = one.run(value, called)
            except Gap as found:
                gap = found
        called = f"{called}|{one.name}"
    if gap is not None:
        raise gap
    return value


# -- reading --


@lru_cache(maxsize=16_384)
def _read(template: str) -> tuple[str | _Hole, ...]:
    """Take *template* apart. Raises Misused."""
    if _size(template) > LONGEST:
        raise Misused(f"longer than {LONGEST} bytes")
    found: list[str | _Hole] = []
    here = 0
    while here < len(template):
        if literal := _LITERAL.match(template, here):
            found.append({"{{": "{", "}}": "}"}.get(literal[0], literal[0]))
            here = literal.end()
        elif template[here] == "}" or template.find("}", here) < 0:
            raise Misused(f"a lone {template[here]!r}; write {template[here] * 2!r} for a brace")
        else:
            hole, here = _hole(template, here)
            found.append(hole)
    for one in found:
        if isinstance(one, _Hole):
            _sound(one, alone=len(found) == 1)
    return tuple(found)


def _hole(template: str, start: int) -> tuple[_Hole, int]:
    """Read the placeholder whose brace stands at *start*; return where the text goes on, too."""
    path = _PATH.match(template, start + 1)
    here = path.end() if path else start + 1
    steps: list[Step | _Default] = []
    while path and (found := _STEP.match(template, here)):
        default, name, argument = found.groups()
        told = [_literal(said) for said in (default, argument) if said is not None]
        steps.append(step(name, *told) if name else _Default(*told))
        here = found.end()
    if path and template.startswith("}", here):
        return _Hole(_path(path[0]), tuple(steps)), here + 1
    end = template.find("}", here)
    got = template[start : end + 1 if end >= 0 else None][:80]
    if steps or (path and template[here:].lstrip(" ").startswith("|")):
        hint = 'as in {path|"x"} or {path|join:", "}'
        raise Misused(f"expected a default or a filter behind each | and then a brace, got {got!r}", hint)
    raise Misused(f"expected a path between the braces, as in {{context.jobId}}, got {got!r}")


def _path(path: str) -> str:
    if "" in path.split("."):
        raise Misused(f"a step of {path!r} is empty")
    if path.startswith("$") and not _OURS.fullmatch(path):
        raise Misused(f"there is no {path!r}", near(path, ENVELOPE))
    # Headers are kept by their lower-case names.
    return path.lower() if path.startswith("$headers.") else path


def _literal(said: str) -> Json:
    try:
        return parse(said.translate(_ESCAPED).encode())
    except (Unparsable, UnicodeEncodeError):
        raise Misused(f"{said[:60]} can't be read as JSON") from None


def _sound(hole: _Hole, *, alone: bool) -> None:
    """Check that each step can follow the one before it. Raises Misused."""
    before, sure = "", False
    for number, one in enumerate(hole.steps):
        if isinstance(one, Step):
            if before and str not in one.takes:
                raise Misused(f"{one.name} wants a list, and {before} makes a text")
            before = one.name if one.gives is str else before
            sure = sure and one.gives is not None  # the first of an empty list may be missing again
        elif sure:
            raise Misused("behind a default there is nothing for another default to do")
        else:
            sure = one.value is not None
            try:
                value = _through(hole.steps[number + 1 :], one.value, None, "the default")
                if not alone:
                    plain(value, "the default")
            except Unfit as flaw:
                raise Misused(str(flaw)) from None


def pieces(template: str) -> tuple[tuple[str, bool], ...]:
    """
    Split *template* into (text or path, is a hole) pairs.

    Raises Misused, a ValueError fit for a person to read, where a brace stands alone, a hole is empty, or a
    filter or its argument can't be.
    """
    return tuple((one, False) if isinstance(one, str) else (one.path, True) for one in _read(template))


def names(template: Json) -> Iterator[str]:
    """Yield every placeholder's path in a tree of templates. Raises ValueError as `pieces` does."""
    return (hole.path for hole in _holes(template))


def needed(template: Json) -> Iterator[str]:
    """Yield the paths for which no default stands in. Raises ValueError as `pieces` does."""
    return (
        hole.path for hole in _holes(template) if not any(isinstance(one, _Default) for one in hole.steps)
    )


def _holes(template: Json) -> Iterator[_Hole]:
    match template:
        case str():
            yield from (one for one in _read(template) if isinstance(one, _Hole))
        case list():
            for item in template:
                yield from _holes(item)
        case dict():
            for item in template.values():
                yield from _holes(item)
        case _:
            return


# -- filling --


def at(data: Json, path: str) -> Json:
    """
    Return what stands at a dotted *path* of *data*. Raises Unfit.

    A number picks from a list, from its end if negative; ``*`` takes the rest of the path in each element,
    and gives one flat list.
    """
    return _reach(data, path.split("."), ())[0]


def _reach(here: Json, steps: list[str], past: tuple[str, ...]) -> tuple[Json, bool]:
    """Return what stands at *steps*, and if it is the list of a ``*``."""
    number = 0
    while number < len(steps):
        one = steps[number]
        if isinstance(here, dict) and (taken := _taken(here, steps[number:])):
            here = here[".".join(steps[number : number + taken])]
            number += taken - 1
        elif isinstance(here, list) and _NUMBER.fullmatch(one) and -len(here) <= int(one) < len(here):
            here = here[int(one)]
        elif isinstance(here, list) and one == "*":
            found: list[Json] = []
            for index, item in enumerate(here):
                value, several = _reach(item, steps[number + 1 :], (*past, *steps[:number], str(index)))
                found += value if several and isinstance(value, list) else [value]
            return found, True
        else:
            raise Unfit(f"{'.'.join([*past, *steps])} is missing")
        number += 1
    return here, False


def _taken(here: dict[str, Json], steps: list[str]) -> int:
    """Return how many *steps* lead to the next value: a key of the data may have dots, as in patterns."""
    return next((end for end in range(1, len(steps) + 1) if ".".join(steps[:end]) in here), 0)


def text(template: str, get: Get, encode: Callable[[str], str] = str) -> str:
    """Fill *template* as text, each value through *encode*. Raises Unfit."""
    found: list[str] = []
    size = 0
    for one in _read(template):
        found.append(one if isinstance(one, str) else encode(plain(one.value(get), one.called)))
        size += _size(found[-1])
        if size > LONGEST:
            raise Unfit(f"{template[:60]!r} becomes longer than {LONGEST} bytes")
    return "".join(found)


def fill(template: Json, get: Get) -> Json:
    """Fill a tree of templates; a text that is one hole and no more keeps the value's type. Raises Unfit."""
    match template:
        case str():
            match _read(template):
                case (_Hole() as hole,):
                    return _short(hole.value(get), hole.called)
                case _:
                    return text(template, get)
        case list():
            return [fill(item, get) for item in template]
        case dict():
            return {key: fill(item, get) for key, item in template.items()}
        case _:
            return template


def _short(value: Json, called: str) -> Json:
    """Return *value* if it is not too long. Raises Unfit."""
    match value:
        case str():
            size = _size(value)
        case list() | dict():
            try:
                size = len(orjson.dumps(value))
            except orjson.JSONEncodeError:
                raise Unfit(f"{called} holds what can be no part of JSON") from None
        case _:
            size = 0
    if size > LONGEST:
        raise Unfit(f"{called} is longer than {LONGEST} bytes")
    return value


def _size(said: str) -> int:
    return len(said.encode("utf-8", "surrogatepass"))
