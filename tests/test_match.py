"""How patterns are read, what they say when they are not met, and what is wrong with them."""

import tomllib
from typing import Any

import pytest

from relay.errors import ConfigError, Problem
from relay.event import Around, Json
from relay.match import ENVELOPE, MOST_ALTERNATIVES, Miss, Pattern
from relay.match.operator import OPERATORS


def toml(pattern: Any) -> Pattern:
    """Read a pattern as it stands in a file."""
    return Pattern(pattern, toml=True)


def problems(pattern: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        toml(pattern)
    return list(caught.value.problems)


def miss(pattern: Any, data: Json) -> Miss:
    found = toml(pattern).miss(data)
    assert found is not None
    return found


# -- how it is read --


def test_null_in_a_pattern_that_is_not_toml_means_null() -> None:
    """None stands for null wherever a value may stand."""
    assert toml({"a": None}).meets({"a": None})
    assert toml({"a": [1, None]}).meets({"a": None})
    assert not toml({"a": None}).meets({})
    assert problems({"a": {"anything-but": None}})


@pytest.mark.parametrize(
    ("when", "key", "what", "hint"),
    [
        ({"a": "x"}, "a", 'expected a list, got "x"', 'write ["x"]'),
        ({"a": {"b": 1}}, "a.b", "expected a list, got 1", "write [1]"),
        ({"a": {"prefix": "x"}}, "a.prefix", 'expected a list, got "x"', 'write ["x"]'),
        ({"$or": [{"a": None}, {"b": [1]}]}, '"$or"[0].a', "expected a list, got null", "write [null]"),
    ],
)
def test_without_toml_every_leaf_is_a_list(when: Any, key: str, what: str, hint: str) -> None:
    """By itself a pattern is read as strictly as EventBridge reads it."""
    with pytest.raises(ConfigError) as caught:
        Pattern(when)
    assert [(one.key, one.what, one.hint) for one in caught.value.problems] == [(key, what, hint)]


def test_without_toml_an_operator_stands_in_a_list_only() -> None:
    """A table that is no item of a list nests, whatever its keys are."""
    assert Pattern({"a": {"before": ["x"]}}).meets({"a": {"before": "x"}})
    assert Pattern({"a": {"prefix": ["x"], "suffix": ["y"]}}).meets({"a": {"prefix": "x", "suffix": "y"}})


def test_what_comes_around_an_event_is_asked_for_by_name() -> None:
    """With an envelope, names with $ are looked up around the data; else they are fields like others."""
    around = Around({"$source": "flatfile", "$headers": {"x-kind": "job"}})
    body: Json = {"$source": "writer"}
    assert Pattern({"$source": ["flatfile"]}, envelope=ENVELOPE).meets(body, around)
    assert Pattern({"$source": ["writer"]}).meets(body, around)
    missed = Pattern({"$headers.X-Kind": ["Job"]}, envelope=ENVELOPE).miss(body, around)
    assert missed == Miss("$headers.x-kind", '"Job"', '"job"', near=True)


def test_a_condition_that_needs_more_than_a_value_says_so() -> None:
    """An index can't judge it by the value alone, not even by mistake: it is given by the scene."""
    alone, timed, other, both = (
        toml({"a": one}).alternatives[0].fields[0].conditions[0]
        for one in (
            {"prefix": "x"},
            {"older-than": "5m"},
            {"field": ["<", "b"]},
            {"all-of": [{"field": ["<", "b"]}]},
        )
    )
    assert alone.given is None
    for one in (timed, other, both):
        assert one.given is not None
        with pytest.raises(LookupError):
            one.accepts(1)


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
        ({"s": {"regex": "x+"}}, {"s": "a"}, 's: wanted text like the regex "x+", saw "a"'),
        (
            {"n": {"all-of": [{"prefix": "a"}, "ab"]}},
            {"n": "ac"},
            'n: wanted text starting with "a" and "ab", saw "ac"',
        ),
        ({"n": {"field": ["<", "max"]}}, {"n": 3, "max": 3}, "n: wanted a value < that of max, 3, saw 3"),
        (
            {"n": {"field": ["<", "max"]}},
            {"n": 3},
            "n: wanted a value < that of max, which is not there, saw 3",
        ),
        (
            {"t": {"newer-than": "1d"}},
            {"t": -86_400_000},
            "t: wanted a time less than 1d ago: 1969-12-31T00:00:00.000Z, saw -86400000",
        ),
        (
            {"t": {"after": "2026-01-31T08:00:00Z"}},
            {"t": 1},
            "t: wanted a time after 2026-01-31T08:00:00.000Z, saw 1",
        ),
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
        ("failed", "faild", True),
        ("failed", "afiled", True),
        ("failed", "fayled", True),
        ("failed", "ffailed", True),
        ("failed", "failure", False),
        ("job-1", "job-2", False),
        ("job-1", "job-11", False),
        ("abc", "abd", False),
        (1, 2, False),
        ("failed", {}, False),
    ],
)
def test_a_near_miss_is_marked(wanted: Json, saw: Json, near: bool) -> None:
    """A value that differs only in case, space, type or by one letter is probably a slip of the pattern."""
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
        ("any-of = [{ a = 1 }]", "any-of", "expected a list of at least two tables, got a list of 1", ""),
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
        Pattern(when, names, toml=True)

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
