"""Does a big package pass through a small process?"""

import hashlib
import hmac
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import tomli_w
from rulesfiles import ENVIRON

from relay.call import Call, Kind, State
from relay.engine import reader
from relay.store import Store

SIZE = 300 << 20
MOST_KB = 150 << 10
PATIENCE_S = 60.0
NAME = "example.package1-1.3b9.zip"
EVENT = b'{"package_id": "example.package1", "package_version": "1.3b9", "status": "failed"}'


def rules(registry: str) -> str:
    """Return a rules file with one rule: upload to *registry* again."""
    rule = {
        "name": "upload again",
        "from": "xpkg",
        "when": {"status": "failed"},
        "call": "xpkg.retry",
        "with": {"package_id": "{package_id}", "package_version": "{package_version}", "file": NAME},
    }
    provider = {
        "token": "env:XPKG_TOKEN",
        "files": "packages",
        "base_url": registry,
        "allow_http": True,
        "allow_networks": ["127.0.0.1/32"],
    }
    # Signed, so that relay does not look first: the sink knows nothing but uploads.
    source = {"verify": "hmac", "header": "x-signature", "secrets": ["env:XPKG_HOOK_TOKEN"]}
    return tomli_w.dumps({"source": {"xpkg": source}, "provider": {"xpkg": provider}, "rule": [rule]})


@dataclass
class Sink:
    """A registry below HTTP: it takes one upload in small pieces, counts and hashes it, and keeps nothing."""

    listener: socket.socket
    head: bytes = b""
    form: bytes = b""  #: what stands before the file's bytes
    tail: bytes = b""  #: and after them
    size: int = 0
    sha256: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self) -> None:
        """Take one connection, one request, and answer 204."""
        with self.listener.accept()[0] as peer, peer.makefile("rb", buffering=1 << 16) as stream:
            peer.settimeout(PATIENCE_S)
            while (line := stream.readline()) not in {b"\r\n", b""}:
                self.head += line
            length, boundary = self.header(rb"content-length: (\d+)"), self.header(rb"boundary=(\S+)")
            while not (b'name="file"' in self.form and self.form.endswith(b"\r\n\r\n")):
                self.form += stream.readline()
            end = b"\r\n--" + boundary + b"--\r\n"
            left = self.size = int(length) - len(self.form) - len(end)
            digest = hashlib.sha256()
            while left and (piece := stream.read(min(left, 1 << 16))):
                digest.update(piece)
                left -= len(piece)
            self.tail = stream.read(len(end))
            self.sha256 = digest.hexdigest()
            assert self.tail == end
            peer.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        self.ended.set()

    def header(self, pattern: bytes) -> bytes:
        """Find something in the head."""
        found = re.search(pattern, self.head, re.IGNORECASE)
        assert found, self.head
        return found[1]


@contextmanager
def sink() -> Iterator[Sink]:
    """Listen on loopback for one upload."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        it = Sink(listener)
        thread = threading.Thread(target=it.take, daemon=True)
        thread.start()
        yield it
        thread.join(PATIENCE_S)


@contextmanager
def serving(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Run `relay serve` in that folder; yield the process and its address."""
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve", "--port", "0", "--log", "json"],
            cwd=folder,
            env={"PYTHONPATH": ":".join(sys.path), **ENVIRON},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process, _address(process, log)
    finally:
        process.terminate()
        process.wait(20)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if "}\n" in line]
        said = {line["event"]: line for line in lines}
        if {"relay.started", "relay.listening"} <= said.keys():
            return str(said["relay.listening"]["url"])
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def package(path: Path) -> str:
    """Write a file of 300 MB, mostly hole, with marks all over; return its SHA-256."""
    with path.open("wb") as file:
        for at in range(0, SIZE, 7_340_033):
            file.seek(at)
            file.write(f"PK {at} \r\n--\r\n".encode())
        file.truncate(SIZE)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kilobytes(pid: int, what: str) -> int:
    """Read a number of a process: VmRSS is what it has resident, VmHWM the most that it ever had."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def call(db: Path) -> Call:
    """Return the only retry, once it has ended."""
    until = time.monotonic() + 10
    while True:
        [found] = [one for one in Store(reader(db)).calls(limit=10) if one.kind is Kind.RETRY]
        if found.settled_at is not None or time.monotonic() > until:
            return found
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_300_mb_are_uploaded_in_150(tmp_path: Path) -> None:
    """A package of 300 MB arrives whole, while relay never has 150 MB resident."""
    (tmp_path / "packages").mkdir()
    expected = package(tmp_path / "packages" / NAME)
    with sink() as registry:
        url = f"http://127.0.0.1:{registry.listener.getsockname()[1]}"
        (tmp_path / "rules.toml").write_text(rules(url))
        with serving(tmp_path) as (process, relay):
            began = time.monotonic()
            answer = httpx.post(
                f"{relay}/hooks/xpkg",
                content=EVENT,
                headers={
                    "x-signature": hmac.digest(ENVIRON["XPKG_HOOK_TOKEN"].encode(), EVENT, "sha256").hex()
                },
                trust_env=False,
            )
            assert 202 == answer.status_code
            assert registry.ended.wait(PATIENCE_S), "the upload did not end"
            took_s = time.monotonic() - began
            most = kilobytes(process.pid, "VmHWM")
            ended = call(tmp_path / "relay.db")

    assert (SIZE, expected) == (registry.size, registry.sha256)
    assert (State.DONE, 1) == (ended.state, ended.tries)
    assert took_s < PATIENCE_S
    assert most < MOST_KB, f"{most >> 10} MB were resident"
