"""Which calls an event causes."""

from datetime import date
from typing import Any

import pytest
from build import NOW, action, check, event, provider, rule, ruleset

from relay.call import Call, State, Step
from relay.event import LONGEST_NAME, Decision, Json, Trust
from relay.match import Pattern
from relay.plan import plan
from relay.provider import Shape, Value
from relay.rule import Ruleset

FAILED: dict[str, Any] = {"topic": "job:failed", "context": {"jobId": "us_jb_1", "space": "us_sp_1"}}


def calls(rules: Ruleset, data: Json = FAILED, **more: Any) -> tuple[Call, ...]:
    made = plan(event(data, **more), rules, NOW)
    assert Decision.MATCHED is made.decision
    return made.calls


def test_a_rule_makes_a_call() -> None:
    """The call knows why it is there, what fills it, and that it is due now."""
    (made,) = calls(ruleset())
    assert ("ev_1", "retry jobs", "flatfile", "retry") == (made.event, made.rule, made.provider, made.action)
    assert {"job_id": "us_jb_1"} == made.values
    assert (State.QUEUED, Step.SEND, "") == (made.state, made.step, made.why)
    assert (NOW, NOW, None) == (made.due_at, made.created_at, made.settled_at)
    assert (0, 0, 0, None) == (made.tries, made.looks, made.attempts, made.lease)


@pytest.mark.parametrize(
    ("data", "source"),
    [({"topic": "job:completed"}, "flatfile"), (FAILED, "writer"), (None, "flatfile"), ([], "")],
)
def test_no_rule(data: Json, source: str) -> None:
    """An event that meets no rule, or comes from a source that no rule names, causes nothing."""
    made = plan(event(data, source=source), ruleset(), NOW)
    assert (Decision.NO_RULE, ()) == (made.decision, made.calls)


def test_unparsable() -> None:
    """A body that could not be read safely meets no rule, even one that wants nothing to be there."""
    anything = rule(when=Pattern({"x": {"exists": False}}), with_={"job_id": "1"})
    assert calls(ruleset(anything), None)
    made = plan(event(None, body=b"{", flaw="not JSON"), ruleset(anything), NOW)
    assert (Decision.UNPARSABLE, ()) == (made.decision, made.calls)


def test_each_rule_that_is_met_makes_its_call() -> None:
    """Several rules may meet one event, in their order; each call has an id of its own."""
    rules = ruleset(
        rule(),
        rule(name="never", when=Pattern({"topic": "x"})),
        rule(name="space", with_={"job_id": "{context.space}"}, sources=("writer", "flatfile")),
    )
    made = calls(rules)
    assert [("retry jobs", "us_jb_1"), ("space", "us_sp_1")] == [(c.rule, c.values["job_id"]) for c in made]
    assert 2 == len({call.id for call in made})


def test_the_same_call_is_made_once() -> None:
    """Two rules that want the very same thing get one call, under the first one's name."""
    (made,) = calls(ruleset(rule(), rule(name="again", with_={"job_id": "us_jb_1"}, case="other")))
    assert "retry jobs" == made.rule


def test_another_action_or_provider_is_another_call() -> None:
    """Only provider, action and values together make a call the same."""
    other = action(name="cancel")
    rules = ruleset(
        rule(),
        rule(name="cancel", action="cancel"),
        rule(name="elsewhere", provider="mirror"),
        providers=(provider(action(), other), provider(name="mirror")),
    )
    assert ["retry jobs", "cancel", "elsewhere"] == [call.rule for call in calls(rules)]


DEAD: list[tuple[str, Json]] = [
    ("not sent: job_id: context.nope is missing in the event", "{context.nope}"),
    ("not sent: job_id: context is a table, expected text in the event", "x-{context}"),
    ("not sent: job_id is a table, expected text", "{context}"),
    ("not sent: job_id is empty", ""),
    ("not sent: 'a/b' can't stand in a path", "a/b"),
    ("not sent: '..' can't stand in a path", ".."),
    ("not sent: job_id holds a control character", "a\r\nb"),
]


@pytest.mark.parametrize(("why", "template"), DEAD)
def test_what_can_not_be_sent_is_planned_and_dead(why: str, template: Json) -> None:
    """Nothing that was asked for is dropped in silence: the call is there, with the reason."""
    (made,) = calls(ruleset(rule(with_={"job_id": template})))
    assert (State.DEAD, why, NOW) == (made.state, made.why, made.settled_at)


