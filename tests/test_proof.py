"""Which tests of rules fail, and how is it told what came instead?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build import NOW
from rulesfiles import ENVIRON, write

from relay.load import load
from relay.proof import EXPLAINED, Failed, failed
from relay.rule import Ruleset, RuleTest

ONE, TWO = "1862f090-a281-48f3-8838-26c1e78b605e", "2862f090-a281-48f3-8838-26c1e78b605e"
HOUR = 3_600_000
BAD = {"type": "file.failed", "file_id": ONE}
CALL = {"call": "writer.retry", "with": {"file_id": "{file_id}"}}
RETRY = {"name": "retry", "from": "writer", "when": {"type": "file.failed"}, "case": "{file_id}", **CALL}
SENT = {"request": "POST /v1/files/retry", "body": {"file_ids": [ONE]}}
WHOLE = {"call": "writer.retry", "with": {"file_id": ONE}, "case": ONE, "first": "send", **SENT}
EXPECT = {"when": {"type": "file.started"}, "within": "5m", "by": "{file_id}"}


def rules(tmp_path: Path, *several: dict[str, Any], **source: Any) -> Ruleset:
    """Load rules over one source."""
    by = {"preset": "writer", "secrets": "env:WRITER_HOOK_SECRET", "type": "body:type"} | source
    provider = {"writer": {"token": "env:WRITER_API_KEY"}}
    document = {"source": {"writer": by}, "provider": provider, "rule": list(several)}
    return load(write(tmp_path, document), ENVIRON)


def run(tmp_path: Path, rule: dict[str, Any], test: dict[str, Any], **source: Any) -> Sequence[Failed]:
    """Run one test of one rule."""
    given = {"event": BAD} | test
    return list(failed(rules(tmp_path, rule | {"test": [given]}, **source), [], NOW))


def said(found: Sequence[Failed]) -> list[str]:
    """Return what is told of failed tests, without the file."""
    return [f"{problem.key}: {problem.what}" for one in found for problem, _ in one.problems("rules.toml")]


WELL = {"event": {"type": "file.completed", "file_id": ONE}}
NO_CALL = {key: value for key, value in RETRY.items() if key not in CALL}
TOLD = {**RETRY, "tell": "log", "say": "{file_id} failed"}
PERSON = {**NO_CALL, "person": "look at {file_id}"}
IGNORED = {key: value for key, value in NO_CALL.items() if key != "case"} | {"ignore": "no use"}
AFTER = {**RETRY, "throttle": {"once_after": "5m"}}
GATHERED = {**RETRY, "throttle": {"accumulate_within": "5m", "threshold": 9}}

CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    (RETRY, {"calls": 1}, {"calls": 2}, "calls: expected 2 calls, got 1"),
    (RETRY, {"calls": [{}]}, {"calls": []}, "calls: expected 0 calls, got 1"),
    (
        RETRY,
        {"calls": [WHOLE]},
        {"calls": [WHOLE | {"first": "look"}]},
        'calls[1].first: expected "look", got "send"',
    ),
    (RETRY, {"calls": [{"with": {"file_id": ONE}}]}, {"calls": [{"with": {}}]}, "calls[1].with: it differs"),
    (RETRY, {"calls": [SENT]}, {"calls": [{"body": {"file_ids": []}}]}, "calls[1].body: it differs"),
    (
        RETRY,
        {"calls": [{"request": "POST https://api.writer.com/v1/files/retry"}]},
        {"calls": [{"request": "PUT /v1/files/retry"}]},
        'calls[1].request: expected "PUT /v1/files/retry", got "POST /v1/files/retry"',
    ),
    (RETRY, {"case": ONE}, {"case": TWO}, f'case: expected "{TWO}", got "{ONE}"'),
    (
        RETRY,
        WELL | {"recovers": ONE},
        WELL | {"recovers": [ONE, TWO]},
        f'recovers: expected ["{ONE}", "{TWO}"], got "{ONE}"',
    ),
    (RETRY, {"recovers": []}, WELL | {"recovers": []}, f'recovers: expected none, got "{ONE}"'),
    (IGNORED, {"ignored": True}, {"ignored": False}, 'ignored: expected false, got "no use"'),
    (IGNORED, {"ignored": "no use"}, {"ignored": "other"}, 'ignored: expected "other", got "no use"'),
    (RETRY, {"ignored": False}, {"ignored": True}, "ignored: expected true, got false"),
    (
        PERSON,
        {"person": f"look at {ONE}", "calls": 0, "case": ONE},
        {"person": "x"},
        f'person: expected "x", got "look at {ONE}"',
    ),
    (RETRY, {"person": False}, {"person": "x"}, 'person: expected "x", got none'),
    (TOLD, {"told": f"{ONE} failed", "calls": 1}, {"told": "x"}, f'told: expected "x", got "{ONE} failed"'),
    (
        AFTER,
        {"window": "once_after", "calls": 1},
        {"window": "expect"},
        'window: expected "expect", got "once_after"',
    ),
    (GATHERED, {"window": "accumulate_within", "calls": 1}, {"calls": 0}, "calls: expected 0 calls, got 1"),
    (
        {**RETRY, "expect": EXPECT},
        {"window": "expect", "calls": 1},
        {"calls": 0},
        "calls: expected 0 calls, got 1",
    ),
    (RETRY, {"window": "once_within"}, {"window": "once_within"}, 'window: expected "once_within", got none'),
    (RETRY, {"meets": True}, {"meets": False}, "meets: expected false, got true"),
    (RETRY, WELL | {"meets": False, "calls": 0}, {"meets": False}, "meets: expected false, got true"),
    (RETRY | {"mode": "shadow"}, {"calls": 1}, {"calls": 0}, "calls: expected 0 calls, got 1"),
]


@pytest.mark.parametrize(("rule", "right", "wrong", "what"), CASES)
def test_each_key_is_compared(
    tmp_path: Path, rule: dict[str, Any], right: dict[str, Any], wrong: dict[str, Any], what: str
) -> None:
    """What came as expected passes; what did not is told with its key and both sides."""
    if right != wrong:
        assert [] == said(run(tmp_path, rule, right))
    assert [f"rule[1].test[1].{what}"] == said(run(tmp_path, rule, wrong))


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"type": "file.Failed"}, 'type: wanted "file.failed", saw "file.Failed" (nearly)'),
        ({"type": "x"}, 'type: wanted "file.failed", saw "x"'),
        ({"type": "file.failed"}, "not sent: file_id: file_id is missing in the event"),
        ({"type": "file.failed", "file_id": "7"}, "not sent: file_id is '7', expected a UUID"),
    ],
)
def test_why_there_is_no_call(tmp_path: Path, event: dict[str, Any], why: str) -> None:
    """The condition that failed, or the value that can't be sent, stands behind it."""
    told = said(run(tmp_path, RETRY, {"event": event, "calls": 1}))
    assert [f"rule[1].test[1].calls: expected 1 call, got 0: {why}"] == told


