"""From the operator's files to how far relay goes with a case, and to what it asks by itself."""

from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, EVERY_KNOB, ROOT, SMALL, problems, with_rule, write

from relay.case import Policy
from relay.load import load
from relay.provider import Provider, Storm
from relay.rule import Rule, Watch

# -- how far to go --


def knobs(tmp_path: Path, **keys: Any) -> Rule:
    """Load SMALL with these keys on its rule, and return the rule."""
    return load(write(tmp_path, with_rule(**keys)), ENVIRON).rules[0]


def test_a_rule_that_says_nothing_goes_as_far_as_is_safe(tmp_path: Path) -> None:
    """Defaults are those of Policy; what the provider's check and storm say comes from its file."""
    rules = load(write(tmp_path, SMALL), ENVIRON)
    (rule,) = rules.rules
    flatfile = rules.providers["flatfile"]
    check = flatfile.actions["retry"].check
    assert check is not None

    assert (
        Policy(
            looks=True,
            check_ms=check.wait_ms[0],
            recover_ms=check.within_ms,
            keep="job_id",
            storm_cases=flatfile.storm.cases,
            storm_ms=flatfile.storm.within_ms,
            storm_rest_ms=flatfile.storm.rest_ms,
        )
        == rule.aims[0].policy
    )
    assert flatfile.storm.cases > 0
    assert (None, None) == (rule.recovered, rule.approve)


def test_a_check_says_when_it_is_asked(tmp_path: Path) -> None:
    """When the first look comes, and when a person is asked, is the check's to say, if the rule does not."""
    check = {"wait": ["20s", "1m"], "within": "1h"}
    write(tmp_path, {"action": {"retry": {"check": check}}}, "providers/flatfile.toml")

    policy = load(write(tmp_path, SMALL), ENVIRON).rules[0].aims[0].policy

    assert (20_000, 3_600_000) == (policy.check_ms, policy.recover_ms)


def test_every_knob_arrives(tmp_path: Path) -> None:
    """What a rule says of budget, recovery, approval, hours and batches is all in its policy."""
    rules = load(write(tmp_path, EVERY_KNOB), ENVIRON)
    (rule,) = rules.rules
    check = rules.providers["writer"].actions["retry"].check
    assert check is not None

    assert (
        Policy(
            retries=4,
            within_ms=172_800_000,
            wait_ms=(0, 60_000),
            recover_ms=10_800_000,
            looks=True,
            check_ms=check.wait_ms[0],
            only="Mon-Fri 08:00-18:00 Europe/Berlin",
            approve=False,
            approve_ms=3_600_000,
            approve_then="reject",
            batch="file_ids:100",
            batch_ms=2_000,
            storm_cases=5,
            storm_ms=30_000,
            storm_rest_ms=5_000,
        )
        == rule.aims[0].policy
    )
    assert Storm(cases=5, within_ms=30_000, rest_ms=5_000) == rules.providers["writer"].storm
    assert rule.recovered is not None
    assert rule.recovered.meets({"type": "file.completed"})
    assert rule.approve is not None
    assert (True, False) == (rule.approve.meets({"size": 10}), rule.approve.meets({"size": 9}))


@pytest.mark.parametrize(
    ("approve", "policy"),
    [
        (True, Policy(approve=True)),
        (False, Policy()),
        ({"within": "2d"}, Policy(approve=True, approve_ms=172_800_000)),
        ({"then": "approve"}, Policy(approve=True, approve_then="approve")),
    ],
)
def test_all_retries_may_wait_for_a_yes(tmp_path: Path, approve: Any, policy: Policy) -> None:
    """Without a condition, approve holds for all; false is as good as not said."""
    found = knobs(tmp_path, approve=approve).aims[0].policy

    assert (policy.approve, policy.approve_ms, policy.approve_then) == (
        found.approve,
        found.approve_ms,
        found.approve_then,
    )


