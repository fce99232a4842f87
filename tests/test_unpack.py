"""Which events does a delivery hold, whatever form it has?"""

import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from build import NOW, incoming, pattern, source
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Rejected
from relay.event import Event, Json, Trust
from relay.match import TOO_MUCH
from relay.source import Incoming, private
from relay.unpack import MOST_EVENTS, unpack

FORM = "application/x-www-form-urlencoded"


def held(body: bytes, kind: str = "", headers: dict[str, str] | None = None, **of: Any) -> tuple[Event, ...]:
    """Return the events of a delivery, as a source of these words reads it."""
    named = {"Content-Type": kind} if kind else {}
    return unpack(source(**of), incoming(body, named | (headers or {})), Trust.VERIFIED, NOW)


# -- forms --


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (b"a=1", {"a": "1"}),
        (b"a=1&b=2&a=3&a=", {"a": ["1", "3", ""], "b": "2"}),
        (b"a=%C3%A9+%26%3D&%C3%A9=x", {"a": "é &=", "é": "x"}),
        (b"a.b=1&=2", {"a.b": "1", "": "2"}),
    ],
)
def test_a_form_becomes_the_json_that_rules_see(form: bytes, data: Json) -> None:
    """Its fields are texts, one that stands twice is a list; that JSON is what is stored."""
    (event,) = held(form, FORM, reads="form")
    assert (data, orjson.dumps(data), "") == (event.data, event.body, event.flaw)
    assert hashlib.sha256(form).hexdigest() == event.digest


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=9))
def test_every_form_comes_out_as_it_went_in(fields: dict[str, str]) -> None:
    """Whatever stands in it, a field's value is the text that the sender wrote."""
    (event,) = held(urlencode(fields).encode(), reads="form")
    assert fields == event.data


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (b"payload=%7B%22id%22%3A7%7D&x=1", b'{"id":7}'),
        (b"payload=%7B%7D&payload=%5B%5D", b'{"payload":["{}","[]"]}'),
        (b"command=%2Frelay", b'{"command":"/relay"}'),
        (b"payload=no", b"no"),
    ],
)
def test_json_in_a_field_is_the_event(form: bytes, body: bytes) -> None:
    """It is what the sender means; a form without that one field is the event itself."""
    (event,) = held(form, FORM, reads="form", form_field="payload")
    assert body == event.body
    assert (body == b"no") == bool(event.flaw)


@pytest.mark.parametrize(
    ("kind", "body", "reads", "data"),
    [
        (FORM, b"a=1", "json", {"a": "1"}),
        (f"{FORM.upper()}; charset=utf-8", b"a=1", "json", {"a": "1"}),
        (FORM, b' {"a": "1"}', "json", {"a": "1"}),
        ("", b"a=1", "json", None),
        ("", b"a=1", "form", {"a": "1"}),
        ("application/json", b'{"a": 1}', "form", {"a": 1}),
    ],
)
def test_what_is_a_form(kind: str, body: bytes, reads: str, data: Json) -> None:
    """What says so, and what comes unsaid where forms are expected; curl calls all that it posts a form."""
    (event,) = held(body, kind, reads=reads)
    assert data == event.data


@pytest.mark.parametrize(
    "body", [b"no form", b"a=1&b", b"a=%FF", b"a=\xff", b"&".join([b"a=1"] * 1_001)], ids=range(5)
)
def test_a_form_that_can_not_be_read_is_kept(body: bytes) -> None:
    """With its bytes and its flaw, which repeats nothing of them."""
    (event,) = held(body, FORM, reads="form")
    assert (body, None, None) == (event.body, event.data, event.delivery)
    assert event.flaw.startswith("not a form of at most 1,000 fields")


def test_no_secret_of_a_form_is_stored() -> None:
    """It is cut by its name, like JSON; a form that can't be read and may hold it is cut away as a whole."""
    (event,) = held(b"token=sk_live&a=1", reads="form", redact=("token",))
    assert {"token": "[removed]", "a": "1"} == event.data
    (event,) = held(b"tok%65n=sk_live&broken", reads="form", redact=("token",))
    assert b"[removed]" == event.body


# -- lists --

BATCH = b'{"alerts": [{"id": "a", "n": 18446744073709551615}, {"id": "b"}, 7, null], "id": "all"}'


