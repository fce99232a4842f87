"""A request goes out as data and comes back as data, whatever happens between."""

import asyncio
import gzip

import httpx
import pytest
from wires import LOOPS, OK, Peer, Script, Trust, answers, call, run, says, sent, serving

from relay import __version__
from relay.provider import Answer, Fault, Reply, Timeouts
from relay.send import Sender
from relay.wire import AiohttpTransport

# -- out --


def test_a_request_leaves_as_it_was_rendered() -> None:
    """The headers of the request leave in order and in their case, then our two."""
    _, server = run(sent(says(OK)))

    port = server.port
    assert (
        f"POST /retry HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer sesame\r\n"
        f"X-Disable-Hooks: true\r\nAccept-Encoding: identity\r\nUser-Agent: relay/{__version__}\r\n"
        "Content-Length: 2\r\n\r\n{}"
    ).encode() == server.got


def test_a_post_without_a_body_says_so() -> None:
    """No body is a Content-Length of 0 and no Content-Type."""
    _, server = run(sent(says(OK), b""))

    assert b"Content-Length: 0\r\n" in server.got
    assert b"content-type" not in server.got.lower()


# -- back --


def test_an_answer_comes_back_as_data() -> None:
    """Status, headers by lower-case names, and the body as it came."""
    data = b"HTTP/1.1 429 Slow\r\nRetry-After: 2.5\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\n\xff\x00a"

    answer, _ = run(sent(says(data)))

    headers = {"retry-after": "2.5", "x-a": "1, 2", "content-length": "3"}
    assert Reply(status=429, headers=headers, body=b"\xff\x00a") == answer


def test_a_long_header_is_no_malformed_answer() -> None:
    """Policies and cookies of many KiB come with good answers: refusing one would lose what it says."""
    data = b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok"

    answer, _ = run(sent(says(data)))

    assert isinstance(answer, Reply)
    assert (200, b"ok", 60_000) == (answer.status, answer.body, len(answer.headers["x-a"]))


def test_a_redirect_is_an_answer() -> None:
    """Nobody follows a 3xx: the credentials stay here."""
    answer, server = run(sent(says(b"HTTP/1.1 307 Go\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n")))

    assert isinstance(answer, Reply)
    assert (307, 1) == (answer.status, server.got.count(b"POST"))


def test_compressed_bytes_stay_compressed() -> None:
    """We ask for none; who compresses all the same can't blow up 48 KB into 50 MB here."""
    bomb = gzip.compress(bytes(5 << 20))
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(bomb), bomb)

    answer, _ = run(sent(says(data)))

    assert isinstance(answer, Reply)
    assert (bomb, True) == (answer.body, answer.whole)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_long_answer_is_cut_and_not_drained(loop: str) -> None:
    """1 MiB is read of 40 MB, and the connection goes with the rest."""
    written = 0

    async def floods(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
        for _ in range(400):
            await peer.say(b"x" * 100_000)
            written += 100_000

    answer, _ = run(sent(floods), loop)

    headers = {"content-length": "40000000"}
    assert Reply(status=200, headers=headers, body=b"x" * (1 << 20), whole=False) == answer
    assert written < 40_000_000


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["closes", "is silent", "drips"])
def test_an_answer_that_breaks_off_is_an_answer(ending: str, loop: str) -> None:
    """A whole head decides, even where the body stays away."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.say(head + b"ab")
        while ending == "drips":
            await asyncio.sleep(0.05)
            await peer.say(b"c")
        if ending == "is silent":
            await peer.gone()

    answer, _ = run(sent(breaks, timeouts=Timeouts(read=0.15, total=0.4)), loop)

    assert isinstance(answer, Reply)
    assert (200, b"ab", False) == (answer.status, answer.body[:2], answer.whole)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_head_that_drips_ends_with_the_total(loop: str) -> None:
    """One byte at a time is no silence, so the total time has to end it; bytes had left."""

    async def drips(peer: Peer) -> None:
        await peer.request()
        for byte in OK:
            await peer.say(bytes([byte]))
            await asyncio.sleep(0.05)

    answer, _ = run(sent(drips, timeouts=Timeouts(read=0.2, total=0.3)), loop)

    assert Fault(why="no answer within 0.3 s", sent=True) == answer


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (says(b""), Fault(why="connection closed without an answer", sent=True)),
        (says(b"SSH-2.0-x\r\n\r\n"), Fault(why="malformed answer", sent=True)),
        (says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500), Fault(why="malformed answer", sent=True)),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000), Fault(why="malformed answer", sent=True)),
    ],
)
def test_no_answer_is_a_fault(script: Script, fault: Fault) -> None:
    """What is no answer is told in plain words, and that bytes may have arrived."""
    answer, _ = run(sent(script))

    assert fault == answer


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/sesame",
        "ftp://127.0.0.1/sesame",
        "http://[::1/sesame",
        "http:///sesame",
        "http://127.0.0.1:99999/sesame",
        "sesame",
        "http://127.1/sesame",
        "http://user:sesame@127.0.0.1:1/?key=sesame",
        "http://127.0.0.1:1/\nsesame",
    ],
)
def test_what_goes_wrong_here_is_a_fault_without_secrets(url: str) -> None:
    """Nothing is raised, nothing is said to have left, and no address or header is in the reason."""

    async def work() -> Answer:
        sender = Sender()
        try:
            return await sender(call(url))
        finally:
            await sender.close()

    answer = run(work())

    assert isinstance(answer, Fault)
    assert answer.why
    assert (False, False) == (answer.sent, "sesame" in answer.why)


def test_a_bug_in_the_transport_is_a_fault() -> None:
    """Even what nobody foresaw ends as a fault: the call must be settled."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise KeyError(request.url)

    assert Fault(why="KeyError", sent=False) == run(Sender(Broken())(call("http://a.example/")))


def test_https_is_spoken_to_who_can_show_a_name() -> None:
    """A certificate that we trust is enough, one that we don't says so."""
    trust = Trust()

    async def work(sender: Sender) -> Answer:
        async with serving(answers, trust.server("127.0.0.1")) as server:
            try:
                return await sender(call(server.url))
            finally:
                await sender.close()

    trusting = run(work(Sender(AiohttpTransport(tls=trust.client()))))
    wary = run(work(Sender()))

    assert isinstance(trusting, Reply)
    assert isinstance(wary, Fault)
    assert (False, True) == (wary.sent, wary.why.startswith("certificate: "))


def test_cancelling_passes_through() -> None:
    """A worker that stops is not told of a fault: its try has no outcome."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def work() -> None:
        async with serving(silent) as server:
            sender = Sender()
            task = asyncio.create_task(sender(call(server.url)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await sender.close()

    run(work())
