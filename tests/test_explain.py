"""Does an explanation agree with the plan, and does it name what is nearly right first?"""

from dataclasses import replace
from typing import Any

from build import NOW, action, event, pattern, provider, rule, ruleset
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.case import Policy
from relay.event import Does, Json
from relay.explain import AGAIN, Entry, Explanation, explain
from relay.plan import plan
from relay.rule import Expect, Rule, Ruleset, Throttle, Window

FAILED: dict[str, Any] = {"topic": "job:failed", "context": {"jobId": "us_jb_1"}, "n": 1}


def explained(*rules: Rule, data: Json = FAILED, **more: Any) -> Explanation:
    return explain(event(data, **more), ruleset(*rules), NOW)


def names(told: Explanation) -> list[str]:
    return [entry.rule.name for entry in told.entries]


# -- it agrees with the plan --

PATTERNS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"topic": "job:failed"},
        {"topic": "job:completed"},
        {"n": [1, 2]},
        {"n": {"numeric": [">", 1]}},
        {"topic": {"prefix": "job:"}, "n": 1},
        {"any-of": [{"n": 1}, {"n": 2, "topic": "job:failed"}]},
        {"gone": {"exists": False}},
        {"$type": "x"},
    ]
)
ENDS: list[dict[str, Any]] = [
    {},
    {"ignore": "no need", "aims": ()},
    {"tell": "ops", "say": "{topic}", "aims": ()},
    {"person": "look", "case": "{context.jobId}", "action": "", "provider": ""},
    {"tell": "ops", "policy": Policy(approve=True)},
    {"with_": {"job_id": "{nothing}"}},
    {"max_age_ms": 1000},
    {"throttle": Throttle(kind=Window.ONCE_WITHIN, ms=1000, by="{topic}")},
    {"throttle": Throttle(kind=Window.ONCE_WITHIN, ms=1000, by="{nothing}")},
    {"throttle": Throttle(kind=Window.ACCUMULATE_WITHIN, ms=1000, threshold=2)},
    {"throttle": Throttle(kind=Window.ONCE_AFTER, ms=1000)},
    {"expect": Expect(when=pattern({"n": 2}), ms=1000, by="{n}", seen_by="{n}")},
]


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    made = [
        rule(
            name=f"r{number}",
            when=pattern(draw(PATTERNS)),
            sources=draw(st.sampled_from([("flatfile",), ("writer",), ("writer", "flatfile")])),
            recovered=draw(st.sampled_from([None, pattern({"topic": "job:completed"})])),
            stop=draw(st.booleans()) and draw(st.booleans()),
            shadow=draw(st.booleans()) and draw(st.booleans()),
            **draw(st.sampled_from(ENDS)),
        )
        for number in range(draw(st.integers(1, 6)))
    ]
    return ruleset(*made)


EVENTS = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(["job:failed", "job:completed", "Job:failed"]),
        "n": st.integers(1, 3),
        "context": st.sampled_from([{"jobId": "a"}, {}, [{"jobId": "b"}, {"jobId": "c"}]]),
    }
)


@settings(max_examples=400, deadline=None)
@given(rulesets(), EVENTS, st.sampled_from([None, NOW - 5000]))
def test_a_rule_acts_if_the_plan_has_a_part_of_it(
    rules: Ruleset, data: dict[str, Json], happened: int | None
) -> None:
    """No rule is said to act that has no part in the plan, and none is left out that has one."""
    came = event(data, happened_at=happened)
    made = plan(came, rules, NOW)
    told = explain(came, rules, NOW)

    parts = {part.rule for part in made.deed.parts} | {wait.rule for wait in made.waits}
    assert parts == {entry.rule.name for entry in told.entries if entry.acts}
    assert made == told.plan
    mine = [one.name for one in rules.rules if "flatfile" in one.sources]
    assert sorted(mine) == sorted(names(told))
    assert len(rules.rules) - len(mine) == told.others
    assert made.deed.parts == tuple(
        part for part in made.deed.parts for entry in told.entries if part in entry.parts
    )
    met = [one for one in rules.rules if one.name in mine and one.when.miss(data) is None]
    stops = [mine.index(one.name) for one in met if (one.stop or one.ignore) and not one.shadow]
    below = set(mine[stops[0] + 1 :]) if stops else set()
    assert below == {entry.rule.name for entry in told.entries if entry.stopped}
    for entry in told.entries:
        meets = entry.rule.when.miss(data) is None
        assert meets is entry.meets is (entry.miss is None)
        assert entry.acts or not meets or entry.stopped
        wanted = [part for part in entry.parts if part.what and part.does is Does.CALL]
        assert len(entry.calls) >= len(wanted)


