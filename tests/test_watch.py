"""Does a run of a watch see each failure once, page by page, whatever comes between?"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from build import NOW, action, listing, pattern, provider, reply, rule, ruleset
from steps import Bench, bench, retries

from relay.call import NEVER, Attempt, Call, Kind, State, Step
from relay.case import Policy
from relay.event import Millis
from relay.provider import Answer, Fault, Limit, Listing, Paging, Request, Shape, Value
from relay.reload import InForce
from relay.rule import Ruleset, Watch
from relay.source import Source
from relay.store import Store
from relay.work import Worker

MINUTE: Millis = 60_000
JOBS = Source(name="jobs", open=True, delivery=("body:delivery",), dedupe_ms=7 * 86_400_000)
NUMBERED = listing(paging=Paging(query="page"))
LOG = listing(
    log=True,
    shape=Shape(method="GET", path="/v1/events", query={"since": "{since}"}),
    paging=Paging(query="page"),
)
CUT = listing(paging=Paging(query="after", cursor="next"))


def rules(one: Listing = NUMBERED, *, limit: Limit | None = None, policy: Policy | None = None) -> Ruleset:
    """Return rules with one watch of one list, once a minute, whose items are failed jobs."""
    of = rule(
        sources=("jobs",),
        when=pattern({"status": "failed"}),
        with_={"job_id": "{id}"},
        policy=policy or Policy(),
    )
    where = provider(action(), listings={one.name: one}, limit=limit or Limit())
    watch = Watch(
        name="jobs that failed", provider="flatfile", listing=one.name, source="jobs", every_ms=MINUTE
    )
    return replace(ruleset(of, providers=(where,)), watches={watch.name: watch}, watched={"jobs": JOBS})


@dataclass
class Jobs:
    """A provider with a list of failed jobs, in pages; *turn_away* says what it answers instead."""

    jobs: list[dict[str, Any]]
    size: int = 100
    turn_away: Callable[[str], Answer | None] = lambda _: None
    asked: list[str] = field(default_factory=list)  #: the pages, as they were asked for
    since: list[str | None] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        """Answer."""
        url = urlsplit(request.url)
        if request.method == "POST":
            self.retried.append(url.path.split("/")[3])
            return reply(200)
        query = parse_qs(url.query)
        page = query.get("page", query.get("after", ["1"]))[0]
        self.asked.append(page)
        self.since.append(query.get("since", [None])[0])
        if (answer := self.turn_away(page)) is not None:
            return answer
        first = (int(page) - 1) * self.size
        return reply(200, {"data": self.jobs[first : first + self.size]})

    @property
    def reads(self) -> int:
        """How often it was asked for pages."""
        return len(self.asked)


def failed(count: int, **more: Any) -> list[dict[str, Any]]:
    """Return jobs that failed."""
    return [{"id": f"j{number}", "status": "failed", **more} for number in range(count)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as desk:
        yield desk


def arm(desk: Bench, of: Ruleset, jobs: Jobs) -> None:
    """Start relay's watches against a provider."""
    desk.answer = jobs
    desk.do(Store.arm, of.watches, desk.clock.now)


def row(desk: Bench) -> dict[str, Any]:
    """Return what the one watch has done."""
    (found,) = desk.store.watches()
    return found


def run_once(desk: Bench, of: Ruleset) -> dict[str, Any]:
    """Let the run that is due go to its end."""
    before = row(desk)["ran_at"]
    desk.clock.now = max(desk.clock.now, row(desk)["next_at"])
    desk.work(of, lambda: bool(row(desk)["ran_at"] != before))
    return row(desk)


def runs(desk: Bench) -> list[Call]:
    """Return the runs that wait or are out."""
    return [desk.store.calls(id=one["id"])[0] for one in desk.store._rows("runs", {})]


def pages_of(desk: Bench, call: Call) -> list[Attempt]:
    """Return a run's tries."""
    return desk.tries(call.id)


# -- pages --


def test_each_failed_item_is_told_once(desk: Bench) -> None:
    """250 jobs on three pages, seen by three runs: 250 events, 250 cases, 250 calls."""
    jobs, of = Jobs(failed(250)), rules()
    arm(desk, of, jobs)
    first = run_once(desk, of)
    desk.work(of)
    for _ in range(2):
        run_once(desk, of)

    assert ["1", "2", "3", "4"] * 3 == jobs.asked
    assert (250, 250) == (first["items"], first["fresh"])
    assert (250, 0, 250) == (row(desk)["items"], row(desk)["fresh"], row(desk)["standing"])
    assert {f"j{number}" for number in range(250)} == set(jobs.retried)
    assert 250 == len(jobs.retried) == len(desk.cases()) == len(desk.store.events(limit=1_000))


