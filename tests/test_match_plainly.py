"""Does the matcher say what slow and plain matchers say?"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TypeAlias

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from relay.event import Json
from relay.match import Pattern

Leaf: TypeAlias = tuple[str, Json, dict[tuple[str | int, ...], int]]


def leaves(node: Json, names: tuple[str, ...] = (), at: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Every value with its path, and for each array around it the element that it stands in."""
    match node:
        case dict():
            for key, inner in node.items():
                yield from leaves(inner, (*names, key), (*at, key))
        case list():
            for i, inner in enumerate(node):
                for path, value, inside in leaves(inner, names, (*at, i)):
                    yield path, value, inside | ({at: i} if isinstance(inner, dict | list) else {})
        case _:
            yield ".".join(names), node, {}


def accepts(item: Json, value: Json) -> bool:
    match item:
        case {"exists": there}:
            return bool(there)
        case {"anything-but": other}:
            return not accepts(other, value)
        case _:
            return isinstance(item, bool) == isinstance(value, bool) and item == value


Fields: TypeAlias = list[tuple[str, list[Json]]]


def backtracks(fields: Fields, known: list[Leaf], chosen: Mapping[tuple[str | int, ...], int]) -> bool:
    """Try every value for the first of the sorted *fields* that goes with the *chosen* elements."""
    if not fields:
        return True
    (path, items), *rest = fields
    here = [one for one in known if one[0] == path and all(chosen.get(a, i) == i for a, i in one[2].items())]
    if not here and {"exists": False} in items:
        return backtracks(rest, known, chosen)
    return any(
        any(accepts(item, value) for item in items) and backtracks(rest, known, {**chosen, **inside})
        for _, value, inside in here
    )


def worlds(node: Json) -> Iterator[Json]:
    """Every way to keep one element of each array; bare values in an array exclude nothing and all stay."""
    match node:
        case dict():
            for kept in product(*map(worlds, node.values())):
                yield dict(zip(node, kept, strict=True))
        case list():
            bare: list[Json] = [one for one in node if not isinstance(one, dict | list)]
            yield bare
            for one in node:
                if isinstance(one, dict | list):
                    yield from ([*bare, kept] for kept in worlds(one))
        case _:
            yield node


KEYS = st.sampled_from(["a", "a", "b", "b", "a.b", "a-b"])
VALUES: st.SearchStrategy[Json] = st.sampled_from([1, 2, 1, 2, None, True])
NODES: st.SearchStrategy[Json] = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=14,
)


def rows(depth: int) -> st.SearchStrategy[Json]:
    """Objects in arrays in objects in arrays, as APIs answer."""
    if depth == 0:
        return st.sampled_from([1, 2])
    inner = st.lists(rows(depth - 1), min_size=1, max_size=2) | rows(depth - 1) | VALUES
    return st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2).map(dict)


DATA = NODES | rows(3) | st.lists(rows(3), max_size=3)
PATHS = st.sampled_from(["a", "b", "a.a", "a.b", "b.a", "b.b", "a-b.a", "a.a.a", "a.a.b", "a.b.a", "a.b.b"])
ITEMS: st.SearchStrategy[Json] = VALUES | st.sampled_from(
    [{"anything-but": 1}, {"exists": True}, {"exists": False}, {"exists": False}]
)
PATTERNS = st.dictionaries(PATHS, st.lists(ITEMS, min_size=1, max_size=2), min_size=1, max_size=4)


def plainly(pattern: Mapping[str, list[Json]], data: Json) -> bool:
    return backtracks(sorted(pattern.items()), list(leaves(data)), {})


@settings(deadline=None, max_examples=200)
@given(pattern=PATTERNS, data=DATA)
@example(pattern={"a": [1], "a-b.a": [1], "a.a": [2]}, data={"a": [[1], {"a": 2}], "a-b": [{"a": 1}]})
@example(pattern={"a.b": [{"exists": False}], "a.c": [1]}, data={"a": [{"b": 1}, {"c": 1}]})
def test_a_pattern_meets_what_plain_backtracking_finds(pattern: dict[str, list[Json]], data: Json) -> None:
    """The search that forgets and merges choices finds a match exactly where trying them all does."""
    assert plainly(pattern, data) is Pattern({**pattern}).meets(data)


@settings(deadline=None, max_examples=200)
@given(pattern=PATTERNS, data=DATA)
def test_a_match_holds_with_one_element_of_each_array(pattern: dict[str, list[Json]], data: Json) -> None:
    """Where nothing must be absent, a pattern meets if some choice of one element per array meets it."""
    assume(not any({"exists": False} in items for items in pattern.values()))
    one_by_one = any(
        all(
            any(accepts(item, value) for path, value, _ in leaves(world) if path == name for item in items)
            for name, items in pattern.items()
        )
        for world in worlds(data)
    )
    assert one_by_one is Pattern({**pattern}).meets(data)


@settings(deadline=None, max_examples=200)
@given(left=PATTERNS, right=PATTERNS, always=PATTERNS, data=DATA)
def test_any_of_is_either_with_the_rest(
    left: dict[str, list[Json]], right: dict[str, list[Json]], always: dict[str, list[Json]], data: Json
) -> None:
    """A choice meets if the rest meets together with one of its tables, whole."""
    either = any(
        backtracks(
            sorted([*always.items(), *one.items()], key=lambda field: field[0]), list(leaves(data)), {}
        )
        for one in (left, right)
    )
    assert either is Pattern({**always, "any-of": [{**left}, {**right}]}).meets(data)


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(alphabet="ab*", max_size=8), parts=st.lists(st.text(alphabet="ab", max_size=2), max_size=4)
)
def test_a_wildcard_meets_what_a_table_of_prefixes_says(text: str, parts: list[str]) -> None:
    """A star is any text, also none, and nothing else is special in the data."""
    pattern = "*".join(parts)
    assume("**" not in pattern)
    reach = {0}
    for char in pattern:
        if char == "*":
            reach = {at for start in reach for at in range(start, len(text) + 1)}
        else:
            reach = {at + 1 for at in reach if text[at : at + 1] == char}
    assert (len(text) in reach) is Pattern({"a": {"wildcard": pattern}}).meets({"a": text})
