"""Is a request read in one way only?  Bytes on the wire that other servers have been fooled with."""

from collections.abc import Iterator

import pytest
from raw import Heard, ask, request
from story import Story, hook, story

MARK = b"smuggled"
"""What would come in as an event, if the request inside another one were taken for one."""


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One relay for all."""
    with story(tmp_path_factory.mktemp("framing")) as on:
        on.start()
        yield on


def posted(on: Story, body: bytes) -> bytes:
    """Write a request that relay takes: what is hidden in the others."""
    return request(hook("docflow", on.environ["DOCFLOW_HOOK_TOKEN"]), body)


def split(head: str, body: str = "") -> tuple[str, str]:
    """Return a vector: the lines after the request line and the Host, and what stands in the body's place."""
    return head, body


CHUNKED = "Transfer-Encoding: chunked"
HIDDEN = "0\r\n\r\n{hidden}"

FRAMING = {
    "Content-Length and Transfer-Encoding": split(f"Content-Length: 6\r\n{CHUNKED}", HIDDEN),
    "two different Content-Length": split("Content-Length: 0\r\nContent-Length: 5", "{hidden}"),
    "two identical Content-Length": split("Content-Length: 5\r\nContent-Length: 5", "hello{hidden}"),
    "a list of lengths": split("Content-Length: 5, 5", "hello{hidden}"),
    "+5": split("Content-Length: +5", "hello{hidden}"),
    "5x": split("Content-Length: 5x", "hello{hidden}"),
    "0x5": split("Content-Length: 0x5", "hello{hidden}"),
    "xchunked": split("Transfer-Encoding: xchunked", HIDDEN),
    "chunked, identity": split("Transfer-Encoding: chunked, identity", HIDDEN),
    "TE :": split("Transfer-Encoding : chunked", HIDDEN),
    "obs-fold": split("Transfer-Encoding:\r\n chunked", HIDDEN),
    "a chunk without its end": split(CHUNKED, "5\r\nhelloX0\r\n\r\n{hidden}"),
    "a chunk's size that is none": split(CHUNKED, "0x5\r\nhello\r\n0\r\n\r\n{hidden}"),
    "a chunk's size beyond 64 bits": split(CHUNKED, "fffffffffffffffff\r\nhello\r\n0\r\n\r\n{hidden}"),
    "NUL in a value": split("X-Odd: a\0b", "{hidden}"),
    "bare CR in a value": split("X-Odd: a\rContent-Length: 5", "{hidden}"),
    "bare LF": split("X-Odd: a\nContent-Length: 0\n\n{hidden}"),
}
"""Odd in how the body's length is said, or in where a line ends."""

