"""What becomes of a resource after its retry, and who is told?  The simulators' own clockwork."""

import threading
from collections.abc import Callable

import httpx
import pytest
from rulesfiles import ROOT

from relay.demo.docflow import PREFIX, DocflowSim
from relay.demo.flatfile import FlatfileSim, forwarded
from relay.demo.sim import Fault, Simulator, Status
from relay.demo.writer import WriterSim
from relay.demo.xpkg import XpkgSim
from relay.event import Json
from relay.load import load

HOOKS_OFF = {"X-Disable-Hooks": "true"}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time, in seconds since 1970."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(clock: Clock) -> FlatfileSim:
    return FlatfileSim(heals_after_s=10, clock=clock)


def client(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=5)


def told(sim: Simulator) -> list[tuple[str, Status]]:
    """Return the list to which the simulator's hook will write."""
    heard: list[tuple[str, Status]] = []
    sim.on_change = lambda key, status: heard.append((key, status))
    return heard


# -- the hook --


def test_the_hook_is_told_when_it_is_due(jobs: FlatfileSim, clock: Clock) -> None:
    """Each run is told once, at its end and not before, as it ended."""
    heard = told(jobs)
    job = jobs.accept(jobs.add("us_jb_1", outcomes=["failed"]))
    seen: list[int] = []
    for wait in (0, 9.5, 0.5, 0):
        clock.now += wait
        jobs.tick()
        seen.append(len(heard))
    jobs.accept(job)
    clock.now += 10
    jobs.tick()

    assert [0, 0, 1, 1] == seen
    assert [("us_jb_1", "failed"), ("us_jb_1", "recovered")] == heard


def test_an_outcome_that_was_overtaken_is_not_told(jobs: FlatfileSim, clock: Clock) -> None:
    """A job that is sent on its way twice has one outcome, at the second one's end, and one event of it."""
    heard = told(jobs)
    job = jobs.add("us_jb_1", outcomes=["failed", "recovered"])
    for _ in range(2):
        jobs.accept(job)
        clock.now += 9
        jobs.tick()
    early = list(heard)
    clock.now += 1
    jobs.tick()

    assert ([], [("us_jb_1", "recovered")]) == (early, heard)
    assert ["job:failed", "job:completed"] == [one["topic"] for one in jobs.events()]


def test_what_is_put_in_anew_has_no_past(jobs: FlatfileSim, clock: Clock) -> None:
    """A resource that takes another's place is not told of with the other's run."""
    heard = told(jobs)
    jobs.accept(jobs.add("us_jb_1"))
    jobs.add("us_jb_1")
    clock.now += 10
    jobs.tick()

    assert [] == heard


def test_the_hook_is_called_while_it_is_served() -> None:
    """A simulator that is served calls its hook by itself, in its own thread."""
    sim = WriterSim(heals_after_s=0.05)
    told_in: list[str] = []
    came = threading.Event()

    def hook(key: str, status: Status) -> None:
        told_in.append(threading.current_thread().name)
        came.set()

    sim.on_change = hook
    key = sim.add().key
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}") as http:
        assert http.post("/v1/files/retry", json={"file_ids": [key]}).json()["success"]
        assert came.wait(5)

    assert ["writer simulator"] == told_in


def test_a_hook_that_breaks_is_heard_of() -> None:
    """What a hook raises stops no simulator; it comes out when the simulator is stopped."""
    sim = WriterSim(heals_after_s=0)
    called = threading.Event()

    def hook(key: str, status: Status) -> None:
        called.set()
        raise LookupError(key)

    sim.on_change = hook
    file = sim.add()
    url = sim.start()
    sim.accept(file)
    assert called.wait(5)
    with client(url, Authorization=f"Bearer {sim.key}") as http:
        assert 200 == http.get(f"/v1/files/{file.key}").status_code
    with pytest.raises(LookupError, match=file.key):
        sim.stop()


# -- lines of ids --


def test_a_line_of_new_ids_is_counted_together(clock: Clock) -> None:
    """Each retry makes a job of a new id; all are known by the first, and share its outcomes."""
    sim = FlatfileSim(new_ids=True, heals_after_s=10, clock=clock)
    heard = told(sim)
    sim.add("us_jb_1", outcomes=["failed", "failed", "recovered"])
    sim.add("us_jb_1_3")  # somebody else's, which looks like one of the line
    key = "us_jb_1"
    made = []
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}", **HOOKS_OFF) as http:
        for _ in range(3):
            key = http.post(f"/v1/jobs/{key}/retry").json()["data"]["id"]
            made.append(key)
            clock.now += 10
    sim.tick()

    assert 4 == len({"us_jb_1_3", *made})
    assert dict.fromkeys(made, "us_jb_1") == sim.lineage
    assert ({"us_jb_1": 3}, 3) == (sim.rounds, len(sim.retries))
    assert ["failed", "failed", "complete"] == [sim.state(one) for one in made]
    assert [*zip(made, ["failed", "failed", "recovered"], strict=True)] == heard


