"""What does an answer mean, and when is the next try?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from fractions import Fraction
from math import ceil
from typing import Final

from relay.body import Unparsable, parse
from relay.call import (
    NEVER,
    Answered,
    Call,
    Dead,
    Done,
    Failed,
    Outcome,
    Refused,
    Retry,
    Signal,
    State,
    Step,
    Throttled,
    Unknown,
    Verdict,
)
from relay.errors import Unfit
from relay.event import Json, Millis, as_name
from relay.gate import LONGEST_WAIT_MS
from relay.provider import Action, Answer, Fault, Provider, Reading, Reply
from relay.template import at, plain

BASE_MS: Final = 2_000
CAP_MS: Final = 900_000
FLOOR_MS: Final = 500

LOOKS: Final = 6
"""Looks that can't tell, before a person is asked."""

REFUSAL: Final = ": the provider refuses our credentials"

SETTLES_MS: Final = 2_000
"""A look right after a call in doubt could find the state from before it: it waits at least so long."""

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


def _believed_ms(reply: Reply, now: Millis) -> Millis:
    """Milliseconds that the answer asks us to wait, up to a day: no header may stop us for ever."""
    return min(retry_after_ms(reply, now) or 0, LONGEST_WAIT_MS)


def _broke_off(reply: Reply) -> bool:
    """Say if a success lacks a part, which may be the very part that would have said otherwise."""
    return not reply.whole and 200 <= reply.status < 300


def _date_ms(text: str) -> Millis | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a time zone of many digits
        return None
    return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)


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
class Trial:
    """One try of a call, as judged: *call* as claimed, its `attempts` counting this one."""

    provider: Provider
    action: Action
    call: Call
    now: Millis  #: when the answer came
    luck: float  #: between 0 and 1

    @property
    def wait(self) -> Millis:
        """Return the backoff that this try has earned, in milliseconds."""
        return backoff_ms(self.call.attempts, self.luck)

    def again(self, at: Millis, why: str, *, spent: bool = True) -> Outcome:
        """Send once more, unless no try is left."""
        tries = self.call.tries + spent
        if tries >= self.provider.tries:
            return Dead(f"no try is left after {tries}: {why}")
        return Retry(at, why, spent=spent)

    def in_doubt(self, at: Millis, why: str) -> Outcome:
        """Bytes may have arrived, and what came of it is not known."""
        if self.action.idempotent or self.action.on_unknown == "resend":
            return self.again(at, why)
        if self.action.on_unknown == "check":
            return Unknown(max(at, self.now + SETTLES_MS), why)
        return Unknown(NEVER, f"needs a person: {why}")

    def look_again(self, at: Millis, why: str) -> Outcome:
        """Still not known; a call that was never sent is queued, one that may have arrived is unknown."""
        return Unknown(at, why) if self.call.tries else Retry(at, why, step=Step.LOOK, spent=False)


def judge(trial: Trial, answer: Answer) -> Verdict:
    """Say what the answer to a sent call means for the call and for its provider."""
    match answer:
        case Fault(why=why, ours=True):
            return Verdict(Dead(why, spent=False), None)
        case Fault(why=why, sent=False):
            return Verdict(Retry(trial.now + trial.wait, why, spent=False), Failed())
        case Fault(why=why):
            return Verdict(trial.in_doubt(trial.now + trial.wait, why), Failed())
        case Reply():
            return _judge_reply(trial, answer)


def _judge_reply(trial: Trial, reply: Reply) -> Verdict:
    signal, wait = _signal(reply, trial), trial.wait
    asked = _believed_ms(reply, trial.now)
    if asked:
        # Only ever later than asked: a call that comes early is refused again, or gets us blocked.
        wait = max(wait, asked + int(trial.luck * asked / 10))
    readings = (*trial.action.outcomes, *trial.provider.outcomes)
    if readings and _broke_off(reply):
        why = f"{reply.status}: the answer broke off"
        return Verdict(trial.in_doubt(trial.now + wait, why), signal)
    reading = read(readings, reply)
    if reading is None:
        return Verdict(*_by_status(trial, reply, wait, signal))
    why = f"{reply.status}: {reading.why}" if reading.why else f"{reply.status}"
    then = trial.now + max(wait, reading.after_ms)
    match reading.is_:
        case "done":
            return Verdict(_accepted(trial, reply, why if reading.why else f"{why}: accepted"), signal)
        case "retry":
            return Verdict(trial.again(then, why), _waits(trial, reading, signal))
        case "unknown":
            return Verdict(trial.in_doubt(then, why), signal)
        case "refused":
            return Verdict(Retry(trial.now, why, spent=False), Refused(why))
        case _:
            return Verdict(Dead(why), signal)


def _waits(trial: Trial, reading: Reading, signal: Signal) -> Signal:
    """Make a reading's `after` a floor for the whole provider, beside its own Retry-After."""
    if not reading.after_ms:
        return signal
    until = signal.until if isinstance(signal, Throttled) else 0
    return Throttled(max(until, trial.now + reading.after_ms))


def _accepted(trial: Trial, reply: Reply, why: str) -> Done:
    """Say that it is done, and under which id it goes on if the answer tells."""
    if not trial.action.keep:
        return Done(why)
    try:
        alias = as_name(plain(at(facts(reply), f"body.{trial.action.keep}"), "the id"))
    except Unfit:
        return Done(why)
    moved = alias not in trial.call.values.values()
    return Done(f"{why}, goes on as {alias}" if moved else why, alias)


