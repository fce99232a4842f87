"""What a window of a rule makes of each event: at its edges, and against what each kind means."""

from dataclasses import replace
from typing import Any

import pytest
from build import NOW, event, pattern, rule, ruleset
from hypothesis import given
from hypothesis import strategies as st
from windows import MS, STEPS, THRESHOLD, Acted, Step, meaning, wait

from relay.case import Failure, Recovery
from relay.deed import Deed, Plan, Said, Wait
from relay.event import Decision, Does, Part
from relay.rule import Expect, Rule, Throttle, Window
from relay.window import (
    LATE,
    Became,
    Entered,
    Span,
    decided,
    discarded,
    entered,
    kind_of,
    outcome,
    together,
    wound_back,
)

KINDS = list(Window)
FIRST = Step(0, "a", "x", seen=False)
SEEN = Step(0, "a", "x", seen=True)


def span(kind: Window, **more: Any) -> Span:
    """Return a window that its first event has just opened."""
    given_: dict[str, Any] = {
        "rule": "r",
        "key": wait(kind, FIRST).key,
        "kind": kind,
        "event": "ev_1",
        "threshold": wait(kind, FIRST).threshold,
        "opened_at": NOW,
        "ends_at": NOW + MS,
        "seen_at": NOW,
    }
    return Span(**given_ | more)


def comes(open_: Span | None, kind: Window, at: int = 1, step: Step = FIRST, **more: Any) -> Entered:
    """Let a second event come, so long after the first."""
    return entered(open_, wait(kind, step), "ev_2", NOW + at, **more)


def became(made: Entered) -> list[str]:
    return [change.became.value for change in made.changes]


def does(made: Entered) -> Does | None:
    return made.part.does if made.part else None


# -- the first event --


@pytest.mark.parametrize(
    ("kind", "acts", "does_", "changes"),
    [
        (Window.ONCE_WITHIN, True, None, ["opened", "acted"]),
        (Window.ONCE_AFTER, False, Does.WAIT, ["opened"]),
        (Window.ACCUMULATE_WITHIN, False, Does.WAIT, ["opened"]),
        (Window.EXPECT, False, Does.WAIT, ["opened"]),
    ],
)
def test_the_first_event_opens_a_window(
    kind: Window, *, acts: bool, does_: Does | None, changes: list[str]
) -> None:
    """It is as long as the rule says; only of once_within does the rule act at once."""
    made = entered(None, wait(kind, FIRST), "ev_1", NOW)

    assert (span(kind), None, acts, does_) == (made.span, made.over, made.acts, does(made))
    assert changes == became(made)


def test_a_threshold_of_one_needs_no_window() -> None:
    """Each event makes it full."""
    made = entered(None, replace(wait(Window.ACCUMULATE_WITHIN, FIRST), threshold=1), "ev_1", NOW)
    assert (None, True, ["acted"]) == (made.span, made.acts, became(made))


# -- further events --


@pytest.mark.parametrize(
    ("kind", "does_", "events"),
    [
        (Window.ONCE_WITHIN, Does.THROTTLED, 1),
        (Window.ONCE_AFTER, Does.WAIT, 2),
        (Window.ACCUMULATE_WITHIN, Does.WAIT, 2),
        (Window.EXPECT, Does.THROTTLED, 1),
    ],
)
def test_a_further_event_does_not_move_the_end(kind: Window, does_: Does, events: int) -> None:
    """To the last millisecond it is part of the window, or passed over; the end stays where it was."""
    made = comes(span(kind), kind, MS - 1)

    assert made.span is not None
    assert (NOW, NOW + MS, events) == (made.span.opened_at, made.span.ends_at, made.span.events)
    assert (False, does_, None, []) == (made.acts, does(made), made.over, became(made))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [MS, MS + 1, 1_000 * MS])
def test_an_event_at_the_end_belongs_to_the_next_window(kind: Window, at: int) -> None:
    """A window is from its beginning until just before its end."""
    old = span(kind)
    made = comes(old, kind, at)

    assert made.over == old
    assert span(kind, event="ev_2", opened_at=NOW + at, ends_at=NOW + at + MS, seen_at=NOW + at) == made.span
    assert (kind is Window.ONCE_WITHIN) is made.acts
    assert (kind is Window.ACCUMULATE_WITHIN) is ("discarded" in became(made))


def test_the_event_that_makes_it_full_acts_and_ends_the_window() -> None:
    """The next one begins anew."""
    full = comes(span(Window.ACCUMULATE_WITHIN, events=THRESHOLD - 1), Window.ACCUMULATE_WITHIN)

    assert (None, None, True, None) == (full.span, full.over, full.acts, full.part)
    assert [(Became.ACTED, THRESHOLD)] == [(one.became, one.span.events) for one in full.changes]


