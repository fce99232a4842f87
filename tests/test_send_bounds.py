"""However an answer tries to go on for ever, or to be more than it seems: it ends in time, told as it is."""

import asyncio
import gzip
import resource
import time
from dataclasses import dataclass
from types import UnionType

import pytest
from build import reading, trial
from wires import LOOPS, Peer, Script, run, sent

from relay.call import Done, Unknown
from relay.judge import judge
from relay.provider import Answer, Fault, Reply, Timeouts

HEAD = b"HTTP/1.1 200 OK\r\n"
TOTAL_S = 0.5
LIMITS = Timeouts(connect=1, write=1, read=0.3, total=TOTAL_S)
MOST_S = 10 * TOTAL_S
"""On a busy machine; the real limit is 30 s for what takes half a second here."""

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def drips(first: bytes, piece: bytes) -> Script:
    """Return a server that says *first*, and then *piece* after *piece* without an end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(first)
        while True:
            await asyncio.sleep(0.02)
            await peer.say(piece)

    return script


def floods(first: bytes, piece: bytes) -> Script:
    """Return a server that does so as fast as it can."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(first)
        while True:
            await peer.say(piece)
            await asyncio.sleep(0)

    return script


ENDLESS: dict[str, tuple[Script, type | UnionType]] = {
    "a head byte by byte": (drips(HEAD + b"X-A: ", b"a"), Fault),
    "headers one by one": (drips(HEAD, b"X: y\r\n"), Fault),
    "headers by the thousand": (floods(HEAD, b"X: y\r\n" * 1000), Fault),
    "one header without an end": (floods(HEAD + b"X: ", b"y" * 100_000), Fault),
    "100 Continue": (drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Fault),
    "100 Continue in a flood": (floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), Fault),
    "a body byte by byte": (drips(HEAD + b"Content-Length: 99999\r\n\r\n", b"b"), Reply),
    "a body without a length": (drips(HEAD + b"\r\n", b"b"), Reply),
    "chunks of a byte": (drips(CHUNKED, b"1\r\nb\r\n"), Reply),
    "chunks in a flood": (floods(CHUNKED, b"10000\r\n" + b"b" * 65536 + b"\r\n"), Reply),
    "a body in a flood": (floods(HEAD + b"Content-Length: 10000000000\r\n\r\n", b"b" * 65536), Reply),
    "a chunk's length": (floods(CHUNKED, b"0" * 1000), Answer),
    "a chunk's extension": (floods(CHUNKED + b"1;", b"x" * 1000), Answer),
    "trailers": (floods(CHUNKED + b"1\r\nb\r\n0\r\n", b"X: y\r\n" * 1000), Answer),
}
"""What a server says without an end, and what it is to us: no answer, or one that broke off."""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_ends_with_the_total(name: str, loop: str) -> None:
    """Bytes had left, so no answer is a doubt; one that broke off is no success where its body is read."""
    script, kind = ENDLESS[name]
    began = time.monotonic()

    answer, _ = run(sent(script, timeouts=LIMITS), loop)

    assert time.monotonic() - began < MOST_S
    assert isinstance(answer, kind)
    match answer:
        case Fault(sent=had_left):
            assert had_left
        case Reply(status=status, body=body, whole=whole):
            assert (200, False) == (status, whole)
            assert len(body) <= 1 << 20
    reads = {"idempotent": False, "on_unknown": "check", "outcomes": (reading("done", {"status": [200]}),)}
    assert isinstance(judge(trial(reads), answer).outcome, Unknown)


@dataclass(frozen=True, kw_only=True)
class Odd:
    """An answer that lies about its length or its coding, and what of it is believed."""

    data: bytes
    body: bytes
    whole: bool


def packed(times: int) -> bytes:
    data = bytes(5 << 20)
    for _ in range(times):
        data = gzip.compress(data)
    return data


def said(coding: bytes, body: bytes) -> bytes:
    return HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (coding, len(body), body)


BOMB, NESTED = gzip.compress(bytes(50 << 20)), packed(5)

ODD = {
    "48 KB that are 50 MB": Odd(data=said(b"gzip", BOMB), body=BOMB, whole=True),
    "packed five times": Odd(data=said(b"gzip, gzip, gzip, gzip, gzip", NESTED), body=NESTED, whole=True),
    "packed in its transfer": Odd(
        data=HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BOMB), BOMB),
        body=BOMB,
        whole=True,
    ),
    "shorter than it said": Odd(data=HEAD + b"Content-Length: 9\r\n\r\nok", body=b"ok", whole=False),
    "chunks that end too soon": Odd(data=CHUNKED + b"2\r\nok\r\n", body=b"ok", whole=False),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ODD)
def test_an_answer_is_taken_as_it_came(name: str, loop: str) -> None:
    """Nothing is unpacked and nothing made up; memory does not grow by what it would be."""
    odd = ODD[name]

    async def says(peer: Peer) -> None:
        await peer.request()
        await peer.say(odd.data)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer, _ = run(sent(says, timeouts=LIMITS), loop)

    assert isinstance(answer, Reply)
    assert (200, odd.body, odd.whole) == (answer.status, answer.body, answer.whole)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 << 10  # in KiB


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"zz\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nokok\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nok",
        HEAD + b"Content-Length: 2\r\n\r\nokok",
        HEAD + b"Content-Length: -1\r\n\r\nok",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_bad_framing_is_no_success(data: bytes) -> None:
    """An answer whose end can't be told has none: a doubt, or one that broke off."""

    async def says(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)

    answer, _ = run(sent(says, timeouts=LIMITS))

    reads = {"idempotent": False, "on_unknown": "check", "outcomes": (reading("done", {"status": [200]}),)}
    assert isinstance(judge(trial(reads), answer).outcome, Unknown), answer
    assert not isinstance(judge(trial(reads), answer).outcome, Done)
