"""A list of failures is read page after page, whatever happens meanwhile, and each failure is told once."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from signal import SIGKILL
from typing import Any

from story import SOON, Story, failed_file, sent, story, until

from relay.case import ENDS, Case, Stand
from relay.demo.flatfile import forwarded
from relay.demo.sim import Fault, Seen, Window

FILES = 1_000
EACH_MS, BURST = 10, 20
PER_S = 3.0
"""Writer's minute here: it takes 400 calls in so long, as the real one in a minute."""

AGAIN = """
[[rule]]
name = "files, in a hurry"
from = "writer"
when.type = "file.failed"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
budget = { retries = 3, within = "24h", wait = ["0s", "1s"] }
"""
CALM = {"storm": {"cases": 0}}


def asks(call: str, **given: str) -> str:
    """Return a rules file's watch that asks every second."""
    more = "".join(f'with.{name} = "{value}"\n' for name, value in given.items())
    return f'\n[[watch]]\nname = "what failed"\ncall = "{call}"\nevery = "1s"\n{more}'


def pages(calls: Iterable[Seen], path: str) -> list[Seen]:
    """Return the calls that asked for a page of the list at *path*, which were answered with one."""
    return [seen for seen in list(calls) if seen.path.partition("?")[0].endswith(path) and seen.status == 200]


def highest(at: Iterable[float], every_ms: int) -> float:
    """Return how high calls at these times, in seconds, fill a bucket that loses one *every_ms*."""
    level = most = last = 0.0
    for now in sorted(at):
        level = max(0.0, level - (now - last) * 1000 / every_ms) + 1
        most, last = max(most, level), now
    return most


def fullest(at: Iterable[float], per_s: float) -> int:
    """Return how many calls at these times fell into the fullest window of so many seconds."""
    times = sorted(at)
    first = most = 0
    for number, now in enumerate(times):
        while times[first] <= now - per_s:
            first += 1
        most = max(most, number - first + 1)
    return most


def told_of(on: Story, field: str, *, pushed: bool = False) -> Counter[str]:
    """Count the events that a watch brought, or that were *pushed*, by the resource that they tell of."""
    # What is posted has headers; what relay has asked for has none.
    return Counter(
        str(json.loads(row["body"])[field]) for row in on.events() if bool(row["headers"]) is pushed
    )


def all_recovered(on: Story, number: int, within_s: float = 20.0) -> list[Case]:
    """Wait until so many cases have recovered and no other is left; return them, newest first."""

    def over() -> bool:
        # Cheap, for the simulators live in this process, too.
        if any(on.store().cases(limit=1, state=stand.value) for stand in Stand if stand not in ENDS):
            return False
        return len(on.store().cases(limit=number, state=Stand.RECOVERED.value)) == number

    until(over, lambda: Counter(case.state for case in on.cases()), within_s)
    cases = on.cases()
    assert [Stand.RECOVERED] * number == [case.state for case in cases]
    return cases


def row(on: Story) -> dict[str, Any]:
    """Return what the shell shows of the one watch."""
    result = on.shell("watches", "--json")
    assert 0 == result.exit_code, result.output
    (shown,) = json.loads(result.stdout)["items"]
    assert isinstance(shown, dict)
    return shown


def push(on: Story, keys: Iterable[str], number: int) -> list[str]:
    """Post that files have failed, as a pipeline would while they have not recovered; return which."""
    found = []
    for key in islice((key for key in keys if not well_soon(on, key)), number):
        assert 202 == on.post("writer", {"type": "file.failed", "file_id": key}).status
        found.append(key)
    return found


def well_soon(on: Story, key: str) -> bool:
    """Say whether a file is well, or will be before an event about it can arrive."""
    file = on.writer.held[key]
    return file.status == "recovered" and file.busy_until < on.writer.clock() + 0.5


