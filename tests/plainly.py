"""
What does the pattern language mean?  A matcher that is slow and plainly right; patterns and events for it.

It shares no code with relay's. A pattern is read as TOML says it: a single value stands for a list of one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

Json: TypeAlias = Any
Elements: TypeAlias = Mapping[tuple[str | int, ...], int]
"""Of arrays, by where they stand: the element."""
Leaf: TypeAlias = tuple[str, Json, Elements]
Fields: TypeAlias = list[tuple[str, list[Json]]]


class World(NamedTuple):
    """All that a pattern may look at."""

    data: Json
    envelope: Json = None
    now: int = 0


COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
OPERATORS = {
    *("exactly", "prefix", "suffix", "equals-ignore-case", "wildcard", "regex", "anything-but", "exists"),
    *("is-null", "numeric", "cidr", "all-of", "field", "after", "before", "older-than", "newer-than"),
}
MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def plainly(pattern: Mapping[str, Json], data: Json, envelope: Json = None, now: int = 0) -> bool:
    """Say whether *data* meets *pattern*; names with $ are looked up in *envelope*, if there is one."""
    return any(
        together(
            sorted(fields, key=lambda one: one[0]), leaves_of(data, envelope), World(data, envelope, now)
        )
        for fields in alternatives(pattern)
    )


def alternatives(table: Mapping[str, Json], before: str = "") -> Iterator[Fields]:
    """Yield every way to choose one table of each `$or` and any-of: paths, each with its list of items."""
    ways: list[list[Fields]] = []
    for key, value in table.items():
        path = before + key
        if key in {"$or", "any-of"}:
            ways.append([found for one in value for found in alternatives(one, before)])
        elif isinstance(value, dict) and not OPERATORS & value.keys():
            ways.append([*alternatives(value, f"{path}.")])
        else:
            ways.append([[(path, value if isinstance(value, list) else [value])]])
    for chosen in product(*ways):
        yield [field for fields in chosen for field in fields]


def leaves_of(data: Json, envelope: Json) -> list[Leaf]:
    if envelope is None:
        return [*leaves(data)]
    return [one for one in leaves(data) if one[0][:1] != "$"] + [*leaves(envelope)]


def leaves(node: Json, names: tuple[str, ...] = (), at: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yield every value with its path, and for each array around it the element that it stands in."""
    match node:
        case dict():
            for key, inner in node.items():
                yield from leaves(inner, (*names, key), (*at, key))
        case list():
            for i, inner in enumerate(node):
                for path, value, inside in leaves(inner, names, (*at, i)):
                    yield path, value, {**inside, at: i} if isinstance(inner, dict | list) else {}
        case _:
            yield ".".join(names), node, {}


def together(fields: Fields, known: list[Leaf], world: World, chosen: Elements | None = None) -> bool:
    """Try every value for the first of the sorted *fields* that goes with the *chosen* elements."""
    if not fields:
        return True
    chosen = chosen or {}
    (path, items), *rest = fields
    here = [one for one in known if one[0] == path and all(chosen.get(a, i) == i for a, i in one[2].items())]
    if not here and {"exists": False} in items:
        return together(rest, known, world, chosen)
    return any(
        any(accepts(item, value, world) for item in items)
        and together(rest, known, world, {**chosen, **inside})
        for _, value, inside in here
    )


def accepts(item: Json, value: Json, world: World) -> bool:
    """Say whether one *item* of a field's list takes the *value*."""
    if not isinstance(item, dict):
        return same(item, value)
    ((name, operand),) = item.items()
    match name:
        case "exists":
            return bool(operand)
        case "is-null":
            return (value is None) is operand
        case "all-of":
            return all(accepts(one, value, world) for one in operand)
        case "anything-but":
            ((inner, some),) = operand.items() if isinstance(operand, dict) else [("", operand)]
            items = some if isinstance(some, list) else [some]
            return not any(accepts({inner: one} if inner else one, value, world) for one in items)
        case "numeric":
            tests = zip(operand[::2], operand[1::2], strict=True)
            return number(value) and all(COMPARED[sign](value, bound) for sign, bound in tests)
        case "field":
            sign, path = operand
            others = [
                *there(path, world.data if world.envelope is None or path[0] != "$" else world.envelope)
            ]
            return len(others) == 1 and comparable(value, others[0], sign)
        case "after" | "before":
            return timed(value, ">" if name == "after" else "<", instant(operand))
        case "older-than" | "newer-than":
            count, unit = re.fullmatch(r"([\d.]+)(\w+)", operand, re.ASCII).groups()  # type: ignore[union-attr]
            then = world.now - round(float(count) * MS[unit])
            return timed(value, "<" if name == "older-than" else ">", then)
        case _:
            return isinstance(value, str) and text(name, operand, value)


