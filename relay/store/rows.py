"""How do words become rows, and rows words?"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import orjson

from relay.call import Attempt, Call, Kind, Priority, Seen, State, Step
from relay.case import Case, Policy, Stand, Storming
from relay.engine import Link, Row
from relay.event import Event, Trust

Rows: TypeAlias = Callable[[str, Mapping[str, Any]], list[Row]]
"""Run a statement by its name."""


class Base:
    """What every part of the store has: a way to run statements."""

    def __init__(self, link: Link) -> None:
        self._rows: Rows = link.rows


def event_of(row: Row) -> Event:
    """Make an event of its row; its data is read again from the body by whoever needs it."""
    names = (
        "id",
        "source",
        "type",
        "delivery",
        "digest",
        "received_at",
        "happened_at",
        "resource",
        "tells",
        "headers",
        "body",
        "flaw",
    )
    return Event(verified=Trust(row["verified"]), **{name: row[name] for name in names})


def call_of(row: Row) -> Call:
    """Make a call of its row."""
    row = dict(row)
    return Call(
        kind=Kind(row.pop("kind")),
        event=row.pop("event_id"),
        case=row.pop("case_id"),
        values=orjson.loads(row.pop("args")),
        state=State(row.pop("state")),
        step=Step(row.pop("step")),
        only=row.pop("hours"),
        priority=Priority(row.pop("priority")),
        seen=None if (seen := row.pop("seen")) is None else Seen(seen),
        **row,
    )


def call_row(call: Call) -> dict[str, Any]:
    """Make a row of a call."""
    row = _fields(call)
    row["event_id"], row["case_id"], row["hours"] = row.pop("event"), row.pop("case"), row.pop("only")
    row["args"] = dumped(row.pop("values"))
    return row


def attempt_of(row: Row) -> Attempt:
    """Make an attempt of its row."""
    row = dict(row)
    return Attempt(call=row.pop("call_id"), step=Step(row.pop("step")), **row)


def case_of(row: Row) -> Case:
    """Make a case of its row."""
    row = dict(row)
    policy = orjson.loads(row.pop("policy"))
    return Case(
        values=orjson.loads(row.pop("args")),
        policy=Policy(**policy | {"wait_ms": tuple(policy["wait_ms"])} | _priority(policy)),
        state=Stand(row.pop("state")),
        event=row.pop("event_id"),
        call=row.pop("call_id"),
        spent=tuple(orjson.loads(row.pop("spent"))),
        aliases=tuple(orjson.loads(row.pop("aliases"))),
        storming=Storming(row.pop("storming")),
        **row,
    )


def _priority(policy: Mapping[str, Any]) -> dict[str, Priority]:
    return {"priority": Priority(policy["priority"])} if "priority" in policy else {}


def case_row(case: Case) -> dict[str, Any]:
    """Make a row of a case."""
    row = _fields(case)
    row["event_id"], row["call_id"] = row.pop("event"), row.pop("call")
    row["args"] = dumped(row.pop("values"))
    return row | {name: dumped(row[name]) for name in ("policy", "spent", "aliases")}


def _fields(word: Call | Case) -> dict[str, Any]:
    """Return a word's fields as they are: `asdict` would copy what is in them, too."""
    return {name: getattr(word, name) for name in word.__slots__}


def dumped(value: Any) -> str:
    """Write *value* as JSON, its keys in order."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
