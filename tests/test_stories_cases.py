"""A 2xx is not the end: how a case goes on until its resource is well, or a person must look."""

import json
import time
from pathlib import Path

import pytest
from story import SOON, Story, failed_file, forward, sent, story, until

from relay.case import Stand
from relay.demo.flatfile import forwarded

FILES = """
[[rule]]
name = "files, in a hurry"
from = "writer"
when.type = "file.failed"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
"""
JOBS = """
[[rule]]
name = "jobs, in a hurry"
from = "flatfile"
when.topic = "job:failed"
case = "{context.jobId}"
call = "flatfile.retry"
with.job_id = "{context.jobId}"
"""
HURRY = 'budget = { retries = 3, within = "24h", wait = ["0s", "300ms"] }\n'
"""Hours become parts of a second."""


def failed_job(on: Story, key: str, *outcomes: str) -> None:
    """Let a job fail at Flatfile, and its forwarder say so."""
    on.flatfile.add(key, outcomes=outcomes)
    assert 202 == on.post("flatfile", forwarded(on.flatfile.events()[-1], "sk_live")).status


def file_fails(on: Story, *outcomes: str) -> str:
    """Let a file fail at Writer, post it, and return its id."""
    key, event = failed_file(on, outcomes=outcomes)
    assert 202 == on.post("writer", event).status
    return key


# -- the ways to recovery --


def test_a_webhook_says_that_it_recovered(tmp_path: Path) -> None:
    """A recovery event ends the case, long before the check would; the check is withdrawn."""
    with story(tmp_path, heals_after_s=0.3) as on:
        forward(on)
        on.start()
        failed_job(on, "us_jb_1")

        case = on.ended("us_jb_1")

        assert (Stand.RECOVERED, "an event says that it recovered", 1) == (case.state, case.why, case.retries)
        assert ["opened", "look retry", "send done", "accepted", "recovered"] == on.way("us_jb_1")
        assert ["GET", "POST"] == [seen.method for seen in on.flatfile.calls]
        (line,) = on.relay.heard("case.recovered", key="us_jb_1")
        assert case.ended_at is not None
        assert (case.id, 1, case.ended_at - case.opened_at) == (
            line["case"],
            line["retries"],
            line["took_ms"],
        )
        assert not [call for call in on.store().calls() if call.settled_at is None]


def test_a_check_says_that_it_recovered(tmp_path: Path) -> None:
    """A provider that tells nothing is asked after the retry, until it says that the file is well."""
    with story(tmp_path, heals_after_s=0.5, writer=SOON) as on:
        on.start()
        key = file_fails(on)

        case = on.ended(key)

        assert (Stand.RECOVERED, "it has recovered", 1) == (case.state, case.why, case.retries)
        assert ["opened", "send done", "accepted", "check done", "recovered"] == on.way(key)
        assert {key: 1} == on.writer.retries
        assert 2 <= len(sent(on.writer, "GET")) <= 5
        assert 1 == len(on.relay.heard("case.recovered", key=key))


def test_a_check_says_that_it_failed_again(tmp_path: Path) -> None:
    """What failed again is retried on the case's own clock, looked at first, and recovers."""
    with story(tmp_path, heals_after_s=0.3, first=FILES + HURRY, writer=SOON) as on:
        on.start()
        key = file_fails(on, "failed")

        case = on.ended(key)

        again = ["failed_again", "look retry", "send done", "accepted", "check done"]
        assert (Stand.RECOVERED, 2) == (case.state, case.retries)
        assert ["opened", "send done", "accepted", "check done", *again, "recovered"] == on.way(key)
        first, second = sent(on.writer)
        assert second - first >= 0.3 + 0.3  # it failed after so long, and the retry waits so long
        assert {key: 2} == on.writer.retries


def test_a_webhook_says_that_it_failed_again(tmp_path: Path) -> None:
    """A failure event after an accepted retry is no new case: it uses the budget of the one there is."""
    with story(tmp_path, heals_after_s=0.3, first=JOBS + HURRY) as on:
        forward(on)
        on.start()
        failed_job(on, "us_jb_1", "failed")

        case = on.ended("us_jb_1")

        tried = ["look retry", "send done", "accepted"]
        assert (Stand.RECOVERED, 2, 1) == (case.state, case.retries, len(on.cases()))
        # The event is a hint: the provider is asked at once whether it is so.
        asked = ["joined", "check done", "failed_again"]
        assert ["opened", *tried, *asked, *tried, "recovered"] == on.way("us_jb_1")
        assert {"us_jb_1": 2} == on.flatfile.retries


