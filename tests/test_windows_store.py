"""Does the store keep windows of rules, and let each act once, whatever the clock does?"""

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from conftest import Door
from hypothesis import given, settings
from hypothesis import strategies as st
from shore import failure
from test_store import NOW, WEEK, delivery, slots
from windows import MS, STEPS, THRESHOLD, Acted, Step, meaning, wait

from relay.deed import Deed, Plan, Wait
from relay.engine import SQLite
from relay.event import Decision, Does, Part
from relay.rule import Window
from relay.store import Claimed, Closed, Recorded, Store
from relay.store.windows import BODIES, BYTES, ENDED, QUIET
from relay.window import LATE, Became, Change, Span

KINDS = list(Window)


class Sill:
    """A store with a clock, into which events of windows come."""

    def __init__(self, store: Door) -> None:
        self.store, self.now, self.number, self.changes = store, NOW, 0, list[Change]()

    def comes(self, *waits: Wait, body: bytes | None = None, **more: Any) -> Recorded:
        """Let an event come."""
        self.number += 1
        event = delivery(self.number, received_at=self.now, **({"body": body} if body else {}))
        plan = Plan(Decision.MATCHED, more.pop("deed", Deed()), waits)
        recorded = self.store(Store.record, event, plan, version="v1", dedupe_ms=WEEK, **more)
        self.changes += recorded.windows
        return recorded

    def of(self, kind: Window, key: str = "a", mark: str = "", **more: Any) -> Recorded:
        """Let an event come that a window takes in; each has a mark of its own if none is said."""
        step = Step(0, key, mark or f"m{self.number}", seen=more.pop("seen", False))
        return self.comes(replace(wait(kind, step), deed=fails(f"job {self.number + 1}")), **more)

    def claim(self) -> Claimed:
        """Look after what has ended."""
        claimed = self.store(Store.claim, slots(free=100), self.now, "a")
        self.changes += claimed.windows
        return claimed

    def close(self, span: Span) -> Closed:
        """Let a window act at its end."""
        return self.store(Store.close, span, fails(f"end of {span.event}"), self.now)

    def parts(self, event: str) -> list[tuple[str, str]]:
        """Return what became of an event."""
        (row,) = self.store(Store.events, id=event)
        return [(part["does"], part["why"]) for part in row["parts"]]

    def spans(self) -> list[tuple[str, int]]:
        """Return the windows that stand: by whom they were opened, and how many are in them."""
        return [(row["event_id"], row["events"]) for row in self.store(Store.spans)]

    def cases(self) -> list[str]:
        """Return what was called failed."""
        return sorted(shown.case.key for shown in self.store(Store.cases))

    def became(self) -> list[str]:
        """Return what happened to windows, in order."""
        return [change.became.value for change in self.changes]


def fails(key: str) -> Deed:
    part = Part(rule="r", does=Does.CALL, what="flatfile.retry", key=key)
    return Deed(failures=(replace(failure(key), values={"job_id": key}),), parts=(part,))


@pytest.fixture
def sill(store: Door) -> Sill:
    """Return a store into which nothing has come yet."""
    return Sill(store)


# -- each kind, from event to end --


def test_once_within_acts_at_once_and_then_passes_over(sill: Sill) -> None:
    """What acts is done in the event's own transaction; the row of each event says what became of it."""
    first, second = sill.of(Window.ONCE_WITHIN), sill.of(Window.ONCE_WITHIN)
    sill.now += MS
    third = sill.of(Window.ONCE_WITHIN)

    assert [1, 0, 1] == [len(one.moves) for one in (first, second, third)]
    assert ["matched", "suppressed", "matched"] == [one.decision for one in (first, second, third)]
    assert ["job 1", "job 3"] == sill.cases()
    assert [("call", "")] == sill.parts(first.event)
    assert [("throttled", f"{first.event} acted, until 2023-11-14T22:13:21.000Z")] == sill.parts(second.event)
    assert "suppressed" == sill.store(Store.events, id=second.event)[0]["decision"]


def test_keys_have_windows_of_their_own(sill: Sill) -> None:
    """As in ansible-rulebook's own example: two keys, twenty rounds, a window for each in turn."""
    for _ in range(20):
        for key in ("dev", "prod"):
            sill.of(Window.ONCE_WITHIN, key)
        sill.now += MS // 4

    # Twenty rounds, four to a window: five times for each key.
    assert 2 * 5 == len(sill.cases()) == sill.became().count("acted")


def test_twenty_rounds_in_one_window_act_once_for_each_key(sill: Sill) -> None:
    """The same rounds with a window that is longer than all of them."""
    for _ in range(20):
        for key in ("dev", "prod"):
            sill.of(Window.ONCE_WITHIN, key)
        sill.now += 1

    assert ["job 1", "job 2"] == sill.cases()


