"""Which of GitHub's own 329 example payloads announce a failure?  Two, and no other sets anything off."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from build import NOW, incoming
from npm import GITHUBS, examples

from relay.deed import Plan
from relay.event import Event, Trust
from relay.load import load
from relay.plan import plan
from relay.rule import Ruleset
from relay.unpack import unpack

RULES = """
[source.github]
preset  = "github"
secrets = "env:HOOK"

[provider.ops]
token = "env:TOKEN"

[[rule]]
name = "whatever failed"
from = "github"
when."$failed" = true
case = "{$resource}"
call = "ops.again"
with.resource = "{$resource}"
"""

OPS = """
title    = "Ops"
base_url = "https://ops.example"
auth     = { header = "Authorization", value = "Bearer {secret.token}" }

[action.again]
title           = "Run it again"
request         = "POST /again/{resource}"
values.resource = { title = "What failed" }
on_unknown      = "resend"
"""

FAILURES = ("failure", "timed_out", "startup_failure")
NO_NEWS = ("cancelled", "skipped", "neutral", "action_required", "stale", None)


@cache
def rules() -> Ruleset:
    """Read rules with one rule: what failed is tried again."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "providers").mkdir()
        (folder / "providers" / "ops.toml").write_text(OPS)
        (folder / "rules.toml").write_text(RULES)
        environ = {"HOOK": "a-secret-of-the-tests", "TOKEN": "a-token-of-the-tests"}
        return load(folder / "rules.toml", environ)


def heard(kind: str, payload: Any) -> Event:
    """Return the event that a payload of this kind becomes."""
    headers = {"x-github-event": kind, "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    told = incoming(json.dumps(payload).encode(), headers)
    (event,) = unpack(rules().sources["github"], told, Trust.VERIFIED, NOW)
    assert ("", kind) == (event.flaw, event.type)
    return event


def of(kind: str, *, action: str = "completed", **facts: Any) -> Event:
    """Return the event of a small payload of our own, as GitHub shapes them."""
    about = {"id": 1, "name": "build", **facts}
    return heard(kind, {"action": action, kind: about, "repository": {"full_name": "o/r"}})


def planned(event: Event) -> Plan:
    """Return what the one rule wants."""
    return plan(event, rules(), NOW)


def every() -> Iterator[tuple[str, Event]]:
    """Yield each example's name, such as ``check_run[1]``, and the event that it becomes."""
    for kind, payloads in examples().items():
        for number, payload in enumerate(payloads):
            yield f"{kind}[{number}]", heard(kind, payload)


@GITHUBS
def test_exactly_two_of_329_announce_a_failure() -> None:
    """A check run and a job failed; the trap, completed without a conclusion, tells nothing."""
    told = {name: event.tells for name, event in every()}

    assert 329 == len(told)
    assert ["check_run[1]", "workflow_job[1]"] == [name for name, tells in told.items() if tells == "failed"]
    trap = examples()["workflow_run"][0]
    assert ("completed", None) == (trap["action"], trap["workflow_run"]["conclusion"])
    assert "" == told["workflow_run[0]"]


@GITHUBS
def test_exactly_two_of_329_make_a_call() -> None:
    """From the payload to what is owed to a provider: two calls, each for what failed, and nothing else."""
    plans = {name: planned(event) for name, event in every()}
    calls = {name: one.deed.failures for name, one in plans.items() if one.deed.failures}

    assert ["check_run[1]", "workflow_job[1]"] == list(calls)
    assert [1, 1] == [len(failures) for failures in calls.values()]
    assert not [one.flaw for failures in calls.values() for one in failures if one.flaw]


@GITHUBS
@pytest.mark.parametrize("conclusion", [*FAILURES, "success", *NO_NEWS], ids=str)
def test_what_an_example_would_tell_with_another_end(conclusion: str | None) -> None:
    """GitHub has no example of a run that failed: its successful one, with each other conclusion."""
    payload = json.loads(json.dumps(examples()["workflow_run"][1]))
    assert ("completed", "success") == (payload["action"], payload["workflow_run"]["conclusion"])
    payload["workflow_run"]["conclusion"] = conclusion

    event = heard("workflow_run", payload)

    expected = {"success": "recovered"} | dict.fromkeys(FAILURES, "failed")
    assert expected.get(str(conclusion), "") == event.tells
    assert (conclusion in FAILURES) == bool(planned(event).deed.failures)


# -- the same of payloads of our own, which need nothing from npm --

KINDS = pytest.mark.parametrize("kind", ["workflow_run", "workflow_job", "check_run", "check_suite"])


@KINDS
@pytest.mark.parametrize("conclusion", FAILURES)
def test_what_ended_badly_has_failed(kind: str, conclusion: str) -> None:
    """Failed, out of time, or not even started."""
    event = of(kind, conclusion=conclusion, head_sha="acb5820", run_id=7)

    assert "failed" == event.tells


@KINDS
def test_what_ended_well_has_recovered(kind: str) -> None:
    """Success is the only good end."""
    assert "recovered" == of(kind, conclusion="success").tells


@KINDS
@pytest.mark.parametrize("conclusion", NO_NEWS, ids=str)
def test_what_ended_otherwise_tells_nothing(kind: str, conclusion: str | None) -> None:
    """Nobody would want it again: it was cancelled, skipped, or has no conclusion yet."""
    event = of(kind, conclusion=conclusion)

    assert ("", 0) == (event.tells, len(planned(event).deed.failures))


@KINDS
@pytest.mark.parametrize("action", ["requested", "in_progress", "created", "rerequested", "queued"])
def test_what_has_not_ended_tells_nothing(kind: str, action: str) -> None:
    """A conclusion counts with "completed" only: a run that was asked for has that of the run before."""
    assert "" == of(kind, action=action, conclusion="failure").tells


def test_the_header_says_which_event_it_is() -> None:
    """A body that looks like a failed run of another event is none."""
    payload = {"action": "completed", "workflow_run": {"id": 1, "conclusion": "failure"}}

    assert ["failed", "", ""] == [heard(kind, payload).tells for kind in ("workflow_run", "push", "ping")]


def test_what_failed_is_named_by_what_stays_the_same() -> None:
    """A run keeps its id when it runs again: so its failures are one case."""
    first, again = (
        heard("workflow_run", {"action": "completed", "workflow_run": run})
        for run in (
            {"id": 289782451, "run_attempt": 1, "conclusion": "failure"},
            {"id": 289782451, "run_attempt": 2, "conclusion": "timed_out"},
        )
    )

    keys = {one.key for event in (first, again) for one in planned(event).deed.failures}

    assert 1 == len(keys)
    assert "289782451" == first.resource == again.resource
