"""What is known when an answer is judged: the try, how the answer reads, and how long it asks to wait?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from fractions import Fraction
from math import ceil
from typing import Final, Literal

from relay.body import Unparsable, parse
from relay.call import (
    NEVER,
    Answered,
    Call,
    Dead,
    Failed,
    Kind,
    Outcome,
    Retry,
    Signal,
    Step,
    Throttled,
    Unknown,
)
from relay.event import Json, Millis
from relay.gate import LONGEST_WAIT_MS
from relay.provider import Action, Listing, Provider, Reading, Reply

BASE_MS: Final = 2_000
CAP_MS: Final = 900_000
FLOOR_MS: Final = 500

SETTLES_MS: Final = 2_000
"""A look right after a call in doubt could find the state from before it: it waits at least so long."""

KEY_MS: Final = 86_400_000
"""How long a provider is trusted to know an Idempotency-Key again, from the making of the call on."""

_SECONDS: Final = re.compile(r"[0-9]{1,100}(\.[0-9]{1,9})?")


def backoff_ms(number: int, luck: float) -> Millis:
    """Milliseconds to wait after try *number*: full jitter below a doubling cap, at least half a second."""
    # Cap the exponent, not only the result: 2 ** 5000 is a number with 1,500 digits.
    cap = min(CAP_MS, BASE_MS << min(max(number - 1, 0), 20))
    return max(FLOOR_MS, int(luck * cap))


def retry_after_ms(reply: Reply, now: Millis) -> Millis | None:
    """
    Milliseconds that the answer asks us to wait, rounded up; None if it does not say.

    Seconds (RFC 9110 10.2.3), fractional ones too, as X-Pkg sends them; an HTTP date, measured against
    the answer's own Date where it has one, because that clock made it; `retry-after-ms`.
    """
    found = reply.headers.get("retry-after-ms", "").strip()
    if found.isascii() and found.isdigit() and len(found) <= 13:
        return int(found)
    found = reply.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(found):
        # Exactly: a float would round 1000000000.000000001 down.
        return ceil(Fraction(found) * 1000)
    until = _date_ms(found)
    if until is None:
        return None
    return max(0, until - (_date_ms(reply.headers.get("date", "")) or now))


def _date_ms(text: str) -> Millis | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a time zone of many digits
        return None
    return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)


def believed_ms(reply: Reply, now: Millis) -> Millis:
    """Milliseconds that the answer asks us to wait, up to a day: no header may stop us for ever."""
    return min(retry_after_ms(reply, now) or 0, LONGEST_WAIT_MS)


def broke_off(reply: Reply) -> bool:
    """Say if a success lacks a part, which may be the very part that would have said otherwise."""
    return not reply.whole and 200 <= reply.status < 300


def facts(reply: Reply) -> Json:
    """Return the answer as data for patterns: status, headers, and the body as JSON or else as text."""
    body: Json
    try:
        body = parse(reply.body)
    except Unparsable:
        body = reply.body.decode("utf-8", "replace").strip()
    return {"status": reply.status, "headers": dict(reply.headers), "body": body}


def read(readings: Iterable[Reading], reply: Reply) -> Reading | None:
    """Return the first reading that the answer meets."""
    data = facts(reply)
    return next((reading for reading in readings if reading.when.meets(data)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyTrial:
    """One try of a call, as judged: *call* as claimed, its `attempts` counting this one."""

    provider: Provider
    call: Call
    now: Millis  #: when the answer came
    luck: float  #: between 0 and 1

    @property
    def what(self) -> str:
        """Name what is read."""
        return "the look"

    @property
    def wait(self) -> Millis:
        """Return the backoff that this try has earned, in milliseconds."""
        return backoff_ms(self.call.attempts, self.luck)

    def look_again(self, at: Millis, why: str) -> Outcome:
        """Still not known: read it again."""
        return Retry(at, why, step=Step.LOOK, spent=False)

    def signal(self, reply: Reply) -> Signal:
        """Say what the status alone tells of the provider's health."""
        asked = retry_after_ms(reply, self.now)
        match reply.status:
            case 429:
                return Throttled(self.now + (self.wait if asked is None else asked))
            case 503 if asked is not None:
                return Throttled(self.now + asked)
            case status if status >= 500:
                return Failed()
            case _:
                return Answered()

    def slowed(self, reading: Reading, signal: Signal) -> Signal:
        """Make a reading's `after` a floor for the whole provider, beside its own Retry-After."""
        if not reading.after_ms:
            return signal
        until = signal.until if isinstance(signal, Throttled) else 0
        return Throttled(max(until, self.now + reading.after_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTrial(AnyTrial):
    """One try to read a page of a list."""

    listing: Listing

    @property
    def what(self) -> str:
        """Name what is read."""
        return "the list"

    @property
    def wait(self) -> Millis:
        """Return the backoff: it grows with each failure in a row, not with each page."""
        return backoff_ms(self.call.looks + 1, self.luck)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(AnyTrial):
    """One try of an action's call, a send or a look."""

    action: Action

    @property
    def sent(self) -> bool:
        """Say whether the call was made before, as far as we know."""
        return self.call.kind is Kind.RETRY and self.call.tries > 0

    def look_again(self, at: Millis, why: str) -> Outcome:
        """Still not known; a call that was never sent is queued, one that may have arrived is unknown."""
        return Unknown(at, why) if self.sent else Retry(at, why, step=Step.LOOK, spent=False)

    def again(self, at: Millis, why: str, *, spent: bool = True) -> Outcome:
        """Send once more, unless no try is left."""
        tries = self.call.tries + spent
        if tries >= self.provider.tries:
            return Dead(f"no try is left after {tries}: {why}")
        return Retry(at, why, spent=spent)

    def policy(self, at: Millis) -> Literal["check", "resend_same_key", "resend", "person"]:
        """Say what is to be done at *at* about a send in doubt."""
        said, fresh = self.action.on_unknown, at - self.call.created_at < KEY_MS
        if said == "resend_same_key" and fresh:
            return said
        if self.action.idempotent:
            return "resend"
        if said == "resend_same_key":
            return "check" if self.action.check is not None else "person"
        return said

    def in_doubt(self, at: Millis, why: str) -> Outcome:
        """Bytes may have arrived, and what came of it is not known."""
        policy = self.policy(at)
        if policy == "person":
            return Unknown(NEVER, f"needs a person: {why}")
        left = self.call.tries + 1 < self.provider.tries and not self._full(policy, self.call.doubts + 1)
        if policy != "check" and left:
            return Retry(at, why, doubt=True)
        # Where nothing is left to send, it is still worth a look whether the last one helped.
        return Unknown(max(at, self.now + SETTLES_MS), why)

    def repeat(self, why: str) -> Outcome:
        """Send once more what may have been done before, unless the resource's budget is spent."""
        if self._full(self.policy(self.now), self.call.doubts):
            return Dead(f"{why}, and its budget is spent: {self.call.doubts} calls may have done something")
        return self.again(self.now, why, spent=False)

    def _full(self, policy: str, doubts: int) -> bool:
        # However often one key is sent, the provider does it once.
        return policy != "resend_same_key" and doubts >= self.call.room
