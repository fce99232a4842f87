"""
What may a pattern ask of one value?

A row of `OPERATORS` each: from what the pattern says behind the operator's name to a `Condition`. Types are
those of JSON: a text is never a number, and true is not 1. A block of addresses has at least two, as in
EventBridge; a regex must meet the whole text, as a wildcard must: write ``.*x.*`` to look for x.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeAlias, TypeVar

import re2  # type: ignore[import-untyped]

from relay.condition import (
    Condition,
    Scene,
    Wrong,
    exact,
    is_number,
    listed,
    literal,
    near,
    nearest,
    scenic,
    shown,
)
from relay.event import Json
from relay.match.sight import Sight, only, steps
from relay.moment import age, later_or_earlier

T = TypeVar("T")


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
        raise Wrong(
            f'unknown operator "{name}"',
            mistaken(name) or near(name, OPERATORS) or f"known: {', '.join(sorted(OPERATORS))}",
        )
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


LARGEST: Final = 10**308


def _number(value: object) -> float:
    if not is_number(value):
        raise Wrong(f"expected a number, got {shown(value)}")
    if not abs(value) < LARGEST:
        raise Wrong("expected a number that fits a double, got a larger one")
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


_BUT: Final = ("prefix", "suffix", "equals-ignore-case", "wildcard", "regex", "cidr")


def _anything_but(value: object) -> Condition:
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _BUT:
            close = nearest(next(iter(value), ""), _BUT)
            raise Wrong(
                f"expected one of {', '.join(_BUT)} in this table", close and f"did you mean '{close}'?"
            )
        ((name, inner),) = value.items()
        items = _down(name, _some, inner)
        for item in items:
            _down(name, _text, item)
            if not item and name in ("prefix", "suffix"):
                raise Wrong('expected text, got ""', "every text starts and ends with nothing", name)
        refused = [_down(name, OPERATORS[name], item) for item in items]
        wanted = f"anything but {listed((one.wanted for one in refused), 'or')}"
        size = sum(one.size for one in refused)
        return Condition(lambda seen: not any(one.accepts(seen) for one in refused), wanted, size=size)
    values = _some(value)
    if not (all(isinstance(one, str) for one in values) or all(map(is_number, values))):
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


_Compare: TypeAlias = Callable[[Any, Any], bool]
_COMPARE: Final[Mapping[str, _Compare]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ANY_TWO: Final[Mapping[str, _Compare]] = {**_COMPARE, "!=": operator.ne}


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
        return is_number(seen) and all(compare(seen, number) for compare, number in tests)

    words = [f"{name} {shown(number)}" for name, number in zip(value[::2], value[1::2], strict=True)]
    return Condition(holds, f"a number {' and '.join(words)}")


def _cidr(value: object) -> Condition:
    text, block = _text(value), "write 10.0.0.0/8"
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise Wrong(f"expected a block of addresses, got {shown(text)}: {error}", block) from None
    if text.partition("/")[2] != str(network.prefixlen):
        raise Wrong(f"expected a block of addresses, got {shown(text)}", block)
    if network.num_addresses == 1:
        one = f"one address is a text: {shown(text.partition('/')[0])}"
        raise Wrong(f"expected a block of more than one address, got {shown(text)}", one)

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


def _exactly(value: object) -> Condition:
    wanted = _text(value)
    return _texts(lambda text: text == wanted, shown(wanted))


LONGEST_REGEX: Final = 1_000
MOST_STATES: Final = 5_000
"""Of a regex's program: at worst, each character of a text costs a look at each of them."""


def _regex(value: object) -> Condition:
    """Read a regular expression of RE2: it must meet the whole text, as a wildcard must."""
    text = _text(value)
    if len(text) > LONGEST_REGEX:
        raise Wrong(f"expected at most {LONGEST_REGEX} characters, got {len(text)}")
    options = re2.Options()
    options.log_errors, options.never_capture, options.max_mem = False, True, 1 << 20
    options.dot_nl = True  # a text of several lines is one text, as it is to a wildcard
    try:
        compiled = re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        why = (
            error.args[0].decode(errors="replace")
            if error.args and isinstance(error.args[0], bytes)
            else error
        )
        raise Wrong(f"expected a regular expression, got {shown(text)}: {why}", "RE2 reads it") from None
    if compiled.programsize > MOST_STATES:
        raise Wrong(
            f"expected a smaller regular expression, got {shown(text)}", "repeat less: {100}, not {1000}"
        )

    def holds(seen: str) -> bool:
        try:
            return compiled.fullmatch(seen) is not None
        except UnicodeEncodeError:  # half a surrogate pair: no text
            return False

    return replace(_texts(holds, f"text like the regex {shown(text)}"), size=compiled.programsize)


