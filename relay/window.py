"""What does a rule's window make of an event?  It may act now, wait, or be passed over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from relay.clock import rfc3339
from relay.deed import Deed, Plan, Wait, joined, once
from relay.event import Decision, Does, Event, Millis, Part
from relay.plan import late, quietly
from relay.rule import Rule, Ruleset, Window

LATE: Final = frozenset({Window.ONCE_AFTER, Window.EXPECT})
"""Windows whose rule acts when they are over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An open window of one rule and key: from *opened_at* until *ends_at*, which is not in it any more."""

    rule: str
    key: str
    kind: Window
    event: str  #: the one that opened it
    events: int = 1  #: that count in it
    threshold: int = 1
    opened_at: Millis
    ends_at: Millis
    seen_at: Millis  #: when the last one that counts was seen to be so


class Became(StrEnum):
    """What happened to a window."""

    OPENED = "opened"
    ACTED = "acted"
    DISCARDED = "discarded"  #: it ended with fewer events than its threshold
    DROPPED = "dropped"  #: it ended, and the rules have it no longer


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to which window, and why."""

    became: Became
    span: Span
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """What an event is to a window."""

    span: Span | None = None  #: what is open from now on
    over: Span | None = None  #: what was open, and had ended when the event came
    acts: bool = False  #: the event's deed is done now
    part: Part | None = None  #: what it is if it does not act; None: nothing
    changes: tuple[Change, ...] = ()


def entered(
    open_: Span | None,
    wait: Wait,
    event: str,
    now: Millis,
    *,
    known: bool = False,
    seen_at: Millis | None = None,
) -> Entered:
    """
    Return what an *event* that comes *now* is to the window that is open for its rule and key.

    *known* says that one of its mark is in that window already; *seen_at* is when the event was seen to be
    so, if that was earlier.
    """
    span = wound_back(open_, now) if open_ else None
    over, changes = None, []
    if span is not None and (now >= span.ends_at or span.kind is not wait.window):
        over, span = span, None
        if over.kind is Window.ACCUMULATE_WITHIN:
            changes.append(Change(Became.DISCARDED, over, _too_few(over)))
    if wait.seen:
        part = _part(wait, Does.SEEN, f"what {span.event} expected") if span else None
        return Entered(over=over, part=part)
    if span is None:
        span = Span(
            rule=wait.rule,
            key=wait.key,
            kind=wait.window,
            event=event,
            threshold=wait.threshold,
            opened_at=now,
            ends_at=now + wait.ms,
            seen_at=now if seen_at is None else seen_at,
        )
        made = _opened(span, wait)
        if made.span is not None:
            changes.append(Change(Became.OPENED, made.span))
    else:
        made = _joined(span, wait, now if seen_at is None else seen_at, known=known)
    if made.acts:
        acting = made.span or (span if span.event == event else replace(span, events=span.events + 1))
        changes.append(Change(Became.ACTED, acting))
    return replace(made, over=over, changes=tuple(changes))


def wound_back(span: Span, now: Millis) -> Span:
    """Return a window as it is if the clock jumped back behind its beginning: as long, but from now."""
    behind = max(0, span.opened_at - now)
    return replace(span, opened_at=span.opened_at - behind, ends_at=span.ends_at - behind)


def _opened(span: Span, wait: Wait) -> Entered:
    """Return what the first event is to the window that it opens."""
    until = rfc3339(span.ends_at)
    match span.kind:
        case Window.ONCE_WITHIN:
            return Entered(span=span, acts=True)
        case Window.ACCUMULATE_WITHIN if span.threshold <= 1:
            return Entered(acts=True)
        case Window.ACCUMULATE_WITHIN:
            return Entered(span=span, part=_part(wait, Does.WAIT, f"1 of {span.threshold:,}, until {until}"))
        case Window.ONCE_AFTER:
            return Entered(span=span, part=_part(wait, Does.WAIT, f"acts with all that come until {until}"))
        case Window.EXPECT:
            why = f"acts unless what it expects comes until {until}"
            return Entered(span=span, part=_part(wait, Does.WAIT, why))


