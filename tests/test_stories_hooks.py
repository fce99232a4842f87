"""What relay answers to those who post, on real sockets."""

import gzip
import socket
from collections.abc import Iterator

import pytest
from story import Story, failed_file, hook, story

from relay.case import Stand

PROBLEM = "application/problem+json"
MIB = 1 << 20


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One relay for all: nothing here depends on what was posted before."""
    with story(tmp_path_factory.mktemp("hooks")) as on:
        on.start()
        yield on


def signed(on: Story, body: bytes) -> dict[str, str]:
    """Return the headers with which Writer's hook takes *body*."""
    return on.signed("writer", body)[1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"type": "file.failed", "file_id": NaN}',
        b'{"type": "\xff\xfe"}',
        b'{"type": "a", "type": "b"}',
        b"[" * 100 + b"]" * 100,
        b'{"n": 123456789012345678901234567890}',
    ],
)
def test_what_nobody_can_read_is_kept(on: Story, body: bytes) -> None:
    """A body that is verified and no safe JSON is taken, and kept to the byte."""
    told = on.post("writer", body)

    row = on.event(told.event)
    assert (202, 0) == (told.status, told.said["calls"])
    assert ("unparsable", body) == (row["decision"], row["body"])
    assert row["flaw"]


def test_strangers_learn_nothing(on: Story) -> None:
    """A wrong signature, none, an unknown source and a wrong token all get one and the same answer."""
    before = len(on.events())
    body = b'{"type": "file.failed"}'
    good = signed(on, body)
    answers = [
        on.send("POST", hook("writer"), body + b" ", good),
        on.send("POST", hook("writer"), body),
        on.send("POST", hook("nobody"), body, good),
        on.send("POST", hook("docflow", "a-wrong-token"), body),
        on.send("POST", hook("docflow"), body),
        on.send("POST", hook("flatfile"), body, {"Authorization": "Bearer a-wrong-token"}),
    ]

    assert [(401, PROBLEM)] * 6 == [(told.status, told.kind) for told in answers]
    assert all(told.said == answers[0].said for told in answers)
    assert before == len(on.events())


def test_a_body_that_is_too_large_is_refused(on: Story) -> None:
    """One byte over the limit is 413, whether its length was announced or not; the limit itself is taken."""
    before = len(on.events())
    body = b'"' + b"x" * (MIB - 1) + b'"'
    announced = on.post("writer", body)
    in_chunks = on.send("POST", hook("writer"), iter([body[:MIB], body[MIB:]]), signed(on, body))
    refused = len(on.events())
    just = on.post("writer", body[:-2] + b'"')

    assert [(413, PROBLEM)] * 2 == [(told.status, told.kind) for told in (announced, in_chunks)]
    assert (before, 202) == (refused, just.status)


def test_a_body_in_chunks_is_taken(on: Story) -> None:
    """A sender need not know the length beforehand."""
    key, _ = failed_file(on)
    body = b'{"type": "file.failed", "file_id": "%s"}' % key.encode()

    told = on.send("POST", hook("writer"), iter([body[:10], body[10:]]), signed(on, body))

    assert (202, body) == (told.status, on.event(told.event)["body"])


def test_a_packed_body_is_refused(on: Story) -> None:
    """What is signed is what is stored: 415 for a body that would have to be unpacked."""
    before = len(on.events())
    body = gzip.compress(b"{}")

    told = on.send("POST", hook("writer"), body, signed(on, body) | {"Content-Encoding": "gzip"})

    assert (415, PROBLEM) == (told.status, told.kind)
    assert before == len(on.events())


def test_what_is_refused_is_said(on: Story) -> None:
    """A refusal is never silent: the log names the source and the reason."""
    body = b'"' + bytes(MIB) + b'"'
    on.send("POST", hook("writer"), body, signed(on, body))
    on.send("POST", hook("writer"), iter([body]), signed(on, body))
    on.send("POST", hook("writer"), b"{}", signed(on, b"{}") | {"Content-Encoding": "br"})

    assert 2 <= len(on.relay.said("hook.refused", source="writer", why="too_large"))
    assert on.relay.said("hook.refused", source="writer", why="compressed")


def test_a_path_with_a_slash_too_many_is_nowhere(on: Story) -> None:
    """A redirect would repeat the token in a header, and the event would be lost: 404 says it plainly."""
    told = on.send("POST", hook("docflow", on.environ["DOCFLOW_HOOK_TOKEN"]) + "/", b"{}")

    assert (404, PROBLEM) == (told.status, told.kind)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_post_is_taken(on: Story, method: str) -> None:
    """Another method is 405, and says which would do."""
    before = len(on.events())
    told = on.send(method, hook("writer"), b"{}", signed(on, b"{}"))

    assert (405, PROBLEM) == (told.status, told.kind)
    assert before == len(on.events())


def test_an_event_without_what_the_call_needs_is_dead_and_seen(on: Story) -> None:
    """A value that can't go where the rule wants it is never sent, and the call says why."""
    told = on.post("writer", {"type": "file.failed", "file_id": "../../v1/files"})

    call = on.settled(told)
    case = on.ended("../../v1/files")
    assert ("dead", 0) == (call.state, call.attempts)
    assert "file_id" in call.why
    assert (Stand.GAVE_UP, call.why, 0) == (case.state, case.why, case.retries)


def test_a_sender_that_leaves_is_no_bug_of_ours(on: Story) -> None:
    """Half a post, and the connection is gone: nothing is kept, and the log holds no error."""
    before = len(on.events())
    host, port = on.relay.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(f"POST {hook('writer')} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
    told = on.post("writer", b'{"type": "after it"}')

    assert (202, before + 1) == (told.status, len(on.events()))
    # The one error that may stand there is that of a case which another story here gave up.
    assert {"case.gave_up"} >= {line["event"] for line in on.relay.lines if line["level"] == "error"}
