"""How does `relay serve` end, and how does it refuse to start?"""

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest
from story import Story, failed_file, hook, sent, story, until

from relay.call import State, Step
from relay.demo.sim import Fault

SIGNALS = pytest.mark.parametrize("number", [SIGTERM, SIGINT])


@SIGNALS
def test_calls_that_are_out_may_finish(tmp_path: Path, number: int) -> None:
    """A polite stop claims nothing more, and waits for the answers of what is out."""
    with story(tmp_path, slow=lambda: 0.5, writer={"limit": {"concurrency": 3}}) as on:
        on.start("--grace", "10")
        for _ in range(8):
            on.post("writer", failed_file(on)[1])
        until(lambda: len(on.store().calls(state="running")) == 3, "three calls are out")

        assert 0 == on.relay.end(number)

        (line,) = on.relay.said("relay.stopped")
        done, waiting = ([c for c in on.calls() if c.state is state] for state in (State.DONE, State.QUEUED))
        assert (3, 0) == (line["finished"], line["given_back"])
        assert (3, 5) == (len(done), len(waiting))
        assert [0] * 5 == [call.attempts for call in waiting]
        assert 3 == sum(on.writer.retries.values())


@SIGNALS
def test_what_is_given_back_is_looked_up(tmp_path: Path, number: int) -> None:
    """A call without an answer when the grace ends is unknown; the next start looks, and calls no more."""
    with story(tmp_path) as on:
        on.start("--grace", "0.5")
        on.writer.faults.extend([Fault(hang=True)] * 3)
        for _ in range(3):
            on.post("writer", failed_file(on)[1])
        until(lambda: len(on.writer.calls) == 3, "three calls are out")
        began = time.monotonic()

        assert 0 == on.relay.end(number)

        took = time.monotonic() - began
        (line,) = on.relay.said("relay.stopped")
        left = on.calls()
        on.start()
        calls = on.all_done()
        assert (0, 3) == (line["finished"], line["given_back"])
        assert {(State.UNKNOWN, Step.LOOK, 1)} == {(call.state, call.step, call.tries) for call in left}
        assert [["send unknown", "look done"]] * 3 == [on.tries(call) for call in calls]
        assert [1] * 3 == list(on.writer.retries.values())
        assert took < 3


def test_a_look_that_is_given_back_looks_again(tmp_path: Path) -> None:
    """What was never sent is queued, not unknown: no byte of the call had left."""
    with story(tmp_path) as on:
        on.start("--grace", "0.2")
        on.docflow.add("1978297791713619968")
        on.docflow.read_faults.append(Fault(hang=True))
        told = on.post("docflow", {"task_id": "1978297791713619968", "status": "failed"})
        until(lambda: on.docflow.calls, "the look is out")

        assert 0 == on.relay.end()

        left = on.call(told)
        on.start()
        call = on.settled(told)
        assert (State.QUEUED, Step.LOOK, 0) == (left.state, left.step, left.tries)
        assert (State.DONE, ["look retry", "look retry", "send done"]) == (call.state, on.tries(call))


def test_no_call_sets_out_after_the_signal(tmp_path: Path) -> None:
    """However many calls wait, each that was begun is settled when relay ends, and none is left running."""
    many = {"limit": {"rate": "2000/s", "burst": 1, "concurrency": 64}, "storm": {"cases": 0}}
    with story(tmp_path, writer=many) as on:
        on.start("--grace", "5")
        for _ in range(150):
            on.post("writer", failed_file(on)[1])

        assert 0 == on.relay.end()

        states = Counter(call.state for call in on.calls())
        assert {State.DONE} <= states.keys() <= {State.DONE, State.QUEUED}
        assert states[State.DONE] == len(sent(on.writer))


def test_a_sender_that_dawdles_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """The grace is for all together: half a post that never goes on adds nothing to it."""
    with story(tmp_path) as on:
        on.start("--grace", "2")
        host, port = on.relay.url.removeprefix("http://").split(":")
        on.writer.faults.append(Fault(hang=True))
        on.post("writer", failed_file(on)[1])
        until(lambda: on.writer.calls, "a call is out")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(f"POST {hook('writer')} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
            began = time.monotonic()

            assert 0 == on.relay.end()

            assert time.monotonic() - began < 3.5
        on.relays.clear()  # uvicorn has words of its own about the request that it cancelled


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Who asks twice does not want to wait for the grace; what was out is unknown at the next start."""
    with story(tmp_path) as on:
        on.start("--grace", "60")
        on.writer.faults.append(Fault(hang=True))
        told = on.post("writer", failed_file(on)[1])
        until(lambda: on.writer.calls, "a call is out")
        on.relay.kick(SIGTERM)
        until(lambda: on.relay.said("relay.stopping"), "the first was heard")
        on.relay.kick(SIGTERM)

        assert 0 == on.relay.ended(within_s=5)

        on.start()
        assert ["send unknown", "look done"] == on.tries(on.settled(told))


def test_a_second_relay_on_the_same_database_refuses(tmp_path: Path) -> None:
    """Two writers would call twice: the second says who is there, and exits with 1."""
    with story(tmp_path) as on:
        first = on.start()
        second = on.spawn()

        assert 1 == second.ended()

        assert "another relay serves this database" in second.text
        assert f"process {first.process.pid}" in second.text
        assert not second.said("relay.started")
        assert first.process.poll() is None


def test_a_taken_port_is_a_clear_line(tmp_path: Path) -> None:
    """Who can't listen touches nothing, says which address it was, and exits with 1: it may become free."""
    with story(tmp_path) as on, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert 1 == on.spawn("--port", str(port)).ended()

        (line,) = on.relay.text.splitlines()
        assert f"can't listen on 127.0.0.1:{port}" in line
        assert not on.db.exists()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Make a folder on a disk of 3 MB, which only root can."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def ready(on: Story) -> tuple[int, int]:
    """Ask both: is it alive, is it ready?"""
    return on.send("GET", "/livez").status, on.send("GET", "/readyz").status


def test_a_full_disk_is_no_death(small: Path) -> None:
    """Without room relay is alive and not ready, and takes nothing; with room again it goes on by itself."""
    with story(small) as on:
        relay = on.start("--min-free", "0")
        before = ready(on)
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(1 << 12))
        taken = 0
        while (told := on.post("writer", {"type": "x", "n": taken, "pad": "x" * 4000})).status == 202:
            taken += 1
            assert taken < 1000, "the disk never ran full"
        full = ready(on)
        filler.unlink()
        until(lambda: ready(on) == (200, 200), "it is ready again")
        call = on.settled(on.post("writer", failed_file(on)[1]))

        assert ((200, 200), (200, 503)) == (before, full)
        assert (503, "Not kept") == (told.status, told.said["title"])
        assert State.DONE is call.state
        assert taken + 1 == len(on.events())
        assert relay.process.poll() is None
