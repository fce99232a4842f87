"""What does a worker stand on in tests?  A clock that jumps to what is due, and a provider in memory."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import structlog
from build import NOW, event, reply
from structlog.testing import capture_logs

from relay.call import Attempt, Call, Claim, Kind
from relay.case import Case, Failure
from relay.deed import Deed, Plan
from relay.engine import SQLite, reader
from relay.event import Decision, Millis, new_id
from relay.keep import Keeper
from relay.provider import Answer, Request
from relay.reload import InForce
from relay.rule import Ruleset
from relay.store import Claimed, Slot, Store
from relay.work import Worker

T = TypeVar("T")

STEPS = 2_000
"""Times that a worker may have nothing to do before a test says that it waits in vain."""


@dataclass
class Clock:
    """What time it is: what the test says."""

    now: Millis = NOW

    def __call__(self) -> Millis:
        """Return the time."""
        return self.now


class Stepped(Worker):
    """A worker that does not sleep: where nothing is out, its clock jumps to what is due next."""

    clock: Clock
    enough: Callable[[], bool]
    steps: int = 0

    async def _rest(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        elif self.enough():
            self.leave(5)
        else:
            self.clock.now += max(1, ceil(seconds * 1000))
        self.steps += 1
        assert self.steps < STEPS, "what was waited for did not come"


@dataclass
class Bench:
    """A database, its door, and a provider whose answers are the test's; *sent* is what went out."""

    db: Path
    keep: Keeper
    answer: Callable[[Request], Answer] = lambda _: reply(200)
    clock: Clock = field(default_factory=Clock)
    sent: list[Request] = field(default_factory=list)
    lines: list[Any] = field(default_factory=list)
    out: int = 0
    most_out: int = 0  #: requests at once

    async def send(self, request: Request) -> Answer:
        """Be the provider."""
        self.sent.append(request)
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        await asyncio.sleep(0)
        self.out -= 1
        return self.answer(request)

    def worker(self, rules: Ruleset, enough: Callable[[], bool] = lambda: True) -> Stepped:
        """Return a worker; it leaves when nothing is due and there is *enough*."""
        made = Stepped(InForce(rules), self.keep, self.send, clock=self.clock, luck=lambda: 0.5)
        made.clock, made.enough = self.clock, enough
        return made

    def work(self, rules: Ruleset, enough: Callable[[], bool] | None = None, *, for_ms: Millis = 0) -> None:
        """Let a worker do what is due, in the next *for_ms* or until there is *enough*."""
        end = self.clock.now + for_ms

        async def shift() -> None:
            worker = self.worker(rules, enough or (lambda: self.clock.now >= end))
            await worker.run()
            await worker.stop(5)

        with capture_logs() as lines:
            self.run(shift())
        self.lines += lines

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to an end, within a time that means "it hangs"."""

        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return asyncio.run(bounded())

    def do(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one method of Store, while no worker works."""

        async def once() -> Any:
            return await self.keep(method, *args, **kwargs)

        return self.run(once())

    def claim(self, rules: Ruleset) -> tuple[Claim, ...]:
        """Claim what is due, as a worker that dies right after."""
        slots = {
            name: Slot(limit=one.limit, free=one.limit.concurrency, lease_ms=30_000)
            for name, one in rules.providers.items()
        }
        claimed: Claimed = self.do(Store.claim, slots, self.clock.now, new_id("ls", self.clock.now))
        return claimed.claims

    @property
    def store(self) -> Store:
        """Return what is on the disk, only to read."""
        return Store(reader(self.db))

    def calls(self, **more: Any) -> list[Call]:
        """Return the calls, oldest first; watches' runs are not among them."""
        return self.store.calls(limit=10_000, **more)[::-1]

    def cases(self) -> list[Case]:
        """Return the cases, oldest first."""
        return [shown.case for shown in self.store.cases(limit=10_000)][::-1]

    def tries(self, call: str) -> list[Attempt]:
        """Return a call's tries in order."""
        return self.store.attempts(call)

    def said(self, event: str, **facts: Any) -> list[Any]:
        """Return the lines called *event* that hold *facts*."""
        return [line for line in self.lines if line["event"] == event and facts.items() <= line.items()]


@contextmanager
def bench(path: Path, clock: Clock | None = None) -> Iterator[Bench]:
    """Open a fresh database, and close it; the log leaves no level out."""
    structlog.reset_defaults()
    db = path / "relay.db"
    keep = Keeper(SQLite(db))
    try:
        yield Bench(db=db, keep=keep, clock=clock or Clock())
    finally:
        keep.close()
        structlog.reset_defaults()


# -- what is done to it --


def one_failure(**more: Any) -> Failure:
    """Return a failure of one job."""
    given: dict[str, Any] = {
        "rule": "retry jobs",
        "provider": "flatfile",
        "action": "retry",
        "key": "flatfile:job_id=us_jb_1",
        "values": {"job_id": "us_jb_1"},
    }
    return Failure(**given | more)


def fail(desk: Bench, *failures: Failure) -> None:
    """Let an event tell of failures now."""
    came = event({}, id=f"ev_{desk.clock.now}", digest=str(desk.clock.now), received_at=desk.clock.now)
    desk.do(
        Store.record, came, Plan(Decision.MATCHED, Deed(failures=tuple(failures))), version="v", dedupe_ms=1
    )


def retries(desk: Bench) -> list[Call]:
    """Return the retries, oldest first."""
    return [one for one in desk.calls() if one.kind is Kind.RETRY]


def tried(desk: Bench, call: Call) -> list[str]:
    """Return a call's tries as words."""
    return [f"{one.step} {one.outcome}" for one in desk.tries(call.id)]
