"""Does one commit serve many, and does every waiter learn the truth when it fails?"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apsw
import pytest
from test_store import NOW, WEEK, delivery, owed, recording

from relay.deed import Plan
from relay.engine import Engine, Link
from relay.errors import StoreBusy, StoreError
from relay.event import Decision
from relay.keep import GROUP, Keeper
from relay.store import Recorded, Store

T = TypeVar("T")


@dataclass
class Watched:
    """An engine that counts its commits, can make them wait, and can make one fail as COMMIT would."""

    inner: Engine
    commits: int = 0
    fault: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.title = self.inner.title
        self.open.set()

    @contextmanager
    def group(self) -> Iterator[None]:
        """Run a transaction, late or to a bad end."""
        self.commits += 1
        self.started.set()
        assert self.open.wait(10)
        with self.inner.group():
            yield
            if self.fault is not None:
                raise self.fault

    def link(self) -> Link:
        """Return the connection that writes."""
        return self.inner.link()

    def job(self) -> AbstractContextManager[None]:
        """Run one job."""
        return self.inner.job()

    def fatal(self, error: Exception) -> bool:
        """Say if *error* is the database's."""
        return self.inner.fatal(error)

    def close(self) -> None:
        """Leave it to the fixture, so that a test can look at what was kept."""


@pytest.fixture
def watched(engine: Engine) -> Watched:
    return Watched(engine)


@pytest.fixture
def keep(watched: Watched) -> Iterator[Keeper]:
    keeper = Keeper(watched)
    yield keeper
    watched.open.set()
    keeper.close()


def run(work: Awaitable[T]) -> T:
    """Run to an end, within a time that means "it hangs"."""

    async def bounded() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


def record(keep: Keeper, number: int, **changes: Any) -> Coroutine[Any, Any, Recorded]:
    event = delivery(number, **changes)
    return keep(Store.record, event, Plan(Decision.NO_RULE), version="v1", dedupe_ms=WEEK)


async def together(watched: Watched, *work: Awaitable[Any]) -> list[Any]:
    """Let *work* wait behind a first commit, so that it is at hand together; return results and errors."""
    tasks = [asyncio.ensure_future(each) for each in work]
    watched.started.clear()
    watched.open.clear()
    await asyncio.sleep(0)
    await asyncio.to_thread(watched.started.wait, 10)
    await asyncio.sleep(0)
    watched.open.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def kept(engine: Engine) -> set[str]:
    return {row["id"] for row in Store(engine.link()).events(limit=10_000)}


def broken(store: Store) -> None:
    """Do something, then fail: a job with a fault of its own."""
    store.pulse(NOW)
    store.record(delivery(77), Plan(Decision.NO_RULE), version="v1", dedupe_ms=WEEK)
    raise ZeroDivisionError


# -- one commit for many --


def test_waiting_jobs_share_a_commit(watched: Watched, keep: Keeper) -> None:
    """Records that wait while a commit is on its way are committed together, and each has its own answer."""
    results = run(together(watched, *(record(keep, n) for n in range(1, 201))))

    assert [f"ev_{n:06d}" for n in range(1, 201)] == [result.event for result in results]
    assert 200 == len(kept(watched))
    assert 2 >= watched.commits


def test_a_group_has_an_end(watched: Watched, keep: Keeper) -> None:
    """However much waits, no commit is larger than GROUP, so that the first to wait are answered soon."""
    run(together(watched, *(keep(Store.pulse, NOW) for _ in range(2 * GROUP + 1))))

    assert watched.commits in {3, 4}


def test_a_duplicate_in_the_same_group_is_seen(watched: Watched, keep: Keeper) -> None:
    """I2: of two equal deliveries in one commit the second points to the first."""
    results = run(together(watched, *(record(keep, n, delivery="same") for n in (1, 2, 3))))

    assert [False, True, True] == [result.duplicate for result in results]
    assert {"ev_000001"} == {result.event for result in results}


def test_an_answer_comes_after_the_commit(watched: Watched, keep: Keeper) -> None:
    """I1: who waits is not told before the group is on the disk."""

    async def story() -> None:
        watched.open.clear()
        waiting = asyncio.ensure_future(record(keep, 1))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        watched.open.set()
        assert not (await waiting).duplicate

    run(story())