def test_a_thousand_files_are_handled_once(tmp_path: Path) -> None:
    """Over 12 pages, with 300 of them pushed too, kill -9 and a stop in between, and never above the rate."""
    writer: dict[str, Any] = {
        "limit": {"rate": f"1/{EACH_MS}ms", "burst": BURST},
        "watch": {"failed_files": {"query": {"limit": 84}}},
        "action": {"retry": {"check": {"wait": ["3s"]}}},
    }
    rules = asks("writer.failed_files")
    with story(tmp_path, heals_after_s=2.0, first=AGAIN, rules=rules, writer=writer | CALM) as on:
        on.writer.limit = Window(400, PER_S)
        keys = [on.writer.add().key for _ in range(FILES)]
        chosen = iter(sorted(keys))  # in no order: from pages to come, and from those that were read

        on.start()
        pushed = push(on, chosen, 100)
        until(lambda: len(pages(on.writer.calls, "/files")) >= 6, "it is in the middle of its run")
        on.relay.end(SIGKILL)
        killed_at = len(pages(on.writer.calls, "/files"))
        on.start()
        pushed += push(on, chosen, 100)
        until(lambda: sum(on.writer.retries.values()) >= 300, "some were retried")
        assert 0 == on.relay.end()
        stopped_at = sum(on.writer.retries.values())
        on.start()
        pushed += push(on, chosen, 100)
        until(lambda: sum(on.writer.retries.values()) >= FILES, lambda: len(on.writer.retries), 60)
        cases = all_recovered(on, FILES)

        assert killed_at < 12
        assert 300 <= stopped_at < FILES
        assert dict.fromkeys(keys, 1) == on.writer.retries
        assert set(keys) == {case.key for case in cases}
        # What was out when it was killed, eight at most, may have been done: it counts beside what follows.
        assert 0 <= sum(case.retries for case in cases) - FILES <= 8
        assert (300, Counter(pushed)) == (len(pushed), told_of(on, "file_id", pushed=True))
        # A file that was pushed and retried before its page was read is not on it any more.
        listed = told_of(on, "file_id")
        assert {1} == set(listed.values())
        assert set(keys) - set(pushed) <= listed.keys()
        assert listed.keys() & set(pushed)
        assert {200} == {seen.status for seen in on.writer.calls} - {None}
        at = [seen.at for seen in on.writer.calls]
        assert fullest(at, PER_S) <= 400
        # What goes out evenly may arrive a little less so; what is above the rate adds up.
        assert highest(at, EACH_MS) <= BURST + 300 / EACH_MS


def test_what_stands_in_the_list_is_told_once(tmp_path: Path) -> None:
    """A file that no retry can help is one event, one case and one call, in however many runs it is seen."""
    with story(tmp_path, rules=asks("writer.failed_files"), writer=SOON) as on:
        on.writer.faults.append(Fault(status=200, body='{"success": false}'))
        key, _ = failed_file(on)

        on.start()
        until(lambda: len(on.relay.said("watch.ran")) >= 3, "it was seen three times")
        assert 0 == on.relay.end()
        on.start()
        until(lambda: len(on.relay.said("watch.ran")) >= 2, "and after a restart")

        case = on.case(key)
        assert ([case], Stand.GAVE_UP) == (on.cases(), case.state)
        assert (["opened", "send dead", "gave_up"], 1) == (on.way(key), len(on.events()))
        assert 1 == len(sent(on.writer))
        assert {"items": 1, "fresh": 0, "standing": 1, "failures": 0}.items() <= row(on).items()


def test_a_second_failure_is_a_new_one(tmp_path: Path) -> None:
    """What has recovered and is in the list again is a new event and a new case, left or not meanwhile."""
    rules = asks("writer.failed_files")
    with story(tmp_path, heals_after_s=0.1, first=AGAIN, rules=rules, writer=SOON) as on:
        at_once, later = (failed_file(on)[0] for _ in range(2))
        on.start()
        first = {case.key: case for case in all_recovered(on, 2)}

        on.writer.held[at_once].status = "failed"
        all_recovered(on, 3)
        until(lambda: not row(on)["standing"], "the list is empty for two runs")
        on.writer.held[later].status = "failed"
        cases = all_recovered(on, 4)

        assert {at_once: 2, later: 2} == on.writer.retries == told_of(on, "file_id")
        assert {at_once: 2, later: 2} == Counter(case.key for case in cases)
        # The resource was retried before: its new failure is looked at first.
        looked = ["opened", "look retry", "send done", "accepted", "check done", "recovered"]
        assert [looked] * 2 == [on.way(case.id) for case in cases[:2]]
        assert {case.id for case in first.values()} == {case.id for case in cases[2:]}


def test_a_retry_that_fails_again_is_no_second_failure(tmp_path: Path) -> None:
    """What fails again after its retry goes on in its case, whether the check or the list sees it first."""
    rules = asks("writer.failed_files")
    with story(tmp_path, heals_after_s=0.1, first=AGAIN, rules=rules, writer=SOON) as on:
        key, _ = failed_file(on, outcomes=["failed", "failed"])
        on.start()
        (case,) = all_recovered(on, 1)

        assert ({key: 3}, 3) == (on.writer.retries, case.retries)


def test_tasks_that_heal_while_the_list_is_read_hide_none(tmp_path: Path) -> None:
    """DocFlow numbers its pages: what leaves one moves the rest up past the next; another run finds it."""
    docflow = {
        "limit": {"rate": "200/s", "concurrency": 4},
        "watch": {"failed_tasks": {"query": {"page_size": 4}}},
    }
    rules = asks("docflow.failed_tasks", workspace_id="1234567890")
    with story(
        tmp_path, heals_after_s=0.1, rules=rules, slow=lambda: 0.02, docflow=docflow | SOON | CALM
    ) as on:
        tasks = [on.docflow.add(str(10**18 + number)).key for number in range(40)]
        child = on.docflow.add("1978297791713619968", task_type=0, parent_task_id=tasks[0]).key
        deleted = on.docflow.add("1978297791713619969", verification_status=4).key

        on.start()
        cases = all_recovered(on, 40, within_s=30)

        assert on.relay.said("watch.ran")[0]["items"] < 40
        assert dict.fromkeys(tasks, 1) == on.docflow.retries == told_of(on, "task_id")
        assert set(tasks) == {case.key for case in cases}
        assert [2, 2] == [on.docflow.state(key) for key in (child, deleted)]


