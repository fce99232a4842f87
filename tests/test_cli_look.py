"""What do `check` and `match` make of rules, however they came to be?"""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from build import action, check, provider, rule, ruleset, source
from shell import relay

from relay.case import Policy
from relay.cli import look
from relay.event import Json
from relay.match import Pattern
from relay.rule import Rule, RuleTest

FAILED_JOB: dict[str, Any] = {
    "topic": "job:failed",
    "context": {"jobId": "us_jb_1"},
    "payload": {"isPart": False},
}


def in_place(monkeypatch: pytest.MonkeyPatch, *rules: Rule, **more: Any) -> None:
    """Let `check` and `match` find these rules, whatever the files say."""
    by = {"flatfile": source(name="flatfile", recovered=Pattern({"topic": "job:completed"}))}
    found = replace(ruleset(*rules), **{"sources": by} | more)
    monkeypatch.setattr(look, "load", lambda *_, **__: found)


@pytest.mark.parametrize(
    ("notes", "more"),
    [
        ([], {}),
        (["held for a yes"], {"policy": Policy(approve=True)}),
        (["held for a yes"], {"approve": Pattern({"payload.isPart": False})}),
        (["batched"], {"policy": Policy(batch="file_ids:100")}),
        (["only Mon-Fri 08:00-18:00"], {"policy": Policy(only="Mon-Fri 08:00-18:00")}),
        (
            ["held for a yes", "looks first", "batched", "only Sat"],
            {"policy": Policy(approve=True, batch="x:2", only="Sat"), "action": "late"},
        ),
    ],
)
def test_match_notes_what_stands_before_the_call(
    monkeypatch: pytest.MonkeyPatch, notes: list[str], more: dict[str, Any]
) -> None:
    """The case, and in a word each: a person, a look, company, hours."""
    late = action(name="late", check=check(), check_first=True)
    in_place(monkeypatch, rule(**more), providers={"flatfile": provider(action(), late)})
    result = relay("match", "flatfile", "-", stdin=json.dumps(FAILED_JOB))

    case = "    case flatfile:job_id=us_jb_1"
    assert (f"{case}; {', '.join(notes)}" if notes else case) == result.stdout.splitlines()[2]
    told = json.loads(relay("match", "flatfile", "-", "--json", stdin=json.dumps(FAILED_JOB)).stdout)
    assert notes == told["rules"][0]["calls"][0]["notes"]


def test_match_says_what_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that ends a case is of use to its rule; one that does not say whose case it ends is not."""
    in_place(monkeypatch)
    well = json.dumps(FAILED_JOB | {"topic": "job:completed"})
    result = relay("match", "flatfile", "-", stdin=well)
    [row] = json.loads(relay("match", "flatfile", "-", "--json", stdin=well).stdout)["rules"]
    nameless = relay("match", "flatfile", "-", stdin='{"topic": "job:completed"}')

    assert "✓ retry jobs\n    recovers flatfile:job_id=us_jb_1\n" == result.stdout
    assert (False, [], "flatfile:job_id=us_jb_1") == (row["meets"], row["calls"], row["recovers"])
    assert '✗ retry jobs\n    topic: wanted "job:failed", saw "job:completed"\n' == nameless.stdout


def test_a_recovery_is_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """`calls` of a rule's test counts what fails and can be sent."""
    events: list[Json] = [FAILED_JOB, FAILED_JOB | {"topic": "job:completed"}, {"topic": "job:failed"}]
    counted = [RuleTest(event=event, calls=calls) for event, calls in zip(events, (1, 0, 0), strict=True)]
    in_place(monkeypatch, rule(tests=tuple(counted)))
    assert "3 of 3 tests pass" in relay("check").stdout

    in_place(monkeypatch, rule(tests=tuple(replace(one, calls=9) for one in counted)))
    failed = relay("check")
    assert ["1", "0", "0"] == re.findall(r"expected 9 calls, got (\d)", failed.stderr)
    assert 1 == failed.exit_code


def test_a_source_that_only_a_watch_feeds_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody may post to it; and its events are believed: relay itself has asked for them."""
    counted = RuleTest(event=FAILED_JOB, calls=1)
    fed = source(name="flatfile", verify="none")
    looking = provider(action(check=check()))
    more: dict[str, Any] = {"sources": {}, "watched": {"flatfile": fed}, "providers": {"flatfile": looking}}
    in_place(monkeypatch, rule(), **more)
    trusting = relay("match", "flatfile", "-", stdin=json.dumps(FAILED_JOB))
    in_place(monkeypatch, rule(), **more | {"sources": {"flatfile": fed}})
    doubting = relay("match", "flatfile", "-", stdin=json.dumps(FAILED_JOB))

    assert "looks first" not in trusting.stdout
    assert "looks first" in doubting.stdout
    in_place(monkeypatch, rule(tests=(counted,)), **more)
    assert "1 of 1 tests pass" in relay("check").stdout
