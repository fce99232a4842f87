"""What do senders post, and what may become of it on its way?  Made by luck; for tests of signatures."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.clock import now_ms
from relay.event import Trust
from relay.load import load
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Source
from relay.verify import verify

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

MESSAGES = int(os.environ.get("RELAY_TEST_ORACLE", "100"))
"""How many each oracle is asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a sender and its receiver share."""

    shown: str  #: what stands in relay's variable: a shared secret, or a public key
    seed: bytes = b""  #: of a private key

    @property
    def pem(self) -> bytes | None:
        """The private key as `relay send` reads it."""
        if not self.seed:
            return None
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way in which senders sign: a preset's, and which headers say what."""

    preset: str
    verify: str = "hmac"  #: with *proof*: which of its ways
    pair: Callable[[Random], Pair]
    proof: str  #: the header of the signature
    time: str = ""  #: the header of the time, if there is one
    id: str = ""  #: the header of the delivery's id, if that is signed
    url: str = ""  #: what the operator says, where the address is signed


def one(incoming: Incoming, name: str) -> str:
    """Return a header's value."""
    (value,) = incoming.headers[name]
    return value


def with_(incoming: Incoming, **headers: str) -> Incoming:
    """Return the delivery with these headers, ``_`` in their names a hyphen."""
    named = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return replace(incoming, headers={**incoming.headers, **named})


def letters(luck: Random, count: int) -> str:
    """Return so many letters."""
    return "".join(luck.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=count))


# -- messages --

_WORDS = ("job", "failed", "Grüße", "错误", "🙂", 'say "no"', "a\\b", "\u2028", "x" * 300, "", " ", "\t")


def text(luck: Random) -> str:
    """Return a text such as senders post; not only JSON, for nobody reads before it is verified."""
    data = {luck.choice(_WORDS): luck.choice([luck.choice(_WORDS), luck.random(), None, [luck.random()]])}
    data["n"] = luck.getrandbits(53)
    return luck.choice(
        [
            json.dumps(data),
            json.dumps(data, ensure_ascii=False, separators=(",", ":")),
            json.dumps(data, indent=2).replace("\n", "\r\n") + "\n",
            urlencode({"payload": json.dumps(data), "n": data["n"]}),
            " ".join(luck.choices(_WORDS, k=5)) + ".",
            f"{data['n']}.{luck.choice(_WORDS)}",
        ]
    )


def plain(luck: Random) -> Incoming:
    """Return a delivery as most senders make it, without its proof."""
    named = (f"msg_{letters(luck, 20)}",)
    headers = {"content-type": (JSON,), "webhook-id": named, "svix-id": named}
    return Incoming(headers=headers, body=text(luck).encode())


def twilios(luck: Random) -> Incoming:
    """Return one of Twilio's: a form, or JSON whose hash stands in the query."""
    query = urlencode({letters(luck, 3): luck.choice(_WORDS) for _ in range(luck.randrange(3))})
    if luck.random() < 0.3:
        body = text(luck).encode()
        told = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
        joined = "&".join(filter(None, (query, told)))
        return Incoming(headers={"content-type": (JSON,)}, body=body, query=joined)
    fields = [(letters(luck, luck.randint(1, 9)), luck.choice(_WORDS)) for _ in range(luck.randint(1, 12))]
    fields += [(fields[0][0], f"another {fields[0][1]}")] * (luck.random() < 0.2)
    return Incoming(headers={"content-type": (FORM,)}, body=urlencode(fields).encode(), query=query)


def sent_at(luck: Random) -> int:
    """Return a time in seconds that is recent enough for all of them."""
    return int(time.time()) - luck.randint(-200, 200)


def message(kind: Kind, luck: Random) -> Incoming:
    """Return a delivery of that kind."""
    return twilios(luck) if kind.preset == "twilio" else plain(luck)


def text_pair(luck: Random) -> Pair:
    """Return a secret that is text."""
    return Pair(shown=letters(luck, luck.randint(16, 64)))


# -- what may be done to a delivery on its way --


