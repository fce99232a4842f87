"""What do rules want that is no plain call: other ends, several calls, windows, and who is asked at all?"""

from dataclasses import replace
from typing import Any

import pytest
from build import NOW, action, event, pattern, provider, rule, ruleset

from relay.deed import Plan, Said, Wait
from relay.event import Decision, Does, Json, Part
from relay.plan import late, plan
from relay.rule import Aim, Expect, Rule, Throttle, Window

FAILED: Json = {"topic": "job:failed", "context": {"jobId": "us_jb_1", "space": "us_sp_1"}}
MINUTE = 60_000
JOB = Part(rule="retry jobs", does=Does.CALL, what="flatfile.retry", key="flatfile:job_id=us_jb_1")


def planned(*rules: Rule, data: Json = FAILED, **more: Any) -> Plan:
    return plan(event(data, **more), ruleset(*rules), NOW)


def does(made: Plan) -> list[tuple[str, Does]]:
    return [(part.rule, part.does) for part in made.deed.parts]


def end(name: str, **more: Any) -> Rule:
    """Return a rule that calls nobody."""
    return rule(name=name, aims=(), **more)


# -- ends --


def test_a_call_says_so_in_its_part() -> None:
    """What a rule did is kept with the event: which action, for which resource."""
    assert (JOB,) == planned(rule()).deed.parts


def test_what_is_ignored_says_why_and_is_seen_by_no_rule_below() -> None:
    """Nothing is done, and the reason shows."""
    made = planned(end("parts", ignore="parts are retried by their parent"), rule())

    assert (Decision.IGNORED, ()) == (made.decision, made.deed.failures)
    assert (Part(rule="parts", does=Does.IGNORE, why="parts are retried by their parent"),) == made.deed.parts


def test_rules_above_one_that_ignores_have_been_asked() -> None:
    """Rules are asked in their order: what stands above acts."""
    made = planned(rule(), end("the rest", ignore="nothing to do"))
    assert Decision.MATCHED is made.decision
    assert [("retry jobs", Does.CALL), ("the rest", Does.IGNORE)] == does(made)


def test_a_person_is_asked_with_the_call_at_hand() -> None:
    """The failure says why a person must look, and what would be called."""
    (failure,) = planned(rule(person="no credit left in {context.space}")).deed.failures
    assert ("no credit left in us_sp_1", {"job_id": "us_jb_1"}) == (failure.person, failure.values)


def test_a_person_is_asked_where_nobody_can_be_called() -> None:
    """Such a case stands under the name of the event's source."""
    asks = rule(aims=(Aim(case="disk {context.space}"),), person="full {nope}")
    made = planned(asks)
    (failure,) = made.deed.failures
    assert ("flatfile", "", "disk us_sp_1") == (failure.provider, failure.action, failure.key)
    # What is missing in a text for people does not keep the rest from being said.
    assert "full {nope} (nope is missing)" == failure.person
    assert [("retry jobs", Does.PERSON)] == does(made)


@pytest.mark.parametrize(
    ("say", "text"),
    [("{context.jobId} failed at {$source}", "us_jb_1 failed at flatfile"), ("", "news: flatfile ev_1")],
)
def test_somebody_is_told(say: str, text: str) -> None:
    """With what the rule says, or with what there is to say of any event."""
    made = planned(end("news", tell="log", say=say))
    assert (Decision.MATCHED, (Said(rule="news", channel="log", text=text),)) == (
        made.decision,
        made.deed.says,
    )


def test_several_calls_are_several_failures() -> None:
    """Each has values and a name of its own."""
    aims = tuple(
        Aim(
            provider="flatfile",
            action=name,
            with_={"job_id": "{context.jobId}"},
            case=f"{name} {{context.jobId}}",
        )
        for name in ("retry", "cancel")
    )
    rules = ruleset(rule(aims=aims), providers=(provider(action(), action(name="cancel")),))
    made = plan(event(FAILED), rules, NOW)
    assert ["retry us_jb_1", "cancel us_jb_1"] == [one.key for one in made.deed.failures]


# -- who is asked --


