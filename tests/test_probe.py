"""Are the samples of an operator's own presets tried, and is it said what is wrong with them?"""

from pathlib import Path

import pytest
from build import NOW
from click.testing import Result
from shell import relay

from relay.errors import Problem
from relay.load import own_presets
from relay.probe import probe

JOBS = """
verify   = "hmac"
header   = "x-jobs-signature"
split    = "jobs"
delivery = "body:run"
resource = "body:job"
time     = "body:at"
failed.state = "lost"

[[handshake]]
when.hello = { exists = true }
text = "{hello}"

[[vector]]
origin  = "computed with openssl dgst -sha256 -hmac key-of-the-vector"
secret  = "key-of-the-vector"
headers = { x-jobs-signature = "6b381a13e70b26d91c26cc2a8ae6d9c24a45ece46d0e709b98f0530a1b9d9e83" }
body    = "{}"

[[sample]]
name = "hello"
body = '{"hello": "you"}'
handshake = "you"

[[sample]]
name  = "two"
body  = '{"jobs": [{"run": "r1", "job": "a", "state": "lost", "at": 1700000000}, {"run": "r2", "job": "b"}]}'
event = [
    { delivery = "r1", resource = "a", tells = "failed", time = "2023-11-14T22:13:20Z" }, { delivery = "r2" }]
"""
RULES = """
[source.jobs]
preset  = "jobs"
secrets = "env:JOBS_SECRET"
"""


def tried(folder: Path, text: str) -> tuple[int, list[Problem]]:
    """Try a preset of this text."""
    (folder / "sources").mkdir(exist_ok=True)
    (folder / "sources" / "jobs.toml").write_text(text)
    (folder / "rules.toml").write_text(RULES)
    problems: list[Problem] = []
    number = sum(probe(doc, name, NOW) for name, doc in own_presets(folder / "rules.toml", problems).items())
    return number, problems


def checked(folder: Path, *more: str) -> Result:
    """Run `relay check` on the rules of a folder."""
    return relay("check", str(folder / "rules.toml"), *more, JOBS_SECRET="a-secret-of-the-jobs")


def test_samples_that_come_out_as_said_are_counted(tmp_path: Path) -> None:
    """Two samples and a vector: nothing is wrong, and `relay check` says that three tests pass."""
    assert (3, []) == tried(tmp_path, JOBS)

    assert "3 of 3 tests pass" in checked(tmp_path).stdout


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ('handshake = "you"', 'handshake = "me"', "sample[1].handshake", "'hello' is answered 'you'"),
        ('handshake = "you"', "", "sample[1].handshake", "'hello' is answered 'you'"),
        ('{"hello": "you"}', '{"hell": "you"}', "sample[1].handshake", "'hello' is no handshake"),
        ('resource = "a"', 'resource = "c"', "sample[2].event[1].resource", "expected 'c', got 'a'"),
        ('tells = "failed"', 'tells = ""', "sample[2].event[1].tells", "expected '', got 'failed'"),
        ('delivery = "r2" }', 'type = "x" }', "sample[2].event[2].type", "expected 'x', got nothing"),
        (', { delivery = "r2" }]', "]", "sample[2].event", "'two' holds 2 events, expected 1"),
        ('[{"run": "r1"', '[[{"run": "r1"', "sample[2].event", "'two' holds 1 event, expected 2"),
        ('secret  = "key', 'secret  = "kay', "vector[1]", "its signature is not believed"),
    ],
)
def test_what_comes_out_otherwise_is_said(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    """With its place, what was expected and what was found."""
    assert old in JOBS
    _, problems = tried(tmp_path, JOBS.replace(old, new))
    (problem,) = problems

    assert (key, what) == (problem.key, problem.what)
    assert problem.line
    assert problem.file.endswith("sources/jobs.toml")
    assert 2 == checked(tmp_path).exit_code


def test_a_preset_that_is_wrong_is_not_tried(tmp_path: Path) -> None:
    """Its own problems are told, and nothing of what would follow from them."""
    number, problems = tried(tmp_path, JOBS.replace('split    = "jobs"', 'splat    = "jobs"'))

    assert 0 == number
    assert ["splat"] == [problem.key for problem in problems]
