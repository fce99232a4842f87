"""CloudEvents 1.0 over HTTP: structured, batch and binary, all as one form of JSON."""

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest
from build import NOW, incoming, source

from relay.event import Event, Json, Trust
from relay.source import Incoming
from relay.unpack import unpack

CLOUD = source(
    name="cloud",
    reads="cloudevents",
    delivery=("body:source+body:id",),
    type=("body:type",),
    resource=("body:subject",),
    time=("body:time",),
)
EVENT: dict[str, Json] = {"specversion": "1.0", "id": "A-1", "source": "/jobs", "type": "job.failed"}
ATTRIBUTES = {f"ce-{name}": str(value) for name, value in EVENT.items()}


def held(of: Incoming, trust: Trust = Trust.VERIFIED) -> tuple[Event, ...]:
    return unpack(CLOUD, of, trust, NOW)


def structured(event: Any, kind: str = "application/cloudevents+json; charset=utf-8") -> Event:
    (found,) = held(incoming(orjson.dumps(event), {"Content-Type": kind}))
    return found


def binary(body: bytes, kind: str = "", **more: str) -> Event:
    """Read an event whose attributes are headers; *more* are further ones, or others."""
    named = {f"ce-{name}": value for name, value in more.items()}
    headers = ATTRIBUTES | named | ({"Content-Type": kind} if kind else {})
    (found,) = held(incoming(body, headers))
    return found


def test_structured_is_kept_as_it_is() -> None:
    """With extensions and data_base64; its attributes say what happened, to what, and when."""
    given = EVENT | {"subject": "job/7", "time": "2026-01-31T08:00:00Z", "ours": "x", "data_base64": "AAE="}
    event = structured(given)
    assert (orjson.dumps(given), given, "") == (event.body, event.data, event.flaw)
    assert ("job.failed", "/jobs A-1", "job/7") == (event.type, event.delivery, event.resource)
    assert 1_769_846_400_000 == event.happened_at


def test_binary_becomes_structured() -> None:
    """Headers are attributes, extensions among them, and the body is the data."""
    event = binary(b'{"n": 1}', "application/json", subject="job/7", ours="x")
    wanted = EVENT | {
        "subject": "job/7",
        "ours": "x",
        "datacontenttype": "application/json",
        "data": {"n": 1},
    }
    assert wanted == event.data == orjson.loads(event.body)
    assert ("job.failed", "/jobs A-1", "job/7") == (event.type, event.delivery, event.resource)


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("", b"", {}),
        ("", b"[1]", {"data": [1]}),
        ("text/json", b"null", {"data": None}),
        ("application/vnd.x+json;v=1", b'"x"', {"data": "x"}),
        ("text/plain", "é".encode(), {"data": "é"}),
        ("text/plain", b"\xe9", {"data_base64": base64.b64encode(b"\xe9").decode()}),
        ("application/xml", b"<a/>", {"data": "<a/>"}),
        ("application/octet-stream", b"\0\1", {"data_base64": "AAE="}),
        ("application/octet-stream", b'{"a": 1}', {"data_base64": "eyJhIjogMX0="}),
    ],
)
def test_data_is_json_text_or_base64(kind: str, body: bytes, data: dict[str, Json]) -> None:
    """As its media type says; what is neither JSON nor UTF-8 loses no byte."""
    event = binary(body, kind)
    assert EVENT | data | ({"datacontenttype": kind} if kind else {}) == event.data


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("a%2520b", "a%20b"),
        ('"quoted \\"%41\\""', 'quoted "A"'),
        ("50% off", "50% off"),
        ("%ff", "%ff"),
        ("%C3%A9", "é"),
        ("\xc3\xa9", "é"),
    ],
)
def test_attributes_are_percent_decoded_once(sent: str, read: str) -> None:
    """As the HTTP binding says in 3.1.3.2; what would be no text stays as it was sent."""
    event = binary(b"", "", subject=sent)
    assert isinstance(event.data, dict)
    assert read == event.data["subject"]


def test_no_header_takes_the_bodys_place() -> None:
    """Data and its type are not attributes that a header may bring."""
    event = binary(b"1", "application/json", data="x", datacontenttype="text/plain")
    assert EVENT | {"data": 1, "datacontenttype": "application/json"} == event.data


