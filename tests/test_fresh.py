"""What is new about a fresh sample?  Its id and its time, each in the form that it had; and nothing else."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from build import NOW, incoming, source

from relay.cli.fresh import fresh
from relay.event import Event, Trust
from relay.source import Sample, Source
from relay.unpack import unpack

UUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
SECOND = NOW // 1000


def made(of: Source, body: Any, headers: Mapping[str, str] | None = None) -> Sample:
    """Make a sample fresh; a body that is no text is JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return fresh(of, Sample(name="x", headers=headers or {}, body=text.encode()), NOW)


def events(of: Source, sample: Sample) -> tuple[Event, ...]:
    """Return what relay reads in a sample."""
    return unpack(of, incoming(sample.body, sample.headers, query=sample.query), Trust.VERIFIED, NOW)


@pytest.mark.parametrize(
    ("old", "form"),
    [
        (UUID, r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("evt_1MqqbKLt4dXK03v5qaIbiNCC", r"evt_[0-9a-f]{24}"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", r"msg_[0-9a-f]{24}"),
        ("P9SVBRO", r"[0-9a-f]{24}"),
        ("2070443601311540", r"[1-9][0-9]{15}"),
        ("007", r"[1-9][0-9]{2}"),
        (8350205582, r"[1-9][0-9]{9}"),
        (7, r"[1-9]"),
    ],
)
def test_an_id_keeps_its_form(old: str | int, form: str) -> None:
    """A UUID, a number of as many digits, or a text with its prefix; another each time."""
    of = source(delivery=("body:none", "body:a.id"))
    found = {json.loads(made(of, {"a": {"id": old, "b": 1}}).body)["a"]["id"] for _ in range(8)}

    assert all(type(one) is type(old) and re.fullmatch(form, str(one)) for one in found)
    assert len(found) > 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026-05-02T00:54:06.655Z", "2023-11-14T22:13:20.000Z"),
        ("2026-05-02T00:54:06+02:00", "2023-11-14T22:13:20.000Z"),
        (1614265330, SECOND),
        (1614265330.5, float(SECOND)),
        (1676056940508, NOW),
        ("1614265330", str(SECOND)),
        ("1676056940508", str(NOW)),
        ("1614265330.123456", str(float(SECOND))),
    ],
)
def test_a_time_keeps_its_form(old: str | float, new: str | float) -> None:
    """ISO 8601, seconds or milliseconds, a number or a text."""
    of = source(time=("body:at",))
    body = {"at": old, "other": old}

    assert {"at": new, "other": old} == json.loads(made(of, body).body)


def test_an_id_in_a_header_and_the_bytes_change() -> None:
    """What is signed must differ, too: by white space at the end, which changes nothing of the event."""
    of = source(delivery=("header:x-github-delivery",))
    first, second = (made(of, {"a": 1}, {"x-github-delivery": UUID}) for _ in range(2))

    assert 3 == len({UUID, first.headers["x-github-delivery"], second.headers["x-github-delivery"]})
    assert first.body != second.body
    assert b'{"a": 1}' == first.body.strip() == second.body.strip()


def test_of_joined_parts_the_id_is_new() -> None:
    """Or the first, where none is called so: a status or a time must stay what it is."""
    of = source(delivery=("body:source+body:id",))
    one = json.loads(made(of, {"source": "/jobs", "id": "a"}).body)
    other = source(delivery=("body:print+body:status",))
    two = json.loads(made(other, {"print": "b1b2c3", "status": "firing"}).body)

    assert ("/jobs", True) == (one["source"], one["id"] != "a")
    assert ("firing", True) == (two["status"], two["print"] != "b1b2c3")
    assert {"source": "/jobs"} == json.loads(made(of, {"source": "/jobs"}).body)


def test_each_event_of_a_batch_has_its_own() -> None:
    """Where a body is split, and in a batch of CloudEvents."""
    split = source(split="events", delivery=("body:id",))
    batch = {"events": [{"id": "EV1"}, {"id": "EV1"}, {"name": "none"}]}
    found = [one.delivery for one in events(split, made(split, batch))]
    assert (2, None) == (len({"EV1", *found[:2]}) - 1, found[2])
    cloud = source(reads="cloudevents", delivery=("body:source+body:id",))
    several = [{"specversion": "1.0", "type": "t", "source": "/s", "id": name} for name in "aa"]
    kind = {"content-type": "application/cloudevents-batch+json"}
    assert 2 == len({one.delivery for one in events(cloud, made(cloud, several, kind))} - {"/s a"})


def test_a_cloud_event_in_headers() -> None:
    """In binary mode id and time are headers, and the body is the data."""
    of = source(reads="cloudevents", delivery=("body:source+body:id",), time=("body:time",))
    told = {
        "ce-id": "a",
        "ce-source": "/s",
        "ce-type": "t",
        "ce-specversion": "1.0",
        "ce-time": "2020-01-01T00:00:00Z",
    }
    (event,) = events(of, made(of, {"code": 503}, {"content-type": "application/json", **told}))

    assert event.delivery not in {None, "/s a"}
    assert (NOW, "") == (event.happened_at, event.flaw)


def test_forms() -> None:
    """A field of its own, or a member of the JSON in one; JSON, where the sender says so."""
    of = source(reads="form", form_field="payload", delivery=("body:sid",), time=("body:at",))
    plain = made(of, "sid=SM1&at=1614265330&text=a%20b&text=c")
    assert [("at", str(SECOND)), ("text", "a b"), ("text", "c")] == parse_qsl(plain.body.decode())[1:]
    assert b"SM1" not in plain.body
    (inner,) = parse_qsl(made(of, "payload=%7B%22sid%22%3A%22SM1%22%7D").body.decode())
    assert ("payload", True) == (inner[0], json.loads(inner[1])["sid"] != "SM1")
    as_json = made(of, {"sid": "SM1"}, {"content-type": "application/json"})
    assert "SM1" != json.loads(as_json.body)["sid"]
    nameless = [made(source(reads="form"), "a=1").body for _ in range(2)]
    assert nameless[0] != nameless[1]
    assert all(body.startswith(b"a=1&relay=") for body in nameless)


def test_what_is_signed_and_used_once_is_new() -> None:
    """A token beside the body, as Mailgun's: the same one would be the same signed bytes."""
    of = source(
        place="body", field="signature.signature", signed="{timestamp}{body:signature.token}",
        timestamp="body:signature.timestamp", delivery=("body:id",),
    )  # fmt: skip
    body = {"id": "a", "signature": {"token": "0123456789abcdef", "timestamp": "1529006854"}}
    found = json.loads(made(of, body).body)

    assert "0123456789abcdef" != found["signature"]["token"]
    assert "1529006854" == found["signature"]["timestamp"]


@pytest.mark.parametrize(
    "body", ["hello", "", "[", "null", "7", '{"id": null}', '{"id": {}}', '{"id": ""}', "[1]"]
)
def test_what_has_no_id_is_left_alone(body: str) -> None:
    """Only its end is new, whatever it is."""
    of = source(delivery=("body:id", "header:x-id"), time=("body:at",))

    assert made(of, body).body.rstrip() == body.encode()
    assert made(of, body).body != made(of, body).body