def there(path: str, node: Json) -> Iterator[Json]:
    """Yield all that stands at *path*, a list on the way for one."""
    if isinstance(node, list) or not path:
        yield node
    elif isinstance(node, dict):
        for key, inner in node.items():
            if path == key or path.startswith(f"{key}."):
                yield from there(path[len(key) + 1 :], inner)


def same(one: Json, other: Json) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def comparable(value: Json, other: Json, sign: str) -> bool:
    alike = (number(value) and number(other)) or (isinstance(value, str) and isinstance(other, str))
    return alike and COMPARED[sign](value, other)


def text(name: str, operand: Json, value: str) -> bool:
    if isinstance(operand, dict):
        return text(name, operand["equals-ignore-case"].casefold(), value.casefold())
    match name:
        case "exactly":
            return bool(value == operand)
        case "prefix":
            return value.find(operand) == 0
        case "suffix":
            return value[::-1].find(operand[::-1]) == 0
        case "equals-ignore-case":
            return bool(value.casefold() == operand.casefold())
        case "wildcard":
            return like(operand, value)
        case "regex":
            return re.fullmatch(operand, value, re.DOTALL) is not None
        case "cidr":
            try:
                return ip_address(value) in ip_network(operand, strict=False)
            except ValueError:
                return False
        case _:
            raise AssertionError(name)


def like(pattern: str, value: str) -> bool:
    """Say whether *value* is like *pattern*, in which a star is any text, unless a backslash is before it."""
    signs = re.findall(r"\\[*\\]|.", pattern, re.DOTALL)
    reach = {0}
    for sign in signs:
        if sign == "*":
            reach = {end for start in reach for end in range(start, len(value) + 1)}
        else:
            reach = {at + 1 for at in reach if value[at : at + 1] == sign[-1]}
    return len(value) in reach


def timed(value: Json, sign: str, then: int | None) -> bool:
    seen = instant(value)
    return seen is not None and then is not None and COMPARED[sign](seen, then)


