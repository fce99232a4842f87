"""What the four providers' files say."""

import re
from pathlib import Path
from typing import Any

import pytest

from relay.load import load
from relay.provider import Provider, Reading
from relay.rule import Ruleset

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
