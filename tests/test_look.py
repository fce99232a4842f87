"""What looks at a resource mean, and how a call moves on through its tries."""

from typing import Any

import pytest
from build import (
    NO_FILE,
    NOW,
    POLICIES,
    REFUSED_CONNECTION,
    RESET,
    TRIES,
    call,
    check,
    kind,
    provider,
    reading,
    reply,
    trial,
)
from hypothesis import given
from hypothesis import strategies as st

from relay.call import (
    MOVES,
    NEVER,
    Call,
    Dead,
    Done,
    Outcome,
    Refused,
    Retry,
    State,
    Step,
    Throttled,
    Unknown,
    Verdict,
)
from relay.event import Millis
from relay.gate import LONGEST_WAIT_MS
from relay.judge import after, given_back, judge
from relay.look import LOOKS, blind, judge_look
from relay.provider import Answer

LOOKED: list[tuple[str, str, str, Answer]] = [
    ("free", "free", "Answered", reply(200, {"status": "failed"})),
    ("done", "done", "Answered", reply(200, {"status": "running"})),
    ("done", "done", "Answered", reply(200, {"status": "recovered"})),
    ("dead", "dead", "Answered", reply(200, {"status": "refused"})),
    ("free look", "unknown", "Answered", reply(200, {"status": "odd"})),
    ("free look", "unknown", "Answered", reply(200, b"<html>")),
    ("free look", "unknown", "Answered", reply(200, {"status": "recovered"}, whole=False)),
    ("free look", "unknown", "Answered", reply(302)),
    ("free look", "unknown", "Refused", reply(401)),
    ("free look", "unknown", "Refused", reply(403)),
    ("free look", "unknown", "Answered", reply(404)),
    ("free look", "unknown", "Answered", reply(408)),
    ("free look", "unknown", "Throttled", reply(429, retry_after="5")),
    ("free look", "unknown", "Failed", reply(500)),
    ("free look", "unknown", "Throttled", reply(503, retry_after="5")),
    ("free look", "unknown", "Failed", REFUSED_CONNECTION),
    ("free look", "unknown", "Failed", RESET),
    ("free look", "unknown", "NoneType", NO_FILE),
]


@pytest.mark.parametrize("tries", [0, 1])
@pytest.mark.parametrize(("unsent", "sent", "signal", "answer"), LOOKED)
def test_what_a_look_means(unsent: str, sent: str, signal: str, answer: Answer, tries: int) -> None:
    """Still failed is sent (again), all else settled; what can't tell stays unknown if it was ever sent."""
    verdict = judge_look(trial(tries=tries, step=Step.LOOK), answer)
    assert (sent if tries else unsent, signal) == (kind(verdict), type(verdict.signal).__name__)
    now = after(call(tries=tries, step=Step.LOOK), verdict, NOW)
    assert tries == now.tries
    assert verdict.blurred == (now.looks == 1)


def test_a_look_says_whose_doing_it_was() -> None:
    """The reason tells a recovery after our call from one that came by itself; the file's own reason wins."""
    well = reply(200, {"status": "recovered"})
    assert "not called" in judge_look(trial(tries=0), well).outcome.why
    assert "not called" not in judge_look(trial(tries=1), well).outcome.why
    of = check()
    of = type(of)(shape=of.shape, states=(reading("refused", {"status": 404}, why="no such job"),))
    assert Dead("no such job") == judge_look(trial({"check": of}), reply(404)).outcome


@pytest.mark.parametrize("tries", [0, 1])
def test_looks_have_an_end(tries: int) -> None:
    """A state that nobody described is looked at a few times, then a person is asked."""
    odd = reply(200, {"status": "odd"})
    assert "person" != kind(judge_look(trial(tries=tries, looks=LOOKS - 2), odd))
    assert "person" == kind(judge_look(trial(tries=tries, looks=LOOKS - 1), odd))


def test_a_look_that_was_turned_away_has_no_end() -> None:
    """Limits and outages are no answers: they are not counted as looks."""
    for answer in (reply(429), reply(500), reply(401), RESET):
        assert "unknown" == kind(judge_look(trial(tries=1, looks=LOOKS + 9), answer))


@pytest.mark.parametrize(("expected", "policy"), POLICIES)
def test_in_doubt_without_a_check(expected: str, policy: dict[str, Any]) -> None:
    """A call in doubt that can't be looked up is sent again if that is allowed, else a person is asked."""
    verdict = blind(trial(policy | {"check": None}, tries=1, step=Step.LOOK))
    assert {"double": "free", "unknown": "person", "person": "person"}[expected] == kind(verdict)
    assert verdict.signal is None


@pytest.mark.parametrize(("expected", "policy"), POLICIES)
def test_given_back(expected: str, policy: dict[str, Any]) -> None:
    """A call that was out when relay stopped is in doubt; a look is not, and is taken again."""
    assert expected == kind(given_back(trial(policy)))
    assert "unknown" == kind(given_back(trial(policy, tries=1, step=Step.LOOK)))
    assert "free look" == kind(given_back(trial(policy, step=Step.LOOK)))


# -- the call after a try --

OUTCOMES: list[tuple[Outcome, State, int, Step]] = [
    (Done("200"), State.DONE, 1, Step.SEND),
    (Dead("404"), State.DEAD, 1, Step.SEND),
    (Dead("no file", spent=False), State.DEAD, 0, Step.SEND),
    (Retry(NOW + 5, "503"), State.QUEUED, 1, Step.SEND),
    (Retry(NOW + 5, "429", spent=False), State.QUEUED, 0, Step.SEND),
    (Retry(NOW + 5, "look", step=Step.LOOK, spent=False), State.QUEUED, 0, Step.LOOK),
    (Unknown(NOW + 5, "reset"), State.UNKNOWN, 1, Step.LOOK),
    (Unknown(NEVER, "reset"), State.UNKNOWN, 1, Step.LOOK),
]


