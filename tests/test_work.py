"""Does the worker keep what it claimed, whatever happens around it?"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from build import NOW, RESET, action, check, event, provider, reply, rule, ruleset
from steps import Bench, bench, fail, one_failure, retries, tried
from structlog.testing import capture_logs

from relay.call import Call, Kind, State
from relay.case import Act, Policy, Recovery, Stand
from relay.deed import Deed, Plan
from relay.engine import SQLite, reader
from relay.errors import StoreBusy
from relay.event import Decision, Millis
from relay.keep import Keeper
from relay.provider import Answer, Request
from relay.reload import InForce, tell_orphans
from relay.store import Store
from relay.work import Worker


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as desk:
        yield desk


# -- disks and ends --


def test_what_was_claimed_is_made_though_the_disk_is_full_right_after(tmp_path: Path) -> None:
    """A claim is an intent on the disk: it is made, also when the sweep that follows finds no room."""
    sent: list[Request] = []
    made = asyncio.Event()
    sweeps = 0
    keeper = Keeper(SQLite(tmp_path / "relay.db"))

    async def keep(method: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal sweeps
        sweeps += method is Store.sweep
        if method is Store.sweep and sweeps > 1:
            raise StoreBusy("the disk is full")
        return await keeper(method, *args, **kwargs)

    async def send(request: Request) -> Answer:
        sent.append(request)
        made.set()
        return reply(200)

    def clock() -> Millis:
        """Ten minutes pass between any two looks at it: there is always something to sweep."""
        clock.now += 600_000  # type: ignore[attr-defined]
        return clock.now  # type: ignore[attr-defined, no-any-return]

    async def story() -> None:
        await keeper(
            Store.record,
            event({}),
            Plan(Decision.MATCHED, Deed(failures=(one_failure(),))),
            version="v",
            dedupe_ms=1,
        )
        worker = Worker(InForce(ruleset(rule(), providers=(provider(),))), keep, send, clock=clock)  # type: ignore[arg-type]
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            await made.wait()
        await worker.stop(5)
        await running

    clock.now = NOW  # type: ignore[attr-defined]
    try:
        asyncio.run(story())
    finally:
        keeper.close()

    assert ["/v1/jobs/us_jb_1/retry"] == [urlsplit(one.url).path for one in sent]


def test_a_full_disk_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """After the grace, an answer that finds no room is let go: its call is unknown at the next start."""
    out = asyncio.Event()
    keeper = Keeper(SQLite(tmp_path / "relay.db"))

    async def keep(method: Any, *args: Any, **kwargs: Any) -> Any:
        if method is Store.settle:
            raise StoreBusy("the disk is full")
        return await keeper(method, *args, **kwargs)

    async def send(_: Request) -> Answer:
        out.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def story() -> None:
        await keeper(
            Store.record,
            event({}),
            Plan(Decision.MATCHED, Deed(failures=(one_failure(),))),
            version="v",
            dedupe_ms=1,
        )
        worker = Worker(InForce(ruleset(rule(), providers=(provider(),))), keep, send)  # type: ignore[arg-type]
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(5):
            await out.wait()
            await worker.stop(0)
            await running
        await keeper(Store.sweep, NOW, everything=True)

    try:
        asyncio.run(story())
    finally:
        keeper.close()

    (left,) = Store(reader(tmp_path / "relay.db")).calls()
    assert State.UNKNOWN is left.state


# -- looks, kinds --


def checked(desk: Bench) -> Call:
    """Return the check of the one case."""
    (found,) = [one for one in desk.calls() if one.kind is Kind.CHECK]
    return found


LOOKED = ruleset(providers=(provider(action(check=check())),))


def test_a_check_says_whether_it_helped(desk: Bench) -> None:
    """It asks with growing waits, while it runs; then the case has recovered, and the log says so."""
    desk.answer = lambda request: (
        reply(200, {"status": "recovered" if len(desk.sent) > 3 else "running"})
        if request.method == "GET"
        else reply(200)
    )
    fail(desk, one_failure(policy=Policy(looks=True)))
    desk.work(LOOKED, lambda: desk.cases()[0].ended_at is not None)

    assert ["look retry", "look retry", "look done"] == tried(desk, checked(desk))
    assert Stand.RECOVERED is desk.cases()[0].state
    (line,) = desk.said("case.recovered")
    assert line["took_ms"] == desk.clock.now - NOW


def test_a_deadline_is_acted_on_by_a_worker_with_nothing_else_to_do(desk: Bench) -> None:
    """Nothing says whether it recovered: a person is asked, and the log says so once."""
    fail(desk, one_failure(policy=Policy(recover_ms=3_600_000)))
    desk.work(ruleset(), for_ms=4_000_000)

    assert Stand.NEEDS_PERSON is desk.cases()[0].state
    assert 1 == len(desk.said("case.needs_person"))


def test_a_check_outlives_its_check(desk: Bench) -> None:
    """A file that has lost the action does not end what was taken: the case's deadline asks a person."""
    fail(desk, one_failure(policy=Policy(looks=True, recover_ms=3_600_000)))
    desk.work(LOOKED, lambda: bool(desk.sent))
    other = ruleset(providers=(provider(action(name="other")),))
    desk.work(other, lambda: desk.cases()[0].state is not Stand.WATCHING)

    assert Stand.NEEDS_PERSON is desk.cases()[0].state
    assert {"look retry"} == set(tried(desk, checked(desk)))
    assert 1 == len(desk.sent)


