"""What one request is made for, and what its answer means for each of its calls."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from build import NOW, RESET, action, call, check, kind, listing, provider, reply, trial

from relay.call import Attempt, Call, Claim, Dead, Done, Kind, Retry, State, Step, Unknown, Verdict
from relay.errand import asked, gone, meant, opens, timed, together, trial_of, word
from relay.judge import after
from relay.provider import Request, Shape, Value
from relay.trial import PageTrial, Trial

LATER = NOW + 5_000
"""A Tuesday at 22:13 UTC is out of these hours, and they open ten hours later."""
OFFICE = "Mon-Fri 08:00-18:00 UTC"
OPENS = 1_700_035_200_000
ALWAYS = "daily 00:00-24:00 UTC"

FILES = action(
    shape=Shape(method="POST", path="/v1/files/retry", json={"file_ids": ["{file_id}"]}),
    values={"file_id": Value()},
    check=check(),
)


def claimed(id_: str, **more: Any) -> Claim:
    """Return a claim of a call for a file."""
    one = call(id=id_, values={"file_id": id_}, **{"batch": "file_ids:2"} | more)
    return Claim(call=one, attempt=Attempt(call=id_, number=1, step=one.step, began_at=NOW), lease="ls_1")


def ids(*claims: Claim, now: int = NOW) -> list[list[str]]:
    """Name the calls of each request."""
    return [[claim.call.id for claim in some] for some in together(claims, now)]


def files(*names: str, **more: Any) -> Request | Verdict:
    """Ask for several files at once."""
    calls = [claimed(name, **more).call for name in names]
    one = Trial(provider=provider(FILES), action=FILES, call=calls[0], now=NOW, luck=0)
    return asked(one, calls)


# -- which calls share a request --


def test_calls_of_one_batch_share_requests_up_to_its_size() -> None:
    """In their order, and what is left over goes in a smaller one."""
    assert [["a", "b"], ["c", "d"], ["e"]] == ids(*(claimed(name) for name in "abcde"))


@pytest.mark.parametrize(
    "other",
    [
        {"batch": ""},
        {"batch": "file_ids:3"},
        {"action": "delete"},
        {"provider": "docflow"},
        {"step": Step.LOOK},
        {"kind": Kind.CHECK, "step": Step.LOOK},
        {"only": OFFICE},
    ],
)
def test_what_is_of_another_kind_goes_alone(other: dict[str, Any]) -> None:
    """Another action, another batch, a look, or what may not go out at this hour."""
    assert [["a", "c"], ["b"]] == ids(claimed("a"), claimed("b", **other), claimed("c"))


def test_hours_that_are_open_keep_nobody_out_of_a_batch() -> None:
    """Only what must wait goes its own way."""
    assert [["a", "b"]] == ids(claimed("a"), claimed("b", only=ALWAYS))


# -- what goes out --


def test_a_batch_is_one_body() -> None:
    """The lists of all its calls are one list."""
    made = files("a", "b")
    assert isinstance(made, Request)
    assert isinstance(made.body, bytes)
    assert {"file_ids": ["a", "b"]} == orjson.loads(made.body)


def test_a_batch_that_does_not_fit_is_taken_apart() -> None:
    """Nothing was sent, no try is spent, and each call goes alone at once."""
    made = files("a", "b", batch="no_such_field:2")
    assert isinstance(made, Verdict)
    assert isinstance(made.outcome, Retry)
    assert (NOW, Step.SEND, False, True) == (
        made.outcome.at,
        made.outcome.step,
        made.outcome.spent,
        made.outcome.alone,
    )
    assert "no_such_field" in made.outcome.why


def test_a_call_that_goes_alone_has_left_its_batch() -> None:
    """It is stored with the call, so that the next claim does not put them together again."""
    left = after(call(batch="file_ids:2"), Verdict(Retry(NOW, "", spent=False, alone=True), None), NOW)
    assert "" == left.batch


def test_a_call_says_its_own_id() -> None:
    """Where an action wants an Idempotency-Key, it is the call's own, and the same each time."""
    one = action(shape=Shape(method="POST", path="/x", headers={"Idempotency-Key": "{call.id}"}), values={})
    made = asked(trial({"shape": one.shape, "values": {}}), [call(id="call_7")])
    assert isinstance(made, Request)
    assert ("Idempotency-Key", "call_7") in made.headers


def test_outside_its_hours_a_call_is_not_sent() -> None:
    """It waits until they open, and no try is spent."""
    made = asked(trial(), [call(only=OFFICE)])
    assert Verdict(Retry(OPENS, f"outside {OFFICE}", spent=False), None) == made


@pytest.mark.parametrize("more", [{"step": Step.LOOK}, {"kind": Kind.CHECK, "step": Step.LOOK}])
def test_a_look_goes_out_at_any_hour(more: dict[str, Any]) -> None:
    """It changes nothing."""
    assert isinstance(asked(trial(), [call(only=OFFICE, **more)]), Request)