def test_each_dead_call_keeps_its_own_reason() -> None:
    """Two rules that fail for different reasons are two dead calls, not one."""
    rules = ruleset(rule(with_={"job_id": "{a}"}), rule(name="b", with_={"job_id": "{b}"}))
    assert ["a is missing", "b is missing"] == [call.why[18:30] for call in calls(rules)]


def test_what_the_look_can_not_send_is_dead_too() -> None:
    """A value that fits the call but not its check is known before the call is made."""
    one = action(
        shape=Shape(method="POST", path="/retry", json={"id": "{job_id}"}), check=check(), on_unknown="check"
    )
    (made,) = calls(ruleset(rule(with_={"job_id": "a/b"}), providers=(provider(one),)))
    assert (State.DEAD, "not sent: 'a/b' can't stand in a path") == (made.state, made.why)


@pytest.mark.parametrize("number", [1 << 64, [1 << 70]])
def test_a_number_that_no_json_holds_is_dead_and_breaks_nothing(number: Any) -> None:
    """TOML knows longer integers than JSON: a rule with one makes dead calls, not an error at each event."""
    one = action(
        values={"job_id": Value(), "n": Value(type="any")}, shape=Shape(method="POST", path="/x", json="{n}")
    )
    (made,) = calls(ruleset(rule(with_={"job_id": "x", "n": number}), providers=(provider(one),)))
    assert (State.DEAD, {}) == (made.state, made.values)


def test_a_date_is_no_text() -> None:
    """TOML's own dates are refused with a reason, too."""
    dated: Any = date(2026, 11, 21)
    (made,) = calls(ruleset(rule(with_={"job_id": dated})))
    assert "not sent: job_id is a date, expected text" == made.why


@pytest.mark.parametrize(
    ("expected", "check_first", "checked", "trust"),
    [
        (Step.SEND, False, True, Trust.VERIFIED),
        (Step.SEND, False, True, Trust.AUTHENTICATED),
        (Step.LOOK, True, True, Trust.VERIFIED),
        (Step.LOOK, False, True, Trust.UNATTEMPTED),
        (Step.SEND, False, False, Trust.UNATTEMPTED),
    ],
)
def test_who_looks_first(expected: Step, check_first: bool, checked: bool, trust: Trust) -> None:
    """A look comes first where a success could be overwritten, or where anyone may have sent the event."""
    one = action(check=check() if checked else None, check_first=check_first)
    (made,) = calls(ruleset(providers=(provider(one),)), verified=trust)
    assert expected is made.step


@pytest.mark.parametrize(
    ("expected", "more"),
    [
        ("us_sp_1/us_jb_1", {"case": "{context.space}/{context.jobId}"}),
        ("flatfile:job_id=us_jb_1", {}),
        ("flatfile:job_id=7", {"with_": {"job_id": 7}}),
        ("retry jobs:ev_1", {"case": "{context.nope}"}),
        ("retry jobs:ev_1", {"with_": {"job_id": "{context.nope}"}}),
    ],
)
def test_the_case_is_the_failing_resource(expected: str, more: dict[str, Any]) -> None:
    """It is named by the rule, else by provider and values, else by the event alone."""
    assert expected == calls(ruleset(rule(**more)))[0].case


def test_values_come_typed() -> None:
    """What the action declares as text is text, even if the event has a number."""
    (made,) = calls(ruleset(), {"topic": "job:failed", "context": {"jobId": 12}})
    assert {"job_id": "12"} == made.values


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_what_has_no_name_is_a_case_of_its_own(name: str) -> None:
    """Two events with an empty id are not one resource."""
    named = rule(case="{context.jobId}", with_={"job_id": "x"})

    (made,) = calls(ruleset(named), {"topic": "job:failed", "context": {"jobId": name}})

    assert f"{named.name}:ev_1" == made.case


def test_a_case_is_fit_to_be_a_key() -> None:
    """However long and odd the event's text, a case's name is short, plain and its own."""
    named = rule(case="{context.jobId}", with_={"job_id": "x"})
    odd = ["a\x00b", "a\x01b", "x" * 9_000, "x" * 9_001]
    found = [
        calls(ruleset(named), {"topic": "job:failed", "context": {"jobId": text}})[0].case for text in odd
    ]

    assert 4 == len(set(found))
    assert all(len(case) <= LONGEST_NAME and case.isprintable() for case in found)
