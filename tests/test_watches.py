"""Does each failure that a list shows become one event, over pages, runs, restarts and recoveries?"""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from conftest import Door
from shore import failure
from test_store import LEASE, NOW, WEEK, delivery

from relay.call import Answered, Call, Claim, Kind, State, Step
from relay.case import Act, Failure, Move, Recovery, Stand
from relay.deed import Deed, Plan
from relay.engine import Row
from relay.event import Decision, Event, Trust
from relay.provider import Limit
from relay.rule import Watch
from relay.store import Run, Settled, Sighting, Slot, Store
from relay.store.watches import KEPT_RUNS, MISSED

EVERY = 60_000
FILES = Watch(
    name="failed files", provider="writer", listing="failed_files", source="writer", every_ms=EVERY,
    with_={"status": "failed"},
)  # fmt: skip


def key(item: str) -> str:
    return f"writer:file_id={item}"


class Tower:
    """A store with one watch, and a clock."""

    def __init__(self, store: Door) -> None:
        self.store, self.now, self.number = store, NOW, 0
        self.log = False
        self.dedupe_ms = 0
        self.same_bytes = False
        self.arm(FILES)

    def arm(self, *watches: Watch) -> None:
        """Start relay with these watches."""
        self.store(Store.sweep, self.now, everything=True)
        self.store(Store.arm, {watch.name: watch for watch in watches}, self.now)

    def claim(self) -> tuple[Claim, ...]:
        """Take what is due."""
        slots = {"writer": Slot(limit=Limit(), free=8, lease_ms=LEASE)}
        return self.store(Store.claim, slots, self.now, "a").claims

    def runs(self) -> list[Call]:
        """Return the runs that wait."""
        return [call for call in map(self._call, self.store.link.rows("runs", {})) if call]

    def _call(self, row: Row) -> Call | None:
        return next(iter(self.store(Store.calls, id=row["id"])), None)

    def page(self, *items: str, over: bool = True, why: str = "") -> Settled:
        """Read one page of the run that is due."""
        (held,) = (claim for claim in self.claim() if claim.call.kind is Kind.PAGE)
        end: dict[str, Any] = {"state": State.QUEUED, "due_at": self.now}
        if over:
            end = {"state": State.DONE, "settled_at": self.now}
        elif not why:
            end["values"] = {**held.call.values, "@page": 2}
        ended = replace(held.call, lease=None, why=why or "200: read", **end)
        attempt = replace(held.attempt, ended_at=self.now, outcome="done")
        run = Run(
            watch=FILES.name, seen_at=self.now, sightings=tuple(map(self.sighting, items)), version="v1",
            dedupe_ms=self.dedupe_ms, log=self.log, over=over, next_at=self.now + EVERY, why=why,
        )  # fmt: skip
        self.now += 7
        return self.store(Store.page, held, ended, attempt, Answered(), self.now, run=run)

    def sighting(self, item: str) -> Sighting:
        """Return an item as the failure that it may be."""
        self.number += 1
        seen = item if self.same_bytes else f"{item} {self.number}"
        event = Event(
            id=f"ev_w{self.number:06}", source="writer", type=None, delivery=None, received_at=self.now,
            digest=hashlib.sha256(seen.encode()).hexdigest(), verified=Trust.VERIFIED, body=seen.encode(),
        )  # fmt: skip
        return Sighting(
            item=item, event=event, plan=Plan(Decision.MATCHED, Deed(failures=(self.failed(item),)))
        )

    def failed(self, item: str, **policy: Any) -> Failure:
        """Return what the rule makes of a failed file."""
        given: dict[str, Any] = {"wait_ms": (0,), "retries": 9} | policy
        return replace(failure(key(item), **given), provider="writer")

    def event(self, *told: Failure | Recovery) -> Move:
        """Let an event be pushed."""
        self.number, self.now = self.number + 1, self.now + 1
        return self.store(
            Store.record, delivery(self.number, source="writer", received_at=self.now),
            Plan(Decision.MATCHED, Deed(
                failures=tuple(one for one in told if isinstance(one, Failure)),
                recoveries=tuple(one for one in told if isinstance(one, Recovery)),
            )), version="v1", dedupe_ms=WEEK,
        ).moves[0]  # fmt: skip

    def well(self, item: str) -> None:
        """Let an event say that a file is well."""
        self.event(Recovery(rule="retry jobs", provider="writer", key=key(item)))

    def told(self, *items: str, **more: Any) -> int:
        """Read a whole run; return how many events it made."""
        self.now += EVERY
        return len(self.page(*items, **more).recorded)

    def row(self) -> Row:
        """Return the watch as it stands."""
        row = self.store(Store.watch, FILES.name)
        assert row is not None
        return row


