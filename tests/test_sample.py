"""Events beside the rules: `relay check --tests DIR`, its files, and what it says of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from rulesfiles import SMALL, write
from shell import relay

from relay.errors import ConfigError
from relay.load import load
from relay.sample import samples

JOB = '{ topic = "job:failed", context = { jobId = "us_jb_1" } }'
GOOD = f'source = "flatfile"\nbody = {JOB}\ncalls = 1\nrules = "retry"\n'


def folder(tmp_path: Path, **files: str) -> Path:
    """Write event files, and rules.toml beside their folder."""
    write(tmp_path, SMALL)
    for name, text in files.items():
        file = tmp_path / "events" / name.replace("__", "/").replace("_json", ".json")
        file = file if file.suffix else file.with_suffix(".toml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "events"


def check(at: Path, *more: str) -> Any:
    """Run the command on rules.toml beside this folder."""
    rules = str(at.parent / "rules.toml")
    return relay("check", "--no-secrets", rules, "--tests", str(at), *more)


def told(at: Path) -> list[str]:
    """Return the problems of these files, without the folder."""
    rules = load(at.parent / "rules.toml", {}, secrets=False)
    with pytest.raises(ConfigError) as caught:
        samples(at, rules)
    return [str(problem).replace(f"{at}/", "") for problem in caught.value.problems]


def test_files_have_one_event_or_several(tmp_path: Path) -> None:
    """At any depth; a body may be a file of its own; all count with the rules' own tests."""
    several = f'[[event]]\n{GOOD}\n[[event]]\nname = "raw"\nsource = "flatfile"\nfile = "b.json"\ncalls = 0\n'
    at = folder(tmp_path, one=GOOD, deep__several=several, deep__b_json='{"topic": "job:completed"}')
    result = check(at)
    assert (0, True) == (result.exit_code, "3 of 3 tests pass" in result.stdout)
    again = check(at, "--tests", str(at / "deep"))
    assert "5 of 5 tests pass" in again.stdout


def test_a_failed_event_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    """Line and key of what differs, a count at the end, and 1; for programs the same as data."""
    at = folder(tmp_path, bad=GOOD.replace("calls = 1", 'calls = [{ case = "x", body = {} }]'), good=GOOD)
    result, data = check(at), json.loads(check(at, "--json").stdout)
    lines = result.stderr.splitlines()
    first = f'{at}/bad.toml:3: calls[1].case: expected "x", got "flatfile:job_id=us_jb_1"'
    assert [first, "1 of 2 tests pass."] == [lines[0], lines[-1]]
    assert (1, False, 2, 1) == (result.exit_code, data["ok"], data["tests"], data["passed"])
    assert ("x", "flatfile:job_id=us_jb_1") == tuple(data["problems"][0][key] for key in ("expected", "got"))


def test_differences_are_indented_below(tmp_path: Path) -> None:
    """A diff stands below the line that says what it is about."""
    at = folder(tmp_path, bad=GOOD.replace("calls = 1", 'calls = [{ with = { job_id = "us_jb_2" } }]'))
    lines = check(at).stderr.splitlines()
    assert f"{at}/bad.toml:3: calls[1].with: it differs" == lines[0]
    assert ['    -  "job_id": "us_jb_2"', '    +  "job_id": "us_jb_1"'] == lines[5:7]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (
            "x.toml:1: source: there is no source 'flatfle' here (did you mean 'flatfile'?)",
            GOOD.replace('"flatfile"', '"flatfle"'),
        ),
        (
            "x.toml:4: rules: there is no rule 'retri' (did you mean 'retry'?)",
            GOOD.replace('"retry"', '"retri"'),
        ),
        (
            "x.toml:4: rules[2]: there is no rule 'retri' (did you mean 'retry'?)",
            GOOD.replace('"retry"', '["retry", "retri"]'),
        ),
        ("x.toml:3: cals: unknown key (did you mean 'calls'?)", GOOD.replace("calls", "cals")),
        ("x.toml:5: events: unknown key", GOOD + "events = 5"),
        (
            "x.toml: source: missing (the source that it comes from)",
            GOOD.replace('source = "flatfile"\n', ""),
        ),
        ("x.toml: expected one of body and file, and not both", 'source = "flatfile"\ncalls = 1'),
        ("x.toml:5: file: expected one of body and file, and not both", GOOD + 'file = "x.toml"'),
        (
            "x.toml: expected one of calls, case, recovers, ignored, person, told, window, rules",
            'source = "flatfile"\nbody = {}',
        ),
        (
            "x.toml:2: event[1].calls: expected a number from 0 on",
            '[[event]]\ncalls = "x"\nbody = {}\nsource = "flatfile"',
        ),
        (
            "x.toml:1: name: it can't stand beside [[event]] (each event has its own keys)",
            'name = "a"\n[[event]]\n' + GOOD,
        ),
        ('x.toml:1: event: expected [[event]], one for each (what is sent is called "body")', "event = {}\n"),
        ("x.toml:1: not TOML: invalid value (a value is missing)", "a ="),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, expected: str, text: str) -> None:
    """With file, line and key; and 2, as for rules."""
    at = folder(tmp_path, x=text, good=GOOD)
    problems = told(at)
    assert any(one.startswith(expected) for one in problems), problems
    result = check(at)
    assert (2, "") == (result.exit_code, result.stdout)
    assert 2 == check(at, "--json").exit_code


def test_a_body_that_is_no_json_is_told(tmp_path: Path) -> None:
    """And one that is not there."""
    text = 'source = "flatfile"\nfile = "b.json"\ncalls = 1\n'
    at = folder(tmp_path, x=text, b_json="{")
    assert told(at)[0].startswith("x.toml:2: file: 'b.json' can't be sent: not JSON")
    (at / "b.json").unlink()
    assert told(at)[0].startswith("x.toml:2: file: 'b.json' can't be read: No such file")


def test_no_event_is_no_pass(tmp_path: Path) -> None:
    """A folder without events, or that is none, is an error; of two folders both are told."""
    at = folder(tmp_path)
    assert [f"{at}: there is no such folder"] == told(at)
    at.mkdir()
    assert [f"{at}: there is no event in it (event files end in .toml)"] == told(at)
    (at / "file").write_text("")
    rules = load(tmp_path / "rules.toml", {}, secrets=False)
    with pytest.raises(ConfigError, match="file: expected a folder of event files"):
        samples(at / "file", rules)
    both = check(at, "--tests", str(tmp_path / "none"))
    assert (2, 2) == (both.exit_code, len(both.stderr.splitlines()))
