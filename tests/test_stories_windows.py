"""What do windows of rules do on real sockets?  They act once for many events, also over `kill -9`."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest
from story import Story, failed_file, fails, healing, sent, until

RULES = """
[[rule]]
name = "bundle"
from = "writer"
when.folder = "bundle"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
throttle = { once_after = "2s", by = "{file_id}" }
tell = "log"
say = "{$count} failed: {$events.*.file_id|join:\\" \\"}"
stop = true

[[rule]]
name = "bundled later"
from = "writer"
when.folder = "later"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
throttle = { once_after = "1h" }
stop = true

[[rule]]
name = "first only"
from = "writer"
when.folder = "first"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
throttle = { once_within = "1h", by = "{owner}" }
stop = true

[[rule]]
name = "never done"
from = "writer"
when.type = "export.started"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
expect = { when = { type = "export.done" }, within = "1s", by = "{file_id}", seen_by = "{file_id}" }
"""


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Story]:
    """Run a relay with these rules before the demo's."""
    with healing(tmp_path, RULES) as told:
        yield told


def test_what_comes_within_a_window_is_one_call(on: Story) -> None:
    """It goes out when the window is over, for the first; who is told hears of all."""
    first = fails(on, folder="bundle")
    second = fails(on, folder="bundle")
    before = len(sent(on.writer))
    on.ended(first)

    (told,) = on.relay.heard("rule.told")
    assert (0, 1) == (before, len(sent(on.writer)))
    assert f"2 failed: {first} {second}" == told["text"]
    assert 2 == on.relay.heard("window.acted", rule="bundle")[0]["events"]
    assert [] == on.store().spans()


def test_a_window_acts_once_though_relay_was_killed_in_it(on: Story) -> None:
    """It ended while nobody ran: the next start makes up for it, and the one after that does not."""
    first = fails(on, folder="later")
    fails(on, folder="later")
    on.relay.kick(SIGKILL)
    on.relay.ended()
    on.start(later_s=3_601)
    on.ended(first)
    on.relay.kick(SIGKILL)
    on.relay.ended()
    on.start(later_s=2 * 3_601)
    on.relay.heard("relay.started")

    assert ([first], 1) == ([case.key for case in on.cases()], len(sent(on.writer)))
    assert [] == on.store().spans()


def test_a_window_that_is_open_still_passes_over_after_a_restart(on: Story) -> None:
    """Whose events were passed over, and until when, is with each event."""
    first = fails(on, folder="first", owner="ann")
    on.ended(first)
    on.relay.kick(SIGKILL)
    on.relay.ended()
    on.start()
    fails(on, folder="first", owner="ann")
    other = fails(on, folder="first", owner="bob")
    on.ended(other)

    assert [other, first] == [case.key for case in on.cases()]
    assert ["matched", "suppressed", "matched"] == [row["decision"] for row in on.events()]


def test_only_what_did_not_come_is_called_for(on: Story) -> None:
    """Of two that were begun, one says that it is done."""
    done, lost = failed_file(on)[0], failed_file(on)[0]
    for key, what in ((done, "started"), (lost, "started"), (done, "done")):
        assert 202 == on.post("writer", {"type": f"export.{what}", "file_id": key}).status
    until(lambda: not on.store().spans(), "the end of the window")
    on.ended(lost)

    assert ([lost], 1) == ([case.key for case in on.cases()], len(sent(on.writer)))