def test_it_recovered_before_we_called(tmp_path: Path) -> None:
    """An unsigned hint costs a read at most: what is well already is not called."""
    with story(tmp_path) as on:
        on.start()
        on.flatfile.add("us_jb_1")
        event = forwarded(on.flatfile.events()[-1], "sk_live")
        on.flatfile.held["us_jb_1"].status = "recovered"

        on.post("flatfile", event)
        case = on.ended("us_jb_1")

        assert (Stand.RECOVERED, "it recovered by itself: not called") == (case.state, case.why)
        assert (0, []) == (case.retries, sent(on.flatfile))
        assert ["opened", "look done", "recovered"] == on.way("us_jb_1")


def test_a_retry_of_somebody_else_was_running(tmp_path: Path) -> None:
    """What runs already is watched, not called; and it recovers."""
    with story(tmp_path, heals_after_s=1.0, flatfile=SOON) as on:
        on.start()
        job = on.flatfile.add("us_jb_1")
        event = forwarded(on.flatfile.events()[-1], "sk_live")
        on.flatfile.run(job)

        on.post("flatfile", event)
        watching = on.stands("us_jb_1", Stand.WATCHING)
        case = on.ended("us_jb_1")

        assert "it is running already: not called" == watching.why
        assert (Stand.RECOVERED, 0, []) == (case.state, case.retries, sent(on.flatfile))
        assert ["opened", "look done", "accepted", "check done", "recovered"] == on.way("us_jb_1")


# -- the ways to a person --


def test_it_gives_up_once(tmp_path: Path) -> None:
    """A job that fails for ever gets its budget and no more, whatever is posted; it is said once, loudly."""
    with story(tmp_path, heals_after_s=0.1, first=JOBS + HURRY) as on:
        forward(on)
        on.start()
        failed_job(on, "us_jb_1", *["failed"] * 9)

        case = on.ended("us_jb_1")
        calls = len(on.flatfile.calls)
        for number in range(5):
            event = forwarded(on.flatfile.events()[-1], "sk_live")
            later = on.post("flatfile", event | {"src": {"id": f"us_evt_later_{number}"}})
            assert (202, 0) == (later.status, later.said["calls"])
        assert 0 == on.relay.end()

        why = "it failed again, and its budget is spent: 3 retries within 24 h"
        assert (Stand.GAVE_UP, why, 3) == (case.state, case.why, case.retries)
        assert ({"us_jb_1": 3}, calls) == (on.flatfile.retries, len(on.flatfile.calls))
        assert 1 == len(on.cases())
        assert ["joined"] * 5 == on.way("us_jb_1")[-5:]
        (line,) = on.relay.heard("case.gave_up")
        assert ("error", case.id, 3, why) == (line["level"], line["case"], line["retries"], line["why"])


def stuck(on: Story) -> str:
    """Let a file fail of which nobody says what came of its retry; return its key when a person is asked."""
    on.writer.heals_after_s = 60
    key = file_fails(on)
    case = on.stands(key, Stand.NEEDS_PERSON)
    assert "nothing says whether it recovered, and the time for it is over" == case.why
    assert 1 == len(on.relay.heard("case.needs_person", key=key))
    return key


UNTOLD = FILES + 'recover_within = "1500ms"\n'


def test_nobody_says_and_a_person_retries(tmp_path: Path) -> None:
    """What was never said to be well needs a person; their retry goes out at once, and it recovers."""
    with story(tmp_path, first=UNTOLD, writer=SOON) as on:
        on.start()
        key = stuck(on)
        on.writer.heals_after_s = 0.1
        told = on.shell("retry", key, "--why", "the disk was full")
        case = on.ended(key)

        assert (0, "") == (told.exit_code, told.stderr)
        assert (Stand.RECOVERED, 2, {key: 2}) == (case.state, case.retries, on.writer.retries)
        (act,) = [moment for moment in on.moments(key) if moment.by]
        assert ("released", "ann", "the disk was full") == (act.kind, act.by, act.what)
        assert ["needs_person", "released", "send done", "accepted", "check done", "recovered"] == on.way(
            key
        )[-6:]


