"""What an action lets in: values in the types that it declares, and nothing that was rounded or is no id."""

from typing import Any

import pytest
from build import action, unfit

from relay.event import Json
from relay.provider import Action, Shape, Value
from relay.render import EXACT, checked


def one_value(**spec: Any) -> Action:
    return action(shape=Shape(method="POST", path="/x", json={"v": "{v}"}), values={"v": Value(**spec)})


@pytest.mark.parametrize(
    ("expected", "spec", "value"),
    [
        ("x", {}, "x"),
        (" x ", {}, " x "),
        ("7", {}, 7),
        (str(EXACT - 1), {}, EXACT - 1),
        (str(1 - EXACT), {}, 1 - EXACT),
        ("1978297791713619968", {}, "1978297791713619968"),
        ("é" * 128, {}, "é" * 128),
        ("1862F090-A281-48F3-8838-26C1E78B605E", {"format": "uuid"}, "1862F090-A281-48F3-8838-26C1E78B605E"),
        ("123", {"pattern": "[0-9]{1,3}"}, "123"),
        ("123", {"pattern": "[0-9]{1,3}"}, 123),
        (True, {"type": "boolean"}, True),
        (0, {"type": "integer"}, 0),
        (EXACT * 4, {"type": "integer"}, EXACT * 4),
        (None, {"type": "any"}, None),
        ([{}], {"type": "any"}, [{}]),
    ],
)
def test_values_that_fit(expected: Json, spec: dict[str, Any], value: Json) -> None:
    """Text may come as a whole number; the rest comes in its own type."""
    assert {"v": expected} == checked(one_value(**spec), {"v": value})


@pytest.mark.parametrize(
    ("expected", "spec", "value"),
    [
        ("v is null, expected text", {}, None),
        ("v is a fraction, expected text", {}, 1.978e18),
        ("v is true or false, expected text", {}, True),
        ("v is a list, expected text", {}, ["x"]),
        ("v is a table, expected text", {}, {}),
        ("v is empty", {}, ""),
        ("v is empty", {}, " \u2003"),
        ("v holds a control character", {}, "a\x1fb"),
        ("v is longer than 256 bytes", {}, "é" * 129),
        ("v is longer than 3 bytes", {"max": 3}, 1234),
        ("v is a number of 2^53 or beyond", {}, EXACT),
        ("v is a number of 2^53 or beyond", {}, -EXACT),
        ("v is a number of 2^53 or beyond", {}, 1978297791713619968),
        ("expected a UUID", {"format": "uuid"}, "us_jb_1"),
        ("expected a UUID", {"format": "uuid"}, "{1862f090-a281-48f3-8838-26c1e78b605e}"),
        ("expected a UUID", {"format": "uuid"}, "1862f090a28148f3883826c1e78b605e"),
        ("expected a UUID", {"format": "uuid"}, "urn:uuid:1862f090-a281-48f3-8838-26c1e78b605e"),
        ("does not match [0-9]{1,3}", {"pattern": "[0-9]{1,3}"}, "1234"),
        ("v is '12x', which does not match [0-9]{1,3}", {"pattern": "[0-9]{1,3}"}, "12x"),
        (
            "The count (v) is '12x', which does not match [0-9]{1,3}",
            {"pattern": "[0-9]{1,3}", "title": "The count"},
            "12x",
        ),
        ("expected true or false", {"type": "boolean"}, "true"),
        ("expected true or false", {"type": "boolean"}, 1),
        ("expected a whole number", {"type": "integer"}, "1"),
        ("expected a whole number", {"type": "integer"}, 1.0),
        ("expected a whole number", {"type": "integer"}, True),
        ("can be no part of JSON", {"type": "integer"}, 1 << 64),
        ("can be no part of JSON", {"type": "any"}, [1 << 64]),
    ],
)
def test_values_that_do_not_fit(expected: str, spec: dict[str, Any], value: Any) -> None:
    """What can't be sent as it should is refused, with the name and what was expected."""
    assert expected in unfit(one_value(**spec), {"v": value})


def test_values_are_those_declared() -> None:
    """A value too many or too few is refused by its name; an optional one may be missing."""
    one = action(values={"job_id": Value(), "note": Value(optional=True)})
    assert {"job_id": "x"} == checked(one, {"job_id": "x"})
    assert "job_id is missing" == unfit(one, {"note": "x"})
    assert "other is no value of retry" == unfit(one, {"job_id": "x", "other": "y"})
