"""
What may a pattern ask of one value?

A row of `OPERATORS` each: from what the pattern says behind the operator's name to a `Condition`. Types are
those of JSON: a text is never a number, and true is not 1.
"""

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from typing import Final, TypeAlias, TypeGuard, TypeVar

from relay.event import Json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Condition:
    """One item of a field's list."""

    accepts: Callable[[Json], bool]
    wanted: str
    absent: bool = False  #: met where nothing stands at the path
    op: str = ""  #: the operator's name…
    operand: object = None  #: …and what the pattern says behind it, for an index over many patterns


class Wrong(Exception):
    """What a pattern can't say here: *what* it is, a *hint*, and the key that leads further *down* to it."""

    def __init__(self, what: str, hint: str = "", down: str = "") -> None:
        self.what, self.hint, self.down = what, hint, down
        super().__init__(what)


def exact(value: object) -> tuple[bool, object]:
    """Make a key of *value* under which 300 is 300.0 but true is not 1."""
    return isinstance(value, bool), value


def literal(value: object) -> Json:
    """Return a *value* that is compared as it stands."""
    if value is None or isinstance(value, str | bool) or _is_number(value):
        return value
    hint = "put it in quotes" if is_time(value) else ""
    raise Wrong(f"expected text, a number, true or false, got {shown(value)}", hint)


def is_time(value: object) -> bool:
    """Say whether *value* is one of TOML's dates and times: the only values that JSON does not know."""
    return not isinstance(value, str | int | float | list | Mapping | None)


def shown(value: object) -> str:
    """Write *value* as JSON: short, and with nothing in it that could move a terminal's cursor."""
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "a table"
    if is_time(value):
        return "a date or time"
    if isinstance(value, str) and len(value) > 80:
        value = value[:79] + "…"
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def listed(texts: Iterable[str], word: str) -> str:
    """Join different *texts* by *word*, the first four of them."""
    known = list(dict.fromkeys(texts))
    more = [f"{len(known) - 4} more"] if len(known) > 4 else []
    return f" {word} ".join(known[:4] + more)