def test_a_run_goes_on_where_it_was_when_relay_died(desk: Bench) -> None:
    """Its page is on the disk: after a kill the page that was out is asked for again, not the first."""
    jobs, of = Jobs(failed(250)), rules(limit=Limit(every_ms=1_000, burst=1))
    arm(desk, of, jobs)
    desk.work(of, lambda: jobs.reads >= 2)
    (run,) = runs(desk)
    while not (claims := [one for one in desk.claim(of) if one.call.kind is Kind.PAGE]):
        desk.clock.now += 1_000  # what else is claimed dies with it
    assert ({"@page": 3}, run.id) == (
        {name: claims[0].call.values[name] for name in ("@page",)},
        claims[0].call.id,
    )
    desk.do(Store.sweep, desk.clock.now, everything=True)
    desk.do(Store.arm, of.watches, desk.clock.now)
    run_once(desk, of)

    assert ["1", "2", "3", "4"] == jobs.asked
    assert (250, 250) == (row(desk)["items"], row(desk)["fresh"])
    assert 250 == len(desk.cases()) == len(retries(desk))


def test_a_page_that_was_out_at_the_stop_is_asked_again(desk: Bench) -> None:
    """Nothing of it was kept, and it is no failure of the watch."""
    out, of = asyncio.Event(), rules()
    arm(desk, of, Jobs(failed(3)))

    async def send(request: Request) -> Answer:
        out.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def story() -> None:
        worker = Worker(InForce(of), desk.keep, send, clock=desk.clock)
        running = asyncio.create_task(worker.run())
        await out.wait()
        assert 1 == (await worker.stop(0)).given_back
        await running

    desk.run(story())
    assert (0, "") == (row(desk)["failures"], row(desk)["why"])
    assert 3 == run_once(desk, of)["fresh"]


def test_pages_pass_the_gate(desk: Bench) -> None:
    """A watch is held to the provider's limit like any other call."""
    jobs, of = Jobs(failed(450)), rules(limit=Limit(every_ms=1_000, burst=1))
    arm(desk, of, jobs)
    (run,) = runs(desk)
    run_once(desk, of)

    began = [one.began_at for one in pages_of(desk, run)]
    assert 6 == len(began)
    assert all(b - a >= 1_000 for a, b in pairwise(began))


def test_what_a_list_says_is_kept_in_its_events_only(desk: Bench) -> None:
    """A minute's watch would fill the disk with answers."""
    of = rules()
    arm(desk, of, Jobs(failed(3)))
    (run,) = runs(desk)
    run_once(desk, of)

    assert [("done", 200, b"")] * 2 == [(one.outcome, one.status, one.answer) for one in pages_of(desk, run)]


def test_the_next_run_begins_a_while_after_this_one_began(desk: Bench) -> None:
    """However long it took; and at once if it took longer than that."""
    of = rules(limit=Limit(every_ms=10_000, burst=1))
    arm(desk, of, Jobs([{"id": f"j{number}"} for number in range(150)]))
    began = run_once(desk, of)["ran_at"]
    assert NOW == began
    assert NOW + MINUTE == row(desk)["next_at"]

    desk.clock.now = NOW + MINUTE
    slow = rules(limit=Limit(every_ms=50_000, burst=1))
    ran = run_once(desk, slow)
    assert desk.clock.now - MINUTE < ran["ran_at"] + ran["took_ms"] == ran["next_at"]


# -- pages that fail --


@pytest.mark.parametrize(
    "answer",
    [
        reply(500),
        reply(429, retry_after="7"),
        reply(404),
        reply(200, b"<html>"),
        reply(200, {"items": []}),
        reply(200, {"data": []}, whole=False),
        Fault(why="no route", sent=False),
    ],
    ids=["500", "429", "404", "text", "no list", "cut", "unreachable"],
)
def test_a_page_that_fails_is_asked_again(desk: Bench, answer: Answer) -> None:
    """The same page, later and later; nothing is taken for gone; the log says it once, and once the end."""
    jobs, of = Jobs(failed(250)), rules()
    arm(desk, of, jobs)
    run_once(desk, of)
    left = [answer] * 3
    jobs.turn_away = lambda page: left.pop() if page == "2" and left else None
    run_once(desk, of)

    assert ["1", "2", "3", "4", "1", "2", "2", "2", "2", "3", "4"] == jobs.asked
    assert (250, 0, 250, 0, "") == tuple(
        row(desk)[name] for name in ("items", "fresh", "standing", "failures", "why")
    )
    (failing,) = desk.said("watch.failing")
    assert ("jobs that failed", "flatfile") == (failing["watch"], failing["provider"])
    assert failing["why"]
    assert 1 == len(desk.said("watch.recovered"))


