"""
Which data does a pattern meet, and if not, why?

The language is that of EventBridge rules: all fields must meet, and for each field one value of its list. A
path looks through arrays: any element will do, but all fields of one match come from the same element of each
array. Only values are seen: an object is none, and ``[]`` is as good as absent; null is a value.

    status = "failed"                                a single value stands for a list of one
    error.code = [500, { numeric = [">=", 502] }]    dotted keys, nested tables and "error.code" are the same
    parent = [{ exists = false }, { is-null = true }]
    any-of = [{ kind = "job" }, { size.bytes = { numeric = ["<", 9] } }]

A table as a field's value is an operator if its only key is an operator's name, else it nests. A field that
is itself called like an operator, or nearly so, is written with its parent in one key:
``"filter.prefix" = "x"``.
"""

import enum
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from relay.condition import OPERATORS, Condition, Wrong, exact, listed, literal, mistaken, near, read, shown
from relay.errors import ConfigError, Problem
from relay.event import Json

CHOICES: Final = ("$or", "any-of")
MOST_ALTERNATIVES: Final = 1_000
"""Several ``any-of`` multiply; EventBridge stops at the same number."""
MOST_STEPS: Final = 1 << 18
"""Steps through arrays for one answer, less than a second's worth: three fields of 25,000 objects, say."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The first condition that failed, in words."""

    path: str
    wanted: str
    saw: str
    near: bool = False  #: it differs only in letter case, in space around it or in type: "1" for 1

    def __str__(self) -> str:
        return f"{self.path}: wanted {self.wanted}, saw {self.saw}"


class Pattern:
    """
    A pattern, compiled once; raises `ConfigError` with all its problems, keyed within the pattern.

    With *names*, the data has no others at its top, and a pattern that asks for one is wrong.
    """

    __slots__ = ("alternatives",)

    def __init__(self, pattern: Mapping[str, Json], names: Collection[str] = ()) -> None:
        if not isinstance(pattern, Mapping):
            raise ConfigError([Problem(file="", what=f"expected a table, got {shown(pattern)}")])
        reader = _Reader(names)
        alternatives = reader.scope(pattern, (), "", set())
        if reader.problems:
            raise ConfigError(reader.problems)
        self.alternatives = tuple(map(_Alternative, alternatives))

    def meets(self, data: Json) -> bool:
        """Say whether *data* meets the pattern; data too tangled to judge (`MOST_STEPS`) does not."""
        walk = _Walk()
        try:
            return any(alternative.failed(data, walk) is None for alternative in self.alternatives)
        except _TooMuch:
            return False

    def miss(self, data: Json) -> Miss | None:
        """Say which condition failed first, in the alternative that came furthest; None: *data* meets."""
        walk, furthest, failed = _Walk(), self.alternatives[0], 0
        try:
            for alternative in self.alternatives:
                index = alternative.failed(data, walk)
                if index is None:
                    return None
                if index > failed:
                    furthest, failed = alternative, index
            return _explain(furthest.fields[failed], data)
        except _TooMuch:
            first = furthest.fields[failed]
            return Miss(first.path, first.wanted, "more array elements than relay looks through")


# -- what a compiled pattern consists of --


class _Sight(enum.Enum):
    """What may stand at a path instead of one value."""

    NOTHING = "nothing"
    TANGLED = "arrays on the way, or one path written in two ways"


