"""Where a request goes, over which connection, and whether anything can have left."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest
from wires import (
    LOOPS,
    METHODS,
    OK,
    Peer,
    Script,
    Server,
    Shot,
    Trust,
    answers,
    listener,
    request,
    run,
    says,
    serving,
    shoot,
)

from relay.wire import AiohttpTransport

# -- nothing can have left --


class Nowhere(aiohttp.abc.AbstractResolver):
    """Knows no name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """Fail as getaddrinfo does."""
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_name_that_is_not_found_sends_nothing(method: str, loop: str) -> None:
    """No address, no connection, no byte."""

    async def work() -> Shot:
        transport = AiohttpTransport(resolver=Nowhere())
        try:
            return await shoot(transport, request("http://provider.invalid/", method))
        finally:
            await transport.aclose()

    assert Shot(error=httpx.ConnectError, why="name not found: provider.invalid", sent=False) == run(
        work(), loop
    )


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_refused_connection_sends_nothing(method: str, loop: str) -> None:
    """A port where nobody listens takes no byte."""

    async def work() -> Shot:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            transport = AiohttpTransport()
            try:
                return await shoot(transport, request(f"http://127.0.0.1:{bound.getsockname()[1]}/", method))
            finally:
                await transport.aclose()

    assert Shot(error=httpx.ConnectError, why="connection refused", sent=False) == run(work(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_host_that_takes_no_connection_sends_nothing(method: str, loop: str) -> None:
    """When the connect time is over, no byte has left."""

    async def work() -> Shot:
        full = listener(backlog=0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # the kernel drops the SYN of whoever comes after the queue is full
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        transport = AiohttpTransport()
        try:
            url = f"http://127.0.0.1:{full.getsockname()[1]}/"
            return await shoot(transport, request(url, method, connect=0.2))
        finally:
            await transport.aclose()
            for sock in (full, *fillers):
                sock.close()

    expected = Shot(error=httpx.ConnectTimeout, why="no connection within 0.2 s", sent=False)
    assert expected == run(work(), loop)


@pytest.mark.parametrize("url", ["http://2130706433/", "http://127.1/"])
def test_an_address_in_disguise_is_refused(url: str) -> None:
    """Forms of IPv4 that only inet_aton knows are no addresses to us."""

    async def work() -> Shot:
        transport = AiohttpTransport()
        try:
            return await shoot(transport, request(url))
        finally:
            await transport.aclose()

    assert run(work()).sent is False


# -- TLS --


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


async def hangs_up(peer: Peer) -> None:
    await peer.reader.read(10)


async def hears_nothing(peer: Peer) -> None:
    await peer.reader.read(10_000)
    await asyncio.sleep(5)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ("stranger", "certificate: "),
        ("wrong name", "certificate: IP address mismatch"),
        ("hangs up", "connection failed"),
        ("no TLS", "TLS: "),
        ("silent", "no connection within 0.3 s"),
        ("good", ""),
    ],
)
def test_a_broken_handshake_sends_nothing(stage: str, why: str, method: str, loop: str, trust: Trust) -> None:
    """A request leaves only over a connection whose other end has shown who it is."""
    script = {"hangs up": hangs_up, "silent": hears_nothing, "no TLS": greets}.get(stage, answers)
    name = "other.example" if stage == "wrong name" else "127.0.0.1"
    theirs = trust.server(name) if script is answers else None
    ours = None if stage == "stranger" else trust.client()

    async def work() -> tuple[Shot, Server]:
        async with serving(script, theirs) as server:
            transport = AiohttpTransport(tls=ours)
            try:
                url = server.url.replace("http:", "https:")
                return await shoot(transport, request(url, method, connect=0.3)), server
            finally:
                await transport.aclose()

    shot, server = run(work(), loop)

    if stage == "good":
        assert (None, 200, b"ok", True) == (shot.error, shot.status, shot.body, shot.sent)
        return
    assert (False, 0) == (shot.sent, server.got.count(method.encode()))  # a ClientHello may have come
    assert shot.error in {httpx.ConnectError, httpx.ConnectTimeout}
    assert shot.why.startswith(why)


async def greets(peer: Peer) -> None:
    await peer.say(b"220 mail.example ESMTP\r\n")
    await peer.gone()


def test_a_peer_that_speaks_first_gets_nothing() -> None:
    """What talks before it is asked does not talk HTTP, or answers somebody else."""

    async def work() -> tuple[Shot, Server]:
        async with serving(greets, None) as server:
            transport = AiohttpTransport()
            try:
                return await shoot(transport, request(server.url)), server
            finally:
                await transport.aclose()

    shot, server = run(work())

    assert shot.sent or b"" == server.got  # a race that may end either way, but never with a lie


# -- kept-alive connections --


async def twice(
    script: Script, method: str, between: Callable[[Server], Awaitable[None]] | None = None
) -> tuple[Shot, Server]:
    """Send two requests over one transport, something *between* them; return what became of the second."""
    async with serving(script) as server:
        transport = AiohttpTransport()
        try:
            first = await shoot(transport, request(server.url, method))
            assert (None, True) == (first.error, first.sent)
            if between is not None:
                await between(server)
            return await shoot(transport, request(server.url, method, read=0.5)), server
        finally:
            await transport.aclose()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"])
def test_a_connection_is_used_again(answer: bytes, loop: str) -> None:
    """A whole answer, or one without a body, gives the connection back."""

    async def says(peer: Peer) -> None:
        while await peer.request():
            await peer.say(answer)

    shot, server = run(twice(says, "POST"), loop)

    assert (None, 1, 2) == (shot.error, len(server.peers), server.got.count(b"POST"))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_connection_seen_to_close_is_replaced(method: str, loop: str) -> None:
    """A FIN that has come in costs nothing: the next request takes a new connection."""

    async def one(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)

    async def while_(server: Server) -> None:
        await asyncio.sleep(0.02)

    shot, server = run(twice(one, method, while_), loop)

    assert (None, 200, 2) == (shot.error, shot.status, len(server.peers))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_connection_that_closes_under_our_hands_is_not_replaced(how: str, method: str, loop: str) -> None:
    """The request may have arrived, so it is not sent again: not even a PUT, which aiohttp would resend."""

    async def two(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.take(1)
        if how == "reset":
            peer.reset()

    shot, server = run(twice(two, method), loop)

    assert (True, 1) == (shot.sent, len(server.peers))
    assert shot.error in {httpx.ReadError, httpx.RemoteProtocolError}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_close_that_crosses_the_request_is_unknown(method: str, loop: str) -> None:
    """A FIN that is seen in time keeps all bytes here, one that is not leaves a doubt; nobody sends again."""

    async def one(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.gone()

    async def close(server: Server) -> None:
        # Without giving the loop a turn: it must not see the FIN before the request is written.
        number = server.peers[0].writer.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(number)) as same:
            same.shutdown(socket.SHUT_RDWR)

    shot, server = run(twice(one, method, close), loop)

    assert (1, 1) == (len(server.peers), server.got.count(method.encode()))
    if loop == "uvloop" and not shot.sent:  # it looks at its sockets before it goes on with a new task
        assert httpx.ConnectError is shot.error
    else:
        assert (True, httpx.RemoteProtocolError) == (shot.sent, shot.error)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [0, 5])
def test_an_answer_nobody_asked_for_is_not_ours(length: int, method: str, loop: str) -> None:
    """A 408 that a server says into an idle connection answers nothing that comes later, whole or not."""

    async def times_out(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await asyncio.sleep(0.01)
        await peer.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: %d\r\n\r\n" % length)
        await peer.gone()

    async def while_(server: Server) -> None:
        await asyncio.sleep(0.05)

    shot, server = run(twice(times_out, method, while_), loop)

    assert Shot(error=httpx.ConnectError, why="connection gone stale", sent=False) == shot
    assert 1 == server.got.count(method.encode())


def test_a_request_that_is_sent_again_is_told_anew() -> None:
    """What is said of one try is not said of the next."""

    async def work() -> list[bool]:
        transport = AiohttpTransport()
        try:
            async with serving(says(OK)) as server:
                wanted = request(server.url)
                first = await shoot(transport, wanted)
            return [first.sent, (await shoot(transport, wanted)).sent]
        finally:
            await transport.aclose()

    assert [True, False] == run(work())
