"""What do the rules want done about an event: what failed, what is well, who is told, what waits?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import orjson

from relay.call import Step
from relay.case import Failure, Recovery
from relay.deed import Deed, Plan, Said, Wait, joined, once
from relay.errors import Unfit
from relay.event import Around, Decision, Does, Event, Json, Millis, Part, Trust, as_name
from relay.index import Index
from relay.match import TOO_MUCH, Pattern
from relay.provider import Action, Provider
from relay.render import request
from relay.resource import around_of, get_of, key_of, told, values_of
from relay.rule import Aim, Rule, Ruleset, Window
from relay.source import Condition, Source
from relay.template import Get, text

SHOWN: Final = 4_096
"""Bytes of a body that is only shown."""


def plan(event: Event, rules: Ruleset, now: Millis) -> Plan:
    """
    Return what *event* makes the rules want: in their order, up to the first that says stop.

    What says that a resource is well, or that something came, is heard all the same, whoever stops.

    Two rules that want the very same call make one failure. What can't be sent is planned all the same, with
    the reason: what was asked for is never dropped in silence.
    """
    if event.flaw:
        return Plan(Decision.UNPARSABLE)
    book = _book(rules).get(event.source)
    if book is None:
        return Plan(Decision.NO_RULE)
    around = around_of(event, now)
    met, names, unjudged = _met(book, event, around)
    # What was expected has come before anything new is waited for: a heartbeat may expect the next one.
    came = (book.awaiting[number] for number in book.awaited.met(event.data, around))
    waits = [wait for rule in came for wait in _came(event, rule)]
    deeds: list[Deed] = []
    for rule in met:
        deed, wait = _wanted(event, rule, rules, now)
        deeds.append(deed)
        waits += wait
    deeds += [_only(rule, Does.UNJUDGED, why=f"it is {TOO_MUCH}") for rule in unjudged]
    deed = joined(deeds)
    failed = once(deed.failures)
    # Of one resource an event may say both, by different rules: then it failed.
    ill = {(one.provider, one.key) for one in failed}
    well = [one for one in _well(event, book, names, rules, around) if (one.provider, one.key) not in ill]
    parts = tuple(Part(rule=one.rule, does=Does.RECOVER, key=one.key) for one in well)
    deed = replace(deed, failures=failed, recoveries=tuple(well), parts=deed.parts + parts)
    return Plan(_decided(deed, waits), deed, tuple(waits))


def ready(rules: Ruleset) -> None:
    """Index the rules now: with thousands of them the first event would wait for that."""
    _book(rules)


def late(rule: Rule, rules: Ruleset, events: Sequence[Event], now: Millis, count: int | None = None) -> Deed:
    """
    Return what a rule does at the end of its window: for the first of *events*, with all of them to draw on.

    Their templates know ``{$count}`` and ``{$events.0.…}``, the bodies in the order in which they came.
    *count* says how many there were, if not all are here.
    """
    bodies: list[Json] = [event.data for event in events]
    more: dict[str, Json] = {"$count": len(bodies) if count is None else count, "$events": bodies}
    return _deed(events[0], rule, rules, now, more)


def source_of(rules: Ruleset, name: str) -> Source | None:
    """Return a source by its name, also one that only a watch feeds."""
    return rules.sources.get(name) or rules.watched.get(name)


# -- which rules --


@dataclass(frozen=True, slots=True)
class _Book:
    """The rules of one source, in their order, ready to be searched."""

    rules: tuple[Rule, ...]
    failing: Index
    ways: tuple[Rule, ...]  #: one of the rules that name resources in the same way
    well: Index  #: of each of these, what says that a resource is well
    awaiting: tuple[Rule, ...]
    awaited: Index


@lru_cache(maxsize=4)
def _book(rules: Ruleset) -> Mapping[str, _Book]:
    """Sort the rules by source, once for a ruleset."""
    by_source: dict[str, list[Rule]] = {}
    for rule in rules.rules:
        for name in rule.sources:
            by_source.setdefault(name, []).append(rule)
    return {name: _bound(several, source_of(rules, name)) for name, several in by_source.items()}


def _bound(rules: Sequence[Rule], source: Source | None) -> _Book:
    ways: dict[object, Rule] = {}
    for rule in rules:
        well = rule.recovered or (source.recovered if source else None)
        if well is not None and rule.aims:
            # A thousand rules that name resources in the same way say the same of what is well.
            named = [
                [aim.provider, aim.action, aim.case, {} if aim.case else dict(aim.with_)] for aim in rule.aims
            ]
            ways.setdefault((id(well), orjson.dumps(named)), rule)
    awaiting = tuple(rule for rule in rules if rule.expect)
    known = source.recovered if source else None
    return _Book(
        rules=tuple(rules),
        failing=_index(rule.when for rule in rules),
        ways=tuple(ways.values()),
        well=_index(rule.recovered or known for rule in ways.values()),
        awaiting=awaiting,
        awaited=_index(rule.expect.when for rule in awaiting if rule.expect),
    )


def _index(conditions: Iterable[Condition | None]) -> Index:
    """Index compiled patterns: that is what the conditions of rules are."""
    return Index([one for one in conditions if isinstance(one, Pattern)])


def _met(book: _Book, event: Event, around: Around) -> tuple[list[Rule], set[str], list[Rule]]:
    """
    Return the rules that are to act, up to one that stops, the names of all that are met, and the unjudged.

    Of the last nobody can say whether the event meets them: it is too large or has too many arrays.
    """
    unjudged: set[int] = set()
    places = book.failing.met(event.data, around, unjudged)
    acting = []
    last = len(book.rules)
    for place in places:
        rule = book.rules[place]
        acting.append(rule)
        if (rule.stop or rule.ignore) and not rule.shadow:
            last = place
            break
    names = {book.rules[place].name for place in places} if book.ways else set()
    return acting, names, [book.rules[place] for place in sorted(unjudged) if place < last]


# -- what a rule wants --


def _wanted(event: Event, rule: Rule, rules: Ruleset, now: Millis) -> tuple[Deed, list[Wait]]:
    """Return what a rule that the event meets wants at once, and what its window decides."""
    if rule.ignore:
        return _only(rule, Does.IGNORE, why=rule.ignore), []
    if (age := _too_old(event, rule, now)) is not None:
        return _only(rule, Does.OLD, why=f"it happened {age}"), []
    throttle, expect = rule.throttle, rule.expect
    if throttle is None and expect is None:
        return _deed(event, rule, rules, now), []
    if throttle is None:
        assert expect is not None
        # What has no key is waited for by itself, and nothing can end that wait.
        key = _named(expect.by, event) or event.id
        return Deed(), [Wait(rule=rule.name, window=Window.EXPECT, key=key, ms=expect.ms)]
    by = _named(throttle.by, event) if throttle.by else ""
    if by is None:
        # Without a key it belongs to no window: it acts by itself, rather than be dropped.
        deed = _deed(event, rule, rules, now, {"$count": 1, "$events": [event.data]})
        noted = [replace(part, why=part.why or f"no window: {throttle.by} is missing") for part in deed.parts]
        return replace(deed, parts=tuple(noted)), []
    alone = throttle.kind is Window.ONCE_AFTER
    count = {"$count": throttle.threshold if throttle.kind is Window.ACCUMULATE_WITHIN else 1}
    wait = Wait(
        rule=rule.name,
        window=throttle.kind,
        key="" if alone else by,
        mark=(by or event.id) if alone else "",
        ms=throttle.ms,
        threshold=throttle.threshold,
        deed=Deed() if alone else _deed(event, rule, rules, now, count),
    )
    return Deed(), [wait]


def _came(event: Event, rule: Rule) -> list[Wait]:
    """Return the end of the window of a rule that expected this event."""
    assert rule.expect is not None
    key = _named(rule.expect.seen_by, event)
    return [] if key is None else [Wait(rule=rule.name, window=Window.EXPECT, key=key, seen=True)]


def _named(template: str, event: Event) -> str | None:
    """Return the key of a window; None: the event does not say it."""
    try:
        return as_name(text(template, get_of(event)))
    except Unfit:
        return None


def _too_old(event: Event, rule: Rule, now: Millis) -> str | None:
    if rule.max_age_ms is None or event.happened_at is None or now - event.happened_at <= rule.max_age_ms:
        return None
    return f"{_long(now - event.happened_at)} ago, and max_age is {_long(rule.max_age_ms)}"


def _long(millis: Millis) -> str:
    """Say how long a time is, in the largest unit that it fills twice."""
    sizes = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
    size, unit = next((one for one in sizes if millis >= 2 * one[0]), sizes[-1])
    return f"{millis // size:,} {unit}"


def _deed(
    event: Event, rule: Rule, rules: Ruleset, now: Millis, more: Mapping[str, Json] | None = None
) -> Deed:
    """Return what a rule does about an event; *more* is what its templates know besides."""
    get = get_of(event, more)
    failures = tuple(_failure(event, rule, aim, rules, now, get) for aim in rule.aims)
    does = Does.PERSON if rule.person else Does.CALL
    parts = [
        Part(
            rule=rule.name,
            does=does,
            what=f"{one.provider}.{one.action}" if one.action else "",
            key=one.key,
            why=one.flaw or one.person,
        )
        for one in failures
    ]
    says: tuple[Said, ...] = ()
    if rule.tell:
        said = told(rule.say, get) or f"{rule.name}: {event.source} {event.type or event.id}"
        says = (Said(rule=rule.name, channel=rule.tell, text=said),)
        parts.append(Part(rule=rule.name, does=Does.TELL, what=rule.tell, why=said))
    deed = Deed(failures=failures, says=says, parts=tuple(parts))
    return _shadow(deed) if rule.shadow else deed


def _shadow(deed: Deed) -> Deed:
    """Keep of a deed only what it would have been."""
    requests = {(f"{one.provider}.{one.action}", one.key): one for one in deed.failures}
    parts = []
    for part in deed.parts:
        failure = requests.get((part.what, part.key))
        why = part.why or (failure.shown if failure else "")
        parts.append(replace(part, does=Does.SHADOW, why=f"would {part.does.value}: {why}".rstrip(": ")))
    return Deed(parts=tuple(parts))


def _only(rule: Rule, does: Does, *, why: str) -> Deed:
    return Deed(parts=(Part(rule=rule.name, does=does, why=why),))


def _decided(deed: Deed, waits: Sequence[Wait]) -> Decision:
    """Say in a word what became of an event, before its windows have spoken."""
    if deed.failures or deed.recoveries or deed.says or waits:
        return Decision.MATCHED
    return quietly(deed)


def quietly(deed: Deed) -> Decision:
    """Say in a word what became of an event about which nothing is done."""
    does = {part.does for part in deed.parts}
    if not does:
        return Decision.NO_RULE
    return next(decision for part, decision in QUIETLY if part is None or part in does)


QUIETLY: Final = (
    (Does.UNJUDGED, Decision.UNJUDGED),
    (Does.IGNORE, Decision.IGNORED),
    (None, Decision.SUPPRESSED),
)
"""What an event is about which nothing is done: the first that one of its parts says."""


# -- what failed, and how it is retried --


def _failure(event: Event, rule: Rule, aim: Aim, rules: Ruleset, now: Millis, get: Get) -> Failure:
    provider = rules.providers[aim.provider] if aim.provider else None
    action = provider.actions[aim.action] if provider else None
    values: dict[str, Json] = {}
    flaw = shown = ""
    try:
        if provider and action:
            # Only what was checked is kept: a person may want the call again, and it is not checked twice.
            values = values_of(aim, action, get)
            # Rendered once for nothing: what can't be sent is known before an intent is written.
            shown = _rendered(provider, action, values, now)
    except Unfit as error:
        flaw = f"not sent: {error}"
    held = rule.approve is not None and rule.approve.meets(event.data, around_of(event, now))
    return Failure(
        rule=rule.name,
        provider=aim.provider or event.source,
        action=aim.action,
        # What has no name is a case of its own: nameless ones must not be taken for one resource.
        key=key_of(aim, action, get) or as_name(f"{rule.name}:{event.id}"),
        values=values,
        policy=replace(aim.policy, approve=True) if held else aim.policy,
        step=_first_step(event, action) if action else Step.SEND,
        person=(told(rule.person, get) or rule.person) if rule.person else "",
        flaw=flaw,
        shown=shown if rule.shadow else "",
    )


def _rendered(provider: Provider, action: Action, values: Mapping[str, Json], now: Millis) -> str:
    """Render the call and its look, and show the call; its headers may hold secrets. Raises Unfit."""
    made = request(provider, action.shape, action, values, now)
    if action.check is not None:
        request(provider, action.check.shape, action, values, now)
    body = made.body[:SHOWN].decode("utf-8", "replace") if isinstance(made.body, bytes) else "(files)"
    return f"{made.method} {made.url} {body}".rstrip()


def _well(event: Event, book: _Book, met: set[str], rules: Ruleset, around: Around) -> list[Recovery]:
    """Return what the event says is well, by rules that it does not meet."""
    found: dict[tuple[str, str], Recovery] = {}
    get = get_of(event)
    for number in book.well.met(event.data, around):
        rule = book.ways[number]
        if rule.name in met:
            continue
        for aim in rule.aims:
            action = rules.providers[aim.provider].actions[aim.action] if aim.provider else None
            # What anyone may have sent must not end a case where relay can look for itself.
            if event.verified is Trust.UNATTEMPTED and action and action.check is not None:
                continue
            provider = aim.provider or event.source
            if key := key_of(aim, action, get):
                found.setdefault((provider, key), Recovery(rule=rule.name, provider=provider, key=key))
    return list(found.values())


def _first_step(event: Event, action: Action) -> Step:
    """Look first where a success could be overwritten, or where the event's body could be anybody's."""
    doubtful = action.check_first or event.verified is not Trust.VERIFIED
    return Step.LOOK if doubtful and action.check is not None else Step.SEND
