"""What do events, calls and providers show of a relay that has been through something?"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell import on_a_terminal, read, relay
from story import Story, story, until

from relay.demo.sim import Fault

CHILD = "1978297791713619999"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A relay that has been through something, and the variables of a shell beside it."""

    on: Story
    environ: dict[str, str]
    events: tuple[str, ...]  #: ids, from the first to the last


@contextmanager
def running(folder: Path) -> Iterator[Story]:
    """Run a relay whose files heal soon."""
    soon = {"action": {"retry": {"check": {"wait": ["1s"]}}}}
    with story(folder, heals_after_s=0.2, writer=soon) as on:
        on.start()
        yield on


def beside(on: Story) -> dict[str, str]:
    """Return the variables of a shell beside that relay."""
    files = {"RELAY_RULES": str(on.folder / "rules.toml"), "RELAY_DB": f"sqlite:///{on.db}"}
    return {**on.environ, **files}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Five events: one call done, one looked up, one dead; no rule for one, and one that is no JSON."""
    with running(tmp_path_factory.mktemp("filled")) as on:
        keys = [on.writer.add(name=name).key for name in ("a.pdf", "b.pdf")]
        on.docflow.add(CHILD, task_type=0, parent_task_id="1978297791713619968")
        told = [on.post("writer", {"type": "file.failed", "file_id": keys[0]})]
        until(lambda: on.calls(told[0].event)[-1].settled_at, "the first is done")
        on.writer.faults.append(Fault(status=500, body="so\n\x1b[2Jrry", after=True))
        told.append(on.post("writer", {"type": "file.failed", "file_id": keys[1]}))
        told.append(on.post("docflow", {"task_id": CHILD, "status": "failed"}))
        told.append(on.post("docflow", {"task_id": "1", "status": "completed\x1b[31m\nx"}))
        told.append(on.post("docflow", b"no JSON \x1b[2J"))
        until(lambda: all(one.case.ended for one in on.store().cases()), "all cases have ended")
        assert 3 == len(on.store().cases())
        yield Filled(on=on, environ=beside(on), events=tuple(one.event for one in told))


# -- events --


def test_events_are_listed_newest_first(filled: Filled) -> None:
    """One line an event: its id, where from, what was decided."""
    result = relay("events", **filled.environ)

    head, *lines = result.stdout.splitlines()
    assert ["id", "received", "source", "decision", "calls", "type", "why"] == head.split()
    assert [*reversed(filled.events)] == [line.split()[0] for line in lines]
    assert ["unparsable", "no_rule", "matched", "matched", "matched"] == [line.split()[3] for line in lines]
    assert [True, False] == [" not JSON: " in line for line in lines[:2]]


def test_events_for_programs(filled: Filled) -> None:
    """--json has the names of the API, instants in UTC, and where to go on."""
    told = read("events", **filled.environ)

    assert told["next"] is None
    first = told["items"][-1]
    assert {
        "id": filled.events[0],
        "source": "writer",
        "type": "file.failed",
        "calls": 2,
    }.items() <= first.items()
    assert {"received_at", "verified", "decision", "rule_version"} <= first.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["received_at"])


@pytest.mark.parametrize("command", ["events", "calls"])
def test_page_after_page(filled: Filled, command: str) -> None:
    """`next` goes into --before, until there is no more."""
    whole = [row["id"] for row in read(command, **filled.environ)["items"]]
    found: list[str] = []
    page = read(command, "--limit", "2", **filled.environ)
    while page["items"]:
        found += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        page = read(command, "--limit", "2", "--before", page["next"], **filled.environ)

    assert whole == found
    assert 3 <= len(found)


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        (["--source", "docflow"], 3),
        (["--decision", "matched"], 3),
        (["--decision", "unparsable", "--source", "docflow"], 1),
        (["--source", "flatfile"], 0),
    ],
)
def test_events_of_one_kind(filled: Filled, flags: list[str], number: int) -> None:
    """Filters leave what they name; nothing is said to be nothing, and is no error."""
    assert number == len(read("events", *flags, **filled.environ)["items"])
    text = relay("events", *flags, **filled.environ)
    assert 0 == text.exit_code
    assert number or text.stdout == "no such events\n"


def test_one_event(filled: Filled) -> None:
    """By its id, an event is shown with what came, what was decided and its calls."""
    told = read("events", filled.events[0], **filled.environ)
    text = relay("events", filled.events[0], **filled.environ).stdout

    assert '"file.failed"' in told["body"]
    assert [("check", "done"), ("retry", "done")] == [(call["kind"], call["state"]) for call in told["calls"]]
    assert 1 == len({call["case"] for call in told["calls"]})
    for line in (
        "decision +matched",
        "verified +verified",
        '{"type": "file.failed"',
        "call_.* done .*writer.retry",
        "retry failed Writer files +call +writer.retry ",
    ):
        assert re.search(line, text), text


def test_an_event_that_is_no_json_says_so(filled: Filled) -> None:
    """It is kept, with the reason; and what is in it does not steer the reader's terminal."""
    text = relay("events", filled.events[-1], **filled.environ).stdout

    assert re.search(r"why +not JSON: ", text)
    assert "no JSON \\x1b[2J" in text


