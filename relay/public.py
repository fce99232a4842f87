"""How do events, calls, cases, watches and providers look from outside?  One shape for shell and API."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.call import NEVER, Attempt, Call, Kind, State, Step
from relay.case import Case, Moment, Storming
from relay.clock import rfc3339
from relay.condition import nearest
from relay.deed import Wait
from relay.engine import Row
from relay.event import Decision, Does, Millis, Part
from relay.explain import NEAREST, Asked, Entry, Explanation
from relay.gate import Gate
from relay.provider import Limit, Provider
from relay.replay import differs
from relay.rule import Watch, Window
from relay.schema.units import said

WAITING: Final = frozenset({State.QUEUED, State.UNKNOWN})
"""States whose `due_at` is the next try; a running call's is the end of its lease."""


def event_shown(row: Row) -> dict[str, Any]:
    """Show an event's row."""
    return {
        "id": row["id"],
        "source": row["source"],
        "type": row["type"],
        "delivery": row["delivery"],
        "resource": row["resource"],
        "tells": row["tells"] or None,
        "received_at": rfc3339(row["received_at"]),
        "verified": row["verified"],
        "decision": row["decision"],
        "why": row["flaw"] or _event_why(row),
        "rule_version": row["rule_version"],
        "bytes": len(row["body"]),
        "calls": row["calls"],
        "rules": row["parts"],
    }


QUIET: Final = frozenset({Decision.IGNORED, Decision.SUPPRESSED, Decision.UNJUDGED})
"""Decisions that want a reason: something was met, and nothing is done."""


def _event_why(row: Row) -> str | None:
    """Say why nothing is done about an event that rules met."""
    if row["decision"] not in QUIET:
        return None
    ignored = row["decision"] == Decision.IGNORED
    parts = [part for part in row["parts"] if part["why"] and (not ignored or part["does"] == Does.IGNORE)]
    return "; ".join(dict.fromkeys(part["why"] for part in parts)) or None


def explanation_shown(told: Explanation, most: int | None = NEAREST) -> dict[str, Any]:
    """Show what rules make of an event: those that act, and *most* of the others, the nearest first."""
    event, shown = told.event, told.shown(most)
    return {
        "source": event.source,
        "type": event.type,
        "delivery": event.delivery,
        "resource": event.resource,
        "tells": event.tells or None,
        "decision": told.plan.decision.value,
        "why": event.flaw or None,
        "rule_version": told.version,
        "rules": [entry_shown(entry) for entry in shown],
        "left_out": len(told.entries) - len(shown),
        "others": told.others,
    }


def stored_shown(row: Row, told: Explanation, most: int | None = NEAREST) -> dict[str, Any]:
    """Show what rules make of a stored event, and what was made of it then, if that differs."""
    then = event_shown(row) if differs(row, told.plan) else None
    return {"event": row["id"]} | explanation_shown(told, most) | {"then": then}


def entry_shown(entry: Entry) -> dict[str, Any]:
    """Show one rule's part in an event, or what keeps it from one."""
    return {
        "rule": entry.rule.name,
        "acts": entry.acts,
        "meets": entry.meets,
        "why": str(entry.miss or ""),
        "miss": {"path": entry.miss.path, "wanted": entry.miss.wanted, "saw": entry.miss.saw}
        if entry.miss
        else None,
        "near": entry.near,
        "fields": {"met": entry.met, "of": entry.fields} if entry.fields else None,
        "stopped_by": entry.stopped or None,
        "parts": [part_shown(part) for part in entry.parts],
        "windows": [_window_shown(wait) for wait in entry.waits],
        "then": [part_shown(part) for part in entry.then],
        "calls": [_asked_shown(asked) for asked in entry.calls],
        "recovers": next((part.key for part in entry.parts if part.does is Does.RECOVER), None),
    }


def part_shown(part: Part) -> dict[str, Any]:
    """Show one rule's part as it is stored with an event."""
    return {
        "rule": part.rule,
        "does": part.does.value,
        "what": part.what,
        "key": part.key,
        "why": part.why,
    }


def _window_shown(wait: Wait) -> dict[str, Any]:
    return {
        "window": wait.window.value,
        "key": wait.key,
        "within": None if wait.seen else said(wait.ms),
        "threshold": wait.threshold,
        "seen": wait.seen,
    }


