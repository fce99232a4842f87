"""What holes are, and how they are filled."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Unfit
from relay.event import Json
from relay.template import ENVELOPE, LONGEST, at, fill, kind, names, needed, pieces, plain, text

DATA: Json = {
    "context": {"jobId": "us_jb_1", "n": 7, "on": True, "no": None, "half": 0.5},
    "files": [{"id": "a"}, {"id": "b"}],
    "0": {"x": "zero"},
    "dé": "é",
    "$headers": {"x-id": "h-1"},
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
        ("h-1", "{$headers.X-Id}"),
        ("b", "{files.-1.id}"),
        ('{x}"}', '{nope|"{x}\\"}"}'),
        ("a{,}b", '{files.*.id|join:"{,}"}'),
        ("A-b", '{files.0.id | upper}-{nope |"b"}'),
        ("a\nb", '{files.*.id|join:"\n"}'),
        ('{a|"x"}', '{{a|"x"}}'),
    ],
)
def test_holes_are_filled_and_the_rest_stays(expected: str, template: str) -> None:
    """A path in braces is a value, doubled braces are braces, quoted braces too, all else is itself."""
    assert expected == text(template, get)


LONE = "a lone '{'; write '{{' for a brace"
ENDS = "a lone '}'; write '}}' for a brace"
PATH = "expected a path between the braces, as in {context.jobId}, got "
STEP = "expected a default or a filter behind each | and then a brace, got "
AS_IN = ' (as in {path|"x"} or {path|join:", "})'


@pytest.mark.parametrize(
    ("flaw", "template"),
    [
        (LONE, "{"),
        (ENDS, "}"),
        (LONE, "a { b"),
        (ENDS, "a } b"),
        (PATH + "'{}'", "{}"),
        (PATH + "'{ }'", "{ }"),
        (PATH + "'{ a }'", "{ a }"),
        (PATH + "'{a b}'", "{a b}"),
        (PATH + "'{a{b}'", "{a{b}}"),
        (PATH + """'{"id": 1}'""", '{"id": 1}'),
        (PATH + """'{a"}'""", '{a"}'),
        (PATH + "'{|x}'", "{|x}"),
        (LONE, "{a"),
        (ENDS, "a}"),
        (ENDS, "{{a}"),
        (ENDS, "{a}}"),
        (ENDS, "{{{a}}"),
        ("a step of 'a..b' is empty", "{a..b}"),
        ("a step of 'a.' is empty", "{a.}"),
        (STEP + "'{a|}'" + AS_IN, "{a|}"),
        (STEP + "'{a||first}'" + AS_IN, "{a||first}"),
        (STEP + '''"{a|'x'}"''' + AS_IN, "{a|'x'}"),
        (STEP + """'{a|"x}'""" + AS_IN, '{a|"x}'),
        (STEP + """'{a|"x" b}'""" + AS_IN, '{a|"x" b}'),
        (STEP + """'{a|{"b": 1}'""" + AS_IN, '{a|{"b": 1}}'),
        (STEP + """'{a|[[1]]}'""" + AS_IN, "{a|[[1]]}"),
        (STEP + """'{a|join(", ")}'""" + AS_IN, '{a|join(", ")}'),
        ("01 can't be read as JSON", "{a|01}"),
        ('"\\x" can\'t be read as JSON', '{a|"\\x"}'),
        ('"\\ud800" can\'t be read as JSON', '{a|"\\ud800"}'),
        ("99999999999999999999 can't be read as JSON", "{a|99999999999999999999}"),
        ("there is no '$sorce' (did you mean '$source'?)", "{$sorce}"),
        ("there is no '$headers' (did you mean '$headers.NAME'?)", "{$headers}"),
        ("there is no '$id.x' (did you mean '$id'?)", "{$id.x}"),
        ("there is no '$' (known: " + ", ".join(sorted(ENVELOPE)) + ")", "{$}"),
        (f"longer than {LONGEST} bytes", "é" * (LONGEST // 2 + 1)),
    ],
)
def test_what_can_be_meant_in_two_ways_is_an_error(flaw: str, template: str) -> None:
    """What no template says is told to its author, with what was found."""
    with pytest.raises(ValueError, match=r".") as caught:
        pieces(template)
    assert flaw == str(caught.value)
    with pytest.raises(ValueError, match=r"."):
        list(names({"x": [template]}))


@given(st.text())
def test_any_text_can_be_written(said: str) -> None:
    """With its braces doubled, every text stands for itself."""
    assert said == text(said.replace("{", "{{").replace("}", "}}"), get)


@given(st.text())
def test_any_text_can_be_a_default(said: str) -> None:
    """As JSON and with its braces as they are, every text can be a default, line breaks and all."""
    written = json.dumps(said, ensure_ascii=False)
    assert said == fill(f"{{nope|{written}}}", get)
    assert f"<{said}>" == text(f"<{{nope|{written}}}>", get)


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


def test_the_paths_of_a_template_are_told_without_its_filters() -> None:
    """Others check paths against what they know, and must know which of them can be done without."""
    template: Json = ['{a.*.b|join:"}"} {b | 1}', {"x": '{c|lower|"{d}"}'}, "{e|first}"]
    assert ["a.*.b", "b", "c", "e"] == list(names(template))
    assert ["a.*.b", "e"] == list(needed(template))
    assert (("b", True), ("!", False)) == pieces("{b|1}!")


# -- paths --

SEVERAL: Json = {
    "items": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}],
    "rows": [[1, 2], [3]],
    "none": [],
    "*": {"x": "star"},
    "table": {"a": {"id": 1}},
}


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        ([1, 2], "items.*.id"),
        ([[1, 2], [3]], "rows.*"),
        ([1, 2, 3], "rows.*.*"),
        ([1, 3], "rows.*.0"),
        ([2, 3], "rows.*.-1"),
        (["a", "b"], "items.*.tags.*"),
        ([["a", "b"], []], "items.*.tags"),
        ([], "none.*"),
        ([], "none.*.a.*.b"),
        ("star", "*.x"),
        (2, "items.-1.id"),
        (1, "items.-2.id"),
    ],
)
def test_paths_into_lists(expected: Json, path: str) -> None:
    """A number picks, from the end if negative; ``*`` takes each element, and gives one flat list."""
    assert expected == at(SEVERAL, path)


def test_keys_with_dots_are_found_as_in_patterns() -> None:
    """The shortest key that is there leads on."""
    dotted: Json = {"a.b": {"c.d": 1}, "e": [{"f.g": 2}], "h": {"i": 3}, "h.i": 4}
    assert [1, 2, [2], 3] == [at(dotted, path) for path in ("a.b.c.d", "e.0.f.g", "e.*.f.g", "h.i")]


@pytest.mark.parametrize(
    ("missing", "path"),
    [
        ("items.0.x", "items.*.x"),
        ("items.1.tags.0", "items.*.tags.0"),
        ("table.*", "table.*"),
        ("items.-3.id", "items.-3.id"),
        ("items.-0.id", "items.-0.id"),
        ("items.00.id", "items.00.id"),
        ("items." + "9" * 5000, "items." + "9" * 5000),
    ],
)
def test_no_element_may_lack_what_is_asked_of_each(missing: str, path: str) -> None:
    """A list with a hole in it is no list to act on: it says which element lacks what."""
    with pytest.raises(Unfit) as caught:
        at(SEVERAL, path)
    assert f"{missing} is missing" == str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "context.x",
        "context.jobId.x",
        "files.2",
        "files.-3",
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
    assert "/a/X" == text('/a/{nope|"x"}', get, str.upper)


@pytest.mark.parametrize(
    ("said", "value"), [("text", "x"), ("a number", 1), ("true or false", True), ("a fraction", 1.5)]
)
def test_types_have_names(said: str, value: Json) -> None:
    """Messages name types as people do."""
    assert said == kind(value)


# -- how long --


@pytest.mark.parametrize(
    ("template", "data"),
    [
        ("{a}", "é" * (LONGEST // 2)),
        ("{a}", ["x" * (LONGEST - 4)]),
        ("{a}", {"k": "x" * (LONGEST - 8)}),
        ("{a}{a}", "x" * (LONGEST // 2)),
        ("<{a}>", "x" * (LONGEST - 2)),
        ('{a|join:"x"}', [""] * (LONGEST + 1)),
        ("{a|json}", "x" * (LONGEST - 2)),
    ],
)
def test_a_template_has_an_end(template: str, data: Json) -> None:
    """What one template becomes is 64 KiB at most, as text or as JSON; one byte more is Unfit."""

    def longer(value: Json) -> Json:
        match value:
            case str():
                return value + "x"
            case list():
                return [*value[:-1], str(value[-1]) + "x"]
            case _:
                return {"k": f"{value['k']}x"} if isinstance(value, dict) else value

    assert fill(template, lambda _: data)
    with pytest.raises(Unfit, match=f"longer than {LONGEST} bytes$"):
        fill(template, lambda _: longer(data))
