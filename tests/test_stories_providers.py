"""What each of Flatfile, DocFlow and X-Pkg asks for beside the plain call, on real sockets."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from story import Story, Told, sent, story, until

from relay.call import State
from relay.demo.flatfile import forwarded
from relay.demo.sim import Fault

LIVE = "sk_live_which_the_forwarder_posts"
QUICK = {"limit": {"rate": "100/s"}}

A_MOMENT_AGO = Fault(status=200, body='{"versionData": {"status": "failed_server"}}')
"""What a look at X-Pkg shows that is no longer so when the call comes."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One relay for several short stories, and for three uploads: X-Pkg takes no more in 8 seconds."""
    with story(tmp_path_factory.mktemp("shared"), xpkg=QUICK) as on:
        on.start()
        yield on


def failed_job(on: Story, key: str) -> dict[str, Any]:
    """Put a failed job into Flatfile and return the event, as the forwarder posts it."""
    on.flatfile.add(key)
    return forwarded(on.flatfile.events()[-1], LIVE)


def failed_task(on: Story, key: str, **facts: Any) -> Told:
    """Put a task into DocFlow, and post the callback that says it failed."""
    on.docflow.add(key, **facts)
    return on.post("docflow", {"task_id": key, "status": "failed"})


# -- Flatfile --


def test_a_failed_job_is_retried_and_its_token_forgotten(tmp_path: Path) -> None:
    """Look and retry disable hooks; the event's live token is neither on disk nor in the log."""
    with story(tmp_path) as on:
        on.start()
        event = failed_job(on, "us_jb_1")

        told = on.post("flatfile", event)
        call = on.settled(told)
        again = on.post("flatfile", event)
        other = on.post("flatfile", event | {"topic": "job:updated", "src": {"id": "us_evt_other"}})
        broken = on.post("flatfile", json.dumps(event).encode()[:60])
        running = b"".join(path.read_bytes() for path in tmp_path.glob("relay.db*"))
        assert 0 == on.relay.end()
        stopped = b"".join(path.read_bytes() for path in tmp_path.glob("relay.db*"))

        look, retry = on.flatfile.calls
        assert ("GET", "/v1/jobs/us_jb_1", "true") == (
            look.method,
            look.path,
            look.headers["x-disable-hooks"],
        )
        assert ("POST", "/v1/jobs/us_jb_1/retry", 0) == (retry.method, retry.path, retry.body_bytes)
        assert "true" == retry.headers["x-disable-hooks"]
        assert (State.DONE, {"us_jb_1": 1}) == (call.state, on.flatfile.retries)
        assert (202, 200, told.event) == (told.status, again.status, again.event)
        assert (202, "no_rule", 0) == (other.status, on.event(other.event)["decision"], other.said["calls"])
        assert "unparsable" == on.event(broken.event)["decision"]
        assert b"us_jb_1" in running
        for kept in (running, stopped, on.relay.text.encode()):
            assert LIVE[:12].encode() not in kept


def test_a_wrong_key_pauses_the_provider_once(tmp_path: Path) -> None:
    """When the key is refused, that is said once, the events wait, and all are done once the key is right."""
    with story(tmp_path) as on:
        on.start(FLATFILE_API_KEY="a-key-that-was-withdrawn")
        for number in range(20):
            on.post("flatfile", failed_job(on, f"us_jb_{number}"))
        until(lambda: on.gate("flatfile").paused, "it is paused")
        assert 0 == on.relay.end()
        waiting = on.calls()
        refused = len(on.flatfile.calls)
        paused = on.relay.said("provider.paused")
        on.start()
        done = on.all_done()

        assert 1 == len(paused)
        assert refused <= 5
        assert [(State.QUEUED, 0)] * 20 == [(call.state, call.tries) for call in waiting]
        assert [1] * 20 == [call.tries for call in done] == list(on.flatfile.retries.values())
        assert 1 == len(on.relay.said("provider.resumed"))


# -- DocFlow --


