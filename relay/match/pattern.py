"""
What does a pattern say?

`Reader` turns its tables into alternatives: fields that must all be met, each with the conditions of which
one is enough.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from relay.condition import Condition, Scene, Wrong, exact, listed, literal, near, shown
from relay.errors import Problem
from relay.event import Json, Trust
from relay.match.operator import OPERATORS, RESERVED, mistaken, read
from relay.match.sight import Steps, steps

ENVELOPE: Final = (
    "$source", "$type", "$verified", "$id", "$received_at", "$resource", "$failed", "$recovered", "$headers",
)  # fmt: skip
"""What an event brings besides its body; ``$headers.NAME`` is a header."""

CHOICES: Final = ("$or", "any-of")
ALSO_FIELDS: Final = frozenset({"field", "after", "before", "regex"})
"""Operators that are likely names of fields, too: a mistake says how such a field is written."""
MOST_ALTERNATIVES: Final = 1_000
"""Several ``any-of`` multiply; EventBridge stops at the same number."""


PRICES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("after", "before", "older-than", "newer-than"), 3),
    "regex": 6,
    "cidr": 15,
}
"""Steps that an operator takes for one short value; others take one."""


def _price(op: str, operand: object) -> int:
    inner = operand if isinstance(operand, list) else [operand]
    return PRICES.get(op, 1) + sum(
        _price(name, one) for item in inner if isinstance(item, Mapping) for name, one in item.items()
    )


@dataclass(frozen=True)
class Field:
    """One path, and the conditions of which one must hold."""

    path: str
    exact: frozenset[tuple[bool, object]]
    conditions: tuple[Condition, ...]
    wanted: str
    near: frozenset[str]
    literals: tuple[str, ...] = ()  #: the exact values in words, as written
    envelope: bool = False  #: it is looked up around the event, not in its body

    @cached_property
    def absent(self) -> bool:
        """Say whether the field is met where nothing stands at its path."""
        return any(condition.absent for condition in self.conditions)

    @cached_property
    def given(self) -> bool:
        """Say whether one value is not enough to judge: the scene gives some of the conditions."""
        return any(condition.given for condition in self.conditions)

    @cached_property
    def price(self) -> int:
        """Say how many steps it takes to judge one short value."""
        return 1 + sum(_price(one.op, one.operand) for one in self.conditions)

    @cached_property
    def size(self) -> int:
        """Return how large its regexes are, together."""
        return sum(one.size for one in self.conditions)

    @cached_property
    def steps(self) -> Steps:
        """Return for each position the keys that lead on, and where to: keys of the data may have dots."""
        return steps(self.path)

    def accepts(self, value: Json) -> bool:
        """Say whether one *value* is enough; the field is not `given`."""
        return exact(value) in self.exact or any(one.accepts(value) for one in self.conditions)

    def judge(self, scene: Scene) -> Callable[[Json], bool]:
        """Return what says whether one value is enough in this *scene*."""
        known, conditions = self.exact, [one.at(scene).accepts for one in self.conditions]
        if not conditions:
            return lambda value: (isinstance(value, bool), value) in known
        if not known and len(conditions) == 1:
            return conditions[0]
        return lambda value: exact(value) in known or any(accepts(value) for accepts in conditions)

    def wants(self, scene: Scene) -> str:
        """Say what is wanted in this *scene*."""
        if not self.given:
            return self.wanted
        return listed([*self.literals, *(one.at(scene).wanted for one in self.conditions)], "or")


def loose(value: Json) -> str:
    """Write *value* so that letter case, space around it and its type make no difference."""
    return (value if isinstance(value, str) else json.dumps(value)).strip().casefold()


def slip(seen: str, wanted: str) -> bool:
    """Say whether one slip of the finger makes *wanted* of *seen*: not in short words, nor in a digit."""
    if seen == wanted:
        return True
    if not min(len(seen), len(wanted)) >= 4 or abs(len(seen) - len(wanted)) > 1:
        return False
    pairs = zip(seen, wanted, strict=False)
    at = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(seen), len(wanted)))
    if (seen[at : at + 1] + wanted[at : at + 1]).isdecimal():
        return False
    swapped = seen[:at] + seen[at + 1 : at + 2] + seen[at : at + 1] + seen[at + 2 :]
    return (
        swapped == wanted or wanted[at + 1 :] in {seen[at + 1 :], seen[at:]} or wanted[at:] == seen[at + 1 :]
    )


class Reader:
    """Turns tables into alternatives of fields, and keeps the problems."""

    def __init__(self, names: Collection[str], envelope: Collection[str], *, toml: bool) -> None:
        self.names, self.envelope, self.toml = names, envelope, toml
        self.problems: list[Problem] = []

    def _wrong(self, key: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(file="", key=key, what=what, hint=hint))

    def scope(
        self, table: Mapping[str, Json], path: tuple[str, ...], key: str, seen: set[str]
    ) -> list[tuple[Field, ...]]:
        """Read one *table* of fields; *seen* are the paths that must all be met together with it."""
        if not table:
            self._wrong(key, "expected at least one field, got an empty table")
        alternatives: list[tuple[Field, ...]] = [()]
        for name, value in table.items():
            here = f"{key}.{_bare(name)}" if key else _bare(name)
            first = name.partition(".")[0]
            more: list[tuple[Field, ...]] = []
            if name in CHOICES:
                more = self._choice(value, path, here)
            elif self.names and not path and first not in self.names:
                self._wrong(here, f"there is no {shown(first)} here", near(first, self.names))
            elif isinstance(value, Mapping) and not (self.toml and OPERATORS.keys() & value):
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
    ) -> list[tuple[Field, ...]]:
        """Read a *table* of fields; within a field, its only one must not be nearly an operator."""
        only = next(iter(table)) if self.toml and path and len(table) == 1 else ""
        if hint := mistaken(only):
            out = f'a field of that name is written "{path[-1]}.{only}" = …'
            self._wrong(f"{key}.{_bare(only)}", f"{shown(only)} is no operator", f"{hint} {out}")
            return []
        return self.scope(table, path, key, seen)

    def _choice(self, value: Json, path: tuple[str, ...], key: str) -> list[tuple[Field, ...]]:
        tables = value if isinstance(value, list) else []
        found = []
        if len(tables) < 2:
            got = f"a list of {len(tables)}" if isinstance(value, list) else shown(value)
            self._wrong(key, f"expected a list of at least two tables, got {got}")
        for i, table in enumerate(tables):
            here = f"{key}[{i}]"
            if not isinstance(table, dict):
                self._wrong(here, f"expected a table, got {shown(table)}")
            elif names := [name for name in table if name in OPERATORS or name in RESERVED]:
                self._wrong(
                    f"{here}.{names[0]}",
                    "expected a field, got an operator",
                    "name = [{ … }, { … }] means or",
                )
            else:
                found += self._nest(table, path, here, set())
        return found

    def _field(self, value: Json, path: str, key: str, seen: set[str]) -> Field:
        name = path.partition(".")[0]
        envelope = bool(self.envelope) and name.startswith("$")
        if envelope:
            path = path.lower() if name == "$headers" else path
            self._name(path, key)
        if path in seen:
            self._wrong(key, f"{path} stands here twice", "put all its values into one list")
        seen.add(path)
        if not self.toml and not isinstance(value, list):
            bare = "a table" if isinstance(value, Mapping) else f"[{shown(value)}]"
            self._wrong(key, f"expected a list, got {shown(value)}", f"write {bare}")
            value = [value]
        items = value if isinstance(value, list) else [value]
        if not items:
            self._wrong(key, "expected at least one value, got an empty list")
        literals: list[Json] = []
        conditions: list[Condition] = []
        for i, item in enumerate(items):
            here = f"{key}[{i}]" if isinstance(value, list) else key
            try:
                if isinstance(item, Mapping):
                    made = read(item)
                    conditions.append(made)
                    for other in made.others:
                        if self.envelope and other.startswith("$"):
                            self._name(other, f"{here}.{made.op}")
                else:
                    literals.append(literal(item))
                if path == "$verified" and envelope:
                    self._trust(item, here)
            except Wrong as wrong:
                hint = wrong.hint
                down = wrong.down.partition(".")[0]
                if here == key and down in ALSO_FIELDS and not isinstance(value, list):
                    last = key.rpartition(".")[2]
                    field = f'a field of that name is written "{last}.{down}" = …'
                    hint = f"{hint}; {field}" if hint else field
                self._wrong(f"{here}.{wrong.down}".rstrip("."), wrong.what, hint)
        return Field(
            path=path,
            exact=frozenset(map(exact, literals)),
            conditions=tuple(conditions),
            wanted=listed([*map(shown, literals), *(one.wanted for one in conditions)], "or"),
            near=frozenset(map(loose, literals)),
            literals=tuple(map(shown, literals)),
            envelope=envelope,
        )

    def _name(self, path: str, key: str) -> None:
        """Tell of a *path* that leads to nothing that comes around an event."""
        name, _, rest = path.partition(".")
        if name not in self.envelope:
            self._wrong(key, f"there is no {shown(name)}", near(name, self.envelope))
        elif name == "$headers" and not rest:
            self._wrong(key, "expected the name of a header", "write $headers.x-name")
        elif name != "$headers" and rest:
            self._wrong(key, f"{name} is one value: there is no {shown(rest)} in it")

    def _trust(self, item: Json, key: str) -> None:
        """Tell of what ``$verified`` never is: a rule that waits for it would wait for ever."""
        known = [str(one) for one in Trust if one is not Trust.FAILED]  # no event ever has it
        asked: list[Json] = [item]
        if isinstance(item, Mapping):
            ((name, operand),) = item.items()
            if name not in {"anything-but", "exactly", "exists"}:
                self._wrong(key, f"expected one of {', '.join(known)}, got the operator {name}")
                return
            if name == "exists":
                return
            asked = operand if isinstance(operand, list) else [operand]
        for one in asked:
            if one not in known:
                hint = near(one, known) if isinstance(one, str) else ""
                self._wrong(key, f"expected one of {', '.join(known)}, got {shown(one)}", hint)


def _bare(name: str) -> str:
    """Write a key as TOML does."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
