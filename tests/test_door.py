"""How long may a sender take, and how much?  Our protocol on real sockets, with short times."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvicorn
from process import until
from raw import ask, dial, listen, request
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from relay.web.door import Door, Stage, Terms, late
from relay.web.protocol import behind
from relay.web.tally import Tally

SOON = Terms(
    connections=100, headers_s=0.6, body_s=1.2, grace_s=0.3, linger_s=0.3, look_s=0.05, bodies=1 << 20
)


@dataclass(slots=True, kw_only=True)
class House:
    """A server with a door, and an app that says how long the body was: /early does not read it."""

    door: Door
    url: str = ""
    bodies: list[int] = field(default_factory=list)
    gone: int = 0
    hold: threading.Event = field(default_factory=threading.Event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, and answer with its length."""
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            size += len(message["body"])
            more = message["more_body"]
        while scope["path"] == "/hold" and not self.hold.is_set():  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.01)
        self.bodies.append(size)
        said = bytes(4 << 20) if scope["path"] == "/large" else b"%d" % size
        headers = [(b"content-length", b"%d" % len(said))]
        if scope["path"] == "/early":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})


@contextmanager
def house(terms: Terms = SOON) -> Iterator[House]:
    """Open a house."""
    here = House(door=Door(terms, Tally()))
    config = uvicorn.Config(
        here.app,
        http=behind(here.door),
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started, "it has started")
        here.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield here
        here.hold.set()
        server.should_exit = True
        thread.join(10)
        assert 0 == here.door.held
        assert not here.door.inside


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", []),
        (b"POST / HTTP/1.1\r\nHo", [408]),
        (b"\r\n\r\n", []),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", [408]),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", [408]),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [200]),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", [200, 408]),
    ],
    ids=[
        "silent",
        "half a head",
        "line ends",
        "half a body",
        "an endless chunk",
        "idle",
        "half a second one",
    ],
)
def test_who_waits_too_long_is_sent_away(sent: bytes, status: list[int]) -> None:
    """With 408 where a request had begun, else without a word; relay's own turn is not counted."""
    with house() as here:
        began = time.monotonic()
        heard = ask(here.url, sent)

        assert (status, True) == (heard.statuses, heard.closed)
        assert 0.2 < time.monotonic() - began < 5


def test_a_byte_now_and_then_buys_no_time() -> None:
    """Headers that drip are cut at the same moment as headers that do not come; so are bodies."""
    with house() as here:
        for start in (
            b"POST / HTTP/1.1\r\nX: ",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n",
        ):
            with dial(here.url) as line:
                line.sendall(start)
                began = time.monotonic()
                with suppress(OSError):
                    while time.monotonic() < began + 10:
                        line.sendall(b"x")
                        time.sleep(0.02)
                assert time.monotonic() - began < 5


def test_relay_may_take_its_time() -> None:
    """Whoever waits for an answer is not slow himself."""
    with house() as here, dial(here.url) as line:
        line.sendall(request("/hold", b"x"))
        assert not listen(line, within_s=1.5).closed
        here.hold.set()
        assert [200] == listen(line, answers=1).statuses


def test_lateness_is_a_matter_of_stage() -> None:
    """The limits themselves, to the moment."""

    @dataclass(kw_only=True)
    class One:
        stage: Stage
        since: float = 0.0
        got: int = 0

        def cut(self, rejected: object) -> None:
            """Be cut."""

    terms = Terms()
    assert [False, True] == [late(One(stage=Stage.HEADERS), terms, now) for now in (10, 10.1)]
    assert [False, True] == [late(One(stage=Stage.BODY), terms, now) for now in (5, 5.1)]
    assert [False, True] == [late(One(stage=Stage.BODY, got=10_240), terms, now) for now in (10, 10.1)]
    assert [False, True] == [late(One(stage=Stage.BODY, got=1 << 30), terms, now) for now in (30, 30.1)]
    assert [False, True] == [late(One(stage=Stage.ANSWER), terms, now) for now in (30, 30.1)]
    assert [False, True] == [late(One(stage=Stage.END), terms, now) for now in (2, 2.1)]


