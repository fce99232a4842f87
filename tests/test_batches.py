"""Do calls share requests as far as they may, and keep to their hours?"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from build import NOW, REFUSED_CONNECTION, RESET, action, check, provider, reply, rule, ruleset
from steps import Bench, bench, fail, one_failure, retries, tried

from relay.call import Kind, State
from relay.case import Policy, Stand
from relay.provider import Answer, Limit, Request, Shape, Value
from relay.reload import InForce
from relay.rule import Ruleset
from relay.work import Worker

FILES = action(
    shape=Shape(method="POST", path="/v1/files/retry", json={"file_ids": ["{file_id}"]}),
    values={"file_id": Value()},
    on_unknown="check",
    check=replace(check(), shape=Shape(method="GET", path="/v1/files/{file_id}")),
)
SHARED = Policy(batch="file_ids:100", batch_ms=2_000, looks=True)

OFFICE = "Mon-Fri 08:00-18:00 UTC"
OPENS = 1_700_035_200_000


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as desk:
        yield desk


def fail_files(desk: Bench, *names: str, policy: Policy = SHARED, **more: Any) -> None:
    """Let several files fail at once."""
    fail(desk, *(one_failure(key=name, values={"file_id": name}, policy=policy, **more) for name in names))


def writer(**more: Any) -> Ruleset:
    """Return rules whose retries may share a request."""
    return ruleset(rule(policy=SHARED), providers=(provider(FILES, **more),))


def bodies(desk: Bench) -> list[list[str]]:
    """Return which files each request was made for."""
    sent = [one for one in desk.sent if one.method == "POST"]
    return [orjson.loads(one.body)["file_ids"] for one in sent if isinstance(one.body, bytes)]


def looks(desk: Bench) -> list[str]:
    """Return which files were looked at."""
    return [urlsplit(one.url).path.rpartition("/")[2] for one in desk.sent if one.method == "GET"]


# -- batches --


def test_250_failures_of_one_moment_are_3_requests(desk: Bench) -> None:
    """Each call has its own try and its own end, and each case its own check."""
    names = [f"f{number:03}" for number in range(250)]
    fail_files(desk, *names)
    desk.work(writer(), for_ms=3_000)

    assert [100, 100, 50] == [len(body) for body in bodies(desk)]
    assert set(names) == {name for body in bodies(desk) for name in body}
    assert {State.DONE} == {one.state for one in retries(desk)}
    assert {"send done"} == {word for one in retries(desk) for word in tried(desk, one)}
    assert {Stand.WATCHING} == {case.state for case in desk.cases()}
    assert 250 == len([one for one in desk.calls() if one.kind is Kind.CHECK])


def test_a_batch_passes_the_gate_once(desk: Bench) -> None:
    """The provider's limit is one of requests, in a time as at once."""
    fail_files(desk, *(f"f{number:03}" for number in range(250)))
    desk.work(writer(limit=Limit(every_ms=1_000, burst=1, concurrency=1)), lambda: len(bodies(desk)) == 3)

    assert [100, 100, 50] == [len(body) for body in bodies(desk)]
    assert 1 == desk.most_out
    first, second, third = sorted({desk.tries(one.id)[0].began_at for one in retries(desk)})
    assert (1_000, 1_000) == (second - first, third - second)


def test_as_many_requests_are_out_as_the_provider_allows(desk: Bench) -> None:
    """Requests are counted, not calls: a batch of two leaves room for another one."""
    policy = replace(SHARED, batch="file_ids:2")
    fail_files(desk, *"abcdefgh", policy=policy)
    desk.work(
        ruleset(rule(policy=policy), providers=(provider(FILES, limit=Limit(concurrency=2)),)), for_ms=3_000
    )

    assert [2, 2, 2, 2] == [len(body) for body in bodies(desk)]
    assert set("abcdefgh") == {name for body in bodies(desk) for name in body}
    assert 2 == desk.most_out


