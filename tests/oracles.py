"""Who else can tell a right signature?  Independent libraries, each for one kind of delivery."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from urllib.parse import parse_qsl

from deliveries import FORM, Kind, Pair, one, text_pair, with_
from nacl.encoding import HexEncoder, RawEncoder
from nacl.signing import SigningKey, VerifyKey
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook
from stripe import WebhookSignature
from twilio.request_validator import RequestValidator

from relay.source import Incoming

URL = "https://relay.example/hooks/one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """One library, for one kind of delivery."""

    kind: Kind
    sign: Callable[[Pair, Incoming, int], Incoming]
    """From what is shared, a delivery without proof and when it is sent, in seconds."""
    right: Callable[[Pair, Incoming], bool]  #: may raise what it likes

    def accepts(self, pair: Pair, incoming: Incoming) -> bool:
        """Ask the library; an exception of whatever kind is a no."""
        try:
            return self.right(pair, incoming)
        except Exception:  # noqa: BLE001 - which it raises is told in test_oracles_faults
            return False


# -- Standard Webhooks --


def _shared(luck: Random) -> Pair:
    return Pair(shown="whsec_" + b64encode(luck.randbytes(luck.choice([24, 32, 33, 64]))).decode())


def _standard(family: str) -> Kind:
    """Return the kind whose headers begin so: ``webhook`` or ``svix``."""
    return Kind(
        preset="standard-webhooks",
        pair=_shared,
        proof=f"{family}-signature",
        time=f"{family}-timestamp",
        id=f"{family}-id",
    )


def _signs(kind: Kind, pair: Pair, incoming: Incoming, at: int) -> Incoming:
    when = datetime.fromtimestamp(at, UTC)
    shown = Webhook(pair.shown).sign(one(incoming, kind.id), when, incoming.body.decode())
    return with_(incoming, **{kind.time: str(at), kind.proof: shown})


def _verifies(kind: Kind, pair: Pair, incoming: Incoming) -> bool:
    named = {"id": kind.id, "timestamp": kind.time, "signature": kind.proof}
    headers = {f"webhook-{name}": one(incoming, header) for name, header in named.items()}
    Webhook(pair.shown).verify(incoming.body, headers, json_parse=False)
    return True


# -- Stripe --


def _stripe(pair: Pair, incoming: Incoming, at: int) -> Incoming:
    shown = WebhookSignature.generate_signature_header(incoming.body.decode(), pair.shown, at)
    return with_(incoming, stripe_signature=shown)


def _is_stripe(pair: Pair, incoming: Incoming) -> bool:
    header = one(incoming, "stripe-signature")
    return bool(WebhookSignature.verify_header(incoming.body, header, pair.shown, tolerance=300))


# -- Slack --


def _slack(pair: Pair, incoming: Incoming, at: int) -> Incoming:
    shown = SignatureVerifier(pair.shown).generate_signature(timestamp=str(at), body=incoming.body)
    return with_(incoming, x_slack_request_timestamp=str(at), x_slack_signature=str(shown))


def _is_slack(pair: Pair, incoming: Incoming) -> bool:
    headers = {name: values[0] for name, values in incoming.headers.items()}
    return SignatureVerifier(pair.shown).is_valid_request(incoming.body, headers)


# -- Twilio --


class _Fields:
    """A form's fields, each with all its values: the shape that Twilio's library takes from Flask."""

    def __init__(self, body: bytes) -> None:
        self._pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def getall(self, name: str) -> list[str]:
        """Return a field's values."""
        return [value for found, value in self._pairs if found == name]


def _url(incoming: Incoming) -> str:
    return f"{URL}?{incoming.query}" if incoming.query else URL


def _params(incoming: Incoming) -> str | _Fields:
    return _Fields(incoming.body) if one(incoming, "content-type") == FORM else incoming.body.decode()


def _twilio(pair: Pair, incoming: Incoming, _at: int) -> Incoming:
    params = _params(incoming)
    shown = RequestValidator(pair.shown).compute_signature(
        _url(incoming), {} if isinstance(params, str) else params
    )
    return with_(incoming, x_twilio_signature=shown)


