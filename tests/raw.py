"""How does a test speak HTTP byte by byte?  A socket, what comes back, and how it ended."""

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """All that a server said on one connection."""

    raw: bytes
    closed: bool  #: it ended the connection

    @property
    def statuses(self) -> list[int]:
        """The answers' statuses, in order."""
        return [int(found) for found in STATUS.findall(self.raw)]


def dial(url: str, *, within_s: float = 20.0) -> socket.socket:
    """Open a connection to a server."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), within_s)


def listen(line: socket.socket, *, answers: int = 0, within_s: float = 20.0) -> Heard:
    """Read until the other side closes, or until there are so many *answers*; a reset counts as closed."""
    raw, until = b"", time.monotonic() + within_s
    while not answers or _whole(raw) < answers:
        line.settimeout(max(until - time.monotonic(), 0.001))
        try:
            more = line.recv(1 << 16)
        except TimeoutError:
            return Heard(raw=raw, closed=False)
        except ConnectionError:
            return Heard(raw=raw, closed=True)
        if not more:
            return Heard(raw=raw, closed=True)
        raw += more
    return Heard(raw=raw, closed=False)


def ask(url: str, raw: bytes, *, answers: int = 0, within_s: float = 20.0) -> Heard:
    """Send bytes on a connection of their own, and listen."""
    with dial(url) as line:
        with suppress(ConnectionError):  # it did not want to hear all; what it said about it is there
            line.sendall(raw)
        return listen(line, answers=answers, within_s=within_s)


def request(path: str, body: bytes = b"", *headers: tuple[str, str], method: str = "POST") -> bytes:
    """Write a request as any client would."""
    lines = [("Host", "relay"), ("Content-Length", str(len(body))), *headers]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _whole(raw: bytes) -> int:
    """Count the answers that are here to their end; all of relay's have a length."""
    count = 0
    while head := re.match(rb"HTTP/1\.1 \d{3} .*?\r\n\r\n", raw, re.DOTALL):
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head[0])
        end = head.end() + int(length[1] if length else 0)
        if len(raw) < end:
            break
        raw, count = raw[end:], count + 1
    return count
