"""What does a watch tell: each failure once, a second one again, and what was pushed not twice?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from build import event
from steps import Bench, bench
from test_watch import JOBS, LOG, NUMBERED, Jobs, arm, failed, rules, run_once

from relay.case import Recovery, Stand
from relay.deed import Deed, Plan
from relay.event import Decision, Trust
from relay.log import scrub
from relay.plan import plan
from relay.rule import Ruleset
from relay.secret import Secret
from relay.store import Store
from relay.unpack import read


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as desk:
        yield desk


def push(desk: Bench, of: Ruleset, body: bytes) -> bool:
    """Let the provider tell by itself, and say whether that was a duplicate."""
    came = read(JOBS, {}, body, Trust.VERIFIED, desk.clock.now)
    made = plan(came, of, desk.clock.now)
    told = desk.do(Store.record, came, made, version="v", dedupe_ms=JOBS.dedupe_ms)
    return bool(told.duplicate)


# -- what is new --


def test_a_second_failure_of_the_same_bytes_is_told(desk: Bench) -> None:
    """Its case recovered, and the list shows it again, looking just as before: a new event, a new call."""
    jobs, of = Jobs(failed(1)), rules()
    arm(desk, of, jobs)
    run_once(desk, of)
    desk.work(of)
    (case,) = desk.cases()
    assert Stand.WATCHING is case.state
    desk.clock.now += 1_000
    well = event({"status": "well"}, id="ev_well", digest="w", received_at=desk.clock.now)
    recovery = Recovery(rule=case.rule, provider=case.provider, key=case.key)
    desk.do(
        Store.record, well, Plan(Decision.MATCHED, Deed(recoveries=(recovery,))), version="v", dedupe_ms=1
    )
    run_once(desk, of)
    desk.work(of, for_ms=400_000)  # the second retry of a resource waits for a while

    assert [Stand.RECOVERED, Stand.WATCHING] == [one.state for one in desk.cases()]
    assert ["j0", "j0"] == jobs.retried


def test_what_was_pushed_with_its_own_id_is_the_same_event(desk: Bench) -> None:
    """A webhook and the list tell of one delivery: whoever comes second is a duplicate."""
    jobs, of = Jobs(failed(1, delivery="d1")), rules()
    arm(desk, of, jobs)
    assert not push(desk, of, b'{"delivery":"d1","id":"j0","status":"failed"}')
    run_once(desk, of)
    desk.work(of)

    assert 1 == len(desk.store.events())
    assert ["j0"] == jobs.retried

    jobs.jobs = [{"id": "j1", "status": "failed", "delivery": "d2"}]
    run_once(desk, of)
    desk.clock.now += 3_600_000
    assert push(desk, of, b'{"delivery":"d2","id":"j1","status":"failed"}')


def test_what_was_pushed_without_an_id_joins_the_case(desk: Bench) -> None:
    """The same bytes are not the same sighting: two events, and still one call."""
    jobs, of = Jobs(failed(1)), rules()
    arm(desk, of, jobs)
    assert not push(desk, of, b'{"id":"j0","status":"failed"}')
    run_once(desk, of)
    desk.work(of)

    assert 2 == len(desk.store.events())
    assert 1 == len(desk.cases())
    assert ["j0"] == jobs.retried


def test_two_items_with_the_same_event_are_two_events(desk: Bench) -> None:
    """A list may make of its items what tells nothing of their ids: each is told."""
    of = rules(replace(NUMBERED, event={"status": "failed", "id": "all"}))
    arm(desk, of, Jobs(failed(2)))
    run_once(desk, of)

    assert 2 == len(desk.store.events())
    assert 1 == len(desk.cases())


def test_an_item_is_asked_for_by_us_and_says_no_secret(desk: Bench) -> None:
    """Its event is verified; what the source redacts and what we know for a secret is not kept."""
    scrub.learn([Secret("sk_of_this_test_only", "env:X")])
    of = rules()
    of = replace(of, watched={"jobs": replace(JOBS, redact=("token",))})
    arm(desk, of, Jobs(failed(1, token="t0ken", note="with sk_of_this_test_only")))
    run_once(desk, of)

    (kept,) = desk.store.events()
    assert "verified" == kept["verified"]
    assert b"t0ken" not in kept["body"]
    assert b"sk_of_this_test_only" not in kept["body"]


# -- logs, and the log --


def test_a_log_is_read_from_a_little_before_the_last_run(desk: Bench) -> None:
    """All pages of a run from the same time on; the first from a little before the watch was made."""
    jobs, of = Jobs(failed(150)), rules(LOG)
    arm(desk, of, jobs)
    for _ in range(3):
        run_once(desk, of)
    first, second = "2023-11-14T22:03:20.000Z", "2023-11-14T22:04:20.000Z"

    assert [first] * 3 + [first] * 3 + [second] * 3 == jobs.since
    assert 150 == len(desk.store.events(limit=1_000))


def test_a_run_is_said_in_one_line(desk: Bench) -> None:
    """With what it saw; each new event is said as if it had been pushed; no line for each page."""
    of = rules()
    arm(desk, of, Jobs(failed(2)))
    run_once(desk, of)

    (line,) = desk.said("watch.ran")
    assert ("jobs that failed", "flatfile", 2, 2, 0, None) == tuple(
        line[name] for name in ("watch", "provider", "items", "fresh", "took_ms", "why")
    )
    taken = desk.said("event.taken", watch="jobs that failed", source="jobs", verified="verified")
    assert 2 == len(taken)
    assert {case.id for case in desk.cases()} == {case for one in taken for case in one["cases"]}
    assert 2 == len(desk.said("case.opened"))
    pages = [one for one in desk.said("call.settled") if one["event_id"] is None]
    assert {"debug"} == {one["log_level"] for one in pages}
