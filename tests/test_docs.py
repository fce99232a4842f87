"""Do the docs say what is so?  Commands, keys, log lines, states and examples, each held against the code."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from story import until
from test_house import FLOORS

from relay import schema
from relay.call import State
from relay.cli import main
from relay.event import Decision
from relay.load import BUILT_IN, load
from relay.provider import Action, Provider
from relay.render import request

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
BASES = {schema.Strict, schema.ShapeFile, schema.WayFile}
"""Models whose keys are all in the tables of those that are made of them."""
MARK = re.compile(r"<!-- (\w+) -->\n(?:\|.*\n)*")


def blocks(text: str, language: str) -> list[str]:
    """Return the contents of a page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str, after: str) -> list[list[str]]:
    """Return the rows of the first table behind *after*, cell by cell."""
    table = text.partition(after)[2].partition("\n\n|" if not after.endswith("-->") else "\n|")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# -- the README's commands --


@pytest.mark.parametrize("end", [".venv/bin/relay demo --once", ".venv/bin/python -m pytest"])
def test_the_readmes_commands_are_those_that_ci_runs(end: str) -> None:
    """What a newcomer pastes is one line, and CI has run that very line."""
    (command,) = [line for block in blocks(README, "sh") for line in block.splitlines() if line.endswith(end)]

    assert command in (ROOT / ".ci/run").read_text()


def test_every_command_of_the_shell_has_its_line() -> None:
    """The README's table of commands is complete."""
    commands = {cells[0] for cells in rows(README, "## Run it")}

    assert {f"`relay {name}`" for name in main.commands} == commands


def test_every_option_of_serve_has_its_line() -> None:
    """docs/operate.md has each option with its variable and its default."""
    serve = main.commands["serve"]
    expected = set()
    for option in serve.params:
        assert isinstance(option, click.Option)
        expected.add((f"`{option.opts[0]}`", f"`{option.envvar}`", f"`{option.default}`"))

    assert expected == {
        (cells[0], cells[1], cells[2]) for cells in rows(DOCS["operate.md"], "## Start and stop")
    }


def test_links_lead_somewhere() -> None:
    """Every relative link of a page names a file that is there."""
    pages = {ROOT / "README.md": README} | {ROOT / "docs" / name: text for name, text in DOCS.items()}
    dead = [
        (page.name, link)
        for page, text in pages.items()
        for link in re.findall(r"\]\(([^)#]+)\)", text)
        if not urlsplit(link).scheme and not (page.parent / link).exists()
    ]

    assert [] == dead


# -- words that appear in logs and tables --


def test_every_log_line_has_its_row() -> None:
    """docs/operate.md names each event that relay logs, and none that it does not."""
    code = "\n".join(path.read_text() for path in (ROOT / "relay").rglob("*.py"))
    logged = set(re.findall(r"(?:\blog\.\w+|\bspeak)\(\s*\"(\w+\.\w+)\"", code))
    logged |= set(re.findall(r"\"(call\.\w+)\" if settled else \"", code))
    logged |= set(re.findall(r"if settled else \"(call\.\w+)\"", code))

    assert logged == {cells[0].strip("`") for cells in rows(DOCS["operate.md"], "<!-- log -->")}


def test_every_state_has_its_row() -> None:
    """What `relay calls` and `relay events` show is explained."""
    states = {cells[0] for cells in rows(DOCS["operate.md"], "## Where a call stands")}

    assert {f"`{state}`" for state in State} == states
    assert [] == [decision for decision in Decision if f"`{decision}`" not in DOCS["operate.md"]]


def test_every_word_of_a_gate_has_its_row() -> None:
    """What `relay providers` says of a gate is explained."""
    code = (ROOT / "relay/public.py").read_text()
    words = set(re.findall(r"(?:return |\"gate\": )\"(\w+)\"", code))

    assert words == {
        cells[0].strip("`") for cells in rows(DOCS["operate.md"], "## When a provider may be called")
    }