def test_once_after_acts_once_for_all(sill: Sill) -> None:
    """Nothing happens before the end; there it acts for all that came, and the first says what was done."""
    for mark in ("one", "two", "one", "three"):
        sill.of(Window.ONCE_AFTER, mark=mark)
    early = sill.claim()
    sill.now += MS
    (span,) = sill.claim().over
    events = sill.store(Store.collected, span)
    closed = sill.close(span)

    assert ((), NOW + MS) == (early.over, early.ask_at)
    assert (3, ["ev_000001", "ev_000002", "ev_000004"]) == (span.events, [one.id for one in events])
    assert (True, "end of ev_000001") == (closed.ours, closed.moves[0].case.key)
    assert ["wait", "call"] == [does for does, _ in sill.parts("ev_000001")]
    assert (Closed(ours=False), [], ["end of ev_000001"]) == (sill.close(span), sill.spans(), sill.cases())


def test_as_many_as_the_threshold_act_at_once(sill: Sill) -> None:
    """The event that makes it full acts, in its own transaction; then it begins anew."""
    for _ in range(2 * THRESHOLD + 1):
        sill.of(Window.ACCUMULATE_WITHIN)

    assert ["job 3", "job 6"] == sill.cases()
    assert [("ev_000007", 1)] == sill.spans()


@pytest.mark.parametrize("looked", [True, False])
def test_fewer_are_discarded_and_that_is_said(sill: Sill, *, looked: bool) -> None:
    """Whether a worker looks after it or the next event comes first."""
    first = sill.of(Window.ACCUMULATE_WITHIN)
    sill.of(Window.ACCUMULATE_WITHIN)
    sill.now += MS
    if looked:
        assert () == sill.claim().over
        assert [] == sill.spans()
    sill.of(Window.ACCUMULATE_WITHIN)

    assert (["opened", "discarded", "opened"], []) == (sill.became(), sill.cases())
    assert ("throttled", "discarded: 2 of 3 came in time") == sill.parts(first.event)[-1]
    assert [("ev_000003", 1)] == sill.spans()


def test_what_is_expected_and_comes_is_the_end_of_it(sill: Sill) -> None:
    """No other key is touched."""
    sill.of(Window.EXPECT, "a")
    sill.of(Window.EXPECT, "b")
    seen = sill.of(Window.EXPECT, "a", seen=True)
    sill.now += MS

    assert ["ev_000002"] == [span.event for span in sill.claim().over]
    assert [("seen", "what ev_000001 expected")] == sill.parts(seen.event)


def test_a_heartbeat_ends_one_window_and_opens_the_next(sill: Sill) -> None:
    """One event may be both; the rule acts as soon as one is missing."""
    beat = Step(0, "a", "", seen=False)
    for _ in range(3):
        sill.comes(wait(Window.EXPECT, replace(beat, seen=True)), wait(Window.EXPECT, beat))
        sill.now += MS - 1

    assert [("ev_000003", 1)] == sill.spans()
    sill.now += 1
    assert ["ev_000003"] == [span.event for span in sill.claim().over]


def test_what_nobody_expects_met_no_rule(sill: Sill) -> None:
    """Its row says so."""
    alone = sill.of(Window.EXPECT, seen=True)
    assert (Decision.NO_RULE, [], []) == (alone.decision, sill.parts(alone.event), sill.spans())


# -- once, and not for nothing --


def test_a_duplicate_changes_no_window(sill: Sill) -> None:
    """It is told which event it was before."""
    sill.of(Window.ACCUMULATE_WITHIN)
    sill.number -= 1
    again = sill.of(Window.ACCUMULATE_WITHIN)
    assert (True, [("ev_000001", 1)]) == (again.duplicate, sill.spans())


@pytest.mark.parametrize("kind", sorted(LATE))
def test_what_comes_after_the_end_finds_a_window_of_its_own(sill: Sill, kind: Window) -> None:
    """Also where nobody has looked after the old one yet: each acts for itself."""
    sill.of(kind)
    sill.now += MS
    sill.of(kind)
    (old,) = sill.claim().over
    sill.now += MS
    both = sill.claim().over

    assert ["ev_000001", "ev_000002"] == [span.event for span in both]
    assert [True, True, False] == [sill.close(span).ours for span in (*both, old)]
    assert ["end of ev_000001", "end of ev_000002"] == sill.cases()


def test_what_comes_too_late_does_not_keep_a_rule_from_acting(sill: Sill) -> None:
    """The window had ended, though nobody had looked after it."""
    sill.of(Window.EXPECT)
    sill.now += MS
    sill.of(Window.EXPECT, seen=True)
    assert ["ev_000001"] == [span.event for span in sill.claim().over]


@pytest.mark.parametrize("kind", sorted(LATE))
def test_a_window_that_has_changed_is_not_closed(sill: Sill, kind: Window) -> None:
    """A clock that jumped back let another event in, after the window was taken for ended."""
    sill.of(kind)
    sill.now += MS
    (span,) = sill.claim().over
    sill.now -= MS
    sill.of(kind, seen=True)
    assert (Closed(ours=False), []) == (sill.close(span), sill.cases())


def test_a_window_whose_end_can_not_be_kept_stands_as_before(sill: Sill) -> None:
    """Its row goes in the same transaction in which it acts."""
    sill.of(Window.ONCE_AFTER)
    sill.now += MS
    (span,) = sill.claim().over
    broken = Deed(failures=(replace(failure(), provider=None),))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        sill.store(Store.close, span, broken, sill.now)

    assert (span,) == sill.claim().over
    assert 1 == len(sill.store(Store.collected, span))