def test_a_refused_batch_is_taken_apart(desk: Bench) -> None:
    """A no for many may be one's fault: each is looked at, and goes alone; the others get what they need."""

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return reply(200, {"status": "failed"})
        assert isinstance(request.body, bytes)
        return reply(422 if "bad" in orjson.loads(request.body)["file_ids"] else 200)

    desk.answer = answer
    fail_files(desk, "a", "bad", "c")
    desk.work(writer(), lambda: all(one.settled_at for one in retries(desk)))

    first, *others = map(sorted, bodies(desk))
    assert ["a", "bad", "c"] == first
    assert [["a"], ["bad"], ["c"]] == sorted(others)
    ends = {one.key: one.state for one in retries(desk)}
    assert {"a": State.DONE, "bad": State.DEAD, "c": State.DONE} == ends
    assert [1, 1, 1] == [one.tries for one in retries(desk)]
    (good,) = [one for one in retries(desk) if one.key == "a"]
    assert ["send retry", "look retry", "send done"] == tried(desk, good)


def test_a_batch_in_doubt_is_looked_at_one_by_one(desk: Bench) -> None:
    """Who knows which of them it did? Only those that have still failed are sent again, together."""

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            name = urlsplit(request.url).path.rpartition("/")[2]
            return reply(200, {"status": "running" if name == "b" else "failed"})
        return RESET if len(bodies(desk)) == 1 else reply(200)

    desk.answer = answer
    fail_files(desk, "a", "b", "c")
    desk.work(writer(), lambda: all(one.settled_at for one in retries(desk)))

    assert ["a", "b", "c"] == sorted(looks(desk)[:3])
    assert [["a", "b", "c"], ["a", "c"]] == [sorted(body) for body in bodies(desk)]
    found = {one.key: (one.tries, tried(desk, one)[:2]) for one in retries(desk)}
    again = (2, ["send unknown", "look retry"])
    assert {"a": again, "b": (1, ["send unknown", "look done"]), "c": again} == found


def test_a_batch_that_has_to_wait_stays_together(desk: Bench) -> None:
    """One backoff for all, up to the next moment of the batch: others may have come to it by then."""
    desk.answer = lambda _: REFUSED_CONNECTION if len(desk.sent) == 1 else reply(200)
    fail_files(desk, "a", "b", "c")
    desk.work(writer(), lambda: all(one.settled_at for one in retries(desk)))

    assert [["a", "b", "c"]] * 2 == [sorted(body) for body in bodies(desk)[:2]]
    assert [[2_000, 4_000]] * 3 == [
        [try_.began_at - NOW for try_ in desk.tries(one.id)] for one in retries(desk)
    ]


# -- hours --


def test_a_backoff_that_ends_at_night_ends_in_the_morning(desk: Bench) -> None:
    """What is tried again is tried within the hours; looks are free at any time."""
    desk.clock.now = 1_700_071_199_000  # Wednesday, 17:59:59
    morning = OPENS + 86_400_000
    desk.answer = lambda _: reply(429) if len(desk.sent) == 1 else reply(200)
    fail(desk, one_failure(policy=Policy(only=OFFICE)))
    desk.work(ruleset())
    (waits,) = desk.calls()
    assert (State.QUEUED, morning) == (waits.state, waits.due_at)

    desk.clock.now = morning - 5_000
    desk.work(ruleset(), lambda: retries(desk)[0].settled_at is not None)
    (first, second) = desk.tries(waits.id)
    assert first.began_at < morning <= second.began_at


def test_a_call_that_comes_too_late_for_its_hours_is_not_sent(desk: Bench) -> None:
    """It was due in time, but nobody was there: it waits for the morning, and no try is spent."""
    desk.clock.now = 1_700_071_199_000
    fail(desk, one_failure(policy=Policy(only=OFFICE)))
    desk.clock.now += 5_000
    desk.work(ruleset())

    (waits,) = desk.calls()
    assert [] == desk.sent
    assert (State.QUEUED, OPENS + 86_400_000, 0) == (waits.state, waits.due_at, waits.tries)
    assert f"outside {OFFICE}" == waits.why


def test_a_batch_that_is_out_at_the_stop_is_given_back_whole(desk: Bench) -> None:
    """Each of its calls is in doubt, and counted."""
    out = asyncio.Event()

    async def send(request: Request) -> Answer:
        out.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def story() -> int:
        worker = Worker(InForce(writer()), desk.keep, send, clock=desk.clock)
        running = asyncio.create_task(worker.run())
        await out.wait()
        stopped = await worker.stop(0)
        await running
        assert 0 == stopped.finished
        return stopped.given_back

    fail_files(desk, "a", "b")
    desk.clock.now += 2_000

    assert 2 == desk.run(story())
    assert [State.UNKNOWN] * 2 == [one.state for one in retries(desk)]