def test_a_wait_may_stand_alone(tmp_path: Path) -> None:
    """One time is a list of one, and any part of a budget may be left out."""
    assert (60_000,) == knobs(tmp_path, budget={"wait": "1m"}).aims[0].policy.wait_ms
    assert Policy().wait_ms == knobs(tmp_path, budget={"retries": 5}).aims[0].policy.wait_ms


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        ({"retries": 1, "within": "1m", "wait": "10d"}, True),  # the wait before the first is in no window
        ({"retries": 2, "within": "10m", "wait": ["0s", "9m"]}, True),
        ({"retries": 2, "within": "10m", "wait": ["0s", "10m"]}, False),
        ({"retries": 3, "within": "10m", "wait": ["0s", "5m"]}, False),
        ({"within": "30m"}, False),  # with the waits that it has by itself
    ],
)
def test_a_budget_can_be_spent(tmp_path: Path, budget: dict[str, Any], spent: bool) -> None:
    """A window that is over before the last retry would let retries go on for ever, and is refused."""
    path = write(tmp_path, with_rule(budget=budget))
    if spent:
        assert load(path, ENVIRON).rules
        return

    (problem,) = problems(path)

    assert "rule[1].budget" == problem.key
    assert "never be spent" in problem.what


# -- watches --


def test_a_watch_feeds_a_source_that_nobody_can_post_to(tmp_path: Path) -> None:
    """Its source is known to rules and to the watch, and has no path; unnamed, it is the provider's."""
    rules = load(write(tmp_path, EVERY_KNOB), ENVIRON)

    assert {
        "failed files": Watch(
            name="failed files", provider="writer", listing="failed_files", source="files", every_ms=60_000
        )
    } == rules.watches
    assert ["writer"] == list(rules.sources)
    assert ["files"] == list(rules.watched)
    plain = EVERY_KNOB | {"watch": [{key: EVERY_KNOB["watch"][0][key] for key in ("name", "call", "every")}]}
    plain["rule"] = [EVERY_KNOB["rule"][0] | {"from": "writer"}]
    again = load(write(tmp_path, plain), ENVIRON)
    assert "writer" == again.watches["failed files"].source
    assert again.watched["writer"] == again.sources["writer"]


def test_a_watch_needs_no_source_of_its_own(tmp_path: Path) -> None:
    """Where events keep their ids, and what is cut out of them, is known from the preset of the same name."""
    document = SMALL | {
        "source": {},
        "watch": [{"name": "failed jobs", "call": "flatfile.failed_jobs", "every": "5m"}],
    }

    rules = load(write(tmp_path, document), ENVIRON)

    assert {} == rules.sources
    source = rules.watched["flatfile"]
    assert ("body:topic",) == source.type
    assert ("body:src.id", "body:id") == source.delivery
    assert ("_accessToken",) == source.redact
    assert source.recovered is not None
    assert source.recovered.meets({"topic": "job:completed"})


def test_a_provider_may_be_in_use_for_a_watch_alone(tmp_path: Path) -> None:
    """Its values are constants, in the types that the watch declares; it needs its secrets all the same."""
    keys = {"app_id": "env:DOCFLOW_APP_ID", "secret_code": "env:DOCFLOW_SECRET_CODE"}
    watch = {
        "name": "failed tasks",
        "call": "docflow.failed_tasks",
        "every": "1m",
        "with": {"workspace_id": 1234567890},
    }
    document = SMALL | {"watch": [watch], "provider": SMALL["provider"] | {"docflow": keys}}

    rules = load(write(tmp_path, document), ENVIRON)

    assert {"workspace_id": "1234567890"} == rules.watches["failed tasks"].with_
    assert {"app_id", "secret_code"} == rules.providers["docflow"].secrets.keys()
    (problem, _) = problems(write(tmp_path, SMALL | {"watch": [watch]}))
    assert "the provider docflow needs app_id" in problem.what


def test_every_watch_has_its_row() -> None:
    """docs/rules.md has the watches that relay brings, with the values that they need."""
    rules = load(ROOT / "rules.toml", {}, secrets=False)
    table = (ROOT / "docs" / "rules.md").read_text().partition("| provider | watch | values |")[2]

    rows = [line.split("|")[2:4] for line in table.partition("\n\n")[0].splitlines()[2:]]

    assert {
        (f"`{name}.{one.name}`", ", ".join(f"`{value}`" for value in one.values))
        for name, provider in rules.providers.items()
        for one in provider.listings.values()
    } == {(watch.strip(), values.strip()) for watch, values in rows}


def lister(tmp_path: Path, **tables: Any) -> Provider:
    """Load a provider that has these tables."""
    document = {"title": "Lister", "base_url": "https://lister.example"} | tables
    write(tmp_path, document, "providers/lister.toml")
    return load(write(tmp_path, SMALL | {"provider": SMALL["provider"] | {"lister": {}}}), ENVIRON).providers[
        "lister"
    ]