def test_a_full_house_sends_the_slowest_away() -> None:
    """The newcomer stays, and so does the one for which relay works; who has waited longest goes."""
    with house(Terms(connections=3)) as here, ExitStack() as stack:
        working = stack.enter_context(dial(here.url))
        working.sendall(request("/hold", b"x"))
        until(lambda: here.door.inside and not here.door._waiting, "it is at work")
        oldest, second, newest = (stack.enter_context(dial(here.url)) for _ in range(3))

        assert listen(oldest).closed
        for line in (second, newest):
            line.sendall(request("/", b"xyz"))
            assert [200] == listen(line, answers=1).statuses
        here.hold.set()
        assert [200] == listen(working, answers=1).statuses


def test_a_house_full_of_work_takes_nobody_in() -> None:
    """Where nobody can be sent away, a newcomer is told to come again."""
    with house(Terms(connections=2)) as here, ExitStack() as stack:
        working = [stack.enter_context(dial(here.url)) for _ in range(2)]
        for line in working:
            line.sendall(request("/hold", b"x"))
        until(lambda: not here.door._waiting and len(here.door.inside) == 2, "both are at work")

        assert ([503], True) == ((heard := ask(here.url, b"")).statuses, heard.closed)
        here.hold.set()
        assert [[200], [200]] == [listen(line, answers=1).statuses for line in working]


def test_bodies_that_are_too_much_together_cost_the_slowest() -> None:
    """Two halves of what may be held are there for long: the older one gets 503, the newcomer is served."""
    with house(Terms(bodies=1 << 20)) as here, dial(here.url) as first, dial(here.url) as second:
        half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500001\r\n\r\n" + bytes(500_000)
        first.sendall(half)
        until(lambda: here.door.held == 500_000, "it is there")
        second.sendall(half)
        until(lambda: here.door.held == 1_000_000, "both are there")

        third = ask(here.url, request("/", bytes(200_000)), answers=1)

        assert [200] == third.statuses
        assert ([503], True) == ((heard := listen(first)).statuses, heard.closed)
        second.sendall(b"x")
        assert [200] == listen(second, answers=1).statuses
        until(lambda: here.door.held == 0, "all is let go")


def test_an_answer_comes_through_though_more_was_on_its_way() -> None:
    """Who is told no before the end of his body hears it, though he goes on for a while."""
    with house() as here, dial(here.url) as line:
        line.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
        time.sleep(0.1)
        line.sendall(bytes(50_000))
        time.sleep(0.1)

        assert ([200], True) == ((heard := listen(line)).statuses, heard.closed)


def test_the_rest_of_a_small_body_does_not_end_the_connection() -> None:
    """An answer that needs no body leaves the line open for the next request, if the rest is short."""
    with house() as here, dial(here.url) as line:
        line.sendall(request("/", b"abc"))
        assert [200] == listen(line, answers=1).statuses
        line.sendall(request("/", b"abcd"))
        assert [200] == listen(line, answers=1).statuses
        assert [3, 4] == here.bodies


def test_who_does_not_take_his_answer_is_sent_away() -> None:
    """An answer that nobody reads holds its memory no longer than a body may take to come."""
    with house() as here, dial(here.url) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(request("/large"))
        until(lambda: here.bodies, "it was asked")
        until(lambda: not here.door.inside, "it was sent away", 8)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"x" * 60_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 102, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 102, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
    ids=["target", "a value", "a name", "headers", "trailers", "TLS", "HTTP/2", "CONNECT"],
)
def test_what_is_too_much_is_refused_while_it_comes(raw: bytes, status: int) -> None:
    """Nothing is held until its end is there: it may have none."""
    with house(Terms()) as here:
        heard = ask(here.url, raw)

        assert ([status], True) == (heard.statuses, heard.closed)
        assert re.search(rb"(?i)content-type: application/problem\+json", heard.raw)


def test_a_hundred_slow_ones_are_one_line() -> None:
    """The log says how many there were, once a second, and forgets none."""
    with capture_logs() as lines, house() as here, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(dial(here.url)).sendall(b"GET")
        until(lambda: here.door.tally.totals["edge.slow"] == 60, "all were sent away")
        until(lambda: 60 == sum(line["count"] for line in lines), "all were said")

    assert len(lines) < 10
    assert {"edge.slow"} == {line["event"] for line in lines}
    assert {"headers"} == {line["waited_for"] for line in lines}
