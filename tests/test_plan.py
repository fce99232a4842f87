"""Which resources an event calls failed, which well, and how each is retried."""

from dataclasses import replace
from datetime import date
from itertools import product
from typing import Any

import pytest
from build import NOW, action, check, event, pattern, provider, rule, ruleset, source

from relay.call import Step
from relay.case import Failure, Policy
from relay.event import LONGEST_NAME, Decision, Json, Trust
from relay.match import Pattern
from relay.plan import plan, source_of
from relay.provider import Shape, Value
from relay.rule import Ruleset

FAILED: dict[str, Any] = {"topic": "job:failed", "context": {"jobId": "us_jb_1", "space": "us_sp_1"}}
COMPLETED = FAILED | {"topic": "job:completed"}
WELL = pattern({"topic": "job:completed"})


def failures(rules: Ruleset, data: Json = FAILED, **more: Any) -> tuple[Failure, ...]:
    made = plan(event(data, **more), rules, NOW)
    assert (Decision.MATCHED, ()) == (made.decision, made.deed.recoveries)
    return made.deed.failures


def recovers(rules: Ruleset, data: Json = COMPLETED, **more: Any) -> list[tuple[str, str, str]]:
    """Plan an event that is no failure: rule, provider and key of what it calls well."""
    made = plan(event(data, **more), rules, NOW)
    assert () == made.deed.failures
    assert (Decision.MATCHED if made.deed.recoveries else Decision.NO_RULE) is made.decision
    return [(one.rule, one.provider, one.key) for one in made.deed.recoveries]


# -- which failures --


def test_a_rule_makes_a_failure() -> None:
    """It says which rule, which call with which values, which resource, and how far to go."""
    policy = Policy(retries=5, only="Mon-Fri 08:00-18:00")

    assert (
        Failure(
            rule="retry jobs",
            provider="flatfile",
            action="retry",
            key="flatfile:job_id=us_jb_1",
            values={"job_id": "us_jb_1"},
            policy=policy,
            step=Step.SEND,
            flaw="",
        ),
    ) == failures(ruleset(rule(policy=policy)))


@pytest.mark.parametrize(
    ("data", "source_"),
    [({"topic": "job:completed"}, "flatfile"), (FAILED, "writer"), (None, "flatfile"), ([], "")],
)
def test_no_rule(data: Json, source_: str) -> None:
    """An event that meets no rule, or comes from a source that no rule names, causes nothing."""
    made = plan(event(data, source=source_), ruleset(), NOW)
    assert (Decision.NO_RULE, (), ()) == (made.decision, made.deed.failures, made.deed.recoveries)


def test_unparsable() -> None:
    """A body that could not be read safely meets no rule, even one that wants nothing to be there."""
    nothing = pattern({"x": {"exists": False}})
    rules = ruleset(rule(when=nothing, with_={"job_id": "1"}, recovered=nothing))
    assert failures(rules, None)
    made = plan(event(None, body=b"{", flaw="not JSON"), rules, NOW)
    assert (Decision.UNPARSABLE, (), ()) == (made.decision, made.deed.failures, made.deed.recoveries)


def test_each_rule_that_is_met_makes_its_failure() -> None:
    """Several rules may meet one event, in their order."""
    rules = ruleset(
        rule(),
        rule(name="never", when=pattern({"topic": "x"})),
        rule(name="space", with_={"job_id": "{context.space}"}, sources=("writer", "flatfile")),
    )
    found = [(one.rule, one.values["job_id"]) for one in failures(rules)]
    assert [("retry jobs", "us_jb_1"), ("space", "us_sp_1")] == found


def test_the_same_call_is_wanted_once() -> None:
    """Two rules that want the very same call make one failure, under the first one's name and key."""
    (made,) = failures(ruleset(rule(), rule(name="again", with_={"job_id": "us_jb_1"}, case="other")))
    assert ("retry jobs", "flatfile:job_id=us_jb_1") == (made.rule, made.key)


def test_another_action_or_provider_is_another_call() -> None:
    """Only provider, action and values together make a call the same."""
    other = action(name="cancel")
    rules = ruleset(
        rule(),
        rule(name="cancel", action="cancel"),
        rule(name="elsewhere", provider="mirror"),
        providers=(provider(action(), other), provider(name="mirror")),
    )
    assert ["retry jobs", "cancel", "elsewhere"] == [one.rule for one in failures(rules)]


def test_values_come_typed() -> None:
    """What the action declares as text is text, even if the event has a number."""
    (made,) = failures(ruleset(), {"topic": "job:failed", "context": {"jobId": 12}})
    assert {"job_id": "12"} == made.values


# -- flaws --