def test_each_event_of_a_batch_is_its_own() -> None:
    """Good or not: what is no CloudEvent is kept beside the others, and says what it lacks."""
    batch = [EVENT, EVENT | {"id": "A-2"}, {"id": "A-3"}, 7]
    events = held(
        incoming(orjson.dumps(batch), {"Content-Type": "application/cloudevents-batch+json"}),
    )
    assert ["/jobs A-1", "/jobs A-2", None, None] == [one.delivery for one in events]
    assert [
        "",
        "",
        "not a CloudEvent: it lacks source, specversion, type",
        "not a CloudEvent: expected an object",
    ] == [one.flaw for one in events]
    assert batch == [orjson.loads(one.body) for one in events]
    assert [EVENT, EVENT | {"id": "A-2"}, None, None] == [one.data for one in events]


@pytest.mark.parametrize("lacks", list(EVENT))
@pytest.mark.parametrize("value", [None, "", 7])
def test_what_lacks_an_attribute_is_kept_with_its_flaw(lacks: str, value: Json) -> None:
    """The four that each event has are texts, and not empty; what is there of it is not lost."""
    given = {name: text for name, text in EVENT.items() if name != lacks}
    given |= {} if value is None else {lacks: value}
    event = structured(given)
    assert (None, orjson.dumps(given)) == (event.data, event.body)
    assert f"not a CloudEvent: it lacks {lacks}" == event.flaw
    if not isinstance(value, int):
        headers = {f"ce-{name}": str(text) for name, text in given.items()}
        (event,) = held(incoming(b"", headers))
        assert (None, given) == (event.data, orjson.loads(event.body))
        assert f"not a CloudEvent: it lacks {lacks}" == event.flaw


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (b"{}", "application/json", "it lacks id, source, specversion, type"),
        (b"{", "application/cloudevents+json", "not JSON"),
        (b"[]", "application/cloudevents-batch+json", "expected an object"),
        (b"<a/>", "application/cloudevents+xml", "not JSON"),
        (orjson.dumps(EVENT | {"specversion": "0.3"}), "application/cloudevents+json", "specversion is 0.3"),
    ],
)
def test_what_is_no_cloudevent_is_kept(body: bytes, kind: str, why: str) -> None:
    """To the byte, and the reason is told."""
    (event,) = held(incoming(body, {"Content-Type": kind}))
    assert (body, None) == (event.body, event.data)
    assert why in event.flaw


def test_json_that_can_not_be_read_is_kept_as_it_came() -> None:
    """Data that is said to be JSON, and is not."""
    event = binary(b"{", "application/json")
    assert (b"{", None) == (event.body, event.data)
    assert event.flaw.startswith("not JSON")


def test_an_attribute_that_stands_twice_is_none() -> None:
    """Two ids are no id; nothing picks one of them."""
    headers = {name: (value,) for name, value in ATTRIBUTES.items()} | {"ce-id": ("A-1", "A-2")}
    (event,) = held(Incoming(headers=headers, body=b""))
    assert "not a CloudEvent: it lacks id" == event.flaw


def test_events_with_the_same_data_are_two() -> None:
    """In binary mode the body alone does not tell them apart, unless only the body is signed."""

    def digest(number: str, trust: Trust) -> str:
        return held(incoming(b"{}", ATTRIBUTES | {"ce-id": number}), trust)[0].digest

    assert digest("A-1", Trust.AUTHENTICATED) != digest("A-2", Trust.AUTHENTICATED)
    assert digest("A-1", Trust.AUTHENTICATED) == digest("A-1", Trust.AUTHENTICATED)
    assert digest("A-1", Trust.VERIFIED) == digest("A-2", Trust.VERIFIED)


def test_data_is_redacted_in_every_mode() -> None:
    """What the source cuts is cut wherever it stands."""
    of = replace(CLOUD, redact=("token",))
    for body, headers in (
        (orjson.dumps(EVENT | {"data": {"token": "sk"}}), {"Content-Type": "application/cloudevents+json"}),
        (b'{"token": "sk"}', ATTRIBUTES | {"Content-Type": "application/json"}),
    ):
        (event,) = unpack(of, incoming(body, headers), Trust.VERIFIED, NOW)
        assert b"sk" not in event.body
