"""What is read of a body, what is refused, and that a secret never stays in it."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.body import DEEPEST, MOST, Unparsable, parse, redact

TOKEN = "_accessToken"
SECRET = "s3cr3t-t0k3n-7f"
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4)
)
SPELLINGS = (
    b'"_accessToken"',
    b'"\\u005faccessToken"',
    b'"_access\\u0054oken"',
    "".join(f"\\u{ord(char):04X}" for char in TOKEN).join('""').encode(),
)


def refused(body: bytes) -> str:
    with pytest.raises(Unparsable) as caught:
        parse(body)
    return str(caught.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_64_levels_are_read_and_65_refused(opening: bytes) -> None:
    """Lists and tables nest 64 levels deep and no deeper."""
    closing = b"]" if opening == b"[" else b"}"
    for inner in (b"1", b"[]", b"{}"):
        deepest = DEEPEST - (inner != b"1")
        assert parse(opening * deepest + inner + closing * deepest) is not None
        assert "64 levels" in refused(opening * (deepest + 1) + inner + closing * (deepest + 1))


@pytest.mark.parametrize("number", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), 10**18, 10**19])
@pytest.mark.parametrize("place", ["{}", "[{}]", '{{"id": {} }}', '[1,{},"x"]', '{{"a":[[{}\n]]}}'])
def test_an_integer_of_64_bits_keeps_its_value(number: int, place: str) -> None:
    """What fits into 64 bits, with or without a sign, is read as it was written."""
    assert str(number) in str(parse(place.format(number).encode()))


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1, 10**20, -(10**19), 10**40, 10**300])
@pytest.mark.parametrize("place", ["{}", "[{}]", '{{"id": {} }}', '[1,{},"x"]', '{{"a":[[{}\n]]}}'])
def test_an_integer_beyond_64_bits_is_refused(number: int, place: str) -> None:
    """A longer integer would become another number, and another id, without a word."""
    assert "beyond 64 bits" in refused(place.format(number).encode())


@pytest.mark.parametrize(
    "text",
    [
        '"99999999999999999999"',
        '{"99999999999999999999": "\\"99999999999999999999"}',
        "0.99999999999999999999999",
        "1234567890123456789012.5",
        "12345678901234567890123e5",
        "1.5e-99999999999999999999",
        "1e-99999999999999999999",
        "1E-00000000000000000000001",
        "1e+00000000000000000000001",
        "-1e00000000000000000000001",
        "-0.00000000000000000000001",
    ],
)
def test_digits_elsewhere_are_no_integers(text: str) -> None:
    """Long runs of digits in text, fractions and exponents are fine."""
    assert orjson.loads(text) == parse(text.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":1}',
        b'[[{"x":{"id":1,"b":":","id":1}}]]',
        b'{"a":{"a":1},"b":{"":1,"":2}}',
        '{"é":1,"\\u00e9":2}'.encode(),
    ],
)
def test_a_key_that_stands_twice_is_refused(body: bytes) -> None:
    """Two readers could each believe in another of two equal keys, however they are spelled."""
    assert "twice" in refused(body)


def test_equal_keys_of_different_objects_are_fine() -> None:
    """Keys are told apart object by object, and colons in text are no keys."""
    assert {"a": {"a": [{"a": ":"}, {"a": '":"'}]}} == parse(b'{"a":{"a":[{"a":":"},{"a":"\\":\\""}]}}')


@pytest.mark.parametrize(
    ("opening", "one", "each", "closing", "others"),
    [
        (b"[", b"1", 1, b"]", 1),
        (b"[", b"{}", 1, b"]", 1),
        (b"[", b"[[]]", 2, b"]", 1),
        (b"[", b'{"a":1}', 2, b"]", 1),
        (b'{"a": [', b'",[{"', 1, b"]}", 2),
    ],
)
def test_100_000_values_are_read_and_one_more_is_refused(
    opening: bytes, one: bytes, each: int, closing: bytes, others: int
) -> None:
    """Lists, objects and what stands in them count alike; commas and brackets inside of texts do not."""
    number = (MOST - others) // each
    body = opening + b",".join([one] * number)

    assert parse(body + closing)
    assert refused(body + b",1,1" + closing)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\x00"',
        b"01",
        b"{} {}",
        b"{'a':1}",
        b"[1,]",
        b"topic=job%3Afailed",
    ],
)
def test_what_not_every_reader_takes_is_refused(body: bytes) -> None:
    """Only UTF-8 JSON as in RFC 8259 is read."""
    assert refused(body)


@given(JSON)
@example({"a": [(1 << 64) - 1, -(1 << 63), 1e22, 5e-324, "\x00😀", {"": {}}]})
def test_what_json_can_say_is_read_as_said(data: Any) -> None:
    """Within the limits, what was written is what is read."""
    assert data == parse(orjson.dumps(data))


@given(st.binary() | st.text(alphabet='{}[]":,\\ue19.-+ ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever came, it is data or Unparsable, never another exception."""
    try:
        data = parse(body)
    except Unparsable:
        return
    assert orjson.loads(body) == data


