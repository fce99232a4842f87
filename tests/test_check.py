"""Looks that are not a step of a retry: did it help, and what does a page of a list hold?"""

from dataclasses import replace
from typing import Any

import pytest
from build import (
    NO_FILE,
    NOW,
    REFUSED_CONNECTION,
    RESET,
    action,
    call,
    check,
    kind,
    page_trial,
    provider,
    reading,
    reply,
    trial,
)
from hypothesis import given
from hypothesis import strategies as st

from relay.call import (
    MOVES,
    Answered,
    Dead,
    Done,
    Kind,
    Refused,
    Retry,
    Seen,
    State,
    Step,
    Throttled,
    Unknown,
    Verdict,
)
from relay.gate import LONGEST_WAIT_MS
from relay.judge import after, apart, given_back, judged
from relay.look import LOOKS, blind, judge_check, judge_page, unread
from relay.provider import Answer
from relay.trial import CAP_MS, Trial

MARKED = check(mark="at")


def checking(of: dict[str, Any] | None = None, **more: Any) -> Trial:
    """Return a trial of a check after an accepted retry."""
    return trial(of, **{"kind": Kind.CHECK, "step": Step.LOOK} | more)


def due(verdict: Verdict) -> int:
    """Return how long the next look waits; a look is all that may come."""
    assert isinstance(verdict.outcome, Retry)
    assert (Step.LOOK, False, False) == (verdict.outcome.step, verdict.outcome.spent, verdict.outcome.doubt)
    return verdict.outcome.at - NOW


# -- did it help? --

CHECKED: list[tuple[str, str, Answer]] = [
    ("done recovered", "Answered", reply(200, {"status": "recovered"})),
    ("done failed", "Answered", reply(200, {"status": "failed"})),
    ("dead", "Answered", reply(200, {"status": "refused"})),
    ("look", "Answered", reply(200, {"status": "running"})),
    ("look", "Answered", reply(200, {"status": "odd"})),
    ("look", "Answered", reply(200, b"<html>")),
    ("look", "Answered", reply(200, {"status": "recovered"}, whole=False)),
    ("look", "Answered", reply(302)),
    ("look", "Answered", reply(404)),
    ("look", "Answered", reply(408)),
    ("look", "Refused", reply(401)),
    ("look", "Refused", reply(403)),
    ("look", "Throttled", reply(429, retry_after="5")),
    ("look", "Failed", reply(500)),
    ("look", "Throttled", reply(503, retry_after="5")),
    ("look", "Failed", REFUSED_CONNECTION),
    ("look", "Failed", RESET),
    ("look", "NoneType", NO_FILE),
]


@pytest.mark.parametrize("tries", [0, 1])
@pytest.mark.parametrize(("expected", "signal", "answer"), CHECKED)
def test_what_a_check_means(expected: str, signal: str, answer: Answer, tries: int) -> None:
    """It ends with what it saw; all else is asked again, and spends nothing."""
    verdict = judge_check(checking(tries=tries), answer)
    now = after(call(kind=Kind.CHECK, step=Step.LOOK, tries=tries), verdict, NOW)

    said = "look" if now.step is Step.LOOK and now.state is State.QUEUED else now.state.value
    assert expected == (f"{said} {now.seen.value}" if now.seen else said)
    assert signal == type(verdict.signal).__name__
    assert (tries, 0) == (now.tries, now.doubts)
    assert now.state in MOVES[State.RUNNING]


ODD: list[Answer] = [reply(200, {"status": status}) for status in ("running", "odd")]


@pytest.mark.parametrize("answer", ODD)
def test_checks_wait_as_their_provider_says(answer: Answer) -> None:
    """The second look waits the second time, and so on; the last one stays."""
    of = {"check": replace(check(), wait_ms=(5_000, 15_000, 60_000))}
    waits = [due(judge_check(checking(of, attempts=number, luck=1.0), answer)) for number in range(1, 6)]
    assert [15_000, 60_000, 60_000, 60_000, 60_000] == waits


def test_a_check_never_asks_a_person() -> None:
    """However long nothing can be told, it asks again: the case has a deadline, and the check none."""
    answers: list[Answer] = [*ODD, reply(404), reply(500), RESET]
    for answer in answers:
        due(judge_check(checking(looks=LOOKS * 9, attempts=500), answer))


@pytest.mark.parametrize(("expected", "mark"), [("look", "1"), ("failed", "0"), ("failed", "")])
def test_a_failure_from_before_the_retry_is_no_new_one(expected: str, mark: str) -> None:
    """Where the mark of the run that was retried is known, that run is not one that failed again."""
    verdict = judge_check(checking({"check": MARKED}, mark=mark), reply(200, {"status": "failed", "at": 1}))

    if expected == "look":
        assert due(verdict) == 15_000
    else:
        assert Done("it failed again", seen=Seen.FAILED) == verdict.outcome
        assert verdict.mark == "1"


