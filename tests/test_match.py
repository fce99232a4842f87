"""What patterns meet, what they say when they don't, and that no data makes them slow."""

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.condition import OPERATORS
from relay.errors import ConfigError, Problem
from relay.event import Json
from relay.match import MOST_ALTERNATIVES, Miss, Pattern

TABLE: dict[str, list[Any]] = tomllib.loads((Path(__file__).parent / "data/match.toml").read_text("utf-8"))
ROWS = [
    pytest.param(expect, when, data, id=f"{name}-{n}")
    for name, rows in TABLE.items()
    for n, (expect, when, data) in enumerate(rows, 1)
]


def problems(pattern: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        Pattern(pattern)
    return list(caught.value.problems)


def miss(pattern: Any, data: Json) -> Miss:
    found = Pattern(pattern).miss(data)
    assert found is not None
    return found


# -- the table --


@pytest.mark.parametrize(("expect", "when", "data"), ROWS)
def test_a_row_of_the_truth_table(expect: str, when: Any, data: str) -> None:
    """A pattern meets, misses or is refused as its row says; a miss has a reason and a match has none."""
    if expect == "invalid":
        assert problems(when)
        return
    pattern = Pattern(when)
    assert (expect == "match") is pattern.meets(json.loads(data))
    assert (expect == "match") is (pattern.miss(json.loads(data)) is None)


def test_the_table_is_complete() -> None:
    """Every operator has its own rows, of all three kinds, and every row says one of them."""
    assert OPERATORS.keys() <= TABLE.keys()
    assert all({row[0] for row in TABLE[name]} == {"match", "no_match", "invalid"} for name in OPERATORS)


def test_null_in_a_pattern_that_is_not_toml_means_null() -> None:
    """None stands for null wherever a value may stand."""
    assert Pattern({"a": None}).meets({"a": None})
    assert Pattern({"a": [1, None]}).meets({"a": None})
    assert not Pattern({"a": None}).meets({})
    assert problems({"a": {"anything-but": None}})


# -- why not --


@pytest.mark.parametrize(
    ("when", "data", "text"),
    [
        ({"status": "failed"}, {"status": "Failed"}, 'status: wanted "failed", saw "Failed"'),
        ({"status": "failed"}, {}, 'status: wanted "failed", saw nothing'),
        ({"status": "failed"}, {"status": {"code": 1}}, 'status: wanted "failed", saw an object'),
        ({"status": "failed"}, {"status": []}, 'status: wanted "failed", saw an empty list'),
        ({"n": [1, True, None]}, {"n": "1"}, 'n: wanted 1 or true or null, saw "1"'),
        ({"a.b": {"exists": False}}, {"a": {"b": None}}, "a.b: wanted nothing, saw null"),
        ({"a": {"exists": True}}, {}, "a: wanted any value, saw nothing"),
        ({"s": {"prefix": "x"}}, {"s": ["a", "b", "a"]}, 's: wanted text starting with "x", saw "a" and "b"'),
        ({"s": [1, {"suffix": "x"}]}, {"s": "a"}, 's: wanted 1 or text ending with "x", saw "a"'),
        ({"s": {"equals-ignore-case": "x"}}, {"s": "a"}, 's: wanted "x" in any case, saw "a"'),
        (
            {"s": {"prefix": {"equals-ignore-case": "x"}}},
            {"s": "a"},
            's: wanted text starting with "x" in any case, saw "a"',
        ),
        ({"s": {"wildcard": "x*"}}, {"s": "a"}, 's: wanted text like "x*", saw "a"'),
        ({"s": {"anything-but": ["a", "b"]}}, {"s": "a"}, 's: wanted anything but "a" or "b", saw "a"'),
        (
            {"s": {"anything-but": {"prefix": ["a", "b"]}}},
            {"s": "ab"},
            's: wanted anything but text starting with "a" or text starting with "b", saw "ab"',
        ),
        ({"n": {"numeric": [">", 0, "<=", 5]}}, {"n": 7}, "n: wanted a number > 0 and <= 5, saw 7"),
        ({"s": {"cidr": "10.0.0.0/8"}}, {"s": "::1"}, 's: wanted an address in 10.0.0.0/8, saw "::1"'),
        ({"s": {"is-null": True}}, {"s": 0}, "s: wanted null, saw 0"),
        ({"s": {"is-null": False}}, {"s": None}, "s: wanted any value but null, saw null"),
        ({"s": "x"}, {"s": list(range(9))}, 's: wanted "x", saw 0 and 1 and 2 and 3 and 5 more'),
        ({"s": list("abcdef")}, {"s": "x"}, 's: wanted "a" or "b" or "c" or "d" or 2 more, saw "x"'),
        (
            {"e.first": "Anna", "e.last": "Jones"},
            {"e": [{"first": "Anna", "last": "Smith"}, {"first": "Bob", "last": "Jones"}]},
            'e.last: wanted "Jones", in the same array element as the rest, saw "Smith" and "Jones"',
        ),
    ],
)
def test_a_miss_says_what_was_wanted_and_what_was_there(when: Any, data: Json, text: str) -> None:
    """The reason names the path, the condition in words, and the value as JSON."""
    assert text == str(miss(when, data))


def test_the_first_condition_as_written_is_reported() -> None:
    """Of several failed conditions the one that its author wrote first is told, not the first by name."""
    assert "topic" == miss({"topic": "a", "id": 1}, {"topic": "b", "id": 2}).path
    assert "id" == miss({"id": 1, "topic": "a"}, {"topic": "b", "id": 2}).path


def test_the_alternative_that_came_furthest_is_reported() -> None:
    """With any-of, the reason comes from the alternative that failed last."""
    when: Json = {"any-of": [{"kind": "a", "n": 1}, {"kind": "b", "n": 1}]}
    assert isinstance(when, dict)
    assert Miss("n", "1", "2") == miss(when, {"kind": "b", "n": 2})


@pytest.mark.parametrize(
    ("wanted", "saw", "near"),
    [
        ("failed", "Failed", True),
        ("failed", " failed\n", True),
        (1, "1", True),
        ("true", True, True),
        (None, "null", True),
        ("failed", "failure", False),
        (1, 2, False),
        ("failed", {}, False),
    ],
)
def test_a_near_miss_is_marked(wanted: Json, saw: Json, near: bool) -> None:
    """A value that differs only in case, in space or in type is probably a slip of the pattern."""
    assert near is miss({"a": wanted}, {"a": saw}).near


def test_values_are_shown_short_and_harmless() -> None:
    """An event's text can neither flood a terminal nor move its cursor; other scripts stay readable."""
    assert miss({"a": 1}, {"a": "x" * 500}).saw == '"' + "x" * 79 + '…"'
    assert miss({"a": 1}, {"a": "\x1b[2J\x9b\u202e"}).saw == r'"\u001b[2J\u009b\u202e"'
    assert miss({"a": 1}, {"a": "失败"}).saw == '"失败"'


# -- what is wrong with a pattern --


@pytest.mark.parametrize(
    ("when", "key", "what", "hint"),
    [
        ("status.prefix = 3", "status.prefix", "expected text, got 3", ""),
        ("status = [{ prefix = 3 }]", "status[0].prefix", "expected text, got 3", ""),
        ('a.b = ["x", { prefx = "y" }]', "a.b[1]", 'unknown operator "prefx"', "did you mean 'prefix'?"),
        (
            'a = [{ anything_but = "y" }]',
            "a[0]",
            'unknown operator "anything_but"',
            "did you mean 'anything-but'?",
        ),
        ("a = [{ EXISTS = true }]", "a[0]", 'unknown operator "EXISTS"', "did you mean 'exists'?"),
        ("a = [{ zzz = 1 }]", "a[0]", 'unknown operator "zzz"', f"known: {', '.join(sorted(OPERATORS))}"),
        ('a = [{ in = ["y"] }]', "a[0]", 'unknown operator "in"', 'did you mean a list, as in ["a", "b"]?'),
        (
            'a.b.Prefix = "y"',
            "a.b.Prefix",
            '"Prefix" is no operator',
            "did you mean 'prefix'? a field of that name is written \"b.Prefix\" = …",
        ),
        (
            'a.not = "y"',
            "a.not",
            '"not" is no operator',
            "did you mean 'anything-but'? a field of that name is written \"a.not\" = …",
        ),
        (
            "a.gte = 5",
            "a.gte",
            '"gte" is no operator',
            "did you mean 'numeric'? a field of that name is written \"a.gte\" = …",
        ),
        ("a = [{ }]", "a[0]", "expected one operator, got none", ""),
        ("a = { }", "a", "expected at least one field, got an empty table", ""),
        ("a = []", "a", "expected at least one value, got an empty list", ""),
        ('a = [["x"]]', "a[0]", "expected text, a number, true or false, got a list", ""),
        ("a = nan", "a", "expected text, a number, true or false, got NaN", ""),
        (
            "a = 2026-01-01",
            "a",
            "expected text, a number, true or false, got a date or time",
            "put it in quotes",
        ),
        (
            'a.filter = { prefix = "x", name = "y" }',
            "a.filter",
            "expected one operator or only fields, got prefix and name",
            '[{ … }, { … }] means or; "filter.prefix" = … is a field',
        ),
        ('a.b = 1\n"a.b" = 2', '"a.b"', "a.b stands here twice", "put all its values into one list"),
        ('a.exists = "no"', "a.exists", 'expected true or false, got "no"', ""),
        (
            'a.numeric = ["=>", 1]',
            "a.numeric",
            'expected one of = < <= > >=, got "=>"',
            'write [">=", 1] or [">", 0, "<=", 5]',
        ),
        (
            'a.wildcard = "x**"',
            "a.wildcard",
            "expected one * at a time, got ** at position 2",
            "one * stands for any text",
        ),
        (
            'a.anything-but.prefix = ["x", ""]',
            "a.anything-but.prefix",
            'expected text, got ""',
            "every text starts and ends with nothing",
        ),
        (
            'a.anything-but = ["x", 1]',
            "a.anything-but",
            'expected text or numbers, not both and nothing else, got "x" and 1',
            "",
        ),
        ("a.prefix.equals-ignore-case = 1", "a.prefix.equals-ignore-case", "expected text, got 1", ""),
        ("any-of = [{ a = 1 }]", "any-of", "expected a list of at least two tables, got a list", ""),
        ("any-of = [{ a = 1 }, { b.prefix = 2 }]", "any-of[1].b.prefix", "expected text, got 2", ""),
        (
            'a.any-of = [{ prefix = "x" }, { b = 1 }]',
            "a.any-of[0].prefix",
            "expected a field, got an operator",
            "name = [{ … }, { … }] means or",
        ),
    ],
)
def test_a_problem_has_its_key_what_was_found_and_a_hint(when: str, key: str, what: str, hint: str) -> None:
    """Each mistake is told once, at its key, with what would do."""
    assert [Problem(file="", key=key, what=what, hint=hint)] == problems(tomllib.loads(when))


@pytest.mark.parametrize("operator", [*OPERATORS])
def test_an_operator_is_known_in_any_spelling(operator: str) -> None:
    """Large letters, underscores and a letter less make no field of an operator."""
    for name in (operator.upper(), operator.replace("-", "_").title(), operator[:-1]):
        (problem,) = problems({"a": {name: "x"}})
        assert problem.hint.startswith(f"did you mean '{operator}'?")


def test_what_the_data_can_not_have_is_no_field() -> None:
    """Where the names at the top are known, another is wrong, also in any-of and with its path in one key."""
    names = ("status", "body")
    when: Any = {"stats": 200, "body.x": 1, "any-of": [{"bdy.y": 1}, {"body": {"stats": 1}}], "q": 1}

    with pytest.raises(ConfigError) as caught:
        Pattern(when, names)

    assert [
        Problem(file="", key="stats", what='there is no "stats" here', hint="did you mean 'status'?"),
        Problem(file="", key='any-of[0]."bdy.y"', what='there is no "bdy" here', hint="did you mean 'body'?"),
        Problem(file="", key="q", what='there is no "q" here', hint="known: body, status"),
    ] == list(caught.value.problems)


def test_all_problems_are_told_at_once() -> None:
    """One reading of the file finds every mistake of a pattern."""
    found = problems(
        {"a": [], "b": {"prefix": 1}, "any-of": [{"c": {}}, 3], "d": [{"nope": 1}, float("inf")]}
    )
    assert ["a", "b.prefix", "any-of[0].c", "any-of[1]", "d[0]", "d[1]"] == [one.key for one in found]


@pytest.mark.parametrize("pattern", ["x", 3, None, [{"a": 1}]])
def test_what_is_no_table_is_no_pattern(pattern: Json) -> None:
    """Anything but a table is refused like any other mistake."""
    assert "expected a table, got " in problems(pattern)[0].what


def test_alternatives_have_a_bound() -> None:
    """Choices that multiply past the bound are refused before they are built."""
    choices = {f"a{n}": {"any-of": [{"x": 1}, {"y": 2}]} for n in range(40)}
    assert [f"expected at most {MOST_ALTERNATIVES} alternatives in all"] == [
        one.what for one in problems(choices)
    ]


# -- hostile data --

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
    assert (tail == 1) is Pattern(CROSS).meets(crossed(1_000, tail))
    assert time.monotonic() - began < BOUND_S


def test_a_big_array_is_searched_to_its_last_element() -> None:
    """Elements that meet all but the last condition cost one step each."""
    rows: list[Json] = [{"a": 1, "b": 1, "c": 0} for _ in range(20_000)]
    pattern = Pattern({"r.a": 1, "r.b": 1, "r.c": 1})
    assert not pattern.meets({"r": rows})
    assert pattern.meets({"r": [*rows, {"a": 1, "b": 1, "c": 1}]})


def test_keys_with_dots_cannot_buy_endless_work() -> None:
    """One path written in many ways multiplies choices: past the bound the answer is no, with that reason."""
    row: Json = [{"u": 1, "v": 1, "w": 1, "x": 1, "y": 2} for _ in range(60)]
    ways: list[str] = ["a.b.c", "a", "a.b"]
    data: Json = dict(zip(ways, [row, {"b": {"c": row}, "b.c": row}, {"c": row}], strict=True))
    pattern = Pattern({f"a.b.c.{name}": 1 for name in "uvwxy"})
    began = time.monotonic()
    reason = pattern.miss(data)
    assert reason is not None
    assert "more array elements than relay looks through" == reason.saw
    assert not pattern.meets(data)
    assert time.monotonic() - began < BOUND_S


def test_deep_data_is_read() -> None:
    """64 levels of arrays and objects, the most that relay reads, are no trouble."""
    arrays: Json = 1
    objects: Json = 1
    for _ in range(64):
        arrays, objects = [arrays], {"a": objects}
    assert Pattern({"a": 1}).meets({"a": arrays})
    assert Pattern({".".join("a" * 64): 1}).meets(objects)


def test_equal_parts_of_the_data_are_not_taken_for_one() -> None:
    """Arrays are told apart by where they stand, even if one Python list stands at two places."""
    row: Json = [{"x": 1}, {"x": 2}]
    assert Pattern({"a.x": 1, "b.x": 2}).meets({"a": row, "b": row})
    assert not Pattern({"a.x": 1, "a.y": 2}).meets({"a": [{"x": 1}, {"y": 2}]})
