"""Does `replay --diff` count right, and leave everything as it was?"""

import hashlib
import json
import os
import re
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from build import event
from rulesfiles import SMALL, with_rule, write
from shell import on_a_terminal, relay

from relay.clock import now_ms
from relay.engine import SQLite
from relay.load import load
from relay.plan import plan
from relay.store import Store

EVENTS = int(os.environ.get("RELAY_TEST_REPLAY", "2000"))
"""Of these, one in four is a failure; CI has more."""

ENDED = ["job:failed", "job:completed", "job:updated", "job:deleted"]


def past(folder: Path, number: int) -> dict[str, str]:
    """Let rules decide events of the last hours; return the variables of a shell beside that database."""
    rules = load(write(folder, SMALL), {}, secrets=False)
    began = now_ms() - 2 * 3_600_000
    with closing(SQLite(folder / "relay.db")) as engine, engine.group():
        store = Store(engine.link())
        for count in range(number):
            at = began + count * 7_000_000 // number
            data = {
                "topic": ENDED[count % 4],
                "context": {"jobId": f"us_jb_{count}"},
                "payload": {"isPart": count % 40 == 0},
            }
            came = event(data, id=f"ev_{at:011x}{count:012x}", digest=f"{count:064}", received_at=at)
            store.record(came, plan(came, rules, at), version=rules.version, dedupe_ms=1)
    return {"RELAY_DB": f"sqlite:///{folder / 'relay.db'}", "RELAY_RULES": str(folder / "rules.toml")}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a shell beside a database with 80 events, of which 20 are failures."""
    return past(tmp_path_factory.mktemp("few"), 80)


def changed(few: dict[str, str], **keys: Any) -> str:
    """Write a file of rules that differs in these keys of its one rule; return its name."""
    folder = Path(few["RELAY_RULES"]).parent
    return str(write(folder, with_rule(**keys), "new.toml"))


def replayed(few: dict[str, str], *flags: str, code: int = 1) -> str:
    result = relay("replay", "--since", "3h", "--diff", *flags, **few)
    assert (code, "") == (result.exit_code, result.stderr), result.output
    return result.stdout


WHOLE = {"when": {"topic": "job:failed", "payload": {"isPart": False}}}


# -- nothing is sent, nothing is written --


def rows(file: Path) -> dict[str, list[Any]]:
    """Return all that is in a database."""
    with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").get or [], key=repr) for name in tables
        }


def test_thousands_of_events_are_compared_and_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted; no connection is tried, and the database is the same to the byte."""
    shell = past(tmp_path, EVENTS)
    file = tmp_path / "relay.db"
    before, held = hashlib.sha256(file.read_bytes()).hexdigest(), rows(file)
    tried: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    told = json.loads(replayed(shell, "--rules", changed(shell, **WHOLE), "--json", "--limit", "3"))

    lost = len([count for count in range(0, EVENTS, 4) if count % 40 == 0])
    assert EVENTS == told["totals"].pop("events")
    assert {
        "same": EVENTS - lost,
        "different": lost,
        "get_a_call": 0,
        "lose_a_call": lost,
        "windows_open": 0,
        "not_comparable": 0,
    } == told["totals"]
    assert {"retry": {"lost": lost, "gained": 0}} == told["by_rule"]
    assert [f"{count:012x}" for count in (0, 40, 80)] == [one["event"][-12:] for one in told["items"]]
    assert [] == tried
    assert (before, held) == (hashlib.sha256(file.read_bytes()).hexdigest(), rows(file))


# -- what people read --


def test_what_would_be_different_is_read_line_by_line(few: dict[str, str]) -> None:
    """Each event with what it loses and gains, then all of it in numbers."""
    first, lost, second, also, empty, *sums = replayed(few, "--rules", changed(few, **WHOLE)).splitlines()

    assert re.fullmatch(r"ev_\w{23}  [\d: -]+  flatfile", first)
    assert re.fullmatch(r"ev_\w{23}  [\d: -]+  flatfile", second)
    assert "  - retry: call flatfile.retry flatfile:job_id=us_jb_0" == lost
    assert "  - retry: call flatfile.retry flatfile:job_id=us_jb_40" == also
    assert "" == empty
    assert re.fullmatch(
        r"80 events, version \w{12} against what was decided: "
        r"78 the same; 2 different; 2 without a call that they got",
        sums[0],
    )
    assert ["  retry  -2 +0"] == sums[1:]


def test_only_so_many_are_shown(few: dict[str, str]) -> None:
    """How many more there are is said: here each failure, and each recovery, is another rule's."""
    told = replayed(few, "--rules", changed(few, name="another"), "--limit", "1").splitlines()

    assert ["… and 39 more events (--limit)"] == [line for line in told if "more" in line]
    assert 1 == len([line for line in told if line.startswith("  +")])
    assert ["  another  -0 +40", "  retry    -40 +0"] == sorted(told[-2:])
    assert "call that" not in told[-3]


def test_the_same_is_said_in_a_line(few: dict[str, str]) -> None:
    """And exits with 0, as diff does."""
    told = replayed(few, code=0)

    assert re.fullmatch(r"80 events, version (\w+) against what was decided: 80 the same\n", told)
    new = changed(few, **WHOLE)
    against = replayed(few, "--rules", new, "--against", new, code=0)
    assert re.fullmatch(r"80 events, version (\w+) against version \1: 80 the same\n", against)


def test_a_time_and_a_source_may_be_named(few: dict[str, str]) -> None:
    """What came outside is not counted."""
    assert "0 events" in replayed(few, "--source", "writer", code=0)
    assert "0 events" in replayed(few, "--until", "150m", code=0)
    some = int(replayed(few, "--until", "1h", code=0).split()[0])
    rest = json.loads(relay("replay", "--since", "1h", "--diff", "--json", **few).stdout)["totals"]["events"]
    assert (30 < some < 50, 80 - some) == (True, rest)


def test_how_far_it_has_come_is_drawn_on_a_terminal(few: dict[str, str]) -> None:
    """For whoever waits before one; what is read afterwards is the same."""
    code, text = on_a_terminal("replay", "--since", "3h", "--diff", **few)

    assert 0 == code
    assert "80/80" in text
    assert "80 the same" in text


# -- what it can't do --


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--since", "1h"], "only --diff exists so far"),
        (["--diff"], "Missing option '--since'"),
        (["--diff", "--since", "1 week"], "such as 90m, 12h or 7d, or an instant such as 2026-11-23T08:00"),
        (["--diff", "--since", "7"], "got '7'"),
        (["--diff", "--since", "2026-13-01"], "got '2026-13-01'"),
        (["--diff", "--since", "1h", "--until", "2h"], "there is no time between"),
        (["--diff", "--since", "1h", "--rules", "none.toml"], "none.toml: can't be read: No such file"),
        (["--diff", "--since", "1h", "--against", "none.toml"], "none.toml: can't be read: No such file"),
        (["--diff", "--since", "1h", "--db", "sqlite:///none.db"], "there is no such database"),
    ],
)
def test_what_can_not_be_compared(few: dict[str, str], flags: list[str], why: str) -> None:
    """1 means that something differs, so all that is wrong is 2."""
    result = relay("replay", *flags, **few)

    assert 2 == result.exit_code
    assert why in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