@pytest.fixture
def tower(store: Door) -> Tower:
    return Tower(store)


# -- arming --


def test_an_armed_watch_has_one_run_that_waits(tower: Tower) -> None:
    """It runs at once after the first start; however often relay starts, there is one run."""
    for _ in range(3):
        tower.arm(FILES)
        (run,) = tower.runs()
    assert (Kind.PAGE, FILES.name, "writer", "failed_files", {"status": "failed"}, Step.LOOK, NOW) == (
        run.kind, run.key, run.provider, run.action, run.values, run.step, run.due_at,
    )  # fmt: skip
    assert (None, None) == (run.event, run.case)
    tower.claim()
    tower.arm(FILES)

    assert [(run.id, State.QUEUED)] == [(one.id, one.state) for one in tower.runs()]


@pytest.mark.parametrize(
    "other",
    [{"listing": "all_files"}, {"with_": {"status": "error"}}, {"with_": {}}, {"provider": "docflow"}],
)
def test_a_watch_that_asks_otherwise_begins_anew(tower: Tower, other: dict[str, Any]) -> None:
    """The old run is withdrawn, and what it saw is no part of the new."""
    tower.page("a", over=False)
    (old,) = tower.runs()
    changed = replace(FILES, **other)
    tower.arm(changed)

    (run,) = tower.runs()
    assert old.id != run.id
    assert (changed.provider, changed.listing, changed.with_) == (run.provider, run.action, run.values)
    assert (None, 0, 0) == (tower.row()["run_at"], tower.row()["run_items"], tower.row()["run_fresh"])
    assert State.CANCELLED is tower.store(Store.calls, id=old.id)[0].state


def test_a_run_goes_on_after_a_restart(tower: Tower) -> None:
    """Where a run stands is in its call: a restart in between loses no page and begins none again."""
    tower.page("a", over=False)
    tower.arm(FILES)
    (run,) = tower.runs()
    assert {"status": "failed", "@page": 2} == run.values
    tower.page("b")

    assert (2, 2) == (tower.row()["items"], tower.row()["fresh"])
    assert {"status": "failed"} == tower.runs()[0].values


def test_a_watch_that_is_gone_leaves_nothing(tower: Tower) -> None:
    """What the rules no longer have is not asked, not shown, and remembers nothing; its cases go on."""
    tower.page("a")
    tower.arm()

    assert ([], [], ()) == (tower.runs(), tower.store(Store.watches), tower.claim()[:0])
    assert Stand.RETRYING is tower.store(Store.case, key("a"))[0].case.state
    tower.arm(FILES)
    assert 1 == tower.told("a")
    assert 1 == len(tower.store(Store.cases))


def test_two_runs_of_one_watch_become_one(tower: Tower) -> None:
    """Whatever was left by another node: after a start, and after a run, one waits."""
    (run,) = tower.runs()
    with tower.store.engine.group():
        row = tower.store.link.rows("call", {"id": run.id})[0]
        tower.store.link.rows("queue", row | {"id": "call_2"})
    tower.arm(FILES)
    assert [run.id] == [one.id for one in tower.runs()]
    with tower.store.engine.group():
        later = {"id": "call_3", "due_at": NOW + 5}
        tower.store.link.rows("queue", row | later)
    tower.page("a")

    assert ["call_3"] == [one.id for one in tower.runs()]


# -- what is new --


def test_each_item_is_told_once(tower: Tower) -> None:
    """However often a failed item is seen, in one page or in many runs, it is one event and one call."""
    assert 2 == tower.told("a", "b", "a")
    for _ in range(5):
        assert 0 == tower.told("b", "a")
    assert 1 == tower.told("a", "b", "c")

    assert 3 == len(tower.store(Store.events)) == len(tower.store(Store.cases))
    assert {1} == {row["calls"] for row in tower.store(Store.events)}
    (row,) = tower.store(Store.watches)
    assert (3, 1, 3) == (row["items"], row["fresh"], row["standing"])


