"""What does a person at the shell see?  The right words, the right exit code, and never a traceback."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from rulesfiles import ENVIRON, ROOT, problems
from shell import beside, read, relay

from relay import __version__
from relay.cli import main
from relay.demo.stage import stage

BROKEN = ROOT / "tests" / "data" / "broken"
BROKEN_FILES = [*sorted(BROKEN.glob("*.toml")), BROKEN / "beside" / "rules.toml"]
BROKEN_ENVIRON = {
    "HOOK_TOKEN": "hook-token-of-a-good-length",
    "API_TOKEN": "api",
    "EMPTY": "",
    "SHORT": "short",
}
FAILED_JOB: dict[str, Any] = {
    "topic": "job:failed",
    "context": {"jobId": "us_jb_1"},
    "payload": {"isPart": False},
}


@contextmanager
def packages(folder: Path) -> Iterator[dict[str, str]]:
    """Put our own rules.toml in a folder with all that it needs."""
    (folder / "packages").mkdir(parents=True)
    (folder / "rules.toml").write_bytes((ROOT / "rules.toml").read_bytes())
    yield {**ENVIRON, "RELAY_RULES": str(folder / "rules.toml")}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, str]]:
    """Run a relay, and return what a shell beside it knows."""
    with stage(heals_after_s=0.2) as on:
        yield beside(on)


# -- help --


def test_every_command_has_help() -> None:
    """Each command, argument and option says what it is for, in lines that are whole at 80 columns."""
    top = relay("--help").stdout
    assert 1 == top.count("...")  # COMMAND [ARGS]...

    for name, command in main.commands.items():
        result = relay(name, "-h")
        assert 0 == result.exit_code
        assert f"  {name} " in top
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (name, option.name)


def test_versions_and_ways_in() -> None:
    """`python -m relay` is relay."""
    told = subprocess.run(
        [sys.executable, "-m", "relay", "--version"], capture_output=True, text=True, timeout=30, check=False
    )

    assert (0, f"relay, version {__version__}\n", "") == (told.returncode, told.stdout, told.stderr)
    assert relay("--version").stdout == told.stdout


@pytest.mark.parametrize(
    "args", [["nosuch"], ["match"], ["calls", "--state", "x"], ["calls", "--limit", "0"]]
)
def test_wrong_use_is_2(args: list[str]) -> None:
    """What can't be understood is exit code 2, with a way to help."""
    result = relay(*args)

    assert 2 == result.exit_code
    assert "--help" in result.stderr


# -- check --


def test_there_are_ten_broken_files() -> None:
    """The next test tries ten kinds of mistakes or more."""
    assert 10 <= len(BROKEN_FILES)


@pytest.mark.parametrize("file", BROKEN_FILES, ids=lambda file: file.relative_to(BROKEN).as_posix())
def test_check_tells_what_is_wrong(file: Path) -> None:
    """All problems at once, one a line, on stderr: file, line, what was found; exit code 2."""
    result = relay("check", str(file), **BROKEN_ENVIRON)
    told = json.loads(relay("check", str(file), "--json", **BROKEN_ENVIRON).stdout)

    lines = result.stderr.splitlines()
    assert (2, "") == (result.exit_code, result.stdout)
    assert [str(problem) for problem in problems(file, BROKEN_ENVIRON)] == lines
    assert [line for line in lines if re.match(r"\S+\.toml:\d+: .{10,}", line)] == lines
    assert told["ok"] is False
    assert len(lines) == len(told["problems"])
    assert {"file", "line", "key", "what", "hint"} == told["problems"][0].keys()


def test_check_is_content_with_our_own_file(tmp_path: Path) -> None:
    """Our rules.toml is fine, and so are its tests."""
    with packages(tmp_path) as environ:
        result = relay("check", **environ)
        told = read("check", **environ)

    assert (0, "") == (result.exit_code, result.stderr)
    assert "fine. 4 rules, 4 sources, 4 providers; 9 of 9 tests pass" in result.stdout
    assert {"ok": True, "rules": 4, "tests": 9, "problems": []}.items() <= told.items()
    assert told["version"] in result.stdout