def _all_of(value: object) -> Condition:
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else shown(value)
        raise Wrong(
            f"expected a list of conditions, got {what}", 'write [{ prefix = "a" }, { suffix = "z" }]'
        )
    parts = [_part(number, item) for number, item in enumerate(value)]
    others = tuple(path for one in parts for path in one.others)
    return replace(_all(parts), others=others, size=sum(one.size for one in parts))


def _part(number: int, item: object) -> Condition:
    try:
        if isinstance(item, Mapping):
            made = read(item)
        else:
            same = exact(literal(item))
            made = Condition(lambda seen: exact(seen) == same, shown(item))
    except Wrong as wrong:
        raise Wrong(wrong.what, wrong.hint, f"[{number}].{wrong.down}".rstrip(".")) from None
    if made.absent:
        beside = "beside all-of it means or: [{ all-of = [ … ] }, { exists = false }]"
        raise Wrong("expected a condition that a value can meet, got exists = false", beside, f"[{number}]")
    return made


def _all(parts: list[Condition]) -> Condition:
    wanted = listed((one.wanted for one in parts), "and")
    if any(one.given for one in parts):
        return scenic(lambda scene: _all([one.at(scene) for one in parts]), wanted)
    return Condition(lambda seen: all(one.accepts(seen) for one in parts), wanted)


def _field(value: object) -> Condition:
    shape = 'write ["<", "max_attempts"]'
    if not isinstance(value, list) or len(value) != 2:
        raise Wrong("expected a list of a comparison and another field's path", shape)
    name, path = value
    if not isinstance(name, str) or name not in _ANY_TWO:
        raise Wrong(f"expected one of {' '.join(_ANY_TWO)}, got {shown(name)}", shape)
    if not isinstance(path, str) or not path:
        raise Wrong(f'expected a path such as "data.count", got {shown(path)}', shape)
    compare, wanted = _ANY_TWO[name], f"a value {name} that of {path}"
    plain, enveloped = steps(path), steps(path.lower())

    def given(scene: Scene) -> Condition:
        root = scene.root(path)
        other = only(plain if root is scene.data else enveloped, root)
        if isinstance(other, str):
            return _texts(lambda seen: compare(seen, other), f"{wanted}, {shown(other)}")
        if not isinstance(other, Sight) and is_number(other):
            return Condition(
                lambda seen: is_number(seen) and compare(seen, other), f"{wanted}, {shown(other)}"
            )
        there = "which is not there" if other is Sight.NOTHING else "which is neither text nor a number"
        return Condition(lambda _: False, f"{wanted}, {there}")

    return replace(scenic(given, wanted), others=(path,))


OPERATORS: Final[Mapping[str, Callable[[object], Condition]]] = {
    "exactly": _exactly,
    "prefix": _edge(str.startswith, "text starting with"),
    "suffix": _edge(str.endswith, "text ending with"),
    "equals-ignore-case": _anycase,
    "wildcard": _wildcard,
    "regex": _regex,
    "anything-but": _anything_but,
    "exists": _exists,
    "is-null": _is_null,
    "numeric": _numeric,
    "cidr": _cidr,
    "all-of": _all_of,
    "field": _field,
    "after": later_or_earlier(operator.gt, "after"),
    "before": later_or_earlier(operator.lt, "before"),
    "older-than": age(operator.lt, "more than"),
    "newer-than": age(operator.gt, "less than"),
}

RESERVED: Final = frozenset((
    "=", "<", "<=", ">", ">=", "not-wildcard", "not-equals-ignore-case", "date-after", "date-on-or-after",
    "date-before", "date-on-or-before", "in-date-range", "ip-address-in-range", "ip-address-not-in-range",
))  # fmt: skip
"""EventBridge keeps these words for itself in a choice, besides its operators."""

GUESSES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("not", "ne", "neq", "!=", "not-in", "not-equals"), "'anything-but'"),
    **dict.fromkeys(("regexp", "match", "matches", "pattern", "re"), "'regex'"),
    **dict.fromkeys(("contains", "like", "glob"), "'wildcard'"),
    "in": 'a list, as in ["a", "b"]',
    **dict.fromkeys(("equals", "eq", "="), "the value alone"),
    **dict.fromkeys(("gt", "gte", "lt", "lte", "<", "<=", ">", ">="), "'numeric'"),
    **dict.fromkeys(("starts-with", "startswith"), "'prefix'"),
    **dict.fromkeys(("ends-with", "endswith"), "'suffix'"),
    **dict.fromkeys(("iequals", "ignore-case"), "'equals-ignore-case'"),
    **dict.fromkeys(("all", "and"), "'all-of'"),
    **dict.fromkeys(("null", "is-none"), "'is-null'"),
    **dict.fromkeys(("since", "later-than", "date-after"), "'after'"),
    **dict.fromkeys(("until", "earlier-than", "date-before"), "'before'"),
    **dict.fromkeys(("ip", "ip-address-in-range", "subnet"), "'cidr'"),
}
"""Operators of other languages, and what there is instead."""
