"""Does the shell move a relay that runs as a process, and is its token seen by nobody else?"""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest
from click.testing import Result
from shell import read
from shell import relay as shell
from story import Story, failed_file, story, until

from relay.serve import _reached

HELD = """
[[rule]]
name = "held files"
from = "writer"
when.type = "file.held"
call = "writer.retry"
with.file_id = "{file_id}"
approve = true
"""
TOKEN = "an-admins-token-of-the-tests"
SOON = {"action": {"retry": {"check": {"wait": ["1s"]}}}}


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Story]:
    """Set a story up whose files heal at once."""
    with story(tmp_path, heals_after_s=0.1, rules=HELD, writer=SOON) as set_up:
        yield set_up


def beside(on: Story) -> dict[str, str]:
    """Return the variables of a shell on relay's machine."""
    return {"RELAY_DB": f"sqlite:///{on.db}", "RELAY_RULES": str(on.folder / "rules.toml"), "USER": "ann"}


def run(on: Story, *args: str, **environ: str) -> Result:
    """Run a command beside the relay."""
    return shell(*args, **beside(on) | environ)


def held(on: Story) -> str:
    """Let a file fail whose retry waits for a yes; return its case's id."""
    key, event = failed_file(on)
    assert 202 == on.post("writer", event | {"type": "file.held"}).status
    return str(read("case", f"writer:file_id={key}", **beside(on))["id"])


def announced(on: Story) -> dict[str, str]:
    """Return what relay says of itself."""
    file = Path(f"{on.db}.admin")
    until(file.exists, "the file is there")
    told: dict[str, str] = json.loads(file.read_text())
    return told


def written(on: Story) -> bytes:
    """Return all that the log and the database hold."""
    return on.relay.text.encode() + b"".join(file.read_bytes() for file in on.folder.glob("relay.db*"))


def test_a_yes_from_the_shell(on: Story) -> None:
    """What is held goes out on a yes, and recovers; nothing had to be set up for it."""
    on.start()
    case = held(on)
    before = len(on.writer.calls)
    said = run(on, "approve", case)
    until(lambda: read("case", case, **beside(on))["state"] == "recovered", "it has recovered")
    told = read("case", case, **beside(on))

    assert (0, 0, "") == (before, said.exit_code, said.stderr)
    assert said.stdout.startswith(f"{case} {told['key']}: retrying: a retry is on its way")
    assert ("ann", 1) == (next(one["by"] for one in told["timeline"] if one["by"]), told["retries"])
    assert 1 == len(on.relay.said("case.acted", by="ann", case=case))
    assert 1 == len(on.relay.said("case.recovered", case=case))


def test_the_token_that_is_made(on: Story) -> None:
    """Only relay's user can read it, it is in no log and no database, and it goes when relay stops."""
    on.start()
    told = announced(on)
    mode = stat.S_IMODE(Path(f"{on.db}.admin").stat().st_mode)
    closed = run(on, "close", held(on), "--why", f"look: {told['token']}")
    url = on.relay.url
    assert 0 == on.relay.end()

    assert (["token", "url"], url, 0o600) == (sorted(told), told["url"], mode)
    assert 0 == closed.exit_code
    assert ["relay.db"] == [file.name for file in on.folder.glob("relay.db*") if "lock" not in file.name]
    assert told["token"].encode() not in written(on)
    assert "no relay runs on" in run(on, "close", "k").stderr


def test_the_token_that_is_set(on: Story) -> None:
    """It is not in the file, nor anywhere else; the shell wants it in the same variable."""
    on.start(RELAY_ADMIN_TOKEN=TOKEN)
    case = held(on)
    without, wrong, right = (
        run(on, "close", case, **environ)
        for environ in ({}, {"RELAY_ADMIN_TOKEN": TOKEN + "x"}, {"RELAY_ADMIN_TOKEN": TOKEN})
    )

    assert {"url": on.relay.url} == announced(on)
    assert (2, 1, 0) == (without.exit_code, wrong.exit_code, right.exit_code)
    assert "wrong token" in wrong.stderr
    assert 1 == len(on.relay.said("admin.refused", why="wrong token"))
    assert TOKEN.encode() not in written(on)


def test_what_a_killed_relay_left_is_replaced(on: Story) -> None:
    """The next start makes another token; the old one opens nothing."""
    on.start()
    old = announced(on)
    on.relay.kick(SIGKILL)
    on.relay.ended()
    assert "is `relay serve` running there?" in run(on, "close", "k").stderr
    on.start()
    until(lambda: announced(on) != old, "the file is new")
    refused = run(on, "close", "k", "--to", on.relay.url, RELAY_ADMIN_TOKEN=old["token"])

    assert "wrong token" in refused.stderr
    assert "no case has" in run(on, "close", "k").stderr


@pytest.mark.parametrize("token", ["", "fifteen-bytes..", "a token with spaces"])
def test_a_weak_token_is_no_start(on: Story, token: str) -> None:
    """Exit code 2 and one line; nothing is made."""
    relay = on.spawn(RELAY_ADMIN_TOKEN=token)

    assert 2 == relay.ended()
    (line,) = relay.text.splitlines()
    assert line.startswith("RELAY_ADMIN_TOKEN: expected ")
    assert not on.db.exists()


@pytest.mark.parametrize(
    ("host", "reached"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1"), ("fe80::1%lo", "fe80::1%lo")],
)
def test_where_a_relay_is_reached_from_its_own_machine(host: str, reached: str) -> None:
    """Who listens on all addresses is reached on loopback."""
    assert reached == _reached(host)