def test_a_large_difference_is_shown_line_by_line(tmp_path: Path) -> None:
    """As a diff of JSON; the keys of other calls and values that are the same are not in it."""
    (found,) = run(tmp_path, RETRY, {"calls": [{"body": {"file_ids": [TWO]}, "case": ONE}]})
    (one,) = found.differences
    assert ["--- expected", "+++ got", f'-    "{TWO}"', f'+    "{ONE}"'] == [
        line for line in one.diff() if line[0] in "+-"
    ]
    assert ({"file_ids": [TWO]}, {"file_ids": [ONE]}) == (one.expected, one.got)


def test_true_is_no_number(tmp_path: Path) -> None:
    """1.0 is 1; true is neither; and both lists have to be whole."""
    rule = RETRY | {"calls": [], "call": "any.post", "with": {"value": "{value}"}}
    body = {"json": {"v": "{value}"}, "request": "POST /x", "values": {"value": {"type": "any"}}}
    made = {"title": "Any", "base_url": "https://api.example.com", "action": {"post": body}}
    write(tmp_path, made | {"action": {"post": body | {"title": "Post"}}}, "providers/any.toml")

    def passes(value: Any, wanted: Any) -> bool:
        test = {"event": BAD | {"value": value}, "calls": [{"body": {"v": wanted}}]}
        return not run(tmp_path, rule, test)

    assert [True, False, False, False, True] == [
        passes(1, 1.0),
        passes(1, True),
        passes([1], [1, 2]),
        passes({"a": 1}, {"b": 1}),
        passes([{"a": [1.0]}], [{"a": [1]}]),
    ]