def test_each_item_of_a_list_is_an_event() -> None:
    """Its body is the item, its ids are the item's own; what is no object is kept as it is."""
    events = held(BATCH, split="alerts", delivery=("body:id",))
    assert [b'{"id":"a","n":18446744073709551615}', b'{"id":"b"}', b"7", b"null"] == [
        one.body for one in events
    ]
    assert ["a", "b", None, None] == [one.delivery for one in events]
    assert 4 == len({one.digest for one in events}) == len({one.id for one in events})


def test_the_same_batch_is_known_again() -> None:
    """Each item by its place in the same signed bytes."""
    once, again = held(BATCH, split="alerts"), held(BATCH, split="alerts")
    assert [one.digest for one in once] == [one.digest for one in again]


def test_a_header_can_not_make_one_event_of_several() -> None:
    """An id that the delivery has as a whole gets the item's number; it would make duplicates of them."""
    events = held(b"[{}, {}]", headers={"X-Id": "d"}, split="", delivery=("body:id", "header:x-id"))
    assert ["d#0", "d#1"] == [one.delivery for one in events]


@pytest.mark.parametrize("body", [b'{"alerts": []}', b'{"alerts": {}}', b"{}", b"[1]", b'{"alerts": ["'])
def test_what_holds_no_list_is_one_event(body: bytes) -> None:
    """Nothing is lost: the whole body is kept, if need be with its flaw."""
    (event,) = held(body, split="alerts")
    assert body == event.body


def test_the_body_itself_may_be_the_list() -> None:
    """The path to it is empty then; a list within lists is reached by its path."""
    assert 2 == len(held(b"[1, 2]", split=""))
    assert 3 == len(held(b'[{"e": [1, 2]}, {"e": [3]}]', split="*.e.*"))


def test_too_many_events_are_refused() -> None:
    """A thousand is the most; beyond, the sender is told, and nothing is kept."""
    assert MOST_EVENTS == len(held(orjson.dumps([{}] * MOST_EVENTS), split=""))
    with pytest.raises(Rejected) as caught:
        held(orjson.dumps([{}] * (MOST_EVENTS + 1)), split="")
    assert 413 == caught.value.status


def test_items_are_redacted() -> None:
    """Each for itself, as a body of one event is."""
    (event,) = held(b'[{"token": "sk_live"}]', split="", redact=("token",))
    assert b'{"token":"[removed]"}' == event.body


# -- what an event says of itself --


@pytest.mark.parametrize(
    ("data", "tells"),
    [
        ({"state": "failed"}, "failed"),
        ({"state": "ok"}, "recovered"),
        ({"state": "both"}, "failed"),
        ({"state": "new"}, ""),
    ],
)
def test_an_event_tells_what_its_source_reads_in_it(data: Json, tells: str) -> None:
    """That a resource has failed, or is well; failure goes first."""
    (event,) = held(
        orjson.dumps(data),
        failed=pattern({"state": ["failed", "both"]}),
        recovered=pattern({"state": ["ok", "both"]}),
    )
    assert tells == event.tells


def test_patterns_of_a_source_see_type_and_headers() -> None:
    """Whatever names the type and the header that it asks for."""
    failed = pattern({"$type": "run", "$headers.x-kind": "bad"})
    told: dict[str, Any] = {"type": ("header:x-type",), "failed": failed, "asked": ("x-kind",)}
    (event,) = held(b"{}", headers={"X-Type": "run", "X-Kind": "bad"}, **told)
    assert ("failed", {"x-type": "run", "x-kind": "bad"}) == (event.tells, event.headers)


def test_what_is_too_much_to_judge_tells_nothing() -> None:
    """It is kept all the same: rules that ask for it are not met, and nothing is raised."""
    failed = pattern({"a": {"regex": "(a|b)*a(a|b){490}"}})
    data: dict[str, Json] = {"a": "ab" * 500_000}
    (event,) = held(orjson.dumps(data), failed=failed)
    assert ("", "") == (event.tells, event.flaw)
    assert TOO_MUCH in str(failed.miss(data))


