"""Is the X-Pkg simulator the registry's double? Its documents and its code are the judges."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from relay.demo.sim import Fault, Simulator
from relay.demo.xpkg import XpkgSim, form

ZIP = b"PK\x03\x04" + bytes(range(256)) + b"\r\n\n\r--x\r\n"
VERSION = "example.package1@1.3.0b9"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time, in seconds since 1970."""
        return self.now


def client(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=5)


@pytest.fixture(scope="module")
def registry() -> Iterator[tuple[XpkgSim, httpx.Client]]:
    """One registry for all tests that only ask; each comes after the last one's limits."""
    sim = XpkgSim(clock=Clock())
    with sim.serve() as url, client(url, Authorization=sim.token) as http:
        yield sim, http


@pytest.fixture
def xpkg(registry: tuple[XpkgSim, httpx.Client]) -> tuple[XpkgSim, httpx.Client]:
    """Give the registry with one failed version in it."""
    sim, http = registry
    later(sim, 60)
    for kept in (sim.held, sim.packages, sim.retries, sim.calls):
        kept.clear()
    sim.may_view = True
    sim.add_version("example.package1", "1.3b9")
    return sim, http


def later(sim: Simulator, seconds: float) -> None:
    assert isinstance(sim.clock, Clock)
    sim.clock.now += seconds


def upload(
    http: httpx.Client,
    package: str | None = "example.package1",
    version: str | None = "1.3b9",
    *,
    field: str | None = "file",
    zipped: bytes = ZIP,
) -> httpx.Response:
    texts = {"packageId": package, "packageVersion": version}
    data = {name: text for name, text in texts.items() if text is not None}
    files = {field: ("Example Package.zip", zipped, "application/zip")} if field else None
    return http.post("/packages/retry", data=data, files=files)


@pytest.mark.parametrize(
    ("package", "version", "status", "word"),
    [
        (None, "1.3b9", 400, "invalid_or_empty_str"),
        (" ", "", 400, "invalid_or_empty_str"),
        ("short", "", 400, "invalid_id_or_repo"),
        ("xpkg/example.package1", "1.3b9", 400, "invalid_id_or_repo"),
        ("other/example.package1", "1.3b9", 400, "invalid_id_or_repo"),
        ("nobodys.package", None, 400, "invalid_or_empty_str"),
        ("nobodys.package", "100.100.100b1000", 400, "bad_version_len"),
        ("nobodys.package", "1.3.", 400, "invalid_version"),
        ("nobodys.package", "1.3B9", 400, "invalid_version"),
        ("nobodys.package", "1.3b0", 400, "invalid_version"),
        ("nobodys.package", "0.0.0", 400, "invalid_version"),
        ("nobodys.package", "1.3b9", 400, "version_not_exist"),
        ("denied.package", "9", 401, "Unauthorized"),
        ("foreign.package", "9", 403, "Forbidden"),
        ("example.package1", "9", 400, "version_not_exist"),
        ("example.package1", "1", 400, "cant_retry"),
        ("example.package1", "2", 400, "cant_retry"),
        ("example.package1", "3", 204, ""),
        ("EXAMPLE.package1", "1.3b9", 204, ""),
        ("example.package1", "01.3.0b09", 204, ""),
    ],
)
def test_xpkg_decides_in_its_handlers_order(
    xpkg: tuple[XpkgSim, httpx.Client], package: str | None, version: str | None, status: int, word: str
) -> None:
    """The first line of the table that holds is the answer, whatever else is wrong."""
    sim, http = xpkg
    sim.add_version("example.package1", "1", status="recovered")
    sim.add_version("example.package1", "2", status="running")
    sim.add_version("example.package1", "3", status="removed")
    for foreign in ("denied.package", "foreign.package"):
        sim.add_version(foreign, "1")
        sim.packages[foreign].owned = False
    sim.packages["denied.package"].allowed = False

    answer = upload(http, package, version)

    assert (status, word) == (answer.status_code, answer.text)
    assert (status == 204) == bool(sim.retries)


