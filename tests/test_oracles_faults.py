"""Where do libraries err that verify signatures, and does relay do better there?"""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest
from build import incoming as delivery
from deliveries import FORM, Pair, by_relay, one, relays, with_
from oracles import ORACLES, URL
from twilio.request_validator import RequestValidator

from relay.source import Incoming


@dataclass(frozen=True, slots=True, kw_only=True)
class Differs:
    """One class of input in which a library errs, and what it does there; relay refuses unless it is said."""

    library: str
    what: str
    make: Callable[[Pair, int], Incoming]
    does: str  #: "takes it", or the exception that it raises
    relay: bool = False


PLAIN = delivery(
    b'{"test": 2432232314}', {"content-type": "application/json", "webhook-id": "msg_p5jXN8AQM9LW"}
)
ODD = replace(PLAIN, body=b'{"test": "\xff"}')
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def _signed(library: str, **headers: Callable[[str, int], str]) -> Callable[[Pair, int], Incoming]:
    """Sign rightly, then write some headers in another way."""

    def make(pair: Pair, at: int) -> Incoming:
        right = ORACLES[library].sign(pair, PLAIN, at)
        named = {name.replace("_", "-"): how for name, how in headers.items()}
        return with_(right, **{name: how(one(right, name), at) for name, how in named.items()})

    return make


def _unspeakable(library: str) -> Callable[[Pair, int], Incoming]:
    """Let relay sign a body that is no UTF-8: the library can't."""
    return lambda pair, at: by_relay(ORACLES[library].kind, pair, ODD, at)


def _standard_at(write: Callable[[int], str]) -> Callable[[Pair, int], Incoming]:
    """Write the time otherwise: that library signs what it has read."""
    return _signed("standardwebhooks", webhook_timestamp=lambda _, at: write(at))


def _stripe_at(write: Callable[[int], str]) -> Callable[[Pair, int], Incoming]:
    """Write it otherwise for Stripe, whose time stands beside the signature."""
    return _signed("stripe", stripe_signature=lambda shown, at: shown.replace(str(at), write(at), 1))


def _slack_at(write: Callable[[int], str]) -> Callable[[Pair, int], Incoming]:
    """Sign the time as it is written: Slack's library reads it as a number, and signs the text."""

    def make(pair: Pair, at: int) -> Incoming:
        text = f"v0:{write(at)}:".encode() + PLAIN.body
        shown = "v0=" + hmac.new(pair.shown.encode(), text, hashlib.sha256).hexdigest()
        return with_(PLAIN, x_slack_request_timestamp=write(at), x_slack_signature=shown)

    return make


TIMED = {"standardwebhooks": _standard_at, "stripe": _stripe_at, "slack_sdk": _slack_at}

TIMES: dict[str, Callable[[int], str]] = {
    "a space": lambda at: f" {at}",
    "a sign": lambda at: f"+{at}",
    "an underscore": lambda at: f"{at // 1000}_{at % 1000:03}",
    "Arabic digits": lambda at: str(at).translate(ARABIC),
}


def _with_port(pair: Pair, _: int) -> Incoming:
    form = replace(PLAIN, headers={"content-type": (FORM,)}, body=b"a=1")
    shown = RequestValidator(pair.shown).compute_signature(
        URL.replace(".example", ".example:443"), {"a": "1"}
    )
    return with_(form, x_twilio_signature=shown)


def _ahead(pair: Pair, at: int) -> Incoming:
    return ORACLES["stripe"].sign(pair, PLAIN, at + 86_400)


def _last(shown: str, place: int) -> str:
    """Set a spare bit of base64's last letter: ``…E=`` and ``…F=`` are the same 32 bytes."""
    letters_ = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return f"{shown[:place]}{letters_[letters_.index(shown[place]) + 1]}{shown[place + 1 :]}"


def _many(item: str, separator: str) -> Callable[[str, int], str]:
    return lambda shown, _: separator.join([*[item] * 16, shown])


