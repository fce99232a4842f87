"""What answers mean: the common table, what a provider's file says over it, and looks."""

from typing import Any

import pytest
from build import (
    NO_FILE,
    NOW,
    POLICIES,
    REFUSED_CONNECTION,
    RESET,
    TRIES,
    action,
    call,
    kind,
    provider,
    reading,
    reply,
    trial,
)
from hypothesis import given
from hypothesis import strategies as st

from relay.call import (
    Answered,
    Refused,
    Retry,
    State,
    Step,
    Throttled,
    Unknown,
)
from relay.judge import after, judge
from relay.look import judge_look
from relay.provider import Answer
from relay.trial import Trial

SURE: list[tuple[str, str, Answer]] = [
    ("free", "Failed", REFUSED_CONNECTION),
    ("dead", "NoneType", NO_FILE),
    ("done", "Answered", reply(200)),
    ("done", "Answered", reply(202, {"success": False})),
    ("done", "Answered", reply(204)),
    ("done", "Answered", reply(299)),
    ("dead", "Answered", reply(301)),
    ("dead", "Answered", reply(302)),
    ("dead", "Answered", reply(304)),
    ("dead", "Answered", reply(307)),
    ("dead", "Answered", reply(400)),
    ("free", "Refused", reply(401)),
    ("free", "Refused", reply(403)),
    ("dead", "Answered", reply(404)),
    ("dead", "Answered", reply(409)),
    ("dead", "Answered", reply(410)),
    ("dead", "Answered", reply(422)),
    ("again", "Answered", reply(408)),
    ("again", "Answered", reply(425)),
    ("free", "Throttled", reply(429)),
    ("free", "Throttled", reply(429, retry_after="3")),
    ("again", "Failed", reply(503)),
    ("again", "Throttled", reply(503, retry_after="3")),
]
DOUBTFUL: list[tuple[str, Answer]] = [
    ("Failed", reply(500)),
    ("Failed", reply(501)),
    ("Failed", reply(502)),
    ("Failed", reply(504)),
    ("Failed", reply(599)),
    ("Failed", RESET),
]


@pytest.mark.parametrize(("_", "policy"), POLICIES)
@pytest.mark.parametrize(("expected", "signal", "answer"), SURE)
def test_the_common_table_where_it_is_sure(
    expected: str, signal: str, answer: Answer, _: str, policy: dict[str, Any]
) -> None:
    """What the answer settles does not depend on whether the action may be repeated."""
    verdict = judge(trial(policy), answer)
    assert (expected, signal) == (kind(verdict), type(verdict.signal).__name__)


@pytest.mark.parametrize(("expected", "policy"), POLICIES)
@pytest.mark.parametrize(("signal", "answer"), DOUBTFUL)
def test_the_common_table_where_bytes_may_have_arrived(
    signal: str, answer: Answer, expected: str, policy: dict[str, Any]
) -> None:
    """What may have happened is sent again only where that does no harm; else it is looked up, or asked."""
    verdict = judge(trial(policy), answer)
    assert (expected, signal) == (kind(verdict), type(verdict.signal).__name__)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("dead", reply(503)),
        ("dead", reply(408)),
        ("unknown", reply(500)),
        ("unknown", RESET),
        ("free", reply(429)),
        ("free", reply(401)),
        ("free", REFUSED_CONNECTION),
        ("done", reply(200)),
    ],
)
def test_the_last_try(expected: str, answer: Answer) -> None:
    """After the last try nothing is sent again; a doubt is worth a look; what spent no try leaves it."""
    resend = trial({"on_unknown": "resend"}, tries=TRIES - 1)
    assert expected == kind(judge(resend, answer))
    assert kind(judge(trial({"on_unknown": "resend"}, tries=TRIES - 2), answer)) not in {"dead", "unknown"}


def test_in_doubt_after_the_last_try_is_still_looked_up() -> None:
    """Whether the last try helped is worth a look; only then the call is dead."""
    last = trial({"on_unknown": "check"}, tries=TRIES - 1)
    assert "unknown" == kind(judge(last, RESET))
    looking = trial({"on_unknown": "check"}, tries=TRIES, step=Step.LOOK)
    assert "dead" == kind(judge_look(looking, reply(200, {"status": "failed"})))


@given(st.sampled_from([reply(429), reply(429, retry_after="9"), REFUSED_CONNECTION]), st.integers(1, 10**6))
def test_limits_and_silence_never_spend_a_try(answer: Answer, attempts: int) -> None:
    """However often a provider was too busy or away, the call has all its tries left."""
    now = after(call(attempts=attempts, tries=3), judge(trial(attempts=attempts, tries=3), answer), NOW)
    assert (State.QUEUED, 3) == (now.state, now.tries)


# -- what the provider's file says --

BOTH = {"status": [200, 400, 401, 429, 500, 503]}


@pytest.mark.parametrize("status", BOTH["status"])
@pytest.mark.parametrize(
    ("expected", "is_"),
    [("done", "done"), ("again", "retry"), ("unknown", "unknown"), ("free", "refused"), ("dead", "dead")],
)
def test_the_file_wins_over_the_table(expected: str, is_: str, status: int) -> None:
    """What a provider's file says about an answer is what it means, with the reason that it gives."""
    verdict = judge(
        trial({"outcomes": (reading(is_, BOTH, why="because"),), "on_unknown": "check"}), reply(status)
    )
    assert expected == kind(verdict)
    assert f"{status}: because" == verdict.outcome.why
    if is_ == "refused":
        assert Refused(f"{status}: because") == verdict.signal


