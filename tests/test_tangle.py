"""Does no data make the matcher slow, and is it exact as far as it goes?"""

import time
from typing import Any

import pytest

from relay.event import Json
from relay.match import TOO_MUCH, Pattern
from relay.match.tangle import TooMuch


def read(pattern: Any) -> Pattern:
    """Read a pattern as it stands in a file."""
    return Pattern(pattern, toml=True)


BOUND_S = 10.0
"""What no answer may take on the slowest machine; unbounded search takes years."""


def crossed(width: int, tail: Json) -> dict[str, Json]:
    """Eight arrays, each element of which meets; only *tail* decides."""
    one: Json = {"x": 1, "y": 1}
    row: Json = [one] * width
    many: dict[str, Json] = {f"k{n}": row for n in range(8)}
    return {**many, "z": [{"x": tail}]}


CROSS: dict[str, Json] = {**{f"k{n}.{name}": 1 for n in range(8) for name in "xy"}, "z.x": 1}


@pytest.mark.parametrize("tail", [1, 2])
def test_many_arrays_of_many_elements_do_not_multiply(tail: int) -> None:
    """The work grows with the sum of the arrays, not with their product, and the answer is right."""
    began = time.monotonic()
    assert (tail == 1) is read(CROSS).meets(crossed(1_000, tail))
    assert time.monotonic() - began < BOUND_S


def test_a_big_array_is_searched_to_its_last_element() -> None:
    """Elements that meet all but the last condition cost one step each."""
    rows: list[Json] = [{"a": 1, "b": 1, "c": 0} for _ in range(20_000)]
    pattern = read({"r.a": 1, "r.b": 1, "r.c": 1})
    assert not pattern.meets({"r": rows})
    assert pattern.meets({"r": [*rows, {"a": 1, "b": 1, "c": 1}]})


def test_keys_with_dots_cannot_buy_endless_work() -> None:
    """One path written in many ways multiplies choices: past the bound the answer is no, with that reason."""
    row: Json = [{"u": 1, "v": 1, "w": 1, "x": 1, "y": 2} for _ in range(60)]
    ways: list[str] = ["a.b.c", "a", "a.b"]
    data: Json = dict(zip(ways, [row, {"b": {"c": row}, "b.c": row}, {"c": row}], strict=True))
    pattern = read({f"a.b.c.{name}": 1 for name in "uvwxy"})
    began = time.monotonic()
    reason = pattern.miss(data)
    assert reason is not None
    assert TOO_MUCH == reason.saw
    assert not pattern.meets(data)
    assert time.monotonic() - began < BOUND_S


def test_a_regex_cannot_buy_endless_work() -> None:
    """A long text and a large regex: linear, but too much, so the answer is no, with that reason."""
    pattern = read({"a": {"regex": "(a|b)*a(a|b){490}"}})
    assert not pattern.meets({"a": "ab" * 500_000})
    inside = read({"a": {"anything-but": {"regex": "(a|b)*a(a|b){490}"}}})
    for missed in (pattern.miss({"a": "ab" * 500_000}), inside.miss({"a": ["ab" * 500_000]})):
        assert missed is not None
        assert TOO_MUCH == missed.saw
    assert read({"a": {"regex": ".*timeout.*"}}).meets({"a": "x" * 500_000 + "timeout"})


@pytest.mark.parametrize("items", [[{"exists": False}, 1], [1]])
def test_no_mebibyte_of_arrays_takes_more_than_its_steps(items: Json) -> None:
    """What costs the most for its size is given up: nested arrays, empty objects, values that are not met."""
    deep: Json = 1
    for _ in range(60):
        deep = [deep]
    data: Any
    for data in ([deep] * 8_000, [{}] * 350_000, [[]] * 350_000, [{"b": 2}] * 130_000, [2] * 500_000):
        pattern = read({"a": items, "a.b": items, "a.c": 1})
        with pytest.raises(TooMuch):
            pattern.alternatives[0].met(pattern.walk({"a": data}))


def test_deep_data_is_read() -> None:
    """64 levels of arrays and objects, the most that relay reads, are no trouble."""
    arrays: Json = 1
    objects: Json = 1
    for _ in range(64):
        arrays, objects = [arrays], {"a": objects}
    assert read({"a": 1}).meets({"a": arrays})
    assert read({".".join("a" * 64): 1}).meets(objects)


def test_equal_parts_of_the_data_are_not_taken_for_one() -> None:
    """Arrays are told apart by where they stand, even if one Python list stands at two places."""
    row: Json = [{"x": 1}, {"x": 2}]
    assert read({"a.x": 1, "b.x": 2}).meets({"a": row, "b": row})
    assert not read({"a.x": 1, "a.y": 2}).meets({"a": [{"x": 1}, {"y": 2}]})
