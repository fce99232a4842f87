"""What becomes of a call of which nobody knows whether it arrived: look, repeat, or ask a person."""

from dataclasses import replace
from typing import Any

import pytest
from build import NOW, RESET, TRIES, action, call, check, kind, provider, reply, trial
from hypothesis import given
from hypothesis import strategies as st

from relay.call import MOVES, NEVER, Call, Dead, Kind, Retry, Seen, State, Step, Verdict
from relay.judge import after, given_back, judge
from relay.look import blind, judge_look
from relay.provider import Answer
from relay.trial import KEY_MS, Trial

MARKED = check(mark="data.at")
OLD = NOW - KEY_MS
"""When a call was made whose key the provider may have forgotten by now."""


def shows(status: str, at: Any = None) -> Answer:
    """Return a look's answer; *at* stands where each run leaves its mark."""
    return reply(200, {"status": status, "data": {"at": at}})


def look(begun: Call, answer: Answer, of: dict[str, Any] | None = None) -> tuple[Verdict, Call]:
    """Look at the resource of *begun* and return what it meant, and the call after it."""
    one = action(**{"check": MARKED} | (of or {}))
    held = replace(begun, state=State.RUNNING)
    judged = judge_look if one.check is not None else lambda trial, _: blind(trial)
    verdict = judged(Trial(provider=provider(one), action=one, call=held, now=NOW, luck=0.0), answer)
    return verdict, after(held, verdict, NOW)


# -- the matrix --

WORLDS: list[tuple[str, Answer, str, str]] = [
    # what really happened, what a look shows then, and what comes of it: with a mark, and without one
    ("executed", shows("recovered", 2), "done recovered", "done recovered"),
    ("not executed", shows("failed", 1), "queued send", "queued send"),
    ("in flight", shows("running", 1), "done running", "done running"),
    ("failed again", shows("failed", 2), "done failed", "queued send"),
    ("look fails", reply(500), "unknown look", "unknown look"),
]
LOOKS_FIRST: list[dict[str, Any]] = [
    {"on_unknown": "check"},
    {"on_unknown": "resend_same_key", "created_at": OLD},
]
SENDS_AGAIN: list[dict[str, Any]] = [
    {"on_unknown": "resend"},
    {"on_unknown": "resend_same_key"},
    {"on_unknown": "resend_same_key", "idempotent": True, "created_at": OLD},
    {"on_unknown": "check", "idempotent": True},
    {"on_unknown": "person", "idempotent": True},
]
ASKS: list[dict[str, Any]] = [
    {"on_unknown": "person"},
    {"on_unknown": "resend_same_key", "check": None, "created_at": OLD},
]


def in_doubt(policy: dict[str, Any], mark: str) -> Call:
    """Send a call that had seen *mark*, hear nothing, and return it."""
    of = {"check": MARKED} | policy
    tried = trial(of, mark=mark, created_at=of.pop("created_at", NOW))
    doubtful = after(tried.call, judge(tried, RESET), NOW)
    assert (1, 1, mark) == (doubtful.tries, doubtful.doubts, doubtful.mark)
    return doubtful


@pytest.mark.parametrize("policy", LOOKS_FIRST)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(("world", "answer", "with_mark", "without"), WORLDS)
def test_a_doubt_that_is_looked_at(
    world: str, answer: Answer, with_mark: str, without: str, marked: bool, policy: dict[str, Any]
) -> None:
    """A look tells what happened; that it failed again it can only tell by a mark that has changed."""
    doubtful = in_doubt(policy, "1" if marked else "")
    assert (State.UNKNOWN, Step.LOOK) == (doubtful.state, doubtful.step)
    assert NOW + 2_000 <= doubtful.due_at < NEVER

    _, now = look(doubtful, answer)

    end = now.seen.value if now.seen else now.step.value
    assert (with_mark if marked else without) == f"{now.state.value} {end}", world
    assert (1, 1) == (now.tries, now.doubts)


@pytest.mark.parametrize("policy", SENDS_AGAIN)
@pytest.mark.parametrize("mark", ["1", ""])
def test_a_doubt_that_is_sent_again(mark: str, policy: dict[str, Any]) -> None:
    """Where policy allows a double there is no look, whatever happened, and the doubt is counted."""
    doubtful = in_doubt(policy, mark)

    assert (State.QUEUED, Step.SEND) == (doubtful.state, doubtful.step)


