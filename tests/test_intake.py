"""What becomes of one delivery: kept with what it says, told to its sender and to the log."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
import structlog
from build import NOW, call, pattern, rule, ruleset, source
from structlog.testing import capture_logs

from relay.case import Case, Failure, Moment, Move, Policy, Recovery, Stand
from relay.errors import Rejected, StoreBusy
from relay.event import LONGEST_NAME, Decision, Event, Json, Trust
from relay.intake import Intake, Taken
from relay.keep import Keeper
from relay.reload import InForce
from relay.secret import Secret
from relay.source import Incoming, Source, Way
from relay.store import Recorded, Store
from relay.storm import Turn
from relay.unpack import read

SOURCE = Source(
    name="flatfile",
    ways=(Way(verify="token", secrets=(Secret("a-token-of-a-good-length", "env:T"),), prefix="Bearer "),),
    delivery=("header:x-delivery-id", "body:src.id", "body:id"),
    type=("body:topic",),
    recovered=pattern({"topic": "job:completed"}),
    redact=("_accessToken",),
    dedupe_ms=60_000,
)
TOKEN = {"authorization": ("Bearer a-token-of-a-good-length",)}
FAILED: dict[str, Json] = {"topic": "job:failed", "id": "us_evt_1", "context": {"jobId": "us_jb_1"}}


@pytest.fixture(autouse=True)
def _everything_is_said() -> Iterator[None]:
    """Begin with a log that leaves no level out, whatever was set up before."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def move(before: Stand | None, after: Stand, kind: str, **more: Any) -> Move:
    """Return what became of a case, with or without a call."""
    case = Case(
        id=more.pop("id", "case_1"),
        key="k",
        provider="flatfile",
        rule="retry jobs",
        action="retry",
        values={},
        policy=Policy(),
        state=after,
        why="",
        event="ev_1",
        opened_at=NOW,
    )
    was = None if before is None else replace(case, state=before)
    return Move(before=was, case=case, moment=Moment(kind=kind, what="x"), **more)


class Kept:
    """A door to no store: it notes what shall be kept, and answers what it was told to."""

    def __init__(self, *answers: Recorded | Exception) -> None:
        self.answers, self.wakes = list(answers), 0
        self.asked: list[tuple[Any, ...]] = []

    async def __call__(self, method: Any, *args: Any, **kwargs: Any) -> tuple[Recorded, ...]:
        """Note one job of the store."""
        assert Store.record_all is method
        ((event, plan),) = args[0]
        self.asked.append((event, plan, kwargs))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return (answer if answer.duplicate else replace(answer, decision=plan.decision, deed=plan.deed),)

    def wake(self) -> None:
        """Note that the worker is woken."""
        self.wakes += 1

    def take(
        self, body: bytes, headers: Mapping[str, tuple[str, ...]] = TOKEN, name: str = "flatfile"
    ) -> Taken:
        """Let one delivery in."""
        rules = replace(ruleset(rule()), sources={"flatfile": SOURCE})
        intake = Intake(InForce(rules), cast(Keeper, self), self.wake, lambda: NOW)
        return asyncio.run(intake.take(name, Incoming(headers=headers, body=body)))


def recorded(*moves: Move, turns: tuple[Turn, ...] = ()) -> Recorded:
    return Recorded(event="ev_1", duplicate=False, moves=moves, turns=turns)


# -- what is kept, and who is told --


def test_an_event_is_kept_with_what_it_says() -> None:
    """The event, the decision, failures or recoveries; the rules' version, and how long it is known."""
    keep = Kept(recorded(), recorded(), recorded(), recorded())
    for body in (FAILED, FAILED | {"topic": "job:completed"}, {"topic": "x"}):
        keep.take(orjson.dumps(body))
    keep.take(b"{")

    found = [(made.decision, made.deed.failures, made.deed.recoveries) for _, made, _ in keep.asked]
    failure = (found[0][1][0],)
    recovery = (Recovery(rule="retry jobs", provider="flatfile", key="flatfile:job_id=us_jb_1"),)
    assert [
        (Decision.MATCHED, failure, ()),
        (Decision.MATCHED, (), recovery),
        (Decision.NO_RULE, (), ()),
        (Decision.UNPARSABLE, (), ()),
    ] == found
    assert isinstance(failure[0], Failure)
    assert "flatfile:job_id=us_jb_1" == failure[0].key
    assert all({"version": "0" * 12, "dedupe_ms": 60_000} == asked[-1] for asked in keep.asked)
    event = keep.asked[0][0]
    assert isinstance(event, Event)
    assert (NOW, Trust.AUTHENTICATED, "us_evt_1") == (event.received_at, event.verified, event.delivery)


CALLED = move(None, Stand.RETRYING, "opened", queue=call(id="call_1"))
JOINED = move(Stand.RETRYING, Stand.RETRYING, "joined")
WELL = move(Stand.WATCHING, Stand.RECOVERED, "recovered", id="case_2")


@pytest.mark.parametrize(
    ("calls", "wakes", "answer"),
    [
        (1, 1, recorded(CALLED)),
        (2, 1, recorded(CALLED, replace(CALLED, queue=call(id="call_2")))),
        (0, 1, recorded(JOINED)),
        (1, 1, recorded(JOINED, CALLED)),
        (0, 1, recorded(WELL)),
        (0, 0, recorded()),
        (0, 0, Recorded(event="ev_0", duplicate=True)),
    ],
)
def test_the_sender_learns_how_many_calls_it_made(calls: int, wakes: int, answer: Recorded) -> None:
    """Those that its event queued: what joins a case that is known makes none. The worker hears of moves."""
    keep = Kept(answer)
    assert Taken(events=(answer.event,), calls=calls, duplicate=answer.duplicate) == keep.take(
        orjson.dumps(FAILED)
    )
    assert wakes == keep.wakes