def test_the_action_wins_over_the_provider_and_the_first_over_the_next() -> None:
    """An action's own outcomes are read first, in their order, then its provider's, then the table."""
    first, second = reading("done", {"body.code": 1}), reading("dead", {"body.code": [1, 2]})
    one = action(outcomes=(first, second))
    where = provider(one, outcomes=(reading("retry", {"body.code": [1, 2, 3]}),))
    for expected, code in (("done", 1), ("dead", 2), ("again", 3), ("done", 4)):
        whole = Trial(provider=where, action=one, call=call(), now=NOW, luck=0.5)
        assert expected == kind(judge(whole, reply(200, {"code": code})))


def test_a_text_is_read_without_the_space_around_it() -> None:
    """An answer that is no JSON is text: X-Pkg's bare words."""
    one = {"outcomes": (reading("done", {"status": 400, "body": "cant_retry"}),)}
    assert "done" == kind(judge(trial(one), reply(400, b" cant_retry\r\n")))
    assert "dead" == kind(judge(trial(one), reply(400, b"cant_retry\xff")))


def test_after_is_a_floor_for_the_call_and_for_the_provider() -> None:
    """What the file wants us to wait is waited, by this call and by all others."""
    one = {"outcomes": (reading("retry", {"body.code": 40306}, after_ms=3_000),)}
    verdict = judge(trial(one, luck=1.0), reply(200, {"code": 40306}))
    assert Retry(NOW + 3_000, "200") == verdict.outcome
    assert Throttled(NOW + 3_000) == verdict.signal


def test_after_does_not_shorten_a_retry_after() -> None:
    """Where both speak, the later instant holds for the provider, too."""
    one = {"outcomes": (reading("retry", {"status": 429}, after_ms=3_000),)}
    verdict = judge(trial(one), reply(429, retry_after="60"))
    assert Throttled(NOW + 60_000) == verdict.signal
    assert Retry(NOW + 60_000, "429") == verdict.outcome


WRITER = (
    reading("done", {"status": 200, "body.success": [True, {"exists": False}]}),
    reading("dead", {"status": 200}),
)
BROKEN: list[tuple[str, tuple[Any, ...], bytes]] = [
    ("unknown", WRITER, b'{"succe'),
    ("unknown", WRITER, b""),
    ("unknown", (reading("dead", {"body.ok": False}),), b'{"ok": fal'),
    ("unknown", (reading("done", {"body.code": 200}), reading("dead", {"status": 200})), b'{"code": 200'),
    ("done", (), b'{"data": {'),
]


@pytest.mark.parametrize(("expected", "outcomes", "body"), BROKEN)
def test_a_success_that_broke_off(expected: str, outcomes: tuple[Any, ...], body: bytes) -> None:
    """Where the file reads answers, the missing part may be what it reads; else the status decides."""
    verdict = judge(trial({"outcomes": outcomes, "on_unknown": "check"}), reply(200, body, whole=False))
    assert expected == kind(verdict)
    assert Answered() == verdict.signal


def test_a_failure_that_broke_off_is_what_its_status_says() -> None:
    """A complete status line of a failure needs no body."""
    assert "dead" == kind(judge(trial({"outcomes": WRITER}), reply(404, b"{", whole=False)))
    assert "free" == kind(judge(trial({"outcomes": WRITER}), reply(429, b"{", whole=False)))


@given(
    st.binary(max_size=40),
    st.integers(100, 999),
    st.dictionaries(st.text(), st.text(), max_size=2),
    st.booleans(),
)
def test_no_answer_is_too_strange(body: bytes, status: int, headers: dict[str, str], whole: bool) -> None:
    """Every answer means something: judging never raises."""
    answer = reply(status, body, whole=whole, **headers)
    for outcomes in ((), WRITER):
        for judged in (judge, judge_look):
            assert kind(judged(trial({"outcomes": outcomes}), answer))


@pytest.mark.parametrize("body", [b"[" * 1_000 + b"]" * 1_000, b'{"a":' * 1_000 + b"1" + b"}" * 1_000])
def test_a_deep_answer_is_only_text(body: bytes) -> None:
    """An answer nested a thousand levels deep breaks nothing: it is no JSON that we read."""
    outcomes = (reading("done", {"body.code": 1}), reading("unknown", {"status": 200}))
    assert "person" == kind(judge(trial({"outcomes": outcomes}), reply(200, body)))
    assert judge_look(trial(), reply(200, body)).blurred


@pytest.mark.parametrize(
    ("alias", "body"),
    [
        ("us_jb_9", {"data": {"id": "us_jb_9"}}),
        ("us_jb_1", {"data": {"id": "us_jb_1"}}),
        (None, {"data": {}}),
        (None, []),
    ],
)
def test_the_id_that_comes_back_is_kept(alias: str | None, body: Any) -> None:
    """Where the answer says under which id it goes on, the call knows it; a new one is said."""
    tried = trial({"keep": {"job_id": "data.id"}})

    verdict = judge(tried, reply(200, body))
    call = after(tried.call, verdict, NOW)

    assert (State.DONE, alias) == (call.state, call.alias)
    assert ("goes on as us_jb_9" in call.why) is (alias == "us_jb_9")


@given(luck=st.floats(0, 1), attempts=st.integers(1, 40))
def test_a_look_does_not_come_at_once(luck: float, attempts: int) -> None:
    """The state from before the call could still stand: a look waits two seconds at least."""
    outcome = judge(trial({"on_unknown": "check"}, luck=luck, attempts=attempts), RESET).outcome

    assert isinstance(outcome, Unknown)
    assert outcome.at >= NOW + 2_000
