"""What does a look mean: at a resource, before or after its retry, and at a page of a list?"""

from dataclasses import replace
from typing import Final

import orjson

from relay.call import (
    NEVER,
    Dead,
    Done,
    Failed,
    Kind,
    Refused,
    Seen,
    Unknown,
    Verdict,
)
from relay.errors import Unfit
from relay.event import Millis, as_name
from relay.provider import Answer, Fault, Reading, Reply
from relay.template import at
from relay.trial import AnyTrial, PageTrial, Trial, believed_ms, broke_off, facts, read

LOOKS: Final = 6
"""Looks that can't tell, before a person is asked."""

STILL_FAILED: Final = "it has still failed"
"""Why a call is sent after a look: nothing has happened meanwhile that a look could show."""

REFUSAL: Final = ": the provider refuses our credentials"


def judge_look(trial: Trial, answer: Answer) -> Verdict:
    """Say what a look at the resource means for its retry: send it (again), or is nothing left to do?"""
    reading = _sight(trial, answer)
    if isinstance(reading, Verdict):
        return reading
    assert isinstance(answer, Reply)
    signal, sent = trial.signal(answer), trial.sent
    if reading is None:
        why = _no_state(trial, answer)
        if trial.call.looks + 1 < LOOKS:
            return Verdict(trial.look_again(trial.now + trial.wait, why), signal, blurred=True)
        return Verdict(Unknown(NEVER, f"needs a person: {why}"), signal, blurred=True)
    match reading.is_:
        case "failed":
            mark = _mark(trial, answer)
            if sent and mark is not None and trial.call.mark not in {"", mark}:
                why = reading.why or "it ran and failed again"
                return Verdict(Done(why, seen=Seen.FAILED), signal, mark=mark)
            return Verdict(trial.repeat(reading.why or STILL_FAILED), signal, mark=mark)
        case "running":
            why = "it is running again" if sent else "it is running already: not called"
            return Verdict(Done(reading.why or why, seen=Seen.RUNNING), signal)
        case "recovered":
            why = "it has recovered" if sent else "it recovered by itself: not called"
            return Verdict(Done(reading.why or why, seen=Seen.RECOVERED), signal)
        case _:
            return Verdict(Dead(reading.why or "its state forbids a retry"), signal)


def judge_check(trial: Trial, answer: Answer) -> Verdict:
    """
    Say what a look means after a retry that was taken: did it help?

    It is asked until there is an answer; the case's deadline, not this, turns to a person.
    """
    reading = _sight(trial, answer)
    if isinstance(reading, Verdict):
        return reading
    assert isinstance(answer, Reply)
    signal, then = trial.signal(answer), trial.now + _next_wait(trial)
    if reading is None:
        return Verdict(trial.look_again(then, _no_state(trial, answer)), signal, blurred=True)
    match reading.is_:
        case "failed":
            mark = _mark(trial, answer)
            if mark is not None and mark == trial.call.mark:
                return Verdict(trial.look_again(then, "it has not begun to run again"), signal)
            return Verdict(Done(reading.why or "it failed again", seen=Seen.FAILED), signal, mark=mark)
        case "running":
            return Verdict(trial.look_again(then, reading.why or "it is running"), signal)
        case "recovered":
            return Verdict(Done(reading.why or "it has recovered", seen=Seen.RECOVERED), signal)
        case _:
            return Verdict(Dead(reading.why or "its state forbids a retry"), signal)


def judge_page(trial: PageTrial, answer: Answer) -> Verdict:
    """Say whether a page of a list was read. A watch never dies: it asks again, ever more slowly."""
    away = _turned_away(trial, answer)
    if away is not None:
        return replace(away, blurred=True)
    assert isinstance(answer, Reply)
    if broke_off(answer):
        return unread(trial, answer, f"{answer.status}: the page broke off, or is too long to be read")
    # DocFlow says with HTTP 200 that it refuses.
    reading = read(trial.provider.outcomes, answer)
    if 200 <= answer.status < 300 and (reading is None or reading.is_ == "done"):
        return Verdict(Done(f"{answer.status}: read"), trial.signal(answer))
    said = reading.why if reading is not None else ""
    said = said or f"{trial.provider.name}'s answer is no page of {trial.listing.name}"
    return unread(trial, answer, f"{answer.status}: {said}")


def unread(trial: PageTrial, reply: Reply, why: str) -> Verdict:
    """Say what becomes of a page whose answer holds no list."""
    return Verdict(trial.look_again(trial.now + trial.wait, why), trial.signal(reply), blurred=True)


def blind(trial: Trial) -> Verdict:
    """Say what becomes of a call that wants a look where its action has no check."""
    call = trial.call
    if call.kind is Kind.CHECK:
        why = f"{trial.provider.name} has no check for {call.action} any more"
        return Verdict(trial.look_again(trial.now + trial.wait, why), None)
    if trial.policy(trial.now) in {"resend", "resend_same_key"}:
        return Verdict(trial.repeat(f"sent again without a look: {call.why}"), None)
    return Verdict(Unknown(NEVER, f"needs a person: {call.why}"), None)


def _sight(trial: Trial, answer: Answer) -> Reading | Verdict | None:
    """Return the state that a look shows; a verdict if the provider did not let us look; else None."""
    assert trial.action.check is not None
    if isinstance(answer, Reply) and not broke_off(answer):
        reading = read(trial.action.check.states, answer)
        if reading is not None:
            return reading
    return _turned_away(trial, answer)


def _turned_away(trial: AnyTrial, answer: Answer) -> Verdict | None:
    """Judge a look that did not come through, or that the provider refused; None: it was answered."""
    then = trial.now + trial.wait
    if isinstance(answer, Fault):
        why = f"{trial.what} failed: {answer.why}"
        return Verdict(trial.look_again(then, why), None if answer.ours else Failed())
    signal, status = trial.signal(answer), answer.status
    # DocFlow refuses a key and sets its limits with HTTP 200, for looks as for calls.
    reading = None if broke_off(answer) else read(trial.provider.outcomes, answer)
    then = max(then, trial.now + believed_ms(answer, trial.now))
    if reading is not None and reading.is_ == "refused":
        why = f"{status}: {reading.why}"
        return Verdict(trial.look_again(trial.now, why), Refused(why))
    if reading is not None and reading.is_ == "retry":
        later = max(then, trial.now + reading.after_ms)
        return Verdict(trial.look_again(later, f"{status}: {reading.why}"), trial.slowed(reading, signal))
    if status in {401, 403}:
        why = f"{status}{REFUSAL}"
        return Verdict(trial.look_again(trial.now, why), Refused(why))
    if status in {408, 425, 429} or status >= 500:
        return Verdict(trial.look_again(then, f"{trial.what} was answered {status}"), signal)
    return None


def _no_state(trial: Trial, reply: Reply) -> str:
    return f"{reply.status}: {trial.provider.name}'s answer does not tell whether it has still failed"


def _next_wait(trial: Trial) -> Millis:
    """Return how long to wait for the next check: each its own time, and the last one stays."""
    assert trial.action.check is not None
    waits = trial.action.check.wait_ms
    return waits[min(trial.call.attempts, len(waits) - 1)]


def _mark(trial: Trial, reply: Reply) -> str | None:
    """Return what the answer shows where the check says that each run changes something; None: nothing."""
    assert trial.action.check is not None
    if not trial.action.check.mark:
        return None
    try:
        found = at(facts(reply), f"body.{trial.action.check.mark}")
    except Unfit:
        return None
    if found is None or found == "":
        return None
    return as_name(found if isinstance(found, str) else orjson.dumps(found).decode())
