"""Does the admin's API explain events by the rules in force, and refuse what it can't understand?"""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build import NOW, event, pattern, rule, ruleset, source
from structlog.testing import capture_logs
from test_api import TOKEN, Api

from relay.engine import SQLite
from relay.keep import Keeper
from relay.plan import plan
from relay.reload import InForce
from relay.rule import Ruleset
from relay.store import Store

EXPLAIN = "/api/v1/explain"
FAILED: dict[str, Any] = {"topic": "job:failed", "context": {"jobId": "us_jb_1"}}


def rules(**more: Any) -> Ruleset:
    """Return one rule, and the source that feeds it."""
    asked = source(name="flatfile", verify="none", asked=("x-env",), type=("body:topic",))
    return replace(ruleset(rule(**more)), sources={"flatfile": asked})


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Api]:
    """Open the API over a database with one event, `ev_1`."""
    came = event(FAILED)
    with closing(SQLite(tmp_path / "relay.db")) as engine, engine.group():
        made = plan(came, rules(), NOW)
        Store(engine.link()).record(came, made, version="an old one", dedupe_ms=1)
    keep = Keeper(SQLite(tmp_path / "relay.db"))
    api = Api(keep)
    api.app.state.in_force = InForce(rules())
    yield api
    keep.close()


def explained(relay: Api, *, status: int = 200, **body: Any) -> Any:
    """Ask about an event that is shown."""
    answer = relay.ask("POST", EXPLAIN, json={"source": "flatfile", "event": FAILED} | body)
    assert status == answer.status_code, answer.text
    return answer.json()


def test_an_event_that_is_shown_is_explained(relay: Api) -> None:
    """As `relay match --json` does: what each rule makes of it; nothing is kept, nobody woken."""
    told = explained(relay)

    [row] = told["rules"]
    assert ("flatfile", "job:failed", "matched") == (told["source"], told["type"], told["decision"])
    assert (True, "flatfile.retry") == (row["acts"], row["calls"][0]["call"])
    assert "POST https://api.example.com/v1/jobs/us_jb_1/retry" == row["calls"][0]["request"]
    assert (0, 1) == (relay.woken, len(asyncio.run(relay.keep(Store.events))))


def test_a_miss_says_what_failed(relay: Api) -> None:
    """Path, what was wanted and what was seen."""
    [row] = explained(relay, event=FAILED | {"topic": "Job:failed"})["rules"]

    assert (False, True) == (row["acts"], row["near"])
    assert {"path": "topic", "wanted": '"job:failed"', "saw": '"Job:failed"'} == row["miss"]


def test_the_rules_in_force_explain(relay: Api) -> None:
    """After a reload, the new ones."""
    relay.app.state.in_force.rules = replace(rules(name="new"), version="fresh")

    told = explained(relay)
    assert ("fresh", "new") == (told["rule_version"], told["rules"][0]["rule"])


def test_headers_can_be_shown(relay: Api) -> None:
    """Those that the source keeps, whatever case their names are in."""
    relay.app.state.in_force.rules = rules(when=pattern({"$headers.x-env": "prod"}))

    found = [explained(relay, headers=one)["rules"][0]["acts"] for one in ({"X-Env": "prod"}, {"x": "prod"})]
    assert [True, False] == found


def test_a_stored_event_is_explained(relay: Api) -> None:
    """By its id; what was decided then is told where it differs."""
    same = relay.ask("GET", f"{EXPLAIN}?event=ev_1").json()
    relay.app.state.in_force.rules = rules(when=pattern({"x": 1}))
    other = relay.ask("GET", f"{EXPLAIN}?event=ev_1").json()

    assert ("ev_1", None, True) == (same["event"], same["then"], same["rules"][0]["acts"])
    assert ("an old one", "matched") == (other["then"]["rule_version"], other["then"]["decision"])
    assert ["call"] == [part["does"] for part in other["then"]["rules"]]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_asks_without_the_token(relay: Api, method: str, token: str | None) -> None:
    """Rules and events are nobody else's."""
    with capture_logs() as lines:
        answer = relay.ask(method, EXPLAIN, token=token, json={})

    assert (401, ["admin.refused"]) == (answer.status_code, [line["event"] for line in lines])
    assert TOKEN not in answer.text + str(lines)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"source": "flatfil"}, 404, "there is no source flatfil (did you mean 'flatfile'?)"),
        ({"source": "\x1b"}, 404, "there is no source \ufffd"),
        ({"source": 7}, 400, 'expected "source", a name'),
        ({"sauce": "flatfile"}, 400, "did you mean 'source'?"),
        ({"headers": ["x"]}, 400, "at most 100 headers, as an object"),
        ({"headers": {str(n): "" for n in range(101)}}, 400, "at most 100 headers"),
        ({"headers": {"x-n": 1}}, 400, "expected the header x-n to be text"),
    ],
)
def test_what_is_not_understood_is_said(relay: Api, body: Any, status: int, detail: str) -> None:
    """As problem+json, with a near miss."""
    answer = relay.ask("POST", EXPLAIN, json={"source": "flatfile", "event": FAILED} | body)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"source": "flatfile"}', 400),
        (b"{", 400),
        (b'{"source": "flatfile", "event": {"a": 1, "a": 2}}', 400),
        (b'{"source": "flatfile", "event": "%s"}' % (b"x" * (2 << 20)), 413),
        (b'{"source": "flatfile", "event": null}', 200),
        (b'{"source": "flatfile", "event": "%s"}' % (b"x" * (1 << 20)), 200),
    ],
)
def test_a_body_that_can_not_be_read(relay: Api, content: bytes, status: int) -> None:
    """An event may be any JSON, as long as a delivery may be."""
    headers = {"content-type": "application/json"}
    assert status == relay.ask("POST", EXPLAIN, content=content, headers=headers).status_code


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("event=ev_2", 404, "there is no event ev_2"),
        ("", 400, "expected ?event=ID"),
        ("event=", 400, "expected ?event=ID"),
        ("evnt=ev_1", 400, "did you mean 'event'?"),
        ("event=ev_1&event=ev_2", 400, "stands twice"),
    ],
)
def test_a_stored_event_that_is_not_named(relay: Api, query: str, status: int, detail: str) -> None:
    """What there is not, or is not understood."""
    answer = relay.ask("GET", f"{EXPLAIN}?{query}")

    assert (status, True) == (answer.status_code, detail in answer.json()["detail"])
