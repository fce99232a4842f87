"""A webhook, a watch, a person and a program want the same retry within a second: is it made once?"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from story import Story, failed_file, sent, story, until

from relay.call import Step
from relay.case import Case, Moment, Stand
from relay.demo.sim import Window

ROUNDS = 200
WAVE = 20
"""So many rounds go on at once."""

WATCH = """
[[watch]]
name = "failed files"
call = "writer.failed_files"
every = "1s"
"""
TERMS = 'budget = { retries = 3, within = "24h", wait = ["0s", "500ms"] }'
OPEN = {
    "limit": {"rate": "1000/s", "burst": 100, "concurrency": 8},
    "storm": {"cases": 0},
    "action": {"retry": {"check": {"wait": ["3s", "500ms"]}}},
}
HEALS_AFTER_S = 4.0
"""Longer than a round: who wants a retry of what has recovered already shall have one."""


class Wave:
    """Files that fail together, and the sign that a list with all of them is on its way to relay."""

    def __init__(self, on: Story) -> None:
        self.on = on
        self.keys: list[str] = []
        self.sign = threading.Event()
        self.late = False  #: the list arrives when all of them were retried

    def begin(self) -> None:
        """Let files fail; every other list is late."""
        self.sign.clear()
        self.late = not self.late
        self.keys = [failed_file(self.on)[0] for _ in range(WAVE)]

    def listed(self, page: bytes) -> bool:
        """Give the sign, once, if a page of a list has all of them; say so."""
        if self.sign.is_set() or len(self.keys) < WAVE or not all(key.encode() in page for key in self.keys):
            return False
        self.sign.set()
        return True

    def hold(self) -> None:
        """Keep a late list back."""
        until(lambda: not self.late or self.retried(*self.keys), "all were retried", within_s=5)

    def retried(self, *keys: str) -> bool:
        """Say whether files were retried."""
        return all(self.on.writer.retries[key] for key in keys)


class Starter:
    """Writer, which gives a sign when it lists the files of a wave, and may keep the list back."""

    def __init__(self, app: ASGIApp, wave: Wave) -> None:
        self.app, self.wave = app, wave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""

        async def seen(message: Message) -> None:
            if scope["path"] == "/v1/files" and self.wave.listed(message.get("body", b"")):
                await asyncio.to_thread(self.wave.hold)
            await send(message)

        await self.app(scope, receive, seen)


@contextmanager
def busy(folder: Path) -> Iterator[tuple[Story, Wave]]:
    """Set up a relay that watches Writer, and a Writer that tells when it is asked."""
    with story(folder, heals_after_s=HEALS_AFTER_S, rules=WATCH, writer=OPEN) as on:
        wave = Wave(on)
        rules, call = folder / "rules.toml", 'call = "writer.retry"\n'
        rules.write_text(rules.read_text().replace(call, f"{call}{TERMS}\n"))
        on.writer.limit = Window(10**9, 60)
        on.writer.app.add_middleware(Starter, wave=wave)
        on.start()
        yield on, wave


def hears(on: Story, key: str) -> None:
    """Let Writer's pipeline tell of a failure."""
    assert 202 == on.post("writer", {"type": "file.failed", "file_id": key}).status


def wants(on: Story, key: str, by: str) -> None:
    """Let somebody want a retry over HTTP, as soon as there is a case."""
    until(lambda: on.act(key, "retry", by=by).status == 200, f"{by} was heard", within_s=5)


def types(on: Story, key: str) -> None:
    """Let a person type it."""
    until(lambda: on.shell("retry", key).exit_code == 0, "ann was heard", within_s=5)


def play(on: Story, wave: Wave, pool: ThreadPoolExecutor) -> None:
    """Let all four come for each file of a wave while its list is on its way; some when it was retried."""
    wave.begin()
    assert wave.sign.wait(10), "the watch has not asked"

    def soon(number: int, act: Callable[..., None], *args: str) -> None:
        key = wave.keys[number]
        if number % 4 == 3 and not (wave.late and act is hears):
            until(lambda: wave.retried(key), "it was retried")
        act(on, key, *args)

    numbers = range(1, WAVE)  # the shell's own way out can't be shared by threads
    asked = [pool.submit(soon, number, wants, "ann") for number in numbers]
    asked += [pool.submit(soon, number, hears) for number in (0, *numbers)]
    asked += [pool.submit(wants, on, key, "api") for key in wave.keys]
    types(on, wave.keys[0])
    for one in asked:
        one.result()


def wishes(moments: list[Moment], events: set[str]) -> list[Moment]:
    """Return the moments at which somebody wanted a retry."""
    return [moment for moment in moments if moment.by or moment.ref in events]


def test_four_who_want_the_same_get_it_once(tmp_path: Path) -> None:
    """I3: 200 rounds of a webhook, a watch, a person and an API call for one file make 200 calls."""
    with busy(tmp_path) as (on, wave):
        keys: list[str] = []
        with ThreadPoolExecutor(3 * WAVE) as pool:
            for _ in range(ROUNDS // WAVE):
                play(on, wave, pool)
                keys += wave.keys

        def ends() -> bool:
            return {Stand.RECOVERED} == {case.state for case in on.cases()}

        until(ends, lambda: Counter(case.state for case in on.cases()), within_s=30)
        cases = {case.key: case for case in on.cases()}
        told = {key: {row["id"] for row in on.events() if key.encode() in row["body"]} for key in keys}

        assert ROUNDS == len(cases) == len(on.cases())
        assert dict.fromkeys(keys, 1) == on.writer.retries
        assert ROUNDS == len(sent(on.writer))
        assert {2} == {len(events) for events in told.values()}
        sends = [one for call in on.calls() for one in on.attempts(call) if one.step is Step.SEND]
        assert ["done"] * ROUNDS == [one.outcome for one in sends]
        # Else it was no test: each of the four was heard, mostly within a second, at any stage of a case.
        spans = [span(on, case, told[key]) for key, case in cases.items()]
        assert sum(took <= 1000 for took in spans) > ROUNDS / 2
        kinds = {one.kind for case in cases.values() for one in on.store().timeline(case.id)}
        assert {"opened", "joined", "stale"} <= kinds


def span(on: Story, case: Case, events: set[str]) -> int:
    """Return the milliseconds in which all four came for a case."""
    wanted = wishes(on.store().timeline(case.id), events)
    assert {"ann", "api"} <= {one.by for one in wanted}
    assert events == {one.ref for one in wanted if one.by is None}
    return max(one.at for one in wanted) - min(one.at for one in wanted)