def _joined(span: Span, wait: Wait, seen_at: Millis, *, known: bool) -> Entered:
    """Return what a further event is to an open window."""
    until = rfc3339(span.ends_at)
    more = replace(span, events=span.events + 1, threshold=wait.threshold, seen_at=max(seen_at, span.seen_at))
    match span.kind:
        case Window.ONCE_WITHIN:
            return Entered(span=span, part=_part(wait, Does.THROTTLED, f"{span.event} acted, until {until}"))
        case Window.ACCUMULATE_WITHIN if more.events >= wait.threshold:
            # It acts with this one's threshold: the rules may have changed since the window was opened.
            return Entered(acts=True)
        case Window.ACCUMULATE_WITHIN:
            why = f"{more.events:,} of {wait.threshold:,}, until {until}"
            return Entered(span=more, part=_part(wait, Does.WAIT, why))
        case Window.ONCE_AFTER if known:
            why = f"one such waits with {span.event}, until {until}"
            return Entered(span=span, part=_part(wait, Does.THROTTLED, why))
        case Window.ONCE_AFTER:
            return Entered(span=more, part=_part(wait, Does.WAIT, f"acts with {span.event}, at {until}"))
        case Window.EXPECT:
            why = f"{span.event} waits for the same, until {until}"
            return Entered(span=span, part=_part(wait, Does.THROTTLED, why))


def _part(wait: Wait, does: Does, why: str) -> Part:
    return Part(rule=wait.rule, does=does, key=wait.key, why=why)


def _too_few(span: Span) -> str:
    return f"{span.events:,} of {span.threshold:,} came in time"


# -- an event as a whole --


def together(deed: Deed, acted: Sequence[Deed], parts: Sequence[Part]) -> Deed:
    """Return what is done at once, with what windows let act: the same call once, and no recovery of it."""
    whole = joined([deed, *acted, Deed(parts=tuple(parts))])
    if not acted:
        return whole
    failed = {(one.provider, one.key) for one in whole.failures}
    well = tuple(one for one in whole.recoveries if (one.provider, one.key) not in failed)
    gone = {(one.rule, one.key) for one in whole.recoveries} - {(one.rule, one.key) for one in well}
    told = tuple(
        one for one in whole.parts if one.does is not Does.RECOVER or (one.rule, one.key) not in gone
    )
    return replace(whole, failures=once(whole.failures), recoveries=well, parts=told)


def decided(plan: Plan, deed: Deed) -> Decision:
    """Say in a word what became of an event after its windows have spoken: *deed* is all of it."""
    does = {part.does for part in deed.parts}
    if not plan.waits or deed.failures or deed.recoveries or deed.says or does & {Does.WAIT, Does.SEEN}:
        return plan.decision
    return quietly(deed)  # what has no part by now was expected by nobody


# -- a window that is over --


def outcome(span: Span, rules: Ruleset, events: Sequence[Event], now: Millis) -> tuple[Change, Deed]:
    """Return what becomes of a window of `LATE` that has ended, by the rules in force."""
    rule = _named(rules).get(span.rule)
    if rule is None:
        return dropped(span, "the rules have no such rule any more")
    if kind_of(rule) is not span.kind:
        return dropped(span, f"the rule has no {span.kind.value} any more")
    return Change(Became.ACTED, span), late(rule, rules, events, now, span.events)


@lru_cache(maxsize=8)
def _named(rules: Ruleset) -> Mapping[str, Rule]:
    return {rule.name: rule for rule in rules.rules}


def kind_of(rule: Rule) -> Window | None:
    """Return which window a rule has."""
    if rule.expect is not None:
        return Window.EXPECT
    return rule.throttle.kind if rule.throttle else None


def dropped(span: Span, why: str) -> tuple[Change, Deed]:
    """Return what becomes of a window that can't act: its first event says so."""
    return Change(Became.DROPPED, span, why), Deed(parts=(_ended(span, f"dropped: {why}"),))


def discarded(span: Span) -> tuple[Change, Deed]:
    """Return what becomes of a window that ended with too few events."""
    change = Change(Became.DISCARDED, span, _too_few(span))
    return change, Deed(parts=(_ended(span, f"discarded: {change.why}"),))


def _ended(span: Span, why: str) -> Part:
    return Part(rule=span.rule, does=Does.THROTTLED, key=span.key, why=why)
