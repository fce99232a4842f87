"""What to look for, what to do about it, and from whom to hear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from relay.case import Policy
from relay.event import Json, Millis
from relay.provider import Meets, Provider
from relay.secret import Secret

DAY_MS = 86_400_000


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
    recovered: Meets | None = None  #: the event that says that a resource is well
    redact: tuple[str, ...] = ()  #: JSON member names whose values are cut before anything is stored
    max_bytes: int = 1 << 20
    dedupe_ms: Millis = 7 * DAY_MS  #: how long a delivery is known as a duplicate


class Condition(Meets, Protocol):
    """A compiled pattern that can say why data does not meet it."""

    def miss(self, data: Json) -> object | None:
        """Return the first condition that failed, to be shown with ``str``; None if all is met."""
        ...


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
    """An event and how many calls the rule makes of it."""

    event: Json
    calls: int
    line: int | None = None  #: where it stands in the rules file
    key: str = ""  #: and how it is called there: rule[2].test[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When an event meets this, make that call."""

    name: str
    sources: tuple[str, ...]
    when: Condition
    provider: str
    action: str
    with_: Mapping[str, Json]  #: value name → template over the event
    case: str = ""  #: template for the key of the failing resource; empty: provider and values
    recovered: Condition | None = None  #: the event that says it is well; None: the source's own
    policy: Policy = field(default_factory=Policy)  #: how far to go
    approve: Condition | None = None  #: whose retries wait for a person's yes; None: as policy says
    tests: tuple[RuleTest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
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