def test_a_jobs_own_fault_is_its_own(watched: Watched, keep: Keeper) -> None:
    """It goes to its caller, undoes that job and no other; the group is committed, and relay goes on."""
    twice = keep(recording, delivery(9), [owed(event="ev_000009")] * 2, 1)
    first, fault, refused, last = run(
        together(watched, record(keep, 1), keep(broken), twice, record(keep, 2))
    )

    assert (False, False) == (first.duplicate, last.duplicate)
    assert ZeroDivisionError is type(fault)
    assert "constraint" in str(refused).lower()
    assert {"ev_000001", "ev_000002"} == kept(watched)
    assert None is keep.broken


def test_a_cancelled_waiter_breaks_nothing(watched: Watched, keep: Keeper) -> None:
    """Who goes away undoes nothing and disturbs nobody: the job is done all the same."""

    async def story() -> None:
        watched.open.clear()
        tasks = [asyncio.ensure_future(record(keep, n)) for n in (1, 2, 3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.sleep(0)
        watched.open.set()
        assert "ev_000001" == (await tasks[0]).event
        assert "ev_000003" == (await tasks[2]).event
        assert tasks[1].cancelled()

    run(story())
    assert {"ev_000001", "ev_000002", "ev_000003"} == kept(watched)


def test_a_loop_that_is_gone_does_no_harm(watched: Watched, keep: Keeper) -> None:
    """Answers for a closed loop have nobody to go to; the others still get theirs."""
    gone = asyncio.new_event_loop()
    watched.open.clear()
    task = gone.create_task(record(keep, 1))
    gone.run_until_complete(asyncio.sleep(0))
    task.cancel()
    gone.run_until_complete(asyncio.wait([task]))
    gone.close()
    watched.open.set()

    assert "ev_000002" == run(record(keep, 2)).event
    assert {"ev_000001", "ev_000002"} == kept(watched)


def test_close_finishes_what_waits(watched: Watched, keep: Keeper) -> None:
    """Jobs that were given before the close are committed and answered."""

    async def story() -> list[Recorded]:
        watched.open.clear()
        tasks = [asyncio.ensure_future(record(keep, n)) for n in range(1, GROUP + 50)]
        await asyncio.sleep(0.01)
        watched.open.set()
        await asyncio.to_thread(keep.close)
        return await asyncio.gather(*tasks)

    assert GROUP + 49 == len(run(story()))
    assert GROUP + 49 == len(kept(watched))


def test_after_close_a_job_is_refused(watched: Watched, keep: Keeper) -> None:
    """Nobody is left waiting for a thread that has ended."""
    keep.close()

    with pytest.raises(StoreError, match="closed"):
        run(record(keep, 1))
    assert None is keep.broken


# -- when a commit fails --


def test_a_full_disk_fails_the_group_and_may_pass(watched: Watched, keep: Keeper) -> None:
    """Nothing of the group was kept, all of it hear so, and the next one may work."""
    watched.fault = apsw.FullError()
    results = run(together(watched, record(keep, 1), record(keep, 2), keep(Store.pulse, NOW)))
    assert {StoreBusy} == set(map(type, results))
    assert (set(), None) == (kept(watched), keep.broken)

    watched.fault = None
    assert False is run(record(keep, 1)).duplicate


@pytest.mark.parametrize(
    "fault", [apsw.IOError("disk I/O error"), apsw.CorruptError("malformed"), MemoryError("no memory")]
)
def test_any_other_failure_is_final(watched: Watched, keep: Keeper, fault: Exception) -> None:
    """What the disk holds is not known: all who wait and all who come hear it, and *broken* says why."""
    watched.fault = fault
    results = run(together(watched, record(keep, 1), keep(broken), record(keep, 2)))
    assert {StoreError} == set(map(type, results))
    assert str(fault) in str(keep.broken)
    commits, watched.fault = watched.commits, None

    with pytest.raises(StoreError, match=str(fault)):
        run(record(keep, 3))
    assert (commits, set()) == (watched.commits, kept(watched))


def test_a_job_that_meets_a_full_disk_fails_the_group(watched: Watched, keep: Keeper) -> None:
    """The driver's errors inside a job are the disk's: no part of the group is committed."""

    def full(_store: Store) -> None:
        raise apsw.FullError

    results = run(together(watched, record(keep, 1), keep(full), record(keep, 2)))

    assert StoreBusy in set(map(type, results))
    assert kept(watched) == {result.event for result in results if isinstance(result, Recorded)}
    assert "ev_000002" not in kept(watched)
