"""Are the simulators the providers' doubles? The providers' own SDKs and their documents are the judges."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import writerai
from docflow import DocflowClient
from docflow.exceptions import APIError
from writerai import Writer

from relay.demo.docflow import PREFIX, DocflowSim
from relay.demo.flatfile import FlatfileSim, forwarded
from relay.demo.sim import KEPT_BYTES, Fault, Window
from relay.demo.writer import WriterSim

FILE = "1862f090-a281-48f3-8838-26c1e78b605e"
TASK = "1978297791713619968"
RETRY = f"{PREFIX}/file/retry"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time, in seconds since 1970."""
        return self.now


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=5)


# -- Writer --


@pytest.fixture
def files(clock: Clock) -> WriterSim:
    sim = WriterSim(heals_after_s=10, clock=clock)
    sim.add(FILE)
    return sim


@pytest.fixture
def writer(files: WriterSim) -> Iterator[Writer]:
    with files.serve() as url, Writer(base_url=url, api_key=files.key, max_retries=0) as sdk:
        yield sdk


def test_writer_sdk_retries_a_file(files: WriterSim, writer: Writer, clock: Clock) -> None:
    """A file goes failed, in_progress, completed, as writer-sdk sees it."""
    before = writer.files.retrieve(FILE).status
    answer = writer.files.retry(file_ids=[FILE])
    during = writer.files.retrieve(FILE).status
    clock.now += 10

    assert ("failed", "in_progress", "completed") == (before, during, writer.files.retrieve(FILE).status)
    assert True is answer.success
    assert {FILE: 1} == files.retries


def test_writer_sdk_reads_page_after_page(files: WriterSim, writer: Writer) -> None:
    """The list is newest first, filtered by status, and goes on after the last id while there is more."""
    keys = [FILE, *(files.add().key for _ in range(4))]
    files.add(status="recovered")
    files.add(status="gone")

    first = writer.files.list(status="failed", limit=2)

    assert keys[:2:-1] == [one.id for one in first.data]
    assert first.has_more
    assert keys[::-1] == [one.id for one in first]
    assert keys[1:3] == [one.id for one in writer.files.list(order="asc", before=keys[3], limit=2).data]


def test_writer_sdk_is_refused(files: WriterSim, writer: Writer) -> None:
    """Wrong key, unknown id, no UUID, gone and too many: each is the error that the SDK has for it."""
    gone = files.add(status="gone").key
    refused: list[tuple[int, Callable[[], object]]] = [
        (401, lambda: writer.with_options(api_key="wrong").files.retry(file_ids=[FILE])),
        (404, lambda: writer.files.retrieve("00000000-0000-4000-8000-000000000000")),
        (404, lambda: writer.files.retry(file_ids=[FILE, "00000000-0000-4000-8000-000000000000"])),
        (400, lambda: writer.files.retry(file_ids=["../files"])),
        (400, lambda: writer.files.retry(file_ids=[])),
        (400, lambda: writer.files.list(limit=101)),
        (410, lambda: writer.files.retrieve(gone)),
    ]
    for status, call in refused:
        with pytest.raises(writerai.APIStatusError) as error:
            call()
        assert status == error.value.status_code
        assert isinstance(error.value.body, dict)
        assert {"tpe", "errors", "extras"} == error.value.body.keys()
    files.limit = Window(1, 60)
    writer.files.retrieve(FILE)
    with pytest.raises(writerai.RateLimitError) as limited:
        writer.files.retrieve(FILE)

    assert "retry-after" not in limited.value.response.headers
    assert not files.retries


# -- DocFlow --


@pytest.fixture
def tasks(clock: Clock) -> DocflowSim:
    sim = DocflowSim(heals_after_s=10, clock=clock)
    sim.add(TASK, task_type=2)
    sim.add("11", task_type=0, parent_task_id=TASK)
    return sim


