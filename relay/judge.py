"""What does an answer mean for its call, and what becomes of the call?"""

from dataclasses import replace

from relay.call import (
    Call,
    Dead,
    Done,
    Failed,
    Kind,
    Outcome,
    Refused,
    Retry,
    Signal,
    State,
    Step,
    Unknown,
    Verdict,
)
from relay.errors import Unfit
from relay.event import Millis, as_name
from relay.gate import LONGEST_WAIT_MS
from relay.look import REFUSAL, judge_check, judge_look, judge_page
from relay.provider import Answer, Fault, Reply
from relay.template import at, plain
from relay.trial import SETTLES_MS, PageTrial, Trial, believed_ms, broke_off, facts, read, retry_after_ms


def judged(trial: Trial | PageTrial, answer: Answer) -> Verdict:
    """Say what an answer means, whatever was asked."""
    match trial:
        case PageTrial():
            return judge_page(trial, answer)
        case Trial() if trial.call.kind is Kind.CHECK:
            return judge_check(trial, answer)
        case Trial() if trial.call.step is Step.LOOK:
            return judge_look(trial, answer)
        case Trial():
            return judge(trial, answer)


def judge(trial: Trial, answer: Answer) -> Verdict:
    """Say what the answer to a sent call means for the call and for its provider."""
    verdict = _judge(trial, answer)
    outcome = verdict.outcome
    doubtful = trial.action.on_unknown == "resend_same_key" and trial.call.doubts > 0
    if doubtful and isinstance(outcome, Retry) and trial.policy(outcome.at) in {"check", "person"}:
        # By then the provider may have forgotten the key, and would take the call for a new one.
        return replace(verdict, outcome=replace(outcome, step=Step.LOOK))
    return verdict


def _judge(trial: Trial, answer: Answer) -> Verdict:
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
    signal, wait = trial.signal(reply), trial.wait
    asked = believed_ms(reply, trial.now)
    if asked:
        # Only ever later than asked: a call that comes early is refused again, or gets us blocked.
        wait = max(wait, asked + int(trial.luck * asked / 10))
    readings = (*trial.action.outcomes, *trial.provider.outcomes)
    if readings and broke_off(reply):
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
            return Verdict(trial.again(then, why), trial.slowed(reading, signal))
        case "unknown":
            return Verdict(trial.in_doubt(then, why), signal)
        case "refused":
            return Verdict(Retry(trial.now, why, spent=False), Refused(why))
        case _:
            return Verdict(Dead(why), signal)


def _accepted(trial: Trial, reply: Reply, why: str) -> Done:
    """Say that it is done, and under which id it goes on if the answer tells."""
    for name, path in trial.action.keep.items():
        try:
            alias = as_name(plain(at(facts(reply), f"body.{path}"), "the id"))
        except Unfit:
            continue
        moved = alias != str(trial.call.values.get(name))
        return Done(f"{why}, goes on as {alias}" if moved else why, alias)
    return Done(why)


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


def apart(trial: Trial, verdict: Verdict) -> Verdict:
    """
    Say what the refusal of a batch of several means for each of its calls: it goes alone from here on.

    One "no" for many may hide a "yes" for some: where there is a check, each is looked at first.
    """
    if not isinstance(verdict.outcome, Dead):
        return verdict
    why, looks = f"{verdict.outcome.why}: was one of a batch, goes alone now", trial.action.check is not None
    then, step = (trial.now + SETTLES_MS, Step.LOOK) if looks else (trial.now, Step.SEND)
    return replace(verdict, outcome=Retry(then, why, step=step, spent=False, alone=True))


def after(call: Call, verdict: Verdict, now: Millis) -> Call:
    """Return *call* after a try that meant *verdict*."""
    outcome = verdict.outcome
    sent = 1 if call.step is Step.SEND else 0
    doubt = isinstance(outcome, Unknown) or (isinstance(outcome, Retry) and outcome.doubt)
    call = replace(
        call,
        doubts=call.doubts + (sent if doubt else 0),
        looks=call.looks + verdict.blurred,
        mark=call.mark if verdict.mark is None else verdict.mark,
        lease=None,
    )
    match outcome:
        case Done(why, alias, seen):
            # The pages that failed in a row are counted: one that was read ends the row.
            looks = 0 if call.kind is Kind.PAGE else call.looks
            tries = call.tries + sent
            done = replace(call, state=State.DONE, why=why, tries=tries, looks=looks, alias=alias, seen=seen)
            return replace(done, settled_at=now)
        case Dead(why, spent):
            tries = call.tries + (sent if spent else 0)
            return replace(call, state=State.DEAD, why=why, tries=tries, settled_at=now)
        case Retry(at, why, step, spent):
            tries, batch = call.tries + (sent if spent else 0), "" if outcome.alone else call.batch
            return replace(call, state=State.QUEUED, due_at=at, why=why, step=step, tries=tries, batch=batch)
        case Unknown(at, why):
            tries = call.tries + sent
            return replace(call, state=State.UNKNOWN, due_at=at, why=why, step=Step.LOOK, tries=tries)


def given_back(trial: Trial | PageTrial) -> Verdict:
    """Say what becomes of a call that was out when relay had to stop."""
    why = "relay stopped before the answer came"
    if isinstance(trial, PageTrial) or trial.call.step is Step.LOOK:
        return Verdict(trial.look_again(trial.now, why), None)
    return Verdict(trial.in_doubt(trial.now, why), None)