def test_a_task_is_looked_at_first(shared: Story) -> None:
    """A retry overwrites results, so its state is read before it is sent."""
    before = len(shared.docflow.calls)

    call = shared.settled(failed_task(shared, "1978297791713619968"))

    assert (State.DONE, ["look retry", "send done"]) == (call.state, shared.tries(call))
    assert ["GET", "POST"] == [seen.method for seen in shared.docflow.calls[before:]]
    assert 1 == shared.docflow.retries["1978297791713619968"]


@pytest.mark.parametrize(
    ("facts", "state", "why"),
    [
        ({"task_type": 0}, State.DEAD, "a child task can't be retried: retry its parent"),
        ({"task_type": 3}, State.DEAD, "a child task can't be retried: retry its parent"),
        ({"status": "recovered"}, State.DONE, "it recovered by itself: not called"),
        ({"status": "running"}, State.DONE, "it is running already: not called"),
        ({"status": 4}, State.DONE, "it is running already: not called"),
    ],
)
def test_what_must_not_be_retried_is_never_called(
    shared: Story, facts: dict[str, Any], state: State, why: str
) -> None:
    """A child task, a task that went well meanwhile and one in flight are only looked at."""
    posts = len(sent(shared.docflow))

    call = shared.settled(failed_task(shared, str(10**18 + len(shared.docflow.held)), **facts))

    assert (state, why) == (call.state, call.why)
    assert posts == len(sent(shared.docflow))


def test_too_many_calls_a_second_wait_three(shared: Story) -> None:
    """Code 40306 comes with HTTP 200, and means to wait for 3 s."""
    shared.docflow.faults.append(Fault(status=200, body='{"code": 40306, "msg": "qps limit exceeded"}'))

    call = shared.settled(failed_task(shared, "1978297791713619001"))

    first, second = sent(shared.docflow)[-2:]
    assert second - first >= 3
    assert (State.DONE, 1) == (call.state, shared.docflow.retries["1978297791713619001"])


def test_a_wrong_secret_told_with_a_200_pauses_too(tmp_path: Path) -> None:
    """DocFlow refuses even a look with HTTP 200: its events wait for the right secret, and none dies."""
    with story(tmp_path, docflow=QUICK) as on:
        on.start(DOCFLOW_SECRET_CODE="a-secret-that-was-withdrawn")
        for number in range(20):
            on.docflow.add(key := str(10**18 + number))
            on.post("docflow", {"task_id": key, "status": "failed"})
        until(lambda: on.gate("docflow").paused, "it is paused")
        assert 0 == on.relay.end()
        waiting, refused = on.calls(), len(on.docflow.calls)
        paused = on.relay.said("provider.paused")
        on.start()
        done = on.all_done()

        assert 1 == len(paused)
        assert refused <= 5
        assert [(State.QUEUED, 0)] * 20 == [(call.state, call.looks) for call in waiting]
        assert [1] * 20 == [call.tries for call in done] == list(on.docflow.retries.values())


def test_wrong_parameters_are_the_end(shared: Story) -> None:
    """Code 40004 comes with HTTP 200, and no later call would fare better."""
    posts = len(sent(shared.docflow))
    shared.docflow.faults.append(Fault(status=200, body='{"code": 40004, "msg": "bad parameters"}'))

    call = shared.settled(failed_task(shared, "1978297791713619002"))

    assert (State.DEAD, "200: DocFlow refuses the parameters (40004)") == (call.state, call.why)
    assert posts + 1 == len(sent(shared.docflow))


def test_a_signed_request_is_taken(tmp_path: Path) -> None:
    """With auth = "signature" DocFlow takes look and call, and the secret code stays here."""
    with story(tmp_path, docflow={"auth": "signature"}) as on:
        on.start()

        call = on.settled(failed_task(on, "1978297791713619968"))

        assert (State.DONE, ["look retry", "send done"]) == (call.state, on.tries(call))
        for seen in on.docflow.calls:
            assert on.docflow.secret_code not in str(seen)


# -- X-Pkg --


PACKAGES = int(os.environ.get("RELAY_TEST_PACKAGES", "8"))
"""Each takes two calls, and three calls take 8.5 seconds: `.ci/run full` has 20."""