def test_missing_variables_are_told_at_once(tmp_path: Path) -> None:
    """
    `check` and `serve` name every variable that is not set, `send` its source's own.

    --no-secrets leaves them alone.
    """
    with packages(tmp_path) as environ:
        unset = {"RELAY_RULES": environ["RELAY_RULES"]}
        serve = subprocess.run(
            [sys.executable, "-m", "relay", "serve", "--port", "0"],
            env={"PYTHONPATH": ":".join(sys.path), **unset},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        check, send = relay("check", **unset), relay("send", "writer", "-", **unset)

        assert 0 == relay("check", "--no-secrets", **unset).exit_code
    assert (2, 2, 2) == (check.exit_code, send.exit_code, serve.returncode)
    assert check.stderr == serve.stderr
    assert ["WRITER_HOOK_SECRET"] == re.findall(r"(\w+) is not set$", send.stderr, re.MULTILINE)
    assert set(ENVIRON) == set(re.findall(r"(\w+) is not set$", check.stderr, re.MULTILINE))
    assert len(ENVIRON) == len(check.stderr.splitlines())


def test_a_file_without_a_source_says_so(tmp_path: Path) -> None:
    """An empty file is right, but nothing can come in: this has to be said, and is no error."""
    (tmp_path / "rules.toml").touch()

    result = relay("check", str(tmp_path / "rules.toml"))

    assert (0, "") == (result.exit_code, result.stderr)
    assert "There is no source: nothing can come in.\n" in result.stdout
    with packages(tmp_path / "ours") as environ:
        assert "no source" not in relay("check", **environ).stdout


def test_a_failed_rule_test_is_told_with_its_line_and_the_reason(tmp_path: Path) -> None:
    """File, line and key; why no call was made: the condition, or the value that can't be sent."""
    failing = (
        ('"job:failed", context = { jobId = "us_jb_1" }', "0", "expected 0 calls, got 1"),
        ('"job:failed", context = { jobId = "us_jb_1" }', "2", "expected 2 calls, got 1"),
        ('"x"', "1", 'expected 1 call, got 0: topic: wanted "job:failed", saw "x"'),
        (
            '"job:failed"',
            "3",
            "expected 3 calls, got 0: not sent: job_id: context.jobId is missing in the event",
        ),
    )
    rule = [
        '[source.s]\nverify = "token"\nsecrets = "env:S"\n[provider.flatfile]\ntoken = "env:T"\n[[rule]]',
        'name = "r"\nfrom = "s"\nwhen.topic = "job:failed"\ncall = "flatfile.retry"',
        'with.job_id = "{context.jobId}"',
    ]
    tests = [f"[[rule.test]]\nevent = {{ topic = {topic} }}\ncalls = {calls}" for topic, calls, _ in failing]
    path = tmp_path / "rules.toml"
    path.write_text("\n".join([*rule, *tests]))

    result = relay("check", "--no-secrets", str(path))

    assert [
        *(f"{path}:{14 + 3 * n}: rule[1].test[{n + 1}].calls: {row[-1]}" for n, row in enumerate(failing)),
        "0 of 4 tests pass.",
    ] == result.stderr.splitlines()


def test_a_failed_rule_test_is_1(tmp_path: Path) -> None:
    """A rule that does not do what its test says is neither fine nor a broken file."""
    with packages(tmp_path) as environ:
        file = tmp_path / "rules.toml"
        file.write_text(file.read_text().replace('"job:completed", context', '"job:failed", context'))
        result = relay("check", **environ)
        told = relay("check", "--json", **environ)

    assert 1 == result.exit_code == told.exit_code
    assert "rule[2].test[3].calls: expected 0 calls, got 1\n" in result.stderr
    [problem] = json.loads(told.stdout)["problems"]
    line = f"{file}:{problem['line']}: {problem['key']}: {problem['what']}"
    assert [line, "8 of 9 tests pass."] == result.stderr.splitlines()
    assert json.loads(told.stdout)["ok"] is False


# -- match --


def test_match_explains_a_match_and_a_miss(tmp_path: Path) -> None:
    """A rule that is met shows its call; one that is not shows what failed, and on what value."""
    with packages(tmp_path) as environ:
        met = relay("match", "flatfile", "-", stdin=json.dumps(FAILED_JOB), **environ)
        part = tmp_path / "part.json"
        part.write_text(json.dumps(FAILED_JOB | {"payload": {"isPart": True}}))
        missed = relay("match", "flatfile", str(part), **environ)

    assert (0, 0) == (met.exit_code, missed.exit_code)
    assert "✓ retry failed Flatfile jobs\n    flatfile.retry: POST https://" in met.stdout
    assert "/v1/jobs/us_jb_1/retry\n    case us_jb_1; looks first\n" in met.stdout
    near = "matches except payload.isPart: wanted false or nothing, saw true"
    assert f"✗ retry failed Flatfile jobs\n    {near}\n" in missed.stdout
    assert "3 rules are for other sources" in met.stdout


def test_match_for_programs(tmp_path: Path) -> None:
    """--json has the source's rules, their calls with their values, and how many rules are for others."""
    task = {"task_id": "1978297791713619968", "status": "failed"}
    with packages(tmp_path) as environ:
        told = json.loads(relay("match", "docflow", "-", "--json", stdin=json.dumps(task), **environ).stdout)

    by_rule = {row["rule"]: row for row in told["rules"]}
    assert (1, 3) == (len(by_rule), told["others"])
    [call] = by_rule["retry failed DocFlow tasks"]["calls"]
    assert ("docflow.retry", task["task_id"], "look") == (call["call"], call["case"], call["first"])
    assert (None, ["looks first"]) == (by_rule["retry failed DocFlow tasks"]["recovers"], call["notes"])
    assert {"workspace_id": "1234567890", "task_id": task["task_id"]} == json.loads(call["body"])


def test_match_shows_an_upload_and_a_value_that_can_not_be_sent(tmp_path: Path) -> None:
    """A form is shown with its file; a rule whose call would be dead from the start says why."""
    package = {"package_id": "example.package1", "package_version": "1.3b9", "status": "failed"}
    with packages(tmp_path) as environ:
        fine = relay("match", "xpkg", "-", stdin=json.dumps(package), **environ)
        bad = relay("match", "xpkg", "-", stdin=json.dumps(package | {"package_id": "../x\x1b"}), **environ)

    assert "packageId=example.package1 packageVersion=1.3b9 file=@example.package1-1.3b9.zip\n" in fine.stdout
    assert fine.stdout.startswith("✓ ")
    assert bad.stdout.startswith("! upload failed X-Pkg packages again\n")
    assert "xpkg.retry: not sent: package_id holds a control character" in bad.stdout


@pytest.mark.parametrize(
    ("args", "stdin", "why"),
    [
        (["writr", "-"], b"{}", r"there is no source 'writr' \(did you mean 'writer'\?\)"),
        (["q\x1b[1m", "-"], b"{}", r"no source 'q\\x1b\[1m' \(known: docflow, flatfile, writer, xpkg\)"),
        (["writer", "-"], b"{oops", "standard input: not JSON"),
        (["writer", "-"], b'"\xff"', "standard input: not JSON"),
        (["writer", "none.json"], b"", "none.json: no such file"),
    ],
)
def test_match_says_what_it_can_not_read(tmp_path: Path, args: list[str], stdin: bytes, why: str) -> None:
    """An unknown source has a near miss or the list; what is no JSON is wrong input."""
    with packages(tmp_path) as environ:
        result = relay("match", *args, stdin=stdin, **environ)

    assert 2 == result.exit_code
    assert re.search(why, result.stderr), result.stderr
    assert 1 == len(result.stderr.splitlines())


# -- send --


def test_send_says_what_became_of_it(running: dict[str, str]) -> None:
    """The event's id and its calls; a duplicate has the first one's id; a wrong token is refused."""
    event = json.dumps({"type": "nothing", "file_id": "x"})

    first = relay("send", "writer", "-", stdin=event, **running)
    again = relay("send", "writer", "-", stdin=event, **running)
    wrong = running | {"WRITER_HOOK_SECRET": "a wrong secret, long enough"}
    refused = relay("send", "writer", "-", stdin=event, **wrong)

    found = re.fullmatch(r"202: event (ev_\w+), 0 calls\n", first.stdout)
    assert found, first.output
    assert f"200: event {found[1]}, 0 calls, a duplicate of an earlier one\n" == again.stdout
    assert (1, "") == (refused.exit_code, refused.stdout)
    assert "401: Not accepted" in refused.stderr
    unknown = relay("send", "writr", "-", stdin=event, **running)
    assert (2, True) == (unknown.exit_code, "did you mean 'writer'?" in unknown.stderr)


@pytest.mark.parametrize("to", ["http://127.0.0.1:1", "http://127.0.0.1:1/"])
def test_send_to_nobody(tmp_path: Path, to: str) -> None:
    """A relay that does not run is one clear line, and exit code 1."""
    with packages(tmp_path) as environ:
        result = relay("send", "writer", "-", "--to", to, stdin="{}", **environ)

    assert (1, "") == (result.exit_code, result.stdout)
    assert re.fullmatch(rf"relay: {to}: .*\n", result.stderr)


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"{}", b'{"event": 1}', b"\xff\x1b[2J", b""])
def test_send_to_somebody_else(tmp_path: Path, body: bytes) -> None:
    """Another server on that port is not taken for a relay, whatever it says."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server, packages(tmp_path) as environ:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        to = f"http://127.0.0.1:{server.server_port}"
        result = relay("send", "writer", "-", "--to", to, stdin="{}", **environ)
        thread.join()

    assert (1, "") == (result.exit_code, result.stdout)
    assert f"relay: {to}: 200: this is not relay's answer\n" == result.stderr