@pytest.fixture
def docflow(tasks: DocflowSim) -> Iterator[DocflowClient]:
    with (
        tasks.serve() as url,
        DocflowClient(tasks.app_id, tasks.secret_code, f"{url}/api", max_retries=0) as sdk,
    ):
        yield sdk


def test_docflow_sdk_retries_a_task(tasks: DocflowSim, docflow: DocflowClient, clock: Clock) -> None:
    """A task goes failed, extracting, succeeded, as docflow-sdk sees it."""

    def status() -> int | None:
        found = docflow.file.fetch(tasks.workspace_id, task_id=TASK)
        assert 1 == found.total
        return found.files[0].recognition_status

    before = status()
    docflow.file.retry(tasks.workspace_id, TASK)
    during = status()
    clock.now += 10

    assert (2, 4, 1) == (before, during, status())
    assert {TASK: 1} == tasks.retries


def test_docflow_sdk_is_refused(tasks: DocflowSim, docflow: DocflowClient) -> None:
    """Child, unknown, in flight, wrong workspace and wrong key are refused with HTTP 200 and a code."""
    tasks.add("12", status="running")
    tasks.add("13", status=10)
    mine = tasks.workspace_id
    for workspace, task in [(mine, "11"), (mine, "404"), (mine, "12"), (mine, "13"), ("other", TASK)]:
        with pytest.raises(APIError) as error:
            docflow.file.retry(workspace, task)
        assert (200, "40004") == (error.value.status_code, error.value.code)
    tasks.secret_code = "rotated"
    with pytest.raises(APIError) as error:
        docflow.file.retry(mine, TASK)

    assert (200, "40102") == (error.value.status_code, error.value.code)
    assert not tasks.retries


def test_docflow_needs_credentials_and_strings(tasks: DocflowSim) -> None:
    """No credentials is 40101; an id that is a number has lost its last digits somewhere, so it is 40004."""
    keys = {"x-ti-app-id": tasks.app_id, "x-ti-secret-code": tasks.secret_code}
    body = {"workspace_id": tasks.workspace_id, "task_id": int(TASK)}
    with tasks.serve() as url, client(url) as http:
        codes = [http.post(RETRY, json=body, headers=headers).json()["code"] for headers in ({}, keys)]

    assert [40101, 40004] == codes


def test_docflow_takes_a_signature() -> None:
    """The vector made with TextIn's published code is accepted; with any of its parts changed it is not."""
    sim = DocflowSim(app_id="test_app", secret_code="test_secret_code")
    sim.add(TASK)
    body = b'{"workspace_id":"1234567890","task_id":"1978297791713619968"}'
    signed = {
        "x-ti-app-id": "test_app",
        "x-ti-timestamp": "1700000000",
        "x-ti-signature": "c3e2d3e88867f4f31079a06fa420fa51879d716e44eebf881f546f484a76fff9",
    }
    with sim.serve() as url, client(url, **signed) as http:
        refused = [
            http.post(RETRY, content=body + b" "),
            http.post(RETRY, content=body, params={"a": "1"}),
            http.post(RETRY, content=body, headers={"x-ti-timestamp": "1700000001"}),
            http.post(RETRY, content=body, headers={"x-ti-app-id": "other"}),
        ]
        accepted = http.post(RETRY, content=body)

    assert [{"code": 40102}] * 4 == [{"code": answer.json()["code"]} for answer in refused]
    assert {"code": 200, "msg": "success"} == accepted.json()


