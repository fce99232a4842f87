"""
How do the bytes of a request leave, and how far did they get?

An httpx transport over aiohttp. Whatever goes wrong, `may_have_left` tells whether a byte of the request was
handed to a socket, and the class of the error agrees: `httpx.ConnectError`, `ConnectTimeout` and
`LocalProtocolError` mean that none was, every other `httpx.TransportError` that some may have been.

Addresses are checked where they are used: all that a name server says before any is tried, and each again as
its socket is made. A connection goes to the checked address itself: no name is asked for twice in between.

What we rely on in aiohttp 3.14 beyond its documentation, each held by a test in test_wire.py:

* A middleware is called inside the loop that resends idempotent methods over a stale connection, and that
  loop knows aiohttp's errors only. Ours leave as httpx's, so nothing is ever sent twice.
* `Payload.write_with_length` is called once, before anything was written, and `StreamWriter.write` puts the
  head and the first piece into the transport without giving way to another task. So the moment is exact.
* Every connection begins with `socket_factory`, with the address that is then connected to: also one that
  stands in the URL, for which no resolver is asked.
* `ResponseHandler.should_close` is true once anything came in unasked; `read_timeout` alone starts no clock.
"""

import asyncio
import os
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final, Self, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from yarl import URL

from relay.reach import Reach, denied

if TYPE_CHECKING:
    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import AddrInfoType
    from aiohttp.http import StreamWriter

KEEP_ALIVE_S: Final = 4.0
"""Seconds an idle connection is kept. Node and uvicorn drop theirs after 5: one that closes under our hands
may swallow a request, and nobody could say whether it did."""

PIECE: Final = 1 << 16
"""Bytes handed over at once: asyncio moves all that waits with every packet that leaves."""

LONGEST_LINE: Final = 1 << 16
"""Bytes of one header of an answer. Policies and cookies outgrow aiohttp's 8 KiB, and an answer that is
refused for its size is an answer that is lost."""

STALE: Final = "connection gone stale"
SENT: Final = "relay.sent"
REACH: Final = "relay.reach"
"""The request's extension that says which addresses it may reach; without it, public ones."""


def may_have_left(request: httpx.Request) -> bool:
    """Say whether a byte of *request* was ever handed to a socket."""
    return bool(request.extensions.get(SENT, False))


def system_trust() -> ssl.SSLContext:
    """Return TLS settings that trust what this system trusts, and check names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # create_default_context would obey SSLKEYLOGFILE
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


class AiohttpTransport(httpx.AsyncBaseTransport):
    """
    Sends exactly the request it is given, and once: nothing is added, followed, decoded or sent again.

    Timeouts are those of ``request.extensions["timeout"]``, in seconds; None waits for ever. *connect* covers
    name, TCP and TLS; *write* ends a request whose bytes stop moving; *read* ends a silence, though not one
    after a 1xx answer (aiohttp stops its clock there), so the caller keeps a limit for the whole. *pool* has
    no meaning: nobody waits for a connection. ``request.extensions[REACH]`` says where it may go; connections
    are used again only by requests that may go to the same places. Raises `httpx.TransportError`. Lives in
    one event loop.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, resolver: AbstractResolver | None = None
    ) -> None:
        self._tls = tls
        self._resolver = resolver
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; return as soon as the head of the answer is there."""
        if request.url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol("not an http or https address")
        body = _Body(request)

        async def exactly(
            outgoing: aiohttp.ClientRequest, handler: "ClientHandlerType"
        ) -> aiohttp.ClientResponse:
            outgoing.headers.clear()
            outgoing.headers.extend(head)
            try:
                return await handler(outgoing)
            except BaseException as error:
                body.abort()
                if isinstance(error, Exception):
                    raise _translated(error, body) from error
                raise

        try:
            head = [(name.decode("ascii"), value.decode()) for name, value in request.headers.raw]
            url = URL(str(request.url), encoded=True)
            answer = await self._opened(request.extensions.get(REACH, Reach())).request(
                request.method,
                url,
                data=body,
                allow_redirects=False,
                ssl=self._trusted() if url.scheme == "https" else True,
                middlewares=(exactly,),
                timeout=aiohttp.ClientTimeout(connect=body.connect),
            )
        except (aiohttp.ClientError, ValueError) as error:  # refused before the middleware was reached
            raise httpx.LocalProtocolError("the request can't be put on the wire") from error
        stream = _Answer(answer, body)
        if not may_have_left(request):
            # Said into an idle connection, as a 408 before it closes: no answer to what has not left.
            await stream.aclose()
            raise httpx.ConnectError(STALE)
        if not body.whole and answer.connection is not None and answer.connection.protocol is not None:
            # Answered early: the body is still on its way, and aiohttp would start the clock only after it.
            answer.connection.protocol.read_timeout = body.read
            answer.connection.protocol.start_timeout()
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=stream, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    def _trusted(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = system_trust()
        return self._tls

    def _opened(self, reach: Reach) -> aiohttp.ClientSession:
        if reach not in self._sessions:
            # aiodns, where it is installed, knows other names than the operator's own tools do
            resolver = self._resolver or aiohttp.ThreadedResolver()
            self._sessions[reach] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Guarded(resolver, reach),
                    socket_factory=partial(_socket, reach),
                    limit=0,
                    keepalive_timeout=KEEP_ALIVE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
                skip_auto_headers=("Content-Type",),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[reach]


class _Denied(OSError):
    """An address that this request must not reach."""


class _Guarded(AbstractResolver):
    """A resolver whose answer counts only if a request with this *reach* may go to all of it."""

    def __init__(self, resolver: AbstractResolver, reach: Reach) -> None:
        self._resolver = resolver
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return every address of *host*. Raises an OSError where one is denied: no other is picked then."""
        found = await self._resolver.resolve(host, port, family)
        for one in found:
            if why := denied(one["host"], self._reach):
                raise _Denied(f"address refused: {host} is {one['host']}, {why}")
        return found

    async def close(self) -> None:
        """Nothing to close: the resolver is shared."""


