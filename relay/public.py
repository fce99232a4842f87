"""How do events, calls and providers look from outside?  One shape for the shell, and later the API."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.call import NEVER, Attempt, Call, State
from relay.clock import rfc3339
from relay.engine import Row
from relay.event import Millis
from relay.gate import Gate
from relay.provider import Limit, Provider

WAITING: Final = frozenset({State.QUEUED, State.UNKNOWN})
"""States whose `due_at` is the next try; a running call's is the end of its lease."""


def event_shown(row: Row) -> dict[str, Any]:
    """Show an event's row."""
    return {
        "id": row["id"],
        "source": row["source"],
        "type": row["type"],
        "delivery": row["delivery"],
        "received_at": rfc3339(row["received_at"]),
        "verified": row["verified"],
        "decision": row["decision"],
        "why": row["flaw"] or None,
        "rule_version": row["rule_version"],
        "bytes": len(row["body"]),
        "calls": row["calls"],
    }


def call_shown(call: Call, attempts: Iterable[Attempt] | None = None) -> dict[str, Any]:
    """Show a call; with its *attempts* where they were asked for."""
    shown: dict[str, Any] = {
        "id": call.id,
        "event": call.event,
        "case": call.case,
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
    shown["attempts"] = call.attempts if attempts is None else [attempt_shown(each) for each in attempts]
    return shown


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
