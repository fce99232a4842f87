"""What becomes of a case, when something happens to it?  Values in, a `Move` out; the store keeps it."""

import re
from dataclasses import replace
from typing import Final

from relay.call import NEVER, Call, Kind, Seen, State, Step
from relay.case import Case, Failure, Moment, Move, Policy, Stand, Storming
from relay.event import Millis, new_id
from relay.hours import hours
from relay.trial import SETTLES_MS

ON_ITS_WAY: Final = "a retry is on its way"
WATCHED: Final = "the provider took the retry: waits for a sign that it helped"


# -- an event tells --


def failed(
    case: Case | None, failure: Failure, event: str, seen_at: Millis, now: Millis, call: Call | None = None
) -> Move:
    """
    Return what a failure event makes of the last case of its resource: a new case, or a part of this one.

    *seen_at* is when the resource was seen to fail: what a list showed before the last retry is no news.
    *call* is the case's own; a worker may have it after the case has ended.
    """
    if case is None or _is_over(case, failure, seen_at, now):
        return _opened(case, failure, event, now, call)
    if failure.person and not case.ended:
        return _asked(replace(case, event=event), failure.person, event)
    if case.state is Stand.WATCHING:
        if case.accepted_at is not None and seen_at <= case.accepted_at:
            return _joined(case, event, "stale", "the failure was seen before the last retry was taken")
        if call is not None and call.kind is Kind.CHECK and call.settled_at is None:
            return _look_now(replace(case, event=event), call, event, now)
        return _again(replace(case, event=event), now, "it failed again", ref=event, drop="it failed again")
    if case.ended and case.state is not Stand.GAVE_UP:
        return _joined(case, event, "stale", f"the failure was seen before the case was {case.state}")
    return _joined(replace(case, event=event), event, "joined", f"it is known: {case.why}")


def _asked(case: Case, why: str, event: str) -> Move:
    """Leave a case to a person: a rule knows that no retry helps before somebody has looked."""
    if case.state is Stand.NEEDS_PERSON:
        return _joined(case, event, "joined", why)
    asking = replace(case, state=Stand.NEEDS_PERSON, why=why, deadline_at=None)
    return moved(case, asking, "needs_person", why, event, drop=why)


def _look_now(case: Case, check: Call, event: str, now: Millis) -> Move:
    """Ask at once what an event says of a case that is watched: it may be old news, or come twice."""
    settles_at = SETTLES_MS + (case.accepted_at or now)
    soon = replace(check, due_at=min(check.due_at, max(now, settles_at)))
    moment = Moment(kind="joined", what="an event says that it failed again: looks", ref=event)
    return Move(before=case, case=case, moment=moment, change=soon)


def _is_over(case: Case, failure: Failure, seen_at: Millis, now: Millis) -> bool:
    """
    Say whether a failure of the resource is a new case.

    One that was given up takes in further failures for as long as its budget's window, and nobody is called.
    """
    if case.ended_at is None:
        return False
    if case.state is Stand.GAVE_UP and (failure.flaw or not case.flaw):  # what could not be sent may now
        return now >= case.ended_at + case.policy.within_ms
    return seen_at > case.ended_at


def _joined(case: Case, event: str, kind: str, what: str) -> Move:
    return Move(before=case, case=case, moment=Moment(kind=kind, what=what, ref=event))


def _opened(before: Case | None, failure: Failure, event: str, now: Millis, out: Call | None = None) -> Move:
    policy = failure.policy
    fresh = Case(
        id=new_id("case", now),
        key=failure.key,
        provider=failure.provider,
        rule=failure.rule,
        action=failure.action,
        values=failure.values,
        policy=policy,
        state=Stand.OPEN,
        why="it failed",
        event=event,
        flaw=failure.flaw,
        spent=before.spent if before else (),
        aliases=tuple(one for one in (before.key, *before.aliases) if one != failure.key) if before else (),
        opened_at=now,
    )
    not_before = 0
    if out is not None and out.state is State.RUNNING:
        # Nobody can say yet what it does: it counts, and the next goes when it can't be out any more.
        fresh, not_before = _charged(fresh, out.doubts + (out.step is Step.SEND), now), out.due_at
    if failure.person:
        asking = replace(fresh, state=Stand.NEEDS_PERSON, why=failure.person)
        return replace(moved(fresh, asking, "opened", failure.person, event), before=None)
    if failure.flaw:
        call = replace(call_for(fresh, now, Step.SEND), state=State.DEAD, why=failure.flaw, settled_at=now)
        move = _gave_up(fresh, failure.flaw, now, event)
        return replace(move, before=None, queue=call, case=replace(move.case, call=call.id))
    # A resource that was retried before is looked at first, where that can be: the news may be old.
    step = Step.LOOK if policy.looks and _in_window(fresh, now) else failure.step
    move = _retry(fresh, now, "it failed", step=step, kind="opened", ref=event, not_before=not_before)
    return replace(move, before=None)