FLAWS: list[tuple[str, Json]] = [
    ("not sent: job_id: context.nope is missing in the event", "{context.nope}"),
    ("not sent: job_id: context is a table, expected text in the event", "x-{context}"),
    ("not sent: job_id is a table, expected text", "{context}"),
    ("not sent: job_id is empty", ""),
    ("not sent: 'a/b' can't stand in a path", "a/b"),
    ("not sent: '..' can't stand in a path", ".."),
    ("not sent: job_id holds a control character", "a\r\nb"),
]


@pytest.mark.parametrize(("flaw", "template"), FLAWS)
def test_what_can_not_be_sent_is_planned_with_its_flaw(flaw: str, template: Json) -> None:
    """Nothing that was asked for is dropped in silence: the failure is there, with the reason."""
    (made,) = failures(ruleset(rule(with_={"job_id": template})))
    assert flaw == made.flaw


def test_each_failure_keeps_its_own_flaw() -> None:
    """Two rules that can't be sent for different reasons are two failures, not one."""
    rules = ruleset(rule(with_={"job_id": "{a}"}), rule(name="b", with_={"job_id": "{b}"}))
    assert ["a is missing", "b is missing"] == [one.flaw[18:30] for one in failures(rules)]


def test_what_the_look_can_not_send_is_a_flaw_too() -> None:
    """A value that fits the call but not its check is known before the call is made."""
    shape = Shape(method="POST", path="/retry", json={"id": "{job_id}"})
    rules = ruleset(rule(with_={"job_id": "a/b"}), providers=(provider(action(shape=shape, check=check())),))
    (made,) = failures(rules)
    assert "not sent: 'a/b' can't stand in a path" == made.flaw


@pytest.mark.parametrize("number", [1 << 64, [1 << 70]])
def test_a_number_that_no_json_holds_is_a_flaw_and_breaks_nothing(number: Any) -> None:
    """TOML knows longer integers than JSON: a rule with one makes flawed failures, not an error."""
    shape = Shape(method="POST", path="/x", json="{n}")
    one = action(values={"job_id": Value(), "n": Value(type="any")}, shape=shape)
    (made,) = failures(ruleset(rule(with_={"job_id": "x", "n": number}), providers=(provider(one),)))
    assert ("not sent: n holds what can be no part of JSON", {}) == (made.flaw, made.values)
    assert "retry jobs:ev_1" == made.key


def test_a_date_is_no_text() -> None:
    """TOML's own dates are refused with a reason, too."""
    dated: Any = date(2026, 11, 21)
    (made,) = failures(ruleset(rule(with_={"job_id": dated})))
    assert "not sent: job_id is a date, expected text" == made.flaw


# -- how it begins --


@pytest.mark.parametrize(("check_first", "checked", "trust"), [*product([False, True], [False, True], Trust)])
def test_who_looks_first(check_first: bool, checked: bool, trust: Trust) -> None:
    """Where there is a check: an action that wants it, and each event whose body could be anybody's."""
    one = action(check=check() if checked else None, check_first=check_first)
    (made,) = failures(ruleset(providers=(provider(one),)), verified=trust)

    sends = not checked or (trust is Trust.VERIFIED and not check_first)
    assert (Step.SEND if sends else Step.LOOK) is made.step


@pytest.mark.parametrize(
    ("expected", "policy", "approve"),
    [
        (False, Policy(), None),
        (True, Policy(), pattern({"topic": "job:failed"})),
        (False, Policy(), pattern({"topic": "x"})),
        (True, Policy(approve=True), None),
        (True, Policy(approve=True), pattern({"topic": "x"})),
    ],
)
def test_who_waits_for_a_yes(expected: bool, policy: Policy, approve: Pattern | None) -> None:
    """All of a rule's retries do, or those of the events that it names; the rest of its policy stays."""
    policy = replace(policy, retries=7)
    (made,) = failures(ruleset(rule(policy=policy, approve=approve)))
    assert replace(policy, approve=expected) == made.policy


# -- which resource --

UPLOAD = Shape(method="POST", path="/x", json={"id": "{id}", "version": "{version}"})
VALUES = {"id": Value(), "version": Value(), "file": Value(type="file"), "note": Value(optional=True)}
MANY = {"id": "p", "version": "1", "file": "p-1.zip", "note": "hi"}


