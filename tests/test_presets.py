"""Does each preset do what it says?  Every file of relay/sources, by its own vectors and samples."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from build import NOW
from presets import NAMES, AtWork, at_work, document, file, incoming, listed, moment, secret, told, ways

from relay.event import Event, Trust
from relay.greet import greet
from relay.moment import instant
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Sample, Source, Vector
from relay.unpack import unpack
from relay.verify import SIGNATURES, best, verify
from relay.verify.key import PUBLIC
from relay.way import ways_with

ASKED: Final = (
    "airbyte", "alertmanager", "apify", "bitbucket", "buildkite", "circleci", "cloudevents",
    "databricks", "datadog", "dbt-cloud", "discord", "docflow", "eventgrid", "fivetran", "flatfile",
    "github", "gitlab", "gocardless", "grafana", "linear", "mailgun", "opsgenie", "pagerduty", "pubsub",
    "sendgrid", "sentry", "shopify", "slack", "sns", "square", "standard-webhooks", "stripe", "svix",
    "trigger-dev", "twilio", "twitch", "vercel", "writer", "xpkg", "zendesk",
)  # fmt: skip
"""Whose webhooks relay knows."""

SAMPLES: Final = [(name, sample) for name in NAMES for sample in told(name).samples]
VECTORS: Final = [(name, vector) for name in NAMES for vector in told(name).vectors]


def label(one: object) -> str:
    """Name a parameter of a test."""
    return one.name if isinstance(one, Sample) else one.origin if isinstance(one, Vector) else str(one)


# -- what it tells of itself --


def test_every_provider_has_its_file() -> None:
    """None of those that relay promises is missing."""
    assert set() == set(ASKED) - set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_right_and_tells_of_itself(name: str) -> None:
    """Its file compiles; it has a title, a page of the provider, the steps there, and what bites."""
    preset = told(name)
    assert [] == document(name).problems

    assert preset.title
    assert preset.notes
    assert preset.docs.startswith("https://")
    assert 2 <= len(preset.setup) <= 6
    assert any(f"https://YOUR-HOST/hooks/{name}" in step for step in preset.setup)
    assert preset.samples
    assert len(preset.samples) == len({sample.name for sample in preset.samples})


@pytest.mark.parametrize("name", NAMES)
def test_what_a_preset_calls_a_failure_is_shown_by_a_sample(name: str) -> None:
    """So is what it calls well; one that knows no failure says so."""
    said = {str(event["tells"]) for sample in told(name).samples for event in sample.events}
    known = {key for key in ("failed", "recovered") if getattr(file(name), key) is not None}

    assert known <= said
    assert known or "fail" in told(name).notes


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_that_signs_has_a_vector(name: str) -> None:
    """Its signature was seen elsewhere, or made by somebody else's code, and it says where."""
    signed = [one for one in listed(name) if one.verify in {*SIGNATURES, "twilio"}]

    assert bool(signed) == bool(told(name).vectors)


# -- its vectors --


def proving(name: str, vector: Vector) -> tuple[Source, Incoming]:
    """Return the source of a vector, however short its secret is, and its delivery."""
    said = file(name, **vector.way)
    by = ways_with(said, [Secret(vector.secret, "env:VECTOR")], vector.public_url)
    headers = {key: (value,) for key, value in vector.headers.items()}
    return Source(name=name, ways=by), Incoming(headers=headers, body=vector.body, query=vector.query)


@pytest.mark.parametrize(("name", "vector"), VECTORS, ids=label)
def test_a_vector_is_believed(name: str, vector: Vector) -> None:
    """As it was published; not a day later if its time is signed, and not with another secret."""
    source, shown = proving(name, vector)
    now = NOW if vector.now is None else vector.now

    assert verify(source, shown, now).trust is best(source)
    if vector.now is not None:
        assert Trust.FAILED is verify(source, shown, now + 90_000_000).trust
    for way in source.ways:
        if way.verify not in PUBLIC:
            other = replace(way, secrets=(Secret("b3RoZXI=", "env:OTHER"),))
            assert Trust.FAILED is verify(Source(name=name, ways=(other,)), shown, now).trust


