"""What does a filter make of a value?  A row of `FILTERS` each: what it takes, is told, and gives."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import orjson

from relay.condition import near
from relay.errors import Unfit
from relay.event import Json
from relay.moment import instant


class Gap(Unfit):
    """Nothing is there: a default behind this filter stands in for it."""


class Misused(ValueError):
    """What a template can't say: *what* was found and expected, and a *hint*."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} ({hint})" if hint else what)


def plain(value: Json, name: str) -> str:
    """Say a value as text. Raises Unfit for null, lists, tables and fractions, which no id is."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            # Python itself refuses to write very long ones, with an error of its own.
            if value.bit_length() > 64:
                raise Unfit(f"{name} holds what can be no part of JSON")
            return str(value)
        case _:
            raise Unfit(f"{name} is {kind(value)}, expected text")


def kind(value: Json) -> str:
    """Name the JSON type of *value*, for a message."""
    names: dict[type, str] = {
        type(None): "null",
        bool: "true or false",
        str: "text",
        int: "a number",
        float: "a fraction",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date")  # TOML has dates, and rules are written in it


@dataclass(frozen=True, slots=True)
class Step:
    """One filter as a template uses it, its argument checked; its value is of a kind that it takes."""

    name: str
    run: Callable[[Json, str], Json]
    """From a value and what it is called to a value. Raises Unfit; Gap where nothing is there."""
    takes: frozenset[type]
    gives: type | None  #: None: it depends on the value


_Run: TypeAlias = Callable[[Any, Any, str], Json]


@dataclass(frozen=True, slots=True)
class _Filter:
    wants: str
    takes: frozenset[type]
    gives: type | None
    run: _Run  #: from value, argument and what the value is called
    example: str = ""  #: of its argument; empty: it has none
    check: Callable[[str], None] = lambda _: None  #: raises Misused for an argument that can't be right


def _first(value: list[Json], _: None, name: str) -> Json:
    if not value:
        raise Gap(f"{name} is an empty list")
    return value[0]


def _last(value: list[Json], _: None, name: str) -> Json:
    return _first(value[-1:], None, name)


def _join(value: list[Json], between: str, name: str) -> Json:
    return between.join(plain(item, f"{name}.{number}") for number, item in enumerate(value))


def _json(value: Json, _: None, name: str) -> Json:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise Unfit(f"{name} holds what can be no part of JSON") from None


# -- dates --

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

CODES: Final[Mapping[str, Callable[[datetime], str]]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "d": lambda at: f"{at.day:02}",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "A": lambda at: _DAYS[at.weekday()],
    "a": lambda at: _DAYS[at.weekday()][:3],
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{(at.hour - 1) % 12 + 1:02}",
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "f": lambda at: f"{at.microsecond:06}",
    "s": lambda at: str((at - _EPOCH) // timedelta(seconds=1)),
    "z": lambda _: "+0000",
    "Z": lambda _: "UTC",
    "%": lambda _: "%",
}
"""The codes of strftime that mean the same everywhere: Python's own asks the system and its language."""

_CODE: Final = re.compile(r"%(.?)", re.DOTALL)


def _date(value: Json, form: str, name: str) -> Json:
    ms = instant(value)
    try:
        at = None if ms is None else _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:  # the years have four digits
        at = None
    if at is None:
        expected = "ISO 8601 with an offset, or seconds or milliseconds since 1970"
        raise Unfit(f"{name} is no time: expected {expected}")
    return _CODE.sub(lambda code: CODES[code[1]](at), form)


def _check_date(form: str) -> None:
    for code in _CODE.finditer(form):
        if code[1] not in CODES:
            raise Misused(
                f"date does not know {code[0]!r}", f"known: {' '.join(f'%{known}' for known in CODES)}"
            )
    if not _CODE.search(form):
        raise Misused(f"date would write {form[:60]!r} whatever the time", 'date:"%Y-%m-%d"')


# -- the filters --

_LIST: Final = frozenset({list})
_TEXT: Final = frozenset({str})
_ANY: Final = frozenset({type(None), bool, str, int, float, list, dict})

FILTERS: Final[Mapping[str, _Filter]] = {
    "first": _Filter("a list", _LIST, None, _first),
    "last": _Filter("a list", _LIST, None, _last),
    "lower": _Filter("text", _TEXT, str, lambda value, _, __: value.lower()),
    "upper": _Filter("text", _TEXT, str, lambda value, _, __: value.upper()),
    "trim": _Filter("text", _TEXT, str, lambda value, _, __: value.strip()),
    "join": _Filter("a list", _LIST, str, _join, '", "'),
    "json": _Filter("a value", _ANY, str, _json),
    "date": _Filter("a time", frozenset({str, int, float}), str, _date, '"%Y-%m-%d"', _check_date),
}


def step(name: str, *arguments: Json) -> Step:
    """Return the filter called *name*, told *arguments*: none, or one. Raises Misused."""
    found = FILTERS.get(name)
    if found is None:
        raise Misused(f"there is no filter {name[:60]!r}", _meant(name))
    (argument,) = arguments or (None,)
    if found.example:
        example = f"{name}:{found.example}"
        if not arguments:
            raise Misused(f"{name} needs an argument", example)
        if not isinstance(argument, str):
            raise Misused(f"expected a text behind {name}:, got {kind(argument)}", example)
        found.check(argument)
    elif arguments:
        raise Misused(f"{name} takes no argument")

    def run(value: Json, called: str) -> Json:
        if type(value) not in found.takes:
            flaw = f"{called} is {kind(value)}, and {name} wants {found.wants}"
            raise Gap(flaw) if value is None else Unfit(flaw)
        return found.run(value, argument, called)

    return Step(name, run, found.takes, found.gives)


def _meant(name: str) -> str:
    hint = near(name, FILTERS)
    # Bash, Jinja and Liquid say it otherwise.
    return hint if hint.startswith("did") else f'a default stands in quotes: {{path|"{name[:60]}"}}; {hint}'
