"""
What does a provider see of a value?  Exactly what the template's place for it holds, or nothing at all.

A real server on loopback takes apart what was sent. RELAY_TEST_VALUES says how many values are tried (300).
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson
from build import NOW, action, provider
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wires import HERE

from relay.errors import Unfit
from relay.event import Json
from relay.provider import Action, Fault, Reply, Shape, Timeouts, Value
from relay.render import LONGEST_URL, checked, request
from relay.send import Sender

VALUES = int(os.environ.get("RELAY_TEST_VALUES", "300"))

NASTY = [
    *("../../user", "..", ".", "", " ", "/", "a/b", "a?b", "a#b", "a&b=c", "a;b", "a\\b", "\\..\\"),
    *("%2e%2e", "a%2fb", "%2F..%2f", "%00", "%0d%0aX: y", "%", "%%", "%zz", "a+b", "//evil.example"),
    *("@evil.example", ":80", "a:b@c", "http://evil.example/", "{job_id}", "{secret.token}", "${x}"),
    *("a\r\nX-Evil: 1", "a\nb", "a\rb", "\0", "\x7f", "\x85", "\t", "a\tb", " a ", "HTTP/1.1\r\n\r\n"),
    *("\u2028", "\u2024\u2024", "\uff0e\uff0e", "\u2215", "\u202e", "\ufeff", "e\u0301", "<x>", "'\""),
    *("\ud800", "\udc00\ud800", "\U0001f600"),
]

ASCII = st.text(alphabet=st.characters(min_codepoint=9, max_codepoint=0x80))
TEXTS = st.text() | ASCII | st.text(alphabet="./\\%2eEfF@:?#;&=+ {}ab\r\n\t\0") | st.sampled_from(NASTY)
PIECES = st.lists(TEXTS, min_size=1, max_size=3).map("".join)
TREES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=5,
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as its bytes say it."""

    target: str
    headers: list[tuple[str, str]]
    body: bytes


Sight: TypeAlias = Callable[[Action, Json], Seen | None]


class Provider(asyncio.Protocol):
    """A server for one connection after the other that takes requests apart strictly, and answers 204."""

    def __init__(self, seen: list[Seen]) -> None:
        self.seen = seen
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take a whole request: a first line in three parts, headers of a name and a value, and the body."""
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("ascii").split("\r\n")
        match = re.fullmatch(r"POST ([\x21-\x7e]+) HTTP/1\.1", first)
        assert match, first
        headers = []
        for line in lines:
            found = re.fullmatch(r"([A-Za-z-]+): ([\x20-\x7e\t]*)", line)
            assert found, line
            headers.append((found[1], found[2]))
        length = int(dict(headers)["Content-Length"])
        if len(rest) >= length:
            self.seen.append(Seen(target=match[1], headers=headers, body=rest[:length]))
            self.data = rest[length:]
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@contextmanager
def sight() -> Iterator[Sight]:
    """Give what sends a value by an action, and returns what the provider saw; None: it was refused."""
    seen: list[Seen] = []
    # An assert that fails in the server closes the connection, and so the test fails, too.
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        server = runner.run(loop.create_server(lambda: Provider(seen), "127.0.0.1", 0))
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sender = Sender()

        def see(one: Action, value: Json) -> Seen | None:
            where = provider(one, base_url=f"http://{host}", reach=HERE, timeouts=Timeouts(total=60))
            seen.clear()
            try:
                made = request(where, one.shape, one, checked(one, {"v": value}), NOW)
            except Unfit:
                return None
            answer = runner.run(sender(made))
            assert isinstance(answer, Reply | Fault)
            assert isinstance(answer, Reply), answer.why
            [it] = seen
            assert ("Host", host) == it.headers[0]
            return it

        try:
            yield see
        finally:
            runner.run(sender.close())
            server.close()
            runner.run(server.wait_closed())


ANY = Value(type="any")


def sound(value: str) -> bool:
    """Say if a text is one that bytes can hold: no half of a character in it."""
    return not re.search("[\ud800-\udfff]", value)


def long(value: str) -> bool:
    """Say if a text may be longer than what relay makes of it."""
    return len(value.encode(errors="replace")) > LONGEST_URL // 8


PATHS = ["/v1/jobs/{v}/retry", "/{v}", "/a/{v}:retry", "/a/.{v}", "/a/{v}.zip/b", "/{v}/{v}"]


def posts(path: str = "/x", **more: Any) -> Action:
    return action(shape=Shape(method="POST", path=path, **more), values={"v": ANY})


QUERY = posts(query={"a": "is {v}", "b&": "{v}"})
HEADER = posts(headers={"X-Id": "id {v}."})
LEAF = posts(json={"ids": ["{v}"], "n": 1})
PART = posts(json={"said": "<{v}>", "n": 1})
NAMES = ["Host", "Content-Length", "Accept", "X-Id", "Authorization", "Accept-Encoding", "User-Agent"]


def in_path(see: Sight, value: str, path: str) -> None:
    """Take the raw target apart at each slash: as many segments, each with the value and nothing else."""
    it = see(posts(path), value)
    if it is None:
        # Nothing is refused that would be harmless: so an encoder that refuses all is seen.
        odd = re.search(r"[\x00-\x1f\x7f-\x9f/\\]", value)
        assert odd or not value.strip() or value in {".", ".."} or long(value) or not sound(value)
        return
    assert re.fullmatch(r"(/([A-Za-z0-9_.~:-]|%[0-9A-F]{2})+)+", it.target)
    wanted = [part.replace("{v}", value).encode() for part in path.split("/")]
    assert wanted == [unquote_to_bytes(part) for part in it.target.split("/")]
    assert not {".", ".."} & set(it.target.split("/"))


def in_query(see: Sight, value: str) -> None:
    """See two pairs, whatever stands in a value, and the path is the template's."""
    it = see(QUERY, value)
    if it is None:
        assert not sound(value) or long(value)
        return
    path, _, query = it.target.partition("?")
    assert ("/x", 2) == (path, len(query.split("&")))
    assert [("a", f"is {value}"), ("b&", value)] == parse_qsl(query, keep_blank_values=True)


