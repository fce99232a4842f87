"""Does the demo tell its story, and leave nothing behind?"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from relay.demo.scenes import Scene
from relay.demo.sim import Seen
from relay.demo.stage import stage
from relay.demo.story import Told, _judge
from relay.demo.writer import WriterSim
from relay.errors import RelayError

PATIENCE_S = 60.0

TOLD = [
    r"writer +taken in .* ms, matched: 1 call\n",
    r"send → done: 200: accepted",
    r"writer +check 200 → done: it has recovered\n.*writer +✓ recovered after .* s, 1 retry",
    r"send → queued: 429: too many requests",
    r"flatfile +✓ recovered after .* s, 1 retry: an event says that it recovered",
    r"flatfile +taken in .* ms, duplicate: 0 calls",
    r"flatfile +taken in .* ms, no_rule: 0 calls",
    r"docflow +found by the watch, matched: 1 call",
    r"docflow +look 200 → queued: it has still failed",
    r"docflow +look 200 → dead: a child task can't be retried",
    r"xpkg +send → done: 204",
    r"writer +case 5{8}\S+ is open: it failed: retry 1 of 3 waits for a yes",
    r"you +\$ relay approve 5{8}",
    r"case_\w+ 5{8}\S+: retrying: a retry is on its way",
    r"writer +hook.refused wrong_secret",
    r"flatfile +✗ gave_up after .* s, 3 retries: it failed again, and its budget is spent",
    r"writer +send → unknown: 500",
    r"writer +look 200 → done",
    r" · flatfile +us_jb_broken +gave_up, 3 retries ",
    r" · docflow +1978297791713619999 +gave_up, 0 retries ",
    r"All as it should be",
]


NONE: Mapping[str, str] = {}

BACKGROUND = ("/bin/sh", "-c", 'trap \'\' INT; exec "$0" "$@"')
"""How a script starts what it puts into the background: Ctrl-C is not for it."""


@contextmanager
def running(
    tmp: Path, *flags: str, start: tuple[str, ...] = (), environ: Mapping[str, str] = NONE
) -> Iterator["subprocess.Popen[str]"]:
    """Run `relay demo` in a process group of its own."""
    process = subprocess.Popen(
        [*start, sys.executable, "-m", "relay", "demo", *flags],
        env=os.environ | {"TMPDIR": str(tmp), "PYTHONUNBUFFERED": "1"} | dict(environ),
        cwd=tmp,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        with process:
            yield process
    finally:
        watchdog.cancel()


@contextmanager
def demo(
    tmp: Path, *flags: str, start: tuple[str, ...] = (), environ: Mapping[str, str] = NONE
) -> Iterator["subprocess.Popen[str]"]:
    """Run `relay demo`, and see that nothing of it is left behind."""
    with running(tmp, *flags, start=start, environ=environ) as process:
        yield process
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # nobody of the group is there any more
    assert [] == list(tmp.iterdir())


def until(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what the demo says until it has said *words*."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def test_the_story_is_told_to_a_happy_end(tmp_path: Path) -> None:
    """Within a minute every scene is told, each ends as it should, and the exit code says so."""
    began = time.monotonic()
    # Whatever the reader's shell has set for a relay of their own.
    own = {"RELAY_HOST": "192.0.2.1", "RELAY_PORT": "1", "RELAY_LOG": "text", "RELAY_LOG_LEVEL": "error"}
    with demo(tmp_path, "--once", environ=own) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)

    assert 0 == process.returncode, said
    assert [] == [line for line in TOLD if not re.search(line, said)], said
    assert 9 == len(re.findall("^ ✓ .* recovered, 1 retry ", said, re.MULTILINE))
    assert not re.search(r"Traceback|not as it should be|\x1b", said)
    assert time.monotonic() - began < PATIENCE_S


def test_the_reader_may_go_on(tmp_path: Path) -> None:
    """Without --once the relay stays up for events of one's own, as it says, and Ctrl-C ends it well."""
    with demo(tmp_path) as process:
        hints = until(process, "Ctrl-C") + until(process, "relay send")
        folder = re.search(r"\. (\S+)/environ", hints)
        assert folder, hints
        relay = f"{sys.executable} -m relay"
        shell = (
            f". {folder[1]}/environ; echo $PATH; {relay} send writer {folder[1]}/mine.json && {relay} calls"
        )
        mine = subprocess.run(
            ["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=30, check=False
        )
        until(process, "recovered")
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=20)

    assert (0, "") == (mine.returncode, mine.stderr)
    path, told, *_ = mine.stdout.splitlines()
    assert str(Path(sys.executable).parent) == path.split(":")[0]
    assert told.startswith("202: event ev_")
    assert 0 == process.returncode
    assert "stopping" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_story_that_is_broken_off(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, a kill or a closed terminal in the middle, even in the background: nothing stays."""
    with demo(tmp_path, start=BACKGROUND) as process:
        until(process, "taken in")
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)  # who is impatient does not break the clearing up
        rest, _ = process.communicate(timeout=20)

    assert 1 == process.returncode
    assert "Traceback" not in rest


def test_a_demo_that_is_killed_outright(tmp_path: Path) -> None:
    """After `kill -9`, too, its relay and its folder go."""
    with running(tmp_path) as process:
        url = re.search(r"relay listens on http://(\S+):(\d+),", until(process, "relay listens"))
        assert url
        process.kill()
    give_up = time.monotonic() + 10
    while answers(url[1], int(url[2])) or any(tmp_path.iterdir()):
        assert time.monotonic() < give_up, list(tmp_path.iterdir())
        time.sleep(0.02)


def answers(host: str, port: int) -> bool:
    """Say if somebody listens there."""
    with socket.socket() as caller:
        return caller.connect_ex((host, port)) == 0


def test_a_pipe_that_is_closed_early(tmp_path: Path) -> None:
    """`relay demo | head` ends, too."""
    with demo(tmp_path) as process:
        until(process, "relay listens")
        assert process.stdout is not None
        process.stdout.close()
        process.wait(30)

    assert 0 != process.returncode


def test_a_relay_that_can_not_start_says_why() -> None:
    """The demo's own relay is a relay: its reason is told, not a time-out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        why = f"(?s)did not start.*can't listen on 127.0.0.1:{port}"
        with pytest.raises(RelayError, match=why), stage(port=port):
            pass


def test_a_story_that_went_wrong_is_told_as_wrong() -> None:
    """A case still open, ended otherwise, retried twice or in a request too many is no happy end."""
    sim, told = WriterSim(), Told()
    sim.calls = [
        Seen(method=method, path="/", query={}, headers={}, body=body, at=0.0)
        for method, body in (("POST", b"first"), ("GET", b"first"), ("POST", b"second"), ("POST", b"fine"))
    ]
    ends = (
        ("open", "", 0),
        ("lost", "gave_up", 1),
        ("twice", "recovered", 2),
        ("fine", "recovered", 1),
        ("first", "recovered", 1),
        ("second", "recovered", 1),
    )
    for key, state, times in ends:
        sim.retries[key] = times
        if state:
            told.ends[key] = {"state": state}
    scene = partial(Scene, source="writer", sim=sim, end="recovered", retries=1)
    script = [
        *(scene(tells=key, keys=(key,)) for key in ("open", "lost", "twice")),
        scene(tells="fine", keys=("fine",), requests=1),
        scene(tells="shared", keys=("first", "second"), requests=1),
    ]

    _judge(script, told)

    assert [
        "open: should be recovered, is still open",
        "open: the provider did it 0 times, should be 1",
        "lost: should be recovered, is gave_up",
        "twice: the provider did it 2 times, should be 1",
        "shared: asked for in 2 requests, should be 1",
    ] == told.wrong