@pytest.mark.parametrize("policy", ASKS)
@pytest.mark.parametrize("mark", ["1", ""])
def test_a_doubt_that_a_person_ends(mark: str, policy: dict[str, Any]) -> None:
    """Where a double does harm and nothing can tell, a person is asked and nothing is sent."""
    doubtful = in_doubt(policy, mark)

    assert (State.UNKNOWN, NEVER) == (doubtful.state, doubtful.due_at)
    assert "needs a person" in doubtful.why


# -- marks --


def test_the_first_look_takes_the_mark() -> None:
    """What the look saw before the send stays with the call, through the send and its doubt."""
    verdict, begun = look(call(step=Step.LOOK), shows("failed", "2024-01-15T09:30:00Z"))
    assert ("2024-01-15T09:30:00Z", "free") == (verdict.mark, kind(verdict))

    sent = trial({"check": MARKED, "on_unknown": "check"}, mark=begun.mark, step=begun.step)
    doubtful = after(sent.call, judge(sent, RESET), NOW)
    _, now = look(doubtful, shows("failed", "2024-01-15T09:31:00Z"))

    assert (State.DONE, Seen.FAILED, "it ran and failed again") == (now.state, now.seen, now.why)


@pytest.mark.parametrize("tries", [0, 1])
@pytest.mark.parametrize(
    ("expected", "at"),
    [
        (None, None),
        (None, ""),
        ("7", 7),
        ("1.5", 1.5),
        ("[1,2]", [1, 2]),
        ('{"a":null}', {"a": None}),
        ("false", False),
    ],
)
def test_anything_can_be_a_mark(expected: str | None, at: Any, tries: int) -> None:
    """Whatever stands at the mark's place is one; what is not there is none, and says nothing."""
    assert expected == look(call(step=Step.LOOK, tries=tries), shows("failed", at))[0].mark


def test_a_mark_that_is_gone_does_not_wipe_out_the_one_before() -> None:
    """A look that shows no mark tells nothing: the next one is compared with the last that was seen."""
    _, now = look(call(step=Step.LOOK, tries=1, mark="1"), reply(200, {"status": "failed"}))
    assert (State.QUEUED, "1") == (now.state, now.mark)


def test_without_a_place_for_it_there_is_no_mark() -> None:
    """A check that names no mark compares nothing."""
    verdict, now = look(call(step=Step.LOOK, tries=1, mark="1"), shows("failed", 2), {"check": check()})
    assert (None, State.QUEUED) == (verdict.mark, now.state)


def test_a_first_look_never_says_that_our_call_failed_again() -> None:
    """Nothing was sent: another run than the one that was marked is still a failure to be retried."""
    _, now = look(call(step=Step.LOOK, mark="1"), shows("failed", 2))
    assert (State.QUEUED, Step.SEND, None, "2") == (now.state, now.step, now.seen, now.mark)


@pytest.mark.parametrize("tries", [0, 1])
@pytest.mark.parametrize("state", ["running", "recovered"])
def test_a_look_that_ends_a_call_says_what_it_saw(state: str, tries: int) -> None:
    """How the resource was found is kept with the call, for its case."""
    _, now = look(call(step=Step.LOOK, tries=tries), shows(state))
    assert (State.DONE, Seen(state), None) == (now.state, now.seen, now.alias)
    assert ("not called" in now.why) is (tries == 0)


def test_an_answer_to_a_send_has_seen_nothing() -> None:
    """That the provider took the call does not say how the resource is."""
    assert after(call(), judge(trial(), reply(200)), NOW).seen is None


# -- the budget of the resource --


@pytest.mark.parametrize("room", [1, 3])
def test_what_may_have_been_done_too_often_is_not_repeated(room: int) -> None:
    """A look that finds it still failed sends again only while the budget has room for one more."""
    for doubts, expected in ((room - 1, "free"), (room, "dead"), (room + 1, "dead")):
        verdict, now = look(call(step=Step.LOOK, tries=doubts, doubts=doubts, room=room), shows("failed", 1))
        assert expected == kind(verdict)
        assert doubts == now.tries
    assert f"its budget is spent: {room + 1} calls" in now.why


@pytest.mark.parametrize("has_check", [True, False])
def test_the_last_doubt_is_looked_at_where_that_can_be(has_check: bool) -> None:
    """The budget wins over a policy that allows doubles: the last send is looked at, or was the end."""
    of = {"on_unknown": "resend", "check": MARKED if has_check else None}
    tried = trial(of, tries=1, doubts=1, room=2)
    verdict = judge(tried, RESET)
    begun = after(tried.call, verdict, NOW)
    assert ("unknown", 2) == (kind(verdict), begun.doubts)

    verdict, _ = look(begun, shows("recovered"), of)
    assert ("done" if has_check else "dead") == kind(verdict)
    verdict, _ = look(begun, shows("failed", 1), of)
    assert isinstance(verdict.outcome, Dead)
    assert "its budget is spent" in verdict.outcome.why