def instant(value: Json) -> int | None:
    """Return milliseconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"\d{10}(\d{3})?(\.\d+)?", value, re.ASCII):
        value = float(value)
    if number(value):
        return int((value * 1000 if abs(value) < 1e11 else value) // 1)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return round(value.timestamp() * 1e6) // 1000


# -- patterns and events --

TEXTS = ["", "a", "A", "ab", "abc", "b", "ba", "a*b", "é", "É", "1", "10.0.0.7", "2026-01-02T03:04:05Z"]
NUMBERS = [0, 1, 1.0, 2, -1, 1.5, 1767323045, 1767323045000]
NOW = 1767323045000
"""2026-01-02T03:04:05Z."""
ENVELOPE: dict[str, Json] = {
    "$source": "a",
    "$type": "ab",
    "$id": "ev_1",
    "$headers": {"x-a": "abc", "x.b": "1"},
}

_keys = st.sampled_from(["a", "a", "b", "b", "c", "a.b", "a-b"])
_values: st.SearchStrategy[Json] = st.sampled_from(
    [None, True, False, *NUMBERS, *TEXTS, 1, 1, 1, 2, 2, "a", "a"]
)


def _rows(depth: int) -> st.SearchStrategy[Json]:
    """Objects in arrays in objects in arrays, as APIs answer."""
    if depth == 0:
        return st.sampled_from([1, 2])
    inner = st.lists(_rows(depth - 1), min_size=1, max_size=2) | _rows(depth - 1) | _values
    return st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)


def events() -> st.SearchStrategy[Json]:
    """Return JSON with arrays in arrays, and keys that have dots."""
    tree: st.SearchStrategy[Json] = st.recursive(
        _values,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
        max_leaves=14,
    )
    flat = st.dictionaries(_keys, _values, max_size=4)
    return (
        tree | flat | _rows(3) | st.lists(_rows(3), max_size=3) | st.dictionaries(_keys, _rows(2), max_size=3)
    )


def items() -> st.SearchStrategy[Json]:
    """Return items of a field's list: values and every operator."""
    some = st.sampled_from(TEXTS)
    full = st.sampled_from([one for one in TEXTS if one])
    bound = st.sampled_from([-1, 0, 1, 1.5])
    edge = some | some.map(lambda one: {"equals-ignore-case": one})
    wild = st.sampled_from(["", "*", "a*", "*b", "a*b", "a*c", r"a\*b", "*a*b*"])
    regex = st.sampled_from(["", "a", "a.*", "[ab]+", "a|ab", r"\d+", "(?i)A.?", "ab?c?"])
    block = st.sampled_from(["10.0.0.0/8", "10.0.0.0/29", "0.0.0.0/0", "::/0", "10.0.0.8/30"])
    sign = st.sampled_from([*COMPARED])
    when = st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "1970-01-01T00:00:01Z"])
    age = st.sampled_from(["0s", "1ms", "1.5s", "7d"])
    words = st.lists(full, min_size=1, max_size=2)
    but = (
        some
        | st.sampled_from(NUMBERS)
        | st.lists(some, min_size=1, max_size=3)
        | st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)
        | st.tuples(st.sampled_from(["prefix", "suffix", "equals-ignore-case"]), full | words).map(_table)
        | st.tuples(st.just("wildcard"), wild).map(_table)
        | st.tuples(st.just("regex"), regex | st.lists(regex, min_size=1, max_size=2)).map(_table)
        | st.tuples(st.just("cidr"), block).map(_table)
    )
    exists = st.sampled_from([{"exists": True}, {"exists": False}])
    alone = st.one_of(
        *(
            st.tuples(st.just(name), operands).map(_table)
            for name, operands in {
                "exactly": some,
                "prefix": edge,
                "suffix": edge,
                "equals-ignore-case": some,
                "wildcard": wild,
                "regex": regex,
                "anything-but": but,
                "is-null": st.booleans(),
                "numeric": st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), bound).map(list)
                | st.tuples(st.just(">="), bound, st.just("<"), st.just(2)).map(list),
                "cidr": block,
                "field": st.tuples(sign, paths()).map(list),
                "after": when,
                "before": when,
                "older-than": age,
                "newer-than": age,
            }.items()
        )
    )
    both = st.lists(alone | _values, min_size=1, max_size=3).map(lambda parts: {"all-of": parts})
    return _values | exists | alone | both


def _table(pair: tuple[str, Json]) -> Json:
    return {pair[0]: pair[1]}


def paths() -> st.SearchStrategy[str]:
    """Return paths that events are likely to have."""
    return st.sampled_from(
        ["a", "b", "c", "a.a", "a.b", "b.a", "b.b", "a-b.a", "a.a.a", "a.a.b", "a.b.a", "a.b.b"]
    )


def around() -> st.SearchStrategy[str]:
    """Return paths of what comes around an event, also of what does not."""
    return st.sampled_from(["$source", "$type", "$id", "$headers.x-a", "$headers.x.b", "$headers.x-z"])


def patterns(
    item: st.SearchStrategy[Json] | None = None, path: st.SearchStrategy[str] | None = None
) -> st.SearchStrategy[dict[str, Json]]:
    """Return patterns that every reader takes, some with choices."""
    lists = st.lists(items() if item is None else item, min_size=1, max_size=2)

    def fields(least: int) -> st.SearchStrategy[dict[str, Json]]:
        return st.dictionaries(paths() if path is None else path, lists, min_size=least, max_size=4)

    def chosen(drawn: tuple[dict[str, Json], list[dict[str, Json]], str]) -> dict[str, Json]:
        plain, tables, word = drawn
        return {**plain, word: tables}

    choices = st.lists(fields(1), min_size=2, max_size=3)
    return fields(1) | st.tuples(fields(1), choices, st.sampled_from(["$or", "any-of"])).map(chosen)
