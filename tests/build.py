"""Small builders: a value with everything that a test does not care about already in it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.call import NEVER, Call, Dead, Done, Kind, Retry, State, Step, Unknown, Verdict
from relay.errors import Unfit
from relay.event import Event, Millis, Trust
from relay.match import ENVELOPE, Pattern
from relay.provider import (
    Action,
    Auth,
    Check,
    Fault,
    Limit,
    Listing,
    Provider,
    Reading,
    Reply,
    Shape,
    Sign,
    Upload,
    Value,
)
from relay.render import checked, request
from relay.rule import Aim, Rule, Ruleset
from relay.secret import Secret
from relay.source import Incoming, Source, Way
from relay.trial import PageTrial, Trial

NOW: Millis = 1_700_000_000_000
"""Tue, 14 Nov 2023 22:13:20 GMT."""

JOB = Shape(method="POST", path="/v1/jobs/{job_id}/retry")
LOOK = Shape(method="GET", path="/v1/jobs/{job_id}")
KEY = Secret("sk_a_secret_of_the_tests", "env:KEY")


def event(data: Any = None, **more: Any) -> Event:
    """Return an event whose body is *data* as JSON."""
    given: dict[str, Any] = {
        "id": "ev_1",
        "source": "flatfile",
        "type": None,
        "delivery": None,
        "digest": "0" * 64,
        "received_at": NOW,
        "verified": Trust.VERIFIED,
        "body": orjson.dumps(data),
        "data": data,
    }
    return Event(**given | more)


def call(**more: Any) -> Call:
    """Return a call that a worker holds, at its first try."""
    given: dict[str, Any] = {
        "id": "call_1",
        "event": "ev_1",
        "case": "case_1",
        "key": "flatfile:us_jb_1",
        "rule": "retry jobs",
        "provider": "flatfile",
        "action": "retry",
        "values": {"job_id": "us_jb_1"},
        "state": State.RUNNING,
        "due_at": NOW,
        "attempts": 1,
        "lease": "ls_1",
        "created_at": NOW,
    }
    return Call(**given | more)


def pattern(table: dict[str, Any]) -> Pattern:
    """Return a pattern over events, as rules.toml has it."""
    return Pattern(table, toml=True, envelope=ENVELOPE)


def reading(is_: str, when: dict[str, Any], **more: Any) -> Reading:
    """Return one way to read an answer, its pattern compiled."""
    return Reading(is_=is_, when=pattern(when), **more)


def check(mark: str = "", **states: dict[str, Any]) -> Check:
    """Return a look at a job; each state in the order given, its mark at *mark* of the body."""
    given = states or {
        state: {"body.status": state} for state in ("failed", "running", "recovered", "refused")
    }
    return Check(shape=LOOK, mark=mark, states=tuple(reading(state, when) for state, when in given.items()))


def action(**more: Any) -> Action:
    """Return an action with one text in its path."""
    given: dict[str, Any] = {"name": "retry", "title": "Retry", "shape": JOB, "values": {"job_id": Value()}}
    return Action(**given | more)


def listing(**more: Any) -> Listing:
    """Return a list of failed jobs."""
    given: dict[str, Any] = {
        "name": "failed_jobs",
        "title": "Failed jobs",
        "shape": Shape(method="GET", path="/v1/jobs", query={"status": "failed"}),
        "values": {},
        "items": "data",
        "id": "{id}",
    }
    return Listing(**given | more)


def provider(*actions: Action, **more: Any) -> Provider:
    """Return a provider with a bearer token and no limit."""
    given: dict[str, Any] = {
        "name": "flatfile",
        "title": "Flatfile",
        "base_url": "https://api.example.com",
        "auth": Auth(headers={"Authorization": "Bearer {secret.token}"}),
        "secrets": {"token": KEY},
        "limit": Limit(),
        "actions": {one.name: one for one in actions or (action(),)},
    }
    return Provider(**given | more)


def docflow(one: Action) -> Provider:
    """Return DocFlow with its signature, the credentials those of the documented vector."""
    return provider(
        one,
        name="docflow",
        base_url="https://docflow.textin.com",
        auth=Auth(
            headers={
                "x-ti-app-id": "{secret.app_id}",
                "x-ti-timestamp": "{timestamp}",
                "x-ti-signature": "{signature}",
            },
            sign=Sign(
                key="{secret.secret_code}",
                derive=("{timestamp}",),
                text="{method}\n{path}\n{params}\n{body_sha256}",
            ),
        ),
        secrets={
            "app_id": Secret("test_app", "env:APP"),
            "secret_code": Secret("test_secret_code", "env:CODE"),
        },
    )


def rendered(
    where: Provider, values: dict[str, Any], shape: Shape | None = None, now: Millis = NOW
) -> tuple[str, dict[str, str], bytes | Upload]:
    """Check *values*, fill the first action's shape; return URL, headers and body."""
    one = next(iter(where.actions.values()))
    made = request(where, shape or one.shape, one, checked(one, values), now)
    return made.url, dict(made.headers), made.body


