"""Does the matcher say what slow and plain matchers say?"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from plainly import ENVELOPE, NOW, World, accepts, around, events, items, leaves, paths, patterns, plainly

from relay.event import Around, Json
from relay.match import ENVELOPE as NAMES
from relay.match import Pattern

AROUND = Around(ENVELOPE, NOW)
STRUCTURE: st.SearchStrategy[Any] = st.sampled_from(
    [1, 2, 1, 2, None, True, {"anything-but": 1}, {"exists": True}, {"exists": False}, {"exists": False}]
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


@settings(deadline=None, max_examples=400)
@given(pattern=patterns(STRUCTURE), data=events())
@example(pattern={"a": [1], "a-b.a": [1], "a.a": [2]}, data={"a": [[1], {"a": 2}], "a-b": [{"a": 1}]})
@example(pattern={"a.b": [{"exists": False}], "a.c": [1]}, data={"a": [{"b": 1}, {"c": 1}]})
@example(pattern={"a": [1], "a.b": [{"exists": False}, 2]}, data={"a": [1, [1], {"b": 3}]})
@example(pattern={"a": [1], "a.b": [{"exists": False}, 2]}, data={"a": [1, {"c": 1}, {"b": 3}]})
@example(pattern={"a.b": [{"exists": False}, 1]}, data={"a": {"c": 1}, "a.b": 5})
@example(pattern={"a.b": [{"exists": False}, 1]}, data={"a": {"b": 5}, "a.b": 1})
@example(pattern={"a.a": [1], "a.b": [{"exists": False}]}, data={"a": [{"a": 1, "b": 2}], "a.a": 1})
def test_a_pattern_meets_what_plain_backtracking_finds(pattern: dict[str, Any], data: Json) -> None:
    """The search that goes through each array once finds a match exactly where trying all choices does."""
    compiled = Pattern(pattern)
    assert plainly(pattern, data) is compiled.meets(data)
    assert (compiled.miss(data) is None) is compiled.meets(data)


@settings(deadline=None, max_examples=400)
@given(pattern=patterns(path=paths() | around()), data=events())
def test_the_whole_language_means_what_it_plainly_says(pattern: dict[str, Any], data: Json) -> None:
    """Every operator, choices, absence and arrays: relay's matcher and the plain one agree."""
    compiled = Pattern(pattern, toml=True, envelope=NAMES)
    expected = plainly(pattern, data, ENVELOPE, NOW)
    assert expected is compiled.meets(data, AROUND)
    assert (compiled.miss(data, AROUND) is None) is expected


@settings(deadline=None, max_examples=200)
@given(item=items(), value=events())
def test_one_item_takes_the_values_that_it_plainly_takes(item: Any, value: Json) -> None:
    """Each operator alone on one field, also on arrays of values."""
    data = {"a": value, "b": 1, "c": "ab"}
    assert plainly({"a": [item]}, data, None, NOW) is Pattern({"a": [item]}).meets(data, Around(now=NOW))


@settings(deadline=None, max_examples=200)
@given(pattern=patterns(STRUCTURE), data=events())
def test_a_match_holds_with_one_element_of_each_array(pattern: dict[str, Any], data: Json) -> None:
    """Where nothing must be absent, a pattern meets if some choice of one element per array meets it."""
    assume("exists" not in str(pattern) and "$or" not in pattern and "any-of" not in pattern)
    one_by_one = any(
        all(
            any(
                accepts(item, value, World(data))
                for path, value, _ in leaves(world)
                if path == name
                for item in some
            )
            for name, some in pattern.items()
        )
        for world in worlds(data)
    )
    assert one_by_one is Pattern(pattern).meets(data)


@settings(deadline=None, max_examples=100)
@given(pattern=patterns(), data=events())
def test_the_two_readings_agree_where_both_can_read(pattern: Mapping[str, Any], data: Json) -> None:
    """What EventBridge's strict reading takes means the same in a TOML file."""
    around = Around(now=NOW)
    assert Pattern(pattern).meets(data, around) is Pattern(pattern, toml=True).meets(data, around)
