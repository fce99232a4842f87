"""Which resources does an event call failed, which well, and how is each retried?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from relay.call import Step
from relay.case import Failure, Recovery
from relay.errors import Unfit
from relay.event import Decision, Event, Json, Millis, Trust, as_name
from relay.provider import Action, Provider
from relay.render import checked, request
from relay.rule import Rule, Ruleset, Source
from relay.template import at, fill, text


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rules made of an event."""

    decision: Decision
    failures: tuple[Failure, ...] = ()
    recoveries: tuple[Recovery, ...] = ()


def plan(event: Event, rules: Ruleset, now: Millis) -> Plan:
    """
    Return what *event* says of resources: a failure for each rule it meets, else what recovered by that rule.

    Two rules that want the very same call make one failure. What can't be sent is planned all the same, with
    the reason: what was asked for is never dropped in silence.
    """
    if event.flaw:
        return Plan(Decision.UNPARSABLE)
    source = source_of(rules, event.source)
    failures: dict[bytes, Failure] = {}
    recoveries: dict[tuple[str, str], Recovery] = {}
    for rule in rules.rules:
        if event.source not in rule.sources:
            continue
        provider = rules.providers[rule.provider]
        if rule.when.meets(event.data):
            failure = _failure(event, rule, provider, now)
            same = [failure.provider, failure.action, dict(failure.values), failure.flaw]
            failures.setdefault(orjson.dumps(same, option=orjson.OPT_SORT_KEYS), failure)
        elif recovery := _recovery(event, rule, source, provider.actions[rule.action]):
            recoveries.setdefault((recovery.provider, recovery.key), recovery)
    # Of one resource an event may say both, by different rules: then it failed.
    for failure in failures.values():
        recoveries.pop((failure.provider, failure.key), None)
    decision = Decision.MATCHED if failures or recoveries else Decision.NO_RULE
    return Plan(decision, tuple(failures.values()), tuple(recoveries.values()))


def source_of(rules: Ruleset, name: str) -> Source | None:
    """Return a source by its name, also one that only a watch feeds."""
    return rules.sources.get(name) or rules.watched.get(name)


def _failure(event: Event, rule: Rule, provider: Provider, now: Millis) -> Failure:
    action = provider.actions[rule.action]
    values: dict[str, Json] = {}
    flaw = ""
    try:
        # Only what was checked is kept: a person may want the call again, and it is not checked twice.
        values = checked(action, _filled(event, rule.with_))
        # Rendered once for nothing: what can't be sent is known before an intent is written.
        request(provider, action.shape, action, values, now)
        if action.check is not None:
            request(provider, action.check.shape, action, values, now)
    except Unfit as error:
        flaw = f"not sent: {error}"
    held = rule.approve is not None and rule.approve.meets(event.data)
    return Failure(
        rule=rule.name,
        provider=provider.name,
        action=action.name,
        # What has no name is a case of its own: nameless ones must not be taken for one resource.
        key=_key(event, rule, action) or as_name(f"{rule.name}:{event.id}"),
        values=values,
        policy=replace(rule.policy, approve=True) if held else rule.policy,
        step=_first_step(event, action),
        flaw=flaw,
    )


def _recovery(event: Event, rule: Rule, source: Source | None, action: Action) -> Recovery | None:
    """Return what recovered by this rule; None: nothing, or nobody can say what."""
    well = rule.recovered or (source.recovered if source else None)
    if well is None or not well.meets(event.data):
        return None
    # What anyone may have sent must not end a case where relay can look for itself.
    if event.verified is Trust.UNATTEMPTED and action.check is not None:
        return None
    key = _key(event, rule, action)
    return Recovery(rule=rule.name, provider=rule.provider, key=key) if key else None


def _first_step(event: Event, action: Action) -> Step:
    """Look first where a success could be overwritten, or where the event's body could be anybody's."""
    doubtful = action.check_first or event.verified is not Trust.VERIFIED
    return Step.LOOK if doubtful and action.check is not None else Step.SEND


def _filled(event: Event, templates: Mapping[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, template in templates.items():
        try:
            found[name] = fill(template, lambda path: at(event.data, path))
        except Unfit as error:
            raise Unfit(f"{name}: {error} in the event") from None
    return found


def _key(event: Event, rule: Rule, action: Action) -> str:
    """Name the resource: by the rule's template, or by provider and values. Empty: the event does not say."""
    try:
        if rule.case:
            name = text(rule.case, lambda path: at(event.data, path))
        else:
            name = f"{rule.provider}:{_identity(event, rule, action)}"
    except Unfit:
        return ""
    return as_name(name) if name.strip() else ""


def _identity(event: Event, rule: Rule, action: Action) -> str:
    """Say which resource the call is about: by what it can't do without, files aside. Raises Unfit."""
    needed = {name: value for name, value in action.values.items() if not value.optional}
    # An action without any such value is told apart by what else it is given, or is the same each time.
    told = {name: value for name, value in needed.items() if value.type != "file"} or action.values
    filled = _filled(event, {name: given for name, given in rule.with_.items() if name in told})
    values = checked(replace(action, values=told), filled)
    return ",".join(f"{name}={_said(value)}" for name, value in sorted(values.items())) or action.name


def _said(value: Json) -> str:
    """Write a value plainly, and as JSON where its commas could be taken for those between values."""
    if isinstance(value, str) and not {",", '"'} & set(value):
        return value
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
