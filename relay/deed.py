"""What the rules want done about an event: at once, and when a window says so."""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from relay.case import Failure, Recovery
from relay.event import Decision, Millis, Part
from relay.rule import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody is told."""

    rule: str
    channel: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What one or all rules want done, and each rule's part as it is stored with the event."""

    failures: tuple[Failure, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    says: tuple[Said, ...] = ()
    parts: tuple[Part, ...] = ()


def joined(deeds: Iterable[Deed]) -> Deed:
    """Return all of several deeds as one, in their order."""
    several = tuple(deeds)
    return Deed(
        failures=tuple(one for deed in several for one in deed.failures),
        recoveries=tuple(one for deed in several for one in deed.recoveries),
        says=tuple(one for deed in several for one in deed.says),
        parts=tuple(one for deed in several for one in deed.parts),
    )


def once(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """Return failures without those that want the very same call as one before."""
    different: dict[bytes, Failure] = {}
    for one in failures:
        same = [one.provider, one.action, dict(one.values), one.flaw, one.key if one.person else ""]
        different.setdefault(orjson.dumps(same, option=orjson.OPT_SORT_KEYS), one)
    return tuple(different.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """An event that a rule's window takes in; the window decides what is done, and when."""

    rule: str
    window: Window
    key: str  #: events of one rule and key share a window
    mark: str = ""  #: of one mark, only the first counts
    ms: Millis = 0  #: how long a window is that this event opens
    threshold: int = 1
    seen: bool = False  #: what was expected came: an open window is closed, and nothing is done
    deed: Deed = Deed()  #: what is done if the window lets this event act now


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rules made of an event."""

    decision: Decision
    deed: Deed = Deed()  #: at once
    waits: tuple[Wait, ...] = ()
