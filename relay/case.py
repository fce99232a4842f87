"""A case: one failing resource, from its first failure to its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from relay.call import Call, Priority, Step
from relay.event import Json, Millis

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


class Stand(StrEnum):
    """Where a case stands, and who moves it on."""

    OPEN = "open"  #: failed; its retry waits for its time, its hours, a person's yes, or the end of a storm
    RETRYING = "retrying"  #: a retry is on its way
    WATCHING = "watching"  #: the provider took it: a recovery event, a check or the deadline moves it
    NEEDS_PERSON = "needs_person"  #: only a person can tell
    RECOVERED = "recovered"  #: an end: it is well
    GAVE_UP = "gave_up"  #: an end: the budget is spent, or no retry would help
    CLOSED = "closed"  #: an end: a person said so


ENDS: Final = frozenset({Stand.RECOVERED, Stand.GAVE_UP, Stand.CLOSED})
"""Final: only a person's recorded act leads out of them."""


class Storming(StrEnum):
    """What a storm of its provider makes of a case."""

    CALM = "calm"
    PARKED = "parked"  #: its retry waits until others have helped
    OUT = "out"  #: it was let go: what becomes of it says whether retries help


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How far to go with a case, as its rule said when the failure came. It is stored with the case."""

    retries: int = 3  #: that the provider may be made to do...
    within_ms: Millis = DAY_MS  #: ...in so long
    wait_ms: tuple[Millis, ...] = (
        0,
        300_000,
        HOUR_MS,
    )  #: before the first, second, ... retry; the last stays
    recover_ms: Millis = 6 * HOUR_MS  #: how long an accepted retry may take before a person is asked
    looks: bool = False  #: the action has a check
    check_ms: Millis = 5_000  #: when the first check comes after an accepted retry
    keep: str = ""  #: the value for which the provider may answer a new id
    only: str = ""  #: the hours in which it may be called; empty: always
    approve: bool = False  #: each retry waits for a person's yes...
    approve_ms: Millis = DAY_MS  #: ...so long, and then:
    approve_then: Literal["ask", "approve", "reject"] = "ask"
    batch: str = ""  #: ``field:max``; empty: alone
    batch_ms: Millis = 0  #: how long company is waited for
    storm_cases: int = 0  #: more cases of the provider than these...
    storm_ms: Millis = 60_000  #: ...in so long are a storm; 0 cases: never
    storm_rest_ms: Millis = 30_000  #: how long nothing is tried in it after a retry that did not help
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a rule makes of an event: this resource failed, and here is how to retry it."""

    rule: str
    provider: str
    action: str
    key: str  #: names the resource
    values: Mapping[str, Json]  #: checked
    policy: Policy = field(default_factory=Policy)
    step: Step = Step.SEND  #: LOOK: read its state before the first call
    person: str = ""  #: why a person must look before anything is done
    flaw: str = ""  #: why it can't be called at all
    shown: str = ""  #: the request, where it is only shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a rule makes of another event: this resource is well."""

    rule: str
    provider: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One failing resource. `call` is its retry in flight, or the check that watches it."""

    id: str
    key: str
    provider: str
    rule: str  #: the first that met it
    action: str
    values: Mapping[str, Json]  #: of the next call: a new id that a provider answered is in it
    policy: Policy
    state: Stand
    why: str  #: why it stands there
    event: str  #: the last event that told of it
    flaw: str = ""  #: why it can't be called at all
    call: str | None = None
    retries: int = 0  #: how often the provider was, or may have been, made to do it
    spent: tuple[
        Millis, ...
    ] = ()  #: when; earlier cases of the same resource count while they are in the window
    aliases: tuple[str, ...] = ()  #: other keys under which it goes on
    storming: Storming = Storming.CALM
    opened_at: Millis
    accepted_at: Millis | None = None  #: when the provider took the last retry
    deadline_at: Millis | None = None  #: when it moves even if nothing comes
    ended_at: Millis | None = None
    moments: int = 0  #: how long its timeline is

    @property
    def ended(self) -> bool:
        """Say whether it stands at an end."""
        return self.state in ENDS


class Act(StrEnum):
    """What a person can do to a case."""

    RETRY = "retry"  #: make its retry now, whatever it waits for; an ended case is taken up again
    CLOSE = "close"
    SNOOZE = "snooze"  #: leave it alone until a time
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened to a case, for its timeline."""

    kind: str  #: opened joined stale failed_again accepted recovered gave_up … and a try's step
    what: str
    ref: str | None = None  #: the event or call that it is about
    by: str | None = None  #: the person who acted
    at: Millis = 0
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What becomes of a case: decided in `relay.follow`, kept by the store in one transaction."""

    before: Case | None
    case: Case
    moment: Moment
    queue: Call | None = None  #: a call to make: it becomes the case's own
    change: Call | None = None  #: the case's call as it shall wait from now on; if a worker has it, it stays
    drop: str = ""  #: why the case's call is withdrawn, unless a worker has it
    tries: int = 0  #: of a case that has ended just now: all tries that were made for it
