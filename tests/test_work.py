"""Does the worker keep what it claimed, whatever happens around it?"""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from build import NOW, call, event, provider, reply, rule, ruleset

from relay.call import State
from relay.engine import SQLite, reader
from relay.errors import StoreBusy
from relay.event import Decision, Millis
from relay.keep import Keeper
from relay.provider import Answer, Request
from relay.store import Store
from relay.work import Worker


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
        queued = call(state=State.QUEUED, lease=None, attempts=0)
        await keeper(Store.record, event({}), Decision.MATCHED, [queued], version="v", dedupe_ms=1)
        worker = Worker(ruleset(rule(), providers=(provider(),)), keep, send, clock=clock)  # type: ignore[arg-type]
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
        queued = call(state=State.QUEUED, lease=None, attempts=0)
        await keeper(Store.record, event({}), Decision.MATCHED, [queued], version="v", dedupe_ms=1)
        worker = Worker(ruleset(rule(), providers=(provider(),)), keep, send)  # type: ignore[arg-type]
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