@pytest.mark.parametrize(
    ("expected", "more"),
    [
        ("us_sp_1/us_jb_1", {"case": "{context.space}/{context.jobId}"}),
        ("flatfile:job_id=us_jb_1", {}),
        ("flatfile:job_id=7", {"with_": {"job_id": 7}}),
        ("flatfile:job_id=..", {"with_": {"job_id": ".."}}),
        ("us_sp_1", {"case": "{context.space}", "with_": {"job_id": "{context.nope}"}}),
        ("retry jobs:ev_1", {"case": "{context.nope}"}),
        ("retry jobs:ev_1", {"case": "{context}"}),
        ("retry jobs:ev_1", {"with_": {"job_id": "{context.nope}"}}),
        ("retry jobs:ev_1", {"with_": {"job_id": "\0"}}),
    ],
)
def test_the_key_is_the_failing_resource(expected: str, more: dict[str, Any]) -> None:
    """It is named by the rule, else by provider and values, else by rule and event alone."""
    assert expected == failures(ruleset(rule(**more)))[0].key


@pytest.mark.parametrize(
    ("expected", "values", "given"),
    [
        ("id=p,version=1", VALUES, MANY),
        ("id=p,version=1", VALUES, {"version": "1", "note": "ho", "id": "p", "file": "other.zip"}),
        ("id=p,version=1", VALUES, MANY | {"file": "{context.nope}"}),  # a flaw, but its resource is known
        ("file=p-1.zip", {"file": Value(type="file")}, {"file": "p-1.zip"}),
        ("note=hi", {"note": Value(optional=True), "to": Value(optional=True)}, {"note": "hi"}),
        ("retry", {}, {}),
        ("n=7", {"n": Value(type="integer")}, {"n": 7}),
        ("n=true", {"n": Value(type="boolean")}, {"n": True}),
        ('n={"a":1,"b":[2]}', {"n": Value(type="any")}, {"n": {"b": [2], "a": 1}}),
        ('a="1,b=2",b=3', {"a": Value(), "b": Value()}, {"a": "1,b=2", "b": "3"}),
        ('a=1,b="2,b=3"', {"a": Value(), "b": Value()}, {"a": "1", "b": "2,b=3"}),
    ],
)
def test_the_key_holds_what_the_call_can_not_do_without(
    expected: str, values: dict[str, Value], given: dict[str, Json]
) -> None:
    """Neither files nor what may be missing, unless there is nothing else; no two resources share a key."""
    one = action(values=values, shape=Shape(method="POST", path="/x"))
    (made,) = failures(ruleset(rule(with_=given), providers=(provider(one),)))
    assert f"flatfile:{expected}" == made.key


def test_a_key_is_the_same_each_time() -> None:
    """Events that name one resource name it alike, whatever else they say and in which order."""
    one = provider(action(values=VALUES, shape=UPLOAD))
    templates = {"id": "{id}", "version": "{version}", "file": "{id}.zip"}
    events: list[Json] = [{"id": "p", "version": 3, "at": 1}, {"at": 2, "version": "3", "id": "p"}]
    keys = {
        failures(
            ruleset(rule(when=pattern({"id": {"exists": True}}), with_=templates), providers=(one,)),
            data,
            id=f"ev_{number}",
            received_at=NOW + number,
        )[0].key
        for number, data in enumerate(events)
    }
    assert {"flatfile:id=p,version=3"} == keys


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_what_has_no_name_is_a_case_of_its_own(name: str) -> None:
    """Two events with an empty id are not one resource."""
    rules = ruleset(rule(case="{context.jobId}", with_={"job_id": "x"}))
    data: Json = {"topic": "job:failed", "context": {"jobId": name}}

    assert ["retry jobs:ev_1", "retry jobs:ev_2"] == [
        failures(rules, data, id=id_)[0].key for id_ in ("ev_1", "ev_2")
    ]


def test_a_key_is_fit_for_a_database() -> None:
    """However long and odd the event's text, a key is short, plain and its own."""
    named = rule(case="{context.jobId}", with_={"job_id": "x"})
    odd = ["a\x00b", "a\x01b", "x" * 9_000, "x" * 9_001]
    found = [
        failures(ruleset(named), {"topic": "job:failed", "context": {"jobId": text}})[0].key for text in odd
    ]
    (nameless,) = failures(ruleset(rule(name="r" * 300, case="{nope}")))

    assert 4 == len(set(found))
    assert all(len(key) <= LONGEST_NAME and key.isprintable() for key in [*found, nameless.key])


# -- what recovered --


