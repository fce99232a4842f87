"""Does relay say what the providers' own clients say?  The SDKs are the judges, on one recording server."""

import asyncio
import hashlib
import hmac
import io
import json
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import python_multipart
import tomli_w
from docflow import DocflowClient
from rulesfiles import ENVIRON, PROVIDERS, ROOT
from writerai import Writer

from relay.event import Json
from relay.listing import CURSOR, PAGE, query, since
from relay.load import load
from relay.provider import Answer, Reply
from relay.render import checked, listing_request, request
from relay.send import Sender

FILE = "1862f090-a281-48f3-8838-26c1e78b605e"
TASK = {"workspace_id": "1234567890", "task_id": "1978297791713619968"}
PACKAGE = {"package_id": "example.package1", "package_version": "1.3b9", "file": "example.package1-1.3b9.zip"}
ZIP = b"PK\x03\x04\r\n--\r\n\r\n" + bytes(range(256)) * 300
NOW = 1_700_000_000_000

COMMON = {"host", "accept", "accept-encoding", "user-agent", "content-length"}
"""Headers that say nothing about the call."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  #: names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    def of(self, *names: str) -> dict[str, str | None]:
        """Return these headers."""
        return {name: self.headers.get(name) for name in names}


@dataclass
class Recorder:
    """Where it listens, what it will answer, and what it heard."""

    url: str
    answer: Any = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)

    def last(self) -> Heard:
        """Return the one request that was made, and forget it."""
        [one] = self.heard
        self.heard.clear()
        return one


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Serve on loopback: everything is heard, and answered 200 with the JSON of the day."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = urlsplit(self.path)
            it.heard.append(
                Heard(
                    method=self.command,
                    path=at.path,
                    query=dict(parse_qsl(at.query)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers.get("content-length", 0))),
                )
            )
            body = json.dumps(it.answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - its own name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        it = Recorder(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield it
        server.shutdown()
        thread.join()


Send = Callable[..., Heard]


@pytest.fixture
def send(recorder: Recorder, tmp_path: Path) -> Send:
    """Return how relay itself sends: the files loaded, the values checked, rendered and really sent."""
    (tmp_path / "providers").mkdir()
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / PACKAGE["file"]).write_bytes(ZIP)
    for name in PROVIDERS:
        drop_in = {"base_url": recorder.url, "allow_http": True, "allow_networks": ["127.0.0.1/32"]}
        (tmp_path / "providers" / f"{name}.toml").write_text(tomli_w.dumps(drop_in))

    def send(
        name: str,
        values: Mapping[str, Json],
        *,
        check: bool = False,
        at: Mapping[str, Json] | None = None,  # where the run of a watch stands
        environ: Mapping[str, str] = ENVIRON,
        **own: Any,
    ) -> Heard:
        rules = tomllib.loads((ROOT / "rules.toml").read_text())
        rules["provider"][name] |= own
        (tmp_path / "rules.toml").write_text(tomli_w.dumps(rules))
        provider = load(tmp_path / "rules.toml", environ).providers[name]
        if at is None:
            action = provider.actions["retry"]
            shape = action.check.shape if check and action.check else action.shape
            made = request(provider, shape, action, checked(action, values), NOW)
        else:
            [watch] = provider.listings.values()
            filled = checked(watch, values) | {"since": since(watch, NOW, NOW)}
            made = listing_request(provider, watch, filled, query(watch, at), NOW)

        async def go() -> Answer:
            sender = Sender()
            try:
                return await sender(made)
            finally:
                await sender.close()

        assert isinstance(asyncio.run(go()), Reply)
        return recorder.last()

    return send


def same(theirs: Heard, ours: Heard, *headers: str) -> None:
    """Compare method, path, body and these headers; ours has no others that mean anything."""
    assert (theirs.method, theirs.path) == (ours.method, ours.path)
    assert theirs.of(*headers) == ours.of(*headers)
    assert None not in ours.of(*headers).values()
    assert ours.headers.keys() <= COMMON | set(headers)
    if theirs.body:
        assert theirs.json == ours.json
    else:
        assert b"" == ours.body


# -- Writer --


def test_writer_retry_is_the_sdks(recorder: Recorder, send: Send) -> None:
    """A retry has the method, path, key and body that writer-sdk sends."""
    recorder.answer = {"success": True}
    with Writer(base_url=recorder.url, api_key=ENVIRON["WRITER_API_KEY"], max_retries=0) as sdk:
        sdk.files.retry(file_ids=[FILE])
    theirs = recorder.last()

    ours = send("writer", {"file_id": FILE})

    same(theirs, ours, "authorization", "content-type")
    assert {"file_ids": [FILE]} == ours.json


def test_writer_look_is_the_sdks(recorder: Recorder, send: Send) -> None:
    """A look at a file is what writer-sdk asks to retrieve one."""
    recorder.answer = {"id": FILE, "created_at": "2024-07-10T12:00:00Z", "name": "a", "graph_ids": []}
    with Writer(base_url=recorder.url, api_key=ENVIRON["WRITER_API_KEY"], max_retries=0) as sdk:
        sdk.files.retrieve(FILE)
    theirs = recorder.last()

    same(theirs, send("writer", {"file_id": FILE}, check=True), "authorization")


@pytest.mark.parametrize("at", [{}, {PAGE: 2, CURSOR: FILE}], ids=["first", "second"])
def test_writer_watch_is_the_sdks(recorder: Recorder, send: Send, at: dict[str, Json]) -> None:
    """A page of failed files is what writer-sdk asks for, to the last parameter."""
    recorder.answer = {"data": [], "has_more": False}
    more: Any = {"after": at[CURSOR]} if at else {}
    with Writer(base_url=recorder.url, api_key=ENVIRON["WRITER_API_KEY"], max_retries=0) as sdk:
        sdk.files.list(status="failed", limit=100, order="asc", **more)
    theirs = recorder.last()

    ours = send("writer", {}, at=at)

    same(theirs, ours, "authorization")
    assert theirs.query == ours.query


# -- DocFlow --


@pytest.fixture
def docflow(recorder: Recorder) -> Iterator[DocflowClient]:
    """Return TextIn's own client."""
    keys = ENVIRON["DOCFLOW_APP_ID"], ENVIRON["DOCFLOW_SECRET_CODE"]
    with closing(DocflowClient(*keys, f"{recorder.url}/api", max_retries=0)) as sdk:
        yield sdk