def test_ids_stay_short_over_a_thousand_rounds(clock: Clock) -> None:
    """However long a line is, its ids fit where an id must fit."""
    sim = FlatfileSim(new_ids=True, clock=clock)
    job = sim.add("us_jb_1", outcomes=["failed"] * 1000)
    for _ in range(1000):
        job = sim.accept(job)

    assert {"us_jb_1": 1000} == sim.rounds
    assert 16 > len(job.key)


def test_rounds_are_retries_where_ids_stay() -> None:
    """Where a retry keeps the id, its line is the id."""
    sim = WriterSim()
    for _ in range(2):
        sim.accept(sim.add("a"))

    assert {"a": 2} == sim.rounds == sim.retries


# -- what shows that something ran --


def test_a_jobs_time_is_of_its_last_change(jobs: FlatfileSim, clock: Clock) -> None:
    """A job's updatedAt moves when it is sent on its way and when it ends, not when it is read."""
    jobs.add("us_jb_1")
    seen: list[tuple[str, str]] = []
    with jobs.serve() as url, client(url, Authorization=f"Bearer {jobs.key}", **HOOKS_OFF) as http:

        def times() -> tuple[str, str]:
            data = http.get("/v1/jobs/us_jb_1").json()["data"]
            return data["createdAt"][14:19], data["updatedAt"][14:19]

        for wait in (0, 60, 5, 5, 60):
            clock.now += wait
            if wait == 60 and len(seen) == 1:
                http.post("/v1/jobs/us_jb_1/retry")
            seen.append(times())

    assert {"13:20"} == {created for created, _ in seen}
    assert ["13:20", "14:20", "14:20", "14:30", "14:30"] == [updated for _, updated in seen]


def test_a_versions_upload_is_of_its_last_retry(clock: Clock) -> None:
    """The registry sets uploadDate when it takes a retry; a look leaves it as it is."""
    sim = XpkgSim(heals_after_s=10, clock=clock)
    version = sim.add_version("example.package1", "1.3b9")
    seen = []
    with sim.serve() as url, client(url, Authorization=sim.token) as http:

        def uploaded() -> str:
            answer = http.get("/account/packages/example.package1/1.3b9").json()
            return str(answer["versionData"]["uploadDate"])

        seen.append(uploaded())
        sim.accept(version)
        clock.now += 20
        seen += [uploaded(), uploaded()]
        sim.accept(version)
        seen.append(uploaded())

    assert ["2023-07-16T05:53:38.506Z", *["2023-11-14T22:13:20.000Z"] * 2, "2023-11-14T22:13:40.000Z"] == seen


# -- Flatfile's log --


def test_a_job_that_completes_says_so(jobs: FlatfileSim, clock: Clock) -> None:
    """A job has one event for each end: failed or completed, oldest first, filtered by topic and time."""
    jobs.accept(jobs.add("us_jb_1", outcomes=["failed", "canceled", "recovered"]))
    jobs.add("us_jb_2", status="recovered")  # of old times: its event is gone
    for _ in range(2):
        clock.now += 10
        jobs.accept(jobs.held["us_jb_1"])
    clock.now += 10
    with jobs.serve() as url, client(url, Authorization=f"Bearer {jobs.key}") as http:

        def asked(**query: str) -> list[tuple[str, str, str]]:
            return [
                (one["topic"], one["payload"]["status"], one["createdAt"][14:19])
                for one in http.get("/v1/events", params=query).json()["data"]
            ]

        failed = [("job:failed", "failed", "13:20"), ("job:failed", "failed", "13:30")]
        completed = [("job:completed", "complete", "13:50")]
        assert [*failed, *completed] == asked()
        assert (failed, completed) == (asked(topic="job:failed"), asked(topic="job:completed"))
        assert failed[1:] == asked(topic="job:failed", since="2023-11-14T22:13:30.000Z")
        assert completed == asked(since="2023-11-14T22:13:30.001Z")
        assert [] == asked(since="2023-11-14T22:13:51Z")
        assert 400 == http.get("/v1/events", params={"since": "yesterday"}).status_code
    [event] = [one for one in jobs.events() if one["topic"] == "job:completed"]
    assert isinstance(event["context"], dict)
    assert "us_jb_1" == event["context"]["jobId"]
    assert "workbookId" not in event["context"]
    assert 3 == len({str(one["id"]) for one in jobs.events()})


# -- lists --


def test_xpkg_lists_an_authors_packages(clock: Clock) -> None:
    """All versions of all packages that are the author's own, and nothing about the author."""
    sim = XpkgSim(clock=clock)
    sim.add_version("example.package1", "1.3b9")
    sim.add_version("example.package1", "1", status="recovered")
    sim.add_version("example.package2", "2", status="aborted")
    sim.add_version("foreign.package", "1")
    sim.packages["foreign.package"].owned = False
    with sim.serve() as url, client(url, Authorization=sim.token) as http:
        body = http.get("/account/packages").json()
        sim.may_view = False
        refused = http.get("/account/packages")

    assert {"packages"} == body.keys()
    assert {
        "example.package1": [("1.3.0b9", "failed_server"), ("1.0.0", "processed")],
        "example.package2": [("2.0.0", "aborted")],
    } == {
        package["packageId"]: [(one["packageVersion"], one["status"]) for one in package["versions"]]
        for package in body["packages"]
    }
    assert not {"authorId", "authorName"} & body["packages"][0].keys()
    assert 401 == refused.status_code


