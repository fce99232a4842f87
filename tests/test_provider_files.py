"""What the four providers' files say."""

import re
from pathlib import Path
from typing import Any

import pytest
from build import NOW, RESET, call, reply

from relay.call import NEVER, Call, Kind, Seen, State, Step
from relay.gate import Gate, admit
from relay.judge import after, judge
from relay.load import load
from relay.look import judge_check, judge_look
from relay.provider import Answer, Fault, Provider, Reading
from relay.rule import Ruleset
from relay.trial import Trial

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def rules() -> Ruleset:
    """Load the repository's rules.toml, which uses all four."""
    return load(ROOT / "rules.toml", {}, secrets=False)


def state(provider: Provider, status: int, body: Any) -> str | None:
    """Say what the provider's check makes of an answer."""
    check = provider.actions["retry"].check
    assert check is not None
    return first(check.states, status, body)


def first(readings: tuple[Reading, ...], status: int, body: Any) -> str | None:
    """Return what the first reading that fits says."""
    data = {"status": status, "headers": {}, "body": body}
    return next((reading.is_ for reading in readings if reading.when.meets(data)), None)


def test_every_action_has_examples_of_what_it_says(rules: Ruleset) -> None:
    """Each example's answer and look mean what the example says, where the provider's file decides."""
    for provider in rules.providers.values():
        for action in provider.actions.values():
            assert action.examples
            for example in action.examples:
                answer, look = example.answer, example.look
                if answer:
                    body = answer.get("json", answer.get("text", ""))
                    status = answer["status"]
                    assert isinstance(status, int)
                    said = first((*action.outcomes, *provider.outcomes), status, body)
                    assert said in {example.outcome, None}, (provider.name, answer)
                if look:
                    status = look["status"]
                    assert isinstance(status, int)
                    assert example.state == state(provider, status, look.get("json")), (provider.name, look)


def test_docflow_never_retries_what_it_can_not_see(rules: Ruleset) -> None:
    """Exactly one task, of a kind that can be retried, and failed: else the look can't tell or forbids it."""
    docflow = rules.providers["docflow"]
    task = {"task_type": 1, "recognition_status": 2}

    def seen(total: int, *files: dict[str, int], code: int = 200) -> str | None:
        return state(docflow, 200, {"code": code, "result": {"total": total, "files": list(files)}})

    assert docflow.actions["retry"].check_first
    assert "failed" == seen(1, task)
    assert "refused" == seen(0)
    assert "refused" == seen(1, task | {"task_type": 3})
    assert seen(2, task, task) is None
    assert seen(1) is None
    assert seen(1, task, code=500) is None
    assert seen(1, task | {"recognition_status": 99}) is None


def test_xpkg_statuses_that_need_another_zip_are_refused(rules: Ruleset) -> None:
    """Only failed_server and aborted are worth the same upload again."""
    xpkg = rules.providers["xpkg"]
    expected = {
        "processing": "running",
        "processed": "recovered",
        "failed_server": "failed",
        "aborted": "failed",
        "removed": "refused",
        "failed_macosx": "refused",
        "failed_no_file_dir": "refused",
        "failed_manifest_exists": "refused",
        "failed_invalid_file_types": "refused",
        "failed_file_too_large": "refused",
        "failed_not_enough_space": "refused",
        "something_new": None,
    }

    assert expected == {name: state(xpkg, 200, {"versionData": {"status": name}}) for name in expected}


@pytest.mark.parametrize(
    ("value", "good", "bad"),
    [
        (
            "package_id",
            ["example.package1", "Simple", "a_b-c.d"],
            ["xpkg/example.package1", "short", "1example", "a..bcdef", "a" * 33, "example.", "example.1"],
        ),
        (
            "package_version",
            ["1", "1.3b9", "1.3.0b9", "0.0.1", "999.999.999a999", "1r1"],
            ["0", "0.0.0", "0b1", "1.", "1.3B9", "1000", "1.2.3.4", "1b0", "01", "", "999.999.999a9999"],
        ),
    ],
)
def test_xpkg_grammars(rules: Ruleset, value: str, good: list[str], bad: list[str]) -> None:
    """An id or version that the registry's code refuses is not sent."""
    pattern = rules.providers["xpkg"].actions["retry"].values[value].pattern
    assert pattern is not None

    assert good == [one for one in good + bad if re.fullmatch(pattern, one)]


def test_xpkg_never_calls_four_times_in_eight_seconds(rules: Ruleset) -> None:
    """Without a burst, four calls span three gaps, and these are longer than the window by half a second."""
    limit = rules.providers["xpkg"].limit

    assert (1, 1) == (limit.burst, limit.concurrency)
    assert 8_500 <= 3 * limit.every_ms < 8_600


@pytest.mark.parametrize(("name", "most", "per_s"), [("writer", 400, 60), ("xpkg", 3, 8)])
def test_no_published_limit_is_passed(rules: Ruleset, name: str, most: int, per_s: int) -> None:
    """However much waits, no window of the provider's holds more calls than it takes, the burst included."""
    limit, gate, now = rules.providers[name].limit, Gate(provider=name), NOW
    sent: list[int] = []
    while now < NOW + 5 * per_s * 1000:
        now = max(now, gate.opens_at(limit))
        gate, admitted = admit(gate, limit, now, 100, 60_000)
        sent += [now] * admitted

    # Half a second of unevenness on the way does no harm.
    assert len(sent) > 4 * most * 0.9
    assert min(later - early for early, later in zip(sent, sent[most:], strict=False)) >= per_s * 1000 + 500


