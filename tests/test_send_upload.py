"""Files go out from their folder, from nowhere else, and never through memory."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from python_multipart.multipart import parse_form
from wires import LOOPS, OK, Peer, run, says, sent, serving

from relay.provider import Fault, Reply, Upload


@pytest.mark.parametrize("loop", LOOPS)
def test_an_upload_is_a_form(tmp_path: Path, loop: str) -> None:
    """Fields and files arrive as an independent parser reads them, doubles and a file's bare name too."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / 'a "b".zip').write_bytes(b"PK\x03\x04" * 50_000)
    upload = Upload(
        fields=(("packageId", "7"), ("tag", "ä"), ("tag", "b")),
        files=(("file", tmp_path / "in" / 'a "b".zip', "application/zip"),),
        root=tmp_path,
    )

    answer, server = run(sent(says(OK), upload), loop)

    head, _, body = server.got.partition(b"\r\n\r\n")
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    headers = {name.decode().title(): value for name, _, value in lines}
    fields: list[tuple[bytes | None, bytes | None]] = []
    files: list[tuple[bytes | None, bytes | None, bytes]] = []

    def on_file(file: object) -> None:
        stream = file.file_object  # type: ignore[attr-defined]
        stream.seek(0)
        files.append((file.field_name, file.file_name, stream.read()))  # type: ignore[attr-defined]

    parse_form(headers, BytesIO(body), lambda f: fields.append((f.field_name, f.value)), on_file)
    assert isinstance(answer, Reply)
    assert [(b"packageId", b"7"), (b"tag", "ä".encode()), (b"tag", b"b")] == fields
    assert [(b"file", b"a %22b%22.zip", b"PK\x03\x04" * 50_000)] == files
    assert b"Content-Type: application/zip\r\n" in body


def test_an_upload_without_files_is_a_form_too() -> None:
    """Fields alone are multipart as well: that is what an Upload is."""
    upload = Upload(fields=(("a", "1"),), files=(), root=Path("/nonexistent"))

    _, server = run(sent(says(OK), upload))

    assert b"Content-Type: multipart/form-data; boundary=" in server.got
    assert b'Content-Disposition: form-data; name="a"\r\n\r\n1\r\n' in server.got


def linked(root: Path) -> Path:
    (root / "link.zip").symlink_to(root.parent / "secret.zip")
    return root / "link.zip"


def linked_folder(root: Path) -> Path:
    (root / "away").symlink_to(root.parent)
    return root / "away" / "secret.zip"


def piped(root: Path) -> Path:
    os.mkfifo(root / "pipe.zip")
    return root / "pipe.zip"


def locked(root: Path) -> Path:
    (root / "folder.zip").mkdir()
    return root / "folder.zip"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (lambda root: root / ".." / "secret.zip", "in the provider's folder"),
        (lambda root: root / "in" / ".." / ".." / "secret.zip", "in the provider's folder"),
        (lambda root: root.parent / "secret.zip", "in the provider's folder"),
        (lambda _: Path("../secret.zip"), "in the provider's folder"),
        (lambda _: Path("/etc/passwd"), "in the provider's folder"),
        (lambda _: Path("a\0.zip"), "in the provider's folder"),
        (lambda root: root, "in the provider's folder"),
        (linked, "symbolic"),
        (linked_folder, "not a directory"),
        (piped, "not a regular file"),
        (locked, "not a regular file"),
        (lambda root: root / "missing.zip", "no such file"),
        (lambda root: root / "a.zip" / "b.zip", "not a directory"),
    ],
)
def test_an_upload_never_leaves_its_folder(place: Callable[[Path], Path], why: str, tmp_path: Path) -> None:
    """Nothing but a regular file below the root is opened: no link, no way up, no pipe; nothing is sent."""
    (tmp_path / "secret.zip").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.zip").write_bytes(b"a")
    upload = Upload(fields=(), files=(("file", place(root), "application/zip"),), root=root)

    answer, server = run(sent(says(OK), upload))

    assert isinstance(answer, Fault)
    assert (False, []) == (answer.sent, server.peers)
    assert answer.why.startswith("no file ")
    assert why in answer.why
    assert str(tmp_path) not in answer.why


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_request(tmp_path: Path) -> None:
    """Bytes left, so it may have arrived; the length that was promised is never filled up otherwise."""
    path = tmp_path / "a.zip"
    path.write_bytes(b"x" * (8 << 20))

    async def shrinks(peer: Peer) -> None:
        await peer.take(1000)
        os.truncate(path, 100_000)
        await peer.gone()

    answer, _ = run(
        sent(shrinks, Upload(fields=(), files=(("file", path, "application/zip"),), root=tmp_path))
    )

    assert Fault(why="the body is shorter than it was said to be", sent=True) == answer


UPLOAD = """
import asyncio, json, resource, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from relay.provider import Request, Timeouts, Upload
from relay.reach import ANYWHERE
from relay.send import Sender

async def main(url, path):
    sender = Sender()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = Upload(fields=(("packageId", "7"),), files=(("file", path, "application/zip"),), root=path.parent)
    made = Request(method="POST", url=url, headers=(), body=body, timeouts=Timeouts(), reach=ANYWHERE)
    answer = await sender(made)
    await sender.close()
    print(json.dumps([answer.status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def test_a_large_file_never_enters_memory(tmp_path: Path) -> None:
    """50 MB go out while the process grows by less than 8."""
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.truncate(50 << 20)
    arrived = 0

    async def counts(peer: Peer) -> None:
        nonlocal arrived
        head = await peer.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while arrived < length:
            arrived += len(await peer.reader.read(1 << 20))
        await peer.say(OK)

    async def work() -> bytes:
        async with serving(counts) as server:
            script = [sys.executable, "-c", UPLOAD, server.url, str(path), str(Path(__file__).parents[1])]
            child = await asyncio.create_subprocess_exec(*script, stdout=subprocess.PIPE)
            return (await child.communicate())[0]

    status, grown_kib = json.loads(run(work()))

    assert 200 == status
    assert arrived > 50 << 20
    assert grown_kib < 8 << 10