@pytest.mark.parametrize(
    ("header", "is_private"),
    [
        ("authorization", True),
        ("proxy-authorization", True),
        ("cookie", True),
        ("set-cookie", True),
        ("x-gitlab-token", True),
        ("x-goog-channel-token", True),
        ("x-token", True),
        ("x-hook-secret", True),
        ("x-api-key", True),
        ("x-hub-signature", True),
        ("webhook-signature", True),
        ("x-signature-ed25519", True),
        ("x-signature-timestamp", False),
        ("x-zendesk-webhook-signature-timestamp", False),
        ("i-twilio-idempotency-token", False),
        ("idempotency-key", False),
        ("x-request-id", False),
        ("x-tokens-left", False),
    ],
)
def test_a_credential_is_known_by_its_headers_name(header: str, is_private: bool) -> None:
    """Whoever asks for it, it is never kept; a time and an id are no credentials."""
    assert is_private is private(header)
    (event,) = held(b"{}", headers={header: "x"}, asked=(header,), type=(f"header:{header}",))
    assert is_private is (header not in event.headers)
    assert (None if is_private else "x") == event.type


# -- anything --

KINDS = [
    FORM,
    "",
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "text/x",
]
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "items", "data", "x"]), inner),
    max_leaves=20,
)
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=20)


@given(
    body=st.binary(max_size=60)
    | JSONS.map(lambda data: json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")),
    kind=st.sampled_from(KINDS),
    attributes=st.dictionaries(st.sampled_from(["ce-id", "ce-source", "ce-x"]), st.lists(HEADER, min_size=1)),
    reads=st.sampled_from(["json", "form", "cloudevents"]),
    split=st.sampled_from([None, "", "items"]),
)
def test_no_delivery_is_lost_whatever_it_holds(
    body: bytes, kind: str, attributes: dict[str, list[str]], reads: Any, split: str | None
) -> None:
    """Each is at least one event, each event has data or a flaw, and nothing is raised."""
    of = source(reads=reads, split=split, form_field="id", delivery=("body:id", "header:ce-x"), redact=("x",))
    headers = {"content-type": (kind,), **{name: tuple(values) for name, values in attributes.items()}}
    events = unpack(of, Incoming(headers=headers, body=body), Trust.AUTHENTICATED, NOW)
    assert events
    for event in events:
        assert bool(event.flaw) or orjson.loads(event.body) == event.data
        assert not event.flaw or event.data is None


# -- JSON inside a text --


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"m":"{\\"a\\":1}","x":2}', {"m": {"a": 1}, "x": 2}),
        (b'{"m":"[1,2]"}', {"m": [1, 2]}),
        (b'{"n":{"d":"eyJhIjp7ImIiOjF9fQ=="}}', {"n": {"d": {"a": {"b": 1}}}}),
        (b'{"m":"plain words","n":{"d":"eyJh"}}', {"m": "plain words", "n": {"d": "eyJh"}}),
        (b'{"m":"7","n":{"d":"Nw=="}}', {"m": "7", "n": {"d": "Nw=="}}),
        (b'{"m":"{\\"a\\":1,\\"a\\":2}"}', {"m": '{"a":1,"a":2}'}),
        (b'{"m":null,"n":[{"d":"e30="}]}', {"m": None, "n": [{"d": "e30="}]}),
        (b'{"m":{"a":"{}"}}', {"m": {"a": "{}"}}),
        (b"[]", []),
    ],
)
def test_an_object_inside_a_text_is_opened(body: bytes, data: Json) -> None:
    """Where the source says so, and only objects and lists; opened once, it is the same ever after."""
    (event,) = held(body, nested=("m", "base64:n.d"))
    assert data == event.data == orjson.loads(event.body)
    (again,) = held(event.body, nested=("m", "base64:n.d"))
    assert (event.data, event.body) == (again.data, again.body)


def test_what_was_inside_a_text_is_redacted_too() -> None:
    """A secret does not hide one level further in."""
    (event,) = held(b'{"m":"{\\"token\\":\\"abc-abc\\"}"}', nested=("m",), redact=("token",))
    assert b"abc-abc" not in event.body
    assert {"m": {"token": "[removed]"}} == event.data


def test_a_body_that_cannot_be_read_is_not_opened() -> None:
    """It is kept as it came, with its flaw."""
    (event,) = held(b'{"m":"{}"', nested=("m",))
    assert b'{"m":"{}"' == event.body
    assert event.flaw
