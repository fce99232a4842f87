"""What relay answers to handshakes, batches and repeats, on real sockets."""

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from story import Story, hook, story

SOURCES = """
[source.slack]
verify  = "hmac"
header  = "x-sig"
secrets = ["file:FOLDER/slack"]
answer  = 200
[[source.slack.handshake]]
when = { type = "url_verification" }
text = "{challenge}"

[source.discord]
verify  = "hmac"
header  = "x-sig"
secrets = ["file:FOLDER/discord"]
answer  = 204
[[source.discord.handshake]]
when = { type = 1 }
json = { type = 1 }

[source.twitch]
verify  = "hmac"
header  = "x-sig"
secrets = ["file:FOLDER/twitch"]
[[source.twitch.handshake]]
when."$headers.message-type" = "verification"
text = "{challenge}"

[source.cloud]
verify   = "token"
in       = "path"
secrets  = ["file:FOLDER/cloud"]
body     = "cloudevents"
delivery = "body:source+body:id"
type     = "body:type"
origins  = ["eventgrid.azure.net"]
limit    = { rate = "6000/min", burst = 1000 }

[source.timed]
verify    = "hmac"
header    = "x-sig"
secrets   = ["file:FOLDER/timed"]
signed    = "{timestamp}.{body}"
timestamp = "header:x-time"
timestamp_unit = "ms"
delivery  = "body:id"

[source.alerts]
verify   = "hmac"
header   = "x-sig"
secrets  = ["file:FOLDER/alerts"]
split    = "alerts"
delivery = ["header:x-id", "body:id"]
"""

RULES = """
[[rule]]
name = "retry files that alerts name"
from = "alerts"
when = { status = "firing" }
call = "writer.retry"
with = { file_id = "{file_id}" }
"""


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One relay for all: nothing here depends on what was posted before."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("slack", "discord", "twitch", "cloud", "timed", "alerts"):
        (folder / name).write_text(secrets.token_urlsafe(24))
        (folder / name).chmod(0o600)
    with story(folder, rules=SOURCES.replace("FOLDER", str(folder)) + RULES) as on:
        on.start()
        yield on


