"""Which calls does an event cause?"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from relay.call import Call, State, Step
from relay.errors import Unfit
from relay.event import Decision, Event, Json, Millis, Trust, as_name, new_id
from relay.provider import Action, Provider
from relay.render import checked, request
from relay.rule import Rule, Ruleset
from relay.template import at, fill, text


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rules made of an event."""

    decision: Decision
    calls: tuple[Call, ...] = ()


def plan(event: Event, rules: Ruleset, now: Millis) -> Plan:
    """
    Return the calls that *event* causes, one for each rule it meets.

    Two rules that want the very same call get one. A call whose values are missing or unfit is planned all
    the same, and dead from the start with the reason: what was asked for is never dropped in silence.
    """
    if event.flaw:
        return Plan(Decision.UNPARSABLE)
    met = [rule for rule in rules.rules if event.source in rule.sources and rule.when.meets(event.data)]
    if not met:
        return Plan(Decision.NO_RULE)
    calls: dict[bytes, Call] = {}
    for rule in met:
        call = _call(event, rule, rules.providers[rule.provider], now)
        same = [call.provider, call.action, dict(call.values), call.why]
        calls.setdefault(orjson.dumps(same, option=orjson.OPT_SORT_KEYS), call)
    return Plan(Decision.MATCHED, tuple(calls.values()))


def _call(event: Event, rule: Rule, provider: Provider, now: Millis) -> Call:
    action = provider.actions[rule.action]
    values: dict[str, Json] = {}
    state, why = State.QUEUED, ""
    try:
        filled = {name: _filled(event, name, template) for name, template in rule.with_.items()}
        # Only what was checked is kept: a person may queue the call again, and it is not checked twice.
        values = checked(action, filled)
        # Rendered once for nothing: what can't be sent is known before an intent is written.
        request(provider, action.shape, action, values, now)
        if action.check is not None:
            request(provider, action.check.shape, action, values, now)
    except Unfit as error:
        state, why = State.DEAD, f"not sent: {error}"
    return Call(
        id=new_id("call", now),
        event=event.id,
        case=_case(event, rule, values),
        rule=rule.name,
        provider=provider.name,
        action=action.name,
        values=values,
        state=state,
        step=_first_step(event, action),
        why=why,
        due_at=now,
        created_at=now,
        settled_at=now if state is State.DEAD else None,
    )


def _filled(event: Event, name: str, template: Json) -> Json:
    try:
        return fill(template, lambda path: at(event.data, path))
    except Unfit as error:
        raise Unfit(f"{name}: {error} in the event") from None


def _first_step(event: Event, action: Action) -> Step:
    """Look first where a success could be overwritten, or where anyone may have sent the event."""
    doubtful = action.check_first or event.verified is Trust.UNATTEMPTED
    return Step.LOOK if doubtful and action.check is not None else Step.SEND


def _case(event: Event, rule: Rule, values: Mapping[str, Json]) -> str:
    """Name the failing resource: by the rule's template, or by the provider and the call's values."""
    if rule.case:
        try:
            name = text(rule.case, lambda path: at(event.data, path))
        except Unfit:
            name = ""
    else:
        named = ",".join(f"{key}={value}" for key, value in sorted(values.items()))
        name = f"{rule.provider}:{named}" if named else ""
    # What has no name is a case of its own: nameless ones must not be taken for one resource.
    return as_name(name) if name.strip() else f"{rule.name}:{event.id}"