@pytest.mark.parametrize("events", [1, THRESHOLD - 2])
def test_fewer_wait(events: int) -> None:
    """What counts is how many came, and how many it takes is said."""
    made = comes(span(Window.ACCUMULATE_WITHIN, events=events), Window.ACCUMULATE_WITHIN)
    assert made.part is not None
    assert made.part.why.startswith(f"{events + 1} of {THRESHOLD}, until 2023-11-14T22:13:21.000Z")


def test_the_rules_in_force_say_how_many_it_takes() -> None:
    """A threshold that was lowered meanwhile is met by what is there."""
    lower = replace(wait(Window.ACCUMULATE_WITHIN, FIRST), threshold=4)
    open_ = span(Window.ACCUMULATE_WITHIN, events=7, threshold=20)
    assert entered(open_, lower, "ev_2", NOW).acts


def test_of_one_mark_only_the_first_counts() -> None:
    """The window stays as it was."""
    old = span(Window.ONCE_AFTER)
    made = comes(old, Window.ONCE_AFTER, known=True)
    assert (old, Does.THROTTLED) == (made.span, does(made))


def test_a_mark_of_a_window_that_is_over_is_new() -> None:
    """What was known then counts again."""
    made = comes(span(Window.ONCE_AFTER), Window.ONCE_AFTER, MS, known=True)
    assert (Does.WAIT, ["opened"]) == (does(made), became(made))


def test_a_window_knows_when_its_last_event_was_seen() -> None:
    """What a list showed a while ago is no news of now; what does not count does not count here either."""
    made = comes(span(Window.ONCE_AFTER), Window.ONCE_AFTER, 9, seen_at=NOW + 5)
    late = comes(span(Window.ONCE_AFTER), Window.ONCE_AFTER, 9, seen_at=NOW - 5)
    passed = comes(span(Window.EXPECT), Window.EXPECT, 9)
    assert [NOW + 5, NOW, NOW] == [one.span.seen_at for one in (made, late, passed) if one.span]


# -- what is expected --


def test_what_is_expected_ends_the_window() -> None:
    """Nothing is done, and nothing waits."""
    made = comes(span(Window.EXPECT), Window.EXPECT, MS - 1, SEEN)
    assert (None, None, False, ()) == (made.span, made.over, made.acts, made.changes)
    assert Part(rule="r", does=Does.SEEN, key="a", why="what ev_1 expected") == made.part


def test_what_nobody_expects_is_nothing() -> None:
    """It opens no window, and is no part of anything."""
    assert Entered() == comes(None, Window.EXPECT, step=SEEN)


def test_what_comes_at_the_end_comes_too_late() -> None:
    """The rule has still to act."""
    old = span(Window.EXPECT)
    assert Entered(over=old) == comes(old, Window.EXPECT, MS, SEEN)


# -- clocks and rules that change --


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("back", [1, MS, 365 * 86_400_000])
def test_a_clock_that_jumps_back_makes_no_window_endless(kind: Window, back: int) -> None:
    """From the jump on, it lasts as long as it would have from its beginning."""
    made = comes(span(kind), kind, -back)
    assert made.span is not None
    assert (NOW - back, NOW - back + MS) == (made.span.opened_at, made.span.ends_at)


def test_a_window_that_began_before_stays_as_it_is() -> None:
    """Only a beginning that lies in the future is wrong."""
    assert span(Window.EXPECT) == wound_back(span(Window.EXPECT), NOW)


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_that_has_another_window_now_opens_it(old: Window, kind: Window) -> None:
    """What the old one took in is not part of it."""
    made = comes(span(old, key="a"), kind)
    assert (None if old is kind else span(old, key="a")) == made.over
    assert made.span is None or made.span.kind is kind


# -- an event as a whole --


def failure(key: str, job: str = "1") -> Failure:
    return Failure(rule="r", provider="p", action="retry", key=key, values={"job": job})


def test_the_same_call_by_two_rules_is_made_once() -> None:
    """Whether a window let one of them act or not."""
    deed = together(Deed(failures=(failure("a"),)), [Deed(failures=(failure("a"), failure("b", "2")))], [])
    assert ["a", "b"] == [one.key for one in deed.failures]


def test_what_a_window_calls_failed_is_not_well() -> None:
    """Of one resource an event may say both, by different rules: then it failed."""
    parts = tuple(Part(rule="w", does=Does.RECOVER, key=key) for key in "ab")
    well = Deed(recoveries=tuple(Recovery(rule="w", provider="p", key=key) for key in "ab"), parts=parts)

    deed = together(well, [Deed(failures=(failure("a"),))], [])

    assert (["b"], ["b"]) == ([one.key for one in deed.recoveries], [one.key for one in deed.parts])


DID = Deed(says=(Said(rule="r", channel="log", text="x"),))


