"""A server below HTTP, scripted stage by stage, that writes down every byte it gets; and shots at it."""

import asyncio
import datetime as dt
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import aiohttp
import httpx
import trustme
import uvloop

from relay.provider import Answer, Request, Timeouts, Upload
from relay.reach import Reach
from relay.send import Sender
from relay.wire import REACH, AiohttpTransport, may_have_left

T = TypeVar("T")

NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.LocalProtocolError)
SHORT = Timeouts(connect=1, write=1, read=1, total=2)
METHODS = ("POST", "PUT")
BODY = b'{"file_ids": ["1862f090"]}'
HERE = Reach(networks=(ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def open_files() -> int:
    """Count what this process holds open, sockets included."""
    return len(list(Path("/dev/fd").iterdir()))


def run(work: Coroutine[Any, Any, T], loop: str = "asyncio", within_s: float = 20.0) -> T:
    """Run *work* to its end in a fresh event loop of that kind."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(asyncio.wait_for(work, within_s))


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.got = bytearray()

    async def take(self, count: int) -> None:
        """Read *count* bytes."""
        for _ in range(count):
            self.got += await self.reader.readexactly(1)

    async def request(self) -> bytes:
        """Read one whole request with a Content-Length, or without a body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.got += head
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = await self.reader.readexactly(length)
        self.got += body
        return head + body

    async def say(self, data: bytes) -> None:
        """Send *data*."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while data := await self.reader.read(65536):
            self.got += data

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """What is listening, and every connection it had."""

    port: int
    scheme: str = "http"
    peers: list[Peer] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}/retry"

    @property
    def got(self) -> bytes:
        """Every byte of every request."""
        return b"".join(peer.got for peer in self.peers)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve each connection by *script*; a connection ends with its script, and all end with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        server.peers.append(peer)
        try:
            await script(peer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()
            tasks.discard(task)

    listening = await asyncio.start_server(serve, sock=listener(100), ssl=tls)
    server = Server(listening.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for peer in server.peers:
            peer.writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # let the sockets close


def listener(backlog: int) -> socket.socket:
    """Return a socket that listens and accepts nothing by itself."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    return sock


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What became of one request."""

    error: type[Exception] | None
    why: str
    sent: bool
    status: int | None = None
    body: bytes = b""


def request(url: str, method: str = "POST", body: bytes = BODY, **limits: float) -> httpx.Request:
    """Return a request with short limits."""
    timeout = {"connect": 2.0, "write": 2.0, "read": 2.0, "pool": None} | limits
    return httpx.Request(method, url, content=body, extensions={"timeout": timeout, REACH: HERE})


async def shoot(transport: AiohttpTransport, wanted: httpx.Request) -> Shot:
    """Send *wanted*; the class of an error and `may_have_left` must agree."""
    response: httpx.Response | None = None
    failure: httpx.TransportError | None = None
    body = b""
    try:
        response = await transport.handle_async_request(wanted)
        async for piece in response.aiter_raw():
            body += piece
    except httpx.TransportError as error:
        failure = error
    finally:
        if response is not None:
            await response.aclose()
    sent = may_have_left(wanted)
    assert isinstance(failure, NOTHING_LEFT) is not sent, repr(failure)
    return Shot(
        error=None if failure is None else type(failure),
        why=str(failure or ""),
        sent=sent,
        status=None if response is None else response.status_code,
        body=body,
    )


async def once(script: Script, method: str, body: bytes = BODY, **limits: float) -> tuple[Shot, Server]:
    """Send one request to a server of that script; bytes that arrived must be said to may have left."""
    async with serving(script) as server:
        transport = AiohttpTransport()
        try:
            shot = await shoot(transport, request(server.url, method, body, **limits))
        finally:
            await transport.aclose()
    assert shot.sent or not server.got, "bytes arrived that are said not to have left"
    return shot, server


@dataclass(frozen=True)
class Trust:
    """An authority, and TLS settings for those who know it."""

    ca: trustme.CA = field(default_factory=lambda: trustme.CA(key_type=trustme.KeyType.ECDSA))

    def server(self, name: str, *, expired: bool = False) -> ssl.SSLContext:
        """Return the settings of a server of that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ends = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if expired else None
        self.ca.issue_cert(name, not_after=ends).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the settings of a client that trusts the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        return context


async def answers(peer: Peer) -> None:
    """Answer every request."""
    while await peer.request():
        await peer.say(OK)


def call(url: str, body: bytes | Upload = b"{}", timeouts: Timeouts = SHORT) -> Request:
    """Return what a provider's action would be rendered to."""
    headers = (("Authorization", "Bearer sesame"), ("X-Disable-Hooks", "true"))
    return Request(method="POST", url=url, headers=headers, body=body, timeouts=timeouts, reach=HERE)


async def sent(
    script: Script, body: bytes | Upload = b"{}", timeouts: Timeouts = SHORT
) -> tuple[Answer, Server]:
    """Send one request with that *body* to a server of that script."""
    async with serving(script) as server:
        sender = Sender()
        try:
            answer = await sender(call(server.url, body, timeouts))
        finally:
            await sender.close()
    return answer, server


def says(data: bytes) -> Script:
    """Return a script that answers so, and then closes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)

    return script


class Book(aiohttp.abc.AbstractResolver):
    """A name server that says what we like; each name it was asked for is written down."""

    def __init__(self, says: Callable[[str], Sequence[str]]) -> None:
        self.says = says
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """Answer as getaddrinfo does."""
        self.asked.append(host)
        return [
            {"hostname": host, "host": one, "port": port, "family": family, "proto": 0, "flags": 0}
            for one in self.says(host)
        ]

    async def close(self) -> None:
        """Nothing to close."""
