"""A call: one request that relay owes one provider, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, TypeAlias

from relay.event import Json, Millis

NEVER: Final[Millis] = 1 << 52
"""A due time that no clock reaches: only a person moves the call on."""


class State(StrEnum):
    """Where a call stands. 'Scheduled' and 'retrying' are words for QUEUED with a later due_at."""

    QUEUED = "queued"  #: waits for due_at
    RUNNING = "running"  #: one worker holds its lease
    UNKNOWN = "unknown"  #: bytes may have arrived, no answer: waits for a look at the resource, or a person
    HELD = "held"  #: waits for a person's yes
    DONE = "done"  #: the provider took it, or there is nothing left to do
    DEAD = "dead"  #: no try is left, or none would help
    CANCELLED = "cancelled"  #: a person withdrew it


MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.UNKNOWN, State.DONE, State.DEAD, State.CANCELLED}),
    State.UNKNOWN: frozenset({State.RUNNING, State.QUEUED, State.CANCELLED}),
    State.HELD: frozenset({State.QUEUED, State.CANCELLED}),
    State.DONE: frozenset(),
    State.DEAD: frozenset({State.QUEUED}),  # a person may queue it again
    State.CANCELLED: frozenset({State.QUEUED}),  # a person may queue it again
}


class Kind(StrEnum):
    """What a call is for. All wait in one queue."""

    RETRY = "retry"  #: the provider is asked to do it again
    CHECK = "check"  #: an accepted retry: did it help?
    PAGE = "page"  #: one run of a watch, page after page


class Priority(IntEnum):
    """Which of a provider's due calls goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Seen(StrEnum):
    """How a look found the resource."""

    FAILED = "failed"
    RUNNING = "running"
    RECOVERED = "recovered"


class Step(StrEnum):
    """What the next try of a call is."""

    LOOK = "look"  #: read the resource's state: has it still failed?
    SEND = "send"  #: make the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that relay owes a provider."""

    id: str
    kind: Kind = Kind.RETRY
    event: str | None  #: the id of the event that caused it; a watch's run has none
    case: str | None = None  #: the id of the case that it is for
    key: str  #: the key of the failing resource; of a watch's run, the watch's name
    rule: str
    provider: str
    action: str  #: of a watch's run, the provider's listing
    values: Mapping[str, Json]  #: what the action's placeholders are filled with
    state: State = State.QUEUED
    step: Step = Step.SEND
    why: str = ""  #: why it stands where it stands
    due_at: Millis  #: queued, unknown: its next try; running: the end of its lease
    tries: int = 0  #: sends that the provider answered, or may have seen
    doubts: int = 0  #: sends of which nobody can say what they did
    room: int = 1_000  #: how many sends may have done something, before the resource's budget is spent
    mark: str = ""  #: what a look saw before the send, and what changes when it is done
    batch: str = ""  #: ``field:max``: it may share a request with others of its kind; empty: alone
    only: str = ""  #: the hours in which it may be sent; empty: always
    priority: Priority = Priority.NORMAL
    looks: int = 0  #: looks that could not tell how the resource is
    attempts: int = 0  #: all tries, looks and unreachable providers included
    alias: str | None = None  #: the id under which the provider goes on, where its answer says one
    lease: str | None = None
    created_at: Millis
    settled_at: Millis | None = None
    seen: Seen | None = None  #: how the look found the resource that ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a call: written before the bytes leave, completed after, never changed again."""

    call: str
    number: int
    step: Step
    began_at: Millis
    ended_at: Millis | None = None
    status: int | None = None
    outcome: str | None = None
    why: str = ""
    answer: bytes = b""  #: at most 16 KiB of what the provider said


@dataclass(frozen=True, slots=True)
class Done:
    """The provider took it, or nothing is left to do; *alias* is the id that it goes on with."""

    why: str
    alias: str | None = None
    seen: Seen | None = None  #: a look, not the answer, is what ended it


@dataclass(frozen=True, slots=True)
class Retry:
    """Take *step* again, no sooner than *at*. A try is *spent* where the provider may have seen it."""

    at: Millis
    why: str
    step: Step = Step.SEND
    spent: bool = True
    doubt: bool = False  #: this try may have done it: policy allows a double, and it shows
    alone: bool = False  #: a batch was refused: each of its calls goes alone from here on


@dataclass(frozen=True, slots=True)
class Unknown:
    """Bytes may have arrived. Look no sooner than *at*; NEVER: only a person can tell."""

    at: Millis
    why: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Another try would not help."""

    why: str
    spent: bool = True


Outcome: TypeAlias = Done | Retry | Unknown | Dead


@dataclass(frozen=True, slots=True)
class Answered:
    """The provider is well, whatever it said."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The provider asked that nobody calls before *until*."""

    until: Millis


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider could not be reached, or broke down over the call."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider refuses our credentials: every call would fare the same."""

    why: str


Signal: TypeAlias = Answered | Throttled | Failed | Refused
"""What a try tells about the provider as a whole, for its gate."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a try meant for its call, and for the provider."""

    outcome: Outcome
    signal: Signal | None  #: None: the provider had no part in it
    blurred: bool = False  #: a look that could not tell
    mark: str | None = None  #: what a look saw of the resource, to be compared after the send


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a worker holds: the call as claimed, its attempt's number, and the lease that proves it."""

    call: Call
    attempt: Attempt
    lease: str
