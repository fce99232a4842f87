"""Whatever the template, and whatever comes: filled with the right type, or Unfit, and never long."""

import json
import re
from collections.abc import Callable

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from relay.errors import Unfit
from relay.event import Json
from relay.filter import CODES, FILTERS
from relay.template import LONGEST, Get, at, fill, kind, names, needed, pieces, text

PATHS = st.sampled_from(["a", "a.*", "a.*.b", "a.0", "a.-1", "$id", "$events.*.id", "nope"])
LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text()
    | st.floats(allow_nan=False),
    lambda below: st.lists(below, max_size=2),
    max_leaves=3,
)
STEPS = (
    st.sampled_from(sorted(FILTERS))
    | st.text(max_size=4).map(lambda between: f"join:{json.dumps(between)}")
    | st.lists(st.sampled_from([*(f"%{code}" for code in CODES), "-", "é", "{"])).map(
        lambda parts: "date:" + json.dumps("".join(parts))
    )
    | LITERALS.map(json.dumps)
    | st.text(alphabet='{}|":%x[], \\', max_size=5)
)
HOLES = st.tuples(PATHS, st.lists(STEPS, max_size=3)).map(
    lambda hole: "{" + "|".join([hole[0], *hole[1]]) + "}"
)
TEMPLATES = st.lists(HOLES | st.sampled_from(["", "x", "{{", "}}", " "]), min_size=1, max_size=3).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 80), 1 << 80)
    | st.floats()
    | st.text()
    | st.datetimes().map(lambda when: when.isoformat() + "+14:00")
    | st.text(alphabet=st.characters(), max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("ab"), below, max_size=2),
).map(lambda value: {"a": value})


@given(TEMPLATES, VALUES)
@example('{a|date:"%Y"}', {"a": float("nan")})
@example('{a|date:"%Y"}', {"a": 1 << 80})
@example('{a|date:"%Y"}', {"a": "0001-01-01T00:00:00+14:00"})
@example("{a|json}", {"a": 1 << 80})
@example("{a}", {"a": "\ud800"})
@example("{a|json}", {"a": "\ud800"})
@example("<{a}>", {"a": 10**5000})
def test_whatever_comes_is_filled_or_unfit(template: str, data: Json) -> None:
    """A template that was taken at load raises Unfit or nothing when an event comes, and is never long."""
    taken(template)
    for make in (fill, text):
        made = outcome(make, template, data)
        if isinstance(made, str):
            assert len(made.encode("utf-8", "surrogatepass")) <= LONGEST
        elif isinstance(made, list | dict):
            assert len(orjson.dumps(made)) <= LONGEST


@given(HOLES, VALUES)
def test_text_around_a_hole_makes_it_text(template: str, data: Json) -> None:
    """With anything around it, a hole is the same value as plain text, or it is Unfit."""
    taken(template)
    taken(f"<{template}>")
    expected: Json = None
    match outcome(fill, template, data):
        case bool(value):
            expected = f"<{str(value).lower()}>"
        case str() | int() as value if isinstance(value, str) or value.bit_length() <= 64:
            expected = f"<{value}>"
    assert expected == outcome(text, f"<{template}>", data)


@given(PATHS, VALUES)
def test_a_hole_alone_keeps_type_and_value(path: str, data: dict[str, Json]) -> None:
    """Without filters, the value comes through as it is."""
    value = data["a"]

    def look(_: str) -> Json:
        return value

    try:
        made = fill(f"{{{path}}}", look)
    except Unfit:
        assert kind(value) in {"a list", "a table"}
    else:
        assert made is value


@given(HOLES)
def test_a_default_that_was_taken_is_never_unfit(template: str) -> None:
    """Where nothing is there, a hole without a default says so, and one with a default has a value."""
    taken(template)

    def empty(path: str) -> Json:
        raise Unfit(f"{path} is missing")

    if missing := list(needed(template)):
        assert list(names(template)) == missing
        with pytest.raises(Unfit, match=f"^{re.escape(missing[0])} is missing$"):
            fill(template, empty)
    else:
        fill(template, empty)


def taken(template: str) -> None:
    """Go on only with a template that can be loaded."""
    try:
        pieces(template)
    except ValueError:
        assume(condition=False)


def outcome(make: Callable[[str, Get], Json], template: str, data: Json) -> Json:
    """Return what is made of *template*, None if it is Unfit."""
    try:
        return make(template, lambda path: at(data, path))
    except Unfit:
        return None
