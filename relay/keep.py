"""How do coroutines reach the store?  ``await keep(Store.record, …)``: one writer, one commit for many."""

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from relay.engine import Engine
from relay.errors import StoreBusy, StoreError
from relay.store import Store

P = ParamSpec("P")
T = TypeVar("T")

GROUP: Final = 256
"""Jobs that share one commit, at most."""


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Store], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class _End:
    job: _Job
    result: Any
    error: BaseException | None

    def tell(self) -> None:
        """Answer the coroutine that waits, unless it has gone."""
        if self.job.future.done():
            return
        if self.error is None:
            self.job.future.set_result(self.result)
        else:
            self.job.future.set_exception(self.error)


class Keeper:
    """
    The door to the store: a thread that takes all waiting jobs and commits them together.

    A sync to disk is so paid once for many events. A full or locked disk fails the jobs at hand with
    StoreBusy and may pass. Any other failure to commit is final: what the disk holds is not known (a failed
    fdatasync may or may not have written), so every further job gets StoreError, and *broken* tells `serve`
    to stop.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._begun: dict[int, float] = {}  # when each that is not done was asked for, the oldest first
        self._number = itertools.count()
        self.broken: StoreError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="relay-keeper", daemon=True)
        self._thread.start()

    async def __call__(
        self, method: Callable[Concatenate[Store, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """
        Run one method of Store in a transaction; return when it is on the disk.

        Raises StoreBusy or StoreError, and then nothing of it was kept, as far as the disk can tell.
        """
        if self.broken is not None:
            raise StoreError(str(self.broken))
        if self._closed:
            raise StoreError("the database is closed: relay is stopping")
        loop = asyncio.get_running_loop()
        job = _Job(lambda store: method(store, *args, **kwargs), loop, loop.create_future())
        mine = next(self._number)
        self._begun[mine] = monotonic()
        try:
            self._jobs.put(job)
            result: T = await job.future
        finally:
            del self._begun[mine]
        return result

    @property
    def waiting(self) -> int:
        """How many jobs wait for the disk, those under way among them."""
        return len(self._begun)

    @property
    def age_s(self) -> float:
        """How many seconds the oldest of them has waited; 0 if none does."""
        oldest = next(iter(self._begun.values()), None)
        return 0.0 if oldest is None else monotonic() - oldest

    def close(self) -> None:
        """Finish what waits, then close the database; what comes later gets StoreError."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._engine.close()

    def _work(self) -> None:
        store = Store(self._engine.link())
        open_ = True
        while open_:
            jobs = [self._jobs.get()]
            while len(jobs) < GROUP and not self._jobs.empty():
                jobs.append(self._jobs.get())
            open_ = None not in jobs
            self._commit(store, [job for job in jobs if job is not None])

    def _commit(self, store: Store, jobs: list[_Job]) -> None:
        if not jobs:
            return
        ends = self._ends(store, jobs)
        for loop in {end.job.loop for end in ends}:
            mine = [end for end in ends if end.job.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_tell, mine)

    def _ends(self, store: Store, jobs: list[_Job]) -> list[_End]:
        """Run *jobs* as one transaction and say how each ended, once it is known if they are on the disk."""
        if self.broken is None:
            try:
                with self._engine.group():
                    return [self._run(store, job) for job in jobs]
            except StoreBusy as error:
                return [_End(job, None, StoreBusy(str(error))) for job in jobs]
            except Exception as error:  # noqa: BLE001 - if this thread died, everybody would wait for ever
                self.broken = error if isinstance(error, StoreError) else StoreError(repr(error))
        return [_End(job, None, StoreError(str(self.broken))) for job in jobs]

    def _run(self, store: Store, job: _Job) -> _End:
        try:
            with self._engine.job():
                return _End(job, job.run(store), None)
        except Exception as error:
            if self._engine.fatal(error):
                raise
            return _End(job, None, error)


def _tell(ends: list[_End]) -> None:
    for end in ends:
        end.tell()
