"""What holes are, and how they are filled."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Unfit
from relay.event import Json
from relay.template import at, fill, kind, names, pieces, plain, text

DATA: Json = {
    "context": {"jobId": "us_jb_1", "n": 7, "on": True, "no": None, "half": 0.5},
    "files": [{"id": "a"}, {"id": "b"}],
    "0": {"x": "zero"},
    "dé": "é",
}


def get(path: str) -> Json:
    return at(DATA, path)


@pytest.mark.parametrize(
    ("expected", "template"),
    [
        ("", ""),
        ("plain", "plain"),
        ("us_jb_1", "{context.jobId}"),
        ("a us_jb_1, b", "{files.0.id} {context.jobId}, {files.1.id}"),
        ("us_jb_17", "{context.jobId}{context.n}"),
        ("true", "{context.on}"),
        ("{context.jobId}", "{{context.jobId}}"),
        ("{us_jb_1}", "{{{context.jobId}}}"),
        ('{"id": "us_jb_1"}', '{{"id": "{context.jobId}"}}'),
        ("}{", "}}{{"),
        ("a\nus_jb_1\n", "a\n{context.jobId}\n"),
        ("zero é", "{0.x} {dé}"),
    ],
)
def test_holes_are_filled_and_the_rest_stays(expected: str, template: str) -> None:
    """A path in braces is a value, doubled braces are braces, all else is itself."""
    assert expected == text(template, get)


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "a { b",
        "a } b",
        "{}",
        "{ }",
        "{a b}",
        "{a",
        "a}",
        "{a{b}}",
        "{{a}",
        "{a}}",
        "{{{a}}",
        '{a"}',
        "{a|b}",
    ],
)
def test_lone_braces_and_empty_holes_are_errors(template: str) -> None:
    """What could be meant in two ways is said to its author, with what was found."""
    with pytest.raises(ValueError, match=r"lone|expected a path"):
        pieces(template)
    with pytest.raises(ValueError, match=r"lone|expected a path"):
        list(names({"x": [template]}))


@given(st.text())
def test_any_text_can_be_written(said: str) -> None:
    """With its braces doubled, every text stands for itself."""
    assert said == text(said.replace("{", "{{").replace("}", "}}"), get)


@given(st.text(alphabet="{}ab. \n"))
def test_any_template_is_read_or_refused(template: str) -> None:
    """Reading a template raises ValueError or nothing, and loses no hole."""
    try:
        found = pieces(template)
    except ValueError:
        return
    assert list(names(template)) == [piece for piece, hole in found if hole]
    written = [f"{{{p}}}" if hole else p.replace("{", "{{").replace("}", "}}") for p, hole in found]
    assert template == "".join(written)


@pytest.mark.parametrize("value", [None, True, 7, 0.5, "x", [1], {"a": 1}, 1 << 60])
def test_a_whole_hole_keeps_the_type(value: Any) -> None:
    """A text that is one hole is the value itself, wherever it stands; with more around it, it is text."""
    assert [{"x": value, "y": "{v}", "z": 1}] == fill([{"x": "{v}", "y": "{{v}}", "z": 1}], lambda _: value)


def test_filling_a_tree() -> None:
    """Values of tables and items of lists are filled, keys and other types stay."""
    template: Json = {"{a}": "{context.n}", "list": ["id-{context.n}", 1.5, None, False], "empty": {}}
    assert {"{a}": 7, "list": ["id-7", 1.5, None, False], "empty": {}} == fill(template, get)
    assert ["context.n", "context.n"] == list(names(template))


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "context.x",
        "context.jobId.x",
        "files.2",
        "files.-1",
        "files.x",
        "files.²",
        "files.\u0660",
        "context.",
        ".",
        "",
    ],
)
def test_what_is_missing_is_named(path: str) -> None:
    """A path that leads nowhere is Unfit, and says which path."""
    with pytest.raises(Unfit) as caught:
        at(DATA, path)
    assert f"{path} is missing" == str(caught.value)


def test_null_is_there() -> None:
    """A null is a value: present, and no text."""
    assert at(DATA, "context.no") is None
    with pytest.raises(Unfit, match=r"^context\.no is null, expected text$"):
        text("{context.no}!", get)


@pytest.mark.parametrize(
    ("said", "value"), [("null", None), ("a fraction", 0.5), ("a list", []), ("a table", {})]
)
def test_what_no_id_is(said: str, value: Json) -> None:
    """Null, fractions, lists and tables never become text."""
    with pytest.raises(Unfit, match=f"^it is {said}, expected text$"):
        plain(value, "it")


def test_every_value_goes_through_the_encoder() -> None:
    """The encoder sees each value, and never the template's own text."""
    assert "/a/US_JB_1/7" == text("/a/{context.jobId}/{context.n}", get, str.upper)


@pytest.mark.parametrize(
    ("said", "value"), [("text", "x"), ("a number", 1), ("true or false", True), ("a fraction", 1.5)]
)
def test_types_have_names(said: str, value: Json) -> None:
    """Messages name types as people do."""
    assert said == kind(value)