@dataclass(frozen=True)
class _Field:
    """One path, and the conditions of which one must hold."""

    path: str
    exact: frozenset[tuple[bool, object]]
    conditions: tuple[Condition, ...]
    wanted: str
    near: frozenset[str]

    @cached_property
    def absent(self) -> bool:
        return any(condition.absent for condition in self.conditions)

    @cached_property
    def steps(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """From each position: the keys that lead on, and where to. Keys of the data may have dots, too."""
        names = self.path.split(".")
        ends = range(len(names) + 1)
        return tuple(tuple((".".join(names[i:j]), j) for j in ends[i + 1 :]) for i in ends)

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        names = self.path.split(".")
        return tuple(".".join(names[:i]) for i in range(len(names) + 1))

    def accepts(self, value: Json) -> bool:
        return exact(value) in self.exact or any(one.accepts(value) for one in self.conditions)

    def look(self, node: Json) -> Json | _Sight:
        """Return the one value at the path, if plain look-ups tell."""
        at = 0
        while isinstance(node, dict):
            keys = [step for step in self.steps[at] if step[0] in node]
            if len(keys) != 1:
                return _Sight.TANGLED if keys else _Sight.NOTHING
            key, at = keys[0]
            node = node[key]
        if isinstance(node, list):
            return _Sight.TANGLED
        return _Sight.NOTHING if self.steps[at] else node


class _Alternative:
    """Fields that must all be met, in the order written."""

    __slots__ = ("fields",)

    def __init__(self, fields: tuple[_Field, ...]) -> None:
        self.fields = fields

    def failed(self, data: Json, walk: "_Walk") -> int | None:
        """Return the index of the first field that is not met."""
        tangled: list[int] = []
        for index, one in enumerate(self.fields):
            value = one.look(data)
            if value is _Sight.TANGLED:
                tangled.append(index)
            elif not (one.absent if isinstance(value, _Sight) else one.accepts(value)):
                return index
        return self._search(data, walk, tangled) if tangled else None

    def _search(self, data: Json, walk: "_Walk", tangled: list[int]) -> int | None:
        """
        Take the fields in the order of their paths, and keep every choice of elements that met all so far.

        A choice is forgotten once no later path leads through its array, and equal choices are one. So there
        are as many as an array has elements, not one for each combination of elements of all arrays.
        """
        tangled = sorted(tangled, key=lambda index: self.fields[index].path)
        choices: set[_Choice] = {frozenset()}
        for n, index in enumerate(tangled):
            one = self.fields[index]
            live = {prefix for later in tangled[n + 1 :] for prefix in self.fields[later].prefixes}
            kept: set[_Choice] = set()
            for choice in choices:
                groups = walk.groups(data, one, choice)
                if not groups and one.absent:
                    kept.add(walk.lift(choice, live))
                for tip, values in groups:
                    if any(map(one.accepts, values)):
                        kept.add(walk.lift(choice if tip is None else choice | {tip}, live))
                        if not live:
                            return None
            if not kept:
                return index
            choices = kept
        return None


_Tip: TypeAlias = tuple[int, int]
"""The innermost array that something stands in, by number, and the element."""

_Choice: TypeAlias = frozenset[_Tip]
"""Elements chosen so far; those around them are chosen with them."""

_Group: TypeAlias = tuple[_Tip | None, list[Json]]
"""Values that stand in the same element of every array."""


_NESTS: Final = (dict, list)


class _TooMuch(Exception):
    """The data asks for more steps than `MOST_STEPS`."""


@dataclass(slots=True)
class _Walk:
    """One way through one piece of data, which numbers the arrays it comes through."""

    left: int = MOST_STEPS
    numbers: dict[tuple[_Tip | None, tuple[str, ...]], int] = field(default_factory=dict)
    around: list[tuple[_Tip | None, str]] = field(default_factory=list)  #: of each array: its tip and path
    hollow: str = "nothing"  #: what stands at the path, if no value does

    def groups(self, data: Json, one: _Field, choice: _Choice) -> list[_Group]:
        """Collect the values at a field's path that go with the *choice*, each group with its tip."""
        chosen: dict[int, int] = {}
        for start in choice:
            tip: _Tip | None = start
            while tip is not None:
                chosen[tip[0]] = tip[1]
                tip = self.around[tip[0]][0]
        found: list[_Group] = []

        def down(node: Json, at: int, tip: _Tip | None, keys: tuple[str, ...]) -> None:
            steps = one.steps[at]
            self.left -= 1
            if self.left < 0:
                raise _TooMuch
            if isinstance(node, dict):
                for key, to in steps:
                    if key in node:
                        down(node[key], to, tip, (*keys, key))
                self.hollow = self.hollow if steps else "an object"
            elif isinstance(node, list):
                number = self._number(tip, keys, one.prefixes[at])
                if not steps:
                    # Values in an array stand in no element of it: two of them never exclude each other.
                    plain: list[Json] = [value for value in node if not isinstance(value, _NESTS)]
                    found.extend([(tip, plain)] if plain else [])
                    self.left -= len(plain) // 8
                    self.hollow = "an empty list"
                chosen_here = chosen.get(number)
                for i in range(len(node)) if chosen_here is None else (chosen_here,):
                    if isinstance(inner := node[i], _NESTS):
                        down(inner, at, (number, i), ())
            elif not steps:
                found.append((tip, [node]))

        down(data, 0, None, ())
        return found

    def _number(self, tip: _Tip | None, keys: tuple[str, ...], path: str) -> int:
        """Tell arrays apart by the element around them, and the keys since, as the data has them."""
        number = self.numbers.setdefault((tip, keys), len(self.around))
        if number == len(self.around):
            self.around.append((tip, path))
        return number

    def lift(self, choice: _Choice, live: set[str]) -> _Choice:
        """Forget what was chosen in arrays that no *live* path leads through."""
        return frozenset(tip for start in choice if (tip := self._lifted(start, live)) is not None)

    def _lifted(self, tip: _Tip | None, live: set[str]) -> _Tip | None:
        while tip is not None and self.around[tip[0]][1] not in live:
            tip = self.around[tip[0]][0]
        return tip


def _explain(one: _Field, data: Json) -> Miss:
    walk = _Walk()
    values = [value for _, group in walk.groups(data, one, frozenset()) for value in group]
    alone = any(map(one.accepts, values)) or (one.absent and not values)
    wanted = f"{one.wanted}, in the same array element as the rest" if alone else one.wanted
    near = not alone and any(_loose(value) in one.near for value in values)
    return Miss(one.path, wanted, listed(map(shown, values), "and") or walk.hollow, near)


def _loose(value: Json) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).strip().casefold()