def test_a_list_arrives_as_it_was_written(tmp_path: Path) -> None:
    """How a list is asked for, what counts in it, and how it goes on."""
    written = {
        "title": "Failed jobs",
        "request": "GET /v1/{team}/jobs",
        "query": {"since": "{since}", "size": 100},
        "headers": {"x-a": "b"},
        "values": {"team": {"max": 9}},
        "items": "data.jobs",
        "id": "{id}:{run}",
        "failed": {"state": "failed"},
        "event": {"job": "{id}"},
        "log": True,
        "page": {"query": "after", "cursor": "last.id", "more": {"body.more": True}},
    }

    found = lister(tmp_path, watch={"jobs": written}).listings["jobs"]

    assert ("jobs", "Failed jobs", "GET", "/v1/{team}/jobs") == (
        found.name,
        found.title,
        found.shape.method,
        found.shape.path,
    )
    assert ({"since": "{since}", "size": 100}, {"x-a": "b"}) == (found.shape.query, found.shape.headers)
    assert ["team"] == list(found.values)
    assert ("data.jobs", "{id}:{run}", {"job": "{id}"}, True) == (
        found.items,
        found.id,
        found.event,
        found.log,
    )
    assert found.failed is not None
    assert (True, False) == (found.failed.meets({"state": "failed"}), found.failed.meets({"state": "done"}))
    assert found.paging is not None
    assert ("after", "last.id") == (found.paging.query, found.paging.cursor)
    assert found.paging.more is not None
    assert found.paging.more.meets({"status": 200, "headers": {}, "body": {"more": True}})


def test_a_list_may_say_little(tmp_path: Path) -> None:
    """One page, which is the list itself; everything on it has failed and is its own event."""
    found = lister(
        tmp_path, watch={"bare": {"title": "Bare", "request": "GET /failed", "items": "", "id": "{id}"}}
    ).listings["bare"]

    assert (None, None, None, False) == (found.failed, found.event, found.paging, found.log)
    assert "" == found.items


def test_an_action_may_carry_the_calls_own_key(tmp_path: Path) -> None:
    """{call.id} may stand in headers and json: a provider that knows it again does nothing twice."""
    action = {
        "title": "Retry",
        "request": "POST /retry/{id}",
        "values": {"id": {}},
        "headers": {"Idempotency-Key": "relay-{call.id}"},
        "on_unknown": "resend_same_key",
        "keep": {"id": "data.id"},
        "check": {
            "request": "GET /jobs/{id}",
            "failed": {"status": 200},
            "mark": "data.updatedAt",
            "wait": "10s",
            "within": "1h",
        },
    }

    found = lister(tmp_path, action={"retry": action}).actions["retry"]

    assert ("resend_same_key", {"id": "data.id"}) == (found.on_unknown, found.keep)
    assert found.check is not None
    assert ("data.updatedAt", (10_000,), 3_600_000) == (
        found.check.mark,
        found.check.wait_ms,
        found.check.within_ms,
    )
    in_json = action | {"headers": {}, "json": {"key": "{call.id}"}}
    assert lister(tmp_path, action={"retry": in_json}).actions["retry"].on_unknown == "resend_same_key"


# -- what says that it is well --


def test_a_source_says_what_recovered_means(tmp_path: Path) -> None:
    """An operator's pattern takes the place of the preset's: the two are not mixed."""
    preset = load(write(tmp_path, SMALL), ENVIRON).sources["flatfile"].recovered
    assert preset is not None
    assert preset.meets({"topic": "job:completed"})

    own = SMALL["source"]["flatfile"] | {"recovered": {"type": "well"}}
    mine = load(write(tmp_path, SMALL | {"source": {"flatfile": own}}), ENVIRON).sources["flatfile"].recovered

    assert mine is not None
    assert mine.meets({"type": "well"})
    assert not mine.meets({"topic": "job:completed"})


def test_a_broken_preset_is_told_even_if_nobody_uses_it(tmp_path: Path) -> None:
    """What an operator's own preset says of recovery is checked, used or not."""
    write(tmp_path, {"verify": "token", "recovered": {"type": []}}, "sources/idle.toml")

    (problem,) = problems(write(tmp_path, SMALL))

    assert "recovered.type" == problem.key