def test_the_same_key_is_no_second_retry() -> None:
    """However often one key is sent, the provider does it once: the tries of the call are the limit."""
    of = {"on_unknown": "resend_same_key"}
    assert "double" == kind(judge(trial(of, tries=3, doubts=3, room=1), RESET))
    assert "unknown" == kind(judge(trial(of, tries=TRIES - 1, doubts=3, room=1), RESET))


ANSWERS = st.lists(
    st.sampled_from([RESET, reply(500), reply(503), reply(429), shows("failed", 1), shows("odd")]),
    min_size=50,
    max_size=50,
)


@given(ANSWERS, st.sampled_from([*LOOKS_FIRST, *SENDS_AGAIN, *ASKS]), st.integers(1, 4), st.booleans())
def test_no_call_does_more_than_its_room(
    answers: list[Answer], policy: dict[str, Any], room: int, has_check: bool
) -> None:
    """Whatever goes wrong, no more sends of a call are in doubt than its resource's budget has room for."""
    of: dict[str, Any] = {"check": MARKED if has_check else None} | policy
    begun = call(room=room, created_at=of.pop("created_at", NOW))
    for answer in answers:
        one = action(**of)
        tried = Trial(provider=provider(one), action=one, call=begun, now=NOW, luck=0.0)
        if begun.step is Step.LOOK:
            _, now = look(begun, answer, of)
        else:
            now = after(begun, judge(tried, answer), NOW)
        assert now.state in MOVES[State.RUNNING]
        assert now.doubts - begun.doubts in ({0, 1} if begun.step is Step.SEND else {0})
        begun = replace(now, state=State.RUNNING)
        if now.settled_at is not None or now.due_at == NEVER:
            break
    same_key = policy["on_unknown"] == "resend_same_key" and "created_at" not in policy
    assert begun.doubts <= (TRIES if same_key else room)
    assert begun.tries <= TRIES


# -- keys, and how long a provider knows them --


@pytest.mark.parametrize("has_check", [True, False])
def test_a_key_has_an_age(has_check: bool) -> None:
    """What counts is how old the key will be when it is sent: after a day the provider may not know it."""
    of = {"on_unknown": "resend_same_key", "check": MARKED if has_check else None}
    wait = 500  # with the best of luck
    for age, expected in (
        (KEY_MS - wait - 1, "double"),
        (KEY_MS - wait, "unknown" if has_check else "person"),
    ):
        assert expected == kind(judge(trial(of, created_at=NOW - age), RESET))


@pytest.mark.parametrize("answer", [reply(429), reply(503), reply(401), replace(RESET, sent=False)])
def test_an_old_key_is_not_sent_after_a_doubt(answer: Answer) -> None:
    """A doubt from yesterday, then limits and outages until the key is too old: look before the next send."""
    of = {"on_unknown": "resend_same_key"}
    old: dict[str, Any] = {"tries": 1, "doubts": 1, "created_at": OLD}

    verdict = judge(trial(of, **old), answer)

    assert isinstance(verdict.outcome, Retry)
    assert verdict.outcome.step is Step.LOOK
    for fresh in (old | {"created_at": NOW}, old | {"doubts": 0}):
        outcome = judge(trial(of, **fresh), answer).outcome
        assert isinstance(outcome, Retry)
        assert outcome.step is Step.SEND
    assert "person" == kind(blind(trial(of | {"check": None}, step=Step.LOOK, **old)))


# -- what relay itself broke off --


@pytest.mark.parametrize(
    ("policies", "expected"), [(LOOKS_FIRST, "unknown"), (SENDS_AGAIN, "double"), (ASKS, "person")]
)
def test_a_stop_is_a_doubt_like_any_other(policies: list[dict[str, Any]], expected: str) -> None:
    """A send that was out when relay stopped may have arrived."""
    for policy in policies:
        of = {"check": MARKED} | policy
        verdict = given_back(trial(of, created_at=of.pop("created_at", NOW)))
        assert expected == kind(verdict)
        assert verdict.signal is None


def test_a_check_that_was_out_is_asked_again() -> None:
    """A look is a read: nothing about it can be in doubt."""
    tried = trial(kind=Kind.CHECK, step=Step.LOOK, tries=3)
    now = after(tried.call, given_back(tried), NOW)
    assert (State.QUEUED, Step.LOOK, NOW, 0) == (now.state, now.step, now.due_at, now.doubts)