def _socket(reach: Reach, where: "AddrInfoType") -> socket.socket:
    """Make the socket for a connection to *where*, if it may be reached."""
    family, kind, proto, _, address = where
    if why := denied(address[0], reach):
        raise _Denied(f"address refused: {address[0]} is {why}")
    return socket.socket(family, kind, proto)


class _Broken(Exception):
    """The connection can't take the request, or the body is not what its length says."""


class _Body(aiohttp.Payload):
    """Head and body on their way into the transport: the only place that knows if anything left."""

    def __init__(self, request: httpx.Request) -> None:
        super().__init__(request)
        if "transfer-encoding" in request.headers:
            raise httpx.LocalProtocolError("a body needs a known length")
        limits = request.extensions.get("timeout", {})
        self.connect: float | None = limits.get("connect")
        self.write_s: float | None = limits.get("write")
        self.read: float | None = limits.get("read")
        self.request = request
        request.extensions[SENT] = False
        self.whole = False  #: all of it is in the transport
        self.failure: Exception | None = None  #: why it stopped
        self._transport: asyncio.Transport | None = None

    @property
    def size(self) -> int:
        return int(self.request.headers.get("content-length", 0))

    def abort(self) -> None:
        """Drop the connection with what it has not sent yet; an orderly close would go on sending."""
        if self._transport is not None:
            self._transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002  (their names)
        """Refuse: aiohttp asks only bodies of text, and only to print them."""
        raise TypeError("a request's body is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002  (aiohttp would clip a body that is too long; we refuse it)
    ) -> None:
        stream = cast("StreamWriter", writer)
        protocol = cast("ResponseHandler", stream.protocol)
        try:
            await self._write(stream, protocol)
        except Exception as error:
            self.failure = error
            raise
        self.whole = True
        # The answer may be awaited from now on: aiohttp starts the clock as soon as we return.
        protocol.read_timeout = self.read

    async def _write(self, writer: "StreamWriter", protocol: "ResponseHandler") -> None:
        left = self.size
        stream = cast("httpx.AsyncByteStream", self.request.stream)
        async for piece in stream:
            left -= len(piece)
            if left < 0:
                raise _Broken("the body is longer than it was said to be")
            for start in range(0, len(piece), PIECE):
                await self._put(writer, protocol, piece[start : start + PIECE])
        if left:
            raise _Broken("the body is shorter than it was said to be")
        if not may_have_left(self.request):
            await self._put(writer, protocol, b"")
        if self.size > PIECE and self._transport is not None:
            # The silence of reading begins when the kernel has it all, not while the last pieces wait here.
            self._transport.set_write_buffer_limits(0)
            await self._drained(writer, protocol, self._transport)
            self._transport.set_write_buffer_limits()

    async def _put(self, writer: "StreamWriter", protocol: "ResponseHandler", piece: bytes) -> None:
        """Hand *piece* to the transport, the head before it if it is the first; wait while it is full."""
        transport = self._transport = protocol.transport
        if transport is None or transport.is_closing():
            raise _Broken("connection closed")
        if not may_have_left(self.request) and protocol.should_close:
            raise _Broken(STALE)
        self.request.extensions[SENT] = True
        await writer.write(piece, drain=False)
        await self._drained(writer, protocol, transport)

    async def _drained(
        self, writer: "StreamWriter", protocol: "ResponseHandler", transport: asyncio.Transport
    ) -> None:
        """Wait until *transport* takes more; raise WriteTimeout where what it holds does not shrink."""
        if not protocol.writing_paused:
            return
        # Cancelling drain() itself would spoil the future that aiohttp shares between its waiters.
        drained = asyncio.ensure_future(writer.drain())
        try:
            while not drained.done():
                waiting = transport.get_write_buffer_size()
                await asyncio.wait({drained}, timeout=self.write_s)
                if not drained.done() and transport.get_write_buffer_size() >= waiting:
                    raise httpx.WriteTimeout(f"no progress in sending for {self.write_s:g} s")
            await drained
        finally:
            drained.cancel()


