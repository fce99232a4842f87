"""Where keys stand."""

import tomllib
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.place import Path, line, places, written

DOCUMENT = '''# a comment with [brackets] and = signs
title = "x"  # [not.a.table]
a.b."c d".e = 1

[source.flatfile]
text = """
[not.a.table]
key = "\\"""" # \'\'\'
raw = \'\'\'
x = 1\'\'\'
when = 1979-05-27 07:32:00

[[rule]]
name = 'one'
from = ["a",   # , ]
  "b", [
  { x = 1, y.z = [2] } ],
]

[[rule.test]]
event = { topic = "job:completed" }

[[rule]]
name = "two"
[rule.when]
"quoted key" = 1
[[rule.test]]
[[rule.test]]
calls = 0
'''


def paths(data: Any, here: Path = ()) -> set[Path]:
    """Every path of *data*."""
    match data:
        case dict():
            return {(*here, k) for k in data}.union(*(paths(v, (*here, k)) for k, v in data.items()))
        case list():
            return {(*here, i) for i in range(len(data))}.union(
                *(paths(v, (*here, i)) for i, v in enumerate(data))
            )
        case _:
            return set()


def test_every_key_of_a_handwritten_document_stands_where_it_was_written() -> None:
    """Strings, comments, dotted and quoted keys, inline tables and arrays of tables keep their lines."""
    found = places(DOCUMENT)

    assert paths(tomllib.loads(DOCUMENT)) == set(found)
    lines = DOCUMENT.splitlines()
    expected: dict[Path, str] = {
        ("title",): 'title = "x"',
        ("a", "b", "c d"): "a.b.",
        ("source", "flatfile"): "[source.flatfile]",
        ("source", "flatfile", "raw"): "raw =",
        ("source", "flatfile", "when"): "when = 1979",
        ("rule", 0, "name"): "name = 'one'",
        ("rule", 0, "from", 1): '  "b"',
        ("rule", 0, "from", 2, 0, "y", "z", 0): "  { x = 1",
        ("rule", 0, "test", 0, "event", "topic"): "event =",
        ("rule", 1, "name"): 'name = "two"',
        ("rule", 1, "when", "quoted key"): '"quoted key"',
        ("rule", 1, "test", 1, "calls"): "calls = 0",
    }
    for path, start in expected.items():
        assert lines[found[path] - 1].startswith(start), path
    assert 13 == found["rule", 0]
    assert 27 == found["rule", 1, "test", 0]
    assert 28 == found["rule", 1, "test", 1]


def test_a_key_that_was_not_written_stands_with_its_table() -> None:
    """A missing key is reported on the line of the nearest key around it."""
    found = places(DOCUMENT)

    assert found["rule", 1] == line(found, ("rule", 1, "call"))
    assert line(found, ("nothing", "here")) is None


def test_windows_line_ends_count_as_one() -> None:
    """CRLF files have the lines an editor shows."""
    assert {("a",): 1, ("b",): 2} == places("a = 1\r\nb = 2\r\n")


def test_a_path_is_said_as_people_write_it() -> None:
    """Items count from 1; odd keys are quoted."""
    assert 'rule[2].when."a b".status' == written(("rule", 1, "when", "a b", "status"))


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
LEAVES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
    st.text(alphabet="[]{}=,#\"'\\\n x", max_size=8),
    st.booleans(),
    st.datetimes(),
    st.just(0),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


def numbered(data: Any, numbers: list[Path], here: Path = ()) -> Any:
    """Put a number of its own in place of every 0 of *data*."""
    match data:
        case dict():
            return {k: numbered(v, numbers, (*here, k)) for k, v in data.items()}
        case list():
            return [numbered(v, numbers, (*here, i)) for i, v in enumerate(data)]
        case 0 if data is not False:
            numbers.append(here)
            return 770_000_000 + len(numbers)
        case _:
            return data


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=4), st.booleans())
def test_any_document_is_found_again(data: dict[str, Any], multiline: bool) -> None:
    """All of tomllib's paths and no others are found, and each number stands on its path's line."""
    numbers: list[Path] = []
    text = tomli_w.dumps(numbered(data, numbers), multiline_strings=multiline)

    found = places(text)

    assert paths(tomllib.loads(text)) == set(found)
    lines = text.split("\n")
    for count, path in enumerate(numbers, 1):
        assert str(770_000_000 + count) in lines[found[path] - 1]