@pytest.mark.parametrize(
    ("expected", "rules_own", "sources_own", "data"),
    [
        (True, WELL, None, COMPLETED),
        (True, None, WELL, COMPLETED),
        (True, WELL, pattern({"topic": "x"}), COMPLETED),
        (False, pattern({"topic": "x"}), WELL, COMPLETED),  # the rule knows better
        (False, None, None, COMPLETED),
        (False, WELL, WELL, FAILED | {"topic": "job:started"}),
        (False, WELL, WELL, {"topic": "job:completed"}),  # nobody can say what recovered
        (False, WELL, WELL, {"topic": "job:completed", "context": {"jobId": " "}}),
    ],
)
def test_what_recovers(
    expected: bool, rules_own: Pattern | None, sources_own: Pattern | None, data: Json
) -> None:
    """An event that meets the rule's `recovered`, or else its source's, and names the resource."""
    rules = replace(
        ruleset(rule(recovered=rules_own)),
        sources={"flatfile": source(name="flatfile", recovered=sources_own)},
    )
    wanted = [("retry jobs", "flatfile", "flatfile:job_id=us_jb_1")] if expected else []
    assert wanted == recovers(rules, data)


@pytest.mark.parametrize("case", ["", "{context.jobId}", "job {context.space}/{context.jobId}"])
@pytest.mark.parametrize("job", ["us_jb_1", 12, "a,b", "x" * 250])
def test_a_recovery_has_the_key_of_its_failure(case: str, job: Json) -> None:
    """Whatever names the resource, what failed and what recovered are the same one."""
    rules = ruleset(rule(case=case, recovered=WELL))
    context = {"jobId": job, "space": "s"}
    (failure,) = failures(rules, {"topic": "job:failed", "context": context})

    assert [("retry jobs", "flatfile", failure.key)] == recovers(
        rules, {"topic": "job:completed", "context": context}, id="ev_2"
    )


def test_a_recovery_needs_only_what_names_the_resource() -> None:
    """A file, or whatever else the retry wants besides, need not stand in the event that all is well."""
    one = action(values=VALUES | {"reason": Value(optional=True)}, shape=UPLOAD)
    templates = {"id": "{id}", "version": "{v}", "file": "{path}.zip", "reason": "{reason}"}
    rules = ruleset(rule(with_=templates, recovered=pattern({"ok": True})), providers=(provider(one),))
    assert [("retry jobs", "flatfile", "flatfile:id=p,version=1")] == recovers(
        rules, {"ok": True, "id": "p", "v": "1"}
    )


def test_what_a_rule_takes_for_a_failure_did_not_recover_by_it() -> None:
    """`when` comes first; by another rule too, of one resource in one event the failure counts."""
    both = rule(recovered=pattern({"context.jobId": {"exists": True}}))
    assert 1 == len(failures(ruleset(both)))
    assert 1 == len(
        failures(ruleset(rule(name="well", when=pattern({"topic": "x"}), recovered=both.when), both))
    )


def test_one_event_may_tell_of_two_resources() -> None:
    """A job that failed and a space that is well again: both are told."""
    space = rule(name="space", when=pattern({"x": 1}), case="{context.space}", recovered=rule().when)
    made = plan(event(FAILED), ruleset(rule(), space), NOW)
    assert Decision.MATCHED is made.decision
    assert ["flatfile:job_id=us_jb_1"] == [one.key for one in made.deed.failures]
    assert [("space", "us_sp_1")] == [(one.rule, one.key) for one in made.deed.recoveries]


def test_a_resource_recovers_once() -> None:
    """Two rules that share a resource say once that it is well; another provider's resource is another."""
    rules = ruleset(
        rule(recovered=WELL),
        rule(name="again", recovered=WELL),
        rule(name="elsewhere", provider="mirror", recovered=WELL, case="flatfile:job_id=us_jb_1"),
        rule(name="other source", sources=("writer",), recovered=WELL, case="x"),
        providers=(provider(), provider(name="mirror")),
    )
    assert [("retry jobs", "flatfile"), ("elsewhere", "mirror")] == [one[:2] for one in recovers(rules)]


@pytest.mark.parametrize(
    ("expected", "trust", "checked"),
    [
        (trust is not Trust.UNATTEMPTED or not checked, trust, checked)
        for trust in Trust
        for checked in (0, 1)
    ],
)
def test_whose_word_ends_a_case(expected: bool, trust: Trust, checked: int) -> None:
    """What anyone may have sent does not, where relay can look for itself."""
    one = action(check=check() if checked else None)
    rules = ruleset(rule(recovered=WELL), providers=(provider(one),))
    assert expected == bool(recovers(rules, verified=trust))


def test_a_source_that_only_a_watch_feeds_has_its_preset() -> None:
    """It takes no posts, but its `recovered` counts all the same; a source that is posted to comes first."""
    posted, fed = source(name="flatfile"), source(name="flatfile", recovered=WELL)
    watched = replace(ruleset(), watched={"flatfile": fed})

    assert (fed, None) == (source_of(watched, "flatfile"), source_of(watched, "x"))
    assert 1 == len(recovers(watched))
    assert [] == recovers(ruleset())
    assert posted is source_of(replace(watched, sources={"flatfile": posted}), "flatfile")
