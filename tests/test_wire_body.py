"""What a body asks of its connection before, while and after it is written, moment by moment."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from wires import BODY, request, run

from relay.wire import _Body, may_have_left


class Narrow(asyncio.Transport):
    """A transport that holds as many bytes as it is told."""

    def __init__(self, protocol: ResponseHandler) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.held = 0

    def is_closing(self) -> bool:
        """Stay open."""
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note what is written."""
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        """Tell what is held."""
        return self.held

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause as a transport does that holds more than *high*."""
        if high is not None and self.held > high:
            self.protocol.pause_writing()


Work = Callable[[_Body, StreamWriter, Narrow], Coroutine[Any, Any, None]]


def with_a_body(work: Work, body: bytes = BODY, **limits: float) -> _Body:
    """Run *work* with a body, its writer and the transport below them."""

    async def wired() -> _Body:
        loop = asyncio.get_running_loop()
        protocol = ResponseHandler(loop)
        protocol.set_response_params()
        protocol.transport = transport = Narrow(protocol)
        out = _Body(request("http://127.0.0.1/", "POST", body, **limits))
        await work(out, StreamWriter(protocol, loop), transport)
        return out

    return run(wired())


@pytest.mark.parametrize("stale", [True, False])
def test_nothing_is_written_where_an_answer_waits_already(stale: bool) -> None:
    """The body looks for itself: from Python 3.12 on it is asked to leave before aiohttp reads."""

    async def work(out: _Body, writer: StreamWriter, transport: Narrow) -> None:
        if stale:
            transport.protocol.data_received(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(Exception, match="stale") if stale else nullcontext():
            await out.write_with_length(writer, None)
        assert (b"" if stale else BODY) == transport.written

    assert may_have_left(with_a_body(work).request) is not stale


@pytest.mark.parametrize("moving", [True, False])
def test_bytes_that_move_start_the_write_time_anew(moving: bool) -> None:
    """A transport that holds less than a while ago is no stalled one, however long it takes in all."""

    async def work(out: _Body, writer: StreamWriter, transport: Narrow) -> None:
        transport.held = 1000
        transport.protocol.pause_writing()
        writing = asyncio.create_task(out.write_with_length(writer, None))
        for _ in range(10):
            await asyncio.sleep(0.02)
            transport.held -= 10 if moving else 0
        if moving:
            transport.protocol.resume_writing()
        with nullcontext() if moving else pytest.raises(httpx.WriteTimeout):
            await writing

    assert with_a_body(work, write=0.05).whole is moving


def test_the_read_time_begins_when_the_kernel_has_it_all() -> None:
    """What still waits in our own buffer has not been sent, so its answer can't be late."""

    async def work(out: _Body, writer: StreamWriter, transport: Narrow) -> None:
        transport.held = 1000  # not enough to pause a writer, but some of it is ours
        writing = asyncio.create_task(out.write_with_length(writer, None))
        await asyncio.sleep(0.02)
        assert (False, None) == (out.whole, transport.protocol.read_timeout)
        transport.held = 0
        transport.protocol.resume_writing()
        await writing
        assert (True, 2.0) == (out.whole, transport.protocol.read_timeout)

    assert with_a_body(work, body=b"x" * 100_000).whole