def test_nobody_says_and_a_person_closes(tmp_path: Path) -> None:
    """A person may end a case by hand; then nothing more is asked or called for it."""
    with story(tmp_path, first=UNTOLD, writer=SOON) as on:
        on.start()
        key = stuck(on)
        calls = len(on.writer.calls)
        told = on.shell("close", key, "--why", "not wanted any more")
        case = on.case(key)
        # Another one goes its whole way meanwhile.
        on.writer.heals_after_s = 0.1
        on.ended(file_fails(on))

        assert 0 == told.exit_code
        assert (Stand.CLOSED, "not wanted any more") == (case.state, case.why)
        assert calls == len(
            [seen for seen in on.writer.calls if key in seen.path or key.encode() in seen.body]
        )
        assert 1 == len(on.relay.heard("case.closed", key=key, by="ann"))


# -- a new id comes back --


def test_the_check_asks_for_the_new_id(tmp_path: Path) -> None:
    """Where the answer says a new id, the case learns it, and asks how that one is."""
    with story(tmp_path, heals_after_s=0.3, flatfile=SOON) as on:
        on.flatfile.new_ids = True
        on.start()
        failed_job(on, "us_jb_1")

        case = on.ended("us_jb_1")
        new = next(id_ for id_, first in on.flatfile.lineage.items() if first == "us_jb_1")

        assert (Stand.RECOVERED, (new,)) == (case.state, case.aliases)
        look, retry, *checks = [seen.path for seen in on.flatfile.calls]
        assert ("/v1/jobs/us_jb_1", "/v1/jobs/us_jb_1/retry") == (look, retry)
        assert {f"/v1/jobs/{new}"} == set(checks)


def test_what_fails_under_its_new_id_is_the_same_case(tmp_path: Path) -> None:
    """An event about the new id joins the case of the old one, uses its budget, and ends it."""
    with story(tmp_path, heals_after_s=0.3, first=JOBS + HURRY) as on:
        on.flatfile.new_ids = True
        forward(on)
        on.start()
        failed_job(on, "us_jb_1", "failed")

        case = on.ended("us_jb_1")
        second, third = on.flatfile.lineage

        assert (Stand.RECOVERED, 2, (second, third)) == (case.state, case.retries, case.aliases)
        assert [case] == on.cases()
        assert {case.id} == {on.case(name).id for name in (second, third)}
        assert ["us_jb_1", second] == [
            seen.path.split("/")[3] for seen in on.flatfile.calls if seen.method == "POST"
        ]


# -- several at once --


@pytest.mark.parametrize("gone", [0, 1])
def test_a_batch_shares_one_request(tmp_path: Path, gone: int) -> None:
    """Thirty files of one moment are asked for in one request; if one of them spoils it, each goes alone."""
    calm = {"storm": {"cases": 0}, "limit": {"rate": "200/s", "burst": 10}}
    rule = FILES + 'batch = { field = "file_ids", max = 100, wait = "3s" }\n'
    with story(tmp_path, heals_after_s=0.3, first=rule, writer=SOON | calm) as on:
        on.start()
        until(lambda: time.time() % 3 < 0.2, "a whole window is before us")
        keys = [file_fails(on) for _ in range(30)]
        for key in keys[:gone]:
            on.writer.held[key].status = "gone"
        cases = [on.ended(key) for key in keys]

        posts = [json.loads(seen.body)["file_ids"] for seen in on.writer.calls if seen.method == "POST"]
        alone = ["send retry", "look retry"] * gone  # one "no" for all may hide a "yes" for some: look
        assert set(keys) == set(posts[0])
        assert sorted([key] for key in keys[gone:] * gone) == sorted(posts[1:])
        assert [Stand.GAVE_UP] * gone + [Stand.RECOVERED] * (30 - gone) == [case.state for case in cases]
        assert dict.fromkeys(keys[gone:], 1) == on.writer.retries
        assert ["opened", *alone, "send done", "accepted", "check done", "recovered"] == on.way(keys[-1])