@pytest.mark.parametrize("args", [["events"], ["events", "{event}"], ["calls"], ["calls", "{call}"]])
def test_nothing_from_outside_steers_the_terminal(filled: Filled, args: list[str]) -> None:
    """Escapes in a body, a type, a key or a provider's answer are shown, not obeyed."""
    for event in filled.events:
        for call in read("calls", "--event", event, **filled.environ)["items"] or [{"id": "x"}]:
            names = [arg.format(event=event, call=call["id"]) for arg in args]
            result = relay(*names, **filled.environ)
            assert "\x1b" not in result.output


# -- calls --


def test_calls_are_listed_newest_first(filled: Filled) -> None:
    """One line a call: its state, whom it calls, what for and why it stands so."""
    head, *lines = relay("calls", **filled.environ).stdout.splitlines()

    assert ["id", "state", "call", "tries", "next", "key", "why"] == head.split()
    assert 4 == len(lines)
    assert any(
        re.search(rf"dead +docflow\.retry +0 +{CHILD} +a child task can't be retried", line) for line in lines
    )
    assert 2 == len([line for line in lines if re.search(r" done +writer\.retry +1 ", line)])
    assert 1 == len([line for line in lines if re.search(r" done +writer\.retry \(check\) +0 ", line)])


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        (["--state", "dead"], 1),
        (["--provider", "writer"], 3),
        (["--state", "held"], 0),
        (["--event", "{0}"], 2),
        (["--case", "{1}"], 1),
        (["--case", "{1}", "--provider", "docflow"], 0),
    ],
)
def test_calls_of_one_kind(filled: Filled, flags: list[str], number: int) -> None:
    """Filters leave what they name."""
    [call] = read("calls", "--event", filled.events[1], **filled.environ)["items"]
    flags = [flag.format(filled.events[0], call["case"]) for flag in flags]

    assert number == len(read("calls", *flags, **filled.environ)["items"])
    assert number or relay("calls", *flags, **filled.environ).stdout == "no such calls\n"


def test_one_call_with_every_try(filled: Filled) -> None:
    """By its id, a call is shown with its tries: the one in doubt, and the look that cleared it up."""
    [call] = read("calls", "--event", filled.events[1], **filled.environ)["items"]
    told = read("calls", call["id"], **filled.environ)
    text = relay("calls", call["id"], **filled.environ).stdout

    tries = [(one["step"], one["status"], one["outcome"]) for one in told["attempts"]]
    assert ("send", 500, "unknown") == tries[0]
    assert ("look", 200, "done") == tries[-1]
    assert {"number", "began_at", "ended_at", "why", "answer"} <= told["attempts"][0].keys()
    assert ("retry", 0, told["values"]["file_id"]) == (told["kind"], told["doubles"], told["key"])
    assert re.search(r"^1 .* send +500 +unknown .*so \\x1b\[2Jrry", text, re.MULTILINE), text
    assert re.search(r"^with +file_id = ", text, re.MULTILINE)