def posted(on: Story, source: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    """Post an event as its sender would, and return the whole answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    token, shown = on.signed(source, raw, headers)
    return on.client.post(on.relay.url + hook(source, token), content=raw, headers=shown)


# -- handshakes --

HANDSHAKES = [
    (
        "slack",
        {"type": "url_verification", "challenge": "<i>c</i>"},
        {},
        b"<i>c</i>",
        "text/plain; charset=utf-8",
    ),
    ("discord", {"type": 1}, {}, b'{"type":1}', "application/json"),
    ("twitch", {"challenge": "pogo"}, {"Message-Type": "verification"}, b"pogo", "text/plain; charset=utf-8"),
]


@pytest.mark.parametrize(("source", "body", "headers", "answer", "kind"), HANDSHAKES)
def test_a_handshake_is_answered_and_not_kept(
    on: Story, source: str, body: Any, headers: dict[str, str], answer: bytes, kind: str
) -> None:
    """200 with what the provider wants to hear, as nothing that a browser would run; and the log says so."""
    before = len(on.events())
    told = posted(on, source, body, headers)

    assert (200, answer, kind) == (told.status_code, told.content, told.headers["content-type"])
    assert "nosniff" == told.headers["x-content-type-options"]
    assert before == len(on.events())
    assert on.relay.said("hook.greeted", source=source)


@pytest.mark.parametrize(("source", "body", "headers", "answer", "kind"), HANDSHAKES)
def test_a_stranger_is_not_greeted(
    on: Story, source: str, body: Any, headers: dict[str, str], answer: bytes, kind: str
) -> None:
    """Without a signature, or with another's, it is 401: Slack and Discord try just that."""
    raw = json.dumps(body).encode()
    for shown in ({}, {"X-Sig": "0" * 64}):
        told = on.client.post(on.relay.url + hook(source), content=raw, headers={**headers, **shown})
        assert 401 == told.status_code
        assert answer not in told.content
        assert kind != told.headers["content-type"]


def test_a_sender_that_asks_by_options_hears_if_it_may(on: Story) -> None:
    """CloudEvents webhooks: an origin of the list may, at the source's rate; its callback is never called."""
    with socket.create_server(("127.0.0.1", 0)) as callback:
        callback.setblocking(False)
        asks = {
            "WebHook-Request-Origin": "eventgrid.azure.net",
            "WebHook-Request-Callback": f"http://127.0.0.1:{callback.getsockname()[1]}/confirm",
            "WebHook-Request-Rate": "120",
        }
        told = on.client.options(on.relay.url + hook("cloud", "any-token"), headers=asks)
        assert (200, b"") == (told.status_code, told.content)
        names = ("allow", "webhook-allowed-origin", "webhook-allowed-rate")
        assert ["POST", "eventgrid.azure.net", "6000"] == [told.headers[name] for name in names]
        with pytest.raises(BlockingIOError):
            callback.accept()
    assert on.relay.said("hook.greeted", source="cloud", origin="eventgrid.azure.net")


@pytest.mark.parametrize(
    ("source", "origin", "status"),
    [
        ("cloud", "evil.example", 403),
        ("cloud", "", 403),
        ("slack", "evil.example", 403),
        ("none", "x", 403),
        ("none", None, 405),
        ("cloud", None, 405),
    ],
)
def test_other_origins_may_not(on: Story, source: str, origin: str | None, status: int) -> None:
    """403 for a stranger, also where no source is; no answer has a word that lets a sender post."""
    asks = {} if origin is None else {"WebHook-Request-Origin": origin}
    told = on.client.options(on.relay.url + hook(source), headers=asks)

    assert status == told.status_code
    assert not [name for name in told.headers if name.startswith("webhook-")]
    assert (status != 405) or "POST" == told.headers["allow"]


# -- several events --


def test_a_batch_is_kept_event_by_event(on: Story) -> None:
    """The answer names them all, and each does its part: here a retry."""
    keys = [on.writer.add().key for _ in range(3)]
    alerts = [{"id": key, "status": "firing", "file_id": key} for key in keys]
    told = posted(on, "alerts", {"alerts": alerts, "groupKey": "g"})
    said = told.json()

    assert (202, 3, 3) == (told.status_code, said["calls"], len(said["events"]))
    assert said["event"] == said["events"][0]
    rows = [on.event(one) for one in said["events"]]
    assert alerts == [json.loads(row["body"]) for row in rows]
    assert keys == [row["delivery"] for row in rows]


def test_a_batch_that_holds_news_is_none_of_the_old(on: Story) -> None:
    """What was there before is told by its first id, and causes nothing again; what is new is kept."""
    first = posted(on, "alerts", {"alerts": [{"id": "n1"}, {"id": "n2"}]}).json()
    both = posted(on, "alerts", {"alerts": [{"id": "n2"}, {"id": "n3"}]})
    again = posted(on, "alerts", {"alerts": [{"id": "n2"}, {"id": "n3"}]})

    assert (202, False, first["events"][1]) == (
        both.status_code,
        both.json()["duplicate"],
        both.json()["events"][0],
    )
    assert (200, True, both.json()["events"]) == (
        again.status_code,
        again.json()["duplicate"],
        again.json()["events"],
    )


def test_an_event_that_stands_twice_in_a_batch_is_one(on: Story) -> None:
    """Both places are told the same id."""
    said = posted(on, "alerts", {"alerts": [{"id": "twice"}, {"id": "twice"}]}).json()
    assert 1 == len(set(said["events"]))


def test_too_many_events_are_refused_as_a_whole(on: Story) -> None:
    """413, not one of them is kept, and the log says why."""
    before = len(on.events())
    told = posted(on, "alerts", {"alerts": [{"id": str(number)} for number in range(1_001)]})

    assert (413, before) == (told.status_code, len(on.events()))
    assert on.relay.said("hook.refused", source="alerts", why="too_many_events")


@pytest.mark.parametrize(
    ("source", "statuses"), [("slack", (200, 200)), ("discord", (204, 200)), ("twitch", (202, 200))]
)
def test_a_source_says_which_status_means_kept(on: Story, source: str, statuses: tuple[int, int]) -> None:
    """204 has no body; a duplicate is 200 everywhere."""
    once, again = (posted(on, source, {"id": "status"}) for _ in range(2))
    assert statuses == (once.status_code, again.status_code)
    assert (once.status_code == 204) == (not once.content)


# -- the same delivery --


def cloud(on: Story, number: str, mode: str, **more: Any) -> httpx.Response:
    """Post a CloudEvent in a mode."""
    event = {"specversion": "1.0", "id": number, "source": "/jobs", "type": "job.failed"}
    if mode == "binary":
        headers = {f"ce-{name}": value for name, value in event.items()}
        return posted(on, "cloud", b'{"n": 1}', headers | {"Content-Type": "application/json"})
    body = event | more
    kind = "application/cloudevents-batch+json" if mode == "batch" else "application/cloudevents+json"
    return posted(on, "cloud", [body] if mode == "batch" else body, {"Content-Type": kind})


def test_a_cloudevent_is_known_by_source_and_id(on: Story) -> None:
    """In whichever mode it comes the second time; another id is another event, whatever its data."""
    told = [cloud(on, "C-1", mode) for mode in ("binary", "structured", "batch")]
    other = cloud(on, "C-2", "binary")

    assert [202, 200, 200, 202] == [one.status_code for one in (*told, other)]
    assert 1 == len({one.json()["event"] for one in told})
    row = on.event(told[0].json()["event"])
    assert ("/jobs C-1", "job.failed") == (row["delivery"], row["type"])


def test_a_signed_time_makes_new_bytes(on: Story) -> None:
    """A sender signs each repeat anew: the event's id tells that it was here; without one, nothing does."""
    told = {}
    for body in ({"id": "t-1"}, {"n": 1}):
        first = posted(on, "timed", body)
        time.sleep(0.002)  # so that the other time is another
        told[str(body)] = (first.status_code, posted(on, "timed", body).status_code)
    assert [(202, 200), (202, 202)] == list(told.values())


def posts(on: Story, body: bytes, number: str) -> tuple[int, str]:
    """Post a file's event with a delivery's id; return the status and the event's id."""
    token, shown = on.signed("writer", body, {"X-Delivery-Id": number})
    told = on.client.post(on.relay.url + hook("writer", token), content=body, headers=shown)
    return told.status_code, told.json()["event"]


def test_a_replay_is_one_event(tmp_path: Path) -> None:
    """The same body under a new id, a new body under the same id, and all the same, also after a restart."""
    with story(tmp_path) as on:
        on.start()
        body, other = b'{"type": "other", "n": 1}', b'{"type": "other", "n": 2}'
        first = posts(on, body, "d-1")
        again = [posts(on, body, "d-2"), posts(on, other, "d-1"), posts(on, body, "d-1")]
        assert 0 == on.relay.end()
        on.start()
        again += [posts(on, body, "d-3"), posts(on, other, "d-1"), posts(on, body, "d-1")]

        assert 202 == first[0]
        assert [(200, first[1])] * 6 == again
        assert 202 == posts(on, other, "d-4")[0]
        assert 2 == len(on.events())


def test_a_hundred_at_the_same_moment_are_one_event(on: Story) -> None:
    """Each on a connection of its own, all sent at once: one is new, and its retry is the only one."""
    key = on.writer.add().key
    body = json.dumps({"type": "file.failed", "file_id": key}).encode()
    token, shown = on.signed("writer", body, {"X-Delivery-Id": f"hundred-{key}"})
    host, port = on.relay.url.removeprefix("http://").split(":")
    lines = [f"POST {hook('writer', token)} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in shown.items()] + [f"Content-Length: {len(body)}", "", ""]
    request = "\r\n".join(lines).encode() + body
    answers: list[bytes] = []
    together = threading.Barrier(100)

    def send() -> None:
        with socket.create_connection((host, int(port)), timeout=60) as sender:
            sender.sendall(request[:-1])
            together.wait(60)
            sender.sendall(request[-1:])
            answers.append(b"".join(iter(lambda: sender.recv(65536), b"")))

    senders = [threading.Thread(target=send) for _ in range(100)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()

    told = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in answers]
    assert (100, 1) == (len(told), len({one["event"] for one in told}))
    assert (99, 1) == (sum(one["duplicate"] for one in told), sum(one["calls"] for one in told))
    assert 1 == len(on.calls(told[0]["event"]))
