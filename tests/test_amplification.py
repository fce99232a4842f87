"""How often is a provider called that fails for ever?  A thousand webhooks, and no more than the budget."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from story import Story, Told, story, until

from relay.case import Stand
from relay.demo.flatfile import Note, event, forwarded
from relay.demo.sim import Fault

WEBHOOKS = 1_000
BUDGET = 3
TERMS = f'budget = {{ retries = {BUDGET}, within = "24h", wait = ["0s", "100ms"] }}'
JOB = "us_jb_1"
LAST = 200
"""So many webhooks are kept for the time after the budget is spent."""

QUICK = {
    "limit": {"rate": "1000/s", "burst": 100, "concurrency": 4},
    "action": {"retry": {"check": {"wait": ["100ms"]}}},
}


class Noise:
    """A thousand webhooks about failed jobs, each with an id of its own, and what relay answered to them."""

    def __init__(self, on: Story) -> None:
        self.on = on
        self.told: list[Told] = []
        self.jobs: set[str] = set()
        self.about: list[str] = []  #: the jobs that *many* are about; else all
        self._numbers = iter(range(WEBHOOKS))
        self._senders = ThreadPoolExecutor(8)

    def post(self, job: str) -> None:
        """Say that a job has failed, and wait for the answer; nothing, if all is said."""
        number = next(self._numbers, None)
        if number is not None:
            self.jobs.add(job)
            note = Note(number=number, at=time.time(), job=job, status="failed")
            self.told.append(self.on.post("flatfile", forwarded(event(note), "sk_live")))

    def later(self, job: str) -> None:
        """Say it soon, from another thread."""
        self._senders.submit(self.post, job)

    def new(self) -> None:
        """Say of each job that a retry made and nobody has heard of yet that it has failed."""
        for job in [job for job in list(self.on.flatfile.held) if job not in self.jobs]:
            self.post(job)

    def many(self, times: int) -> None:
        """Say *times* that the jobs of the line have failed, one after the other and again."""

        def one(number: int) -> None:
            jobs = self.about or list(self.on.flatfile.held)
            self.post(jobs[number % len(jobs)])

        list(self._senders.map(one, range(times)))

    def end(self) -> None:
        """Wait until all is said."""
        self._senders.shutdown()


class Hasty:
    """A provider that tells of a retry's failure before it answers the retry."""

    def __init__(self, app: ASGIApp, tell: Callable[[], None], hold_s: float) -> None:
        self.app, self.tell, self.hold_s = app, tell, hold_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and keep the answer to a retry back."""

        async def later(message: Message) -> None:
            if scope["method"] == "POST" and message["type"] == "http.response.start":
                await asyncio.to_thread(self.tell)
                await asyncio.sleep(self.hold_s)  # time enough to act on what was told
            await send(message)

        await self.app(scope, receive, later)


@contextmanager
def failing(folder: Path, *, heals_after_s: float = 0.05) -> Iterator[tuple[Story, Noise]]:
    """Set up a job that fails for ever, and a rule that is in a hurry."""
    with story(folder, heals_after_s=heals_after_s, flatfile=QUICK) as on:
        rules = folder / "rules.toml"
        call = 'call = "flatfile.retry"\n'
        rules.write_text(rules.read_text().replace(call, f"{call}{TERMS}\n"))
        on.flatfile.add(JOB, outcomes=["failed"] * WEBHOOKS)
        noise = Noise(on)
        yield on, noise


def thousand(on: Story, noise: Noise) -> None:
    """Post the first failure, then others whatever relay does, and the last when it has long given up."""
    on.start(luckless=True)
    noise.post(JOB)
    noise.many(WEBHOOKS // 2)
    until(lambda: on.relay.said("case.gave_up"), lambda: [vars_(case) for case in on.cases()])
    assert WEBHOOKS - len(noise.told) >= LAST
    noise.many(WEBHOOKS)
    noise.end()


def vars_(case: Any) -> tuple[Any, ...]:
    """Return what to show of a case that does not end."""
    return case.key, case.state, case.why, case.retries, case.aliases


def judge(on: Story, noise: Noise) -> None:
    """See that all was kept, the budget too, and that it was said once."""
    (gave_up,) = on.relay.said("case.gave_up")
    (case,) = [case for case in on.cases() if case.state is not Stand.CLOSED]

    assert WEBHOOKS == len(noise.told)
    assert {202} == {told.status for told in noise.told}
    assert {told.event for told in noise.told} == {row["id"] for row in on.events()}
    assert WEBHOOKS == len(on.events())
    assert BUDGET == on.flatfile.rounds[JOB]
    assert (Stand.GAVE_UP, BUDGET) == (case.state, case.retries)
    assert (case.id, BUDGET) == (gave_up["case"], gave_up["retries"])
    assert {case.key, *case.aliases} == noise.jobs
    assert not on.relay.said("case.needs_person")


@pytest.mark.parametrize("new_ids", [False, True], ids=["same id", "new ids"])
def test_a_webhook_for_each_retry_is_no_reason_for_another_one(tmp_path: Path, new_ids: bool) -> None:
    """A job that fails again after each retry is retried as often as its budget has, and given up once."""
    with failing(tmp_path) as (on, noise):
        on.flatfile.new_ids = new_ids
        on.flatfile.on_change = lambda job, _status: noise.later(job)

        thousand(on, noise)

        judge(on, noise)
        assert (1 + BUDGET if new_ids else 1) == len(noise.jobs)


@pytest.mark.parametrize("hold_s", [0.0, 0.5])
def test_a_failure_that_comes_before_its_retry_is_answered(tmp_path: Path, hold_s: float) -> None:
    """A webhook under a new id, before the answer that tells the id, gets the job no second budget."""
    with failing(tmp_path, heals_after_s=0.0) as (on, noise):
        on.flatfile.new_ids = True
        on.flatfile.app.add_middleware(Hasty, tell=noise.new, hold_s=hold_s)

        thousand(on, noise)

        judge(on, noise)


def test_no_answer_at_all_is_no_reason_for_more(tmp_path: Path) -> None:
    """A provider that makes a new job of each retry and never says so gets no more than the budget."""
    with failing(tmp_path, heals_after_s=0.0) as (on, noise):
        on.flatfile.new_ids = True
        on.flatfile.faults.extend([Fault(after=True)] * WEBHOOKS)
        noise.about = [JOB]

        thousand(on, noise)

        judge(on, noise)