def _is_twilio(pair: Pair, incoming: Incoming) -> bool:
    signature = one(incoming, "x-twilio-signature")
    return bool(RequestValidator(pair.shown).validate(_url(incoming), _params(incoming), signature))


# -- ed25519, by PyNaCl --


def _hex_keys(luck: Random) -> Pair:
    seed = luck.randbytes(32)
    return Pair(shown=SigningKey(seed).verify_key.encode(HexEncoder).decode(), seed=seed)


def _named_keys(luck: Random) -> Pair:
    seed = luck.randbytes(32)
    return Pair(shown="whpk_" + b64encode(SigningKey(seed).verify_key.encode(RawEncoder)).decode(), seed=seed)


def _discord(pair: Pair, incoming: Incoming, at: int) -> Incoming:
    shown = SigningKey(pair.seed).sign(str(at).encode() + incoming.body).signature.hex()
    return with_(incoming, x_signature_timestamp=str(at), x_signature_ed25519=shown)


def _is_discord(pair: Pair, incoming: Incoming) -> bool:
    signed = one(incoming, "x-signature-timestamp").encode() + incoming.body
    claimed = bytes.fromhex(one(incoming, "x-signature-ed25519"))
    VerifyKey(pair.shown.encode(), HexEncoder).verify(signed, claimed)
    return True


def _v1a_text(incoming: Incoming, at: str) -> bytes:
    return f"{one(incoming, 'webhook-id')}.{at}.".encode() + incoming.body


def _v1a(pair: Pair, incoming: Incoming, at: int) -> Incoming:
    raw = SigningKey(pair.seed).sign(_v1a_text(incoming, str(at))).signature
    return with_(incoming, webhook_timestamp=str(at), webhook_signature=f"v1a,{b64encode(raw).decode()}")


def _is_v1a(pair: Pair, incoming: Incoming) -> bool:
    version, _, shown = one(incoming, "webhook-signature").partition(",")
    text = _v1a_text(incoming, one(incoming, "webhook-timestamp"))
    key = VerifyKey(b64decode(pair.shown.removeprefix("whpk_"), validate=True))
    key.verify(text, b64decode(shown, validate=True))
    return version == "v1a"


def _webhooks(kind: Kind) -> Oracle:
    return Oracle(kind=kind, sign=partial(_signs, kind), right=partial(_verifies, kind))


_STANDARD = _standard("webhook")
_V1A = replace(_STANDARD, verify="ed25519", pair=_named_keys)
_STRIPE = Kind(preset="stripe", pair=text_pair, proof="stripe-signature")
_SLACK = Kind(preset="slack", pair=text_pair, proof="x-slack-signature", time="x-slack-request-timestamp")
_TWILIO = Kind(preset="twilio", verify="twilio", pair=text_pair, proof="x-twilio-signature", url=URL)
_DISCORD = Kind(
    preset="discord",
    verify="ed25519",
    pair=_hex_keys,
    proof="x-signature-ed25519",
    time="x-signature-timestamp",
)

ORACLES: Mapping[str, Oracle] = {
    "standardwebhooks": _webhooks(_STANDARD),
    "standardwebhooks, the other headers": _webhooks(_standard("svix")),
    "standardwebhooks, Svix": _webhooks(replace(_standard("svix"), preset="svix")),
    "standardwebhooks, GitLab": _webhooks(replace(_STANDARD, preset="gitlab")),
    "stripe": Oracle(kind=_STRIPE, sign=_stripe, right=_is_stripe),
    "slack_sdk": Oracle(kind=_SLACK, sign=_slack, right=_is_slack),
    "twilio": Oracle(kind=_TWILIO, sign=_twilio, right=_is_twilio),
    "PyNaCl, Discord": Oracle(kind=_DISCORD, sign=_discord, right=_is_discord),
    "PyNaCl, v1a": Oracle(kind=_V1A, sign=_v1a, right=_is_v1a),
}
"""Each library, by its name."""