def test_what_is_not_kept_is_not_told() -> None:
    """Nothing is logged as taken, and nobody is woken, where the store failed."""
    keep = Kept(StoreBusy("full"))
    with capture_logs() as lines, pytest.raises(StoreBusy):
        keep.take(orjson.dumps(FAILED))
    assert ([], 0) == (lines, keep.wakes)


@pytest.mark.parametrize(
    ("why", "name", "headers"),
    [
        ("unknown_source", "writer", TOKEN),
        ("missing_header", "flatfile", {}),
        ("wrong_secret", "flatfile", {"authorization": ("Bearer no",)}),
    ],
)
def test_strangers_are_refused(why: str, name: str, headers: dict[str, tuple[str, ...]]) -> None:
    """One answer for all, the reason in the log alone, and nothing is kept."""
    keep = Kept()
    with capture_logs() as lines, pytest.raises(Rejected) as caught:
        keep.take(b"{}", headers, name)
    assert (401, []) == (caught.value.status, keep.asked)
    assert [("hook.refused", why)] == [(line["event"], line["why"]) for line in lines]
    assert why not in str(caught.value)


# -- the log --


def test_one_line_says_what_became_of_an_event() -> None:
    """`event.taken` has the cases and what became of them, then each has a line of its own, then storms."""
    storm = Turn(provider="flatfile", began=True, waiting=3, why="more than 2 cases in 60 s")
    keep = Kept(recorded(CALLED, WELL, turns=(storm,)))
    with capture_logs() as lines:
        keep.take(orjson.dumps(FAILED))

    wide = lines[0]
    assert wide.pop("took_ms") >= 0
    assert {
        "event": "event.taken",
        "log_level": "info",
        "event_id": "ev_1",
        "source": "flatfile",
        "type": "job:failed",
        "delivery": "us_evt_1",
        "verified": "authenticated",
        "decision": "matched",
        "flaw": None,
        "duplicate": False,
        "rules": ["retry jobs"],
        "did": ["call"],
        "cases": ["case_1", "case_2"],
        "became": ["opened", "recovered"],
        "calls": ["call_1"],
        "dead": None,
        "secret": "env:T",
        "bytes": len(orjson.dumps(FAILED)),
    } == wide
    assert ["case.opened", "case.recovered", "storm.began"] == [line["event"] for line in lines[1:]]


def test_the_line_says_why_nothing_can_be_sent() -> None:
    """A failure without its values is told with the reason, a body that can't be read with its flaw."""
    keep = Kept(recorded(), recorded())
    with capture_logs() as lines:
        keep.take(b'{"topic": "job:failed"}')
        keep.take(b"{")
    assert [["not sent: job_id: context.jobId is missing in the event"], None] == [
        line["dead"] for line in lines
    ]
    assert [True, False] == [line["flaw"] is None for line in lines]


# -- read --


def made(body: bytes, headers: Mapping[str, list[str]] | None = None, by: Source = SOURCE) -> Event:
    return read(by, headers or {}, body, Trust.VERIFIED, NOW)


def test_a_secret_in_a_body_is_never_kept() -> None:
    """What the source redacts is gone from body and data; the digest is that of the signed bytes."""
    body = orjson.dumps(FAILED | {"_accessToken": "sk_live"})
    event = made(body)
    assert b"sk_live" not in event.body
    assert "sk_live" not in str(event.data)
    assert made(body.replace(b"live", b"dead")).digest != event.digest


def test_only_headers_worth_keeping_are_kept() -> None:
    """Those that hold ids, and three more; never the one with the credentials, even if it is named twice."""
    headers = {name: ["1", "2"] for name in ("x-delivery-id", "content-type", "cookie", "authorization")}
    by = replace(SOURCE, delivery=(*SOURCE.delivery, "header:authorization"))
    assert {"x-delivery-id": "1, 2", "content-type": "1, 2"} == made(b"{}", headers, by).headers


@pytest.mark.parametrize(
    ("delivery", "headers", "body"),
    [
        ("h", {"x-delivery-id": ["h"]}, {"src": {"id": "s"}, "id": "b"}),
        ("s", {"x-delivery-id": [" "]}, {"src": {"id": " s "}, "id": "b"}),
        ("7", {}, {"src": {"id": None}, "id": 7}),
        (None, {}, {"src": {}, "id": ["b"]}),
    ],
)
def test_the_first_id_that_is_there_counts(
    delivery: str | None, headers: dict[str, list[str]], body: Json
) -> None:
    """In the order that the source says, headers or body, as text."""
    assert delivery == made(orjson.dumps(body), headers).delivery


def test_an_id_is_fit_to_be_a_key() -> None:
    """However long and odd the sender's id."""
    event = made(orjson.dumps({"id": "\x00" + "x" * 999, "topic": "a\nb"}))
    assert event.delivery
    assert event.type
    assert len(event.delivery) <= LONGEST_NAME
    assert event.type.isprintable()


def test_a_body_that_can_not_be_read_is_kept_with_its_flaw() -> None:
    """It has no data and no id, but its bytes."""
    event = made(b'{"id": "x"', by=source(delivery=("body:id",)))
    assert (b'{"id": "x"', None, None) == (event.body, event.data, event.delivery)
    assert event.flaw
