"""What would these rules have made of past events?  Planned again, with their windows; nothing is done."""

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from relay.body import Unparsable, parse
from relay.deed import Deed, Plan, Wait
from relay.engine import Row
from relay.event import Decision, Does, Event, Millis, Part, Trust
from relay.plan import plan, source_of
from relay.rule import Ruleset, Window
from relay.source import Source
from relay.store import event as event_of
from relay.store.windows import BODIES, BYTES
from relay.unpack import read
from relay.verify import best
from relay.window import LATE, Became, Entered, Span, decided, discarded, entered, outcome, together

UNSENT: Final = "not sent: "
"""How the reason begins why a call can't be sent."""


# -- events to ask about --


def tried(rules: Ruleset, source: Source, headers: Mapping[str, str], body: bytes, now: Millis) -> Event:
    """Make an event that has not come, as if its sender had proved itself."""
    # What only a watch brings in was asked for by relay itself.
    trust = best(source) if source.name in rules.sources else Trust.VERIFIED
    return read(source, {name.lower(): [value] for name, value in headers.items()}, body, trust, now)


def again(row: Row, rules: Ruleset) -> Event:
    """Make the event of a stored row again, read as its source says in *rules*."""
    event = event_of(row)
    if event.flaw:
        # It was told when it came: a body may be sound JSON, and still not what its source takes.
        return event
    source = source_of(rules, event.source)
    if source is not None:
        headers = {name: [value] for name, value in event.headers.items()}
        fresh = read(source, headers, event.body, event.verified, event.received_at)
        # A header that nobody asked for then is not there to be asked for now.
        return replace(
            fresh,
            id=event.id,
            digest=event.digest,
            delivery=event.delivery,
            headers=event.headers,
            type=fresh.type or event.type,
            resource=fresh.resource or event.resource,
            happened_at=event.happened_at if fresh.happened_at is None else fresh.happened_at,
        )
    try:
        return replace(event, data=parse(event.body))
    except Unparsable as error:
        return replace(event, flaw=str(error))


# -- what became of them --


@dataclass(frozen=True, slots=True, order=True)
class Effect:
    """One rule's part in an event, as far as it can be compared."""

    rule: str
    does: str
    what: str
    key: str
    unsent: bool = False  #: its call can't be sent

    def __str__(self) -> str:
        words = (self.does, self.what, self.key, "(can't be sent)" if self.unsent else "")
        return f"{self.rule}: {' '.join(filter(None, words))}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became, or would become, of one event."""

    event: str
    source: str
    at: Millis
    decision: Decision
    parts: tuple[Part, ...]


def effects(parts: Iterable[Part]) -> Counter[Effect]:
    """Return what can be compared of *parts*; what a reason says is left out, for it has times in it."""
    return Counter(
        Effect(one.rule, one.does.value, one.what, one.key, one.why.startswith(UNSENT)) for one in parts
    )


def stored(row: Row) -> Fate | None:
    """Return what became of a stored event; None where an earlier relay did not keep it rule by rule."""
    decision = Decision(row["decision"])
    if not row["parts"] and decision is not Decision.NO_RULE and decision is not Decision.UNPARSABLE:
        return None
    parts = tuple(Part(**one | {"does": Does(one["does"])}) for one in row["parts"])
    return Fate(row["id"], row["source"], row["received_at"], decision, parts)


def differs(row: Row, made: Plan) -> bool:
    """Say whether something else became of a stored event than *made*, before its windows have spoken."""
    then = stored(row)
    if then is None:
        return Decision(row["decision"]) is not made.decision
    asked = {wait.rule for wait in made.waits}
    had = {part.rule for part in then.parts}
    waiting = {wait.rule for wait in made.waits if not wait.seen}
    told = effects(part for part in then.parts if part.rule not in asked)
    return told != effects(part for part in made.deed.parts if part.rule not in asked) or not waiting <= had


# -- rules that see them again --


Key: TypeAlias = tuple[str, str]
"""A rule and a key: of each there is one window."""


