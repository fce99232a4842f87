"""How are requests read from a connection?  By httptools under uvicorn, with limits while they are read."""

from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from relay.errors import Rejected
from relay.web.door import Door, Stage
from relay.web.guard import MOST_BYTES, MOST_HEADERS, weight
from relay.web.problem import problem

MOST_TARGET: Final = 8 << 10
"""Bytes of a request's target."""

PIECE: Final = 16 << 10
"""Bytes that are parsed between two looks at how much there is."""

LINGERED: Final = 64 << 10
"""Bytes that are thrown away after an answer that came before the body's end."""

BROKEN: Final = Rejected(400, "Bad request", "this is not HTTP/1.1 as RFC 9112 has it")
LONG: Final = Rejected(414, "URI too long", f"at most {MOST_TARGET} bytes")
LARGE: Final = Rejected(
    431, "Headers too large", f"at most {MOST_HEADERS} headers, {MOST_BYTES} bytes in all"
)


class _TooMuch(Exception):
    """Stops the parser."""


class _Gentle:
    """A transport that is closed so that what was written last gets through."""

    def __init__(self, connection: "Connection") -> None:
        self._transport = connection.transport
        self.close = connection.close_gently

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all else."""
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """
    One connection: HTTP/1.1 as httptools reads it, or 400, 408, 414, 431, 503 and its end.

    Not more is held of a head than may be in it; headers after the body (trailers) are thrown away, for all
    that reads headers has read them by then; and after a request that wants another protocol nothing is read.
    """

    door: ClassVar[Door]
    stage = Stage.HEADERS
    since = 0.0
    got = 0

    _held = 0
    _head = 0  #: bytes parsed since this head began
    _count = 0
    _weight = 0
    _begun = False  #: something of a request is here whose end is not
    _in_head = True
    _deaf = False  #: what comes is thrown away
    _thrown = 0
    _flaw: Rejected | None = None
    _running: RequestResponseCycle | None = None

    # -- what the transport tells --

    def connection_made(self, transport: Any) -> None:
        """Take a place, or say that there is none."""
        super().connection_made(transport)
        if self.door.enter(self):
            self.door.wait(self, Stage.HEADERS)
        else:
            self._answer(Rejected(503, "Too many connections", "all wait for relay: come again"))
            self._deaf = True
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._let_go()
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, piece by piece."""
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        while rest and not self._deaf and not self.transport.is_closing():
            piece, rest = rest[:PIECE], rest[PIECE:]
            self._head += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._deaf = True  # another protocol would begin here; the answer to this one ends it
            except httptools.HttpParserError:
                self._refuse(self._flaw or BROKEN)
            else:
                if self._in_head and self._head > MOST_BYTES + MOST_TARGET:
                    self._refuse(LARGE)
        if self._deaf:
            self._thrown += len(rest)
            if self._thrown > LINGERED:
                self.flow.pause_reading()

    def pause_writing(self) -> None:
        """Wait for a sender that does not take its answer."""
        super().pause_writing()
        self.door.wait(self, Stage.ANSWER)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        if not self.transport.is_closing():
            self.door.calm(self)

    # -- what the parser tells --

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun = self._in_head = True
        self._head = self._count = self._weight = 0

    def on_url(self, url: bytes) -> None:
        """Take in a part of the target."""
        super().on_url(url)
        if len(self.url) > MOST_TARGET:
            self._flaw = LONG
            raise _TooMuch

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header, or throw a trailer away; both are counted."""
        self._count += 1
        self._weight += weight(name, value)
        if self._count > MOST_HEADERS or self._weight > MOST_BYTES:
            self._flaw = LARGE
            raise _TooMuch
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the app begin, or queue the request behind those that came before."""
        self.scope["extensions"] = {"relay.target": {"raw": self.url}}
        super().on_headers_complete()
        self._in_head = False
        # uvicorn's own would be torn down with what the sender has still on its way.
        self.cycle.transport = _Gentle(self)  # type: ignore[assignment]
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False
        self.got = 0
        if self._running is self.cycle:
            self.door.wait(self, Stage.BODY)

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body, or throw it away, if the answer did not need it."""
        self.got += len(body)
        if self._deaf:
            return
        if self.cycle.response_complete:
            self._thrown += len(body)
            if self._thrown > LINGERED:
                self.close_gently()
            return
        super().on_body(body)
        self._held += len(body)
        self.door.hold(self, len(body))

    def on_message_complete(self) -> None:
        """Wait for the app; or for the next request, if it has answered already."""
        super().on_message_complete()
        self._begun = False
        if self._deaf:
            return
        if self.cycle.response_complete:
            self.door.wait(self, Stage.HEADERS)
        else:
            self.door.calm(self)

    # -- what the app tells --

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what comes next: a request, or the rest of a body that nobody waits for any more."""
        if self._deaf:
            self.server_state.total_requests += 1
            self._let_go()
            return
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self._let_go()
            self._thrown = 0
            if not self._in_body:
                self.door.wait(self, Stage.HEADERS)
        elif self._running is self.cycle and self._in_body:
            self.door.wait(self, Stage.BODY)

    @property
    def _in_body(self) -> bool:
        """Say if the newest request's head is here and its end is not."""
        return self._begun and not self._in_head

    def _let_go(self) -> None:
        self.door.hold(self, -self._held)
        self._held = 0

    # -- how it ends --

    def close_gently(self) -> None:
        """Close; while more is on its way, only our side at first: a reset would overtake the answer."""
        if self.transport.is_closing():
            return
        whole = not self._begun and not self._deaf
        self._deaf = True
        self.door.wait(self, Stage.ANSWER if whole else Stage.END)
        if whole:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.flow.resume_reading()

    def cut(self, rejected: Rejected | None) -> None:
        """End it now: with an answer, if a request has begun and none is under way; None: without."""
        if rejected is None or self.stage not in {Stage.HEADERS, Stage.BODY} or self._deaf:
            self.transport.abort()
            return
        if self._begun:
            self._answer(rejected)
        self._deaf = True
        self._let_go()
        self.transport.close()
        self.door.wait(self, Stage.END)

    def _refuse(self, rejected: Rejected) -> None:
        """Answer what is no request, after those that came before it, and close."""
        self.door.tally.speak("edge.refused", status=str(rejected.status), why=rejected.why)
        self._deaf = True
        running = self._running
        if running is None or running.response_complete or (running is self.cycle and self._in_body):
            self._answer(rejected)
            self.close_gently()
        else:
            # Answers have no other name than their order: the one that is due comes, and is the last.
            self.pipeline.clear()
            running.keep_alive = False

    def _answer(self, rejected: Rejected) -> None:
        """Write an answer of our own, and let the app know that nobody listens to its own any more."""
        running = self._running
        started = running is not None and running.response_started and not running.response_complete
        if running is not None and not running.response_complete:
            running.scope.setdefault("extensions", {})["relay.cut"] = {"why": rejected.why}
            running.disconnected = True
            running.message_event.set()
        if started:
            return
        answer = problem(rejected.status, rejected.title, rejected.why, {"Connection": "close"})
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[rejected.status], *lines, b"\r\n", bytes(answer.body)]))


def behind(door: Door) -> type[Connection]:
    """Return the protocol of all connections that share a door: uvicorn makes one for each."""

    class Behind(Connection):
        """A connection behind this door."""

    Behind.door = door
    return Behind
