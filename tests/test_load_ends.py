"""From the operator's files to what rules do about events: their ends, windows and who is asked."""

from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, SMALL, problems, with_rule, write

from relay.call import Priority
from relay.load import load
from relay.rule import Rule, Ruleset, Throttle, Window

MINUTE = 60_000
CALL = {"call", "with"}


def loaded(tmp_path: Path, **keys: Any) -> Ruleset:
    return load(write(tmp_path, with_rule(**keys)), ENVIRON)


def alone(tmp_path: Path, **keys: Any) -> Rule:
    """Load SMALL with a rule that makes no call."""
    (base,) = SMALL["rule"]
    one = {key: value for key, value in base.items() if key not in CALL} | keys
    return load(write(tmp_path, SMALL | {"rule": [one]}), ENVIRON).rules[0]


def test_other_ends(tmp_path: Path) -> None:
    """A rule may ignore, tell, or leave it to a person, and calls nobody then."""
    assert ("no use", ()) == ((one := alone(tmp_path, ignore="no use")).ignore, one.aims)
    assert ("log", "{id}") == ((one := alone(tmp_path, tell="log", say="{id}")).tell, one.say)
    (aim,) = (one := alone(tmp_path, person="look at {id}", case="disk {id}")).aims
    assert ("look at {id}", "", "disk {id}") == (one.person, aim.provider, aim.case)


def test_several_calls(tmp_path: Path) -> None:
    """Each has values and a name of its own, and the rule's budget."""
    calls = [
        {"call": "flatfile.retry", "with": {"job_id": "{a}"}},
        {"call": "flatfile.retry", "with": {"job_id": "{b}"}, "case": "{b}"},
    ]
    (base,) = SMALL["rule"]
    one = {key: value for key, value in base.items() if key not in CALL}
    rule = load(
        write(tmp_path, SMALL | {"rule": [one | {"calls": calls, "budget": {"retries": 1}}]}), ENVIRON
    ).rules[0]
    assert [("{a}", "", 1), ("{b}", "{b}", 1)] == [
        (aim.with_["job_id"], aim.case, aim.policy.retries) for aim in rule.aims
    ]


def test_who_is_asked_and_when_it_goes(tmp_path: Path) -> None:
    """Stop, mode, delay and priority arrive."""
    (rule,) = loaded(tmp_path, stop=True, delay="30s", priority="high").rules
    (aim,) = rule.aims
    assert (True, False) == (rule.stop, rule.shadow)
    assert ((30_000, 300_000, 3_600_000), Priority.HIGH) == (aim.policy.wait_ms, aim.policy.priority)
    assert loaded(tmp_path, mode="shadow").rules[0].shadow


@pytest.mark.parametrize(
    ("throttle", "expected"),
    [
        ({"once_within": "1m", "by": "{id}"}, Throttle(kind=Window.ONCE_WITHIN, ms=MINUTE, by="{id}")),
        ({"once_after": "1m"}, Throttle(kind=Window.ONCE_AFTER, ms=MINUTE)),
        (
            {"accumulate_within": "1m", "threshold": 3},
            Throttle(kind=Window.ACCUMULATE_WITHIN, ms=MINUTE, threshold=3),
        ),
    ],
)
def test_windows(tmp_path: Path, throttle: dict[str, Any], expected: Throttle) -> None:
    """One of three, with its key and threshold."""
    assert expected == loaded(tmp_path, throttle=throttle).rules[0].throttle


def test_what_is_expected(tmp_path: Path) -> None:
    """A pattern, a time, and what makes two events belong together; one template may say it for both."""
    expect = {"when": {"topic": "job:completed"}, "within": "10m", "by": "{context.jobId}"}
    found = loaded(tmp_path, expect=expect).rules[0].expect
    assert found is not None
    assert (10 * MINUTE, found.by) == (found.ms, found.seen_by)
    assert found.when.meets({"topic": "job:completed"})
    other = loaded(tmp_path, expect=expect | {"seen_by": "{id}"}).rules[0].expect
    assert other is not None
    assert "{id}" == other.seen_by


def test_headers_that_rules_ask_for_are_kept(tmp_path: Path) -> None:
    """By patterns or by templates; others are not."""
    rules = loaded(
        tmp_path,
        when={"topic": "job:failed", "$headers.X-Env": "prod"},
        **{"with": {"job_id": "{$headers.x-job}"}},
        throttle={"once_within": "1m", "by": "{$headers.x-by}"},
    )
    assert ("x-by", "x-env", "x-job") == rules.sources["flatfile"].asked


def test_no_rule_can_ask_for_a_credential(tmp_path: Path) -> None:
    """The header that proves the sender is never kept."""
    (problem,) = problems(write(tmp_path, with_rule(when={"$headers.authorization": "x"})))
    assert "proves who sent the event" in problem.what


def test_an_age_needs_a_time(tmp_path: Path) -> None:
    """Where the source says when something happened, a rule can say how old it may be."""
    source = SMALL["source"]["flatfile"] | {"time": "body:at"}
    timed = with_rule(max_age="1h") | {"source": {"flatfile": source}}
    assert 60 * MINUTE == load(write(tmp_path, timed), ENVIRON).rules[0].max_age_ms
    (problem,) = problems(write(tmp_path, with_rule(max_age="1h")))
    assert ("rule[1].max_age", 'time = "body:created_at" there') == (problem.key, problem.hint)


APART: list[tuple[dict[str, Any], str, str]] = [
    ({"ignore": "x"}, "rule[1].ignore", "it can't stand beside a call"),
    ({"say": "x"}, "rule[1].say", "it does nothing without tell"),
    ({"person": "x", "approve": True}, "rule[1].approve", "it can't stand beside person"),
    ({"mode": "shadow", "stop": True}, "rule[1].stop", "a shadow rule changes nothing"),
    ({"delay": "1m", "budget": {"wait": "2m"}}, "rule[1].delay", "budget.wait says it already"),
    ({"calls": [{"call": "flatfile.retry", "with": {"job_id": "{a}"}}]}, "rule[1].call", "beside calls"),
    ({"throttle": {"by": "{id}"}}, "rule[1].throttle", "expected one of once_within"),
    ({"throttle": {"once_within": "1m", "threshold": 3}}, "rule[1].throttle", "counts no events"),
    ({"throttle": {"accumulate_within": "1m"}}, "rule[1].throttle", "how many make it act?"),
    ({"case": "{$count}"}, "rule[1].case", "there is no $count without a window"),
    ({"throttle": {"once_within": "1m"}, "case": "{$events.0.id}"}, "rule[1].case", "there is no $events"),
    ({"ignore": "x", "stop": True}, "rule[1].stop", "it can't stand beside ignore"),
    ({"from": ["flatfile", "flatfile"]}, "rule[1].from[2]", "stands here twice"),
    ({"with": {"job_id": "{{ id }}"}}, "rule[1].with.job_id", "would go out as it stands"),
    ({"with": {"job_id": "${id}"}}, "rule[1].with.job_id", "would go out as it stands"),
    ({"case": "{$soruce}"}, "rule[1].case", "there is no '$soruce'"),
]


@pytest.mark.parametrize(("keys", "key", "what"), APART)
def test_knobs_that_can_not_go_together(tmp_path: Path, keys: dict[str, Any], key: str, what: str) -> None:
    """What would be idle beside another key is an error at load."""
    found = problems(write(tmp_path, with_rule(**keys)))
    assert any(one.key.startswith(key) and what in one.what for one in found), found