def test_a_watch_that_fails_shows_it(desk: Bench) -> None:
    """How often in a row, and why, and it never dies: it waits longer and longer."""
    jobs, of = Jobs([]), rules()
    arm(desk, of, jobs)
    jobs.turn_away = lambda _: reply(404)
    desk.work(of, lambda: jobs.reads == 12)

    assert (12, None) == (row(desk)["failures"], row(desk)["ran_at"])
    assert "404" in row(desk)["why"]
    (waits,) = runs(desk)
    began = [one.began_at for one in pages_of(desk, waits)]
    gaps = [b - a for a, b in pairwise(began)]
    assert gaps == sorted(gaps)
    assert 450_000 == waits.due_at - began[-1]
    assert 1 == len(desk.said("watch.failing"))


def test_a_place_that_a_provider_has_forgotten_is_given_up(desk: Bench) -> None:
    """After six failures in a row the run begins again at the first page: a cursor may not live for ever."""
    jobs, of = Jobs(failed(250)), rules()
    arm(desk, of, jobs)
    left = [reply(400)] * 6
    jobs.turn_away = lambda page: left.pop() if page == "3" and left else None
    run_once(desk, of)

    assert ["1", "2", *["3"] * 6, "1", "2", "3", "4"] == jobs.asked
    assert (250, "") == (row(desk)["fresh"], row(desk)["why"])
    assert 250 == len(desk.store.events(limit=1_000))


def test_what_a_list_without_an_end_has_not_shown_is_not_gone(desk: Bench) -> None:
    """Its cursor does not move on: the run is not over, and nothing that stood in the list is forgotten."""
    jobs, of = Jobs(failed(3)), rules(CUT)
    arm(desk, of, jobs)
    assert 3 == run_once(desk, of)["standing"]
    jobs.turn_away = lambda _: reply(200, {"data": failed(1), "next": "1"})
    desk.work(of, lambda: jobs.reads == 9)

    assert (3, "next does not move on") == (row(desk)["standing"], row(desk)["why"])
    assert 1 == len(desk.said("watch.failing"))
    assert {"1"} == set(jobs.asked)
    began = [one.began_at for one in pages_of(desk, runs(desk)[0])]
    assert MINUTE <= began[-1] - began[-3] < 2 * MINUTE

    jobs.turn_away = lambda _: None
    run_once(desk, of)
    assert (3, 0) == (row(desk)["standing"], row(desk)["fresh"])
    assert 1 == len(desk.said("watch.recovered"))


def test_a_page_that_can_not_be_asked_for_waits_its_turn(desk: Bench) -> None:
    """A value that the rules no longer give: the watch says so, and sends nothing."""
    one = replace(
        NUMBERED,
        shape=Shape(method="GET", path="/v1/spaces/{space}/jobs"),
        values={"space": Value()},
    )
    of, jobs = rules(one), Jobs([])
    arm(desk, of, jobs)
    desk.work(of, for_ms=125_000)

    assert [] == jobs.asked
    assert "space is missing" in row(desk)["why"]
    assert 3 == row(desk)["failures"]
    assert 1 == len(desk.said("watch.failing"))


def test_items_that_can_not_be_read_are_counted_at_the_end(desk: Bench) -> None:
    """The others are told; the watch says how many were not, and what was wrong with the first."""
    odd = [{"status": "failed", "n": n} for n in range(2)]
    jobs, of = Jobs([*failed(100), odd[0], *failed(1, id="k"), odd[1]], size=102), rules()
    arm(desk, of, jobs)
    ran = run_once(desk, of)

    assert (101, 1) == (ran["fresh"], ran["failures"])
    assert "2 items not read: data[100]: id is missing" == ran["why"]
    assert ran["why"] == desk.said("watch.ran")[-1]["why"]


# -- what is no longer there --


@pytest.mark.parametrize("lost", ["watch", "listing"])
def test_a_run_of_what_is_gone_ends(desk: Bench, lost: str) -> None:
    """Nothing is asked, no run follows; the next start arms what the rules have."""
    jobs, of = Jobs(failed(1)), rules()
    arm(desk, of, jobs)
    (run,) = runs(desk)
    without = replace(of, watches={}) if lost == "watch" else ruleset()
    if lost == "listing":
        without = replace(without, watches=of.watches)
    desk.work(without)

    assert [] == jobs.asked
    (ended,) = desk.store.calls(id=run.id)
    assert State.DEAD is ended.state
    assert [] == runs(desk)
    desk.do(Store.arm, of.watches, desk.clock.now)
    assert 1 == run_once(desk, of)["fresh"]


def test_a_run_waits_like_any_other_call(desk: Bench) -> None:
    """A watch is one call at a time, that looks and has neither event nor case."""
    of = rules()
    arm(desk, of, Jobs([]))
    run_once(desk, of)
    (waits,) = runs(desk)
    assert (Kind.PAGE, Step.LOOK, None, None, {}) == (
        waits.kind,
        waits.step,
        waits.event,
        waits.case,
        waits.values,
    )
    assert waits.due_at < NEVER
    assert [] == retries(desk)