# -- clocks --


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_is_endless_after_a_clock_jumped_back(sill: Sill, kind: Window) -> None:
    """A year back: it ends as long after that as it would have from its beginning."""
    sill.of(kind)
    sill.now -= 365 * 86_400_000
    asks = sill.claim().ask_at
    sill.now += MS
    over = sill.claim().over

    assert kind is Window.ONCE_WITHIN or sill.now == asks
    assert (1 if kind in LATE else 0) == len(over)
    assert ([] if kind not in LATE else [("ev_000001", 1)]) == sill.spans()


def test_a_window_goes_by_when_its_event_is_kept(sill: Sill) -> None:
    """What a watch brings is kept a while after the list was asked for."""
    sill.of(Window.ONCE_AFTER, now=NOW + 7, seen_at=NOW - 7)
    (row,) = sill.store(Store.spans)
    assert (NOW + 7, NOW + 7 + MS, NOW - 7) == (row["opened_at"], row["ends_at"], row["seen_at"])


def test_nobody_is_woken_when_nothing_happens(sill: Sill) -> None:
    """The end of once_within brings nothing about: it is taken away by the way."""
    sill.of(Window.ONCE_WITHIN)
    assert sill.now + MS != sill.claim().ask_at
    sill.now += MS
    sill.claim()
    assert 0 == len(sill.store(Store.spans, -1))


# -- many --


def test_a_window_of_ten_thousand_events_is_one_act(store: Door) -> None:
    """All are counted, the first thousand are given to templates."""
    with store.engine.group(), store.engine.job():
        one = Store(store.link)
        for number in range(10_000):
            took = wait(Window.ONCE_AFTER, Step(0, "a", f"m{number}", seen=False))
            one.record(
                delivery(number), Plan(Decision.MATCHED, waits=(took,)), version="v", dedupe_ms=1, now=NOW
            )
    sill = Sill(store)
    sill.now += MS
    (span,) = sill.claim().over
    events = store(Store.collected, span)

    assert (10_000, BODIES) == (span.events, len(events))
    assert [f"ev_{number:06d}" for number in range(BODIES)] == [event.id for event in events]
    assert sill.close(span).ours
    assert (Claimed, []) == (type(sill.claim()), store.link.rows("collected", _asks(span)))


def _asks(span: Span) -> dict[str, object]:
    return {"rule": span.rule, "opened_by": span.event, "limit": 1}


def test_long_bodies_are_given_to_templates_only_as_far_as_memory_allows(sill: Sill) -> None:
    """The first is always there."""
    for size in (BYTES + 1, 10):
        sill.of(Window.ONCE_AFTER, body=orjson.dumps("x" * size))
    sill.now += MS
    (span,) = sill.claim().over
    assert ["ev_000001"] == [event.id for event in sill.store(Store.collected, span)]


def test_many_windows_that_end_at_once_are_handed_out_in_turns(store: Door) -> None:
    """No claim has more than it can bear, and the worker is told to come again at once."""
    sill, most = Sill(store), max(ENDED, QUIET)
    with store.engine.group(), store.engine.job():
        one = Store(store.link)
        for number in range(most + 1):
            waits = [
                wait(kind, Step(0, f"k{number}", "", seen=False))
                for kind in (Window.ONCE_WITHIN, Window.EXPECT)
            ]
            waits[0] = replace(waits[0], rule="other")
            one.record(
                delivery(number),
                Plan(Decision.MATCHED, waits=tuple(waits)),
                version="v",
                dedupe_ms=1,
                now=NOW,
            )
    sill.now += MS
    claimed = sill.claim()
    kinds = Counter(row["kind"] for row in sill.store(Store.spans, -1, limit=10_000))

    assert ENDED == len(claimed.over)
    assert claimed.ask_at is not None
    assert claimed.ask_at <= sill.now
    assert {"once_within": most + 1 - QUIET, "expect": most + 1} == dict(kinds)


# -- against what it means --


@settings(max_examples=60)
@given(st.sampled_from(KINDS), STEPS, st.sets(st.integers(0, 25)))
def test_each_kind_does_what_it_means(kind: Window, steps: list[Step], looks: set[int]) -> None:
    """Random events, with a worker that comes by now and then: what acts does so once, with as many."""
    with TemporaryDirectory() as folder, closing(SQLite(Path(folder) / "relay.db")) as engine:
        sill, acted = Sill(Door(engine)), list[Acted]()

        def look() -> None:
            for span in sill.claim().over:
                assert sill.close(span).ours
                acted.append(Acted(span.event, span.events))

        for number, step in enumerate(steps):
            sill.now += step.after
            event = sill.comes(wait(kind, step))
            acted += [
                Acted(event.event, change.span.events)
                for change in event.windows
                if change.became is Became.ACTED
            ]
            if number in looks:
                look()
        sill.now += MS
        look()

    named = [replace(one, event=f"e{int(one.event[3:]) - 1}") for one in acted]
    assert meaning(kind, steps) == sorted(named)
