"""What to look for, what to do about it, and from whom to hear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from relay.case import Policy
from relay.event import Around, Json, Millis, Trust
from relay.provider import Meets, Provider
from relay.secret import Secret

DAY_MS = 86_400_000


class Condition(Meets, Protocol):
    """A compiled pattern over events that can say why one does not meet it."""

    def meets(self, data: Json, around: Around = ..., /) -> bool:
        """Say whether *data*, and what came *around* it, meet the pattern."""
        ...

    def miss(self, data: Json, around: Around = ..., /) -> object | None:
        """Return the first condition that failed, to be shown with ``str``; None if all is met."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who may post to ``/hooks/NAME``, how that is known, and where its events keep their ids."""

    name: str
    verify: Literal["hmac", "token", "none"]
    secrets: tuple[Secret, ...] = ()  #: several = rotation
    header: str = "authorization"  #: hmac: the signature's; token: the token's
    place: Literal["header", "path"] = "header"  #: where a token stands
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""  #: required before the signature or token, then stripped: ``sha256=``, ``Bearer ``
    delivery: tuple[str, ...] = ()  #: first that is there: ``header:x-github-delivery``, ``body:src.id``
    type: tuple[str, ...] = ()  #: the same for the event's type
    time: tuple[str, ...] = ()  #: the same for when it happened
    recovered: Condition | None = None  #: the event that says that a resource is well
    asked: tuple[str, ...] = ()  #: headers that rules ask for: they are kept
    redact: tuple[str, ...] = ()  #: JSON member names whose values are cut before anything is stored
    max_bytes: int = 1 << 20
    dedupe_ms: Millis = 7 * DAY_MS  #: how long a delivery is known as a duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A standing question to a provider that tells us nothing by itself; its answers become events."""

    name: str
    provider: str
    listing: str  #: the provider's
    source: str  #: the source as which its events come in
    every_ms: Millis
    with_: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTest:
    """An event, and what shall come of it."""

    event: Json = None  #: its body
    raw: bytes | None = None  #: or its body as it is sent
    source: str = ""  #: empty: the rule's first
    type: str | None = None  #: None: as its source finds it
    headers: Mapping[str, str] = field(default_factory=dict)
    verified: Trust | None = None  #: None: as if its sender had proved itself as the source wants
    now: Millis | None = None  #: when it comes; None: when it happened, or now
    age_ms: Millis | None = None  #: how long ago it happened then
    wants: Mapping[str, Json] = field(default_factory=dict)  #: key of the test → what is expected
    name: str = ""
    file: str = ""  #: where it stands; empty: in the file of rules
    line: int | None = None
    key: str = ""  #: as it is called there: rule[2].test[1]
    lines: Mapping[str, int] = field(default_factory=dict)  #: where else its keys stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A resource that a rule takes for failed, and the call that retries it."""

    provider: str = ""  #: empty: there is nobody to call, and the event's source stands for it
    action: str = ""
    with_: Mapping[str, Json] = field(default_factory=dict)  #: value name → template over the event
    case: str = ""  #: template for the resource's key; empty: provider and values
    policy: Policy = field(default_factory=Policy)  #: how far to go


class Window(StrEnum):
    """What a rule's window is for."""

    ONCE_WITHIN = "once_within"  #: the first acts, the rest of the window is passed over
    ONCE_AFTER = "once_after"  #: all of the window act as one, when it is over
    ACCUMULATE_WITHIN = "accumulate_within"  #: as many as the threshold act as one; fewer do nothing
    EXPECT = "expect"  #: it acts at the window's end, unless what is expected came


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """How many of the events that a rule meets make it act."""

    kind: Window
    ms: Millis
    by: str = ""  #: template: events of one key share a window; of ONCE_AFTER, count once in it
    threshold: int = 1  #: of ACCUMULATE_WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What has to follow, or else the rule acts."""

    when: Condition  #: the event that is expected
    ms: Millis
    by: str  #: template over the event that the rule meets…
    seen_by: str  #: …and over the expected one: of the same key, they belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do about an event that meets this: its calls, or one of the other ends."""

    name: str
    sources: tuple[str, ...]
    when: Condition
    aims: tuple[Aim, ...] = ()
    ignore: str = ""  #: why there is nothing to do
    person: str = ""  #: template: why a person must look
    tell: str = ""  #: the channel…
    say: str = ""  #: …and a template for what it is told
    recovered: Condition | None = None  #: the event that says it is well; None: the source's own
    approve: Condition | None = None  #: whose retries wait for a person's yes; None: as policy says
    throttle: Throttle | None = None
    expect: Expect | None = None
    max_age_ms: Millis | None = None  #: an event that happened longer ago is reported, not acted on
    stop: bool = False  #: rules further down are not asked about what this one meets
    shadow: bool = False  #: what it would do is kept with the event, and not done
    headers: frozenset[str] = frozenset()  #: that it asks for
    tests: tuple[RuleTest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Ruleset:
    """Everything the operator's files say, checked as a whole."""

    version: str  #: the first 12 hex digits of the SHA-256 of all files read
    path: Path
    sources: Mapping[str, Source] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)
    watches: Mapping[str, Watch] = field(default_factory=dict)
    watched: Mapping[str, Source] = field(default_factory=dict)  #: what they feed; nobody can post there

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret in use, for the net that keeps them out of logs and the database."""
        holders = [s.secrets for s in self.sources.values()]
        holders += [tuple(p.secrets.values()) for p in self.providers.values()]
        return tuple(secret for held in holders for secret in held)
