"""What to look for, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from relay.case import Policy
from relay.event import Json, Millis, Trust
from relay.provider import Provider
from relay.secret import Secret
from relay.source import Condition, Source


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
        holders = [source.secrets() for source in self.sources.values()]
        holders += [tuple(p.secrets.values()) for p in self.providers.values()]
        return tuple(secret for held in holders for secret in held)
