"""Do the rules change under load without an event that is lost, or decided by half of each?"""

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest
from process import PATIENCE_S, ROOT
from story import Story, Told, failed_file, story, until

from relay.call import State
from relay.config import admin_file

RELOADS = int(os.environ.get("RELAY_TEST_RELOADS", "40"))
A_SECOND = 100
"""Events that come in…"""
THREADS = 16
"""…from so many senders: four are too few for it on a busy machine, for each waits for its answer."""

WRITER = """
[source.writer]
preset = "writer"
secrets = ["env:WRITER_HOOK_SECRET"]

[provider.writer]
token = "env:WRITER_API_KEY"
"""
"""All that the story needs, so that a reload is quick."""

STAMPED = """
[[rule]]
name = "version {0}"
from = "writer"
when.type = "file.stamped"
call = "writer.retry"
case = "{0}:{{n}}"
with.file_id = "{0:08d}-0000-4000-8000-{{n}}"
approve = true
"""
"""Each version says its number three times; a person's yes would be needed for a call to go out."""

BREAKS: list[Callable[[str], str]] = [
    lambda text: text[: text.index("with.file_id")],
    lambda _: "",
    lambda text: text.replace("approve = true", "aprove = true"),
    lambda text: text.replace("writer.retry", "writer.retri"),
    lambda text: text + "[[rule]\n",
    lambda text: text.replace('from = "writer"', 'from = "nobody"'),
]


AT_A_TERMINAL = """
import fcntl, termios
from relay.cli import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
main()
"""


