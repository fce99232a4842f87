"""Which events does a delivery hold, and what does each say of itself?"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import orjson

from relay import cloud, form
from relay.body import Unparsable, parse, redact
from relay.errors import Rejected, Unfit
from relay.event import Event, Json, Millis, Trust, as_name, new_id
from relay.moment import instant
from relay.nested import opened
from relay.resource import around_of
from relay.source import Incoming, Source, private
from relay.template import at, plain

KEPT_HEADERS: Final = frozenset({"content-type", "user-agent", "traceparent"})
"""Stored with an event, beside those that its source or a rule asks for; the rest may hold credentials."""

MOST_EVENTS: Final = 1_000
"""Events that one delivery may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One event of a delivery, before it is read."""

    body: bytes
    flaw: str = ""  #: of its form, if that is known
    mark: bytes = b""  #: what tells it from others of the same signed bytes
    number: int | None = None  #: of an item of a list, from 0: what headers say is said of all


# -- what a delivery holds --


def unpack(
    source: Source,
    incoming: Incoming,
    trust: Trust,
    now: Millis,
    signed: bytes | None = None,
    proven: Collection[str] = (),
) -> tuple[Event, ...]:
    """
    Make the events of a delivery, at least one: each redacted, read, with its ids.

    *signed* are the bytes that its signature covers, where that is more than its body: they tell one
    delivery from another. *proven* are the headers in them: where the source finds ids in some of these, no
    other header is asked for one. Raises Rejected (413) for a delivery that holds more than 1,000 events.
    """
    if proven and (delivery := _sure(source.delivery, proven)) != source.delivery:
        source = replace(source, delivery=delivery)
    # Hashed once: a thousand events may stand in a body of many megabytes.
    covered = hashlib.sha256(incoming.body if signed is None else signed)
    return tuple(
        _event(source, incoming, piece, trust, now, covered.copy())
        for piece in _pieces(source, incoming, trust)
    )


def _sure(delivery: tuple[str, ...], proven: Collection[str]) -> tuple[str, ...]:
    """Leave out references to headers that are not *proven*, if others are: anyone can add those."""
    named = {one: _headers([one]) for one in delivery}
    if not any(names & set(proven) for names in named.values()):
        return delivery
    return tuple(one for one, names in named.items() if names <= set(proven))


def _event(
    source: Source, incoming: Incoming, piece: _Piece, trust: Trust, now: Millis, covered: "hashlib._Hash"
) -> Event:
    covered.update(piece.mark)
    event = read(source, incoming.headers, piece.body, trust, now, covered.hexdigest())
    if piece.number is not None and event.delivery is not None:
        shared = _first([one for one in source.delivery if "body:" not in one], event)
        if event.delivery == shared:
            event = replace(event, delivery=as_name(f"{shared}#{piece.number}"))
    if piece.flaw:
        event = replace(event, flaw=piece.flaw, data=None, tells="")
    return event


def _pieces(source: Source, incoming: Incoming, trust: Trust) -> list[_Piece]:
    kind = "".join(incoming.headers.get("content-type", ())[:1]).partition(";")[0].strip().lower()
    if source.reads == "cloudevents":
        return _cloud(incoming, kind, trust)
    body = incoming.body
    if _is_form(source, kind, body):
        try:
            body = form.as_json(body, source.form_field)
        except Unparsable as error:
            secret = form.names_any(body, frozenset(source.redact))
            return [_Piece(body=b"[removed]" if secret else body, flaw=str(error))]
    if source.split is not None:
        try:
            data = parse(body)
            found = at(data, source.split) if source.split else data
        except (Unparsable, Unfit):
            found = None
        if isinstance(found, list) and found:
            return _items(found)
    return [_Piece(body=body)]


def _is_form(source: Source, kind: str, body: bytes) -> bool:
    """Say whether a body is a form: some send JSON to what takes forms, and curl calls all a form."""
    if source.reads == "form":
        return kind in {form.TYPE, ""}
    return kind == form.TYPE and not body.lstrip(b" \t\r\n").startswith((b"{", b"["))


def _items(found: list[Json]) -> list[_Piece]:
    """Make each item of a list a piece. Raises Rejected (413)."""
    if len(found) > MOST_EVENTS:
        raise Rejected(413, "Too many events", f"one delivery may hold {MOST_EVENTS:,} events")
    return [
        _Piece(body=orjson.dumps(item), mark=b"\0%d" % number, number=number)
        for number, item in enumerate(found)
    ]


def _cloud(incoming: Incoming, kind: str, trust: Trust) -> list[_Piece]:
    """Return the CloudEvents of a delivery; what is none of them is kept with its flaw."""
    if kind == cloud.BATCH and (found := cloud.batch(incoming.body)) is not None:
        pieces = _items(found)
        return [replace(piece, flaw=cloud.flaw_of(data)) for piece, data in zip(pieces, found, strict=True)]
    piece = _Piece(body=incoming.body)
    try:
        if cloud.is_binary(kind, incoming.headers):
            body = cloud.structured(kind, incoming.headers, incoming.body)
            # Two events may have the same data. But where the body is signed and its headers are not, they
            # prove nothing: what is signed decides whether it was here before.
            piece = _Piece(body=body, mark=b"" if trust is Trust.VERIFIED else b"\0" + body)
        return [replace(piece, flaw=cloud.flaw_of(parse(piece.body)))]
    except Unparsable as error:
        return [replace(piece, flaw=str(error))]


# -- what an event says of itself --


def read(
    source: Source,
    headers: Mapping[str, Iterable[str]],
    body: bytes,
    trust: Trust,
    now: Millis,
    digest: str | None = None,
) -> Event:
    """Make one event of a JSON *body*; *headers* maps lower-case names to all their values."""
    kept = redact(opened(body, source.nested) if source.nested else body, source.redact)
    flaw, data = "", None
    try:
        data = parse(kept)
    except Unparsable as error:
        flaw = str(error)
    keeps = _keeps(source)
    event = Event(
        id=new_id("ev", now),
        source=source.name,
        type=None,
        delivery=None,
        digest=hashlib.sha256(body).hexdigest() if digest is None else digest,
        received_at=now,
        verified=trust,
        headers={key: ", ".join(values)[:1024] for key, values in headers.items() if key in keeps},
        body=kept,
        data=data,
        flaw=flaw,
    )
    happened = (_instant(one, event) for one in source.time)
    event = replace(
        event,
        type=_first(source.type, event),
        delivery=_first(source.delivery, event),
        resource=_first(source.resource, event),
        happened_at=next((at for at in happened if at is not None), None),
    )
    tells = _tells(source, event)
    return replace(event, tells=tells) if tells else event


def _instant(reference: str, event: Event) -> Millis | None:
    """Return the instant that stands at a reference: a number may have a fraction."""
    kind, _, place = reference.partition(":")
    try:
        return instant(event.headers.get(place.lower()) if kind == "header" else at(event.data, place))
    except Unfit:
        return None


def _keeps(source: Source) -> frozenset[str]:
    """Return the headers that are stored: those that somebody asks for, and none that proves anything."""
    named = (*source.delivery, *source.type, *source.resource, *source.time)
    return _kept(named, source.asked, source.proving())


@lru_cache(maxsize=1024)
def _kept(named: tuple[str, ...], asked: tuple[str, ...], proving: frozenset[str]) -> frozenset[str]:
    wanted = {*KEPT_HEADERS, *asked, *_headers(named)} - proving
    return frozenset(name for name in wanted if not private(name))


def _headers(references: Iterable[str]) -> frozenset[str]:
    """Name the headers that *references* ask for."""
    parts = (part for one in references for part in one.split("+"))
    return frozenset(part.removeprefix("header:").lower() for part in parts if part.startswith("header:"))


def _tells(source: Source, event: Event) -> Literal["failed", "recovered", ""]:
    """Say what an event tells of its resource, as its source's patterns read it."""
    if event.flaw:
        return ""
    around = around_of(event, event.received_at)
    if source.failed is not None and source.failed.meets(event.data, around):
        return "failed"
    return "recovered" if source.recovered is not None and source.recovered.meets(event.data, around) else ""


def _first(references: Iterable[str], event: Event) -> str | None:
    """Return the first of ``header:NAME`` and ``body:PATH`` that is there, as text."""
    for reference in references:
        found = _found(reference, event)
        if found is not None and (shown := found.strip()):
            return as_name(shown)
    return None


def _found(reference: str, event: Event) -> str | None:
    """Return what stands at a reference, its parts joined by a space; None if one of them is not there."""
    found = [_part(part, event) for part in reference.split("+")]
    return None if None in found else " ".join(str(one) for one in found)


def _part(reference: str, event: Event) -> str | None:
    kind, _, place = reference.partition(":")
    try:
        return event.headers.get(place.lower()) if kind == "header" else plain(at(event.data, place), place)
    except Unfit:
        return None