MEGA = 1 << 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"[" * MEGA,
        lambda: b"[[]," * (MEGA // 4),
        lambda: b"[" + b"[]," * (MEGA // 3) + b"1]",
        lambda: b'{"a":' * (MEGA // 5),
        lambda: b"9" * MEGA,
        lambda: b"[" + b"-1234567890123456789," * (MEGA // 21) + b"1]",
        lambda: b"0." + b"9" * MEGA,
        lambda: b'"' + b'\\"' * (MEGA // 2) + b'"',
        lambda: b'"' + b"\\" * MEGA,
        lambda: b'\\"' * (MEGA // 2) + b"\\",
        lambda: b'"' * MEGA,
        lambda: b":" * MEGA,
        lambda: b"[" + b'{"_accessToken":1},' * (MEGA // 19) + b"1]",
        lambda: b'{"_accessToken":' * (MEGA // 16),
        lambda: b"\\u005" * (MEGA // 5),
        lambda: b'{"_accessToken":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=range(16),
)
def test_a_hostile_mebibyte_is_quick(make: Callable[[], bytes]) -> None:
    """No body of the allowed size holds relay up."""
    body = make()
    began = time.process_time()
    with suppress(Unparsable):
        parse(redact(body, [TOKEN]))
    assert time.process_time() - began < 4.0


# -- redact --


def planted(spelling: bytes, value: Any, around: Any) -> bytes:
    """Return JSON with the token's member at the end of *around*, between members that must stay."""
    member = spelling + b" :\t" + orjson.dumps(value)
    return b'{ "a" : ' + orjson.dumps(around) + b", " + member + b' , "z":[1, 2 ]}'


@given(st.sampled_from(SPELLINGS), JSON, JSON)
def test_the_value_is_cut_and_every_other_byte_stays(spelling: bytes, value: Any, around: Any) -> None:
    """Whatever type the value has and however the key is spelled, only the value goes."""
    expected = b'{ "a" : ' + orjson.dumps(around) + b", " + spelling + b' :\t"[removed]" , "z":[1, 2 ]}'

    assert expected == redact(planted(spelling, value, around), [TOKEN])


@given(JSON, st.sampled_from([TOKEN, "b"]))
def test_at_any_depth_and_still_json(data: Any, name: str) -> None:
    """Members of that name are cut wherever they are; the rest reads as before."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "[removed]" if key in names else cut(item) for key, item in value.items()}
        return [cut(item) for item in value] if isinstance(value, list) else value

    names = [name, "a", "0"]
    deep = [{"x": [data, {name: {name: data, "c": data}}]}, {"b": name, "a": [f"{name}:"]}]

    assert cut(deep) == orjson.loads(redact(orjson.dumps(deep), names))


@given(st.binary())
def test_without_names_nothing_is_cut(body: bytes) -> None:
    """A source without anything to hide keeps its bytes."""
    assert body == redact(body, ())


@given(JSON, st.sampled_from(["token", "accessToken", "_accesstoken", ""]))
def test_other_members_stay(data: Any, name: str) -> None:
    """Only the very name is cut."""
    body = orjson.dumps([{name: SECRET}, data])
    assert body == redact(body, [TOKEN])


HOLDERS = (
    SECRET,
    f'a "quoted" {SECRET} \\',
    [1, {"x": f" {SECRET}, "}],
    {"}": f"{SECRET}é"},
    f"]}}\n{SECRET}",
)


@given(st.sampled_from(SPELLINGS), st.sampled_from(HOLDERS), JSON, st.data())
def test_a_body_cut_anywhere_leaks_nothing(
    spelling: bytes, value: Any, around: Any, data: st.DataObject
) -> None:
    """A body that broke off at any byte after the secret began still does not show it."""
    body = planted(spelling, value, around)
    at = data.draw(st.integers(body.index(SECRET.encode()) + 4, len(body)))

    assert SECRET[:4].encode() not in redact(body[:at], [TOKEN])


@pytest.mark.parametrize(
    "body",
    [
        f'{{"_accessToken":"a {SECRET}\\',
        f'{{"_accessToken":"a"{SECRET}"}}',
        f'{{"a":"x"y","_accessToken":"{SECRET}"}}',
        f'{{"a":"x"y","\\u005FaccessToken":"{SECRET}"}}',
        f'{{"a":NaN,"_accessToken":"{SECRET}"}}',
        f'{{"a":"\\ud800","_accessToken":{{"b":["{SECRET}"]}}}}',
        f"{{'_accessToken': '{SECRET}'}}",
        f"_accessToken={SECRET}&topic=job%3Afailed",
        f'{{"_accessToken": a {SECRET}}}',
        f'{{"_accessToken":}} {SECRET}',
        f'\ufeff{{"_accessToken":"{SECRET}"}}',
    ],
)
def test_what_is_not_json_is_cut_from_the_name_on(body: str) -> None:
    """What can't be understood must not be stored: nothing behind the name stays."""
    for encoding in ("utf-8", "utf-16"):
        assert SECRET.encode(encoding)[-4:] not in redact(body.encode(encoding), [TOKEN])
