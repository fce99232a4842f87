"""A service that can be asked to try again: what its TOML file says, and HTTP as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from relay.event import Json, Millis
from relay.reach import Reach
from relay.secret import Secret


class Meets(Protocol):
    """A compiled pattern: does *data* meet it?"""

    def meets(self, data: Json) -> bool:
        """Say whether *data* meets the pattern."""
        ...


# -- HTTP as data: only send.py turns these into bytes and back --


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart/form-data body: text fields, and files streamed from disk, never held in memory."""

    fields: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, Path, str], ...]  #: field name, path, media type
    root: Path  #: the folder that no path may leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds a call may take: to connect, between bytes going out, between bytes coming in, and in all."""

    connect: float = 5.0
    write: float = 10.0
    read: float = 20.0
    total: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What goes out. *url* is whole and already encoded; *headers* carry the credentials."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | Upload = b""
    timeouts: Timeouts = field(default_factory=Timeouts)
    reach: Reach = field(default_factory=Reach)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete status line and headers came back, and as much of the body as we read."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes
    whole: bool = True  #: False: the body was cut by our cap, or broke off


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """No answer. *sent*: bytes of the request may have reached the provider."""

    why: str
    sent: bool
    ours: bool = False  #: the fault is on our side (no file to upload): the provider is not to blame


Answer: TypeAlias = Reply | Fault


# -- what a provider's file says --


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often and how many at once: *burst* calls at once, then one each *every_ms*."""

    every_ms: Millis = 0  #: 0: no limit
    burst: int = 1
    concurrency: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """
    How a request is signed: HMAC-SHA256 in hex over *text* under a key derived step by step.

    *key* is the first key; each text in *derive* makes the next one, ``key = HMAC(key, text)``, as AWS and
    TextIn do. Placeholders: ``{secret.NAME} {timestamp} {method} {path} {params} {body_sha256}``.
    The result is ``{signature}`` in the auth headers.
    """

    key: str
    derive: tuple[str, ...] = ()
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """The headers that say who is calling."""

    headers: Mapping[str, str]
    sign: Sign | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What may fill one placeholder of an action."""

    type: Literal["text", "integer", "boolean", "file", "any"] = "text"
    format: Literal["uuid"] | None = None
    pattern: str | None = None  #: a regular expression for the whole value
    max: int = 256  #: bytes of UTF-8, for text
    optional: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A request with holes: method, path, query, headers and one kind of body, still as templates."""

    method: str
    path: str
    query: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Json = None
    multipart: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    """Field name → a text template, or ``{file = "{value}", type = "application/zip"}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to read an answer: what it *is* when it meets *when*."""

    is_: str
    when: Meets
    why: str = ""
    after_ms: Millis = 0  #: for retry: no sooner than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How to look at the resource, and what its state means."""

    shape: Shape
    states: tuple[Reading, ...]  #: is_: failed | running | recovered | refused; first match wins
    mark: str = ""  #: where the answer says what changes with each run: ``data.updatedAt``
    wait_ms: tuple[Millis, ...] = (5_000, 15_000, 60_000, 300_000, 900_000)
    """Before the first, second, … look after an accepted retry; the last stays."""
    within_ms: Millis = 21_600_000  #: how long an accepted retry may take before a person is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sample that the tests run: values in, request out; answer in, outcome out."""

    with_: Mapping[str, Json]
    request: Mapping[str, Json] = field(default_factory=dict)
    answer: Mapping[str, Json] = field(default_factory=dict)
    outcome: str = ""
    look: Mapping[str, Json] = field(default_factory=dict)  #: an answer of the check
    state: str = ""  #: and what it means


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing a provider can be asked to do."""

    name: str
    title: str
    shape: Shape
    values: Mapping[str, Value]
    idempotent: bool = False  #: a second call does no harm
    on_unknown: Literal["check", "resend_same_key", "resend", "person"] = "person"
    check_first: bool = False  #: look before the first send, too
    outcomes: tuple[Reading, ...] = ()  #: is_: done | retry | unknown | dead | refused; first match wins
    check: Check | None = None
    keep: Mapping[str, str] = field(default_factory=dict)
    """The value whose new id the answer may say, and where: ``{"job_id": "data.id"}``; one at most."""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """How a list goes on: with a cursor out of the answer, or with the next number."""

    query: str  #: the parameter that says where to go on
    cursor: str = ""  #: where the answer says it: ``last_id``; empty: pages are numbered from 1
    more: Meets | None = None  #: the answer says that there is more; None: a page without items is the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of what failed, which a watch asks for again and again."""

    name: str
    title: str
    shape: Shape  #: GET; ``{since}`` stands for the time from which on a log is read
    values: Mapping[str, Value]
    items: str  #: where the answer has them: ``result.files``; lists on the way are walked through
    id: str  #: template over an item: what makes it the same one as before
    failed: Meets | None = None  #: the items that count; None: all
    event: Json = None  #: template over an item: the event's body; None: the item itself
    log: bool = False  #: each item is an event that stays; else it is in the list while it is failing
    paging: Paging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """More than *cases* of a provider opened within *within_ms* are a storm; 0: never."""

    cases: int = 20
    within_ms: Millis = 60_000
    rest_ms: Millis = 30_000  #: how long nothing is tried after a retry that did not help; doubles each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A service, from its TOML file and the operator's ``[provider.NAME]``."""

    name: str
    title: str
    docs: str = ""
    base_url: str
    reach: Reach = field(default_factory=Reach)  #: the addresses that its host may have
    auth: Auth
    limit: Limit = field(default_factory=Limit)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tries: int = 8  #: sends of one call before it is dead
    outcomes: tuple[Reading, ...] = ()  #: after the action's own, before the common table
    actions: Mapping[str, Action]
    listings: Mapping[str, Listing] = field(default_factory=dict)
    storm: Storm = field(default_factory=Storm)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    files: Path | None = None  #: the folder that uploads come from
