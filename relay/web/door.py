"""Who may hold a connection, and for how long?  What all connections share: their number, and who waits."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Final, Protocol

from relay.errors import Rejected
from relay.web.tally import Tally

SPARE: Final = 256
"""Descriptors that are not for senders: the database, the log, files, and calls to providers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How much a sender may take, and for how long."""

    connections: int = 2048
    headers_s: float = 10.0  #: from the connection's beginning, or the last answer, to the end of the headers
    body_s: float = 30.0  #: from the end of the headers to that of the body; also for taking an answer
    least_bytes_s: int = 1024  #: of a body, on the average
    grace_s: float = 5.0  #: before that is asked for
    bodies: int = 256 << 20  #: bytes of all bodies that are held at once
    linger_s: float = (
        2.0  #: how long what is still on its way is thrown away, so that the answer gets through
    )
    look_s: float = 0.5  #: how often it is looked for slow ones


class Stage(StrEnum):
    """What a connection waits for."""

    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"  #: to be taken by the sender
    END = "end"  #: the sender's


class Waiting(Protocol):
    """A connection, as far as the door knows it."""

    stage: Stage
    since: float  #: when its stage began, on the monotonic clock
    got: int  #: bytes of the body so far

    def cut(self, rejected: Rejected | None) -> None:
        """End it: with an answer, where that is possible, or None: without a word."""


def late(one: Waiting, terms: Terms, now: float) -> bool:
    """Say if a connection has waited too long for its stage, or its body comes too slowly."""
    age = now - one.since
    match one.stage:
        case Stage.HEADERS:
            return age > terms.headers_s
        case Stage.BODY:
            return age > terms.body_s or (age > terms.grace_s and one.got < terms.least_bytes_s * age)
        case Stage.ANSWER:
            return age > terms.body_s
        case Stage.END:
            return age > terms.linger_s


class Door:
    """
    Keeps those that wait in the order in which they began to, and ends those that are late.

    When all places are taken, or all bodies together are too large, the one that has waited longest goes, not
    the newcomer: a thousand slow ones can't keep a good one out.
    """

    def __init__(self, terms: Terms, tally: Tally) -> None:
        self.terms, self.tally = terms, tally
        self.inside: set[Waiting] = set()
        self.held = 0
        self._waiting: dict[Waiting, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, one: Waiting) -> bool:
        """Give a newcomer a place; False: all are taken by requests that are here and wait for relay."""
        if len(self.inside) >= self.terms.connections:
            self.tally.speak("edge.full")
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                return False
            oldest.cut(Rejected(503, "Too many connections", "this one has waited longest"))
            self.leave(oldest)
        self.inside.add(one)
        if self._timer is None:
            self._look_later()
        return True

    def leave(self, one: Waiting) -> None:
        """Forget a connection."""
        self.inside.discard(one)
        self._waiting.pop(one, None)

    def wait(self, one: Waiting, stage: Stage) -> None:
        """Begin to wait for what comes from the other side."""
        one.stage, one.since = stage, monotonic()
        self._waiting.pop(one, None)
        if one in self.inside:
            self._waiting[one] = None

    def calm(self, one: Waiting) -> None:
        """Wait for nothing any more: it is relay's turn."""
        self._waiting.pop(one, None)

    def hold(self, one: Waiting, size: int) -> None:
        """Count bytes of a body that is kept until its answer; negative ones are let go."""
        self.held += size
        victim = None
        while size > 0 and self.held > self.terms.bodies and victim is not one:
            victim = next((slow for slow in self._waiting if slow.stage is Stage.BODY and slow.got), one)
            self.tally.speak("edge.shed", why="bodies")
            victim.cut(Rejected(503, "Busy", "too much is being received at once"))

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.terms.look_s, self._look)

    def _look(self) -> None:
        """End what is late. Nobody looks while nobody is there."""
        now = monotonic()
        for one in [one for one in self._waiting if late(one, self.terms, now)]:
            slow = one.stage in {Stage.HEADERS, Stage.BODY}
            if slow:
                self.tally.speak("edge.slow", waited_for=one.stage.value)
            one.cut(Rejected(408, "Too slow", f"the {one.stage} took too long") if slow else None)
        self._timer = None
        if self.inside:
            self._look_later()
