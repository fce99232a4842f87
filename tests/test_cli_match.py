"""What does `match` say of rules, however they came to be, and of events that have come?"""

import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build import NOW, action, check, event, pattern, provider, rule, ruleset, source
from rulesfiles import SMALL, write
from shell import relay

from relay.case import Policy
from relay.cli import match
from relay.engine import SQLite
from relay.event import Does
from relay.load import load
from relay.plan import plan
from relay.rule import Expect, Rule, Throttle, Window
from relay.store import Store

FAILED_JOB: dict[str, Any] = {
    "topic": "job:failed",
    "context": {"jobId": "us_jb_1"},
    "payload": {"isPart": False},
}

InPlace = Callable[..., None]


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> InPlace:
    """Return what lets `match` find these rules, whatever the files say."""

    def put(*rules: Rule, **more: Any) -> None:
        by = {"flatfile": source(name="flatfile", recovered=pattern({"topic": "job:completed"}))}
        found = replace(ruleset(*rules), **{"sources": by} | more)
        monkeypatch.setattr(match, "load", lambda *_, **__: found)

    return put


def said(data: Any = FAILED_JOB, *flags: str) -> list[str]:
    """Explain an event, and return the lines."""
    result = relay("match", "flatfile", "-", *flags, stdin=json.dumps(data))
    assert (0, "") == (result.exit_code, result.stderr)
    return result.stdout.splitlines()


def told(data: Any = FAILED_JOB, *flags: str) -> Any:
    """Explain an event to a program."""
    return json.loads("\n".join(said(data, "--json", *flags)))


# -- those that act --


@pytest.mark.parametrize(
    ("notes", "more"),
    [
        ([], {}),
        (["held for a yes"], {"policy": Policy(approve=True)}),
        (["held for a yes"], {"approve": pattern({"payload.isPart": False})}),
        (["batched"], {"policy": Policy(batch="file_ids:100")}),
        (["only Mon-Fri 08:00-18:00"], {"policy": Policy(only="Mon-Fri 08:00-18:00")}),
        (
            ["held for a yes", "looks first", "batched", "only Sat"],
            {"policy": Policy(approve=True, batch="x:2", only="Sat"), "action": "late"},
        ),
    ],
)
def test_match_notes_what_stands_before_the_call(
    in_place: InPlace, notes: list[str], more: dict[str, Any]
) -> None:
    """The case, and in a word each: a person, a look, company, hours."""
    late = action(name="late", check=check(), check_first=True)
    in_place(rule(**more), providers={"flatfile": provider(action(), late)})

    case = "    case flatfile:job_id=us_jb_1"
    assert (f"{case}; {', '.join(notes)}" if notes else case) == said()[2]
    assert notes == told()["rules"][0]["calls"][0]["notes"]


def test_match_says_what_recovers(in_place: InPlace) -> None:
    """An event that ends a case is of use to its rule; one that does not say whose case it ends is not."""
    in_place()
    well = FAILED_JOB | {"topic": "job:completed"}
    [row] = told(well)["rules"]

    assert ["✓ retry jobs", "    recovers flatfile:job_id=us_jb_1"] == said(well)
    assert (False, True, [], "flatfile:job_id=us_jb_1") == tuple(
        row[name] for name in ("meets", "acts", "calls", "recovers")
    )
    missed = ["✗ retry jobs", '    topic: wanted "job:failed", saw "job:completed"']
    assert missed == said({"topic": "job:completed"})


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ({"aims": (), "ignore": "a part"}, ["ignores it: a part"]),
        ({"aims": (), "tell": "ops", "say": "{topic}!"}, ["tells ops: job:failed!"]),
        (
            {"shadow": True},
            ["only a shadow: would call: POST https://api.example.com/v1/jobs/us_jb_1/retry"],
        ),
        (
            {
                "aims": (rule(action="", provider="", case="{context.jobId}").aims),
                "person": "look at {topic}",
            },
            ["asks a person about us_jb_1: look at job:failed"],
        ),
        (
            {"throttle": Throttle(kind=Window.ONCE_WITHIN, ms=600_000, by="{topic}")},
            [
                "only the first within 10m acts for job:failed",
                "flatfile.retry: POST https://api.example.com/v1/jobs/us_jb_1/retry",
                "case flatfile:job_id=us_jb_1",
            ],
        ),
        (
            {
                "aims": (),
                "tell": "ops",
                "say": "{$count}",
                "throttle": Throttle(kind=Window.ONCE_AFTER, ms=60_000),
            },
            ["acts once for all of 1m", "tells ops: 1"],
        ),
        (
            {
                "aims": (),
                "tell": "ops",
                "say": "late",
                "expect": Expect(when=pattern({"x": 1}), ms=5000, by="{topic}", seen_by="{id}"),
            },
            ["acts unless what it expects comes within 5s for job:failed", "tells ops: late"],
        ),
        (
            {"throttle": Throttle(kind=Window.ACCUMULATE_WITHIN, ms=1000, threshold=3)},
            ["acts if 3 come within 1s"],
        ),
    ],
)
def test_each_end_of_a_rule_is_said(in_place: InPlace, more: dict[str, Any], lines: list[str]) -> None:
    """Not only calls: what is ignored, told, asked, only shown, and what a window makes of it."""
    in_place(rule(**more))

    found = said()
    assert ["✓ retry jobs", *(f"    {line}" for line in lines)] == found[: len(lines) + 1]


