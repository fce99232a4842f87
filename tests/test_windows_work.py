"""Does the worker let windows act at their end, by the rules in force, and say what it did?"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from build import event, pattern, rule, ruleset
from conftest import Door
from steps import Bench, bench, retries
from test_watches import EVERY, Tower, key

from relay import over
from relay.deed import Deed, Plan, Wait
from relay.errors import StoreBusy
from relay.event import Decision, Millis
from relay.plan import plan
from relay.rule import Expect, Rule, Throttle, Window
from relay.store import Sighting, Store
from relay.window import outcome

MS = 60_000
FAILED: dict[str, Any] = {"topic": "job:failed", "context": {"jobId": "us_jb_1"}}
AFTER = rule(throttle=Throttle(kind=Window.ONCE_AFTER, ms=MS), tell="log", say="{$count}: {$events.*.n|json}")
FULL = rule(throttle=Throttle(kind=Window.ACCUMULATE_WITHIN, ms=MS, threshold=3))
EXPECTS = rule(
    expect=Expect(
        when=pattern({"topic": ["job:completed"]}), ms=MS, by="{context.jobId}", seen_by="{context.jobId}"
    )
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    """Open a fresh database."""
    with bench(tmp_path) as opened:
        yield opened


def comes(desk: Bench, number: int, rules: Rule = AFTER, **data: Any) -> None:
    """Let an event come in, as its body says."""
    body = FAILED | {"n": number} | data
    came = event(
        body, id=f"ev_{number}", digest=str(number), received_at=desk.clock.now, body=orjson.dumps(body)
    )
    made = plan(came, ruleset(rules), desk.clock.now)
    desk.do(Store.record, came, made, version="v", dedupe_ms=1)


def works(desk: Bench, rules: Rule, for_ms: Millis = MS) -> list[str]:
    """Let a worker work for so long; return whom it called, and for which resource."""
    desk.work(ruleset(rules), for_ms=for_ms)
    return [f"{call.rule} {call.key} {call.event}" for call in retries(desk)]


JOB = "retry jobs flatfile:job_id=us_jb_1"


def test_a_window_acts_at_its_end_with_all_that_came(desk: Bench) -> None:
    """One call for the first, with nobody but the window's own end to wake the worker."""
    for number in (1, 2, 3):
        comes(desk, number)

    assert [] == works(desk, AFTER, 50_000)
    assert [f"{JOB} ev_1"] == works(desk, AFTER, 10_000)
    assert ["3: [1,2,3]"] == [line["text"] for line in desk.said("rule.told", event_id="ev_1")]
    assert [3] == [line["events"] for line in desk.said("window.acted")]
    assert 1 == len(desk.said("case.opened"))


def test_what_did_not_come_is_called_for(desk: Bench) -> None:
    """And what came is not."""
    comes(desk, 1, EXPECTS)
    comes(desk, 2, EXPECTS, context={"jobId": "us_jb_2"})
    comes(desk, 3, EXPECTS, topic="job:completed")

    assert ["retry jobs flatfile:job_id=us_jb_2 ev_2"] == works(desk, EXPECTS)


def test_what_did_not_get_full_is_said_and_not_called_for(desk: Bench) -> None:
    """Two of three are too few."""
    comes(desk, 1, FULL)
    comes(desk, 2, FULL)

    assert [] == works(desk, FULL)
    assert [(2, "2 of 3 came in time")] == [
        (line["events"], line["why"]) for line in desk.said("window.discarded")
    ]


@pytest.mark.parametrize("now", [rule(name="other"), rule(), EXPECTS, FULL])
def test_a_window_that_the_rules_have_no_longer_is_dropped_and_that_is_said(desk: Bench, now: Rule) -> None:
    """Whatever stands in its place does not act for it."""
    comes(desk, 1)

    assert [] == works(desk, now)
    assert ["warning"] == [line["log_level"] for line in desk.said("window.dropped", rule="retry jobs")]
    assert [] == desk.store.spans()


def test_a_window_acts_by_the_rules_in_force_at_its_end(desk: Bench) -> None:
    """They may say something else by then."""
    comes(desk, 1)
    works(desk, replace(AFTER, say="changed"))
    assert ["changed"] == [line["text"] for line in desk.said("rule.told")]


def test_a_window_that_meets_a_bug_stops_nobody_else(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped, and the log has the traceback; the others act."""

    def broken(span: Any, *given: Any) -> Any:
        if span.key == "us_jb_1":
            raise KeyError("x")
        return outcome(span, *given)

    monkeypatch.setattr(over, "outcome", broken)
    comes(desk, 1, EXPECTS)
    comes(desk, 2, EXPECTS, context={"jobId": "us_jb_2"})

    assert ["retry jobs flatfile:job_id=us_jb_2 ev_2"] == works(desk, EXPECTS)
    assert [True] == [line["exc_info"] for line in desk.said("window.failed", event_id="ev_1")]
    assert 1 == len(desk.said("window.dropped", event_id="ev_1"))


def test_a_window_waits_for_room_on_the_disk(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be kept is tried again, and done once."""
    close, tries = Store.close, list[Millis]()

    def full(store: Store, *given: Any) -> Any:
        tries.append(given[-1])
        if len(tries) == 1:
            raise StoreBusy("the disk is full")
        return close(store, *given)

    monkeypatch.setattr(Store, "close", full)
    comes(desk, 1)

    assert [f"{JOB} ev_1"] == works(desk, AFTER, MS + 2_000)
    assert 1 == len(desk.said("store.busy"))
    assert [1_000] == [then - before for before, then in pairwise(tries)]


def test_more_windows_than_a_claim_hands_out_all_act_at_once(desk: Bench) -> None:
    """The worker comes again for the rest, without a rest of its own."""
    for number in range(120):
        comes(desk, number, EXPECTS, context={"jobId": f"us_jb_{number}"})

    assert 120 == len(works(desk, EXPECTS, MS + 1_000))
    assert 120 == len(desk.said("window.acted"))


# -- what watches see --


class Throttled(Tower):
    """A watch whose rule acts once a minute for each file."""

    def sighting(self, item: str) -> Sighting:
        """Return an item as an event that a window takes in."""
        acts = Deed(failures=(self.failed(item),))
        wait = Wait(rule="r", window=Window.ONCE_WITHIN, key=item, ms=EVERY // 2, deed=acts)
        return replace(super().sighting(item), plan=Plan(Decision.MATCHED, waits=(wait,)))


def test_what_a_watch_sees_passes_through_windows(store: Door) -> None:
    """Also when a file that is well again fails again."""
    tower = Throttled(store)
    told = [len(tower.page("f1", "f2").recorded), tower.told("f1", "f2")]
    tower.well("f1")
    told.append(tower.told("f1", "f2"))
    cases = [shown.case.key for shown in store(Store.cases)]

    assert [2, 0, 1] == told
    assert 2 == cases.count(key("f1"))