def test_a_page_that_was_read_twice_tells_nothing_twice(tower: Tower) -> None:
    """A worker that lost its lease changes nothing; events and runs stay as they are."""
    (held,) = tower.claim()
    ended = replace(held.call, state=State.DONE, settled_at=tower.now, lease=None)
    attempt = replace(held.attempt, ended_at=tower.now, outcome="done")
    run = Run(watch=FILES.name, seen_at=NOW, sightings=(tower.sighting("a"),), over=True, next_at=NOW + 9)
    first = tower.store(Store.page, held, ended, attempt, None, NOW, run=run)
    second = tower.store(Store.page, held, ended, attempt, None, NOW, run=run)

    assert (True, 1) == (first.ours, len(first.recorded))
    assert (False, ()) == (second.ours, second.recorded)
    assert (1, 1) == (len(tower.runs()), len(tower.store(Store.events)))


def test_what_was_pushed_is_no_second_call(tower: Tower) -> None:
    """A webhook and a watch for one failure: the later of the two joins the case of the first."""
    tower.event(tower.failed("a"))
    (move,) = tower.page("a", "b").recorded[0].moves
    tower.event(tower.failed("b"))

    assert "joined" == move.moment.kind
    assert (2, 2) == (len(tower.store(Store.cases)), len(tower.store(Store.calls)))


def test_an_item_that_recovered_and_failed_again_is_new(tower: Tower) -> None:
    """It never left the list as we saw it: after a recovery, a page that was asked for later tells again."""
    tower.told("a")
    tower.now += 10
    tower.well("a")
    assert 1 == tower.told("a")
    assert 0 == tower.told("a")

    assert 2 == len(tower.store(Store.cases))
    assert Stand.RETRYING is tower.store(Store.case, key("a"))[0].case.state


def test_what_a_page_showed_before_the_recovery_is_no_news(tower: Tower) -> None:
    """A page that was asked for before the item recovered, and answered after it, opens no case."""
    tower.told("a")
    tower.now += EVERY
    (held,) = (claim for claim in tower.claim() if claim.call.kind is Kind.PAGE)
    run = Run(
        watch=FILES.name, seen_at=tower.now, sightings=(tower.sighting("a"), tower.sighting("b")), over=True
    )
    tower.event(tower.failed("b"))
    for item in ("a", "b"):
        tower.well(item)
    ended = replace(held.call, state=State.DONE, settled_at=tower.now, lease=None)
    attempt = replace(held.attempt, ended_at=tower.now, outcome="done")
    settled = tower.store(Store.page, held, ended, attempt, None, tower.now, run=run)

    assert ["stale"] == [move.moment.kind for one in settled.recorded for move in one.moves]
    assert {"recovered"} == {shown.case.state.value for shown in tower.store(Store.cases)}


@pytest.mark.parametrize("how", ["gave up", "closed", "live"])
def test_an_item_whose_case_has_not_recovered_is_not_told_again(tower: Tower, how: str) -> None:
    """What was given up, or closed by a person, stands in the list for ever and bothers nobody."""
    tower.told("a")
    case = tower.store(Store.case, key("a"))[0].case
    if how == "closed":
        tower.store(Store.act, case.id, Act.CLOSE, by="ada", why="", now=tower.now)
    elif how == "gave up":
        (held,) = (claim for claim in tower.claim() if claim.call.kind is Kind.RETRY)
        ended = replace(held.call, state=State.DEAD, settled_at=tower.now, lease=None)
        attempt = replace(held.attempt, ended_at=tower.now, outcome="dead")
        tower.store(Store.settle, held, ended, attempt, None, tower.now)

    assert [0, 0, 0] == [tower.told("a") for _ in range(3)]
    assert 1 == len(tower.store(Store.cases))