def test_versions_are_found_in_their_packages(tmp_path: Path) -> None:
    """X-Pkg's one list of packages has versions in them: those that a retry may help are uploaded once."""
    rules = asks("xpkg.failed_versions")
    xpkg = {"limit": {"rate": "3/2.5s"}}
    with story(tmp_path, heals_after_s=0.1, rules=rules, xpkg=xpkg | SOON | CALM) as on:
        packages = {"example.one": "1.3.0b9", "example.two": "2.0.0"}
        for package, version in packages.items():
            on.pack(package, version)
        keys = [f"{package}@{version}" for package, version in packages.items()]
        on.xpkg.add_version("example.one", "1.4", status="failed_macosx")
        on.xpkg.add_version("example.two", "2.1", status="recovered")

        on.start()
        cases = all_recovered(on, 2)

        assert dict.fromkeys(keys, 1) == on.xpkg.retries
        assert set(keys) == {case.key for case in cases}
        assert 2 == len(on.events())


def test_a_log_of_events_fills_the_gaps(tmp_path: Path) -> None:
    """Of twenty jobs that failed ten webhooks are lost, five come first and five late: each is one event."""
    rules = asks("flatfile.failed_jobs")
    with story(tmp_path, heals_after_s=0.1, rules=rules, flatfile=SOON | CALM) as on:
        jobs = [on.flatfile.add(f"us_jb_{number:02}").key for number in range(20)]
        told = [forwarded(event, "sk_live") for event in on.flatfile.events()]
        ids = Counter(str(event["id"]) for event in on.flatfile.events())

        on.flatfile.list_faults.append(Fault(status=429, headers={"Retry-After": "2"}))
        on.start()
        in_time = [on.post("flatfile", event).status for event in told[:5]]
        until(lambda: on.relay.said("watch.ran"), "the log was read")
        late = [on.post("flatfile", event).status for event in told[5:10]]
        cases = all_recovered(on, 20)
        until(lambda: len(on.relay.said("watch.ran")) >= 3, "the log was read again")

        assert ([202] * 5, [200] * 5) == (in_time, late)
        assert 15 == on.relay.said("watch.ran")[0]["fresh"]
        assert dict.fromkeys(jobs, 1) == on.flatfile.retries
        assert set(jobs) == {case.key for case in cases}
        assert ids == Counter(event["delivery"] for event in on.events())


def test_a_list_that_fails_is_said_once_and_comes_back(tmp_path: Path) -> None:
    """A broken list is shown with error and lag; it mends itself, and what it told is not told again."""
    with story(tmp_path, rules=asks("writer.failed_files"), writer=SOON) as on:
        on.writer.faults.append(Fault(status=200, body='{"success": false}'))
        failed_file(on)
        on.start(luckless=True)
        until(lambda: on.relay.said("watch.ran"), "its list was read")

        on.writer.list_faults.extend([Fault(status=500)] * 4)
        until(lambda: row(on)["failures"] >= 3, lambda: row(on))
        broken = row(on)
        until(lambda: row(on)["state"] == "well", lambda: row(on))
        well = row(on)

        assert ("failing", "the list was answered 500") == (broken["state"], broken["why"])
        assert broken["lag_ms"] >= 2_000 > well["lag_ms"]
        assert {"failures": 0, "why": "", "standing": 1}.items() <= well.items()
        assert [1, 1] == [len(on.relay.said(line)) for line in ("watch.failing", "watch.recovered")]
        assert 1 == len(on.events())


def test_a_list_that_a_wrong_key_may_not_read_waits_for_the_right_one(tmp_path: Path) -> None:
    """A watch whose key is refused says so, does not insist, and goes on with the right key."""
    with story(tmp_path, heals_after_s=0.1, rules=asks("writer.failed_files"), writer=SOON) as on:
        key, _ = failed_file(on)
        on.start(WRITER_API_KEY="a-key-that-was-withdrawn")
        until(lambda: row(on)["failures"], lambda: row(on))
        refused = row(on)
        lag = until(lambda: (now := row(on)["lag_ms"]) > refused["lag_ms"] + 1_000 and now, "it lags behind")
        assert 0 == on.relay.end()
        asked = len(on.writer.calls)
        on.start()
        all_recovered(on, 1)

        assert ("failing", "401: the provider refuses our credentials") == (refused["state"], refused["why"])
        assert (1, 0) == (asked, refused["items"])
        assert ("well", {key: 1}) == (row(on)["state"], on.writer.retries)
        assert lag > row(on)["lag_ms"]
