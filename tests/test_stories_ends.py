"""What rules do that is no plain retry, on real sockets: ignore, tell, ask a person, show only, go first."""

import json
from collections.abc import Iterator

import pytest
from story import Story, failed_file, fails, healing, sent

from relay.case import Stand

RULES = """
[[rule]]
name = "drafts"
from = "writer"
when.folder = "drafts"
ignore = "drafts are retried by their author"

[[rule]]
name = "show only"
from = "writer"
when.folder = "shown"
call = "writer.retry"
with.file_id = "{file_id}"
mode = "shadow"

[[rule]]
name = "many"
from = "writer"
when.type = "alarm"
tell = "log"
throttle = { accumulate_within = "1h", threshold = 3, by = "{disk}" }

[[rule]]
name = "credit"
from = "writer"
when.reason = "no credit"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
person = "no credit is left for {file_id}"
stop = true

[[rule]]
name = "disks"
from = "writer"
when.type = "disk.full"
case = "disk {disk}"
person = "{disk} is full"
recovered.type = "disk.free"

[[rule]]
name = "news"
from = "writer"
when.type = "news"
tell = "log"
say = "{headline|upper} ({$source})"

[[rule]]
name = "both"
from = "writer"
when.folder = "both"
calls = [
  { call = "writer.retry", with = { file_id = "{file_id}" }, case = "{file_id}" },
  { call = "writer.retry", with = { file_id = "{other_id}" }, case = "{other_id}" },
]
"""


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Run one relay with all these rules before the demo's."""
    with healing(tmp_path_factory.mktemp("ends"), RULES) as told:
        yield told


def test_what_is_ignored_is_kept_with_the_reason(on: Story) -> None:
    """No rule below is asked: nothing is sent, and `relay events` says why."""
    key, event = failed_file(on)
    told = on.post("writer", event | {"folder": "drafts"})
    row = on.event(told.event)
    assert ("ignored", 0) == (row["decision"], row["calls"])
    assert [("drafts", "ignore", "drafts are retried by their author")] == [
        (part["rule"], part["does"], part["why"]) for part in row["parts"]
    ]
    assert key not in {case.key for case in on.cases()}


def test_a_person_decides(on: Story) -> None:
    """The case waits, and a person's retry makes the call."""
    before = len(sent(on.writer))
    key = fails(on, reason="no credit")
    case = on.stands(key, Stand.NEEDS_PERSON)
    assert (f"no credit is left for {key}", before) == (case.why, len(sent(on.writer)))

    assert 0 == on.shell("retry", key, "--why", "paid").exit_code
    assert Stand.RECOVERED is on.ended(key).state


def test_a_case_that_nobody_can_retry(on: Story) -> None:
    """A person is asked; a retry is refused in words; the recovery event ends it."""
    assert 202 == on.post("writer", {"type": "disk.full", "disk": "sda"}).status
    assert "sda is full" == on.stands("disk sda", Stand.NEEDS_PERSON).why
    refused = on.shell("retry", "disk sda")
    assert (1, True) == (refused.exit_code, "calls nobody" in refused.stderr)
    assert 202 == on.post("writer", {"type": "disk.free", "disk": "sda"}).status
    assert Stand.RECOVERED is on.ended("disk sda").state


def test_somebody_is_told(on: Story) -> None:
    """A line in the log, with the template filled."""
    assert 202 == on.post("writer", {"type": "news", "headline": "all is well"}).status
    assert on.relay.heard("rule.told", rule="news", channel="log", text="ALL IS WELL (writer)")


def test_a_shadow_sends_nothing(on: Story) -> None:
    """What it would have sent is kept with the event; rules below act."""
    key, event = failed_file(on)
    row = on.event(on.post("writer", event | {"folder": "shown"}).event)
    shown = next(part for part in row["parts"] if part["rule"] == "show only")
    assert ("shadow", "writer.retry") == (shown["does"], shown["what"])
    assert shown["why"].startswith("would call: POST http")
    assert key in shown["why"]
    assert Stand.RECOVERED is on.ended(key).state
    assert {"show only"}.isdisjoint(case.rule for case in on.cases())


def test_one_event_may_make_several_calls(on: Story) -> None:
    """Each resource is a case of its own, and both recover."""
    other, _ = failed_file(on)
    key = fails(on, folder="both", other_id=other)
    assert [Stand.RECOVERED] * 2 == [on.ended(one).state for one in (key, other)]


def test_open_windows_show(on: Story) -> None:
    """What is in one, how many it takes, and until when."""
    assert "no windows\n" == on.shell("windows", "--db", f"sqlite:///{on.db}").stdout
    told = on.post("writer", {"type": "alarm", "disk": "sda"})
    (row,) = json.loads(on.shell("windows", "--db", f"sqlite:///{on.db}", "--json").stdout)["items"]
    assert ("many", "accumulate_within", "sda") == (row["rule"], row["kind"], row["key"])
    assert (1, 3, told.event) == (row["events"], row["threshold"], row["event"])
    shown = on.shell("windows", "--db", f"sqlite:///{on.db}").stdout
    assert ["many", "accumulate_within", "sda", "1", "of", "3"] == shown.splitlines()[1].split()[:6]
