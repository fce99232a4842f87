"""What a case waits for: a yes, its hours, the end of a snooze; and that it goes on after `kill -9`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGKILL

import pytest
from story import SOON, Story, failed_file, sent, story, until

from relay.call import State
from relay.case import Stand
from relay.demo.sim import Fault

RULE = """
[[rule]]
name = "files {folder}"
from = "writer"
when.type = "file.failed"
when.folder = "{folder}"
case = "{{file_id}}"
call = "writer.retry"
with.file_id = "{{file_id}}"
{terms}
"""
"""A file of each folder has terms of its own."""

HOUR_S = 3600.0


def rules(**terms: str) -> str:
    """Return a rule for each folder."""
    return "".join(RULE.format(folder=folder, terms=said) for folder, said in terms.items())


def fails(on: Story, folder: str, *outcomes: str) -> str:
    """Let a file of a folder fail, post it, and return its id."""
    key, event = failed_file(on, outcomes=outcomes)
    assert 202 == on.post("writer", event | {"folder": folder}).status
    return key


def kill(on: Story) -> None:
    """End the relay as a power cut does."""
    on.relay.kick(SIGKILL)
    on.relay.ended()


# -- a person's yes --


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Story]:
    """Let files wait for a yes, for an hour at most."""
    then = ("ask", "approve", "reject")
    terms = {one: f'approve = {{ within = "1h", then = "{one}" }}' for one in then}
    with story(tmp_path, heals_after_s=0.1, first=rules(**terms), writer=SOON) as on:
        on.start()
        yield on


def test_what_is_held_goes_on_a_yes(held: Story) -> None:
    """Nothing goes out before the yes, and it goes at once then; the timeline says whose it was."""
    key = fails(held, "ask")
    waiting, calls = held.stands(key, Stand.OPEN), len(held.writer.calls)

    told = held.shell("approve", key, "--why", "looks right")
    case = held.ended(key)

    assert ("it failed: retry 1 of 3 waits for a yes", 0) == (waiting.why, calls)
    assert (0, "") == (told.exit_code, told.stderr)
    assert (Stand.RECOVERED, 1) == (case.state, case.retries)
    assert ["opened", "released", "send done", "accepted", "check done", "recovered"] == held.way(key)
    assert [("ann", "looks right")] == [(one.by, one.what) for one in held.moments(key) if one.by]


def test_what_is_held_ends_on_a_no(held: Story) -> None:
    """A no closes the case: nothing was sent, and nothing is held any more."""
    key = fails(held, "ask")

    told = held.shell("reject", key)
    case = held.case(key)

    assert 0 == told.exit_code
    assert (Stand.CLOSED, "ann said no", 0) == (case.state, case.why, case.retries)
    assert [] == held.writer.calls
    assert [State.CANCELLED] == [call.state for call in held.calls()]
    assert 1 == held.shell("approve", key).exit_code


def test_nobody_says_yes_or_no(held: Story) -> None:
    """When the time for it is over, the rule says what then; that holds over a restart, too."""
    ask, approve, reject = (fails(held, folder) for folder in ("ask", "approve", "reject"))
    kill(held)
    held.start(later_s=HOUR_S + 1)

    asked, approved, rejected = held.stands(ask, Stand.NEEDS_PERSON), held.ended(approve), held.ended(reject)
    told = held.shell("approve", ask)
    late = held.ended(ask)

    assert "nobody said yes or no in time" == asked.why
    assert (Stand.RECOVERED, 1) == (approved.state, approved.retries)
    assert (Stand.CLOSED, "nobody said yes in time") == (rejected.state, rejected.why)
    assert (0, Stand.RECOVERED) == (told.exit_code, late.state)
    assert {ask: 1, approve: 1} == held.writer.retries


# -- its time --


def test_outside_its_hours_nothing_is_sent(tmp_path: Path) -> None:
    """Hours that are closed now: the case says when they open, and goes out then, not before."""
    opens = (datetime.now(UTC) + timedelta(days=3)).replace(hour=8, minute=0, second=0, microsecond=0)
    only = f'only = "{opens:%a} 08:00-20:00 UTC"'
    with story(tmp_path, heals_after_s=0.1, first=rules(night=only), writer=SOON) as on:
        on.start()
        key = fails(on, "night")
        waiting = json.loads(on.shell("case", key, "--json").stdout)
        calls = len(on.writer.calls)
        # Another one, which may go at any time, goes its whole way meanwhile.
        free, event = failed_file(on)
        on.post("writer", event)
        on.ended(free)
        still = on.case(key)
        assert 0 == on.relay.end()
        on.start(later_s=(opens - datetime.now(UTC)).total_seconds() + 60)
        case = on.ended(key)

        assert ("open", f"{opens:%Y-%m-%dT%H:%M:%S}.000Z") == (waiting["state"], waiting["next_at"])
        assert waiting["why"].startswith("it failed: retry 1 of 3 waits for its hours, ")
        assert (0, Stand.OPEN) == (calls, still.state)
        assert (Stand.RECOVERED, 1) == (case.state, case.retries)


def test_a_person_need_not_wait_for_the_hours(tmp_path: Path) -> None:
    """`relay retry` means now."""
    opens = datetime.now(UTC) + timedelta(days=3)
    only = f'only = "{opens:%a} 08:00-20:00 UTC"'
    with story(tmp_path, heals_after_s=0.1, first=rules(night=only), writer=SOON) as on:
        on.start()
        key = fails(on, "night")

        told = on.shell("retry", key)

        assert (0, Stand.RECOVERED) == (told.exit_code, on.ended(key).state)


def test_a_snooze_is_kept(tmp_path: Path) -> None:
    """Who snoozes a case hears nothing of it until then, and then it goes on by itself."""
    terms = 'budget = { retries = 1, within = "1h", wait = ["2s"] }'
    with story(tmp_path, heals_after_s=0.1, first=rules(slow=terms), writer=SOON) as on:
        on.start()
        key = fails(on, "slow")
        told = on.act(key, "snooze", **{"for": "4s", "why": "they are at it"})
        began = datetime.now(UTC).timestamp()
        asleep = on.case(key)
        case = on.ended(key)

        assert (200, Stand.OPEN) == (told.status, asleep.state)
        assert asleep.why.startswith("snoozed until ")
        assert asleep.why.endswith(": they are at it")
        assert (Stand.RECOVERED, 1) == (case.state, case.retries)
        assert sent(on.writer)[0] - began >= 3.9
        assert ["opened", "snoozed", "send done", "accepted", "check done", "recovered"] == on.way(key)


# -- kill -9 while it waits --

STATES = rules(
    hold="approve = true",
    slow='budget = { retries = 1, within = "1h", wait = ["1m"] }',
    untold='recover_within = "1500ms"',
    doubt="",
    taken="",
)


def test_it_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    """Whatever a case waits for, a relay that was killed and started again waits on, and each recovers."""
    with story(tmp_path, first=STATES, writer=SOON) as on:
        on.start()
        hold, slow, untold = (fails(on, folder) for folder in ("hold", "slow", "untold"))
        on.stands(untold, Stand.NEEDS_PERSON)
        taken = fails(on, "taken")
        on.stands(taken, Stand.WATCHING)
        on.writer.faults.append(Fault(hang=True))
        doubt = fails(on, "doubt")
        until(lambda: on.writer.retries[doubt], "the call is out")
        before = [on.case(key).state for key in (hold, slow, untold, taken, doubt)]
        kill(on)
        for key in (untold, taken, doubt):
            on.writer.held[key].busy_until = 0  # what was running is well now
        on.writer.heals_after_s = 0.1

        on.start(later_s=60)
        after = [on.case(key).state for key in (hold, untold)]
        assert [0, 0] == [on.shell(act, key).exit_code for act, key in (("approve", hold), ("retry", untold))]
        cases = [on.ended(key) for key in (hold, slow, untold, taken, doubt)]

        stood = [Stand.OPEN, Stand.OPEN, Stand.NEEDS_PERSON, Stand.WATCHING, Stand.RETRYING]
        assert (stood, [Stand.OPEN, Stand.NEEDS_PERSON]) == (before, after)
        assert [Stand.RECOVERED] * 5 == [case.state for case in cases]
        assert {hold: 1, slow: 1, untold: 2, taken: 1, doubt: 1} == on.writer.retries
        assert ["opened", "send unknown", "look done", "recovered"] == on.way(doubt)
