"""What the log says of cases and storms."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from build import NOW
from structlog.testing import capture_logs

from relay import report
from relay.case import Case, Moment, Move, Policy, Stand
from relay.storm import Turn

CASE = Case(
    id="case_1",
    key="flatfile:job_id=us_jb_2",
    provider="flatfile",
    rule="retry jobs",
    action="retry",
    values={"job_id": "us_jb_2"},
    policy=Policy(),
    state=Stand.RETRYING,
    why="a retry is on its way",
    event="ev_1",
    call="call_1",
    retries=2,
    aliases=("flatfile:job_id=us_jb_1",),
    opened_at=NOW,
)


@pytest.fixture(autouse=True)
def _everything_is_said() -> Iterator[None]:
    """Begin with a log that leaves no level out, whatever was set up before."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def at(state: Stand) -> Case:
    ended_at = NOW + 1500 if state in {Stand.RECOVERED, Stand.GAVE_UP, Stand.CLOSED} else None
    return replace(CASE, state=state, ended_at=ended_at)


def said(before: Stand | None, after: Stand, *, by: str | None = None, what: str = "so it is") -> Any:
    """Return the one line that a case's way from *before* to *after* is worth."""
    moment = Moment(kind="x", what=what, by=by)
    move = Move(before=None if before is None else at(before), case=at(after), moment=moment)
    with capture_logs() as lines:
        report.moves([move])
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("name", "level", "before", "after", "by"),
    [
        ("case.opened", "info", None, Stand.RETRYING, None),
        ("case.opened", "info", None, Stand.OPEN, None),
        ("case.gave_up", "error", None, Stand.GAVE_UP, None),  # it can't be called at all
        ("case.gave_up", "error", Stand.WATCHING, Stand.GAVE_UP, None),
        ("case.recovered", "info", Stand.WATCHING, Stand.RECOVERED, None),
        ("case.recovered", "info", Stand.NEEDS_PERSON, Stand.RECOVERED, None),
        ("case.needs_person", "warning", Stand.WATCHING, Stand.NEEDS_PERSON, None),
        ("case.closed", "info", Stand.OPEN, Stand.CLOSED, None),
        ("case.closed", "info", Stand.OPEN, Stand.CLOSED, "ann"),
        ("case.moved", "info", Stand.RETRYING, Stand.WATCHING, None),
        ("case.moved", "info", Stand.WATCHING, Stand.RETRYING, None),
        ("case.moved", "info", Stand.RETRYING, Stand.OPEN, None),
        ("case.acted", "info", Stand.OPEN, Stand.RETRYING, "ann"),
        ("case.acted", "info", Stand.GAVE_UP, Stand.RETRYING, "ann"),
        ("case.acted", "info", Stand.OPEN, Stand.OPEN, "ann"),  # a snooze
        ("case.acted", "info", Stand.NEEDS_PERSON, Stand.NEEDS_PERSON, "ann"),
        *(("case.joined", "debug", state, state, None) for state in Stand),
    ],
)
def test_each_move_has_its_line(
    name: str, level: str, before: Stand | None, after: Stand, by: str | None
) -> None:
    """Ends are told as such whoever made them, once: what only joins a case is no news."""
    line = said(before, after, by=by)
    assert (name, level, after.value, by) == (line["event"], line["log_level"], line["state"], line["by"])


def test_a_line_is_wide() -> None:
    """It has all ids, why the case stands there, how often it was retried, and how long it took."""
    assert {
        "event": "case.recovered",
        "log_level": "info",
        "case": "case_1",
        "key": "flatfile:job_id=us_jb_2",
        "provider": "flatfile",
        "rule": "retry jobs",
        "state": "recovered",
        "why": "a retry is on its way",
        "what": "so it is",
        "by": None,
        "retries": 2,
        "attempts": None,
        "aliases": ["flatfile:job_id=us_jb_1"],
        "took_ms": 1500,
        "event_id": "ev_1",
        "call": "call_1",
    } == said(Stand.WATCHING, Stand.RECOVERED)


def test_what_is_over_took_its_time() -> None:
    """A case that goes on has not taken any yet."""
    assert (None, 1500) == tuple(
        said(Stand.OPEN, after)["took_ms"] for after in (Stand.RETRYING, Stand.GAVE_UP)
    )


def test_nothing_is_said_twice() -> None:
    """Where a move's reason is the case's own, one of them is enough."""
    line = said(Stand.RETRYING, Stand.WATCHING, what=CASE.why)
    assert (CASE.why, None) == (line["why"], line["what"])


def test_moves_are_told_in_order() -> None:
    """One line a move, as they came; no move, no line."""
    found = [
        Move(before=None, case=replace(CASE, id=name), moment=Moment(kind="opened", what=""))
        for name in "cab"
    ]
    with capture_logs() as lines:
        report.moves([])
        report.moves(found)
    assert ["c", "a", "b"] == [line["case"] for line in lines]


def test_a_storm_has_two_lines() -> None:
    """That it began, which is a warning, and that it is over."""
    with capture_logs() as lines:
        report.turns([])
        report.turns([Turn(provider="writer", began=True, waiting=498, why="more than 20 cases in 60 s")])
        report.turns([Turn(provider="writer", began=False, waiting=0, why="all were let go")])
    more = {"event": "storm.began", "log_level": "warning", "provider": "writer", "waiting": 498}
    over = {"event": "storm.ended", "log_level": "info", "provider": "writer", "waiting": 0}
    assert [more | {"why": "more than 20 cases in 60 s"}, over | {"why": "all were let go"}] == lines
