"""Where has a secret got to?  However it may be spelt; and a provider that tells all it hears."""

import json
import re
import socket
import ssl
import struct
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from urllib.parse import quote

LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
ODD = LETTERS + '%"\\&+/='
"""With letters that URLs, JSON, base64 and Python spell in ways of their own."""
LONG = 32

SHORTEST = 7
"""Letters that are looked for: fewer are there by chance."""

TAIL = 6
"""Letters of a canary that may be left where its end is spelt in another way than its middle."""


def canary(slot: str, letters: str = LETTERS, count: int = LONG) -> str:
    """Return the secret of a slot: the same at each run, so that a hit can be looked into."""
    return "".join(Random(f"the canary of {slot}").choices(letters, k=count))


def needles(value: str) -> list[tuple[str, bytes]]:
    """Return what to look for, in small letters, each with its name: half of a canary is a hit."""
    half = len(value) // 2
    found: dict[bytes, str] = {}
    for part in (value[:half], value[-half:]):
        raw = part.encode()
        quoted = json.dumps(part)[1:-1]
        spelt = [
            ("plain", raw),
            ("hex", raw.hex().encode()),
            ("percent", quote(part, safe="").encode()),
            ("percent", "".join(f"%{byte:02x}" for byte in raw).encode()),
            ("JSON", quoted.encode()),
            ("JSON in JSON", json.dumps(quoted)[1:-1].encode()),
            ("JSON", "".join(f"\\u{ord(one):04x}" for one in part).encode()),
            ("repr", repr(part)[1:-1].encode()),
            ("UTF-16", part.encode("utf-16-le")),
        ]
        # Base64 takes three bytes at a time: what stands around a canary decides on its ends.
        spelt += [
            ("base64", encode(bytes(shift) + raw)[4:-TAIL])
            for encode in (b64encode, urlsafe_b64encode)
            for shift in range(3)
        ]
        found |= {text.lower(): name for name, text in reversed(spelt)}
    return [(name, text) for text, name in found.items() if len(text) >= SHORTEST]


def hits(planted: Mapping[str, str], places: Mapping[str, bytes]) -> list[str]:
    """Return which canary was seen where, and how it was spelt there."""
    found = []
    for place, text in places.items():
        low = text.lower()
        for slot, value in planted.items():
            for name, needle in needles(value):
                if (at := low.find(needle)) >= 0:
                    around = text[max(0, at - 60) : at + len(needle) + 20]
                    found.append(f"{slot} in {place}: {name}: …{around!r}")
    return found


# -- a provider that tells all it hears --


def _whole(status: str, headers: str, body: str) -> bytes:
    raw = body.encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def _coded(text: str) -> str:
    return b64encode(f"ann:{text}".encode()).decode()


ANSWERS: Mapping[str, Callable[[str, str], bytes]] = {
    "refused": lambda key, head: _whole(
        "401 Unauthorized", f'WWW-Authenticate: Bearer error="{key}"\r\n', json.dumps({"you sent": head})
    ),
    "broken": lambda key, head: _whole(
        f"500 {key}",
        f"Set-Cookie: session={key}\r\nX-Echo: {key}\r\n",
        f"{quote(head)} {head.encode().hex()}",
    ),
    "moved": lambda key, _: _whole("302 Found", f"Location: https://elsewhere.example/?token={key}\r\n", key),
    "wrong": lambda key, head: _whole("400 Bad Request", "", json.dumps(json.dumps(head)) + _coded(key)),
    "done": lambda key, head: _whole("200 OK", "", json.dumps({"headers": head, "basic": _coded(key)})),
    "garbage": lambda key, _: f"HTTP/1.1 200 OK\r\n{key} \x00 {key}\r\n\r\n".encode(),
    "no-http": lambda key, _: f"{key}\r\n{key}\r\n\r\n".encode(),
    "long-header": lambda key, _: f"HTTP/1.1 200 OK\r\nX-Long: {key * 4000}\r\n\r\n".encode(),
    "odd-length": lambda key, _: f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n".encode(),
    "odd-chunk": lambda key, _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n".encode(),
    "odd-coding": lambda key, _: _whole("200 OK", f"Content-Encoding: {key}\r\n", key),
    "reset": lambda _key, _head: b"",
    "hang": lambda _key, _head: b"",
}
"""What it answers to ``/again/NAME``, given the credential and the whole head of the request."""


class Parrot:
    """A provider below HTTP; it says back what it was called with, in as many ways as it can."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.heard: list[str] = []
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            self._threads.append(threading.Thread(target=self._answer, args=(client,), daemon=True))
            self._threads[-1].start()

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(5)
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            self._converse(client)
        except OSError as error:
            self.heard.append(type(error).__name__)
        finally:
            client.close()

    def _converse(self, client: socket.socket) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw and (piece := client.recv(65536)):
            raw += piece
        head = raw.decode("latin-1")
        name = next((name for name in ANSWERS if f"/again/{name}" in head), "done")
        self.heard.append(name)
        if name == "hang":
            self._over.wait(5)
        if name in {"hang", "reset"}:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        key = re.search(r"(?i)authorization: Key ([^\r]*)", head)
        client.sendall(ANSWERS[name](key[1] if key else "", head))

    def stop(self) -> None:
        """Hang up on whoever is there."""
        self._over.set()
        for thread in self._threads:
            thread.join(6)
        self._socket.close()


@contextmanager
def parrot(tls: ssl.SSLContext | None = None) -> Iterator[Parrot]:
    """Serve until the block's end."""
    told = Parrot(tls)
    try:
        yield told
    finally:
        told.stop()
