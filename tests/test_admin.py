"""How do cases and watches look from outside, and who is the admin?"""

import json
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from build import NOW
from structlog.testing import capture_logs
from test_docs import DOCS, rows

from relay.call import NEVER, Attempt, Call, Step
from relay.call import State as Called
from relay.case import Act, Case, Policy, Stand
from relay.cli.act import COMMANDS
from relay.config import admin_token
from relay.errors import ConfigError
from relay.gate import Gate
from relay.public import case_next, case_shown, doubles, next_at, watch_shown
from relay.rule import Watch
from relay.secret import Secret
from relay.serve import _announced

OPERATE = DOCS["operate.md"]
TITLES = ("Where a case stands", "How a watch stands")
TOKEN = "an-admins-token-of-the-tests"


CASE = Case(
    id="case_1", key="k", provider="p", rule="r", action="a", values={}, policy=Policy(), state=Stand.OPEN,
    why="", event="ev_1", opened_at=NOW,
)  # fmt: skip
CALL = Call(
    id="call_1",
    event="ev_1",
    key="k",
    rule="r",
    provider="p",
    action="a",
    values={},
    due_at=500,
    created_at=1,
)


@pytest.mark.parametrize(
    ("call", "deadline", "gate", "at"),
    [
        (CALL, None, None, 500),
        (CALL, 300, None, 300),
        (CALL, 700, None, 500),
        (CALL, 700, Gate(provider="p", shut_until=600), 600),
        (replace(CALL, due_at=NEVER), None, None, None),
        (replace(CALL, due_at=NEVER), 700, None, 700),
        (replace(CALL, state=Called.RUNNING), None, None, None),
        (replace(CALL, state=Called.HELD), 700, None, 700),
        (None, None, None, None),
    ],
)
def test_when_a_case_moves_next(call: Call | None, deadline: int | None, gate: Gate | None, at: int) -> None:
    """At its call's next try or its deadline, whichever comes first; an end moves no more."""
    case = replace(CASE, deadline_at=deadline)

    assert at == case_next(case, call, gate)
    assert None is case_next(replace(case, state=Stand.CLOSED), call, gate)


@pytest.mark.parametrize(
    ("gate", "at"),
    [
        (Gate(provider="p", throttled_until=60_000), 60_000),
        (Gate(provider="p", shut_until=60_000), 60_000),
        (Gate(provider="p", throttled_until=300), 500),
        (None, 500),
    ],
)
def test_the_next_try_is_not_before_the_gate_opens(gate: Gate | None, at: int) -> None:
    """A queued call whose provider is throttled, down or paused waits for that."""
    assert at == next_at(CALL, gate)
    assert None is next_at(replace(CALL, state=Called.DONE), gate)
    assert None is next_at(replace(CALL, due_at=NEVER), gate)


def test_a_budget_forgets_what_is_long_ago() -> None:
    """`spent` counts what lies in the window; `retries` counts all."""
    case = replace(CASE, retries=3, spent=(NOW - 90_000, NOW - 30_000), policy=Policy(within_ms=60_000))
    shown = case_shown(case, None, NOW)

    assert {"retries": 3, "within": "1m", "spent": 1} == shown["budget"]
    assert 3 == shown["retries"]


@pytest.mark.parametrize(
    ("tries", "number"),
    [
        ("send:done", 0),
        ("send:unknown", 0),
        ("send:retry send:done", 0),
        ("send:unknown send:done", 1),
        ("send:unknown send:unknown send:done", 2),
        ("send:unknown send:retry send:done", 1),
        ("send:unknown send:None", 1),
        ("send:unknown look:retry send:done", 0),
        ("send:unknown look:unknown send:done", 1),
        ("look:retry send:unknown look:done", 0),
    ],
)
def test_a_double_is_seen(tries: str, number: int) -> None:
    """What was sent though an earlier send may have been done counts, unless a look had cleared it up."""
    attempts = [
        Attempt(
            call="c", number=n, step=Step(step), began_at=1, outcome=None if outcome == "None" else outcome
        )
        for n, (step, _, outcome) in enumerate(one.partition(":") for one in tries.split())
    ]

    assert number == doubles(attempts)