def test_stop_leaves_rules_below_unasked() -> None:
    """They do nothing; what says that a resource is well is heard all the same."""
    well = pattern({"topic": "job:failed"})
    below = rule(name="below", case="other {context.jobId}", recovered=well, when=pattern({"topic": "x"}))
    made = planned(rule(stop=True), rule(name="again", action="retry", case="x {context.jobId}"), below)
    assert [("retry jobs", Does.CALL), ("below", Does.RECOVER)] == does(made)
    assert ["other us_jb_1"] == [one.key for one in made.deed.recoveries]


def test_stop_counts_only_where_the_rule_is_met() -> None:
    """A rule that is not met stops nothing."""
    made = planned(rule(name="other", when=pattern({"topic": "x"}), stop=True), rule())
    assert [("retry jobs", Does.CALL)] == does(made)


def test_what_a_rule_may_ask_around_the_body() -> None:
    """The source, the type, how far the sender is known, and headers that were kept."""
    asks = rule(
        when=pattern({"$type": "job:failed", "$headers.x-env": {"prefix": "prod"}, "$verified": "verified"}),
        with_={"job_id": "{$headers.x-env}"},
    )
    made = planned(asks, type="job:failed", headers={"x-env": "prod-1"})
    assert [{"job_id": "prod-1"}] == [dict(one.values) for one in made.deed.failures]
    assert Decision.NO_RULE is planned(asks, type="job:done", headers={"x-env": "prod-1"}).decision


def test_what_stops_hides_nothing_that_was_expected() -> None:
    """An event that a rule above ignores ends the wait of one below."""
    done = pattern({"topic": "job:failed"})
    expect = Expect(when=done, ms=MINUTE, by="{context.jobId}", seen_by="{context.jobId}")
    waits = rule(name="waits", when=pattern({"topic": "job:started"}), expect=expect)
    made = planned(end("fine", ignore="it is known"), waits)
    assert [("us_jb_1", True)] == [(wait.key, wait.seen) for wait in made.waits]


def test_what_a_stopped_rule_takes_for_failed_is_not_well_by_it() -> None:
    """A rule that would be met hears no recovery in the same event, asked or not."""
    both = pattern({"topic": "job:failed"})
    made = planned(rule(stop=True, case="a {context.jobId}"), rule(name="below", when=both, recovered=both))
    assert () == made.deed.recoveries


# -- not now --


def test_what_is_too_old_is_reported() -> None:
    """Nothing is done about it, and the part says how old it is."""
    made = planned(rule(max_age_ms=MINUTE), happened_at=NOW - 90_000)
    assert (Decision.SUPPRESSED, ()) == (made.decision, made.deed.failures)
    assert (
        Part(rule="retry jobs", does=Does.OLD, why="it happened 90 s ago, and max_age is 60 s"),
    ) == made.deed.parts


@pytest.mark.parametrize("happened_at", [NOW - MINUTE, NOW + MINUTE, None])
def test_what_is_young_enough_is_acted_on(happened_at: int | None) -> None:
    """So is what does not say when it happened."""
    assert planned(rule(max_age_ms=MINUTE), happened_at=happened_at).deed.failures


def test_a_shadow_keeps_what_it_would_have_done() -> None:
    """The request is rendered and kept, nothing is sent, and rules below are asked."""
    made = planned(rule(shadow=True), rule(name="real", case="{context.jobId}"))
    shadow, real = made.deed.parts
    assert (Does.SHADOW, "flatfile.retry", JOB.key) == (shadow.does, shadow.what, shadow.key)
    assert "would call: POST https://api.example.com/v1/jobs/us_jb_1/retry" == shadow.why
    assert ("real", Does.CALL) == (real.rule, real.does)
    assert ["real"] == [one.rule for one in made.deed.failures]


def test_a_shadow_says_what_could_not_be_sent() -> None:
    """A missing value shows before the rule is live."""
    made = planned(rule(shadow=True), data={"topic": "job:failed"})
    assert Decision.SUPPRESSED is made.decision
    assert "would call: not sent: job_id: context.jobId is missing in the event" == made.deed.parts[0].why


# -- windows --


def throttled(kind: Window, by: str = "{context.space}", **more: Any) -> Rule:
    return rule(throttle=Throttle(kind=kind, ms=MINUTE, by=by, **more))