def test_a_check_whose_action_has_none_any_more() -> None:
    """A file that changed ends no case: the deadline does."""
    verdict = blind(checking({"check": None}, luck=1.0))
    assert (2_000, None) == (due(verdict), verdict.signal)


def test_a_check_gives_the_reason_of_the_file() -> None:
    """What the provider's file says about a state is why the call stands there."""
    one = replace(
        check(),
        states=(
            reading("refused", {"status": 404}, why="no such job"),
            reading("failed", {"status": 200}, why="its input is bad"),
        ),
    )
    assert Dead("no such job") == judge_check(checking({"check": one}), reply(404)).outcome
    failed = judge_check(checking({"check": one}), reply(200)).outcome
    assert Done("its input is bad", seen=Seen.FAILED) == failed


# -- pages --

SAYS = (
    reading("done", {"status": 200, "body.code": 200}),
    reading("refused", {"status": 200, "body.code": 40102}, why="no such key"),
    reading("retry", {"status": 200, "body.code": 40306}, why="too many calls", after_ms=3_000),
    reading("dead", {"status": 200, "body.code": 40004}, why="bad parameters"),
    reading("unknown", {"status": 200}, why="no code"),
)
PAGES: list[tuple[str, str, Answer, str]] = [
    ("done", "Answered", reply(200, {"data": []}), "200: read"),
    ("done", "Answered", reply(204), "204: read"),
    ("look", "Answered", reply(200, {"data": []}, whole=False), "200: the page broke off"),
    ("look", "Answered", reply(301), "301: flatfile's answer is no page of failed_jobs"),
    ("look", "Answered", reply(400), "400: flatfile's answer is no page of failed_jobs"),
    ("look", "Answered", reply(404), "404: flatfile's answer is no page of failed_jobs"),
    ("look", "Refused", reply(401), "401: the provider refuses our credentials"),
    ("look", "Refused", reply(403), "403: the provider refuses our credentials"),
    ("look", "Throttled", reply(429), "the list was answered 429"),
    ("look", "Failed", reply(500), "the list was answered 500"),
    ("look", "Failed", RESET, "the list failed: connection reset"),
    ("look", "Failed", REFUSED_CONNECTION, "the list failed: connection refused"),
]
SAID: list[tuple[str, str, Answer, str]] = [
    ("done", "Answered", reply(200, {"code": 200}), "200: read"),
    ("look", "Refused", reply(200, {"code": 40102}), "200: no such key"),
    ("look", "Throttled", reply(200, {"code": 40306}), "200: too many calls"),
    ("look", "Answered", reply(200, {"code": 40004}), "200: bad parameters"),
    ("look", "Answered", reply(200, b"<html>"), "200: no code"),
    ("look", "Answered", reply(200, {"code": 200}, whole=False), "200: the page broke off"),
    ("look", "Answered", reply(404, {"code": 200}), "404: flatfile's answer is no page"),
]


@pytest.mark.parametrize(
    ("outcomes", "expected", "signal", "answer", "why"),
    [((), *row) for row in PAGES] + [(SAYS, *row) for row in SAID],
)
def test_what_a_page_means(outcomes: Any, expected: str, signal: str, answer: Answer, why: str) -> None:
    """A page that was read is done; all else is asked again and says why, also when it is told with a 200."""
    verdict = judge_page(page_trial(where=provider(outcomes=outcomes)), answer)

    assert expected == ("done" if isinstance(verdict.outcome, Done) else "look")
    assert signal == type(verdict.signal).__name__
    assert verdict.outcome.why.startswith(why)
    if expected == "look":
        assert due(verdict) >= (3_000 if why == "200: too many calls" else 0)


def test_a_page_that_is_refused_pauses_the_provider() -> None:
    """The reason goes to the gate, so that one line in the log tells of it."""
    verdict = judge_page(page_trial(where=provider(outcomes=SAYS)), reply(200, {"code": 40102}))
    assert Refused("200: no such key") == verdict.signal


def test_a_page_waits_as_long_as_it_is_told() -> None:
    """A limit is kept by this call and by all others of the provider."""
    verdict = judge_page(page_trial(), reply(429, retry_after="60"))
    assert (60_000, Throttled(NOW + 60_000)) == (due(verdict), verdict.signal)


def test_failures_in_a_row_wait_ever_longer() -> None:
    """Not the number of pages but that of failures counts, and a page that was read begins anew."""
    waits, run = [], call(kind=Kind.PAGE, step=Step.LOOK, attempts=30)
    for answer in (reply(404), RESET, reply(200), reply(404), reply(500), reply(404)):
        verdict = judge_page(page_trial(luck=1.0, looks=run.looks, attempts=run.attempts), answer)
        run = after(replace(run, state=State.RUNNING, attempts=run.attempts + 1), verdict, NOW)
        if isinstance(verdict.outcome, Retry):
            waits.append(due(verdict))
    assert [2_000, 4_000, 2_000, 4_000, 8_000] == waits
    assert CAP_MS == due(judge_page(page_trial(luck=1.0, looks=5_000), reply(404)))