def reply(status: int = 200, data: Any = None, *, whole: bool = True, **headers: str) -> Reply:
    """Return an answer; *data* is JSON unless it is bytes, and ``_`` in a header's name a hyphen."""
    body = data if isinstance(data, bytes) else b"" if data is None else orjson.dumps(data)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=body, whole=whole)


def source(**more: Any) -> Source:
    """Return a source that signs its bodies as GitHub does; *more* may say its one way otherwise."""
    given: dict[str, Any] = {
        "verify": "hmac",
        "secrets": (Secret("It's a Secret to Everybody", "env:HOOK"),),
        "header": "x-hub-signature-256",
        "prefix": "sha256=",
    }
    given |= {key: more.pop(key) for key in WAY & more.keys()}
    return Source(**{"name": "github", "ways": (Way(**given),)} | more)


WAY = frozenset(each.name for each in fields(Way))


def incoming(body: bytes, headers: Mapping[str, str] | None = None, **more: Any) -> Incoming:
    """Return a delivery whose headers have one value each."""
    return Incoming(
        headers={key.lower(): (value,) for key, value in (headers or {}).items()}, body=body, **more
    )


def rule(**more: Any) -> Rule:
    """Return a rule that retries failed Flatfile jobs."""
    given: dict[str, Any] = {
        "name": "retry jobs",
        "sources": ("flatfile",),
        "when": pattern({"topic": "job:failed"}),
    }
    if "aims" not in more:
        aimed: dict[str, Any] = {
            "provider": "flatfile", "action": "retry", "with_": {"job_id": "{context.jobId}"},
        }  # fmt: skip
        given["aims"] = (Aim(**aimed | {key: more.pop(key) for key in AIMED & more.keys()}),)
    return Rule(**given | more)


AIMED = {"provider", "action", "with_", "case", "policy"}
"""What a test says of a rule's one call."""


def ruleset(*rules: Rule, providers: tuple[Provider, ...] = ()) -> Ruleset:
    """Return rules as they are read from files."""
    return Ruleset(
        version="0" * 12,
        path=Path("rules.toml"),
        rules=rules or (rule(),),
        providers={one.name: one for one in providers or (provider(),)},
    )


def unfit(one: Action, values: dict[str, Any]) -> str:
    """Return why *values* can't be sent with that action; no secret is in the reason."""
    with pytest.raises(Unfit) as caught:
        rendered(provider(one), values)
    assert KEY.reveal() not in str(caught.value)
    return str(caught.value)


# -- trials: one try of a call, as judged --

TRIES = 8
"""How often the provider of these trials may be called for one call."""

REFUSED_CONNECTION = Fault(why="connection refused", sent=False)
RESET = Fault(why="connection reset", sent=True)
NO_FILE = Fault(why="no file 'a.zip'", sent=False, ours=True)

POLICIES: list[tuple[str, dict[str, Any]]] = [
    ("double", {"idempotent": True, "on_unknown": "person"}),
    ("double", {"idempotent": True, "on_unknown": "check"}),
    ("double", {"on_unknown": "resend"}),
    ("double", {"on_unknown": "resend_same_key"}),
    ("unknown", {"on_unknown": "check"}),
    ("person", {"on_unknown": "person"}),
]


def trial(
    of: dict[str, Any] | None = None, *, where: Provider | None = None, luck: float = 0.0, **more: Any
) -> Trial:
    """Return a trial of an action made with *of*, of a call made with *more*."""
    one = action(**{"check": check()} | (of or {}))
    return Trial(provider=where or provider(one), action=one, call=call(**more), now=NOW, luck=luck)


def page_trial(*, where: Provider | None = None, luck: float = 0.0, **more: Any) -> PageTrial:
    """Return a trial of a page of a list, of a call made with *more*."""
    of: dict[str, Any] = {"kind": Kind.PAGE, "step": Step.LOOK, "event": None, "case": None, "key": "watch"}
    return PageTrial(
        provider=where or provider(), listing=listing(), call=call(**of | more), now=NOW, luck=luck
    )


def kind(verdict: Verdict) -> str:
    """Name an outcome in a word, as the tables do: free means that no try was spent."""
    match verdict.outcome:
        case Done():
            return "done"
        case Dead():
            return "dead"
        case Retry(doubt=True):
            return "double"
        case Retry(_, _, step, spent):
            return f"{'again' if spent else 'free'}{' look' if step is Step.LOOK else ''}"
        case Unknown(at, _):
            return "person" if at == NEVER else "unknown"