HEADS = {
    "no Host": (400, "POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    "two Hosts": (400, "POST {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n"),
    "another host": (400, "POST http://b{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    "@google.com": (400, "POST @google.com{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    "70 KB of a header": (
        431,
        "POST {path} HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\nContent-Length: 0\r\n\r\n",
    ),
    "5,000 headers": (431, "POST {path} HTTP/1.1\r\nHost: a\r\n{many}Content-Length: 0\r\n\r\n"),
}
"""Odd in the head alone: status, request."""


def nothing_came(on: Story, heard: Heard, before: int) -> bool:
    """Say if one answer came, no event, and the connection is closed."""
    return (1, True, before) == (len(heard.statuses), heard.closed, len(on.events()))


@pytest.mark.parametrize("name", FRAMING)
def test_a_request_inside_another_is_never_taken(on: Story, name: str) -> None:
    """A body whose length can be read in two ways: 400, the end, and what is hidden in it is no request."""
    head, body = FRAMING[name]
    hidden = posted(on, MARK).decode()
    target = hook("docflow", on.environ["DOCFLOW_HOOK_TOKEN"])
    before = len(on.events())
    raw = f"POST {target} HTTP/1.1\r\nHost: relay\r\n{head}\r\n\r\n{body}".replace(
        "{hidden}", hidden
    ).encode()

    heard = ask(on.relay.url, raw)

    assert [400] == heard.statuses, heard
    assert nothing_came(on, heard, before)


@pytest.mark.parametrize("name", HEADS)
def test_an_odd_head_is_refused(on: Story, name: str) -> None:
    """What could be asked of another host, or is too much to be held, is refused with all that follows it."""
    status, raw = HEADS[name]
    path = hook("docflow", on.environ["DOCFLOW_HOOK_TOKEN"])
    many = "".join(f"X-{number}: a\r\n" for number in range(5_000))
    before = len(on.events())
    raw = raw.format(path=path, long="x" * 70_000, many=many)

    heard = ask(on.relay.url, raw.encode() + posted(on, MARK))

    assert [status] == heard.statuses, heard
    assert b"application/problem+json" in heard.raw
    assert nothing_came(on, heard, before)


def test_two_requests_in_one_go_are_two(on: Story) -> None:
    """The control: two posts right behind each other are both taken, and answered in order."""
    first, second = (posted(on, b'{"number": %d}' % number) for number in (1, 2))

    heard = ask(on.relay.url, first + second, answers=2)

    assert ([202, 202], False) == (heard.statuses, heard.closed)
    assert [b'{"number": 2}', b'{"number": 1}'] == [row["body"] for row in on.events()[:2]]


def test_what_comes_before_a_broken_request_is_answered(on: Story) -> None:
    """Answers have no name but their order: the good one gets its own, and the connection ends there."""
    before = len(on.events())

    heard = ask(on.relay.url, posted(on, b'{"number": 3}') + b"GARBAGE\r\n\r\n")

    assert ([202], True) == (heard.statuses, heard.closed)
    assert before + 1 == len(on.events())


def test_a_chunk_without_end_is_waited_for_no_longer_than_any_body(on: Story) -> None:
    """The largest size of 64 bits is a body that is too large as soon as it is: 413, long before."""
    path = hook("docflow", on.environ["DOCFLOW_HOOK_TOKEN"])
    head = f"POST {path} HTTP/1.1\r\nHost: relay\r\n{CHUNKED}\r\n\r\nffffffffffffffff\r\n".encode()

    heard = ask(on.relay.url, head + bytes(2 << 20))

    assert ([413], True) == (heard.statuses, heard.closed)


def test_headers_behind_the_body_are_none(on: Story) -> None:
    """A trailer can't make up for a header, nor take its place: it is thrown away."""
    shown = on.environ["FLATFILE_HOOK_TOKEN"]
    head = f"POST {hook('flatfile')} HTTP/1.1\r\nHost: relay\r\n{CHUNKED}\r\nTrailer: Authorization\r\n\r\n"
    body = f"2\r\n{{}}\r\n0\r\nAuthorization: Bearer {shown}\r\n\r\n"

    heard = ask(on.relay.url, (head + body).encode(), answers=1)

    assert [401] == heard.statuses


def test_another_protocol_is_not_spoken(on: Story) -> None:
    """An Upgrade is passed over, and nothing behind it is read as a request."""
    before = len(on.events())
    up = "GET /livez HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    heard = ask(on.relay.url, up.encode() + posted(on, MARK))

    assert ([200], True) == (heard.statuses, heard.closed)
    assert before == len(on.events())


def test_odd_requests_are_said_once_a_second(on: Story) -> None:
    """However many there are: the log has a line with a count, and /readyz the sum."""
    before = len(on.relay.said("edge.refused"))
    sum_before = on.send("GET", "/readyz").said["edge"]["refused"]
    for _ in range(50):
        ask(on.relay.url, b"GARBAGE\r\n\r\n")

    assert sum_before + 50 == on.send("GET", "/readyz").said["edge"]["refused"]
    assert len(on.relay.said("edge.refused")) - before < 25
    assert not [line for line in on.relay.lines if line["level"] == "error"]