def recovered(case: Case, why: str, ref: str | None, now: Millis) -> Move:
    """Return what a sign that the resource is well makes of its case; an end stays as it is."""
    if case.ended:
        return Move(before=case, case=case, moment=Moment(kind="well", what=why, ref=ref))
    return ended(case, Stand.RECOVERED, why, now, ref=ref)


def merged(case: Case, into: str, now: Millis) -> Move:
    """End a case that turned out to be another one under a new id."""
    return ended(case, Stand.CLOSED, f"it goes on as a part of {into}", now, ref=into)


# -- a call has ended, or stands still --


def settled(case: Case, call: Call, now: Millis) -> Move | None:
    """Return what the case's own call makes of it, as it stands after a try; None: nothing yet."""
    if case.ended:
        late = counted(case, call, now)
        what = f"its call ended after the case: {call.why}"
        moment = Moment(kind="late", what=what, ref=call.id)
        late = _learnt(late, call) if call.state is State.DONE else late
        return Move(before=case, case=late, moment=moment) if late != case else None
    if call.state is State.UNKNOWN and call.due_at >= NEVER and case.state is not Stand.NEEDS_PERSON:
        asking = replace(case, state=Stand.NEEDS_PERSON, why=call.why, deadline_at=None)
        return moved(case, asking, "needs_person", call.why, call.id)
    if call.settled_at is None or call.state is State.CANCELLED:
        return None
    case = counted(case, call, now)
    if call.state is State.DEAD:
        return _gave_up(case, call.why, now, call.id)
    match call.seen:
        case Seen.RECOVERED:
            return ended(case, Stand.RECOVERED, call.why, now, ref=call.id)
        case Seen.FAILED:
            return _again(case, now, call.why, ref=call.id)
        case Seen.RUNNING | None:
            return _accepted(case, call, now)


def counted(case: Case, call: Call, now: Millis) -> Case:
    """Count what the provider did, or may have done, for a retry that is not tried again."""
    if call.kind is not Kind.RETRY or call.settled_at is None:
        return case
    return _charged(
        case, call.doubts + (call.tries > 0 and call.seen is None and call.state is State.DONE), now
    )


def _charged(case: Case, times: int, now: Millis) -> Case:
    if not times:
        return case
    return replace(case, retries=case.retries + times, spent=(*_in_window(case, now), *[now] * times))


def _in_window(case: Case, now: Millis) -> tuple[Millis, ...]:
    return tuple(at for at in case.spent if at > now - case.policy.within_ms)


def _accepted(case: Case, call: Call, now: Millis) -> Move:
    """Watch: after a retry that was taken, or one of somebody else's that was found running."""
    case, policy = _learnt(case, call), case.policy
    why = WATCHED if call.seen is None else call.why
    watching = replace(
        case, state=Stand.WATCHING, why=why, accepted_at=now, deadline_at=now + policy.recover_ms
    )
    check = None
    if policy.looks:
        check = replace(
            call_for(watching, now, Step.LOOK),
            kind=Kind.CHECK,
            due_at=now + policy.check_ms,
            why="did it help?",
        )
    return moved(case, watching, "accepted", call.why, call.id, queue=check)


def _learnt(case: Case, call: Call) -> Case:
    """Note the new id under which the provider goes on: for the next calls, and for events to come."""
    name, new = case.policy.keep, call.alias
    old = case.values.get(name)
    if not name or new is None or old is None or str(old) == new:
        return case
    # A name holds the old id somewhere, as a word of its own; if none does, they stand above ids, and stay.
    word = re.compile(rf"(?<![0-9A-Za-z_]){re.escape(str(old))}(?![0-9A-Za-z_])")
    names = (case.key, *case.aliases)
    keys = [word.sub(lambda _: new, known) for known in reversed(names) if word.search(known)]
    aliases = (*case.aliases, *[key for key in keys[:1] if key not in names])
    return replace(case, values={**case.values, name: new}, aliases=aliases)


def _again(case: Case, now: Millis, why: str, *, ref: str | None = None, drop: str = "") -> Move:
    """Make the next retry on the case's clock, for it failed again; or none, where none is left."""
    step = Step.LOOK if case.policy.looks else Step.SEND
    return _retry(case, now, why, step=step, kind="failed_again", ref=ref, drop=drop)


def _retry(
    case: Case,
    now: Millis,
    why: str,
    *,
    step: Step,
    kind: str,
    ref: str | None,
    drop: str = "",
    not_before: Millis = 0,
) -> Move:
    """Queue the next retry within the budget, as late as the case's clock, its hours and people want it."""
    policy, spent = case.policy, len(_in_window(case, now))
    if spent >= policy.retries:
        return _gave_up(case, f"{why}, and its budget is spent: {said(policy)}", now, ref)
    wait = policy.wait_ms[min(spent, len(policy.wait_ms) - 1)]
    at = _due(policy, max(now + wait, not_before))
    call = replace(call_for(case, now, step), due_at=at, room=policy.retries - spent, why=why)
    number = f"retry {spent + 1} of {policy.retries}"
    if policy.approve:
        call = replace(call, state=State.HELD, due_at=NEVER)
        waits = replace(case, why=f"{why}: {number} waits for a yes", deadline_at=now + policy.approve_ms)
    elif call.due_at > now + policy.batch_ms:
        for_ = (
            f"its hours, {policy.only}" if at > max(now + wait, not_before) + policy.batch_ms else "its time"
        )
        waits = replace(case, why=f"{why}: {number} waits for {for_}", deadline_at=None)
    else:
        waits = replace(case, state=Stand.RETRYING, why=ON_ITS_WAY, deadline_at=None)
    if call.state is State.HELD or call.due_at > now + policy.batch_ms:
        waits = replace(waits, state=Stand.OPEN)
    return moved(case, waits, kind, f"{why}: {number}", ref, queue=call, drop=drop)