@dataclass(slots=True)
class _Open:
    """A window that is open, and the events that its templates can draw on."""

    span: Span
    marks: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    room: int = BYTES

    def collect(self, event: Event, mark: str) -> None:
        """Take an event in, as the store does."""
        self.marks.add(mark)
        if not self.events or (len(self.events) < BODIES and self.room >= len(event.body)):
            self.events.append(event)
            self.room -= len(event.body)
        else:
            self.room = -1


class Again:
    """
    Rules that see events again, in the order in which these came.

    An event's fate is told once all windows that can change it are over.
    """

    def __init__(self, rules: Ruleset) -> None:
        self.rules = rules
        self._open: dict[Key, _Open] = {}
        self._ends: list[tuple[Millis, str, str, str]] = []
        self._held: dict[str, tuple[Fate, int]] = {}  #: and how many windows may still add to it

    def sees(self, event: Event) -> list[Fate]:
        """Take in one event; return what has become certain."""
        now = event.received_at
        certain = self.until(now)
        made = plan(event, self.rules, now)
        acted: list[Deed] = []
        parts: list[Part] = []
        ended: list[str] = []
        opened = 0
        for wait in made.waits:
            entered_ = self._enter(event, wait, now, ended)
            opened += any(one.became is Became.OPENED for one in entered_.changes) and _tells(wait.window)
            if entered_.acts:
                acted.append(wait.deed)
            elif entered_.part is not None:
                parts.append(entered_.part)
        deed = together(made.deed, acted, parts)
        self._held[event.id] = (Fate(event.id, event.source, now, decided(made, deed), deed.parts), opened)
        certain += self._told(event.id)
        for opener in ended:
            certain += self._told(opener, over=True)
        return certain

    def until(self, now: Millis) -> list[Fate]:
        """End the windows that are over *now*; return what has become certain."""
        certain: list[Fate] = []
        while self._ends and self._ends[0][0] <= now:
            ends_at, rule, key, opened_by = heapq.heappop(self._ends)
            found = self._open.get((rule, key))
            if found is None or found.span.event != opened_by:
                continue  # it has acted, or what it expected came
            del self._open[rule, key]
            if _tells(found.span.kind):
                certain += self._told(opened_by, self._end(found, ends_at), over=True)
        return certain

    def _enter(self, event: Event, wait: Wait, now: Millis, ended: list[str]) -> Entered:
        """Let a window take in an event; *ended* gets the event that opened it, if it is over by that."""
        key = (wait.rule, wait.key)
        open_ = self._open.get(key)
        known = open_ is not None and wait.mark in open_.marks
        made = entered(open_.span if open_ else None, wait, event.id, now, known=known)
        if made.span is None:
            if open_ is not None:
                del self._open[key]
                if _tells(open_.span.kind):
                    ended.append(open_.span.event)
            return made
        if open_ is None:
            open_ = self._open[key] = _Open(made.span)
            heapq.heappush(self._ends, (made.span.ends_at, *key, event.id))
        open_.span = made.span
        if made.span.kind in LATE and not known and made.span.events > len(open_.marks):
            open_.collect(event, wait.mark or event.id)
        return made

    def _end(self, over: _Open, now: Millis) -> tuple[Part, ...]:
        """Return what a window that is over has to say of its first event."""
        if over.span.kind in LATE:
            return outcome(over.span, self.rules, over.events, now)[1].parts
        return discarded(over.span)[1].parts

    def _told(self, event: str, parts: Sequence[Part] = (), *, over: bool = False) -> list[Fate]:
        """Return an event's fate if no window is left that may add *parts* to it; *over*: one less."""
        fate, left = self._held.pop(event)
        fate, left = replace(fate, parts=(*fate.parts, *parts)), left - over
        if left:
            self._held[event] = fate, left
        return [] if left else [fate]


def _tells(kind: Window) -> bool:
    """Say whether a window's first event is told what came of it."""
    return kind is not Window.ONCE_WITHIN


def longest(*several: Ruleset | None) -> Millis:
    """Return how long the longest window of these rules is."""
    kinds = (
        kind for rules in several if rules for rule in rules.rules for kind in (rule.throttle, rule.expect)
    )
    return max((kind.ms for kind in kinds if kind), default=0)


