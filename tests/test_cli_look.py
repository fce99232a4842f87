"""What does `check` make of rules, however they came to be?"""

import re
from dataclasses import replace
from typing import Any

import pytest
from build import pattern, rule, ruleset, source
from shell import relay

from relay.cli import look
from relay.event import Json
from relay.rule import Rule, RuleTest

FAILED_JOB: dict[str, Any] = {
    "topic": "job:failed",
    "context": {"jobId": "us_jb_1"},
    "payload": {"isPart": False},
}


def in_place(monkeypatch: pytest.MonkeyPatch, *rules: Rule, **more: Any) -> None:
    """Let `check` find these rules, whatever the files say."""
    by = {"flatfile": source(name="flatfile", recovered=pattern({"topic": "job:completed"}))}
    found = replace(ruleset(*rules), **{"sources": by} | more)
    monkeypatch.setattr(look, "load", lambda *_, **__: found)


def test_a_recovery_is_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """`calls` of a rule's test counts what fails and can be sent."""
    events: list[Json] = [FAILED_JOB, FAILED_JOB | {"topic": "job:completed"}, {"topic": "job:failed"}]
    counted = [
        RuleTest(event=event, wants={"calls": calls}) for event, calls in zip(events, (1, 0, 0), strict=True)
    ]
    in_place(monkeypatch, rule(tests=tuple(counted)))
    assert "3 of 3 tests pass" in relay("check").stdout

    in_place(monkeypatch, rule(tests=tuple(replace(one, wants={"calls": 9}) for one in counted)))
    failed = relay("check")
    assert ["1", "0", "0"] == re.findall(r"expected 9 calls, got (\d)", failed.stderr)
    assert 1 == failed.exit_code


def test_a_source_that_only_a_watch_feeds_can_be_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody may post to it."""
    counted = RuleTest(event=FAILED_JOB, wants={"calls": 1})
    fed = source(name="flatfile", verify="none")
    in_place(monkeypatch, rule(tests=(counted,)), sources={}, watched={"flatfile": fed})

    assert "1 of 1 tests pass" in relay("check").stdout