def _flipped(raw: bytes, luck: Random) -> bytes:
    place = luck.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << luck.randrange(8)]) + raw[place + 1 :]


def _body(luck: Random, _: Kind, right: Incoming) -> Incoming:
    raw = right.body
    return replace(right, body=luck.choice([_flipped(raw, luck), raw[:-1], raw + b" ", raw * 2]))


def _proof(luck: Random, kind: Kind, right: Incoming) -> Incoming:
    """Another letter in the signature itself, not in the spare bits at its end."""
    shown = one(right, kind.proof)
    place = len(shown) - luck.randint(5, 26)
    other = next(letter for letter in luck.sample("abcdef0123456789", 16) if letter != shown[place])
    return with_(right, **{kind.proof: shown[:place] + other + shown[place + 1 :]})


def _cut(luck: Random, kind: Kind, right: Incoming) -> Incoming:
    shown = one(right, kind.proof)
    return with_(right, **{kind.proof: shown[: -luck.randint(4, len(shown))]})


def _without(_: Random, kind: Kind, right: Incoming) -> Incoming:
    name = kind.time or kind.proof
    return replace(right, headers={key: value for key, value in right.headers.items() if key != name})


def _time(luck: Random, kind: Kind, right: Incoming) -> Incoming:
    if not kind.time:
        return _cut(luck, kind, right)
    return with_(right, **{kind.time: str(int(one(right, kind.time)) + luck.choice([-1, 1, 10]))})


def _id(luck: Random, kind: Kind, right: Incoming) -> Incoming:
    if not kind.id:
        return _proof(luck, kind, right)
    return with_(right, **{kind.id: one(right, kind.id) + "a"})


def _field(luck: Random, _: Kind, right: Incoming) -> Incoming:
    """Another value or another field of a form; a body that is JSON gets another byte."""
    if b"=" not in right.body or b"{" in right.body:
        return replace(right, body=right.body + b" ")
    return replace(right, body=right.body + luck.choice([b"a", b"&zz=1"]))


def _query(luck: Random, _: Kind, right: Incoming) -> Incoming:
    return replace(right, query=right.query + luck.choice(["&a=1", "a"]))


_ALTERED: tuple[Callable[[Random, Kind, Incoming], Incoming], ...] = (
    _body, _proof, _cut, _without, _time, _id,
)  # fmt: skip
_FORMS = (_field, _query, _proof, _cut, _without)


def altered(luck: Random, kind: Kind, right: Incoming) -> Incoming:
    """Return the delivery with something else in what its signature covers, or in the signature."""
    return luck.choice(_FORMS if kind.preset == "twilio" else _ALTERED)(luck, kind, right)


# -- what relay says --


@cache
def _source(kind: Kind) -> Source:
    """Read the preset as an operator's rules do, once for all messages."""
    lines = ["[source.one]", f'preset = "{kind.preset}"', 'secrets = "env:HOOK"']
    lines += [f'public_url = "{kind.url}"'] * bool(kind.url)
    with TemporaryDirectory() as folder:
        rules = Path(folder, "rules.toml")
        rules.write_text("\n".join(lines))
        return load(rules, {"HOOK": kind.pair(Random(0)).shown}).sources["one"]


def _keyed(kind: Kind, pair: Pair) -> Source:
    """Give the way that is asked for this secret, and leave the others out."""
    source = _source(kind)
    (way,) = (one for one in source.ways if (one.verify, one.header) == (kind.verify, kind.proof))
    way = replace(way, secrets=(Secret(pair.shown, "env:HOOK"),))
    return replace(source, ways=(way,))


def relays(kind: Kind, pair: Pair, incoming: Incoming) -> bool:
    """Let relay verify a delivery, now."""
    return verify(_keyed(kind, pair), incoming, now_ms()).trust is Trust.VERIFIED


def by_relay(kind: Kind, pair: Pair, incoming: Incoming, at: int) -> Incoming:
    """Let relay sign a delivery, *at* a time in seconds."""
    return sign(_keyed(kind, pair), incoming, at * 1000, pair.pem)