def test_docflow_retry_is_the_sdks(recorder: Recorder, docflow: DocflowClient, send: Send) -> None:
    """A retry has the method, path, secret headers and body that docflow-sdk sends."""
    recorder.answer = {"code": 200, "msg": "success"}
    docflow.file.retry(TASK["workspace_id"], TASK["task_id"])
    theirs = recorder.last()

    ours = send("docflow", TASK)

    same(theirs, ours, "x-ti-app-id", "x-ti-secret-code", "content-type")
    assert TASK == ours.json


def test_docflow_look_is_the_sdks(recorder: Recorder, docflow: DocflowClient, send: Send) -> None:
    """A look at a task asks for it as docflow-sdk does, and for none of the documents."""
    recorder.answer = {"code": 200, "msg": "success", "result": {"total": 0, "files": []}}
    docflow.file.fetch(TASK["workspace_id"], task_id=TASK["task_id"], page=1, page_size=20)
    theirs = recorder.last()

    ours = send("docflow", TASK, check=True)

    same(theirs, ours, "x-ti-app-id", "x-ti-secret-code")
    more = {"with_document", "with_task_detail_url", "with_image_url"}
    assert {key: value for key, value in theirs.query.items() if key not in more} == ours.query
    assert TASK.items() <= ours.query.items()


def test_docflow_watch_is_the_sdks(recorder: Recorder, docflow: DocflowClient, send: Send) -> None:
    """A page of failed tasks is what docflow-sdk asks for, less the documents that it says no to."""
    recorder.answer = {"code": 200, "msg": "success", "result": {"total": 0, "files": []}}
    docflow.file.fetch(TASK["workspace_id"], page=3, page_size=100, recognition_status=2)
    theirs = recorder.last()

    ours = send("docflow", {"workspace_id": TASK["workspace_id"]}, at={PAGE: 3})

    same(theirs, ours, "x-ti-app-id", "x-ti-secret-code")
    more = {"with_document", "with_task_detail_url", "with_image_url"}
    assert {key: value for key, value in theirs.query.items() if key not in more} == ours.query


def test_docflow_takes_our_signature_of_a_page(send: Send) -> None:
    """The page's number is signed with the rest."""
    ours = send("docflow", {"workspace_id": TASK["workspace_id"]}, at={PAGE: 3}, auth="signature")

    assert "3" == ours.query["page"]
    assert signature(ENVIRON["DOCFLOW_SECRET_CODE"], ours) == ours.headers["x-ti-signature"]