def test_xpkg_limits_its_list_on_its_own(clock: Clock) -> None:
    """The list has 5 in 3 seconds, and looks at a version are not counted among them."""
    sim = XpkgSim(clock=clock)
    sim.add_version("example.package1", "1")
    with sim.serve() as url, client(url, Authorization=sim.token) as http:
        looks = [http.get("/account/packages/example.package1/1").status_code for _ in range(5)]
        lists = [http.get("/account/packages") for _ in range(6)]

    assert ([200] * 5, [200] * 5 + [429]) == (looks, [one.status_code for one in lists])
    assert ("3", "5") == (lists[5].headers["retry-after"], lists[0].headers["x-ratelimit-limit"])


@pytest.mark.parametrize(("status", "codes"), [("2", [200, ["1"]]), ("4", [200, ["3"]]), ("failed", [40004])])
def test_docflow_filters_by_number(status: str, codes: list[object]) -> None:
    """A recognition status is asked for by its number; a word is a bad parameter."""
    sim = DocflowSim()
    for key, state in (("1", "failed"), ("2", "recovered"), ("3", "running")):
        sim.add(key, status=state)
    keys = {"x-ti-app-id": sim.app_id, "x-ti-secret-code": sim.secret_code}
    asked = {"workspace_id": sim.workspace_id, "recognition_status": status}
    with sim.serve() as url, client(url, **keys) as http:
        body = http.get(f"{PREFIX}/file/fetch", params=asked).json()

    found = [[one["task_id"] for one in body["result"]["files"]]] if "result" in body else []
    assert codes == [body["code"], *found]


@pytest.mark.parametrize(
    ("sim", "path"),
    [
        (WriterSim(), "/v1/files"),
        (FlatfileSim(), "/v1/events"),
        (XpkgSim(), "/account/packages"),
    ],
    ids=lambda one: one.name if isinstance(one, Simulator) else "",
)
def test_a_list_has_faults_of_its_own(sim: Simulator, path: str) -> None:
    """A list's fault waits for the next read of the list, whoever asks."""
    sim.list_faults.append(Fault(status=503))
    with sim.serve() as url, client(url) as http:
        assert [503, True] == [http.get(path).status_code, http.get(path).status_code in {401, 403}]


def test_docflow_reads_a_thousand_tasks_at_once() -> None:
    """A page of a long list is made in one pass over the tasks."""
    sim = DocflowSim()
    for number in range(1000):
        sim.add(f"{number}")
    looked = _counting(sim)
    keys = {"x-ti-app-id": sim.app_id, "x-ti-secret-code": sim.secret_code}
    asked = {"workspace_id": sim.workspace_id, "recognition_status": "2", "page_size": "100"}
    with sim.serve() as url, client(url, **keys) as http:
        assert 1000 == http.get(f"{PREFIX}/file/fetch", params=asked).json()["result"]["total"]

    assert 1000 == looked()


def _counting(sim: Simulator) -> Callable[[], int]:
    """Count how often a state is asked for."""
    calls: list[str] = []
    state = sim.state

    def counted(key: str) -> Status:
        calls.append(key)
        return state(key)

    sim.state = counted  # type: ignore[method-assign]
    return lambda: len(calls)


# -- what the sources' files make of it --


def test_flatfiles_good_end_is_a_recovery(jobs: FlatfileSim, clock: Clock) -> None:
    """The forwarded event of a completed job says that it is well; a failure, or a part's end, does not."""
    recovered = load(ROOT / "rules.toml", {}, secrets=False).sources["flatfile"].recovered
    jobs.accept(jobs.add("us_jb_1"))
    assert ["job:failed"] == [event["topic"] for event in jobs.events()]
    clock.now += 10
    failed, completed = (forwarded(event, jobs.key) for event in jobs.events())
    assert isinstance(completed["payload"], dict)
    part: Json = {**completed, "payload": {**completed["payload"], "isPart": True}}

    assert recovered is not None
    assert [False, True, False] == [recovered.meets(event) for event in (failed, completed, part)]


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        ("writer", {"type": "file.completed"}, {"type": "file.failed"}),
        ("docflow", {"status": "completed"}, {"status": "failed"}),
        ("xpkg", {"status": "processed"}, {"status": "failed_server"}),
    ],
)
def test_each_source_knows_a_recovery(source: str, good: Json, bad: Json) -> None:
    """The word of the good end is read as one, that of the bad end is not."""
    recovered = load(ROOT / "rules.toml", {}, secrets=False).sources[source].recovered

    assert recovered is not None
    assert (True, False) == (recovered.meets(good), recovered.meets(bad))
