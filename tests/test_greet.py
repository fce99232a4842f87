"""What hears a sender that only asks whether it may post here?"""

from typing import Any

import orjson
import pytest
from build import NOW, incoming, pattern, source

from relay.event import Json, Trust
from relay.greet import greet, permit
from relay.provider import Limit
from relay.source import Handshake, Source
from relay.unpack import unpack

TEXT = "text/plain; charset=utf-8"
ASKS = {"type": "url_verification"}


def greeted(of: Source, data: Any, headers: dict[str, str] | None = None) -> tuple[str, bytes] | None:
    """Return what a delivery is answered, if it is a handshake."""
    events = unpack(of, incoming(orjson.dumps(data), headers), Trust.VERIFIED, NOW)
    found = greet(of, events)
    return None if found is None else (found.kind, found.body)


def asking(when: dict[str, Any], **more: Any) -> Source:
    answer = {name: more.pop(name) for name in ("text", "json") if name in more}
    return source(handshakes=(Handshake(when=pattern(when), **answer),), **more)


@pytest.mark.parametrize(
    ("of", "data", "headers", "answer"),
    [
        (asking(ASKS, text="{challenge}"), ASKS | {"challenge": "<b>"}, {}, (TEXT, b"<b>")),
        (asking({"type": 1}, json={"type": 1}), {"type": 1}, {}, ("application/json", b'{"type":1}')),
        (
            asking({"$headers.x-kind": "ask"}, text="{challenge}", asked=("x-kind",)),
            {"challenge": "c"},
            {"X-Kind": "ask"},
            (TEXT, b"c"),
        ),
        (
            asking({"eventType": "V"}, json={"validationResponse": "{data.code}"}, split=""),
            [{"eventType": "V", "data": {"code": 7}}],
            {},
            ("application/json", b'{"validationResponse":7}'),
        ),
    ],
)
def test_a_handshake_is_answered(
    of: Source, data: Json, headers: dict[str, str], answer: tuple[str, bytes]
) -> None:
    """By body or header, in text or JSON, also where the body is a list of one."""
    assert answer == greeted(of, data, headers)


@pytest.mark.parametrize(
    ("of", "data"),
    [
        (source(), ASKS),
        (asking(ASKS, text="{challenge}"), {"type": "event_callback", "challenge": "c"}),
        (asking(ASKS, text="{challenge}"), ASKS),
        (asking(ASKS, text="{challenge}"), ASKS | {"challenge": ["c"]}),
        (asking(ASKS, text="{challenge}", split=""), [ASKS | {"challenge": "c"}] * 2),
    ],
)
def test_what_is_no_handshake_is_an_event(of: Source, data: Json) -> None:
    """Also what asks like one and lacks what is to be repeated: it is kept, and seen."""
    assert greeted(of, data) is None


def test_the_first_handshake_that_fits_answers() -> None:
    """In the order of the file; one whose answer can't be filled leaves it to the next."""
    when = pattern(ASKS)
    of = source(handshakes=(Handshake(when=when, text="{none}"), Handshake(when=when, text="second")))
    assert (TEXT, b"second") == greeted(of, ASKS)


GRID = source(origins=("EventGrid.azure.net",), limit=Limit(every_ms=100))


@pytest.mark.parametrize(
    ("of", "rate", "allowed"),
    [
        (GRID, "120", "600"),
        (source(origins=GRID.origins, limit=Limit(every_ms=3_600_000)), "120", "1"),
        (source(origins=GRID.origins), "120", "*"),
        (GRID, "", None),
    ],
)
def test_an_origin_of_the_list_may_post(of: Source, rate: str, allowed: str | None) -> None:
    """It hears its own name, that POST it is, and how often, in a minute, if it asks."""
    headers = {"webhook-request-origin": ("eventgrid.azure.net",)}
    told = permit(of, headers | ({"webhook-request-rate": (rate,)} if rate else {}))
    rated = {"WebHook-Allowed-Rate": allowed} if allowed else {}
    assert {"Allow": "POST", "WebHook-Allowed-Origin": "eventgrid.azure.net"} | rated == told


@pytest.mark.parametrize("origins", [(), ("evil.example",), ("eventgrid.azure.net", "evil.example"), ("",)])
def test_no_other_origin_may(origins: tuple[str, ...]) -> None:
    """Neither another, nor none, nor two at once."""
    assert permit(GRID, {"webhook-request-origin": origins}) is None
