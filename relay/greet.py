"""Does a sender only ask whether it may post here, and what does it want to hear?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from relay.errors import Unfit
from relay.event import Event
from relay.resource import around_of, get_of
from relay.source import Source
from relay.template import fill, text

MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The answer to a handshake."""

    kind: str  #: its media type
    body: bytes


def greet(source: Source, events: Sequence[Event]) -> Greeting | None:
    """
    Return what the sender of a delivery wants to hear, if its one event is a handshake of the *source*.

    What asks like one and lacks what the answer repeats is an event like others: it is kept and seen.
    """
    if len(events) != 1 or events[0].flaw:
        return None
    (event,) = events
    for one in source.handshakes:
        if not one.when.meets(event.data, around_of(event, event.received_at)):
            continue
        get = get_of(event)
        try:
            if one.text:
                return Greeting(kind="text/plain; charset=utf-8", body=text(one.text, get).encode())
            return Greeting(kind="application/json", body=orjson.dumps(fill(one.json, get)))
        except Unfit:
            continue
    return None


def permit(source: Source, headers: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
    """
    Return the headers that let a sender post which asks by OPTIONS (CloudEvents HTTP webhook 4); None: no.

    It may if its origin is among the source's. ``WebHook-Request-Callback`` is never called: the address is a
    stranger's. The rate is in posts a minute, ``*`` without a limit.
    """
    asked = [origin.strip().lower() for origin in headers.get("webhook-request-origin", ())]
    if len(asked) != 1 or asked[0] not in {origin.lower() for origin in source.origins}:
        return None
    told = {"Allow": "POST", "WebHook-Allowed-Origin": asked[0]}
    if "webhook-request-rate" in headers:
        every_ms = source.limit.every_ms if source.limit else 0
        told["WebHook-Allowed-Rate"] = str(max(1, MINUTE_MS // every_ms)) if every_ms else "*"
    return told