def nearest(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return the *known* word that is most like *word*, in any case; nothing if none is like it."""
    names = {name.lower(): name for name in sorted(known)}
    close = get_close_matches(word.lower(), names, n=1, cutoff=least)
    return names[close[0]] if close else ""


def near(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word nearest to *word*, or with all if they are few."""
    names = sorted(known)
    if found := nearest(word, names):
        return f"did you mean '{found}'?"
    return f"known: {', '.join(names)}" if names and len(names) <= 12 else ""


def mistaken(name: str) -> str:
    """Return a hint if a field *name*, alone in its table, is probably meant to be an operator."""
    if guessed := GUESSES.get(name.lower()):
        return f"did you mean {guessed}?"
    # Stricter than for what is wrong in any case: `exit` is a field, `exits` is not.
    found = nearest(name, OPERATORS, 0.83)
    return f"did you mean '{found}'?" if found else ""


def read(table: Mapping[str, object]) -> Condition:
    """Compile ``{ operator = … }``; raises `Wrong`."""
    if len(table) != 1:
        raise Wrong(f"expected one operator, got {' and '.join(table) or 'none'}")
    ((name, value),) = table.items()
    if name not in OPERATORS:
        raise Wrong(f'unknown operator "{name}"', mistaken(name) or near(name, OPERATORS))
    return replace(_down(name, OPERATORS[name], value), op=name, operand=value)


def _down(name: str, make: Callable[[object], T], value: object) -> T:
    try:
        return make(value)
    except Wrong as wrong:
        raise Wrong(wrong.what, wrong.hint, f"{name}.{wrong.down}".rstrip(".")) from None


# -- the operators --


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"expected text, got {shown(value)}")
    return value


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> float:
    if not _is_number(value):
        raise Wrong(f"expected a number, got {shown(value)}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"expected true or false, got {shown(value)}")
    return value


def _texts(holds: Callable[[str], bool], wanted: str) -> Condition:
    return Condition(lambda value: isinstance(value, str) and holds(value), wanted)


def _anycase(value: object) -> Condition:
    folded = _text(value).casefold()
    return _texts(lambda text: text.casefold() == folded, f"{shown(value)} in any case")


def _edge(holds: Callable[[str, str], bool], words: str) -> Callable[[object], Condition]:
    def make(value: object) -> Condition:
        if isinstance(value, Mapping) and list(value) == ["equals-ignore-case"]:
            inner = _down("equals-ignore-case", _text, value["equals-ignore-case"])
            folded = inner.casefold()
            return _texts(lambda text: holds(text.casefold(), folded), f"{words} {shown(inner)} in any case")
        wanted = _text(value)
        return _texts(lambda text: holds(text, wanted), f"{words} {shown(wanted)}")

    return make


def _wildcard(value: object) -> Condition:
    text = _text(value)
    parts, at = [""], 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair == "**":
            raise Wrong(f"expected one * at a time, got ** at position {at + 1}", "one * stands for any text")
        if pair[0] == "\\" and pair not in (r"\*", r"\\"):
            raise Wrong(rf"expected \* or \\, got {pair} at position {at + 1}")
        if pair[0] == "*":
            parts.append("")
        else:
            parts[-1] += pair[-1] if pair[0] == "\\" else pair[0]
        at += 2 if pair[0] == "\\" else 1
    return _texts(lambda seen: _like(parts, seen), f"text like {shown(text)}")


def _like(parts: list[str], text: str) -> bool:
    """Find the *parts* one after another; each as early as it goes, so that nothing is tried twice."""
    head, *middle = parts[:-1] or parts
    tail = parts[-1]
    if len(parts) == 1:
        return text == tail
    end = len(text) - len(tail)
    if not text.startswith(head) or not text.endswith(tail):
        return False
    at = len(head)
    for part in middle:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return at <= end


def _anything_but(value: object) -> Condition:
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            raise Wrong("expected one of prefix, suffix, equals-ignore-case and wildcard in this table")
        ((name, inner),) = value.items()
        items = _down(name, _some, inner)
        for item in items:
            _down(name, _text, item)
            if not item and name in ("prefix", "suffix"):
                raise Wrong('expected text, got ""', "every text starts and ends with nothing", name)
        refused = [OPERATORS[name](item) for item in items]
        wanted = f"anything but {listed((one.wanted for one in refused), 'or')}"
        return Condition(lambda seen: not any(one.accepts(seen) for one in refused), wanted)
    values = _some(value)
    if not (all(isinstance(one, str) for one in values) or all(map(_is_number, values))):
        got = " and ".join(map(shown, values[:4]))
        raise Wrong(f"expected text or numbers, not both and nothing else, got {got}")
    excluded = frozenset(map(exact, values))
    wanted = f"anything but {listed(map(shown, values), 'or')}"
    return Condition(lambda seen: exact(seen) not in excluded, wanted)


def _some(value: object) -> list[object]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise Wrong("expected at least one value, got an empty list")
    return values


_Compare: TypeAlias = Callable[[float, float], bool]
_COMPARE: Final[Mapping[str, _Compare]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _numeric(value: object) -> Condition:
    shape = 'write [">=", 1] or [">", 0, "<=", 5]'
    if not isinstance(value, list) or len(value) not in (2, 4):
        raise Wrong("expected a list of a comparison and a number, or of two such pairs", shape)
    tests: list[tuple[_Compare, float]] = []
    for name, number in zip(value[::2], value[1::2], strict=True):
        if not isinstance(name, str) or name not in _COMPARE:
            raise Wrong(f"expected one of {' '.join(_COMPARE)}, got {shown(name)}", shape)
        tests.append((_COMPARE[name], _number(number)))
    if len(value) == 4 and (
        value[0] not in (">", ">=") or value[2] not in ("<", "<=") or value[1] >= value[3]
    ):
        raise Wrong("expected a range with its lower bound first", shape)

    def holds(seen: Json) -> bool:
        return _is_number(seen) and all(compare(seen, number) for compare, number in tests)

    words = [f"{name} {shown(number)}" for name, number in zip(value[::2], value[1::2], strict=True)]
    return Condition(holds, f"a number {' and '.join(words)}")


def _cidr(value: object) -> Condition:
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise Wrong(
            f"expected a block of addresses, got {shown(text)}: {error}", "write 10.0.0.0/8"
        ) from None
    if "/" not in text:
        raise Wrong(f"expected a block of addresses, got {shown(text)}", "write 10.0.0.0/8")

    def holds(seen: str) -> bool:
        try:
            return ip_address(seen) in network
        except ValueError:
            return False

    return _texts(holds, f"an address in {network}")


def _exists(value: object) -> Condition:
    there = _flag(value)
    return Condition(lambda _: there, "any value" if there else "nothing", absent=not there)


def _is_null(value: object) -> Condition:
    null = _flag(value)
    return Condition(lambda seen: (seen is None) is null, "null" if null else "any value but null")


OPERATORS: Final[Mapping[str, Callable[[object], Condition]]] = {
    "prefix": _edge(str.startswith, "text starting with"),
    "suffix": _edge(str.endswith, "text ending with"),
    "equals-ignore-case": _anycase,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "exists": _exists,
    "numeric": _numeric,
    "cidr": _cidr,
    "is-null": _is_null,
}

GUESSES: Final[Mapping[str, str]] = {
    "not": "'anything-but'",
    "regex": "'wildcard'",
    "contains": "'wildcard'",
    "in": 'a list, as in ["a", "b"]',
    "equals": "the value alone",
    **dict.fromkeys(("gt", "gte", "lt", "lte"), "'numeric'"),
}
"""Operators of other languages, and what there is instead."""
