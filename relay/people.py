"""What becomes of a case when a person acts?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from relay.call import NEVER, Call, Kind, State, Step
from relay.case import Act, Case, Moment, Move, Stand, Storming
from relay.clock import rfc3339
from relay.errors import Rejected
from relay.event import Millis
from relay.follow import ON_ITS_WAY, call_for, ended, moved, released


def acted(
    case: Case, call: Call | None, act: Act, *, by: str, why: str, now: Millis, until: Millis | None = None
) -> Move:
    """Return what a person's act makes of a case. Raises Rejected (409) where it can't be done now."""
    return _ACTS[act](case, call, by, why, now, until)


def _act_retry(case: Case, call: Call | None, by: str, why: str, now: Millis, _until: Millis | None) -> Move:
    said_so = why or f"{by} wants a retry"
    if case.flaw:
        raise Rejected(409, "Not possible", f"there is nothing to send: {case.flaw}")
    if not case.action:
        raise Rejected(409, "Not possible", "its rule calls nobody: close it, once it is well")
    if case.state in {Stand.RETRYING, Stand.WATCHING}:
        moment = Moment(kind="joined", what=f"{said_so}: {case.why}", by=by)
        waits = call is not None and call.kind is Kind.RETRY and call.state is State.QUEUED
        sooner = replace(call, due_at=now, only="") if call and waits else None
        return Move(before=case, case=case, moment=moment, change=sooner)
    if call is not None and call.settled_at is None and call.kind is Kind.RETRY:
        return released(case, call, now, said_so, by)
    again = replace(case, state=Stand.RETRYING, why=ON_ITS_WAY, ended_at=None, deadline_at=None)
    again = replace(again, storming=Storming.CALM)
    fresh = replace(call_for(again, now, Step.SEND), room=1, only="", batch="", why=said_so)
    return moved(case, again, "released", said_so, None, by=by, queue=fresh)


def _act_close(case: Case, _call: Call | None, by: str, why: str, now: Millis, _until: Millis | None) -> Move:
    if case.ended:
        raise Rejected(409, "Not possible", f"the case is {case.state.value} already")
    return ended(case, Stand.CLOSED, why or f"{by} closed it", now, by=by)


def _act_snooze(case: Case, call: Call | None, by: str, why: str, now: Millis, until: Millis | None) -> Move:
    if case.ended:
        raise Rejected(409, "Not possible", f"the case is {case.state.value}: there is nothing to snooze")
    if until is None or until <= now:
        raise Rejected(400, "Snooze until when?", "the time must be in the future")
    said_so = f"snoozed until {rfc3339(until)}: {why or by}"
    if case.state is Stand.WATCHING:
        raise Rejected(409, "Not possible", "its retry was taken: relay only watches whether it helps")
    if case.state is Stand.RETRYING and (call is None or call.state is not State.QUEUED):
        raise Rejected(409, "Not possible", "its retry is out already")
    asleep, change = replace(case, why=said_so), None
    if case.state is Stand.NEEDS_PERSON or (call and call.state is State.HELD):
        asleep = replace(asleep, deadline_at=max(until, case.deadline_at or 0))
    elif call is not None:
        asleep = replace(asleep, state=Stand.OPEN)
        # What a storm holds up stays so, but not only so long.
        change = replace(call, due_at=max(until + (NEVER if call.due_at >= NEVER else 0), call.due_at))
    return moved(case, asleep, "snoozed", said_so, None, by=by, change=change)


def _act_approve(
    case: Case, call: Call | None, by: str, why: str, now: Millis, _until: Millis | None
) -> Move:
    return released(case, _held(case, call), now, why or f"{by} said yes", by)


def _act_reject(case: Case, call: Call | None, by: str, why: str, now: Millis, _until: Millis | None) -> Move:
    _held(case, call)
    return ended(case, Stand.CLOSED, why or f"{by} said no", now, by=by)


def _held(case: Case, call: Call | None) -> Call:
    if case.ended or call is None or call.state is not State.HELD:
        raise Rejected(409, "Not possible", f"nothing waits for a yes: the case is {case.state.value}")
    return call


_Acted = Callable[[Case, Call | None, str, str, Millis, Millis | None], Move]
_ACTS: Final[Mapping[Act, _Acted]] = {
    Act.RETRY: _act_retry,
    Act.CLOSE: _act_close,
    Act.SNOOZE: _act_snooze,
    Act.APPROVE: _act_approve,
    Act.REJECT: _act_reject,
}