@pytest.mark.parametrize("step", [Step.SEND, Step.LOOK])
@pytest.mark.parametrize(("outcome", "state", "spent", "then"), OUTCOMES)
def test_the_call_after_a_try(outcome: Outcome, state: State, spent: int, then: Step, step: Step) -> None:
    """It moves as the outcome says, counts a send that may have been seen, and gives its lease back."""
    before = call(step=step, tries=2, looks=1)
    now = after(before, Verdict(outcome, None, blurred=True), NOW + 1)

    assert (state, outcome.why, 2, None) == (now.state, now.why, now.looks, now.lease)
    assert now.tries == 2 + (spent if step is Step.SEND else 0)
    assert now.state in MOVES[before.state]
    if isinstance(outcome, Retry | Unknown):
        assert (outcome.at, then, None) == (now.due_at, now.step, now.settled_at)
    else:
        assert NOW + 1 == now.settled_at


def steps(begun: Call, answers: list[Answer], of: dict[str, Any]) -> list[str]:
    """Walk a call through *answers* and return the states it came through."""
    states = []
    for number, answer in enumerate(answers, 1):
        begun = call(attempts=number, tries=begun.tries, looks=begun.looks, step=begun.step)
        one = trial(of, attempts=number, tries=begun.tries, looks=begun.looks, step=begun.step)
        begun = after(begun, (judge_look if begun.step is Step.LOOK else judge)(one, answer), NOW)
        states.append(begun.state.value)
    return states


def test_a_call_in_doubt_is_looked_up_before_it_is_sent_again() -> None:
    """500, then a look that finds it still failed, then a second call that is taken."""
    answers: list[Answer] = [reply(500), reply(503), reply(200, {"status": "failed"}), reply(204)]
    assert ["unknown", "unknown", "queued", "done"] == steps(call(), answers, {"on_unknown": "check"})


@given(
    st.lists(
        st.sampled_from([RESET, reply(500), reply(503), reply(408), reply(200, {"status": "failed"})]),
        min_size=40,
        max_size=40,
    ),
    st.sampled_from([policy for _, policy in POLICIES]),
)
def test_tries_have_an_end(answers: list[Answer], policy: dict[str, Any]) -> None:
    """Whatever goes wrong, no call is sent more often than its provider allows."""
    begun, sent = call(), 0
    for answer in answers:
        sent += begun.step is Step.SEND
        one = trial(policy, tries=begun.tries, looks=begun.looks, step=begun.step)
        begun = after(one.call, (judge_look if begun.step is Step.LOOK else judge)(one, answer), NOW)
        if begun.settled_at is not None or begun.due_at == NEVER:
            break
    assert sent <= TRIES


@given(
    st.integers(100, 999),
    st.sampled_from(["9999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "86401", "86400", "1"]),
    st.sampled_from(["", "9999999999999", "86400000"]),
    st.sampled_from(["retry", "unknown", ""]),
    st.floats(0, 1),
)
def test_nothing_waits_longer_than_is_believed(
    status: int, said: str, millis: str, is_: str, luck: float
) -> None:
    """No answer puts a call off for more than a day (and a tenth): it ends, or a person is asked."""
    outcomes = (reading(is_, {"status": {"exists": True}}),) if is_ else ()
    for judged in (judge, judge_look):
        one = trial({"outcomes": outcomes, "on_unknown": "check"}, luck=luck, tries=1)
        outcome = judged(one, reply(status, retry_after=said, retry_after_ms=millis)).outcome
        at: Millis = outcome.at if isinstance(outcome, Retry | Unknown) else NOW
        assert at == NEVER or at <= NOW + LONGEST_WAIT_MS * 11 // 10


SAYS = (
    reading("refused", {"status": 200, "body.code": 40102}, why="no such key"),
    reading("retry", {"status": 200, "body.code": 40306}, why="too many calls", after_ms=3_000),
    reading("done", {"status": 200, "body.code": 200}),
)


@pytest.mark.parametrize("tries", [0, 1])
def test_a_look_is_refused_in_the_words_of_the_provider(tries: int) -> None:
    """Refused credentials pause the provider, also when they are told with a 200: no event dies of it."""
    verdict = judge_look(
        trial(where=provider(outcomes=SAYS), tries=tries, looks=LOOKS), reply(200, {"code": 40102})
    )

    assert Refused("200: no such key") == verdict.signal
    assert not verdict.blurred
    assert after(call(step=Step.LOOK, tries=tries), verdict, NOW).step is Step.LOOK
    assert isinstance(verdict.outcome, Unknown if tries else Retry)


def test_a_look_that_is_too_early_waits_as_the_provider_says() -> None:
    """A limit that is told with a 200 is a limit: it uses up no look."""
    verdict = judge_look(trial(where=provider(outcomes=SAYS), looks=LOOKS), reply(200, {"code": 40306}))

    assert Throttled(NOW + 3_000) == verdict.signal
    assert isinstance(verdict.outcome, Retry)
    assert verdict.outcome.at >= NOW + 3_000
    assert not verdict.blurred


def test_a_success_that_shows_no_state_is_no_state() -> None:
    """The provider's "done" is for calls: a look has to find the resource."""
    verdict = judge_look(trial(where=provider(outcomes=SAYS)), reply(200, {"code": 200}))

    assert verdict.blurred
