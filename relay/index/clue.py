"""
By what can a field of a pattern be found, when a value is at hand?

A clue is a kind of look-up and a key in it. A value that a field accepts leads to the field by each of its
options: one of them is enough to be looked up, and the rarest is the best.
"""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Final, TypeAlias

from relay.condition import Condition, exact
from relay.index.stab import Range
from relay.match.pattern import Field


class Kind(Enum):
    """The look-ups that there are."""

    IS = "is"  #: by the key of `exact`
    FOLDED = "folded"
    STARTS = "starts"
    ENDS = "ends"
    STARTS_FOLDED = "starts, folded"
    ENDS_FOLDED = "ends, folded"
    HOLDS = "holds"  #: this text somewhere
    RANGE = "range"
    BLOCK = "block"  #: of addresses: version, length of the prefix, prefix
    TEXT = "text"  #: any text
    VALUE = "value"  #: any value but null
    ANY = "any"

    __hash__ = object.__hash__  # by identity: Enum's own is slow


WIDE: Final = frozenset({Kind.TEXT, Kind.VALUE, Kind.ANY})

Clue: TypeAlias = tuple[Kind, Hashable]
Clues: TypeAlias = tuple[Clue, ...]
"""A value that is accepted has at least one of them."""

ANY: Final[Clues] = ((Kind.ANY, None),)


@dataclass(frozen=True, slots=True)
class Lead:
    """What leads to one field: *always*, one option of each row of *either*, and what is none of *but*."""

    always: Clues = ()
    either: tuple[tuple[Clues, ...], ...] = ()
    but: Clues | None = None
    sure: bool = True  #: what is found this way is accepted: it need not be judged once more


@dataclass(frozen=True, slots=True)
class _Part:
    """What leads to one condition."""

    options: tuple[Clues, ...] = ()
    but: Clues | None = None
    sure: bool = True


def lead(field: Field) -> Lead:
    """Return what leads to *field*."""
    always: list[Clue] = [(Kind.IS, key) for key in field.exact]
    either: list[tuple[Clues, ...]] = []
    but: Clues | None = None
    sure = True
    for condition in field.conditions:
        part = _part(condition)
        if part.but is not None and but is not None:
            part = _UNKNOWN  # two kinds of other values: between them, nearly all
        sure = sure and part.sure
        but = but if part.but is None else part.but
        if len(part.options) == 1:
            always += part.options[0]
        elif part.options:
            either.append(part.options)
    return Lead(tuple(dict.fromkeys(always)), tuple(either), but, sure)


_UNKNOWN: Final = _Part((ANY,), sure=False)


def _part(condition: Condition) -> _Part:
    return _PARTS[condition.op](condition.operand) if condition.op in _PARTS else _UNKNOWN


def _one(kind: Kind, key: Hashable) -> _Part:
    return _Part((((kind, key),),))


def _edge(plain: Kind, folded: Kind) -> Callable[[object], _Part]:
    def part(operand: object) -> _Part:
        if isinstance(operand, Mapping):
            kind, text = folded, str(operand["equals-ignore-case"]).casefold()
        else:
            kind, text = plain, str(operand)
        return _one(kind, text) if text else _one(Kind.TEXT, None)

    return part


def _wildcard(operand: object) -> _Part:
    parts = [""]
    for piece in re.findall(r"\\.|\*|[^*\\]+", str(operand), re.DOTALL):
        if piece == "*":
            parts.append("")
        else:
            parts[-1] += piece.removeprefix("\\") if len(piece) == 2 else piece
    if len(parts) == 1:
        return _one(Kind.IS, exact(parts[0]))
    head, *middle, tail = parts
    clues: list[Clue] = [(Kind.STARTS, head), *((Kind.HOLDS, part) for part in middle), (Kind.ENDS, tail)]
    known = [clue for clue in clues if clue[1]]
    if not known:
        return _one(Kind.TEXT, None)
    return _Part(tuple((clue,) for clue in known), sure=len(known) == 1)


def _regex(operand: object) -> _Part:
    """Find texts that must stand in whatever the expression finds; only where that is plain to see."""
    text = str(operand)
    if re.search(r"[\\|()\[\]{}]", text):
        return _UNKNOWN
    sure = re.split(r"[.^$+]+", re.sub(r".[*?]+", ".", text, flags=re.DOTALL))
    options: tuple[Clues, ...] = tuple(((Kind.HOLDS, piece),) for piece in sure if piece)
    return _Part(options, sure=False) if options else _UNKNOWN


def _anything_but(operand: object) -> _Part:
    if not isinstance(operand, Mapping):
        values = operand if isinstance(operand, list) else [operand]
        return _Part(but=tuple((Kind.IS, exact(value)) for value in values))
    ((name, inner),) = operand.items()
    parts = [_PARTS[name](one) for one in (inner if isinstance(inner, list) else [inner])]
    if not all(part.sure and len(part.options) == 1 for part in parts):
        return _UNKNOWN
    return _Part(but=tuple(clue for part in parts for clue in part.options[0]))


def _all_of(operand: object) -> _Part:
    """Any of the parts will do, if it is found by what a value is, not by what it is not."""
    parts = [_part_of(one) for one in (operand if isinstance(operand, list) else [])]
    options = tuple(option for part in parts for option in part.options if part.but is None)
    return _Part(options or (ANY,), sure=len(parts) == 1 and parts[0].sure and parts[0].but is None)


def _part_of(item: object) -> _Part:
    if not isinstance(item, Mapping):
        return _one(Kind.IS, exact(item))
    ((name, operand),) = item.items()
    return _PARTS[name](operand) if name in _PARTS else _UNKNOWN


def _numeric(operand: object) -> _Part:
    terms = operand if isinstance(operand, list) else []
    kept = Range()
    for name, number in zip(terms[::2], terms[1::2], strict=True):
        if name == "=":
            return _one(Kind.IS, exact(number))
        if name in (">", ">="):
            kept = kept._replace(low=number, low_open=name == ">")
        else:
            kept = kept._replace(high=number, high_open=name == "<")
    return _one(Kind.RANGE, kept)


def _cidr(operand: object) -> _Part:
    network = ip_network(str(operand), strict=False)
    shift = network.max_prefixlen - network.prefixlen
    return _one(Kind.BLOCK, (network.version, shift, int(network.network_address) >> shift))


_PARTS: Final[Mapping[str, Callable[[object], _Part]]] = {
    "exactly": lambda text: _one(Kind.IS, exact(text)),
    "prefix": _edge(Kind.STARTS, Kind.STARTS_FOLDED),
    "suffix": _edge(Kind.ENDS, Kind.ENDS_FOLDED),
    "equals-ignore-case": lambda text: _one(Kind.FOLDED, str(text).casefold()),
    "wildcard": _wildcard,
    "regex": _regex,
    "anything-but": _anything_but,
    "exists": lambda there: _Part((ANY,) if there else ()),
    "numeric": _numeric,
    "cidr": _cidr,
    "all-of": _all_of,
    "is-null": lambda null: _one(Kind.IS, exact(None)) if null else _one(Kind.VALUE, None),
}