@pytest.mark.parametrize(
    ("deed", "parts", "decision"),
    [
        (Deed(), [Does.THROTTLED, Does.THROTTLED], Decision.SUPPRESSED),
        (Deed(), [Does.THROTTLED, Does.WAIT], Decision.MATCHED),
        (Deed(), [Does.SEEN], Decision.MATCHED),
        (DID, [Does.THROTTLED], Decision.MATCHED),
        (Deed(failures=(failure("a"),)), [Does.THROTTLED], Decision.MATCHED),
        (Deed(), [Does.OLD, Does.THROTTLED], Decision.SUPPRESSED),
        (Deed(), [Does.THROTTLED, Does.IGNORE], Decision.IGNORED),
        (Deed(), [], Decision.NO_RULE),
    ],
)
def test_what_is_said_of_an_event(deed: Deed, parts: list[Does], decision: Decision) -> None:
    """It matched if anything is done or waits; what nobody expected met no rule."""
    plan = Plan(Decision.MATCHED, waits=(Wait(rule="r", window=Window.EXPECT, key="a"),))
    told = tuple(Part(rule="r", does=one) for one in parts)
    assert decision is decided(plan, replace(deed, parts=told))


def test_what_has_no_window_is_decided_already() -> None:
    """Nothing is said anew."""
    assert Decision.UNPARSABLE is decided(Plan(Decision.UNPARSABLE), Deed())


# -- at the end --

TELLS = rule(name="r", aims=(), tell="log", say="{$count} of {job}, {$events.*.job|json}")
AFTER = replace(TELLS, throttle=Throttle(kind=Window.ONCE_AFTER, ms=MS))
EXPECTS = replace(
    TELLS, say="no end of {job}", expect=Expect(when=pattern({"x": 1}), ms=MS, by="{job}", seen_by="{job}")
)


def test_at_the_end_the_rule_acts_with_all_events() -> None:
    """Also with those that are too many to be here: they are counted."""
    events = [event({"job": 1}), event({"job": 2})]
    change, deed = outcome(span(Window.ONCE_AFTER, events=5_000), ruleset(AFTER), events, NOW)
    assert (Became.ACTED, ["5000 of 1, [1,2]"]) == (change.became, [said.text for said in deed.says])


def test_at_the_end_the_rule_acts_if_nothing_came() -> None:
    """With the event that it had been waiting with."""
    change, deed = outcome(span(Window.EXPECT), ruleset(EXPECTS), [event({"job": 7})], NOW)
    assert (Became.ACTED, ["no end of 7"]) == (change.became, [said.text for said in deed.says])


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (replace(AFTER, name="other"), "the rules have no such rule any more"),
        (TELLS, "the rule has no once_after any more"),
        (EXPECTS, "the rule has no once_after any more"),
    ],
)
def test_a_window_that_the_rules_have_no_longer_is_dropped(now: Rule, why: str) -> None:
    """Nothing is done, and its first event says why."""
    change, deed = outcome(span(Window.ONCE_AFTER), ruleset(now), [event({"job": 1})], NOW)
    assert (Became.DROPPED, why, ()) == (change.became, change.why, deed.says)
    assert (Part(rule="r", does=Does.THROTTLED, why=f"dropped: {why}"),) == deed.parts


def test_a_rule_that_only_shows_by_now_does_nothing() -> None:
    """What it would have done stands with the event."""
    _, deed = outcome(span(Window.EXPECT), ruleset(replace(EXPECTS, shadow=True)), [event({"job": 7})], NOW)
    assert ((), [Does.SHADOW]) == (deed.says, [part.does for part in deed.parts])


def test_which_window_a_rule_has() -> None:
    """One, or none."""
    assert [None, Window.ONCE_AFTER, Window.EXPECT] == [kind_of(one) for one in (TELLS, AFTER, EXPECTS)]


def test_what_did_not_get_full_is_discarded() -> None:
    """It is said how many there were."""
    change, deed = discarded(span(Window.ACCUMULATE_WITHIN, events=2))
    assert (Became.DISCARDED, "2 of 3 came in time") == (change.became, change.why)
    assert ["discarded: 2 of 3 came in time"] == [part.why for part in deed.parts]


# -- against what it means --


@given(st.sampled_from(KINDS), STEPS)
def test_each_kind_does_what_it_means(kind: Window, steps: list[Step]) -> None:
    """Random events, with nobody who looks after windows in between."""
    at, open_, marks, acted = NOW, dict[str, Span](), set[str](), []
    for number, step in enumerate(steps):
        at += step.after
        one = wait(kind, step)
        made = entered(open_.pop(one.key, None), one, f"e{number}", at, known=one.mark in marks)
        if made.over is not None:
            marks.clear()
            acted += [Acted(made.over.event, made.over.events)] if kind in LATE else []
        if made.span is not None:
            open_[one.key] = made.span
            marks.add(one.mark)
        acted += [Acted(f"e{number}", change.span.events) for change in made.changes if made.acts][-1:]
    acted += [Acted(span.event, span.events) for span in open_.values() if kind in LATE]

    assert meaning(kind, steps) == sorted(acted)