class _Answer(httpx.AsyncByteStream):
    """The body of an answer, as it comes in. Closed before its end, it takes the connection along."""

    def __init__(self, answer: aiohttp.ClientResponse, sent: _Body) -> None:
        self._answer = answer
        self._sent = sent

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._answer.content.readany()
        except aiohttp.SocketTimeoutError as error:
            raise httpx.ReadTimeout(f"no more of the answer within {self._sent.read:g} s") from error
        except aiohttp.ClientPayloadError as error:
            raise httpx.RemoteProtocolError("the answer broke off") from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise httpx.ReadError("connection lost in the answer") from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        connection = self._answer.connection  # None once it is back in the pool, or lost
        if not self._sent.whole:
            self._sent.abort()
        elif connection is not None and connection.transport is not None:
            connection.transport.abort()  # over TLS an orderly close would wait for the peer's
        self._answer.close()


def _translated(error: Exception, body: _Body) -> httpx.TransportError:
    """Return *error* in httpx's words: a connect error if, and only if, nothing can have left."""
    cause = body.failure or error
    why = _why(cause, body)
    if not may_have_left(body.request):
        kind = httpx.ConnectTimeout if isinstance(error, TimeoutError) else httpx.ConnectError
        return kind(why)
    match cause:
        case httpx.TransportError():
            return cause
        case aiohttp.SocketTimeoutError():
            return httpx.ReadTimeout(why)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(why)
        case _:
            return httpx.ReadError(why) if body.whole else httpx.WriteError(why)


def _why(error: Exception, body: _Body) -> str:
    """Say what happened in plain words, without the address: it may hold a secret."""
    match error:
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, _Denied):
            return str(error.os_error)
        case aiohttp.ClientConnectorDNSError():
            return f"name not found: {body.request.url.host}"
        case aiohttp.ClientConnectorCertificateError():
            found = error.certificate_error
            return f"certificate: {getattr(found, 'verify_message', '') or found}"
        case aiohttp.ClientConnectorSSLError():
            reason = getattr(error.os_error, "reason", None) or "handshake failed"
            return f"TLS: {reason.replace('_', ' ').lower()}"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {body.connect:g} s"
        case aiohttp.SocketTimeoutError():
            return f"no answer within {body.read:g} s"
        case aiohttp.ServerDisconnectedError():
            return "connection closed without an answer"
        case aiohttp.ClientResponseError():
            return "malformed answer"
        case OSError():
            return os.strerror(error.errno).lower() if error.errno else "connection failed"
        case _Broken() | httpx.TransportError():
            return str(error)
        case ValueError():
            return "a header can't be put on the wire"
        case _:
            return type(error).__name__