DIFFERS = (
    Differs(
        library="standardwebhooks",
        what="an item without a comma",
        make=_signed("standardwebhooks", webhook_signature=lambda shown, _: f"junk {shown}"),
        does="ValueError",
    ),
    Differs(
        library="standardwebhooks",
        what="a body that is no UTF-8",
        make=_unspeakable("standardwebhooks"),
        does="UnicodeDecodeError",
        relay=True,
    ),
    Differs(
        library="slack_sdk",
        what="a body that is no UTF-8",
        make=_unspeakable("slack_sdk"),
        does="UnicodeDecodeError",
        relay=True,
    ),
    Differs(
        library="stripe",
        what="a body that is no UTF-8",
        make=_unspeakable("stripe"),
        does="UnicodeDecodeError",
        relay=True,
    ),
    Differs(
        library="slack_sdk",
        what="a signature that is no ASCII",
        make=_signed("slack_sdk", x_slack_signature=lambda shown, _: shown[:-1] + "é"),
        does="TypeError",
    ),
    Differs(
        library="stripe",
        what="a signature that is no ASCII",
        make=_signed("stripe", stripe_signature=lambda shown, _: shown[:-1] + "é"),
        does="TypeError",
    ),
    Differs(
        library="slack_sdk",
        what="a time that is no number",
        make=_signed("slack_sdk", x_slack_request_timestamp=lambda _s, _t: "abc"),
        does="ValueError",
    ),
    *(
        Differs(library=library, what=f"a time with {what}", make=make(how), does="takes it")
        for library, make in TIMED.items()
        for what, how in TIMES.items()
    ),
    Differs(
        library="standardwebhooks",
        what="a time with a fraction",
        make=_standard_at(lambda at: f"{at}.9"),
        does="takes it",
    ),
    Differs(
        library="standardwebhooks",
        what="junk inside base64",
        make=_signed("standardwebhooks", webhook_signature=lambda shown, _: f"{shown[:9]}!*{shown[9:]}"),
        does="takes it",
    ),
    Differs(
        library="standardwebhooks",
        what="base64 with its spare bits set",
        make=_signed("standardwebhooks", webhook_signature=lambda shown, _: _last(shown, len(shown) - 2)),
        does="takes it",
    ),
    Differs(
        library="twilio",
        what="a signature over the address with a port that it has not",
        make=_with_port,
        does="takes it",
    ),
    Differs(library="stripe", what="a time that is tomorrow", make=_ahead, does="takes it"),
    Differs(
        library="stripe",
        what="junk behind the signature",
        make=_signed("stripe", stripe_signature=lambda shown, _: f"{shown}=junk"),
        does="takes it",
    ),
    Differs(
        library="standardwebhooks",
        what="seventeen signatures",
        make=_signed("standardwebhooks", webhook_signature=_many("v1," + "A" * 43 + "=", " ")),
        does="takes it",
    ),
    Differs(
        library="stripe",
        what="seventeen signatures",
        make=_signed(
            "stripe",
            stripe_signature=lambda shown, _: shown.replace(",", "," + ("v1=" + "0" * 64 + ",") * 16),
        ),
        does="takes it",
    ),
)


@pytest.mark.parametrize("differs", DIFFERS, ids=lambda one: f"{one.library}: {one.what}")
def test_where_they_differ_relay_is_stricter(differs: Differs) -> None:
    """The library errs as the table says; relay refuses, and verifies bytes that are no text."""
    oracle, luck = ORACLES[differs.library], Random(differs.what)
    pair = oracle.kind.pair(luck)
    odd = differs.make(pair, int(time.time()) - 7)

    try:
        does = "takes it" if oracle.right(pair, odd) else "refuses it"
    except Exception as error:  # noqa: BLE001 - the table names it
        does = type(error).__name__

    assert (differs.does, differs.relay) == (does, relays(oracle.kind, pair, odd))
    assert "takes it" == differs.does or not oracle.accepts(pair, odd)