# -- reading a pattern --


class _Reader:
    """Turns tables into alternatives of fields, and keeps the problems."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.problems: list[Problem] = []

    def _wrong(self, key: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(file="", key=key, what=what, hint=hint))

    def scope(
        self, table: Mapping[str, Json], path: tuple[str, ...], key: str, seen: set[str]
    ) -> list[tuple[_Field, ...]]:
        """Read one *table* of fields; *seen* are the paths that must all be met together with it."""
        if not table:
            self._wrong(key, "expected at least one field, got an empty table")
        alternatives: list[tuple[_Field, ...]] = [()]
        for name, value in table.items():
            here = f"{key}.{_bare(name)}" if key else _bare(name)
            first = name.partition(".")[0]
            more: list[tuple[_Field, ...]] = []
            if name in CHOICES:
                more = self._choice(value, path, here)
            elif self.names and not path and first not in self.names:
                self._wrong(here, f"there is no {shown(first)} here", near(first, self.names))
            elif isinstance(value, Mapping) and not OPERATORS.keys() & value:
                more = self._nest(value, (*path, name), here, seen)
            elif isinstance(value, Mapping) and len(value) > 1:
                what = f"expected one operator or only fields, got {' and '.join(value)}"
                which = min(OPERATORS.keys() & value)
                self._wrong(here, what, f'[{{ … }}, {{ … }}] means or; "{name}.{which}" = … is a field')
            else:
                more = [(self._field(value, ".".join((*path, name)), here, seen),)]
            if len(alternatives) * len(more) > MOST_ALTERNATIVES:
                self._wrong(
                    here, f"expected at most {MOST_ALTERNATIVES} alternatives in all", "they multiply"
                )
                break
            alternatives = [first + then for first in alternatives for then in more]
        return alternatives

    def _nest(
        self, table: Mapping[str, Json], path: tuple[str, ...], key: str, seen: set[str]
    ) -> list[tuple[_Field, ...]]:
        """Read a *table* of fields; within a field, its only one must not be nearly an operator."""
        only = next(iter(table)) if path and len(table) == 1 else ""
        if hint := mistaken(only):
            out = f'a field of that name is written "{path[-1]}.{only}" = …'
            self._wrong(f"{key}.{_bare(only)}", f"{shown(only)} is no operator", f"{hint} {out}")
            return []
        return self.scope(table, path, key, seen)

    def _choice(self, value: Json, path: tuple[str, ...], key: str) -> list[tuple[_Field, ...]]:
        tables = value if isinstance(value, list) else []
        found = []
        if len(tables) < 2:
            self._wrong(key, f"expected a list of at least two tables, got {shown(value)}")
        for i, table in enumerate(tables):
            here = f"{key}[{i}]"
            if not isinstance(table, dict):
                self._wrong(here, f"expected a table, got {shown(table)}")
            elif names := [name for name in table if name in OPERATORS]:
                self._wrong(
                    f"{here}.{names[0]}",
                    "expected a field, got an operator",
                    "name = [{ … }, { … }] means or",
                )
            else:
                found += self._nest(table, path, here, set())
        return found

    def _field(self, value: Json, path: str, key: str, seen: set[str]) -> _Field:
        if path in seen:
            self._wrong(key, f"{path} stands here twice", "put all its values into one list")
        seen.add(path)
        items = value if isinstance(value, list) else [value]
        if not items:
            self._wrong(key, "expected at least one value, got an empty list")
        literals: list[Json] = []
        conditions: list[Condition] = []
        for i, item in enumerate(items):
            try:
                if isinstance(item, Mapping):
                    conditions.append(read(item))
                else:
                    literals.append(literal(item))
            except Wrong as wrong:
                here = f"{key}[{i}]" if isinstance(value, list) else key
                self._wrong(f"{here}.{wrong.down}".rstrip("."), wrong.what, wrong.hint)
        return _Field(
            path=path,
            exact=frozenset(map(exact, literals)),
            conditions=tuple(conditions),
            wanted=listed([*map(shown, literals), *(one.wanted for one in conditions)], "or"),
            near=frozenset(map(_loose, literals)),
        )


def _bare(name: str) -> str:
    """Write a key as TOML does."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