def signature(secret: str, heard: Heard) -> str:
    """Sign as docs-docflow.textin.com, "auth", describes it; written without a look at relay's own."""
    epoch = heard.headers["x-ti-timestamp"]
    signing_key = hmac.new(secret.encode(), epoch.encode(), hashlib.sha256).digest()
    params = "&".join(f"{name}={heard.query[name]}" for name in sorted(heard.query))
    body_hash = hashlib.sha256(heard.body).hexdigest()
    to_sign = f"{heard.method}\n{heard.path}\n{params}\n{body_hash}"
    return hmac.new(signing_key, to_sign.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("check", [False, True], ids=["retry", "look"])
def test_docflow_takes_our_signature(send: Send, *, check: bool) -> None:
    """The signature covers method, path, query and the bytes sent, and the secret code stays at home."""
    ours = send("docflow", TASK, check=check, auth="signature")

    assert signature(ENVIRON["DOCFLOW_SECRET_CODE"], ours) == ours.headers["x-ti-signature"]
    assert str(NOW // 1000) == ours.headers["x-ti-timestamp"]
    assert ENVIRON["DOCFLOW_APP_ID"] == ours.headers["x-ti-app-id"]
    assert ENVIRON["DOCFLOW_SECRET_CODE"] not in str(ours)
    assert "x-ti-secret-code" not in ours.headers


def test_docflow_signature_vector(send: Send) -> None:
    """The signature is the one that TextIn's published Python computes."""
    environ = ENVIRON | {"DOCFLOW_APP_ID": "test_app", "DOCFLOW_SECRET_CODE": "test_secret_code"}

    ours = send("docflow", TASK, auth="signature", environ=environ)

    expected = "c3e2d3e88867f4f31079a06fa420fa51879d716e44eebf881f546f484a76fff9"
    assert expected == signature("test_secret_code", ours) == ours.headers["x-ti-signature"]
    assert b'{"workspace_id":"1234567890","task_id":"1978297791713619968"}' == ours.body


# -- Flatfile --


def test_flatfile_retry_is_the_capture(send: Send) -> None:
    """A retry is what @flatfile/api 1.23.1 built, less its own name and the Keep-Alive that breaks it."""
    ours = send("flatfile", {"job_id": "us_jb_abc123"}, environ=ENVIRON | {"FLATFILE_API_KEY": "sk_TEST"})

    assert ("POST", "/v1/jobs/us_jb_abc123/retry", {}) == (ours.method, ours.path, ours.query)
    assert {"authorization": "Bearer sk_TEST", "x-disable-hooks": "true"} == {
        name: value for name, value in ours.headers.items() if name not in COMMON
    }
    assert b"" == ours.body
    assert ours.headers.get("content-length") in {None, "0"}


def test_flatfile_ids_are_encoded_as_the_sdk_does(send: Send) -> None:
    """encodeURIComponent: whatever an id holds, it stays one segment."""
    ours = send("flatfile", {"job_id": "us jb?1&ü"})

    assert "/v1/jobs/us%20jb%3F1%26%C3%BC/retry" == ours.path


def test_flatfile_watch_is_the_sdks(send: Send) -> None:
    """A page of events is what @flatfile/api 1.23.1 asks for, its times and booleans as text."""
    ours = send("flatfile", {}, at={PAGE: 2})

    assert ("GET", "/v1/events", b"") == (ours.method, ours.path, ours.body)
    assert {
        "topic": "job:failed",
        "since": "2023-11-14T22:03:20.000Z",
        "pageSize": "100",
        "pageNumber": "2",
        "includeAcknowledged": "true",
    } == ours.query
    assert {"authorization", "x-disable-hooks"} == ours.headers.keys() - COMMON


# -- X-Pkg --


def test_xpkg_upload_is_a_form_of_three_fields(send: Send) -> None:
    """An independent parser finds packageId, packageVersion and the file, byte for byte, and no more."""
    ours = send("xpkg", PACKAGE)
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, str, str, bytes]] = []

    def on_field(found: Any) -> None:
        fields.append((found.field_name.decode(), found.value.decode()))

    def on_file(found: Any) -> None:
        found.file_object.seek(0)
        data = found.file_object.read()
        files.append((found.field_name.decode(), found.file_name.decode(), found.content_type, data))
        found.close()

    headers = {"Content-Type": ours.headers["content-type"].encode()}
    python_multipart.parse_form(headers, io.BytesIO(ours.body), on_field, on_file)

    assert ("POST", "/packages/retry", {}) == (ours.method, ours.path, ours.query)
    assert [("packageId", "example.package1"), ("packageVersion", "1.3b9")] == fields
    assert [("file", "example.package1-1.3b9.zip", "application/zip", ZIP)] == files
    assert ENVIRON["XPKG_TOKEN"] == ours.headers["authorization"]
    assert ours.headers.keys() <= COMMON | {"authorization", "content-type"}
