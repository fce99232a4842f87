"""What of a request arrives: exactly what was given, or nothing, or as much as is said."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from wires import BODY, HERE, LOOPS, OK, Peer, Server, Shot, Trust, answers, request, run, serving, shoot

from relay.wire import REACH, AiohttpTransport, may_have_left


def test_exactly_the_request_arrives() -> None:
    """Target and headers arrive byte by byte as given: order, case, doubles, escapes; and nothing besides."""
    headers = [
        ("x-b", "2"),
        ("Host", "api.example"),
        ("X-Disable-Hooks", "true"),
        ("X-B", "zwei \u00e4"),
        ("Content-Length", "2"),
        ("Expect", "100-continue"),
        ("aUTHORIZATION", "Bearer key"),
    ]

    async def work() -> bytes:
        async with serving(answers) as server:
            transport = AiohttpTransport()
            try:
                url = server.url.replace("127", "user:word@127") + "/a%2Fb/%7e;c=,d?q=%20+&e=%C3%A4&f"
                wanted = httpx.Request(
                    "POST",
                    url,
                    headers=[(n.encode(), v.encode()) for n, v in headers],
                    content=b"{}",
                    extensions={REACH: HERE},
                )
                assert None is (await shoot(transport, wanted)).error
            finally:
                await transport.aclose()
        return server.got

    lines = [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(["POST /retry/a%2Fb/%7e;c=,d?q=%20+&e=%C3%A4&f HTTP/1.1", *lines])
    assert f"{head}\r\n\r\n{{}}".encode() == run(work())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", b"a\r\nEvil: 1"),
        ("x", b"\xff"),
        ("x\ny", b"1"),
        ("x", b"a\x00"),
        ("Transfer-Encoding", b"chunked"),
    ],
)
def test_a_header_that_could_become_two_is_refused(name: str, value: bytes) -> None:
    """A header that can't be written as it stands stops the request before its first byte."""

    async def work() -> tuple[Shot, Server]:
        async with serving(answers) as server:
            transport = AiohttpTransport()
            try:
                wanted = httpx.Request(
                    "POST",
                    server.url,
                    headers=[(name.encode(), value)],
                    content=b"{}",
                    extensions={REACH: HERE},
                )
                return await shoot(transport, wanted), server
            finally:
                await transport.aclose()

    shot, server = run(work())

    assert (False, b"") == (shot.sent, server.got)
    assert shot.error in {httpx.ConnectError, httpx.LocalProtocolError}


class Stream(httpx.AsyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("pieces", "sent", "error"),
    [
        ((b"ab", b"cd"), True, None),
        ((OSError(5, "Input/output error"),), False, httpx.ConnectError),
        ((KeyError("bug"),), False, httpx.ConnectError),
        ((b"abcde",), False, httpx.ConnectError),
        ((), False, httpx.ConnectError),
        ((b"ab", OSError(5, "Input/output error")), True, httpx.WriteError),
        ((b"ab", KeyError("bug")), True, httpx.WriteError),
        ((b"ab",), True, httpx.WriteError),
        ((b"ab", b"cde"), True, httpx.WriteError),
    ],
)
def test_a_body_that_fails_has_left_from_its_first_piece_on(
    pieces: tuple[bytes | Exception, ...], sent: bool, error: type[Exception] | None, loop: str
) -> None:
    """The head waits for the first piece: a body that fails before it sends nothing, one that lies breaks."""

    async def work() -> tuple[Shot, Server]:
        async with serving(answers) as server:
            transport = AiohttpTransport()
            try:
                wanted = httpx.Request(
                    "POST",
                    server.url,
                    headers={"Content-Length": "4"},
                    stream=Stream(*pieces),
                    extensions={REACH: HERE},
                )
                return await shoot(transport, wanted), server
            finally:
                await transport.aclose()

    shot, server = run(work(), loop)

    assert (error, sent) == (shot.error, shot.sent)
    assert sent or b"" == server.got
    assert b"e" not in server.got.partition(b"\r\n\r\n")[2]


def test_the_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, a netrc and a TLS key log in the environment have no effect."""
    trust = Trust()
    (tmp_path / ".netrc").write_text("default login evil password evil\n")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, value in {
        "NETRC": ".netrc",
        "HOME": ".",
        "SSLKEYLOGFILE": "keys",
        "SSL_CERT_FILE": "ca.pem",
        "REQUESTS_CA_BUNDLE": "none.pem",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    trust.ca.cert_pem.write_to_path(tmp_path / "ca.pem")  # the operator's own CA, as OpenSSL wants it named

    async def work() -> tuple[Shot, Server]:
        async with serving(answers, trust.server("127.0.0.1")) as server:
            transport = AiohttpTransport()
            try:
                return await shoot(transport, request(server.url)), server
            finally:
                await transport.aclose()

    shot, server = run(work())

    assert (None, 200) == (shot.error, shot.status)
    assert b"authorization" not in server.got.lower()
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stage", ["writing", "waiting", "reading"])
def test_cancelling_closes_the_connection(stage: str, loop: str) -> None:
    """A request that is cancelled takes its connection along at once, and what it had not sent yet."""
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        if stage == "writing":
            await peer.take(1)
            await asyncio.sleep(0.1)
        else:
            await peer.request()
        if stage == "reading":
            await peer.say(OK[:-1])
        await peer.gone()
        ended.set()

    async def work() -> bool:
        async with serving(script) as server:
            transport = AiohttpTransport()
            wanted = request(server.url, "PUT", b"x" * (8 << 20) if stage == "writing" else BODY)
            shot = asyncio.create_task(shoot(transport, wanted))
            await asyncio.sleep(0.05)
            shot.cancel()
            with pytest.raises(asyncio.CancelledError):
                await shot
            await asyncio.wait_for(ended.wait(), 2)
            await transport.aclose()
            assert len(server.got) < 8 << 20
        return may_have_left(wanted)

    assert run(work(), loop)