def test_how_an_event_comes(tmp_path: Path) -> None:
    """Headers, type and trust are as the test says, else as the source finds them."""
    rule = RETRY | {"when": {"$headers.x-env": "prod", "$type": "odd", "$verified": "authenticated"}}
    around = {"headers": {"X-Env": "prod"}, "type": "odd", "verified": "authenticated", "calls": 1}
    token = [{"verify": "token", "header": "x-own"}]
    assert [] == said(run(tmp_path, rule, around, also=token))
    for key in ("headers", "type", "verified"):
        fewer = {name: value for name, value in around.items() if name != key}
        assert said(run(tmp_path, rule, fewer, also=token))
    plainly = RETRY | {"when": {"$type": "file.failed", "$verified": "verified"}}
    assert [] == said(run(tmp_path, plainly, {"calls": 1}))


@pytest.mark.parametrize(
    ("calls", "test"),
    [
        (1, {}),
        (1, {"age": "1h"}),
        (0, {"age": "61m"}),
        (0, {"now": "2026-01-31T10:00:00Z"}),
        (1, {"now": "2026-01-31T08:30:00Z"}),
        (1, {"now": "2026-01-31T10:00:00Z", "age": "5m"}),
    ],
)
def test_no_test_grows_old(tmp_path: Path, calls: int, test: dict[str, Any]) -> None:
    """An event that says when it happened comes just then, or so much later as the test says."""
    event = BAD | {"at": "2026-01-31T08:00:00Z"}
    rule = RETRY | {"max_age": "1h"}
    assert [] == said(run(tmp_path, rule, {"event": event, "calls": calls, **test}, time="body:at"))


def test_what_is_too_old_says_so(tmp_path: Path) -> None:
    """A test that expects a call of an old event is told why there is none."""
    (told,) = said(run(tmp_path, RETRY | {"max_age": "1h"}, {"calls": 1, "age": "2h"}, time="body:at"))
    assert told.endswith("got 0: it happened 2 h ago, and max_age is 60 min")


def test_times_are_judged_then(tmp_path: Path) -> None:
    """`now` is what a pattern compares with."""
    rule = RETRY | {"when": {"at": {"newer-than": "1h"}}}
    event = BAD | {"at": "2026-01-31T08:00:00Z"}
    assert [] == said(run(tmp_path, rule, {"event": event, "calls": 1, "now": "2026-01-31T08:59:00Z"}))
    assert [] == said(run(tmp_path, rule, {"event": event, "calls": 0, "now": "2026-01-31T09:01:00Z"}))


def test_times_are_judged_when_it_happened(tmp_path: Path) -> None:
    """Where the source says when that was: its patterns see it as fresh, or as old as the test says."""
    rule = RETRY | {"when": {"at": {"newer-than": "1h"}}}
    event = {"event": BAD | {"at": "2026-01-31T08:00:00Z"}}
    assert [] == said(run(tmp_path, rule, event | {"calls": 1}, time="body:at"))
    assert [] == said(run(tmp_path, rule, event | {"calls": 0, "age": "2h"}, time="body:at"))


def test_what_was_expected_makes_no_call(tmp_path: Path) -> None:
    """It ends a window, and opens none."""
    came = {"event": BAD | {"type": "file.started"}, "calls": 0}
    assert [] == said(run(tmp_path, {**RETRY, "expect": EXPECT}, came))


