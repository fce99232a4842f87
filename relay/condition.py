"""What is one condition of a pattern, what else may it look at than one value, and how is it put in words?"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeGuard

from relay.event import Json, Millis


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a pattern may look at: the data whole, what came around it, and what time it is."""

    data: Json
    envelope: Json = None  #: None: names that begin with $ are fields of the data like others
    now: Millis = 0

    def root(self, path: str) -> Json:
        """Return where the walk along *path* begins."""
        return self.data if self.envelope is None or not path.startswith("$") else self.envelope


@dataclass(frozen=True, slots=True)
class Condition:
    """One item of a field's list."""

    accepts: Callable[[Json], bool]
    wanted: str
    absent: bool = False  #: met where nothing stands at the path
    op: str = ""  #: the operator's name…
    operand: object = None  #: …and what the pattern says behind it, for an index over many patterns
    given: Callable[[Scene], "Condition"] | None = None  #: one value is not enough: see `at`
    others: tuple[str, ...] = ()  #: paths of other fields that it looks at
    size: int = 0  #: of the programs of its regexes: what a character of a long text may cost

    def at(self, scene: Scene) -> "Condition":
        """Return the condition that can be judged by one value alone: most are so in every scene."""
        return self if self.given is None else self.given(scene)


def scenic(given: Callable[[Scene], Condition], wanted: str) -> Condition:
    """Return a condition that is *given* by the scene: alone, a value is neither right nor wrong."""

    def unasked(_: Json) -> bool:
        raise LookupError(f"{wanted}: this is judged in a scene only")

    return Condition(unasked, wanted, given=given)


class Wrong(Exception):
    """What a pattern can't say here: *what* it is, a *hint*, and the key that leads further *down* to it."""

    def __init__(self, what: str, hint: str = "", down: str = "") -> None:
        self.what, self.hint, self.down = what, hint, down
        super().__init__(what)


def exact(value: object) -> tuple[bool, object]:
    """Make a key of *value* under which 300 is 300.0 but true is not 1."""
    return isinstance(value, bool), value


def is_number(value: object) -> TypeGuard[float]:
    """Say whether *value* is a number of JSON."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def literal(value: object) -> Json:
    """Return a *value* that is compared as it stands."""
    if value is None or isinstance(value, str | bool) or is_number(value):
        return value
    hint = "put it in quotes" if is_time(value) else ""
    raise Wrong(f"expected text, a number, true or false, got {shown(value)}", hint)


def is_time(value: object) -> bool:
    """Say whether *value* is one of TOML's dates and times: the only values that JSON does not know."""
    return not isinstance(value, str | int | float | list | Mapping | None)


def shown(value: object) -> str:
    """Write *value* as JSON: short, and with nothing in it that could move a terminal's cursor."""
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "a table"
    if is_time(value):
        return "a date or time"
    if isinstance(value, str) and len(value) > 80:
        value = value[:79] + "…"
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def listed(texts: Iterable[str], word: str, most: int = 4) -> str:
    """Join different *texts* by *word*, the first four of them."""
    known = list(dict.fromkeys(texts))
    more = [f"{len(known) - most} more"] if len(known) > most else []
    return f" {word} ".join(known[:most] + more)


def counted(number: int, noun: str) -> str:
    """Say how many there are of what *noun* names: ``1 call``, ``1,000 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return the *known* word that is most like *word*, in any case; nothing if none is like it."""
    names = {name.lower(): name for name in sorted(known)}
    close = get_close_matches(word.lower(), names, n=1, cutoff=least)
    return names[close[0]] if close else ""


def near(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word nearest to *word*, or with all if they are few."""
    names = sorted(known)
    if found := nearest(word, names):
        return f"did you mean '{found}'?"
    return f"known: {', '.join(names)}" if names and len(names) <= 12 else ""