def test_a_retry_without_its_action_is_dead(desk: Bench) -> None:
    """It can't be made, and the case says so."""
    fail(desk, one_failure(action="lost"))
    desk.work(ruleset())

    (case,) = desk.cases()
    assert (Stand.GAVE_UP, "flatfile has no action lost any more") == (case.state, case.why)


def test_a_double_that_policy_allows_shows(desk: Bench) -> None:
    """The try that may have done it is unknown in the record, though the call was sent again."""
    desk.answer = lambda _: RESET if len(desk.sent) == 1 else reply(200)
    fail(desk, one_failure())
    resend = ruleset(providers=(provider(action(on_unknown="resend")),))
    desk.work(resend, lambda: retries(desk)[0].settled_at is not None)

    (call,) = retries(desk)
    assert ["send unknown", "send done"] == tried(desk, call)
    assert (2, 1) == (call.tries, call.doubts)


def test_a_case_that_ended_while_its_call_was_out_is_not_called_again(desk: Bench) -> None:
    """The answer asks for another try, but an event said that it is well: the call is cancelled, and said."""
    fail(desk, one_failure())

    async def story() -> None:
        recovery = Recovery(rule="retry jobs", provider="flatfile", key="flatfile:job_id=us_jb_1")

        async def send(request: Request) -> Answer:
            well = event({}, id="ev_2", digest="2")
            await desk.keep(
                Store.record,
                well,
                Plan(Decision.MATCHED, Deed(recoveries=(recovery,))),
                version="v",
                dedupe_ms=1,
            )
            return reply(503)

        worker = desk.worker(ruleset())
        worker._send = send
        await worker.run()
        await worker.stop(5)

    with_lines(desk, story())

    assert State.CANCELLED is retries(desk)[0].state
    assert Stand.RECOVERED is desk.cases()[0].state
    assert 1 == len(desk.said("call.settled", state="cancelled"))


def with_lines(desk: Bench, work: Any) -> None:
    """Run to an end, and keep what the log says."""
    with capture_logs() as lines:
        desk.run(work)
    desk.lines += lines


def test_a_storm_is_said_by_the_worker_that_ends_it(desk: Bench) -> None:
    """Many cases at once: one probe goes, and then ever more; the end is said once."""
    policy = Policy(storm_cases=3, looks=True)
    names = [f"j{number}" for number in range(12)]
    fail(desk, *(one_failure(key=name, values={"job_id": name}, policy=policy) for name in names))
    desk.answer = lambda one: reply(200, {"status": "recovered"})
    desk.work(LOOKED, for_ms=600_000)

    assert {Stand.RECOVERED} == {case.state for case in desk.cases()}
    assert 1 == len(desk.said("storm.ended"))


def test_what_a_person_lets_go_is_made(desk: Bench) -> None:
    """A held call goes out after the yes, and not before."""
    fail(desk, one_failure(policy=Policy(approve=True)))
    desk.work(ruleset(), for_ms=60_000)
    assert [] == desk.sent

    (case,) = desk.cases()
    desk.do(Store.act, case.id, Act.APPROVE, by="ann", why="", now=desk.clock.now)
    desk.work(ruleset())
    assert 1 == len(desk.sent)


# -- orphans --


def test_calls_of_a_provider_that_is_gone_are_said_at_the_start(desk: Bench) -> None:
    """Retries and checks that nobody will make, but not those that have ended or that a person holds."""
    fail(
        desk,
        one_failure(key="a", provider="gone"),
        one_failure(key="b", provider="gone"),
        one_failure(key="c", provider="gone", policy=Policy(approve=True)),
        one_failure(key="d"),
    )
    with_lines(desk, _orphans(desk))

    (line,) = desk.said("calls.orphaned")
    assert ("gone", 2) == (line["provider"], line["calls"])


async def _orphans(desk: Bench) -> None:
    tell_orphans(await desk.keep(Store.counts), ruleset())