def test_a_rule_that_stops_is_named(in_place: InPlace) -> None:
    """Those below it are not asked, and it is said which of them would have matched."""
    in_place(rule(aims=(), ignore="known"), rule(name="below"), rule(name="other", when=pattern({"x": 1})))

    assert [
        *("✓ retry jobs", "    ignores it: known"),
        *("✗ below", "    not asked: retry jobs above stops", "    would match"),
        *("✗ other", "    not asked: retry jobs above stops", "    x: wanted 1, saw nothing"),
    ] == said()


def test_a_source_that_only_a_watch_feeds_can_be_tried(in_place: InPlace) -> None:
    """Though nobody may post to it; and its events are believed: relay itself has asked for them."""
    fed = source(name="flatfile", verify="none")
    looking = provider(action(check=check()))
    more: dict[str, Any] = {"sources": {}, "watched": {"flatfile": fed}, "providers": {"flatfile": looking}}
    in_place(rule(), **more)
    trusting = said()
    in_place(rule(), **more | {"sources": {"flatfile": fed}})

    assert "looks first" not in trusting[2]
    assert "looks first" in said()[2]


# -- those that do not --


def test_near_misses_come_first(in_place: InPlace) -> None:
    """A rule of which one field is missing says that it nearly matched; the far ones are counted."""
    far = [rule(name=f"far {number}", when=pattern({"x": number})) for number in range(20)]
    near = rule(name="near", when=pattern({"topic": "job:failed", "payload.isPart": True}))
    in_place(*far, near)

    assert ["✗ near", "    matches except payload.isPart: wanted true, saw false"] == said()[:2]
    assert "11 more rules have no part in it (--all shows them)" == said()[-1]
    assert (10, 11, 0) == (len(told()["rules"]), told()["left_out"], told()["others"])
    assert (21, 0) == (len(told(FAILED_JOB, "--all")["rules"]), told(FAILED_JOB, "--all")["left_out"])


def test_headers_and_the_time_can_be_given(in_place: InPlace) -> None:
    """What rules ask for besides the body: else the rule could not be tried."""
    when = pattern({"$headers.x-env": "prod", "at": {"older-than": "1h"}})
    in_place(
        rule(name="old", when=when),
        sources={"flatfile": source(name="flatfile", verify="none", asked=("x-env",))},
    )
    data = FAILED_JOB | {"at": "2026-01-01T00:00:00Z"}

    assert "✗ old" == said(data)[0]
    assert "✓ old" == said(data, "--header", "X-Env=prod", "--now", "2026-01-01T01:00:01Z")[0]
    assert "✗ old" == said(data, "--header", "X-Env=prod", "--now", "2026-01-01T00:59:59Z")[0]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "expected SOURCE and EVENT.json, or --event ID"),
        (["flatfile"], "expected SOURCE and EVENT.json"),
        (["flatfile", "-", "--event", "ev_1"], "--event has its own"),
        (["--event", "ev_1", "--header", "a=b"], "--event has its own"),
        (["flatfile", "-", "--header", "a"], "expected NAME=VALUE, got 'a'"),
        (["flatfile", "-", "--now", "yesterday"], "an instant such as 2026-11-23T08:00, got 'yesterday'"),
    ],
)
def test_what_can_not_be_asked(in_place: InPlace, args: list[str], why: str) -> None:
    """It is wrong input, and says what is expected."""
    in_place()
    result = relay("match", *args, stdin="{}")

    assert 2 == result.exit_code
    assert why in " ".join(result.stderr.split())