@pytest.mark.parametrize("command", ["events", "calls"])
def test_an_id_that_nothing_has(filled: Filled, command: str) -> None:
    """One clear line, and exit code 1."""
    for flags in ([], ["--json"]):
        result = relay(command, "x\x1b", *flags, **filled.environ)
        assert (1, "") == (result.exit_code, result.stdout)
        assert f"relay: there is no {command[:-1]} x\\x1b\n" == result.stderr


# -- providers --


def test_providers(filled: Filled) -> None:
    """One line a provider: its gate, and how its calls stand."""
    text = relay("providers", **filled.environ).stdout
    told = {row["name"]: row for row in read("providers", **filled.environ)["items"]}

    assert ["docflow", "flatfile", "writer", "xpkg"] == sorted(told)
    assert {"done": 3} == told["writer"]["calls"]
    assert ["retry"] == told["xpkg"]["actions"]
    assert re.search(r"^docflow +open +1 dead +retry +http://127", text, re.MULTILINE), text
    assert re.search(r"^flatfile +open +none ", text, re.MULTILINE), text


def test_providers_need_no_database(filled: Filled, tmp_path: Path) -> None:
    """What the rules use can be seen before anything has run; that nothing has, is said beside it."""
    environ = filled.environ | {"RELAY_DB": f"sqlite:///{tmp_path / 'none.db'}"}

    assert [{}] * 4 == [row["calls"] for row in read("providers", **environ)["items"]]
    note = f"relay: there is no database yet: {tmp_path / 'none.db'}; `relay serve` makes it\n"
    assert note == relay("providers", **environ).stderr == relay("providers", "--json", **environ).stderr


