"""Does `relay events` say why nothing was done about what rules met?"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from build import NOW, event, pattern, rule, ruleset
from shell import relay

from relay.engine import SQLite
from relay.plan import plan
from relay.rule import Throttle, Window
from relay.store import Store

RULES = ruleset(
    rule(name="part", when=pattern({"part": True}), aims=(), ignore="a part is retried with its parent"),
    rule(name="old", max_age_ms=1000, when=pattern({"old": True})),
    rule(name="once", when=pattern({"once": True}), throttle=Throttle(kind=Window.ONCE_WITHIN, ms=60_000)),
    rule(name="told", when=pattern({"told": True}), aims=(), tell="ops", say="{told}"),
)
CAME: list[dict[str, Any]] = [
    {"part": True},
    {"old": True},
    {"once": True},
    {"once": True},
    {"told": True},
    {},
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a shell beside a database with an event of each kind: `ev_0` and on."""
    folder: Path = tmp_path_factory.mktemp("events")
    with closing(SQLite(folder / "relay.db")) as engine, engine.group():
        for number, data in enumerate(CAME):
            body = {**data, "context": {"jobId": f"j{number}"}}
            came = event(body, id=f"ev_{number}", digest=str(number), happened_at=NOW - 5000)
            Store(engine.link()).record(came, plan(came, RULES, NOW), version="v", dedupe_ms=1)
    return {"RELAY_DB": f"sqlite:///{folder / 'relay.db'}"}


WHYS = {
    "ev_0": ("ignored", "a part is retried with its parent"),
    "ev_1": ("suppressed", "it happened 5 s ago, and max_age is 1 s"),
    "ev_2": ("matched", None),
    "ev_3": ("suppressed", "ev_2 acted, until 2023-11-14T22:14:20.000Z"),
    "ev_4": ("matched", None),
    "ev_5": ("no_rule", None),
}


def test_what_was_met_and_not_done_has_its_reason(shell: dict[str, str]) -> None:
    """In the list as in the JSON; what was done needs none."""
    items = json.loads(relay("events", "--json", **shell).stdout)["items"]
    lines = relay("events", **shell).stdout.splitlines()[1:]

    assert WHYS == {row["id"]: (row["decision"], row["why"]) for row in items}
    for line in lines:
        decision, why = WHYS[line.split()[0]]
        assert decision == line.split()[4]
        assert line.endswith(why or line.split()[-1])


@pytest.mark.parametrize(("decision", "ids"), [("ignored", ["ev_0"]), ("suppressed", ["ev_3", "ev_1"])])
def test_they_can_be_asked_for(shell: dict[str, str], decision: str, ids: list[str]) -> None:
    """By the word that the list has."""
    items = json.loads(relay("events", "--decision", decision, "--json", **shell).stdout)["items"]

    assert ids == [row["id"] for row in items]


def test_one_event_has_each_rules_part(shell: dict[str, str]) -> None:
    """Which rule did what, for which resource, and why."""
    told = json.loads(relay("events", "ev_4", "--json", **shell).stdout)
    once = relay("events", "ev_2", **shell).stdout.splitlines()

    assert [{"rule": "told", "does": "tell", "what": "ops", "key": "", "why": "true"}] == told["rules"]
    assert ["rule", "does", "what", "key", "why"] in [line.split() for line in once]
    call = ["once", "call", "flatfile.retry", "flatfile:job_id=j2"]
    assert call in [line.split() for line in once]