@pytest.mark.parametrize(("name", "vector"), VECTORS, ids=label)
def test_a_vector_covers_its_body(name: str, vector: Vector) -> None:
    """A body that differs by a bit is another one, unless the preset says that no body is signed."""
    source, shown = proving(name, vector)
    now = NOW if vector.now is None else vector.now
    last = len(vector.body) - 1
    other = vector.body[:last] + bytes([vector.body[last] ^ 1])

    if best(source) is Trust.VERIFIED:
        assert Trust.FAILED is verify(source, replace(shown, body=other), now).trust


# -- its samples --


def kept(at: AtWork, sample: Sample) -> tuple[tuple[Event, ...], Incoming]:
    """Sign a sample, have it believed, and return its events."""
    now = moment(sample)
    shown = sign(at.alone(), incoming(sample), now, at.private)
    proof = verify(at.source, shown, now, at.keys)
    assert proof.trust is best(at.alone()), proof.flaw
    return unpack(at.source, shown, proof.trust, now, proof.signed), shown


def answer(source: Source, events: tuple[Event, ...]) -> Any:
    """Return what a handshake is answered with: a text, or data; None if it is none."""
    found = greet(source, events)
    if found is None:
        return None
    return orjson.loads(found.body) if found.kind == "application/json" else found.body.decode()


def shown_as(event: Event) -> dict[str, Any]:
    """Put an event in the words of a sample."""
    return {
        "type": event.type,
        "delivery": event.delivery,
        "resource": event.resource,
        "time": event.happened_at,
        "tells": event.tells,
    }


@pytest.mark.parametrize(("name", "number"), list(ways()), ids=label)
def test_every_way_of_proof_works(name: str, number: int, tmp_path: Path) -> None:
    """Its own samples, signed in that way, are believed, and read as said: types, ids, times, failures."""
    at = at_work(tmp_path, name, number)

    for sample in told(name).samples:
        events, _ = kept(at, sample)
        assert sample.handshake == answer(at.source, events), sample.name
        if sample.handshake is None:
            expected = [{**one, "time": instant(one["time"])} for one in sample.events]
            assert expected == list(map(shown_as, events)), sample.name
            assert [""] * len(events) == [event.flaw for event in events], sample.name


@pytest.mark.parametrize(("name", "number"), list(ways()), ids=label)
def test_without_proof_no_sample_is_believed(name: str, number: int, tmp_path: Path) -> None:
    """Nor one that is signed with another secret."""
    at = at_work(tmp_path, name, number)
    if at.way is None:
        pytest.fail("no preset leaves a source open: the operator has to say so")

    for sample in told(name).samples:
        assert Trust.FAILED is verify(at.source, incoming(sample), moment(sample), at.keys).trust
        if at.private is None:
            other = Secret(secret(listed(name)[number], None, "of somebody else"), "env:OTHER")
            strange = replace(at.source, ways=(replace(at.way, secrets=(other,)),))
            shown = sign(strange, incoming(sample), moment(sample))
            assert Trust.FAILED is verify(at.source, shown, moment(sample), at.keys).trust


def members(data: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values of members of these names, at any depth."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if key in names:
            yield value
        elif isinstance(value, dict | list):
            yield from members(value, names)


@pytest.mark.parametrize("name", [name for name in NAMES if file(name).redact])
def test_what_is_redacted_is_not_kept(name: str, tmp_path: Path) -> None:
    """A sample shows a member that is cut, and of its value nothing is left."""
    at = at_work(tmp_path, name, 0)

    cut = []
    for sample in told(name).samples:
        events, _ = kept(at, sample)
        for event in events:
            assert isinstance(event.data, dict | list)
            cut += list(members(event.data, at.source.redact))
    assert cut
    assert {"[removed]"} == set(cut)


@pytest.mark.parametrize(("name", "sample"), SAMPLES, ids=label)
def test_samples_hold_no_proof(name: str, sample: Sample) -> None:
    """Headers of a sample are those that anyone sees: the signature is made when it is sent."""
    proving_ = {one.header.lower() for one in listed(name) if one.place == "header"}

    assert set() == proving_ & sample.headers.keys()
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in sample.headers)
    assert sample.events or sample.handshake is not None