# -- events that have come --


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, str]:
    """Return the variables of a shell beside a database with one event, `ev_1`, and the rules that met it."""
    rules = load(write(tmp_path, SMALL), {}, secrets=False)
    came = event(FAILED_JOB, type="job:failed")
    with closing(SQLite(tmp_path / "relay.db")) as engine, engine.group():
        Store(engine.link()).record(came, plan(came, rules, NOW), version="an old one", dedupe_ms=1)
    return {"RELAY_DB": f"sqlite:///{tmp_path / 'relay.db'}", "RELAY_RULES": str(tmp_path / "rules.toml")}


def test_a_stored_event_is_explained(stored: dict[str, str]) -> None:
    """As if it came now; where the same was decided then, nothing is said of it."""
    result = relay("match", "--event", "ev_1", **stored)
    shown = json.loads(relay("match", "--event", "ev_1", "--json", **stored).stdout)

    assert result.stdout.startswith("✓ retry\n    flatfile.retry: POST https://")
    assert "then" not in result.stdout
    assert ("ev_1", "job:failed", None) == (shown["event"], shown["type"], shown["then"])


def test_what_was_decided_then_is_said_if_it_differs(stored: dict[str, str]) -> None:
    """With the version of the rules that decided it."""
    rules = Path(stored["RELAY_RULES"])
    rules.write_text(rules.read_text().replace('"job:failed"', '"Job:failed"'))
    result = relay("match", "--event", "ev_1", **stored)
    shown = json.loads(relay("match", "--event", "ev_1", "--json", **stored).stdout)

    first, why, then, part = result.stdout.splitlines()
    assert ("✗ retry", '    topic: wanted "Job:failed", saw "job:failed"') == (first, why)
    assert re.fullmatch(r"then, at 2023-11-1\d \d\d:\d\d:\d\d by version an old one: matched", then)
    assert "    retry: calls flatfile.retry for flatfile:job_id=us_jb_1" == part
    assert (True, "no_rule") == (shown["rules"][0]["near"], shown["decision"])
    assert "call" == shown["then"]["rules"][0]["does"]


def test_an_event_that_can_not_be_read_is_asked_about_nothing(tmp_path: Path) -> None:
    """No rule was asked then, and none is now: it says why."""
    rules = load(write(tmp_path, SMALL), {}, secrets=False)
    came = event(None, body=b"{", flaw="not JSON")
    with closing(SQLite(tmp_path / "relay.db")) as engine, engine.group():
        Store(engine.link()).record(came, plan(came, rules, NOW), version="v", dedupe_ms=1)
    shell = {"RELAY_DB": f"sqlite:///{tmp_path / 'relay.db'}", "RELAY_RULES": str(tmp_path / "rules.toml")}
    result = relay("match", "--event", "ev_1", **shell)

    assert (0, 1) == (result.exit_code, len(result.stdout.splitlines()))
    assert result.stdout.startswith("no rule is asked: not JSON")


def test_an_event_that_has_not_come(stored: dict[str, str]) -> None:
    """It is said, and is no match."""
    result = relay("match", "--event", "ev_2", **stored)

    assert (1, "relay: there is no event ev_2\n") == (result.exit_code, result.stderr)


@pytest.mark.parametrize("does", Does)
def test_there_are_words_for_every_part(does: Does) -> None:
    """Whatever a rule makes of an event."""
    assert match.said({"does": does.value, "what": "writer.retry", "key": "f1", "why": "so"}).endswith(": so")