def _asked_shown(asked: Asked) -> dict[str, Any]:
    """Show a call that would be made, or why it can't be sent."""
    row: dict[str, Any] = {"call": asked.call, "case": asked.case}
    failure = asked.failure
    if failure is None:
        return row | {"notes": list(asked.notes)}
    row["with"] = dict(failure.values)
    if failure.flaw:
        return row | {"dead": failure.flaw}
    return row | {
        "first": failure.step.value,
        "request": asked.line,
        "body": asked.body or None,
        "notes": list(asked.notes),
    }


def call_shown(call: Call, attempts: Iterable[Attempt] | None = None) -> dict[str, Any]:
    """Show a call; with its *attempts* where they were asked for."""
    shown: dict[str, Any] = {
        "id": call.id,
        "kind": call.kind.value,
        "event": call.event,
        "case": call.case,
        "key": call.key,
        "rule": call.rule,
        "provider": call.provider,
        "action": call.action,
        "values": dict(call.values),
        "alias": call.alias,
        "state": call.state.value,
        "why": call.why,
        "due_at": rfc3339(call.due_at) if call.state in WAITING and call.due_at < NEVER else None,
        "settled_at": rfc3339(call.settled_at),
        "tries": call.tries,
    }
    if attempts is None:
        return shown | {"attempts": call.attempts}
    tries = list(attempts)
    return shown | {"doubles": doubles(tries), "attempts": [attempt_shown(each) for each in tries]}


def doubles(attempts: Iterable[Attempt]) -> int:
    """
    Count the sends that came though an earlier one may have been done: both may have been.

    A look in between that saw the resource still failed has cleared the doubt.
    """
    found, doubt = 0, False
    for attempt in attempts:
        if attempt.step is Step.LOOK:
            doubt = doubt and attempt.outcome != "retry"
        elif attempt.outcome in {"unknown", "done", None}:
            found, doubt = found + doubt, doubt or attempt.outcome == "unknown"
    return found


def attempt_shown(attempt: Attempt) -> dict[str, Any]:
    """Show one try of a call."""
    return {
        "number": attempt.number,
        "step": attempt.step.value,
        "began_at": rfc3339(attempt.began_at),
        "ended_at": rfc3339(attempt.ended_at),
        "status": attempt.status,
        "outcome": attempt.outcome,
        "why": attempt.why,
        "answer": attempt.answer.decode("utf-8", "replace"),
    }


def case_shown(case: Case, call: Call | None, now: Millis) -> dict[str, Any]:
    """Show a case; *call* is its own, its retry or the check that watches it."""
    policy = case.policy
    lately = [at for at in case.spent if at > now - policy.within_ms]
    return {
        "id": case.id,
        "key": case.key,
        "provider": case.provider,
        "action": case.action,
        "rule": case.rule,
        "state": case.state.value,
        "why": case_why(case, call),
        "opened_at": rfc3339(case.opened_at),
        "ended_at": rfc3339(case.ended_at),
        "retries": case.retries,
        "budget": {"retries": policy.retries, "within": said(policy.within_ms), "spent": len(lately)},
        "next_at": rfc3339(case_next(case, call)),
        "aliases": list(case.aliases),
        "event": case.event,
        "call": case.call,
        "storm": None if case.storming is Storming.CALM else case.storming.value,
    }


def case_why(case: Case, call: Call | None) -> str:
    """Say why a case stands where it stands; while its retry is tried again and again, why that is."""
    tried = call is not None and call.attempts > 0 and not case.ended and call.kind is Kind.RETRY
    return f"{case.why}: {call.why}" if call and tried and call.why not in {"", case.why} else case.why


def case_next(case: Case, call: Call | None, gate: Gate | None = None) -> Millis | None:
    """Say when a case moves next by itself: at its call's next try, or its deadline."""
    if case.ended:
        return None
    times = [next_at(call, gate) if call else None, case.deadline_at]
    return min((at for at in times if at is not None), default=None)


def moment_shown(moment: Moment) -> dict[str, Any]:
    """Show one moment of a case's timeline."""
    return {
        "at": rfc3339(moment.at),
        "kind": moment.kind,
        "by": moment.by,
        "what": moment.what,
        "ref": moment.ref,
    }