def test_xpkg_looks_for_the_file_first(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """No file comes before no fields; a file under another name is an error nobody handles."""
    _, http = xpkg
    bare = {"content-type": "multipart/form-data; boundary=x"}
    answers = [
        http.post("/packages/retry", headers=bare, content=b"--x--\r\n"),
        http.post("/packages/retry", data={"packageId": "example.package1"}),
        upload(http, field="package"),
    ]

    assert [(400, "no_file"), (400, "no_file"), (500, "Internal Server Error")] == [
        (answer.status_code, answer.text) for answer in answers
    ]


def test_xpkg_takes_the_documents_sample() -> None:
    """The sample of the documents (its line ends made real) is read as its three fields, and accepted."""
    sim = XpkgSim()
    sim.add_version("example.package1", "1.3.0b9")
    sample = """------WebKitFormBoundaryc5i0j0B6oJS681gS
Content-Disposition: form-data; name="packageId"

example.package1
------WebKitFormBoundaryc5i0j0B6oJS681gS
Content-Disposition: form-data; name="packageVersion"

1.3b9
------WebKitFormBoundaryc5i0j0B6oJS681gS
Content-Disposition: form-data; name="file"; filename="Example Package.zip"
Content-Type: application/zip

PK|ðÁ...the file...PK`
------WebKitFormBoundaryc5i0j0B6oJS681gS--
"""
    body = sample.replace("\n", "\r\n").encode()
    kind = "multipart/form-data; boundary=----WebKitFormBoundaryc5i0j0B6oJS681gS"
    with sim.serve() as url, client(url, Authorization=sim.token) as http:
        answer = http.post("/packages/retry", content=body, headers={"Content-Type": kind})

    assert (204, b"") == (answer.status_code, answer.content)
    assert (
        {"packageId": "example.package1", "packageVersion": "1.3b9"},
        {"file": "PK|ðÁ...the file...PK`".encode()},
    ) == form(kind, body)


def test_xpkg_reads_a_file_byte_by_byte() -> None:
    """Every byte of a file comes through, line ends and almost-boundaries too."""
    request = httpx.Request("POST", "http://x", data={"packageId": "ü"}, files={"file": ("ü.zip", ZIP * 99)})

    assert ({"packageId": "ü"}, {"file": ZIP * 99}) == form(request.headers["content-type"], request.read())


def test_xpkg_processes_after_it_accepts(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """204 means begun: the status is processing, then processed, or failed_server for what is no zip."""
    sim, http = xpkg

    def status() -> str:
        answer = http.get("/account/packages/example.package1/1.3b9")
        return str(answer.json()["versionData"]["status"])

    seen = [status()]
    for zipped in (b"not a zip", ZIP):
        assert 204 == upload(http, zipped=zipped).status_code
        seen.append(status())
        assert "cant_retry" == upload(http).text
        later(sim, 9)
        seen.append(status())

    assert ["failed_server", "processing", "failed_server", "processing", "processed"] == seen
    assert {VERSION: 2} == sim.retries


def test_xpkg_shows_a_version_to_its_author_only(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """Unknown and foreign versions are 404, a token that may not view is 401, as is one with Bearer."""
    sim, http = xpkg
    url = "/account/packages/example.package1/1.3.0b9"
    bearer = http.get(url, headers={"Authorization": f"Bearer {sim.token}"})
    unknown = http.get("/account/packages/example.package1/9")
    sim.packages["example.package1"].owned = False
    foreign = http.get(url)
    sim.may_view = False

    assert [401, 404, 404, 401] == [a.status_code for a in (bearer, unknown, foreign, http.get(url))]
    assert "retry-after" not in bearer.headers


def test_xpkg_limits_retries(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """Three in 8 seconds; the fourth is 429 and blocks for 3 seconds; every answer has a Retry-After."""
    sim, http = xpkg
    names = ("retry-after", "x-ratelimit-remaining", "x-ratelimit-remaining-global")
    seen = []
    for wait in (0, 0.5, 0.25, 0.25, 0.125, 2.75, 0.125):
        later(sim, wait)
        answer = upload(http, version="9")
        seen.append((answer.status_code, *(answer.headers[name] for name in names)))

    assert [
        (400, "8", "2", "29"),
        (400, "7.5", "1", "28"),
        (400, "7.25", "0", "27"),
        (429, "3", "0", "26"),
        (429, "2.875", "0", "25"),
        (429, "0.125", "0", "24"),
        (400, "8", "2", "23"),
    ] == seen
    assert not sim.retries


def test_xpkg_limits_reads_on_their_own(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """Reads have 5 in 3 seconds; a retry is not counted among them."""
    _, http = xpkg
    upload(http)
    reads = [http.get("/account/packages/example.package1/1.3.0b9").status_code for _ in range(6)]

    assert [200] * 5 + [429] == reads


def test_xpkg_limits_an_address(xpkg: tuple[XpkgSim, httpx.Client]) -> None:
    """30 of any kind in 10 seconds; then the address is blocked, and only the global headers are there."""
    _, http = xpkg
    statuses = [upload(http).status_code for _ in range(30)]
    answer = http.get("/account/packages/example.package1/1.3.0b9")

    assert {204, 400, 429} >= set(statuses)
    assert (429, "30") == (answer.status_code, answer.headers["x-retry-after-global"])
    assert "retry-after" not in answer.headers


def test_a_hanging_call_has_done_its_work() -> None:
    """X-Pkg can set processing and never answer; who still waits is cut off when the simulator stops."""
    sim = XpkgSim(heals_after_s=60)
    sim.add_version("example.package1", "1.3b9")
    sim.faults += [Fault(hang=True), Fault(hang=True)]
    with client(sim.start(), Authorization=sim.token) as http, ThreadPoolExecutor() as pool:
        http.timeout = 0.1
        with pytest.raises(httpx.ReadTimeout):
            upload(http)
        http.timeout = 5
        waiting = pool.submit(upload, http)
        while len(sim.calls) < 2 and not waiting.done():
            time.sleep(0.01)
        began = time.monotonic()
        sim.stop()

        assert isinstance(waiting.exception(), httpx.TransportError)
        assert 1 > time.monotonic() - began
    assert ({VERSION: 1}, "processing") == (sim.retries, sim.state(VERSION))
    assert [None, None] == [seen.status for seen in sim.calls]


def test_stopping_breaks_a_call_in_its_middle() -> None:
    """A request whose body never came to its end is remembered, and does nothing."""
    sim = XpkgSim()

    def chunks() -> Iterator[bytes]:
        yield b"x"
        sim.stop()

    with client(sim.start(), Authorization=sim.token) as http, pytest.raises(httpx.TransportError):
        http.post("/packages/retry", content=chunks())

    assert [(0, None)] == [(seen.body_bytes, seen.status) for seen in sim.calls]