def test_the_map_is_that_of_the_house() -> None:
    """docs/house.md has each module on its floor, as the test of the imports has them."""
    found: dict[str, set[str]] = {}
    floor = ""
    for name, rooms, _ in rows(DOCS["house.md"], "## The map"):
        floor = name or floor
        found.setdefault(floor, set()).update(re.findall(r"`(\w+)/?`", rooms))

    assert {floor: set(rooms.split()) - {"__main__"} for floor, rooms in FLOORS.items()} == found


def test_every_provider_has_its_row(tmp_path: Path) -> None:
    """docs/rules.md has the secrets, the actions and the values of each provider that comes with relay."""
    (tmp_path / "rules.toml").write_text((ROOT / "rules.toml").read_text() + "\n[provider.sns]\n")
    rules = load(tmp_path / "rules.toml", {}, secrets=False)
    assert {file.stem for file in (BUILT_IN / "providers").glob("*.toml")} == set(rules.providers)
    expected = {}
    for name, provider in rules.providers.items():
        for action in provider.actions.values():
            expected[f"`{name}.{action.name}`"] = (set(provider.secrets), list(action.values))

    found = {}
    for _, secrets, action_name, values in rows(DOCS["rules.md"], "<!-- SettingsFile -->\n"):
        names = set(re.findall(r"`(\w+)`", secrets)) - {"files"}
        found[action_name] = (names, re.findall(r"`(\w+)`", values))
    assert expected == found
    ours = load(ROOT / "rules.toml", {}, secrets=False).providers.values()
    assert [] == [provider.title for provider in ours if provider.title not in README]


# -- keys --


def models() -> Iterator[type[BaseModel]]:
    """All tables of the file formats that somebody writes."""
    found = (getattr(schema, name) for name in dir(schema))
    return (
        one for one in found if isinstance(one, type) and issubclass(one, schema.Strict) and one not in BASES
    )