def no_case(name: str, cases: Iterable[Case]) -> str:
    """Say that no case has that name; the one of *cases* that is named most like it is a hint."""
    # Ids are no words: one that is nearly right is another.
    found = nearest(name, [known for case in cases for known in (case.key, *case.aliases)])
    return f"no case has the id, key or alias {name}" + (f" (did you mean '{found}'?)" if found else "")


WELL: Final = "well"
LATE: Final = 2
"""A watch is behind that has seen no end of its list for so many of its turns."""


def watch_shown(row: Row, watch: Watch | None, now: Millis) -> dict[str, Any]:
    """Show what a watch has done; *watch* is what the rules say of it, None where they have it no longer."""
    lag = now - (row["armed_at"] if row["ran_at"] is None else row["ran_at"])
    return {
        "name": row["name"],
        "provider": row["provider"],
        "listing": row["listing"],
        "every": said(watch.every_ms) if watch else None,
        "state": _watch_state(row, watch, lag),
        "why": row["why"],
        "ran_at": rfc3339(row["ran_at"]),
        "lag_ms": lag,
        "took_ms": row["took_ms"],
        "items": row["items"],
        "fresh": row["fresh"],
        "standing": row["standing"],
        "failures": row["failures"],
        "next_at": rfc3339(row["next_at"]),
    }


def _watch_state(row: Row, watch: Watch | None, lag: Millis) -> str:
    """Say in a word how a watch stands."""
    signs = (
        ("gone", watch is None),
        ("failing", row["failures"] > 0),
        ("behind", watch is not None and lag > LATE * watch.every_ms + (row["took_ms"] or 0)),
        ("new", row["ran_at"] is None),
    )
    return next((word for word, shows in signs if shows), WELL)


def provider_shown(
    provider: Provider, gate: Gate | None, counts: Mapping[str, int], now: Millis
) -> dict[str, Any]:
    """Show a provider: what it can do, whether it may be called now, and where its calls stand."""
    state, why, opens_at = gate_state(gate or Gate(provider=provider.name), provider.limit, now)
    return {
        "name": provider.name,
        "title": provider.title,
        "docs": provider.docs or None,
        "base_url": provider.base_url,
        "actions": sorted(provider.actions),
        "gate": state,
        "why": why,
        "opens_at": rfc3339(opens_at) if opens_at > now else None,
        "calls": dict(counts),
    }


def gone_shown(name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """Show a provider that rules.toml has left: nothing is known of it but where its calls stand."""
    return {
        "name": name,
        "title": name,
        "base_url": "",
        "actions": [],
        "gate": "gone",
        "why": "rules.toml no longer uses it",
        "opens_at": None,
        "calls": dict(counts),
    }


def next_at(call: Call, gate: Gate | None) -> Millis | None:
    """Say when a waiting call is tried next: when it is due, and its provider's gate is no longer shut."""
    if call.state not in WAITING or call.due_at >= NEVER:
        return None
    return max(call.due_at, gate.throttled_until, gate.shut_until) if gate else call.due_at


def gate_state(gate: Gate, limit: Limit, now: Millis) -> tuple[str, str, Millis]:
    """Say in a word how a gate stands, why, and when it opens."""
    opens_at = gate.opens_at(limit)
    if gate.paused:
        return "paused", gate.paused, opens_at
    if gate.ill:
        return "down", f"{gate.failures} failures in a row", opens_at
    if gate.throttled_until > now:
        return "throttled", "the provider asked us to wait", opens_at
    if opens_at > now:
        return "waiting", "the rate limit", opens_at
    return "open", "", opens_at


def window_shown(row: Row) -> dict[str, Any]:
    """Show a rule's window that is open, or has still to act."""
    return {
        "rule": row["rule"],
        "kind": row["kind"],
        "key": row["key"],
        "events": row["events"],
        "threshold": row["threshold"] if row["kind"] == Window.ACCUMULATE_WITHIN else None,
        "opened_at": rfc3339(row["opened_at"]),
        "ends_at": rfc3339(row["ends_at"]),
        "event": row["event_id"],
    }