def test_those_that_act_stand_in_the_files_order() -> None:
    """They are asked in it, and a rule below may be stopped."""
    told = explained(rule(name="a", when=pattern({"x": 1})), rule(name="b"), rule(name="c"))

    assert ["b", "c", "a"] == names(told)


def test_the_same_call_is_rendered_once() -> None:
    """A rule that wants what one above wants says so, in place of a second request."""
    first, second = explained(rule(), rule(name="again", with_={"job_id": "us_jb_1"})).entries

    assert "POST https://api.example.com/v1/jobs/us_jb_1/retry" == first.calls[0].line
    assert ("flatfile.retry", None, (AGAIN,)) == (
        second.calls[0].call,
        second.calls[0].failure,
        second.calls[0].notes,
    )


def test_several_calls_of_one_rule_are_told_apart() -> None:
    """Each with its own request, in the rule's order, though one of them is another rule's already."""
    other = action(name="cancel")
    aims = (*rule().aims, *rule(action="cancel").aims)
    rules = replace(ruleset(rule(), rule(name="both", aims=aims)), providers={})
    rules = replace(rules, providers={"flatfile": provider(action(), other)})
    calls = explain(event(FAILED), rules, NOW).entries[1].calls

    assert [("flatfile.retry", False), ("flatfile.cancel", True)] == [
        (one.call, one.failure is not None) for one in calls
    ]


def test_calls_for_one_resource_are_told_apart() -> None:
    """Each is rendered with its own values."""
    aims = tuple(one for number in (1, 2) for one in rule(with_={"job_id": f"j{number}"}, case="x").aims)
    (found,) = explained(rule(aims=aims)).entries

    assert ["j1", "j2"] == [one.line.split("/")[-2] for one in found.calls]


def test_nothing_is_asked_about_what_is_no_json() -> None:
    """No rule is near, nor far."""
    told = explained(rule(), data=None, flaw="not JSON")

    assert ((), "unparsable", 0) == (told.entries, told.plan.decision.value, told.others)


# -- what is near --


def entry(*tables: dict[str, Any], data: Json = FAILED) -> Entry:
    """Explain one rule that the event does not meet."""
    table = tables[0] if len(tables) == 1 else {"any-of": list(tables)}
    (found,) = explained(rule(when=pattern(table)), data=data).entries
    assert not found.meets
    return found


def test_how_many_fields_are_met_is_counted() -> None:
    """Of the alternative that is nearest."""
    three = {"topic": "job:failed", "n": 2, "context.jobId": "us_jb_1"}
    none = {"n": 3}

    for found in (entry(three), entry(none, three), entry(three, none)):
        assert (2, 3) == (found.met, found.fields)
    assert (0, 1) == (entry(none).met, entry(none).fields)


def test_one_field_of_several_is_near() -> None:
    """So is a slip in a value; one field that is all that is asked for, and is another, is not."""
    assert entry({"topic": "job:failed", "n": 2}).near
    assert not entry({"topic": "job:lost", "n": 2}).near
    assert not entry({"topic": "space:failed"}).near
    assert entry({"topic": "Job:failed"}).near
    assert entry({"n": "1"}).near


def test_fields_that_are_met_by_different_elements_are_one_miss() -> None:
    """Each is met alone: what is missing is that they are met together."""
    data: Json = {"jobs": [{"id": 1, "at": 1}, {"id": 2, "at": 2}]}
    found = entry({"jobs.id": 1, "jobs.at": 2}, data=data)

    assert (1, 2, True) == (found.met, found.fields, found.near)
    assert "in the same array element" in str(found.miss)


def test_what_is_nearer_stands_before_what_is_farther() -> None:
    """What would match but is not asked, then slips, then one field of several, then by what is lacking."""
    tables: list[dict[str, Any]] = [
        {"topic": "x", "n": 2, "a": 1, "b": 1},
        {"topic": "job:failed", "n": 2, "a": 1},
        {"topic": "job:failed", "n": 2},
        {"topic": "job:failed", "n": 1, "context.jobId": "x"},
        {"topic": "job_failed"},
        {"topic": "job:failed"},
    ]
    rules = [rule(name="first", aims=(), ignore="known")]
    rules += [rule(name=str(number), when=pattern(table)) for number, table in enumerate(tables)]
    told = explained(*rules)

    assert ["first", "5", "4", "3", "2", "1", "0"] == names(told)
    assert ["first", "5", "4"] == [one.rule.name for one in told.shown(2)]
    assert 7 == len(told.shown(None))
    assert {"first"} == {one.stopped for one in told.entries if not one.acts}
