"""What do the rules make of one event, rule by rule, and what keeps the others from it?"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.call import Step
from relay.case import Failure
from relay.condition import Scene
from relay.deed import Deed, Plan, Wait, joined
from relay.errors import Unfit
from relay.event import Around, Does, Event, Json, Millis, Part
from relay.match import TOO_MUCH, Miss, Pattern
from relay.match.pattern import Field
from relay.match.tangle import TooMuch, Walk
from relay.plan import late, plan
from relay.provider import Upload
from relay.render import request
from relay.resource import around_of
from relay.rule import Rule, Ruleset, Window

MOST_TANGLED: Final = 100
"""Rules whose misses are explained of an event that is too tangled for some: each may take long."""

NEAREST: Final = 10
"""Rules that are shown though they have no part in the event, unless all are wanted."""

AGAIN: Final = "the same call as another's, made once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call that a rule asks for, as it would go out; without *failure*, another rule's stands for it."""

    call: str
    case: str
    failure: Failure | None = None
    line: str = ""  #: method and URL; empty: it can't be sent
    body: str = ""
    notes: tuple[str, ...] = ()  #: what stands before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One rule's part in an event, or why it has none."""

    rule: Rule
    parts: tuple[Part, ...] = ()
    waits: tuple[Wait, ...] = ()
    then: tuple[Part, ...] = ()  #: what it does when its window lets it act
    calls: tuple[Asked, ...] = ()  #: at once, or then
    meets: bool = False
    miss: Miss | None = None  #: the first condition that failed
    met: int = 0  #: how many fields are met…
    fields: int = 0  #: …of so many
    near: bool = False  #: hardly anything is missing
    stopped: str = ""  #: the rule above that keeps this one from being asked

    @property
    def acts(self) -> bool:
        """Say whether the rule has a part in what becomes of the event."""
        return bool(self.parts or self.waits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What becomes of an event: the rules that have a part in it first, then those that nearly had."""

    event: Event
    plan: Plan
    version: str
    entries: tuple[Entry, ...] = ()
    others: int = 0  #: rules of other sources

    def shown(self, most: int | None = NEAREST) -> tuple[Entry, ...]:
        """Return the entries that act, and *most* of the others; None: all."""
        acting = sum(entry.acts for entry in self.entries)
        return self.entries if most is None else self.entries[: acting + most]


def explain(event: Event, rules: Ruleset, now: Millis) -> Explanation:
    """Return what each rule of the event's source makes of it, or what keeps it from that."""
    made = plan(event, rules, now)
    mine = [rule for rule in rules.rules if event.source in rule.sources]
    found = Explanation(event=event, plan=made, version=rules.version, others=len(rules.rules) - len(mine))
    if event.flaw:
        return found
    around = around_of(event, now)
    parts, waits, failures = _by_rule(made)
    tangled = any(part.does is Does.UNJUDGED for part in made.deed.parts)
    entries: list[Entry] = []
    stopper = ""
    for rule in mine:
        entry = Entry(rule=rule, parts=tuple(parts[rule.name]), waits=tuple(waits[rule.name]))
        if _unjudged(entry):
            entry = replace(entry, miss=_unlooked(rule, around))
        elif _met(entry):
            then = joined(eventually(event, rule, rules, now, entry.waits))
            asked = [
                *_asked(rules, entry.parts, failures[rule.name], now),
                *_asked(rules, then.parts, then.failures, now),
            ]
            entry = replace(entry, meets=True, then=then.parts, calls=tuple(asked))
        elif tangled and len(entries) >= MOST_TANGLED:
            entry = replace(entry, stopped=stopper, miss=_unlooked(rule, around))
        else:
            entry = _missed(replace(entry, stopped=stopper), event.data, around)
        entries.append(entry)
        if not stopper and _met(entry) and (rule.stop or rule.ignore) and not rule.shadow:
            stopper = rule.name
    entries.sort(key=_distance)
    return replace(found, entries=tuple(entries))


def _unjudged(entry: Entry) -> bool:
    return any(part.does is Does.UNJUDGED for part in entry.parts)


def _unlooked(rule: Rule, around: Around) -> Miss:
    """Say that nobody looked: it would take too long."""
    assert isinstance(rule.when, Pattern)
    first = rule.when.alternatives[0].fields[0]
    return Miss(first.path, first.wants(Scene(None, dict(around.envelope), around.now)), TOO_MUCH)


# -- those that act --


def _by_rule(
    made: Plan,
) -> tuple[defaultdict[str, list[Part]], defaultdict[str, list[Wait]], defaultdict[str, list[Failure]]]:
    parts: defaultdict[str, list[Part]] = defaultdict(list)
    waits: defaultdict[str, list[Wait]] = defaultdict(list)
    failures: defaultdict[str, list[Failure]] = defaultdict(list)
    for part in made.deed.parts:
        parts[part.rule].append(part)
    for wait in made.waits:
        waits[wait.rule].append(wait)
    for failure in made.deed.failures:
        failures[failure.rule].append(failure)
    return parts, waits, failures


def _met(entry: Entry) -> bool:
    """Say whether the event meets what the rule looks for, as far as its part in it tells."""
    return any(part.does not in {Does.RECOVER, Does.UNJUDGED} for part in entry.parts) or any(
        not wait.seen for wait in entry.waits
    )


def eventually(
    event: Event, rule: Rule, rules: Ruleset, now: Millis, waits: Iterable[Wait]
) -> Iterator[Deed]:
    """Yield what a rule does once its window lets it act."""
    for wait in waits:
        if not wait.seen:
            at_its_end = wait.window in {Window.ONCE_AFTER, Window.EXPECT}
            yield late(rule, rules, [event], now) if at_its_end else wait.deed


def _asked(
    rules: Ruleset, parts: Iterable[Part], failures: Iterable[Failure], now: Millis
) -> Iterator[Asked]:
    """Yield the calls among *parts*, each with the failure that stands behind it."""
    behind: defaultdict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in failures:
        if failure.action:
            behind[f"{failure.provider}.{failure.action}", failure.key].append(failure)
    for part in parts:
        if part.what and part.does in {Does.CALL, Does.PERSON}:
            waiting = behind[part.what, part.key]
            if waiting:
                yield _rendered(rules, waiting.pop(0), now)
            else:
                yield Asked(call=part.what, case=part.key, notes=(AGAIN,))


def _rendered(rules: Ruleset, failure: Failure, now: Millis) -> Asked:
    """Render a call as it would go out now, without its headers: they may hold secrets."""
    asked = Asked(call=f"{failure.provider}.{failure.action}", case=failure.key, failure=failure)
    if failure.flaw:
        return asked
    provider = rules.providers[failure.provider]
    action = provider.actions[failure.action]
    try:
        made = request(provider, action.shape, action, failure.values, now)
    except Unfit as error:
        return replace(asked, failure=replace(failure, flaw=f"not sent: {error}"))
    body = _form(made.body) if isinstance(made.body, Upload) else made.body.decode("utf-8", "replace")
    return replace(asked, line=f"{made.method} {made.url}", body=body, notes=tuple(_notes(failure)))


def _notes(failure: Failure) -> Iterator[str]:
    """Say what stands between the failure and its call."""
    policy = failure.policy
    if failure.person:
        yield "asks a person first"
    if policy.approve:
        yield "held for a yes"
    if failure.step is Step.LOOK:
        yield "looks first"
    if policy.batch:
        yield "batched"
    if policy.only:
        yield f"only {policy.only}"


def _form(upload: Upload) -> str:
    """Show a multipart body as one would type it for curl."""
    files = (f"{name}=@{path.relative_to(upload.root)}" for name, path, _ in upload.files)
    return " ".join([*(f"{name}={value}" for name, value in upload.fields), *files])


# -- those that do not --


def _missed(entry: Entry, data: Json, around: Around) -> Entry:
    """Say what keeps an event from meeting a rule, and how far it is from it."""
    pattern = entry.rule.when
    assert isinstance(pattern, Pattern)
    miss = pattern.miss(data, around)
    if miss is None:
        return replace(entry, meets=True)
    walk = pattern.walk(data, around)
    try:
        each = [(_unmet(one.fields, walk), len(one.fields)) for one in pattern.alternatives]
    except TooMuch:
        return replace(entry, miss=miss)
    # All are met, and not together: that is one thing that is missing.
    unmet, fields = min(each, key=lambda one: (max(len(one[0]), 1) / one[1], -one[1]))
    one_off = any(count > 1 and paths in ([], [miss.path]) for paths, count in each)
    return replace(
        entry, miss=miss, met=fields - max(len(unmet), 1), fields=fields, near=miss.near or one_off
    )


def _unmet(fields: Sequence[Field], walk: Walk) -> list[str]:
    """Return the paths of the fields that are not met, each looked at alone; raises `TooMuch`."""
    unmet = []
    for one in fields:
        values = list(walk.values(one))
        if not (any(map(one.judge(walk.scene), values)) if values else one.absent):
            unmet.append(one.path)
    return unmet


def _distance(entry: Entry) -> tuple[float, ...]:
    """Say how far a rule is from having a part in the event; entries as far keep their order."""
    if entry.acts:
        return (0,)
    if entry.miss is None:
        return (1,)
    # A slip in one value is a mistake; that a whole value differs may be meant.
    slip = entry.near and entry.miss.near
    lacks = 1 - entry.met / entry.fields if entry.fields else 1
    return (2 if entry.near else 3, not slip, lacks)
