"""Do rules hear what a source reads in its events: what they are about, and whether it failed or is well?"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from build import NOW, incoming
from rulesfiles import SMALL, problems, write
from shell import read as read_json
from shell import relay

from relay.engine import SQLite
from relay.event import Event, Trust
from relay.load import load
from relay.plan import plan
from relay.replay import again
from relay.rule import Ruleset
from relay.sign import sign
from relay.store import Store
from relay.unpack import unpack

ENVIRON = {"JOBS_SECRET": "a-secret-for-the-jobs", "FLATFILE_API_KEY": "a-secret-for-flatfile"}

JOBS: dict[str, Any] = {
    "verify": "hmac",
    "header": "x-signature",
    "secrets": ["env:JOBS_SECRET"],
    "type": "header:x-kind",
    "resource": ["body:job.id", "body:job_id"],
    "failed": {"$type": "job", "$headers.x-phase": "end", "state": ["failed", "lost"]},
    "recovered": {"state": "well"},
}
RULE: dict[str, Any] = {
    "name": "retry what failed",
    "from": "jobs",
    "when": {"$failed": True, "$verified": "verified"},
    "call": "flatfile.retry",
    "with": {"job_id": "{$resource}"},
    "case": "{$resource}",
    "recovered": {"$recovered": True},
}
DOCUMENT = SMALL | {"source": {"jobs": JOBS}, "rule": [RULE]}

HEADERS = {"X-Kind": "job", "X-Phase": "end"}
FAILED = {"job": {"id": "us_jb_1"}, "state": "lost"}


@pytest.fixture
def rules(tmp_path: Path) -> Ruleset:
    return load(write(tmp_path, DOCUMENT), ENVIRON)


def came(rules: Ruleset, data: Any, headers: dict[str, str] | None = None) -> Event:
    """Let a signed delivery in."""
    of = rules.sources["jobs"]
    shown = sign(of, incoming(json.dumps(data).encode(), HEADERS | (headers or {})), NOW)
    (event,) = unpack(of, shown, Trust.VERIFIED, NOW)
    return event


def test_a_rule_acts_on_what_failed(rules: Ruleset) -> None:
    """By the preset's word alone, about the resource that it names."""
    event = came(rules, FAILED)
    (failure,) = plan(event, rules, NOW).deed.failures
    assert ("us_jb_1", {"job_id": "us_jb_1"}) == (failure.key, dict(failure.values))
    assert ("failed", "us_jb_1") == (event.tells, event.resource)


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (FAILED | {"state": "running"}, {}),
        (FAILED, {"X-Kind": "file"}),
        (FAILED, {"X-Phase": "begin"}),
    ],
)
def test_a_rule_passes_over_what_did_not(rules: Ruleset, data: Any, headers: dict[str, str]) -> None:
    """Body, type and headers all count."""
    assert () == plan(came(rules, data, headers), rules, NOW).deed.parts


def test_a_case_ends_by_what_is_well(rules: Ruleset) -> None:
    """A rule may ask for it by the source's word, too."""
    (recovery,) = plan(came(rules, FAILED | {"state": "well"}), rules, NOW).deed.recoveries
    assert "us_jb_1" == recovery.key


def test_without_its_resource_nothing_is_retried(rules: Ruleset) -> None:
    """What does not say what it is about is no case, and says so."""
    (failure,) = plan(came(rules, {"state": "failed"}), rules, NOW).deed.failures
    assert "job_id is null" in failure.flaw


def test_headers_that_a_source_asks_for_are_kept(rules: Ruleset) -> None:
    """Those of its patterns, beside those of rules: without them an event could not be judged anew."""
    assert ("x-phase",) == rules.sources["jobs"].asked
    assert {"x-kind": "job", "x-phase": "end"} == came(rules, FAILED).headers


def test_match_says_what_a_source_reads(tmp_path: Path) -> None:
    """`relay match` makes the event as the source would: with type, resource, and what it tells."""
    path = write(tmp_path, DOCUMENT)
    asked = ("match", "jobs", "-", "--header", "x-kind=job", "--header", "x-phase=end", "--json")
    found = relay(*asked, stdin=json.dumps(FAILED), RELAY_RULES=str(path))
    told = json.loads(found.stdout)
    assert ("job", "us_jb_1", "failed") == (told["type"], told["resource"], told["tells"])
    assert [True] == [rule["meets"] for rule in told["rules"]]

    missed = relay(*asked[:3], "--json", stdin=json.dumps(FAILED), RELAY_RULES=str(path))
    (rule,) = json.loads(missed.stdout)["rules"]
    assert {"path": "$failed", "wanted": "true", "saw": "false"} == rule["miss"]


def test_tests_of_rules_may_rely_on_it(tmp_path: Path) -> None:
    """A test's event is read by its source like any other."""
    expected = {"event": FAILED, "headers": HEADERS, "calls": 1, "case": "us_jb_1"}
    document = DOCUMENT | {"rule": [RULE | {"test": [expected]}]}
    result = relay("check", "--no-secrets", RELAY_RULES=str(write(tmp_path, document)))
    assert 0 == result.exit_code, result.output