WATCH = Watch(name="w", provider="writer", listing="failed_files", source="writer", every_ms=60_000)
SEEN = {
    "name": "w", "provider": "writer", "listing": "failed_files", "armed_at": NOW - 900_000,
    "ran_at": NOW - 60_000, "took_ms": 5_000, "items": 3, "fresh": 1, "standing": 2, "failures": 0,
    "next_at": NOW, "why": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "watch", "state", "lag_ms"),
    [
        ({}, WATCH, "well", 60_000),
        ({"ran_at": NOW - 125_000}, WATCH, "well", 125_000),
        ({"ran_at": NOW - 125_001}, WATCH, "behind", 125_001),
        ({"failures": 1, "why": "500"}, WATCH, "failing", 60_000),
        ({}, None, "gone", 60_000),
        ({"ran_at": None, "took_ms": None, "armed_at": NOW - 1_000}, WATCH, "new", 1_000),
        ({"ran_at": None, "took_ms": None}, WATCH, "behind", 900_000),
    ],
)
def test_how_a_watch_stands(row: dict[str, Any], watch: Watch | None, state: str, lag_ms: int) -> None:
    """The lag counts from when the last whole run began; after two turns without one, it is behind."""
    shown = watch_shown(SEEN | row, watch, NOW)

    assert (state, lag_ms) == (shown["state"], shown["lag_ms"])
    assert (watch and "1m") == shown["every"]


# -- what the docs say of them --


def test_every_state_has_its_row() -> None:
    """What `relay cases` and `relay watches` show is explained."""
    cases, watches = ({cells[0] for cells in rows(OPERATE, f"## {title}")} for title in TITLES)

    assert {f"`{stand}`" for stand in Stand} == cases
    assert {"`new`", "`well`", "`behind`", "`failing`", "`gone`"} == watches


def test_every_act_has_its_row() -> None:
    """What a person can do from the shell is explained, with its options."""
    acts = re.findall(r"`relay (\w+) ID[^`]*`", " ".join(cells[0] for cells in rows(OPERATE, "## The shell")))

    assert [*Act] == acts
    options = {
        option.opts[0] for act in COMMANDS for option in act.params if isinstance(option, click.Option)
    }
    assert [] == [option for option in options if f"`{option}`" not in OPERATE]


# -- the token, and where it is found --


def test_no_token_is_no_mistake() -> None:
    """Then each start makes one of its own."""
    assert admin_token({}) is None
    assert Secret("x" * 16, "") == admin_token({"RELAY_ADMIN_TOKEN": "x" * 16})


@pytest.mark.parametrize(
    ("token", "what"),
    [
        ("", "expected 16 bytes or more, got 0"),
        ("hunter2-hunter2", "expected 16 bytes or more, got 15"),
        ("a token with spaces", "without spaces"),
        ("ein-schlüssel-mit-ü", "ASCII"),
        ("sixteen-bytes-and\n", "visible"),
    ],
)
def test_a_weak_token_is_told_at_the_start(token: str, what: str) -> None:
    """It says what is wrong and how to make a good one, and not the token itself."""
    with pytest.raises(ConfigError, match=what) as caught:
        admin_token({"RELAY_ADMIN_TOKEN": token})

    assert str(caught.value).startswith("RELAY_ADMIN_TOKEN: expected")
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("made at the start", {"url": "http://127.0.0.1:1", "token": TOKEN}),
        ("env:RELAY_ADMIN_TOKEN", {"url": "http://127.0.0.1:1"}),
    ],
)
def test_the_file_is_for_our_user_and_our_lifetime(tmp_path: Path, origin: str, told: dict[str, str]) -> None:
    """Mode 0600, never through a link that lies there, and gone afterwards; a set token is not in it."""
    place, victim = tmp_path / "relay.db.admin", tmp_path / "victim"
    victim.write_text("mine")
    place.symlink_to(victim)
    (tmp_path / "relay.db.admin.new").symlink_to(victim)
    with _announced(place, "http://127.0.0.1:1", Secret(TOKEN, origin)):
        assert told == json.loads(place.read_bytes())
        assert 0o600 == stat.S_IMODE(place.lstat().st_mode)
        assert not place.is_symlink()

    assert ("mine", ["victim"]) == (victim.read_text(), [file.name for file in tmp_path.iterdir()])


def test_relay_runs_without_the_file(tmp_path: Path) -> None:
    """Where it can't be written, the log says so, and events are taken all the same."""
    with (
        capture_logs() as lines,
        _announced(tmp_path / "none" / "relay.db.admin", "http://x", Secret(TOKEN, "made at the start")),
    ):
        assert ["admin.no_file"] == [line["event"] for line in lines]
    assert TOKEN not in str(lines)