def quiet(count: Callable[[Millis, Millis], int], begins: Millis, window: Millis) -> tuple[Millis, bool]:
    """
    Return from when on events must be seen for windows to be at *begins* as they were, and if that is sure.

    Windows follow one another in a busy time: where they began is sure only after a *window* in which nothing
    came, as *count* says of a time.
    """
    early = begins - window
    for _ in range(MOST_BACK if window else 0):
        if not count(early - window, early):
            return early, True
        early -= window
    return early, not window


MOST_BACK: Final = 50
"""Lengths of the longest window that replay looks back for a quiet one."""


# -- what differs --


@dataclass(frozen=True, slots=True)
class Difference:
    """An event of which something else becomes."""

    old: Fate
    new: Fate

    def lost(self) -> list[Effect]:
        """Return what became of it, and would not any more."""
        return sorted((effects(self.old.parts) - effects(self.new.parts)).elements())

    def gained(self) -> list[Effect]:
        """Return what did not become of it, and would."""
        return sorted((effects(self.new.parts) - effects(self.old.parts)).elements())


@dataclass(slots=True)
class Tally:
    """How many events of which kind there are."""

    same: int = 0
    different: int = 0
    get: int = 0  #: a call that they did not get
    lose: int = 0  #: a call that they got
    unsure: int = 0  #: a window that was open at the end decides
    unknown: int = 0  #: an earlier relay kept them, and not what became of them rule by rule
    lost: Counter[str] = field(default_factory=Counter)  #: parts by rule
    gained: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Return how many there are."""
        return self.same + self.different + self.unsure + self.unknown


class Comparison:
    """
    Past events, seen again by *new* rules, and by *old* ones or as they were decided then.

    It holds what it shows, at most so *many*, and what waits for windows; all else is only counted.
    """

    def __init__(self, new: Ruleset, old: Ruleset | None, *, since: Millis, many: int) -> None:
        self._sides = [(Again(old) if old else None), Again(new)]
        self._since, self._many = since, many
        self._pairs: dict[str, list[Fate | None]] = {}  #: of events whose fate is not certain on both sides
        self.tally = Tally()
        self.differences: list[Difference] = []  #: the first of them

    def take(self, row: Row) -> None:
        """Take in the next event; what came before *since* only opens windows."""
        if row["received_at"] >= self._since:
            then = stored(row)
            if self._sides[0] is None and then is None:
                self.tally.unknown += 1
            else:
                self._pairs[row["id"]] = [None if self._sides[0] else then, None]
        for number, side in enumerate(self._sides):
            if side is not None:
                self._certain(number, side.sees(again(row, side.rules)))

    def finish(self, now: Millis) -> None:
        """End the windows that are over *now*; what others decide is not certain."""
        for number, side in enumerate(self._sides):
            if side is not None:
                self._certain(number, side.until(now))
        self.tally.unsure += len(self._pairs)
        self._pairs.clear()

    def _certain(self, number: int, fates: Iterable[Fate]) -> None:
        for fate in fates:
            if (pair := self._pairs.get(fate.event)) is None:
                continue
            pair[number] = fate
            old, new = pair
            if old is not None and new is not None:
                del self._pairs[fate.event]
                self._count(Difference(old, new))

    def _count(self, found: Difference) -> None:
        lost, gained = found.lost(), found.gained()
        if not lost and not gained:
            self.tally.same += 1
            return
        self.tally.different += 1
        self.tally.lost.update(one.rule for one in lost)
        self.tally.gained.update(one.rule for one in gained)
        got, gets = _calls(found.old), _calls(found.new)
        self.tally.get += bool(gets - got)
        self.tally.lose += bool(got - gets)
        # An event that had to wait for a window comes late to its place.
        insort(self.differences, found, key=lambda one: one.old.event)
        del self.differences[self._many :]


def _calls(fate: Fate) -> set[tuple[str, str]]:
    """Return which calls are made for which resource, whichever rule asks for them."""
    return {
        (one.what, one.key) for one in fate.parts if one.does is Does.CALL and not one.why.startswith(UNSENT)
    }
