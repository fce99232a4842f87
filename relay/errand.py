"""What is one request made for, and what does its answer mean for each of its calls?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.call import Call, Claim, Dead, Done, Kind, Outcome, Retry, State, Step, Unknown, Verdict
from relay.errors import Unfit
from relay.event import Millis
from relay.hours import hours
from relay.judge import apart, judged
from relay.look import STILL_FAILED, blind
from relay.provider import Answer, Provider, Request
from relay.render import batched, request
from relay.trial import AnyTrial, PageTrial, Trial

_WORDS: Final[Mapping[type[Outcome], str]] = {
    Done: "done",
    Retry: "retry",
    Unknown: "unknown",
    Dead: "dead",
}


def word(outcome: Outcome) -> str:
    """Name an outcome for the record: what may have been done is unknown there, even if it is sent again."""
    if isinstance(outcome, Retry) and outcome.doubt:
        return _WORDS[Unknown]
    return _WORDS[type(outcome)]


def together(claims: Iterable[Claim], now: Millis) -> list[tuple[Claim, ...]]:
    """Return the claims of each request: those of one batch share one, up to its size; others go alone."""
    shared: dict[tuple[str, ...], list[Claim]] = {}
    for claim in claims:
        call = claim.call
        alone = not call.batch or not _sends(call) or opens(call, now) > now
        key = (call.id,) if alone else (call.provider, call.action, call.batch)
        shared.setdefault(key, []).append(claim)
    requests = []
    for some in shared.values():
        size = _batch(some[0].call)[1] if len(some) > 1 else 1
        requests += [tuple(some[at : at + size]) for at in range(0, len(some), size)]
    return requests


def _batch(call: Call) -> tuple[str, int]:
    """Take ``field:max`` apart."""
    field, _, most = call.batch.rpartition(":")
    return field, int(most)


def _sends(call: Call) -> bool:
    """Say whether the call's next try asks the provider to do something. Looks are free at any hour."""
    return call.kind is Kind.RETRY and call.step is Step.SEND


def opens(call: Call, at: Millis) -> Millis:
    """Return when a call may go out, from *at* on: *at* itself unless it has hours and they are over."""
    return hours(call.only).opens(at) if call.only and _sends(call) else at


def timed(call: Call, batch_ms: Millis) -> Call:
    """Return a call that waits until the next moment of its batch, if it has one, and until its hours."""
    if call.state is not State.QUEUED or not _sends(call):
        return call
    due_at = (call.due_at // batch_ms + 1) * batch_ms if call.batch and batch_ms else call.due_at
    return replace(call, due_at=opens(call, due_at))


def trial_of(provider: Provider, call: Call, now: Millis, luck: float) -> Trial | PageTrial | None:
    """Return a try of *call*, to be judged; None: the provider's file has no longer what it asks for."""
    if call.kind is Kind.PAGE:
        listing = provider.listings.get(call.action)
        if listing is None:
            return None
        return PageTrial(provider=provider, listing=listing, call=call, now=now, luck=luck)
    action = provider.actions.get(call.action)
    if action is None:
        return None
    return Trial(provider=provider, action=action, call=call, now=now, luck=luck)


def gone(provider: Provider, call: Call, now: Millis, luck: float) -> Verdict:
    """Say what becomes of a call for something that the provider's file has no longer."""
    what = "watch" if call.kind is Kind.PAGE else "action"
    why = f"{provider.name} has no {what} {call.action} any more"
    return _hopeless(AnyTrial(provider=provider, call=call, now=now, luck=luck), why)


def _hopeless(trial: AnyTrial, why: str) -> Verdict:
    """End a call that can't be made; but what was taken may still recover: its check waits for that."""
    if trial.call.kind is Kind.CHECK:
        return Verdict(trial.look_again(trial.now + trial.wait, why), None)
    return Verdict(Dead(why, spent=False), None)


def asked(trial: Trial, calls: Sequence[Call]) -> Request | Verdict:
    """Return the one request for *calls*, the trial's own first; a verdict on each where none is made."""
    action, call, now = trial.action, calls[0], trial.now
    if len(calls) > 1:
        values, field = [one.values for one in calls], _batch(call)[0]
        try:
            return batched(trial.provider, action.shape, action, values, field, now)
        except Unfit as error:
            why = f"not sent as one of a batch: {error}"
            return Verdict(Retry(now, why, spent=False, alone=True), None)
    if (opening := opens(call, now)) > now:
        return Verdict(Retry(opening, f"outside {call.only}", spent=False), None)
    shape = action.shape
    forgotten = action.on_unknown == "resend_same_key" and call.step is Step.SEND and call.doubts > 0
    forgotten = forgotten and call.why != STILL_FAILED  # a look has just said so
    if forgotten and trial.policy(now) in {"check", "person"}:
        # It waited so long that the provider may have forgotten the key, and would take it for a new one.
        return Verdict(Retry(now, call.why, step=Step.LOOK, spent=False), None)
    if call.step is Step.LOOK:
        if action.check is None:
            return blind(trial)
        shape = action.check.shape
    try:
        return request(trial.provider, shape, action, call.values, now, call.id)
    except Unfit as error:
        return _hopeless(trial, f"not sent: {error}")


def meant(trial: Trial, answer: Answer, *, several: bool) -> Verdict:
    """Say what the answer means for one of the calls; what is said to *several* says nothing of each."""
    verdict = judged(trial, answer)
    if not several:
        return verdict
    if isinstance(verdict.outcome, Done):
        # One new id for all of them would be none of theirs.
        return replace(verdict, outcome=replace(verdict.outcome, alias=None))
    return apart(trial, verdict)