def _by_status(trial: Trial, reply: Reply, wait: Millis, signal: Signal) -> tuple[Outcome, Signal]:
    """Judge by the common table, where the provider's file says nothing."""
    said, then = str(reply.status), trial.now + wait
    if reply.status in {429, 503} and (retry_after_ms(reply, trial.now) or 0) > LONGEST_WAIT_MS:
        return Dead(f"{said}: asks us to wait more than a day"), signal
    match reply.status:
        case status if 200 <= status < 300:
            return _accepted(trial, reply, f"{said}: accepted"), signal
        case 401 | 403:
            return Retry(trial.now, said + REFUSAL, spent=False), Refused(said + REFUSAL)
        case 429:
            # Waiting for a limit is not a try: the provider has not looked at the call.
            return Retry(then, f"{said}: too many requests", spent=False), signal
        case 408 | 425 | 503:
            return trial.again(then, said), signal
        case status if status >= 500:
            return trial.in_doubt(then, said), signal
        case status if 300 <= status < 400:
            return Dead(f"{said}: redirects are not followed"), signal
        case _:
            return Dead(said), signal


def judge_look(trial: Trial, answer: Answer) -> Verdict:
    """Say what a look at the resource means for its call: send it (again), or is nothing left to do?"""
    if isinstance(answer, Fault):
        why = f"the look failed: {answer.why}"
        return Verdict(trial.look_again(trial.now + trial.wait, why), None if answer.ours else Failed())
    signal = _signal(answer, trial)
    assert trial.action.check is not None
    reading = None if _broke_off(answer) else read(trial.action.check.states, answer)
    if reading is None:
        return _judge_blurred(trial, answer, signal)
    sent = trial.call.tries > 0
    match reading.is_:
        case "failed":
            why = reading.why or "it has still failed"
            return Verdict(trial.again(trial.now, why, spent=False), signal)
        case "running":
            why = "it is running again" if sent else "it is running already: not called"
            return Verdict(Done(reading.why or why), signal)
        case "recovered":
            why = "it has recovered" if sent else "it recovered by itself: not called"
            return Verdict(Done(reading.why or why), signal)
        case _:
            return Verdict(Dead(reading.why or "its state forbids a retry"), signal)


def _judge_blurred(trial: Trial, reply: Reply, signal: Signal) -> Verdict:
    """Judge a look whose answer fits no known state: did the provider turn it away?"""
    then = trial.now + trial.wait
    # DocFlow refuses a key and sets its limits with HTTP 200, for looks as for calls.
    reading = None if _broke_off(reply) else read(trial.provider.outcomes, reply)
    if reading is not None and reading.is_ in {"refused", "retry"}:
        why = f"{reply.status}: {reading.why}"
        if reading.is_ == "refused":
            return Verdict(trial.look_again(trial.now, why), Refused(why))
        return Verdict(
            trial.look_again(max(then, trial.now + reading.after_ms), why), _waits(trial, reading, signal)
        )
    match reply.status:
        case 401 | 403:
            why = f"{reply.status}{REFUSAL}"
            return Verdict(trial.look_again(trial.now, why), Refused(why))
        case status if status in {408, 425, 429} or status >= 500:
            then = max(then, trial.now + _believed_ms(reply, trial.now))
            return Verdict(trial.look_again(then, f"the look was answered {status}"), signal)
        case status:
            why = f"{status}: {trial.provider.name}'s answer does not tell whether it has still failed"
            if trial.call.looks + 1 < LOOKS:
                return Verdict(trial.look_again(then, why), signal, blurred=True)
            return Verdict(
                Unknown(NEVER, f"needs a person: {why}") if trial.call.tries else Dead(why), signal
            )


def blind(trial: Trial) -> Verdict:
    """Say what becomes of a call in doubt whose action has no check."""
    call = trial.call
    if trial.action.on_unknown == "resend" or trial.action.idempotent:
        return Verdict(trial.again(trial.now, f"sent again without a look: {call.why}", spent=False), None)
    return Verdict(Unknown(NEVER, f"needs a person: {call.why}"), None)


def after(call: Call, verdict: Verdict, now: Millis) -> Call:
    """Return *call* after a try that meant *verdict*."""
    seen = 1 if call.step is Step.SEND else 0
    call = replace(call, looks=call.looks + verdict.blurred, lease=None)
    match verdict.outcome:
        case Done(why, alias):
            tries = call.tries + seen
            return replace(call, state=State.DONE, why=why, tries=tries, alias=alias, settled_at=now)
        case Dead(why, spent):
            tries = call.tries + (seen if spent else 0)
            return replace(call, state=State.DEAD, why=why, tries=tries, settled_at=now)
        case Retry(at, why, step, spent):
            tries = call.tries + (seen if spent else 0)
            return replace(call, state=State.QUEUED, due_at=at, why=why, step=step, tries=tries)
        case Unknown(at, why):
            tries = call.tries + seen
            return replace(call, state=State.UNKNOWN, due_at=at, why=why, step=Step.LOOK, tries=tries)


def given_back(trial: Trial) -> Verdict:
    """Say what becomes of a call that was out when relay had to stop."""
    why = "relay stopped before the answer came"
    if trial.call.step is Step.LOOK:
        return Verdict(trial.look_again(trial.now, why), None)
    return Verdict(trial.in_doubt(trial.now, why), None)


def _signal(reply: Reply, trial: Trial) -> Signal:
    """Say what the status alone tells of the provider's health."""
    asked = retry_after_ms(reply, trial.now)
    match reply.status:
        case 429:
            return Throttled(trial.now + (trial.wait if asked is None else asked))
        case 503 if asked is not None:
            return Throttled(trial.now + asked)
        case status if status >= 500:
            return Failed()
        case _:
            return Answered()