def in_header(see: Sight, value: str) -> None:
    """See CR, LF, NUL and what is not ASCII refused before anything is sent; the rest is one line."""
    it = see(HEADER, value)
    if it is None:
        assert not re.fullmatch(r"[\x20-\x7e\t]*", value) or long(value)
        return
    assert (NAMES, f"id {value}.") == ([name for name, _ in it.headers], dict(it.headers)["X-Id"])
    assert ("/x", b"") == (it.target, it.body)


def in_body(see: Sight, value: Json) -> None:
    """See that a value is a leaf with its type, or a part of a text, and never becomes structure."""
    it = see(LEAF, value)
    if it is None:
        assert "\\ud" in repr(value) or long(repr(value))
        return
    assert ("/x", {"ids": [value], "n": 1}) == (it.target, orjson.loads(it.body))
    if isinstance(value, str) and (part := see(PART, value)):
        assert {"said": f"<{value}>", "n": 1} == orjson.loads(part.body)


def test_a_text_stands_where_the_template_has_it_and_nowhere_else() -> None:
    """In a path, a query, a header and a body: exactly there, or it is refused before anything leaves."""
    with sight() as see:

        @settings(max_examples=VALUES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(PIECES, st.sampled_from(PATHS))
        @example("..", "/a/.{v}")
        @example("x" * 10_240, PATHS[0])
        @example("\u00e9" * 5_000, PATHS[1])
        @example("x" * 70_000, PATHS[1])
        def holds(value: str, path: str) -> None:
            in_path(see, value, path)
            in_query(see, value)
            in_header(see, value)
            in_body(see, value)

        holds()


def test_a_tree_is_one_leaf() -> None:
    """Whole tables and lists keep their form, their types and their place."""
    with sight() as see:

        @settings(max_examples=VALUES // 4, deadline=None, suppress_health_check=list(HealthCheck))
        @given(TREES)
        def holds(value: Json) -> None:
            in_body(see, value)

        holds()


def test_a_declared_text_is_no_less_safe() -> None:
    """The types of values only ever refuse more."""
    one = posts("/{v}")
    strict = replace(one, values={"v": Value()})
    with sight() as see:
        for value in NASTY:
            assert see(strict, value) in (see(one, value), None)
