"""
What is left after `kill -9`?  Everything that was acknowledged, and nothing that was done twice in silence.

RELAY_TEST_KILLS says how often (20), RELAY_TEST_SEED repeats the moments of a run.
"""

import json
import os
import queue
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from story import SOON, Story, failed_file, hook, story, until

from relay.call import State, Step
from relay.case import Stand
from relay.demo.flatfile import forwarded
from relay.demo.sim import Simulator, Window

KILLS = int(os.environ.get("RELAY_TEST_KILLS", "20"))
EVENTS = 500
PACKAGES = 4
SENDERS = 4
PATIENCE_S = 90.0

FAST = SOON | {"limit": {"rate": "1000/s", "burst": 100, "concurrency": 8}}
CALM = FAST | {"storm": {"cases": 0}}
"""As many of Writer's calls as may be are out at each end; at the others it is a storm as well."""
SLOW = {"action": {"retry": {"check": {"wait": ["3s"]}}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One event that must not be lost, and the resource that it is about."""

    source: str
    event: dict[str, Any]
    sim: Simulator
    key: str


@dataclass(slots=True)
class Log:
    """The judge's own: what relay acknowledged, whatever its database says."""

    acked: dict[str, Post] = field(default_factory=dict)  #: by event id
    refused: list[int] = field(default_factory=list)  #: answers that were neither 200 nor 202 nor 503
    again: int = 0  #: posts that had to be sent again


def posts(on: Story, luck: random.Random) -> list[Post]:
    """Let things fail at all four providers, in any order."""
    made = []
    for number in range(EVENTS - PACKAGES):
        match number % 5:
            case 0 | 1 | 2:
                key, event = failed_file(on)
                made.append(Post(source="writer", event=event, sim=on.writer, key=key))
            case 3:
                on.flatfile.add(key := f"us_jb_{number}")
                job = forwarded(on.flatfile.events()[-1], "sk_live")
                made.append(Post(source="flatfile", event=job, sim=on.flatfile, key=key))
            case _:
                on.docflow.add(key := str(10**18 + number))
                event = {"task_id": key, "status": "failed"}
                made.append(Post(source="docflow", event=event, sim=on.docflow, key=key))
    for number in range(1, PACKAGES + 1):
        event = on.pack("example.package", f"1.{number}")
        made.append(Post(source="xpkg", event=event, sim=on.xpkg, key=f"example.package@1.{number}.0"))
    luck.shuffle(made)
    return made


def send(on: Story, url: str, todo: "queue.SimpleQueue[Post | None]", log: Log) -> None:
    """Post until acknowledged, one after another; a sender never gives up."""
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=10) as client:
        while (post := todo.get()) is not None:
            body = json.dumps(post.event).encode()
            token, headers = on.signed(post.source, body)
            while True:
                try:
                    answer = client.post(hook(post.source, token), content=body, headers=headers)
                except httpx.TransportError:
                    log.again += 1
                    time.sleep(0.02)
                    continue
                if answer.status_code in {200, 202}:
                    log.acked[answer.json()["event"]] = post
                    break
                log.refused.append(answer.status_code)
                time.sleep(0.02)


@contextmanager
def senders(on: Story, url: str, log: Log) -> Iterator["queue.SimpleQueue[Post | None]"]:
    """Post what is put into the queue, from several threads; wait at the end until all is acknowledged."""
    todo: queue.SimpleQueue[Post | None] = queue.SimpleQueue()
    threads = [threading.Thread(target=send, args=(on, url, todo, log), daemon=True) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    yield todo
    for _ in threads:
        todo.put(None)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a sender was never answered"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def rounds(todo: list[Post], number: int) -> list[list[Post]]:
    """Deal the posts out, so that there is something new to do in each life."""
    return [todo[first::number] for first in range(number)]


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Each acknowledged event is there with a case that ends; what was done twice is seen to be in doubt."""
    seed = int(os.environ.get("RELAY_TEST_SEED", random.randrange(1 << 32)))
    print(f"RELAY_TEST_SEED={seed} RELAY_TEST_KILLS={KILLS}")  # noqa: T201
    luck, log, port = random.Random(seed), Log(), free_port()
    with story(
        tmp_path, heals_after_s=0.3, slow=lambda: luck.random() * 0.1,
        writer=CALM, flatfile=FAST, docflow=FAST, xpkg=SLOW,
    ) as on:  # fmt: skip
        on.writer.limit = Window(10**9, 60)
        with senders(on, f"http://127.0.0.1:{port}", log) as todo:
            for some in rounds(posts(on, luck), KILLS):
                for post in some:
                    todo.put(post)
                relay = on.spawn("--port", str(port))
                if luck.random() < 0.25:
                    time.sleep(luck.uniform(0.1, 1.0))  # on its way up
                else:
                    assert relay.url
                    time.sleep(luck.uniform(0, 0.5))  # at work
                relay.process.kill()
                relay.ended()
            on.start("--port", str(port))

        until(lambda: all(case.ended for case in on.cases()), lambda: standing(on), within_s=PATIENCE_S)
        cases = {case.event: case for case in on.cases()}
        calls = {call.event: call for call in on.calls()}
        tries = {event: on.attempts(call) for event, call in calls.items()}
        unknown = sum(one.outcome == "unknown" for some in tries.values() for one in some)
        twice = [event for event, post in log.acked.items() if post.sim.retries[post.key] > 1]
        left = [case for case in cases.values() if case.state is not Stand.RECOVERED]
        said = f"{len(twice)} done twice, {[(case.key, case.why) for case in left]} left to people"
        print(f"{log.again} posts sent again, {unknown} tries unknown, {said}")  # noqa: T201

        assert EVENTS == len(log.acked)
        assert log.acked.keys() == {row["id"] for row in on.events()}
        assert EVENTS == len(cases) == len(on.cases())
        assert EVENTS == len(calls) == len(on.calls())
        for event, post in log.acked.items():
            case, call = cases[event], calls[event]
            sends = [one.outcome for one in tries[event] if one.step is Step.SEND]
            done = post.sim.retries[post.key]
            if case.state is Stand.RECOVERED:
                assert (State.DONE, True) == (call.state, done >= 1), (post.key, tries[event])
                assert done <= 1 + sends[:-1].count("unknown"), (post.key, tries[event])
            else:  # a call that was cut off three times may have used up the budget: people are told
                assert (Stand.GAVE_UP, ["unknown"] * 3) == (case.state, sends), (post.key, tries[event])
            assert done <= case.retries <= len(sends), (post.key, tries[event])
        assert len(left) <= EVENTS / 20
        assert not log.refused
        # Else it was no test.
        assert unknown
        assert log.again


def standing(on: Story) -> object:
    """Return how many cases stand where, and what the first says of itself that has not recovered."""
    left = [case for case in on.cases() if case.state is not Stand.RECOVERED]
    return Counter(case.state for case in on.cases()), left[:1]