# -- a call in doubt, with what each provider really shows --

FILE, TASK = "1862f090-a281-48f3-8838-26c1e78b605e", "1978297791713619968"
VALUES: dict[str, dict[str, Any]] = {
    "docflow": {"workspace_id": "1", "task_id": TASK},
    "flatfile": {"job_id": "us_jb_1"},
    "writer": {"file_id": FILE},
    "xpkg": {"package_id": "example.package1", "package_version": "1.3b9", "file": "a.zip"},
}
FAILED, RUNNING, WELL = "failed", "running", "recovered"
TOLD: dict[str, dict[str, Any]] = {
    "docflow": {FAILED: 2, RUNNING: 3, WELL: 1},
    "flatfile": {FAILED: "failed", RUNNING: "executing", WELL: "complete"},
    "writer": {FAILED: "failed", RUNNING: "in_progress", WELL: "completed"},
    "xpkg": {FAILED: "failed_server", RUNNING: "processing", WELL: "processed"},
}


def tells(name: str, state: str, run: str) -> Answer:
    """Return what the provider answers to a look; *run* is the time of the last run, where it says one."""
    said = TOLD[name][state]
    match name:
        case "docflow":
            task = {"task_id": TASK, "task_type": 1, "recognition_status": said, "verification_status": 0}
            return reply(200, {"code": 200, "result": {"total": 1, "files": [task]}})
        case "flatfile":
            return reply(200, {"data": {"id": "us_jb_1", "status": said, "updatedAt": run}})
        case "writer":
            return reply(200, {"id": FILE, "created_at": "2024-07-09T15:30:00Z", "status": said})
        case _:
            return reply(200, {"versionData": {"status": said, "uploadDate": run}})


def tried(provider: Provider, held: Call) -> Trial:
    """Return a try of the provider's retry."""
    return Trial(provider=provider, action=provider.actions["retry"], call=held, now=NOW, luck=0.0)


def doubtful(provider: Provider, sent: Answer) -> Call:
    """Look, find it failed, send, and hear nothing that says what came of it."""
    held = call(provider=provider.name, values=VALUES[provider.name], step=Step.LOOK)
    seen = after(held, judge_look(tried(provider, held), tells(provider.name, FAILED, "t1")), NOW)
    assert (State.QUEUED, Step.SEND) == (seen.state, seen.step)
    return after(seen, judge(tried(provider, seen), sent), NOW)


SILENCE: list[Answer] = [RESET, Fault(why="no answer within 60 s", sent=True), reply(500), reply(504)]
MARKING = {"flatfile", "xpkg"}
"""Those who show that a job ran, even if it failed again."""


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize("sent", SILENCE)
@pytest.mark.parametrize(
    ("world", "shows", "run", "expected"),
    [
        ("executed", WELL, "t2", "done recovered"),
        ("in flight", RUNNING, "t2", "done running"),
        ("not executed", FAILED, "t1", "queued"),
        ("failed again", FAILED, "t2", "done failed"),
        ("the look fails", None, "", "unknown"),
    ],
)
def test_in_doubt(
    rules: Ruleset, name: str, sent: Answer, world: str, shows: str | None, run: str, expected: str
) -> None:
    """What the provider shows as done is not sent again; what can't be looked at waits."""
    provider = rules.providers[name]
    begun = doubtful(provider, sent)
    assert (State.UNKNOWN, 1, 1) == (begun.state, begun.doubts, begun.tries)
    assert begun.due_at < NEVER

    answer = reply(502) if shows is None else tells(name, shows, run)
    now = after(begun, judge_look(tried(provider, begun), answer), NOW)

    if world == "failed again" and name not in MARKING:
        expected = "queued"  # the second failure looks like the first: within the budget it is sent once more
    assert expected == (f"{now.state.value} {now.seen.value}" if now.seen else now.state.value)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_provider_that_never_tells(rules: Ruleset, name: str) -> None:
    """A look that nobody described is taken a few times; then a person is asked, and nothing is sent."""
    provider = rules.providers[name]
    now = doubtful(provider, RESET)
    for _ in range(20):
        if now.due_at == NEVER:
            break
        now = after(now, judge_look(tried(provider, now), reply(200, {"odd": True})), NOW)
    assert (State.UNKNOWN, NEVER, 1) == (now.state, now.due_at, now.tries)
    assert "needs a person" in now.why


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize(("shows", "seen"), [(WELL, Seen.RECOVERED), (FAILED, Seen.FAILED), (RUNNING, None)])
def test_whether_a_retry_helped(rules: Ruleset, name: str, shows: str, seen: Seen | None) -> None:
    """After an accepted retry each provider's check tells whether it helped, or is asked again later."""
    provider = rules.providers[name]
    check = provider.actions["retry"].check
    assert check is not None
    held = call(kind=Kind.CHECK, provider=name, values=VALUES[name], step=Step.LOOK)

    now = after(held, judge_check(tried(provider, held), tells(name, shows, "t2")), NOW)

    assert seen == now.seen
    if seen is None:
        assert (State.QUEUED, NOW + check.wait_ms[1]) == (now.state, now.due_at)
    else:
        assert State.DONE is now.state