def test_many_packages_keep_the_limit(tmp_path: Path) -> None:
    """Of many failures at once no four calls fall into any 8 seconds, none is refused, and all arrive."""
    with story(tmp_path) as on:
        on.start()
        for number in range(1, PACKAGES + 1):
            on.post("xpkg", on.pack("example.package", f"1.{number}"))

        calls = on.all_done(within_s=140)

        at = sorted([*sent(on.xpkg), *sent(on.xpkg, "GET")])
        assert [["look retry", "send done"]] * PACKAGES == [on.tries(call) for call in calls]
        assert {200, 204} == {seen.status for seen in on.xpkg.calls}
        assert min(later - early for early, later in zip(at, at[3:], strict=False)) > 8
        assert [1] * PACKAGES == list(on.xpkg.retries.values())


@pytest.mark.parametrize("status", ["processing", "processed"])
def test_a_retry_of_somebody_else_is_as_good(shared: Story, status: str) -> None:
    """`cant_retry` means that the version is being processed, or is: nothing is left to do."""
    event = shared.pack("example.package1", f"2.{len(status)}")
    shared.xpkg.held[f"example.package1@2.{len(status)}.0"].status = status
    shared.xpkg.read_faults.append(A_MOMENT_AGO)

    call = shared.settled(shared.post("xpkg", event))

    assert ["look retry", "send done"] == shared.tries(call)
    assert call.why.startswith("400: the registry is processing this version, or has processed it")


@pytest.mark.parametrize(
    ("looked", "tries", "said"),
    [([], ["look dead"], ""), ([A_MOMENT_AGO], ["look retry", "send dead"], "400: ")],
)
def test_a_version_that_is_not_there_is_the_end(
    shared: Story, looked: list[Fault], tries: list[str], said: str
) -> None:
    """`version_not_exist` will not change, whether the look finds it or the call does."""
    event = shared.pack("example.package2", f"1.{len(tries)}")
    del shared.xpkg.held[f"example.package2@1.{len(tries)}.0"]
    shared.xpkg.read_faults.extend(looked)

    call = shared.settled(shared.post("xpkg", event))

    assert (State.DEAD, f"{said}the registry has no such package or version") == (call.state, call.why)
    assert tries == shared.tries(call)


def test_an_upload_without_an_answer_is_looked_up(tmp_path: Path) -> None:
    """The server takes the zip and never answers: look; it is processing, so it is not uploaded again."""
    with story(tmp_path, xpkg=QUICK | {"timeouts": {"read": 1}}) as on:
        on.start()
        on.xpkg.faults.append(Fault(hang=True))

        call = on.settled(on.post("xpkg", on.pack("example.package3", "1.0")))

        assert (State.DONE, "it is running again") == (call.state, call.why)
        assert ["look retry", "send unknown", "look done"] == on.tries(call)
        assert {"example.package3@1.0.0": 1} == on.xpkg.retries


def test_a_missing_zip_is_our_own_fault(shared: Story) -> None:
    """Without the file nothing is uploaded, nor X-Pkg held to be ill; the call says which file it was."""
    event = shared.pack("example.package4", "1.0")
    (shared.folder / "packages" / "example.package4-1.0.zip").unlink()
    before, uploads = shared.gate("xpkg").failures, len(sent(shared.xpkg))

    call = shared.settled(shared.post("xpkg", event), within_s=5)

    assert State.DEAD is call.state
    assert "example.package4-1.0.zip" in call.why
    assert (0, uploads, before) == (call.tries, len(sent(shared.xpkg)), shared.gate("xpkg").failures)


def test_a_fractional_retry_after_is_obeyed(tmp_path: Path) -> None:
    """X-Pkg asks for fractions of a second, and gets them."""
    with story(tmp_path, xpkg=QUICK) as on:
        on.start(luckless=True)
        on.xpkg.faults.append(Fault(status=429, headers={"Retry-After": "1.513"}, body="Too Many Requests"))

        call = on.settled(on.post("xpkg", on.pack("example.package5", "1.0")))

        first, second = sent(on.xpkg)
        assert second - first >= 1.513
        assert (State.DONE, 1) == (call.state, call.tries)
