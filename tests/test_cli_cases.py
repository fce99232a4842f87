"""What does the shell show of cases, and what can a person do from there?"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import Result
from shell import on_a_terminal, read
from shell import relay as shell
from starlette.types import ASGIApp
from structlog.testing import capture_logs
from test_api import TOKEN, Api

from relay.case import Policy
from relay.engine import SQLite
from relay.keep import Keeper

HELD = Policy(approve=True, approve_ms=3_600_000)
LATER = Policy(wait_ms=(3_600_000,), retries=2)


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve an app on loopback; yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < until, "it did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


class Desk:
    """A relay's API that listens, its database, and a shell beside it."""

    def __init__(self, api: Api, url: str, db: Path) -> None:
        self.api, self.url, self.db = api, url, db
        self.file = Path(f"{db}.admin")
        self.environ = {"RELAY_DB": f"sqlite:///{db}", "USER": "ann"}

    def run(self, *args: str, **environ: str) -> Result:
        """Run a command beside the relay."""
        return shell(*args, **self.environ | environ)

    def read(self, *args: str) -> Any:
        """Run a command with --json."""
        return read(*args, **self.environ)

    def announce(self, **told: str) -> None:
        """Write what a running relay says of itself."""
        self.file.write_text(json.dumps({"url": self.url} | told))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Set up a relay without a worker, which has made a token at its start."""
    keep = Keeper(SQLite(tmp_path / "relay.db"))
    api = Api(keep)
    with capture_logs(), listening(api.app) as url:
        on = Desk(api, url, tmp_path / "relay.db")
        on.announce(token=TOKEN)
        yield on
    keep.close()


# -- cases --


def test_cases_are_listed_newest_first(desk: Desk) -> None:
    """One line a case: where it stands, how often it was retried, when it moves next, what and why."""
    ids = [desk.api.fail("held:1", policy=HELD), desk.api.fail("later:2", policy=LATER)]
    head, *lines = desk.run("cases").stdout.splitlines()

    assert ["id", "state", "retries", "next", "key", "why"] == head.split()
    assert [*reversed(ids)] == [line.split()[0] for line in lines]
    clock = r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d"
    assert re.search(rf" open +0 of 2 +{clock} +later:2 +it failed: retry 1 of 2 waits", lines[0])
    assert re.search(rf" open +0 of 3 +{clock} +held:1 +it failed: .* waits for a yes$", lines[1])


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        (["--state", "open"], ["h"]),
        (["--provider", "writer"], ["w"]),
        (["--rule", "other"], ["o"]),
        (["--state", "closed"], []),
    ],
)
def test_cases_of_one_kind(desk: Desk, flags: list[str], keys: list[str]) -> None:
    """Filters leave what they name; nothing is said to be nothing."""
    assert "no cases\n" == desk.run("cases").stdout
    desk.api.fail("h", policy=HELD)
    desk.api.fail("w", provider="writer")
    desk.api.fail("o", rule="other")

    assert keys == [case["key"] for case in desk.read("cases", *flags)["items"]]
    assert keys or desk.run("cases", *flags).stdout == "no such cases\n"


def test_page_after_page(desk: Desk) -> None:
    """`next` goes into --before, as in the API, and shows the same."""
    ids = [desk.api.fail(f"k{number}", policy=HELD) for number in range(3)]
    first = desk.read("cases", "--limit", "2")
    second = desk.read("cases", "--limit", "2", "--before", first["next"])

    assert [*reversed(ids)] == [case["id"] for case in first["items"] + second["items"]]
    assert second["next"] is None
    assert desk.api.ask("GET", "/api/v1/cases?limit=2").json() == first


def test_one_case_with_its_timeline(desk: Desk) -> None:
    """First how it stands, then what happened, in order, and who did it; by its id or its key."""
    case = desk.api.fail("flatfile:job_id=j", policy=HELD)
    desk.api.fail("flatfile:job_id=j")
    desk.run("snooze", case, "30h", "--why", "not before the weekend")
    text = desk.run("case", case).stdout
    told = desk.read("case", "flatfile:job_id=j")

    assert desk.run("case", "flatfile:job_id=j").stdout == text
    for line in (
        rf"id +{case}", "call +flatfile.retry", "with +job_id = j", "state +open",
        "retries +0; 3 left of 3 within 1d", "why +snoozed until .*: not before the weekend",
        r"next +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    ):  # fmt: skip
        assert re.search(rf"^{line}$", text, re.MULTILINE), text
    rows = text.partition("\n\n")[2].splitlines()
    assert ["at", "kind", "by", "about", "what"] == rows[0].split()
    assert ["opened", "joined", "snoozed"] == [row.split()[1] for row in rows[1:]]
    assert re.search(r" snoozed +ann +snoozed until .*: not before the weekend$", rows[3])
    assert ["opened", "joined", "snoozed"] == [moment["kind"] for moment in told["timeline"]]
    assert [None, None, "ann"] == [moment["by"] for moment in told["timeline"]]


def test_a_case_that_nobody_touched_names_nobody(desk: Desk) -> None:
    """The column of those who acted is there only if somebody has."""
    case = desk.api.fail("k")

    assert "at kind about what" in re.sub(" +", " ", desk.run("case", case).stdout)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_case_that_is_not_there(desk: Desk, flags: list[str]) -> None:
    """One line, with the key that is most like it; exit code 1."""
    desk.api.fail("flatfile:job_id=us_jb_1")
    result = desk.run("case", "flatfile:job_id=us_jb_2\x1b", *flags)

    key = "flatfile:job_id=us_jb_"
    said = rf"no case has the id, key or alias {key}2\x1b (did you mean '{key}1'?)"
    assert (1, "", f"relay: {said}\n") == (result.exit_code, result.stdout, result.stderr)


def test_nothing_from_outside_steers_the_terminal(desk: Desk) -> None:
    """A key, a value or a reason with escapes is shown, not obeyed."""
    case = desk.api.fail("k\x1b[2J", values={"job_id": "\x1b[31m"})
    for args in (["cases"], ["case", case], ["close", case, "--why", "w"], ["case", case]):
        result = desk.run(*args)
        assert 0 == result.exit_code
        assert "\x1b" not in result.output
        assert "\\x1b[2J" in result.output


@pytest.mark.parametrize("args", [["cases"], ["case", "k"]])
def test_a_terminal_of_80_columns(desk: Desk, args: list[str]) -> None:
    """Ids stay in one piece, and nothing of a table is wider than the terminal."""
    case = desk.api.fail("k", policy=HELD)
    code, said = on_a_terminal(*args, **desk.environ)

    assert 0 == code
    assert "\x1b[" in said
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    assert [line for line in lines if len(line) <= 80] == lines
    assert any(case in line for line in lines)


# -- acts --


@pytest.mark.parametrize(
    ("args", "policy", "then"),
    [
        (["retry", "k"], LATER, "retrying: a retry is on its way; next "),
        (["close", "k"], LATER, "closed: ann closed it"),
        (["close", "k", "--why", "no use"], LATER, "closed: no use"),
        (["snooze", "k", "2h", "--by", "bob"], HELD, "open: snoozed until "),
        (["approve", "k"], HELD, "retrying: a retry is on its way; next "),
        (["reject", "k"], HELD, "closed: ann said no"),
    ],
)
def test_a_person_acts(desk: Desk, args: list[str], policy: Policy, then: str) -> None:
    """The relay that runs does it; the shell says how the case stands then."""
    case = desk.api.fail("k", policy=policy)
    result = desk.run(*args)

    assert (0, "") == (result.exit_code, result.stderr)
    assert result.stdout.startswith(f"{case} k: {then}")
    assert 1 == desk.api.woken
    assert desk.read("case", case)["timeline"][-1]["by"] in {"ann", "bob"}


def test_any_key_gets_through(desk: Desk) -> None:
    """What a path would understand otherwise is encoded."""
    case = desk.api.fail("a/b?c#d e%2F")

    assert desk.run("close", "a/b?c#d e%2F").stdout.startswith(f"{case} a/b?c#d e%2F: closed")


def test_an_act_for_programs(desk: Desk) -> None:
    """--json has what the API answered, also when it says no."""
    case = desk.api.fail("k")
    done = desk.run("close", case, "--json")
    no = desk.run("close", case, "--json")

    assert (0, 200, "closed") == (
        done.exit_code, json.loads(done.stdout)["status"], json.loads(done.stdout)["case"]["state"]
    )  # fmt: skip
    assert (1, 409, "Not possible") == (
        no.exit_code, json.loads(no.stdout)["status"], json.loads(no.stdout)["title"]
    )  # fmt: skip


def test_an_instant_is_the_readers_own(desk: Desk) -> None:
    """Who writes no time zone means the clock on the wall."""
    desk.api.fail("k", policy=HELD)
    here = (datetime.now() + timedelta(days=3)).replace(microsecond=0)  # noqa: DTZ005 - the wall's
    assert 0 == desk.run("snooze", "k", here.isoformat()).exit_code

    found = datetime.fromisoformat(desk.read("case", "k")["next_at"])
    assert here == found.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["close", "j"], "no case has the id, key or alias j"),
        (["close", "kkky"], "no case has the id, key or alias kkky (did you mean 'kkkk'?)"),
        (["approve", "kkkk"], "not possible: nothing waits for a yes: the case is retrying"),
        (["snooze", "kkkk", "0s"], "snooze until when?: the time must be in the future"),
        (["close", "kkkk", "--why", "x" * 501], "not understood: expected why to be one line of text, 500"),
    ],
)
def test_what_relay_refuses(desk: Desk, args: list[str], said: str) -> None:
    """One line with the reason; exit code 1."""
    desk.api.fail("kkkk")
    result = desk.run(*args)

    assert (1, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines()))
    assert result.stderr.startswith(f"relay: {said}")


@pytest.mark.parametrize("time", ["soon", "2h30", "", "0001-01-01T00:00"])
def test_a_time_that_is_none(desk: Desk, time: str) -> None:
    """Wrong input says what is expected."""
    result = desk.run("snooze", "k", time)

    assert 2 == result.exit_code
    assert "expected 90m, 2h, 3d or an instant" in result.stderr


# -- which relay, and who may --


def test_no_relay_runs_there(desk: Desk) -> None:
    """Without the file that a running relay writes, nothing is tried; with a stale one, nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        stale = f"http://127.0.0.1:{free.getsockname()[1]}"
    desk.announce(url=stale, token=TOKEN)
    gone = desk.run("close", "k")
    desk.file.unlink()
    none = desk.run("close", "k")

    assert (1, 1) == (gone.exit_code, none.exit_code)
    assert f"relay: {stale}: connection refused (is `relay serve` running there?)\n" == gone.stderr
    assert none.stderr.startswith(f"relay: no relay runs on sqlite:///{desk.db}: there is no {desk.file} (")