@pytest.mark.parametrize(
    ("expected", "more"),
    [
        ("dead", {}),
        ("dead", {"step": Step.LOOK}),
        ("free look", {"kind": Kind.CHECK, "step": Step.LOOK}),
    ],
)
def test_what_can_not_be_asked(expected: str, more: dict[str, Any]) -> None:
    """A retry that can't be rendered is dead; a check waits: what was taken may yet recover."""
    made = asked(trial(**more), [call(values={}, **more)])
    assert isinstance(made, Verdict)
    assert expected == kind(made)


# -- what the answer means --


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    ("alone", "together_", "answer"),
    [
        ("done", "done", reply(200)),
        ("dead", "free look", reply(422)),
        ("free", "free", reply(429)),
        ("unknown", "unknown", RESET),
    ],
)
def test_a_no_to_many_is_a_no_to_none(alone: str, together_: str, answer: Any, *, several: bool) -> None:
    """What a batch was refused is asked again for each; all else is meant for all of them."""
    one = trial({"on_unknown": "check", "check": check()}, batch="file_ids:2")
    verdict = meant(one, answer, several=several)
    assert (together_ if several else alone) == kind(verdict)
    apart = isinstance(verdict.outcome, Retry) and verdict.outcome.alone
    assert apart == (several and together_ == "free look")


def test_one_new_id_for_many_is_none_of_theirs() -> None:
    """Only a call that went alone learns under which id it goes on."""
    one, answer = trial({"keep": {"job_id": "id"}}), reply(200, {"id": "j2"})
    assert [None, "j2"] == [
        getattr(meant(one, answer, several=several).outcome, "alias", "") for several in (True, False)
    ]


@pytest.mark.parametrize(
    ("expected", "kind_", "step"),
    [
        ("dead", Kind.RETRY, Step.SEND),
        ("dead", Kind.RETRY, Step.LOOK),
        ("free look", Kind.CHECK, Step.LOOK),
        ("dead", Kind.PAGE, Step.LOOK),
    ],
)
def test_a_file_that_has_lost_what_a_call_asks_for(expected: str, kind_: Kind, step: Step) -> None:
    """Calls and runs end with words; only a check waits for another sign that it recovered."""
    one = call(kind=kind_, step=step, action="lost")
    assert trial_of(provider(), one, NOW, 0) is None
    verdict = gone(provider(), one, NOW, 0)
    assert expected == kind(verdict)
    assert "flatfile has no" in getattr(verdict.outcome, "why", "")


def test_each_kind_has_its_trial() -> None:
    """A page is one of a provider's list, all else of its action."""
    where = provider(listings={"failed_jobs": listing()})
    page = call(kind=Kind.PAGE, step=Step.LOOK, action="failed_jobs")
    assert isinstance(trial_of(where, page, NOW, 0), PageTrial)
    assert isinstance(trial_of(where, call(), NOW, 0), Trial)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("done", Done("")),
        ("retry", Retry(NOW, "")),
        ("unknown", Retry(NOW, "", doubt=True)),
        ("unknown", Unknown(NOW, "")),
        ("dead", Dead("")),
    ],
)
def test_a_double_that_policy_allows_is_seen(said: str, outcome: Any) -> None:
    """A try that may have done it is recorded as unknown, also where the call is sent again."""
    assert said == word(outcome)


# -- when it goes out --

WAITING = call(state=State.QUEUED, lease=None, due_at=LATER)


@pytest.mark.parametrize(
    ("due_at", "more"),
    [
        (LATER, {}),
        (LATER, {"only": ALWAYS}),
        (OPENS, {"only": OFFICE}),
        (LATER, {"only": OFFICE, "step": Step.LOOK}),
        (LATER, {"only": OFFICE, "state": State.UNKNOWN}),
        (LATER, {"only": OFFICE, "kind": Kind.CHECK}),
        (NOW + 6_000, {"batch": "file_ids:2"}),
        (OPENS, {"batch": "file_ids:2", "only": OFFICE}),
        (NOW + 8_000, {"batch": "file_ids:2", "due_at": NOW + 6_000}),
    ],
)
def test_a_send_waits_for_its_hours_and_its_company(due_at: int, more: dict[str, Any]) -> None:
    """A backoff that ends outside the hours ends when they open; a batch goes at the same moments again."""
    assert due_at == timed(replace(WAITING, **more), 2_000).due_at


def test_hours_that_are_open_move_nothing() -> None:
    """A call within its hours goes when it is due."""
    one: Call = call(only=OFFICE)
    assert OPENS == opens(one, OPENS) == opens(one, NOW)
    assert OPENS + 1 == opens(one, OPENS + 1)