def test_a_provider_that_the_rules_have_left(filled: Filled, tmp_path: Path) -> None:
    """Its calls are not forgotten: nobody makes them, and that is said."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[source.hook]\nverify = "none"\ni_know_this_is_unauthenticated = true\n')
    environ = filled.environ | {"RELAY_RULES": str(rules)}

    told = {row["name"]: (row["gate"], row["calls"]) for row in read("providers", **environ)["items"]}
    assert {"docflow": ("gone", {"dead": 1}), "writer": ("gone", {"done": 3})} == told
    text = relay("providers", **environ).stdout
    assert re.search(r"^writer +gone +3 done +rules\.toml no longer uses it$", text, re.MULTILINE), text


# -- databases --


@pytest.mark.parametrize("command", ["events", "calls", "cases"])
def test_a_database_that_is_not_there(tmp_path: Path, command: str) -> None:
    """One clear line with a way out; nothing is made."""
    result = relay(command, RELAY_DB=f"sqlite:///{tmp_path / 'none.db'}")

    assert (1, "") == (result.exit_code, result.stdout)
    assert (
        f"relay: {tmp_path / 'none.db'}: there is no such database; `relay serve` makes it\n" == result.stderr
    )
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["serve", "events", "calls", "cases", "providers"])
@pytest.mark.parametrize(
    ("place", "why"),
    [
        (":memory:", "it needs a file"),
        ("{0}", "is a folder"),
        ("{0}/none/relay.db", "there is no folder {0}/none"),
        ("{0}/x.db", "is not a database"),
        ("{0}/x.db/relay.db", "there is no folder {0}/x.db"),
        ("{0}/x%00.db", "expected sqlite:///FILE"),
        ("{0}/" + "x" * 300, "file name too long"),
    ],
)
def test_where_no_database_can_be(filled: Filled, tmp_path: Path, command: str, place: str, why: str) -> None:
    """What no restart can mend is wrong input: one line, exit code 2, and nothing is made."""
    (tmp_path / "x.db").write_text("hello\n" * 100)
    result = relay(command, **filled.environ | {"RELAY_DB": f"sqlite:///{place.format(tmp_path)}"})

    assert (2, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines())), result.output
    assert f"--db: {place.format(tmp_path)}: {why.format(tmp_path)}" in result.stderr or why in result.stderr
    assert ["x.db"] == [path.name for path in tmp_path.iterdir()]


def test_a_url_that_is_no_database(tmp_path: Path) -> None:
    """A URL of another kind is wrong input, and its password stays with us."""
    wrong = relay("events", RELAY_DB="mysql://me:secret@host/db")

    assert 2 == wrong.exit_code
    assert "expected sqlite:///FILE" in wrong.stderr
    assert "secret" not in wrong.stderr


def test_before_anything_came_and_after_relay_stopped(tmp_path: Path) -> None:
    """An empty database is no error; and what is in it can be read when relay has stopped."""
    (tmp_path / "relay").mkdir()
    with running(tmp_path / "relay") as on:
        assert "no events\n" == relay("events", **beside(on)).stdout
        assert "no calls\n" == relay("calls", **beside(on)).stdout
        assert {"items": [], "next": None} == read("calls", **beside(on))
        event = on.post("docflow", {"status": "completed"}).event
        assert 0 == on.relay.end()

        assert [event] == [row["id"] for row in read("events", **beside(on))["items"]]
        copy = shutil.copy(on.folder / "relay.db", tmp_path)
        assert event in relay("events", **beside(on) | {"RELAY_DB": f"sqlite:///{copy}"}).stdout


# -- what is mistyped, and what is broken off --


@pytest.mark.parametrize("to", ["127.0.0.1:8181", "localhost", "ftp://127.0.0.1", "http://", "http://[x"])
def test_send_to_what_is_no_address(filled: Filled, to: str) -> None:
    """Nothing was tried, and nothing would help but another address: exit code 2."""
    result = relay("send", "writer", "-", "--to", to, stdin="{}", **filled.environ)

    hint = "" if "://" in to else f" (did you mean http://{to}?)"
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"--to: expected http://HOST:PORT, got '{to}'{hint}\n" == result.stderr


@pytest.mark.parametrize(
    ("name", "hint"), [("cals", "did you mean 'calls'?"), ("frob\x1b", "known: approve, calls, case, ")]
)
def test_a_command_that_is_none(name: str, hint: str) -> None:
    """It has a near miss, or the list."""
    result = relay(name)

    assert 2 == result.exit_code
    shown = name.replace("\x1b", "\\x1b")
    assert f"Error: there is no command '{shown}' ({hint}" in result.stderr


def test_ctrl_c_while_relay_is_loading() -> None:
    """There is no traceback of an import that was broken off."""
    loading = "class C:\n def find_spec(name, *_):\n  if name == 'relay.cli': raise KeyboardInterrupt"
    run = "import runpy, sys\nsys.meta_path.insert(0, C)\nrunpy.run_module('relay', run_name='__main__')"
    told = subprocess.run(
        [sys.executable, "-c", f"{loading}\n{run}"], capture_output=True, timeout=30, check=False
    )

    assert (130, b"", b"") == (told.returncode, told.stdout, told.stderr)


# -- terminals and pipes --


def test_a_pipe_that_is_closed(filled: Filled) -> None:
    """`relay events | head -1` says nothing about a broken pipe."""
    for flags in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            told = subprocess.run(
                [sys.executable, "-m", "relay", "events", *flags],
                env=os.environ | filled.environ,
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=30,
                check=False,
            )
        assert b"" == told.stderr
        assert told.returncode in {1, 141, -signal.SIGPIPE}


@pytest.mark.parametrize("command", ["events", "calls", "providers"])
def test_a_terminal_of_80_columns(filled: Filled, command: str) -> None:
    """Ids stay in one piece, nothing is wider than the terminal, and colours help the eye."""
    code, said = on_a_terminal(command, **filled.environ)

    assert 0 == code
    assert "\x1b[1m" in said
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    assert [line for line in lines if len(line) <= 80] == lines
    rows = read(command, **filled.environ)["items"]
    assert [row.get("id", row.get("name")) for row in rows] == [
        line.split()[0] for line in lines[1:] if not line.startswith(" ")
    ]