def test_the_variable_goes_before_the_file(desk: Desk) -> None:
    """RELAY_ADMIN_TOKEN is shown, whatever the file says; --to needs no file at all."""
    desk.api.fail("k")
    desk.announce(token="of-an-earlier-relay-that-has-gone")
    wrong = desk.run("close", "k")
    desk.announce()
    missing = desk.run("close", "k")
    desk.file.unlink()
    right = desk.run("close", "k", "--to", f"{desk.url}/", RELAY_ADMIN_TOKEN=TOKEN, RELAY_DB="mysql://x")

    assert (1, f"relay: {desk.url}: wrong token (is RELAY_ADMIN_TOKEN that of this relay?)\n") == (
        wrong.exit_code, wrong.stderr
    )  # fmt: skip
    assert 2 == missing.exit_code
    assert missing.stderr.startswith("RELAY_ADMIN_TOKEN: is not set (it opens the relay at ")
    assert 0 == right.exit_code


def test_a_token_is_shown_to_its_relay_only(desk: Desk) -> None:
    """What stands in the file is not sent to another address; the same one may be spelled otherwise."""
    desk.api.fail("k")
    seen: list[bytes] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"authorization")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    with listening(other) as url:
        strange = desk.run("close", "k", "--to", url)
        told = desk.run("close", "k", "--to", url, RELAY_ADMIN_TOKEN=TOKEN)
    same = desk.run("close", "k", RELAY_TO=desk.url.replace("127.0.0.1", "localhost"))

    assert (2, 1, 0) == (strange.exit_code, told.exit_code, same.exit_code), same.output
    assert [f"Bearer {TOKEN}".encode()] == seen
    assert f"relay: {url}: 200: this is not relay's answer\n" == told.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not what relay writes there"),
        ("[]", "not what relay writes there"),
        ('{"url": 1}', "not what relay writes there"),
        ('{"url": "http://127.0.0.1:1", "token": ["x"]}', "not what relay writes there"),
    ],
)
def test_a_file_that_is_none_of_ours(desk: Desk, content: str, said: str) -> None:
    """One line, and nothing is sent."""
    desk.file.write_text(content)
    result = desk.run("close", "k")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(f"relay: {desk.file}: {said}")


@pytest.mark.parametrize(("to", "token"), [("localhost:1", TOKEN), ("", "short")])
def test_wrong_input(desk: Desk, to: str, token: str) -> None:
    """No address, or a token that no relay would have taken: exit code 2."""
    flags = ["--to", to] if to else []
    result = desk.run("close", "k", *flags, RELAY_ADMIN_TOKEN=token)

    assert (2, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines()))
    assert "short" not in result.stderr
