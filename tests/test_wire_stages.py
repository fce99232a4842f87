"""Failure injected at every byte of a request and of its answer: what is said of it, and what had left."""

import asyncio
from dataclasses import dataclass

import httpx
import pytest
from wires import LOOPS, METHODS, OK, Peer, once, open_files, request, run, serving, shoot

from relay.wire import AiohttpTransport

BIG = b"x" * (8 << 20)

# -- every byte of the request --


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_whatever_byte_of_the_request_the_peer_dies_at_it_may_have_left(method: str, loop: str) -> None:
    """Bytes that arrived are always said to may have left, wherever the connection is reset."""

    async def work() -> int:
        seen: list[bytes] = []

        async def whole(peer: Peer) -> None:
            seen.append(await peer.request())
            await peer.say(OK)

        await once(whole, method)
        for position in range(1, len(seen[0]) + 1):

            async def dies(peer: Peer, position: int = position) -> None:
                await peer.take(position)
                peer.reset()

            shot, server = await once(dies, method)
            assert (position, True) == (len(server.got), shot.sent)
            assert shot.error in {httpx.ReadError, httpx.WriteError}, position
            assert "connection reset by peer" == shot.why
        return len(seen[0])

    assert run(work(), loop) > 90


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_peer_that_dies_as_it_accepts_is_told_right(how: str, method: str, loop: str) -> None:
    """Whether the request won or lost the race, nothing is said not to have left that did."""

    async def dies(peer: Peer) -> None:
        if how == "reset":
            peer.reset()

    async def work() -> None:
        for _ in range(20):
            shot, _ = await once(dies, method)  # holds the rule
            assert shot.error is not None

    run(work(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("taken", [1, 100_000])
def test_a_reset_in_a_long_body_is_a_write_error(taken: int, method: str, loop: str) -> None:
    """A connection that breaks while bytes still wait to leave breaks in the writing."""

    async def dies(peer: Peer) -> None:
        await peer.take(taken)
        peer.reset()

    shot, _ = run(once(dies, method, BIG), loop)

    assert (True, httpx.WriteError) == (shot.sent, shot.error)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_peer_that_stops_reading_ends_in_a_write_timeout(method: str, loop: str) -> None:
    """Bytes that do not move for the write time end the request, and what waits is not sent later."""

    async def stops(peer: Peer) -> None:
        await peer.take(10)
        peer.writer.get_extra_info("socket")
        await asyncio.sleep(5)

    shot, server = run(once(stops, method, BIG, write=0.2), loop)

    assert (True, httpx.WriteTimeout) == (shot.sent, shot.error)
    assert len(server.got) < len(BIG)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_upload_is_no_silence(loop: str) -> None:
    """While the body is on its way the read time has not begun, whatever the peer says meanwhile."""

    async def slow(peer: Peer) -> None:
        await peer.take(100)
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        for _ in range(8):
            await peer.reader.readexactly(1 << 19)
            await asyncio.sleep(0.08)
        left = len(BIG) - (8 << 19) - 30
        while left > 0:
            left -= len(await peer.reader.read(1 << 20))
        await peer.say(OK)

    shot, _ = run(once(slow, "PUT", BIG, read=0.25), loop)

    assert (None, 200) == (shot.error, shot.status)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["timed out", "answered", "cancelled"])
def test_what_was_not_sent_when_it_ended_is_not_sent_later(how: str, loop: str) -> None:
    """Bytes that still wait for a peer that does not read go with the connection, at once."""

    async def stops(peer: Peer) -> None:
        await peer.take(10)
        if how == "answered":
            await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await asyncio.sleep(5)

    async def work() -> int:
        async with serving(stops) as server:
            transport = AiohttpTransport()
            before = open_files()
            wanted = request(server.url, "PUT", BIG, write=0.2 if how == "timed out" else 2)
            task = asyncio.create_task(shoot(transport, wanted))
            await asyncio.wait({task}, timeout=0.1 if how == "cancelled" else 1)
            task.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(0.01)
            left = open_files() - before
            await transport.aclose()
        return left

    assert 1 == run(work(), loop), "the server's side is open, ours is not"


def test_an_answer_before_the_end_of_the_body_is_taken() -> None:
    """A 413 in the middle of an upload is an answer; the connection goes with it."""

    async def refuses(peer: Peer) -> None:
        await peer.take(1000)
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.gone()

    shot, server = run(once(refuses, "PUT", BIG))

    assert (413, b"big", None) == (shot.status, shot.body, shot.error)
    assert 1 == len(server.peers)


def test_an_early_answer_that_stalls_ends_in_a_read_timeout() -> None:
    """Silence within an answer ends it, even while the body is still on its way."""

    async def refuses(peer: Peer) -> None:
        await peer.take(1000)
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nb")
        await asyncio.sleep(5)

    shot, _ = run(once(refuses, "PUT", BIG, read=0.2, write=3.0))

    assert (413, httpx.ReadTimeout) == (shot.status, shot.error)


# -- every byte of the answer --


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_whatever_byte_of_the_answer_is_the_last_it_may_have_left(how: str, method: str, loop: str) -> None:
    """Before the head is whole there is no answer; after it there is one, whole or broken."""
    head = OK.index(b"\r\n\r\n") + 4

    async def work() -> None:
        for position in range(len(OK) + 1):

            async def breaks(peer: Peer, position: int = position) -> None:
                await peer.request()
                await peer.say(OK[:position])
                if how == "reset":
                    await asyncio.sleep(0.002)  # a RST overtakes what was not yet read
                    peer.reset()

            shot, _ = await once(breaks, method)
            assert shot.sent
            assert (200 if position >= head else None) == shot.status, position
            assert (position == len(OK)) is (shot.error is None), position
            if how == "closed" and shot.error is not None:
                assert httpx.RemoteProtocolError is shot.error, position

    run(work(), loop)


@dataclass(frozen=True, kw_only=True)
class Bad:
    """Bytes that come back, and what is made of them."""

    data: bytes
    error: type[Exception]
    why: str
    status: int | None = None
    closes: bool = True


HEAD = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "garbage": Bad(
        data=b"\x15\x03\x01\x00\x02\x02\x16", error=httpx.RemoteProtocolError, why="malformed answer"
    ),
    "text": Bad(data=b"it works!\r\n\r\n", error=httpx.RemoteProtocolError, why="malformed answer"),
    "status": Bad(data=b"HTTP/1.1 OK\r\n\r\n", error=httpx.RemoteProtocolError, why="malformed answer"),
    "flood": Bad(
        data=HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n",
        error=httpx.RemoteProtocolError,
        why="malformed answer",
    ),
    "endless header": Bad(
        data=HEAD + b"X-Long: " + b"y" * 100_000, error=httpx.RemoteProtocolError, why="malformed answer"
    ),
    "two lengths": Bad(
        data=HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        error=httpx.RemoteProtocolError,
        why="malformed answer",
    ),
    "only 100": Bad(
        data=b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        error=httpx.RemoteProtocolError,
        why="connection closed without an answer",
    ),
    "silence": Bad(data=b"", error=httpx.ReadTimeout, why="no answer within 0.2 s", closes=False),
    "silence in the head": Bad(
        data=HEAD, error=httpx.ReadTimeout, why="no answer within 0.2 s", closes=False
    ),
    "silence in the body": Bad(
        data=HEAD + b"Content-Length: 5\r\n\r\nab",
        error=httpx.ReadTimeout,
        why="no more of the answer within 0.2 s",
        status=200,
        closes=False,
    ),
    "bad chunk": Bad(
        data=HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
        error=httpx.RemoteProtocolError,
        why="",
        closes=False,
    ),
    "cut chunks": Bad(
        data=HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        error=httpx.RemoteProtocolError,
        why="the answer broke off",
        status=200,
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_may_have_been_earned(name: str, method: str, loop: str) -> None:
    """Whatever comes back instead of an answer, or nothing: the request may have arrived."""
    bad = BAD[name]

    async def says(peer: Peer) -> None:
        await peer.request()
        await peer.say(bad.data)
        if not bad.closes:
            await asyncio.sleep(5)

    shot, server = run(once(says, method, read=0.2), loop)

    assert (bad.error, True) == (shot.error, shot.sent)
    assert shot.why.startswith(bad.why)
    assert bad.status is None or bad.status == shot.status
    assert 1 == server.got.count(b"HTTP/1.1"), "sent twice"