def test_docflow_lists_failed_tasks_with_their_children(tasks: DocflowSim, docflow: DocflowClient) -> None:
    """A filter keeps what was asked for; children stand below their parents or are asked for by id."""
    tasks.add("12", status="recovered")
    keys = {"x-ti-app-id": tasks.app_id, "x-ti-secret-code": tasks.secret_code}
    asked = {"workspace_id": tasks.workspace_id, "recognition_status": "2"}
    with client(str(docflow.config.base_url), **keys) as http:
        failed = http.get(f"{PREFIX.removeprefix('/api')}/file/fetch", params=asked).json()["result"]
    child = docflow.file.fetch(tasks.workspace_id, task_id="11")
    nothing = docflow.file.fetch(tasks.workspace_id, task_id="404")

    assert [TASK] == [one["task_id"] for one in failed["files"]]
    assert ["11"] == [one["task_id"] for one in failed["files"][0]["child_files"]]
    assert failed["files"][0]["failure_causes"]
    assert ([0], 0) == ([int(str(one.task_type)) for one in child.files], nothing.total)


# -- Flatfile --


def test_flatfile_runs_a_job_again(clock: Clock) -> None:
    """A job that fails again says so in one more event; the next retry completes it."""
    sim = FlatfileSim(heals_after_s=10, clock=clock)
    sim.add("us_jb_1", outcomes=["failed", "recovered"])
    keys = {"Authorization": f"Bearer {sim.key}", "X-Disable-Hooks": "true"}
    states, events = [], []
    with sim.serve() as url, client(url, **keys) as http:
        for _ in range(2):
            job = http.post("/v1/jobs/us_jb_1/retry").json()["data"]
            states.append(job["status"])
            clock.now += 10
            states.append(http.get(f"/v1/jobs/{job['id']}").json()["data"]["status"])
            events.append(http.get("/v1/events", params={"topic": "job:failed"}).json()["data"])

    assert ["executing", "failed", "executing", "complete"] == states
    assert [2, 2] == [len(found) for found in events]
    assert {"us_jb_1": 2} == sim.retries
    assert events[1] == [one for one in sim.events() if one["topic"] == "job:failed"]
    assert "us_jb_1" == events[1][0]["context"]["jobId"]


def test_flatfile_pages_its_events(clock: Clock) -> None:
    """Events come in pages, and not those of another topic."""
    sim = FlatfileSim(clock=clock)
    for n in range(3):
        sim.add(f"us_jb_{n}")
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}") as http:
        page = http.get("/v1/events", params={"pageSize": 2, "pageNumber": 2}).json()
        other = http.get("/v1/events", params={"topic": "job:completed"}).json()
        wrong = http.get("/v1/events", params={"pageSize": "many"})

    assert ["us_jb_2"] == [one["context"]["jobId"] for one in page["data"]]
    assert {"currentPage": 2, "pageCount": 2, "totalCount": 3} == page["pagination"]
    assert ([], 400) == (other["data"], wrong.status_code)


@pytest.mark.parametrize(
    ("status", "job", "headers", "body"),
    [
        (400, "us_jb_1", {"X-Disable-Hooks": ""}, b""),
        (400, "us_jb_1", {}, b"{}"),
        (403, "us_jb_1", {"Authorization": "Bearer wrong"}, b""),
        (404, "us_jb_2", {}, b""),
    ],
)
def test_flatfile_refuses(status: int, job: str, headers: dict[str, str], body: bytes) -> None:
    """X-Disable-Hooks, the key and a known job are needed, and no body."""
    sim = FlatfileSim()
    sim.add("us_jb_1")
    keys = {"Authorization": f"Bearer {sim.key}", "X-Disable-Hooks": "true", **headers}
    with sim.serve() as url, client(url) as http:
        answer = http.post(f"/v1/jobs/{job}/retry", headers=keys, content=body)

    assert status == answer.status_code
    assert answer.json()["errors"][0]["message"]
    assert not sim.retries


def test_flatfile_may_give_a_new_id(clock: Clock) -> None:
    """With new ids the old job stays failed, and the new one recovers; the retry is counted for the old."""
    sim = FlatfileSim(new_ids=True, heals_after_s=10, clock=clock)
    sim.add("us_jb_1")
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}") as http:
        new = http.post("/v1/jobs/us_jb_1/retry", headers={"X-Disable-Hooks": "true"}).json()["data"]["id"]
    clock.now += 10

    assert ("failed", "complete") == (sim.state("us_jb_1"), sim.state(new))
    assert {"us_jb_1": 1} == sim.retries