def test_an_item_of_a_case_that_was_taken_in_is_followed(tower: Tower) -> None:
    """Whatever case the resource goes on with: when that has recovered, a new failure is told."""
    tower.told("a")
    first = tower.store(Store.case, key("a"))[0].case
    with tower.store.engine.group():
        tower.store.link.rows("sighted", {
            "watch": FILES.name, "item": "a", "event_id": first.event, "case_id": None, "run_at": tower.now,
        })  # fmt: skip
    tower.well("a")

    assert 1 == tower.told("a")


@pytest.mark.parametrize("runs", range(1, MISSED + 1))
def test_an_item_has_left_when_two_runs_missed_it(tower: Tower, runs: int) -> None:
    """One run may miss what moved between pages; after two, the item is new when it comes back."""
    tower.told("a", "b")
    for _ in range(runs):
        tower.told("b")

    assert (runs == MISSED) == tower.told("a", "b")
    assert 2 == len(tower.store(Store.cases))  # its case is live: the new failure joined it


def test_only_complete_runs_miss_items(tower: Tower) -> None:
    """Pages that fail, or a run that is not over, let nothing be forgotten."""
    tower.told("a")
    tower.now += EVERY
    for _ in range(5):
        tower.page("b", over=False, why="500")

    assert ("500", 5) == (tower.row()["why"], tower.row()["failures"])
    assert 2 == tower.store(Store.watches)[0]["standing"]
    assert 0 == len(tower.page("a").recorded)
    assert ("", 0) == (tower.row()["why"], tower.row()["failures"])


def test_entries_of_a_log_are_told_once_for_ever(tower: Tower) -> None:
    """In a log an entry stays: that its case recovered does not make the entry new."""
    tower.log = True
    tower.told("evt_1")
    tower.now += 10
    tower.well("evt_1")

    assert 0 == tower.told("evt_1")
    assert 1 == tower.told("evt_1", "evt_2")


def test_a_delivery_that_is_known_is_told_when_it_no_longer_is(tower: Tower) -> None:
    """A second failure with the bytes of the first is a duplicate for a while, and lost for no longer."""
    tower.same_bytes, tower.dedupe_ms = True, 3 * EVERY
    tower.told("a")
    tower.now += 10
    tower.well("a")
    told = [tower.told("a") for _ in range(6)]

    assert 1 == sum(told)
    assert 2 == len(tower.store(Store.cases))


# -- what is kept, and shown --


def test_a_watch_shows_its_last_run(tower: Tower) -> None:
    """When it ran, how long it took, what it saw, how many it goes on seeing, and when it runs next."""
    tower.page("a", over=False)
    tower.page("b", "c")

    (row,) = tower.store(Store.watches)
    assert {
        "name": FILES.name, "provider": "writer", "listing": "failed_files", "armed_at": NOW, "run_at": None,
        "run_items": 0, "run_fresh": 0, "ran_at": NOW, "took_ms": 14, "items": 3, "fresh": 3, "failures": 0,
        "why": "",
        "standing": 3, "next_at": NOW + 7 + EVERY,
    } == row  # fmt: skip


def test_old_runs_are_dropped(tower: Tower) -> None:
    """The last runs and their tries stay to be looked at; they are no calls for people."""
    for _ in range(KEPT_RUNS + 15):
        tower.told()

    kept = tower.store.engine.link()
    assert KEPT_RUNS == len(kept.rows("old_runs", {"key": FILES.name, "kept": 0}))
    assert ([], {}) == (tower.store(Store.calls), tower.store(Store.counts))


def test_an_event_that_cannot_be_kept_keeps_nothing_of_its_page(tower: Tower) -> None:
    """A page is one transaction: what fails in it leaves the run as it was, to be read again."""
    (held,) = tower.claim()
    unfit: Any = {"n": {1}}
    deed = Deed(failures=(replace(tower.failed("b"), values=unfit),))
    broken = replace(tower.sighting("b"), plan=Plan(Decision.MATCHED, deed))
    run = Run(watch=FILES.name, seen_at=NOW, sightings=(tower.sighting("a"), broken), over=True)
    ended = replace(held.call, state=State.DONE, settled_at=NOW, lease=None)
    attempt = replace(held.attempt, ended_at=NOW, outcome="done")
    with pytest.raises(TypeError):
        tower.store(Store.page, held, ended, attempt, None, NOW, run=run)

    assert ([], State.RUNNING) == (tower.store(Store.events), tower.runs()[0].state)