def table(model: type[BaseModel]) -> str:
    """Write a model's keys as the docs have them."""
    lines = ["| key | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if model is schema.PresetFile and name not in schema.ABOUT:
            continue  # it stands in the table of SourceFile
        key, default = field.alias or name, field.default
        if default is PydanticUndefined:
            shown = "needed"
        elif default in (None, "", [], {}) or isinstance(default, BaseModel):
            shown = ""
        elif schema.duration in [getattr(one, "func", None) for one in field.metadata]:
            shown = f"`{default // 86_400_000}d`" if default else ""
        else:
            shown = f"`{json.dumps(default)}`"
        lines.append(f"| `{key}` | {shown} | {field.description} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """Return a page with its tables of keys written anew."""
    known = {model.__name__: model for model in models()}

    def fresh(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{table(known[match[1]])}" if match[1] in known else match[0]

    return MARK.sub(fresh, text)


@pytest.mark.parametrize("name", sorted(DOCS))
def test_tables_of_keys_are_those_of_the_schema(name: str) -> None:
    """Each key stands with its default and its line; `python tests/test_docs.py` writes them anew."""
    assert renewed(DOCS[name]) == DOCS[name]


def test_every_model_has_a_table() -> None:
    """No key is left out."""
    marked = {mark for text in DOCS.values() for mark in MARK.findall(text)}

    assert set() == {model.__name__ for model in models()} - marked
    for base in BASES:
        made = [model for model in models() if issubclass(model, base)]
        assert made


# -- examples --


def written(folder: Path, text: str) -> Path:
    """Write a page's TOML blocks under the names in their first lines; return its rules.toml."""
    found = blocks(text, "toml")
    assert found
    for block in found:
        name = block.partition("\n")[0].removeprefix("# ")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block)
    return folder / "rules.toml"


@pytest.mark.parametrize("name", ["README.md", "rules.md", "providers.md"])
def test_toml_of_the_docs_loads_and_its_tests_pass(name: str, tmp_path: Path) -> None:
    """What a page shows is what relay takes."""
    rules = written(tmp_path, DOCS.get(name, README))

    done = relay("check", "--no-secrets", str(rules), folder=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)


def test_the_tests_that_the_page_shows_pass(tmp_path: Path) -> None:
    """Those beside a rule, and the events for all rules."""
    written(tmp_path, DOCS["rules.md"])

    done = relay("check", "--no-secrets", "proven/rules.toml", "--tests", "proven/events", folder=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert "5 of 5 tests pass" in done.stdout


def test_the_examples_of_the_provider_in_the_docs_hold(tmp_path: Path) -> None:
    """The request goes out as written, and each answer and look mean what is said of them."""
    rules = load(written(tmp_path, DOCS["providers.md"]), {}, secrets=False)
    acme = rules.providers["acme"]
    action = acme.actions["retry"]
    assert action.check is not None

    assert 2 == len(action.examples)
    for example in action.examples:
        if example.request:
            assert example.request == sent(acme, action, example.with_)
        for told, readings, said in (
            (example.answer, action.outcomes, example.outcome),
            (example.look, action.check.states, example.state),
        ):
            if told:
                data = {"status": told["status"], "headers": {}, "body": told["json"]}
                assert said == next(one.is_ for one in readings if one.when.meets(data))


def sent(provider: Provider, action: Action, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that goes out for *values*, as an example writes it."""
    made = request(provider, action.shape, action, values, 0)
    assert isinstance(made.body, bytes)
    return {"method": made.method, "path": urlsplit(made.url).path, "json": json.loads(made.body)}


# -- what the README shows on a console --


def relay(*args: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of relay in *folder*."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *args],
        cwd=folder,
        env=surroundings(environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which `relay` is this very relay, whatever is installed."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **environ}


def consoles() -> list[list[tuple[str, list[str]]]]:
    """Return the README's console blocks, as commands with what they print."""
    found = []
    for block in blocks(README, "console"):
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            else:
                commands[-1][1].append(line)
        found.append(commands)
    return found


class Shell:
    """One `sh` that is told line after line, as a reader tells theirs; nothing of it is left behind."""

    END = "-- that was it --"

    def __init__(self, folder: Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=surroundings(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.watchdog = threading.Timer(60, self.kill)
        self.watchdog.start()

    def prints(self, command: str) -> list[str]:
        """Run a line, and return what it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\necho; echo '{self.END}'\n")
        self.process.stdin.flush()
        lines = (line.rstrip() for line in iter(self.process.stdout.readline, ""))
        return list(filter(None, takewhile(lambda line: line != self.END, lines)))

    def kill(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave, and take along what is still there."""
        self.watchdog.cancel()
        self.kill()
        self.process.communicate()


CHANGES = re.compile(r"(?<=_)[0-9a-f]{23}|\b\d\d:\d\d:\d\d\b")
"""What is another at each run: ids and times, as long as those in the README."""


def alike(lines: list[str]) -> list[str]:
    """Return what is printed, with a # for each character that changes."""
    return [CHANGES.sub(lambda found: "#" * len(found[0]), line) for line in lines]


def test_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    """A reader who pastes the example line by line sees the very same, and calls nobody outside."""
    relay_ = tmp_path / "clone" / ".venv" / "bin" / "relay"
    relay_.parent.mkdir(parents=True)
    relay_.write_text(f'#!/bin/sh\nexec {sys.executable} -m relay "$@"\n')
    relay_.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    set_up, explain, post = consoles()
    (serve, _), (curl, answer), (calls, shown), (kill, _) = post  # sh does not say [1] 4711
    with closing(Shell(tmp_path / "clone", RELAY_PORT=str(port))) as shell:
        assert [expected for _, expected in set_up] == [shell.prints(command) for command, _ in set_up]
        rules = load(written(tmp_path / "relay-try", README), {}, secrets=False)
        assert ["127.0.0.1"] == [urlsplit(p.base_url).hostname for p in rules.providers.values()]
        assert [expected for _, expected in explain] == [shell.prints(command) for command, _ in explain]
        assert [] == shell.prints(serve)
        assert alike(answer) == alike(shell.prints(curl.replace(":8080", f":{port}")))
        until(lambda: alike(shown) == alike(shell.prints(calls)), lambda: shell.prints(calls))
        assert ["0"] == shell.prints(f"{kill}; wait $!; echo $?")


if __name__ == "__main__":
    for page in (ROOT / "docs").glob("*.md"):
        page.write_text(renewed(page.read_text()))