def test_each_rule_is_alone(tmp_path: Path) -> None:
    """What stops an event before it comes to a rule is no matter to the rule's own tests."""
    first = IGNORED | {"name": "first", "test": [{"event": BAD, "ignored": True, "calls": 0}]}
    second = RETRY | {"test": [{"event": BAD, "calls": 1, "ignored": False}]}
    assert [] == said(list(failed(rules(tmp_path, first, second), [], NOW)))


# -- all rules --


def sample(wants: dict[str, Any], event: Any = BAD, **more: Any) -> RuleTest:
    """Return a test of all rules."""
    given: dict[str, Any] = {"file": "x.toml", "line": 3, "key": "event[1]"}
    return RuleTest(event=event, source="writer", wants=wants, **given | more)


@pytest.mark.parametrize(
    ("wants", "what"),
    [
        ({"rules": ["tell", "retry"], "calls": 1, "told": "hi"}, ""),
        ({"rules": ["retry"]}, "rules: expected 'retry', got 'retry', 'tell'"),
        ({"rules": []}, "rules: expected none, got 'retry', 'tell'"),
        ({"rules": ["retry", "tell", "last"]}, "last is not asked: tell above stops"),
        (
            {"rules": ["retry", "tell", "other"]},
            'other: type: wanted "file.faild", saw "file.failed" (nearly)',
        ),
    ],
)
def test_all_rules_are_tested_together(tmp_path: Path, wants: dict[str, Any], what: str) -> None:
    """Which act, and what comes of it; a shadow has no part in it."""
    tells: dict[str, Any] = {"from": "writer", "when": {"type": "file.failed"}, "tell": "log", "say": "hi"}
    several: list[dict[str, Any]] = [
        RETRY,
        RETRY | {"name": "other", "when": {"type": "file.faild"}},
        RETRY | {"name": "shadow", "mode": "shadow"},
        tells | {"name": "tell", "stop": True},
        RETRY | {"name": "last"},
    ]
    told = said(list(failed(rules(tmp_path, *several), [sample(wants)], NOW)))
    assert (bool(what), True) == (bool(told), all(what in one for one in told))


def test_a_sample_has_its_own_place(tmp_path: Path) -> None:
    """Its file, the line of the key that differs, and its name."""
    one = sample({"calls": 2}, name="a failed file", lines={"calls": 7})
    (found,) = failed(rules(tmp_path, RETRY), [one], NOW)
    ((problem, _),) = found.problems("rules.toml")
    assert "x.toml:7: event[1].calls: a failed file: expected 2 calls, got 1" == str(problem)


def test_a_body_is_read_as_it_is_sent(tmp_path: Path) -> None:
    """Bytes of a file pass the same way as a delivery's."""
    raw = b'{"type": "file.failed", "file_id": "%s"}' % ONE.encode()
    one = sample({"calls": 1, "case": ONE}, None, raw=raw)
    assert [] == said(list(failed(rules(tmp_path, RETRY), [one], NOW)))


def test_where_nothing_acts_the_nearest_rules_are_told(tmp_path: Path) -> None:
    """Three of them; and for so many tests only: each costs as much as there are rules."""
    words = ("queued", "started", "stopped", "copied", "completed", "moved")
    several = [RETRY | {"name": word, "when": {"type": f"file.{word}"}} for word in words]
    bad = [sample({"calls": 1}, {"type": "file.complete"})] * (EXPLAINED + 1)
    found = list(failed(rules(tmp_path, *several), bad, NOW))
    assert [3] * EXPLAINED + [0] == [len(one.why) for one in found]
    assert 'completed: type: wanted "file.completed", saw "file.complete" (nearly)' == found[0].why[0]


def test_no_rule_is_for_its_source(tmp_path: Path) -> None:
    """An event of a source that no rule hears is told as such."""
    one = replace(sample({"calls": 1}), source="other")
    by = rules(tmp_path, RETRY)
    with_other = replace(by, sources={**by.sources, "other": replace(by.sources["writer"], name="other")})
    (told,) = said(list(failed(with_other, [one], NOW)))
    assert told.endswith("got 0: no rule is for other")
