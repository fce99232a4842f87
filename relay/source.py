"""Who may post, how is that known, and where do deliveries say what happened?"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as made
from typing import Final, Literal, Protocol, TypeAlias

from relay.event import Around, Json, Millis
from relay.provider import Limit, Meets
from relay.secret import Secret

DAY_MS = 86_400_000

Method: TypeAlias = Literal["hmac", "ed25519", "ecdsa-p256", "token", "basic", "jwt", "sns", "twilio"]
"""How a sender shows who it is."""

Encoding: TypeAlias = Literal["hex", "any-case-hex", "base64", "base64url"]
"""How a signature is spelt; each has one spelling only. Base64url is without padding."""

_PRIVATE: Final = re.compile(
    r"(?:proxy-)?authorization|(?:set-)?cookie|x-(?:.*-)?token|.*-secret|(?:x-)?api-key|.*signature.*(?<!timestamp)"
)


def private(header: str) -> bool:
    """Say whether a header, its name in lower case, holds a credential or a signature: none is ever kept."""
    return _PRIVATE.fullmatch(header) is not None


class Condition(Meets, Protocol):
    """A compiled pattern over events that can say why one does not meet it."""

    def meets(self, data: Json, around: Around = ..., /) -> bool:
        """Say whether *data*, and what came *around* it, meet the pattern."""
        ...

    def miss(self, data: Json, around: Around = ..., /) -> object | None:
        """Return the first condition that failed, to be shown with ``str``; None if all is met."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One delivery as it came over HTTP; nothing of it is believed yet."""

    headers: Mapping[str, tuple[str, ...]]  #: names in lower case, each with all its values
    body: bytes
    token: str = ""  #: what stood in the path behind the source's name
    query: str = ""  #: as it was sent, without its question mark
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way in which a sender may show who it is; presets say it, so that operators need not."""

    verify: Method
    secrets: tuple[Secret, ...] = ()  #: several = rotation; for ed25519 and ECDSA these are public keys
    header: str = "authorization"  #: the signature's or the token's
    place: Literal["header", "path", "body"] = "header"  #: where the token or signature stands
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    encoding: Encoding = "hex"
    format: Literal["plain", "list"] = "plain"  #: one signature, or ``t=1,v1=…,v1=…``
    item_separator: str = ","  #: list: between its items
    key_separator: str = "="  #: list: between the key of an item and its value
    field: str = ""  #: list: the key of signatures; in the body: the path to it
    prefix: str = ""  #: required before the signature or token, then stripped: ``sha256=``, ``Bearer ``
    signed: str = "{body}"
    """What is signed: ``{body} {timestamp} {url} {method} {header:NAME} {body:PATH}``, and text between."""
    timestamp: str = ""  #: ``header:NAME``, ``field:KEY`` of the list, or ``body:PATH``
    timestamp_unit: Literal["s", "ms", "iso"] = "s"
    tolerance_ms: Millis = 300_000  #: how far the timestamp may be from our clock, on both sides
    key_encoding: Literal["utf8", "base64", "hex"] = "utf8"
    strip_key_prefix: str = ""  #: what some secrets begin with that is no part of the key: ``whsec_``
    public_url: str = ""  #: this source's address as the sender knows it, without a query
    keys: str = ""  #: jwt: the JWKS; sns: a certificate instead of the sender's; https://… or file:/…
    issuers: tuple[str, ...] = ()  #: jwt: who may have issued the token
    audience: str = ""  #: jwt: for whom
    claims: Mapping[str, Json] = made(default_factory=dict)  #: jwt: what else it must say
    topics: tuple[str, ...] = ()  #: sns: whose messages are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a sender asks before it trusts an address, and the answer; nothing is kept of it."""

    when: Condition
    text: str = ""  #: a template over the delivery, answered as text/plain
    json: Json = None  #: or one of JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who may post to ``/hooks/NAME``, how that is known, and where its events keep their ids."""

    name: str
    ways: tuple[Way, ...] = ()  #: any of them will do
    open: bool = False  #: anyone may post: the operator has said so
    reads: Literal["json", "form", "cloudevents"] = "json"  #: how a body is read
    form_field: str = ""  #: of a form: the field that holds JSON, if there is one
    nested: tuple[str, ...] = ()  #: where JSON stands inside a text: ``Message``, ``base64:message.data``
    split: str | None = None  #: where a body holds several events; ``""``: it is the list itself
    handshakes: tuple[Handshake, ...] = ()
    origins: tuple[str, ...] = ()  #: who may ask by OPTIONS if it may post (CloudEvents)
    delivery: tuple[str, ...] = ()
    """First that is there: ``header:x-github-delivery``, ``body:src.id``; joined: ``body:source+body:id``."""
    type: tuple[str, ...] = ()  #: the same for the event's type
    resource: tuple[str, ...] = ()  #: the same for what it is about
    time: tuple[str, ...] = ()  #: the same for when it happened
    failed: Condition | None = None  #: the event that says that a resource has failed
    recovered: Condition | None = None  #: the event that says that a resource is well
    asked: tuple[str, ...] = ()  #: headers that rules ask for: they are kept
    redact: tuple[str, ...] = ()  #: JSON member names whose values are cut before anything is stored
    max_bytes: int = 1 << 20
    dedupe_ms: Millis = 7 * DAY_MS  #: how long a delivery is known as a duplicate
    limit: Limit | None = None  #: how often it may post
    answer: int = 202  #: the status of an event that was kept

    def secrets(self) -> tuple[Secret, ...]:
        """Return the secrets of all ways, each once."""
        return tuple(dict.fromkeys(secret for way in self.ways for secret in way.secrets))

    def proving(self) -> frozenset[str]:
        """Return the headers that show who the sender is: they are never kept."""
        return frozenset(way.header for way in self.ways if way.place == "header")


# -- what a preset shows of itself --


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A delivery as the provider sends it, and what relay must make of it."""

    name: str
    headers: Mapping[str, str] = made(default_factory=dict)  #: without the signature
    body: bytes = b""
    query: str = ""
    events: tuple[Mapping[str, Json], ...] = ()
    """Of each event that is in it: ``type delivery resource time tells``."""
    handshake: Json = None  #: or the answer, where it is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A published signature: what was signed, with which secret."""

    origin: str  #: where it was published
    secret: str
    headers: Mapping[str, str]
    body: bytes
    now: Millis | None = None  #: when it was sent, if its signature has a time
    public_url: str = ""
    query: str = ""
    way: Mapping[str, Json] = made(default_factory=dict)  #: keys that differ from the preset's


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A file of ``sources/``: what is known of a sender besides how its deliveries are read."""

    name: str
    title: str
    docs: str = ""  #: the provider's page
    setup: tuple[str, ...] = ()  #: what to do at the provider, step by step
    notes: str = ""  #: what bites
    samples: tuple[Sample, ...] = ()
    vectors: tuple[Vector, ...] = ()