@pytest.mark.parametrize("kind", [Window.ONCE_WITHIN, Window.ACCUMULATE_WITHIN])
def test_a_window_decides_whether_a_rule_acts(kind: Window) -> None:
    """Nothing is done at once; what would be done goes along, for the window to let it act."""
    made = planned(throttled(kind, threshold=3))
    (wait,) = made.waits
    assert ((), Decision.MATCHED) == (made.deed.parts, made.decision)
    assert (kind, "us_sp_1", "", MINUTE, 3) == (wait.window, wait.key, wait.mark, wait.ms, wait.threshold)
    assert (JOB,) == wait.deed.parts


@pytest.mark.parametrize(("by", "mark"), [("{context.space}", "us_sp_1"), ("", "ev_1")])
def test_a_window_that_collects_is_one_for_its_rule(by: str, mark: str) -> None:
    """Its key makes an event count once in it; without one, each counts."""
    made = planned(throttled(Window.ONCE_AFTER, by))
    assert (Wait(rule="retry jobs", window=Window.ONCE_AFTER, key="", mark=mark, ms=MINUTE),) == made.waits


def test_an_event_without_the_windows_key_acts_by_itself() -> None:
    """What belongs to no window is not dropped."""
    made = planned(throttled(Window.ONCE_WITHIN, "{nope}"))
    assert ((), 1) == (made.waits, len(made.deed.failures))
    assert ["no window: {nope} is missing"] == [part.why for part in made.deed.parts]


def beats(**more: Any) -> Rule:
    """Return a rule that acts unless the next heartbeat comes."""
    beat = pattern({"topic": "beat"})
    expect = Expect(when=beat, ms=MINUTE, by="{context.jobId}", seen_by="{context.jobId}")
    return rule(when=beat, expect=expect, **more)


def test_what_is_expected_ends_one_window_before_the_next_begins() -> None:
    """A heartbeat may expect the next one."""
    made = planned(beats(), data={"topic": "beat", "context": {"jobId": "us_jb_1"}})
    assert [("us_jb_1", True), ("us_jb_1", False)] == [(wait.key, wait.seen) for wait in made.waits]


def test_what_lacks_the_key_is_waited_for_by_itself() -> None:
    """Nothing can end that wait, and the rule acts in its time, not at once."""
    made = planned(beats(), data={"topic": "beat"})
    assert [("ev_1", False)] == [(wait.key, wait.seen) for wait in made.waits]
    assert () == made.deed.failures


def test_at_the_end_of_a_window_a_rule_knows_all_of_it() -> None:
    """Its templates have how many there were, and their bodies."""
    several = [event(FAILED, id="ev_1"), event({"context": {"jobId": "us_jb_2"}}, id="ev_2")]
    one = rule(
        with_={"job_id": "{$events.1.context.jobId}"},
        tell="log",
        say='{$count}: {$events.*.context.jobId|join:" "}',
    )
    deed = late(one, ruleset(one), several, NOW)
    assert [{"job_id": "us_jb_2"}] == [dict(failure.values) for failure in deed.failures]
    assert ["2: us_jb_1 us_jb_2"] == [said.text for said in deed.says]


def test_a_shadow_in_a_window_does_nothing_either() -> None:
    """What the window lets act is shown, not done."""
    made = planned(replace(throttled(Window.ONCE_WITHIN), shadow=True))
    (wait,) = made.waits
    assert ((), Does.SHADOW) == (wait.deed.failures, wait.deed.parts[0].does)


def test_what_can_not_be_judged_is_said() -> None:
    """An event of more array elements than relay looks through is kept with what it may have met."""
    asks = rule(when=pattern({"a": {"x": 1, "y": 1, "z": 1}}))
    tangled: Json = {"a": [{"x": 1}, {"y": 1}, {"z": 1}] * 40_000}
    made = planned(asks, rule(name="not this", when=pattern({"topic": "x"})), data=tangled)
    assert (Decision.UNJUDGED, [("retry jobs", Does.UNJUDGED)]) == (made.decision, does(made))
    assert "it is more than relay looks through" == made.deed.parts[0].why