def test_an_answer_that_holds_no_list() -> None:
    """A whole answer may still be no page: who reads it says so, and it counts as a failure."""
    verdict = unread(page_trial(luck=1.0), reply(200, {}), "data is missing")
    assert ("data is missing", 2_000, Answered()) == (verdict.outcome.why, due(verdict), verdict.signal)
    assert verdict.blurred


@given(
    st.integers(100, 999),
    st.sampled_from(["", "3", "9999999999", "Fri, 31 Dec 9999 23:59:59 GMT"]),
    st.binary(max_size=30),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 40),
)
def test_a_watch_never_dies(
    status: int, said: str, body: bytes, whole: bool, luck: float, looks: int
) -> None:
    """Whatever the answer, a list is asked again, and no later than a day from now; so is a check."""
    answer = reply(status, body, whole=whole, retry_after=said)
    for outcomes in ((), SAYS):
        where = provider(outcomes=outcomes)
        for verdict in (
            judged(page_trial(where=where, luck=luck, looks=looks), answer),
            judged(checking(where=where, luck=luck, looks=looks), answer),
        ):
            if not isinstance(verdict.outcome, Done):
                assert 0 <= due(verdict) <= LONGEST_WAIT_MS


def test_a_page_that_was_out_is_asked_again() -> None:
    """A page is a read: when relay stops it is simply asked again."""
    verdict = given_back(page_trial())
    assert (0, None) == (due(verdict), verdict.signal)


# -- which question it was --


def test_an_answer_is_judged_by_what_was_asked() -> None:
    """The same answer means something else to a send, a look, a check and a page."""
    failed = reply(200, {"status": "failed"})
    assert "200: accepted" == judged(trial(), failed).outcome.why
    assert "it has still failed" == judged(trial(step=Step.LOOK), failed).outcome.why
    assert "it failed again" == judged(checking(), failed).outcome.why
    assert "200: read" == judged(page_trial(), failed).outcome.why


# -- batches --


@pytest.mark.parametrize(("step", "has_check"), [(Step.LOOK, True), (Step.SEND, False)])
def test_a_batch_that_is_refused_goes_alone(step: Step, has_check: bool) -> None:
    """One "no" for many tells about none of them: each goes alone, and is looked at first where it can be."""
    tried = trial({"check": check() if has_check else None}, batch="file_ids:100")
    verdict = apart(tried, judged(tried, reply(400)))
    now = after(tried.call, verdict, NOW)

    assert (State.QUEUED, step, "", 0, 0) == (now.state, now.step, now.batch, now.tries, now.doubts)
    assert NOW + (2_000 if has_check else 0) == now.due_at
    assert "400" in now.why
    assert Answered() == verdict.signal


@pytest.mark.parametrize("answer", [reply(200), reply(429), reply(500), RESET])
def test_a_batch_that_is_not_refused_stays_one(answer: Answer) -> None:
    """What is no refusal means the same to each call of a batch as to one that is alone."""
    tried = trial({"on_unknown": "check"}, batch="file_ids:100")
    verdict = judged(tried, answer)

    assert verdict == apart(tried, verdict)
    assert "file_ids:100" == after(tried.call, verdict, NOW).batch


# -- the new id --


@pytest.mark.parametrize(
    ("alias", "keep"), [("us_jb_9", {"job_id": "data.id"}), (None, {}), (None, {"job_id": "data.no"})]
)
def test_the_value_that_gets_a_new_id(alias: str | None, keep: dict[str, str]) -> None:
    """The action says which of its values the answer renews, and where it stands."""
    one = action(keep=keep)
    tried = Trial(provider=provider(one), action=one, call=call(), now=NOW, luck=0.0)
    verdict = judged(tried, reply(200, {"data": {"id": "us_jb_9"}}))
    assert isinstance(verdict.outcome, Done)
    assert alias == verdict.outcome.alias


def test_an_id_that_stays_is_not_called_new() -> None:
    """A number and its digits are the same id."""
    one = action(keep={"n": "id"})
    tried = Trial(provider=provider(one), action=one, call=call(values={"n": 7}), now=NOW, luck=0.0)
    assert Done("200: accepted", "7") == judged(tried, reply(200, {"id": 7})).outcome


def test_unknown_is_for_calls_that_were_sent() -> None:
    """A check is never unknown: it was no send."""
    assert not isinstance(judge_check(checking(tries=5), RESET).outcome, Unknown)
    assert "free look" == kind(judge_check(checking(tries=5), RESET))