def test_past_events_are_read_anew(tmp_path: Path, rules: Ruleset) -> None:
    """Replay judges by what the new source reads in stored events, and shows what each told then."""
    with closing(SQLite(tmp_path / "relay.db")) as engine, engine.group():
        store = Store(engine.link())
        for state in ("lost", "stuck"):
            event = came(rules, FAILED | {"state": state})
            store.record(event, plan(event, rules, NOW), version="v", dedupe_ms=1)
    environ = {
        "RELAY_DB": f"sqlite:///{tmp_path / 'relay.db'}",
        "RELAY_RULES": str(tmp_path / "rules.toml"),
    }
    shown = read_json("events", **environ)["items"]
    assert {("us_jb_1", "failed"), ("us_jb_1", None)} == {(one["resource"], one["tells"]) for one in shown}
    (failed,) = (one["id"] for one in shown if one["tells"])
    lines = relay("events", failed, **environ).stdout
    assert "resource      us_jb_1\ntells         failed\n" in lines

    other = {"jobs": JOBS | {"failed": {"state": "stuck"}}}
    new = write(tmp_path, DOCUMENT | {"source": other}, "new.toml")
    told = relay("replay", "--diff", "--since", "2023-01-01", "--rules", str(new), "--json", **environ)
    assert 1 == told.exit_code, told.output
    totals = json.loads(told.stdout)["totals"]
    assert (2, 2, 1, 1) == tuple(
        totals[name] for name in ("events", "different", "get_a_call", "lose_a_call")
    )


def test_what_came_is_not_taken_apart_again(tmp_path: Path) -> None:
    """A stored item is its own event, and what was no CloudEvent then is none now, however sound its JSON."""
    lists = {"verify": "hmac", "header": "x-sig", "split": "", "secrets": ["env:JOBS_SECRET"]}
    clouds = {"verify": "token", "body": "cloudevents", "secrets": ["env:CLOUD_SECRET"], "type": "body:type"}
    of = load(
        write(tmp_path, DOCUMENT | {"source": {"jobs": JOBS | lists, "clouds": clouds}}),
        ENVIRON | {"JOBS_SECRET": "a-secret-of-lists", "CLOUD_SECRET": "a-secret-of-clouds"},
    )
    with closing(SQLite(tmp_path / "relay.db")) as engine, engine.group():
        store = Store(engine.link())
        for name, body in (("jobs", b"[[1, 2], [3]]"), ("clouds", b'{"type": "t"}')):
            for event in unpack(of.sources[name], incoming(body), Trust.VERIFIED, NOW):
                store.record(event, plan(event, of, NOW), version="v", dedupe_ms=1)
        rows = store.events()
    for row in rows:
        once_more = again(row, of)
        assert (row["body"], row["flaw"], row["type"]) == (once_more.body, once_more.flaw, once_more.type)
    assert {b"[1,2]", b"[3]", b'{"type": "t"}'} == {row["body"] for row in rows}
    assert {"", "not a CloudEvent: it lacks id, source, specversion"} == {row["flaw"] for row in rows}


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"delivery": "header:X-Hook-Token"}, "the header x-hook-token holds a credential"),
        ({"failed": {"$headers.cookie": "x"}}, "the header cookie holds a credential"),
        (
            {"handshake": [{"when": {"a": 1}, "text": "{$headers.x-hub-signature}"}]},
            "the header x-hub-signature holds a credential",
        ),
        ({"body": "cloudevents", "split": "a"}, 'has no meaning with body = "cloudevents"'),
        ({"body": "cloudevents", "form_field": "a"}, 'has no meaning with body = "cloudevents"'),
    ],
)
def test_what_a_source_may_not_ask_for(tmp_path: Path, keys: dict[str, Any], what: str) -> None:
    """What is never kept, and what has no meaning: refused when the rules are loaded, with its place."""
    (problem,) = problems(write(tmp_path, DOCUMENT | {"source": {"jobs": JOBS | keys}}), ENVIRON)
    assert what in problem.what
    assert problem.line


@pytest.mark.parametrize(
    "header",
    ["authorization", "Cookie", "proxy-authorization", "X-Gitlab-Token", "x-hook-secret", "x-hub-signature"],
)
@pytest.mark.parametrize("place", ["when", "person"])
def test_no_rule_asks_for_a_credential(tmp_path: Path, header: str, place: str) -> None:
    """Whether or not it proves anything here: it is never kept, so the rule would wait for ever."""
    rule = {"name": "r", "from": "jobs", "when": {"a": 1}, "person": "x", "case": "{id}"}
    if place == "when":
        rule["when"] = {f"$headers.{header}": "x"}
    else:
        rule["person"] = f"{{$headers.{header}}}"
    (problem,) = problems(write(tmp_path, DOCUMENT | {"rule": [rule]}), ENVIRON)
    assert f"the header {header.lower()} " in problem.what
    assert "never kept" in problem.what
    assert problem.line
