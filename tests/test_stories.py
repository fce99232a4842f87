"""A failure comes in, the provider's own retry call goes out: Writer, and what is common to all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from story import Story, failed_file, sent, story, until

from relay.call import State
from relay.demo.flatfile import forwarded
from relay.demo.sim import Fault

RULES = """
[[rule]]
name = "and the job that made the file"
from = "writer"
when.type = "file.failed"
call = "flatfile.retry"
with.job_id = "us_jb_{file_id}"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One relay without luck for several short stories."""
    with story(tmp_path_factory.mktemp("shared")) as on:
        on.start(luckless=True)
        yield on


def test_a_failed_file_is_asked_for_again(tmp_path: Path) -> None:
    """A failure event makes one call, with one file in it, and the call is done when Writer takes it."""
    with story(tmp_path) as on:
        on.start()
        key, event = failed_file(on)

        call = on.settled(on.post("writer", event))

        assert (State.DONE, "200: accepted", 1) == (call.state, call.why, call.tries)
        assert ["send done"] == on.tries(call)
        assert {key: 1} == on.writer.retries
        assert b'{"file_ids":["%s"]}' % key.encode() == on.writer.calls[0].body


def test_success_false_is_the_end(tmp_path: Path) -> None:
    """200 with `success: false` is no success, and asking again would not help."""
    with story(tmp_path) as on:
        on.start()
        _, event = failed_file(on)
        on.writer.faults.append(Fault(status=200, body='{"success": false}'))

        call = on.settled(on.post("writer", event))

        assert (State.DEAD, "200: Writer answered success: false") == (call.state, call.why)
        assert 1 == len(on.writer.calls)


@pytest.mark.parametrize("asked", ["1", "1.25"])
def test_retry_after_is_obeyed(shared: Story, asked: str) -> None:
    """After a 429 nobody calls before the time that it asks for, and waiting spends no try."""
    _, event = failed_file(shared)
    shared.writer.faults.append(Fault(status=429, headers={"Retry-After": asked}))

    call = shared.settled(shared.post("writer", event))

    first, second = sent(shared.writer)[-2:]
    assert second - first >= float(asked)
    assert (State.DONE, 1) == (call.state, call.tries)
    assert ["send retry", "send done"] == shared.tries(call)


@pytest.mark.parametrize(("heals_after_s", "why"), [(30.0, "it is running again"), (0.0, "it has recovered")])
@pytest.mark.parametrize("fault", [Fault(status=500, after=True), Fault(reset=True, after=True)])
def test_work_that_was_done_is_not_done_twice(
    shared: Story, fault: Fault, heals_after_s: float, why: str
) -> None:
    """A 500 or a broken connection after the work: unknown, so look; it is under way or done, so no more."""
    key, event = failed_file(shared)
    shared.writer.heals_after_s = heals_after_s
    shared.writer.faults.append(fault)

    call = shared.settled(shared.post("writer", event))

    assert (State.DONE, why) == (call.state, call.why)
    assert ["send unknown", "look done"] == shared.tries(call)
    assert 1 == shared.writer.retries[key]


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(reset=True)])
def test_work_that_was_not_done_is_asked_for_again(shared: Story, fault: Fault) -> None:
    """A 500 or a broken connection before the work: unknown, so look; it has still failed, so send again."""
    key, event = failed_file(shared)
    shared.writer.faults.append(fault)

    call = shared.settled(shared.post("writer", event))

    assert State.DONE is call.state
    assert ["send unknown", "look retry", "send done"] == shared.tries(call)
    assert 1 == shared.writer.retries[key]


def test_a_provider_that_is_down_costs_no_try(tmp_path: Path) -> None:
    """While nobody listens, the call waits, and its tries are kept for when somebody does."""
    with story(tmp_path) as on:
        on.start(luckless=True)
        key, event = failed_file(on)
        port = int(on.rules.providers["writer"].base_url.rpartition(":")[2])
        on.writer.stop()

        told = on.post("writer", event)
        until(lambda: on.tries(on.call(told))[:2] == ["send retry"] * 2, "two calls found nobody")
        tries = on.call(told).tries
        on.writer.start(port)
        call = on.settled(told)

        assert (0, 1) == (tries, call.tries)
        assert (State.DONE, {key: 1}) == (call.state, on.writer.retries)
        assert not on.relay.said("provider.down")


def test_two_rules_make_two_calls(tmp_path: Path) -> None:
    """One event that two rules want makes a call for each, and each goes its own way."""
    with story(tmp_path, rules=RULES) as on:
        on.start()
        key, event = failed_file(on)
        on.flatfile.add(f"us_jb_{key}")

        told = on.post("writer", event)
        calls = on.all_done()

        assert 2 == told.said["calls"]
        assert {("writer", told.event), ("flatfile", told.event)} == {(c.provider, c.event) for c in calls}
        assert ({key: 1}, {f"us_jb_{key}": 1}) == (on.writer.retries, on.flatfile.retries)


def test_a_rate_limit_survives_a_restart(tmp_path: Path) -> None:
    """What was called before a restart counts after it."""
    with story(tmp_path, writer={"limit": {"rate": "1/3s", "burst": 1}}) as on:
        on.start()
        first = on.settled(on.post("writer", failed_file(on)[1]))
        second = on.post("writer", failed_file(on)[1])

        assert 0 == on.relay.end()
        on.start()
        later = on.settled(second)

        assert on.attempts(later)[0].began_at - on.attempts(first)[0].began_at >= 3000


def test_retry_after_survives_a_restart(tmp_path: Path) -> None:
    """A Retry-After holds for all calls of the provider, of later events and the next process too."""
    with story(tmp_path) as on:
        on.start()
        on.writer.faults.append(Fault(status=429, headers={"Retry-After": "3"}))
        told = on.post("writer", failed_file(on)[1])
        until(lambda: on.tries(on.call(told)) == ["send retry"], "it was told to wait")

        assert 0 == on.relay.end()
        on.start()
        on.post("writer", failed_file(on)[1])
        on.all_done()

        first, *rest = sent(on.writer)
        assert 2 == len(rest)
        assert min(rest) - first >= 3


def test_one_black_hole_swallows_only_its_own(tmp_path: Path) -> None:
    """A provider that never answers holds up its own calls, and nobody else's (I9)."""
    with story(tmp_path) as on:
        on.start("--grace", "0")
        on.writer.faults.extend([Fault(hang=True)] * 40)
        for _ in range(40):
            on.post("writer", failed_file(on)[1])
        until(lambda: len(on.writer.calls) >= 8, "all of Writer's places are taken")

        for number in range(10):
            on.flatfile.add(f"us_jb_{number}")
        others = [on.post("flatfile", forwarded(event, "sk_live")) for event in on.flatfile.events()]
        calls = [on.settled(told, within_s=5) for told in others]

        assert {State.DONE} == {call.state for call in calls}
        assert max(call.settled_at - call.created_at for call in calls if call.settled_at) < 1000
        assert 8 == len(on.writer.calls)