def said(policy: Policy) -> str:
    """Say a budget: ``3 retries within 24 h``."""
    times = f"{policy.retries} {'retry' if policy.retries == 1 else 'retries'}"
    return f"{times} within {policy.within_ms / 3_600_000:g} h"


def _due(policy: Policy, at: Millis) -> Millis:
    if policy.batch_ms:
        at = (at // policy.batch_ms + 1) * policy.batch_ms  # all of one moment go together
    return opens(policy, at)


def opens(policy: Policy, at: Millis) -> Millis:
    """Return when a call may go that may not before *at*: at once, or when its hours open."""
    return hours(policy.only).opens(at) if policy.only else at


def call_for(case: Case, now: Millis, step: Step) -> Call:
    """Return a call for a case as it stands, due now."""
    return Call(
        id=new_id("call", now),
        event=case.event,
        case=case.id,
        key=case.key,
        rule=case.rule,
        provider=case.provider,
        action=case.action,
        values=case.values,
        step=step,
        batch=case.policy.batch,
        only=case.policy.only,
        priority=case.policy.priority,
        due_at=now,
        created_at=now,
    )


def _gave_up(case: Case, why: str, now: Millis, ref: str | None) -> Move:
    return ended(case, Stand.GAVE_UP, why, now, ref=ref)


def ended(
    case: Case, state: Stand, why: str, now: Millis, *, ref: str | None = None, by: str | None = None
) -> Move:
    """End a case; a call that nobody has begun is withdrawn."""
    end = replace(case, state=state, why=why, ended_at=now, deadline_at=None)
    return moved(case, end, state.value, why, ref, by=by, drop=f"the case is {state.value}: {why}")


def moved(
    before: Case,
    case: Case,
    kind: str,
    what: str,
    ref: str | None,
    *,
    by: str | None = None,
    queue: Call | None = None,
    change: Call | None = None,
    drop: str = "",
) -> Move:
    """Return the move from *before* to *case*, and the moment that tells of it."""
    if queue is not None:
        case = replace(case, call=queue.id)
    moment = Moment(kind=kind, what=what, ref=ref, by=by)
    return Move(before=before, case=case, moment=moment, queue=queue, change=change, drop=drop)


# -- time is up --


def overdue(case: Case, call: Call | None, now: Millis) -> Move:
    """Return what a case's deadline makes of it: nobody said whether it recovered, or nobody said yes."""
    if case.state is Stand.WATCHING:
        why = "nothing says whether it recovered, and the time for it is over"
        asking = replace(case, state=Stand.NEEDS_PERSON, why=why, deadline_at=None)
        return moved(case, asking, "needs_person", why, None, drop=why)
    if case.state is Stand.OPEN and call is not None and call.state is State.HELD:
        match case.policy.approve_then:
            case "approve":
                return released(case, call, now, "nobody said no in time", None)
            case "reject":
                return ended(case, Stand.CLOSED, "nobody said yes in time", now)
            case "ask":
                why = "nobody said yes or no in time"
                asking = replace(case, state=Stand.NEEDS_PERSON, why=why, deadline_at=None)
                return moved(case, asking, "needs_person", why, None)
    return moved(case, replace(case, deadline_at=None), "snoozed", "the snooze is over", None)


def released(case: Case, call: Call, now: Millis, why: str, by: str | None) -> Move:
    """Let a call go that was held, or that waits for anything else but its worker."""
    person = by is not None
    state = State.QUEUED if call.state in {State.HELD, State.UNKNOWN} else call.state
    at = now if person else _due(case.policy, now)
    freed = replace(
        call,
        state=state,
        step=Step.SEND if call.state is State.UNKNOWN else call.step,
        due_at=at,
        # Who says "now" means now, and once more than the budget has.
        only="" if person else call.only,
        batch="" if person else call.batch,
        room=max(call.room, call.doubts + 1) if person else call.room,
        why=why,
    )
    go = replace(case, state=Stand.RETRYING, why=ON_ITS_WAY, ended_at=None, deadline_at=None)
    if at > now + case.policy.batch_ms:
        go = replace(go, state=Stand.OPEN, why=f"{why}: waits for its time")
    return moved(case, replace(go, storming=Storming.CALM), "released", why, call.id, by=by, change=freed)