@contextmanager
def senders(on: Story) -> Iterator[dict[str, Told]]:
    """Post events, so many a second, for as long as the block lasts; return what each was answered."""
    told: dict[str, Told] = {}
    over = threading.Event()
    began = time.monotonic()

    def post(first: int) -> None:
        number = first
        while not over.wait(max(0.0, began + number / A_SECOND - time.monotonic())):
            name = f"{number:012d}"
            told[name] = on.post("writer", {"type": "file.stamped", "n": name})
            number += THREADS

    threads = [threading.Thread(target=post, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


def asked(on: Story) -> dict[str, Any]:
    """Send SIGHUP, and return what relay answers: its next word about rules."""
    lines = on.relay.lines
    heard = len(lines)
    on.relay.kick(SIGHUP)

    def answer() -> list[dict[str, Any]]:
        return [line for line in lines[heard:] if line["event"] in {"rules.loaded", "rules.broken"}]

    return until(answer, "an answer to SIGHUP")[0]


def test_reloads_under_load(tmp_path: Path) -> None:
    """None of the events is lost; each was decided by one version as a whole; half the files were broken."""
    with story(tmp_path) as on:
        for other in ("flatfile", "docflow", "xpkg"):
            (on.folder / f"providers/{other}.toml").unlink()
        (on.folder / "rules.toml").write_text(WRITER)
        on.start()
        versions: dict[str, int] = {on.relay.heard("relay.started")[0]["rule_version"]: 0}
        with senders(on) as told:
            for number in range(1, RELOADS + 1):
                text = WRITER + STAMPED.format(number)
                broken = number % 2 == 0
                text = BREAKS[number // 2 % len(BREAKS)](text) if broken else text
                (on.folder / "rules.toml").write_text(text)
                said = asked(on)
                assert ("rules.broken" if broken else "rules.loaded") == said["event"], said
                if not broken:
                    versions[said["rule_version"]] = number
        events = {event["id"]: event for event in on.events()}
        calls = {call.event: call for call in on.calls()}

        assert 1 + RELOADS // 2 == len(versions)
        assert {202} == {one.status for one in told.values()}
        assert {one.event for one in told.values()} == set(events)
        decided = set()
        for name, one in told.items():
            version = versions[events[one.event]["rule_version"]]
            decided.add(version)
            if version == 0:
                assert one.event not in calls
                continue
            call = calls[one.event]
            assert f"version {version}" == call.rule
            assert {"file_id": f"{version:08d}-0000-4000-8000-{name}"} == call.values
            assert f"{version}:{name}" == call.key
        # So many that nothing else could be true of it by chance.
        assert len(decided) > RELOADS // 4
        assert len(told) > 3 * RELOADS


def rules_of(on: Story) -> dict[str, Any]:
    """Ask which rules are in force."""
    told = on.send("GET", "/readyz")
    assert 200 == told.status
    rules: dict[str, Any] = told.said["rules"]
    return rules


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """Nobody has to ask; a broken one shows in the log and beside a ready that stays ready."""
    with story(tmp_path) as on:
        on.start()
        file, before = on.folder / "rules.toml", rules_of(on)
        good = file.read_text()
        file.write_text(good.replace('call = "writer.retry"', 'call = "writer.retri"'))
        (line,) = on.relay.heard("rules.broken")
        broken = rules_of(on)
        on.settled(on.post("writer", failed_file(on)[1]))  # by the old
        file.write_text(good + STAMPED.format(1))
        (loaded,) = on.relay.heard("rules.loaded")
        after = rules_of(on)

        assert (None, None) == (before["broken"], after["broken"])
        assert before["version"] == broken["version"] == line["in_force"] == loaded["before"]
        (problem,) = broken["broken"]
        assert ("rules.toml", "did you mean 'retry'?") == (problem["file"], problem["hint"])
        assert [f"rules.toml:{problem['line']}: {problem['key']}: {problem['what']} ({problem['hint']})"] == (
            line["problems"]
        )
        assert loaded["rule_version"] == after["version"] != before["version"]
        assert ["version 1"] == loaded["rules_added"]


def test_a_call_that_is_out_keeps_its_provider(tmp_path: Path) -> None:
    """Rules and provider go while the provider takes its time: its answer is understood all the same."""
    with story(tmp_path, slow=lambda: 0.4) as on:
        on.start("--no-reload")
        told = on.post("writer", failed_file(on)[1])
        until(lambda: on.store().calls(state="running"), "the call is out")
        text = (on.folder / "rules.toml").read_text()
        start, end = (
            text.index('[[rule]]\nname = "retry failed Writer'),
            text.index('name = "retry failed Fl'),
        )
        text = (text[:start] + "[[rule]]\n" + text[end:]).replace("[provider.writer]\ntoken", "# token")
        (on.folder / "rules.toml").write_text(text)
        (on.folder / "providers/writer.toml").unlink()
        line = asked(on)
        assert on.store().calls(state="running"), "it was still out"
        call = on.settled(told)

        assert 3 == line["providers"]
        assert (State.DONE, ["send done"]) == (call.state, on.tries(call))


@pytest.mark.parametrize("option", [["--no-reload"], []])
def test_a_watch_follows_the_rules(tmp_path: Path, option: list[str]) -> None:
    """One that comes runs, one that goes runs no more; SIGHUP is enough, also without looks of its own."""
    watch = """
[[watch]]
name = "failed tasks"
call = "docflow.failed_tasks"
every = "1s"
with.workspace_id = "1234567890"
"""
    with story(tmp_path) as on:
        on.start(*option)
        file = on.folder / "rules.toml"
        own = file.read_text()
        file.write_text(own + watch)
        asked(on)
        on.relay.heard("watch.ran")
        file.write_text(own)
        asked(on)
        until(lambda: not on.store().watches(), "the watch is gone")

        assert [] == on.relay.said("call.settled", outcome="dead")


def test_a_terminal_that_goes_takes_its_relay_with_it(tmp_path: Path) -> None:
    """The same signal says that nobody reads the log any more: relay ends as it does on SIGTERM."""
    with story(tmp_path) as on:
        ours, theirs = pty.openpty()
        relay = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, "serve", "--db", f"sqlite:///{on.db}", "--port", "0"],
            cwd=on.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **on.environ},
            stdin=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        until(admin_file(on.db).exists, "it is up")
        os.close(ours)

        assert relay.wait(PATIENCE_S) == 0
        assert not admin_file(on.db).exists()