def test_flatfile_forwards_with_its_token_inside() -> None:
    """The forwarder's form has no id on top, the event inside, and the live token."""
    sim = FlatfileSim()
    sim.add("us_jb_1")
    posted = forwarded(sim.events()[0], sim.key)

    assert "id" not in posted
    assert (sim.events()[0], sim.key) == (posted["src"], posted["_accessToken"])
    assert ("job:failed", ["workbook"]) == (posted["topic"], posted["namespace"])


# -- misbehaving, and being served --


def test_a_fault_is_answered_once(files: WriterSim, writer: Writer) -> None:
    """A fault takes one retry call; the work is done only if it says after."""
    files.faults += [
        Fault(status=503, headers={"Retry-After": "7"}, body='{"tpe":"ServiceUnavailable"}'),
        Fault(after=True),
    ]
    counts = []
    for status in (503, 500):
        with pytest.raises(writerai.InternalServerError) as error:
            writer.files.retry(file_ids=[FILE])
        assert status == error.value.status_code
        counts.append(files.retries[FILE])
    writer.files.retry(file_ids=[FILE])

    assert [0, 1, 2] == [*counts, files.retries[FILE]]
    assert [503, 500, 200] == [seen.status for seen in files.calls]


def test_a_read_fault_is_for_reads(files: WriterSim, writer: Writer) -> None:
    """A read fault waits for the next read of a state; retries pass it by."""
    files.read_faults.append(Fault(status=500))
    writer.files.retry(file_ids=[FILE])
    with pytest.raises(writerai.InternalServerError):
        writer.files.retrieve(FILE)

    assert "in_progress" == writer.files.retrieve(FILE).status


@pytest.mark.parametrize("after", [False, True])
def test_a_reset_call_may_have_done_its_work(after: bool) -> None:
    """The connection breaks without an answer, before the work or after it."""
    sim = WriterSim()
    sim.add(FILE)
    sim.faults.append(Fault(reset=True, after=after))
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}") as http:
        with pytest.raises(httpx.ReadError):
            http.post("/v1/files/retry", json={"file_ids": [FILE]})
        again = http.get(f"/v1/files/{FILE}")

    assert (200, int(after)) == (again.status_code, sim.retries[FILE])


def test_a_simulator_comes_back_on_its_port() -> None:
    """Stopped, it refuses; started again on the same port, it holds what it held."""
    sim = WriterSim()
    sim.add(FILE)
    with sim.serve() as url, client(url, Authorization=f"Bearer {sim.key}") as http:
        http.get(f"/v1/files/{FILE}")
        sim.stop()
        with pytest.raises(httpx.ConnectError):
            http.get(f"/v1/files/{FILE}")
        again = sim.start(port=httpx.URL(url).port or 0)

        assert url == again
        assert 200 == http.get(f"/v1/files/{FILE}").status_code


def test_every_request_is_remembered() -> None:
    """Requests are kept in order, as sent, also those that led nowhere; of a body, its beginning."""
    sim = FlatfileSim()
    with sim.serve() as url, client(url) as http:
        http.post("/v1/jobs/a%20b/retry?x=1", headers={"X-Test": "yes"})
        http.put("/nowhere", content=b"z" * (KEPT_BYTES + 1))
        http.request("OPTIONS", "/v1/jobs/a")
    first, second, third = sim.calls

    assert ("POST", "/v1/jobs/a%20b/retry", {"x": "1"}, 403) == (
        first.method,
        first.path,
        first.query,
        first.status,
    )
    assert "yes" == first.headers["x-test"]
    assert (KEPT_BYTES, KEPT_BYTES + 1, 404) == (len(second.body), second.body_bytes, second.status)
    assert ("OPTIONS", 404) == (third.method, third.status)
    assert first.at <= second.at <= third.at <= time.time()
