"""Does a preset make of its samples what it says, and believe its vectors?"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from relay.condition import counted
from relay.document import Document
from relay.event import Event, Json, Millis, Trust
from relay.greet import Greeting, greet
from relay.moment import instant
from relay.preset import compile_preset, reading
from relay.schema import PresetFile
from relay.secret import Secret
from relay.source import Incoming, Sample, Source, Vector
from relay.unpack import unpack
from relay.verify import verify
from relay.way import ways_with


def probe(doc: Document, name: str, now: Millis) -> int:
    """
    Try all samples and vectors of a preset, and return how many there are; problems go to the document.

    Of a sample's events, what the file says is compared, and their number.
    """
    before = len(doc.problems)
    preset, file = compile_preset(doc, name), doc.fit(PresetFile, quiet=True)
    if preset is None or file is None or len(doc.problems) > before:
        return 0
    source = reading(doc, name, file)
    for number, sample in enumerate(preset.samples):
        _sample(doc, number, sample, source, now)
    for number, vector in enumerate(preset.vectors):
        _vector(doc, number, vector, file)
    return len(preset.samples) + len(preset.vectors)


def _sample(doc: Document, number: int, sample: Sample, source: Source, now: Millis) -> None:
    headers = {name: (value,) for name, value in sample.headers.items()}
    shown = Incoming(headers=headers, body=sample.body, query=sample.query)
    events = unpack(source, shown, Trust.VERIFIED, now)
    greeting = greet(source, events)
    answer: Json = None if greeting is None else _answer(greeting)
    here = ("sample", number)
    if answer != sample.handshake:
        does = "is no handshake" if answer is None else f"is answered {_said(answer)}"
        doc.wrong((*here, "handshake"), f"{sample.name!r} {does}")
        return
    if answer is not None:
        return
    if len(events) != len(sample.events):
        what = f"{sample.name!r} holds {counted(len(events), 'event')}, expected {len(sample.events)}"
        doc.wrong((*here, "event"), what, next((event.flaw for event in events if event.flaw), ""))
        return
    for place, event in enumerate(events):
        said: Mapping[str, Any] = doc.at((*here, "event", place))
        for key, wanted, got in _differences(said, event):
            doc.wrong((*here, "event", place, key), f"expected {_said(wanted)}, got {_said(got)}", event.flaw)


def _answer(greeting: Greeting) -> Json:
    if greeting.kind == "application/json":
        found: Json = orjson.loads(greeting.body)
        return found
    return greeting.body.decode()


def _differences(said: Mapping[str, Any], event: Event) -> Iterator[tuple[str, Json, Json]]:
    """Yield each key in which an event is not as it is said to be."""
    told: dict[str, Json] = {
        "type": event.type,
        "delivery": event.delivery,
        "resource": event.resource,
        "tells": event.tells,
        "time": event.happened_at,
    }
    for key, wanted in said.items():
        if told[key] != (instant(wanted) if key == "time" else wanted):
            yield key, wanted, told[key]


def _said(value: Json) -> str:
    return "nothing" if value is None else repr(value)


def _vector(doc: Document, number: int, vector: Vector, file: PresetFile) -> None:
    other = PresetFile.model_validate({**doc.data, **vector.way}) if vector.way else file
    ways = ways_with(other, [Secret(vector.secret, "vector")], vector.public_url)
    headers = {name: (value,) for name, value in vector.headers.items()}
    shown = Incoming(headers=headers, body=vector.body, query=vector.query)
    proof = verify(Source(name="vector", ways=ways), shown, vector.now or 0)
    if proof.trust is Trust.FAILED:
        doc.wrong(
            ("vector", number), "its signature is not believed", (proof.flaw or "wrong").replace("_", " ")
        )
