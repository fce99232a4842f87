"""Which of many fields at one path accept this value?"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from ipaddress import ip_address
from typing import Final, TypeAlias, cast

from relay.condition import exact, is_number
from relay.event import Json
from relay.index.clue import Clue, Clues, Kind
from relay.index.many import Many, bits, packed
from relay.index.stab import Range, Stab

_Look: TypeAlias = Callable[[str, list[int]], int]
"""Returns what a text leads to, as bits; what is kept as a list is added to the list given."""

_Table: TypeAlias = Mapping[Hashable, Many]


class Sieve:
    """Fields by number, below *size*: what leads to each, and for some what must not stand there."""

    __slots__ = ("_any", "_but", "_exact", "_other", "_ranges", "_texts", "_value")

    def __init__(
        self, found: Iterable[tuple[Clue, int]], other: Iterable[tuple[Clues, int]], size: int
    ) -> None:
        kept: dict[Kind, dict[Hashable, list[int]]] = {}
        for (kind, key), number in found:
            kept.setdefault(kind, {}).setdefault(key, []).append(number)
        tables = {
            kind: {key: packed(held, size) for key, held in keys.items()} for kind, keys in kept.items()
        }
        nothing: _Table = {}
        self._any: Many = tables.get(Kind.ANY, nothing).get(None, 0)
        self._value: Many = tables.get(Kind.VALUE, nothing).get(None, 0)
        self._exact: _Table = tables.get(Kind.IS, nothing)
        self._texts = [_LOOKS[kind](table) for kind, table in tables.items() if kind in _LOOKS]
        if Kind.HOLDS in kept:
            self._texts.append(_pieces(tables[Kind.HOLDS]))
        ranges = [(cast(Range, key), one) for key, held in kept.get(Kind.RANGE, {}).items() for one in held]
        self._ranges = Stab(ranges, size) if ranges else None
        others = list(other)
        self._other: Many = packed([number for _, number in others], size)
        self._but = (
            Sieve(((clue, number) for clues, number in others for clue in clues), (), size)
            if others
            else None
        )

    def hits(self, values: list[Json], few: list[int]) -> int:
        """Return the fields that accept one of *values* as bits; those kept as a list are added to *few*."""
        if len(values) == 1:
            return self._hits(values[0], few)
        found = 0
        for value in {exact(value): value for value in values}.values():
            found |= self._hits(value, few)
        return found

    def _hits(self, value: Json, few: list[int]) -> int:
        found = 0
        if self._any:
            found |= _add(self._any, few)
        if self._value and value is not None:
            found |= _add(self._value, few)
        if self._exact:
            many = self._exact.get(exact(value))
            if many is not None:
                found |= _add(many, few)
        if isinstance(value, str):
            for look in self._texts:
                found |= look(value, few)
        elif self._ranges is not None and is_number(value):
            found |= self._ranges.hits(value, few)
        if self._but is None:
            return found
        others = self._others(value, self._but, few)
        return found | others if found else others  # a copy of many bits is not for nothing

    def _others(self, value: Json, but: "Sieve", few: list[int]) -> int:
        listed: list[int] = []
        refused = but.hits([value], listed)
        if isinstance(self._other, int):
            if listed:
                refused |= bits(listed)
            return self._other ^ refused  # all that refuse anything are among the others
        few += [one for one in self._other if not refused >> one & 1 and one not in listed]
        return 0


def _add(many: Many, few: list[int]) -> int:
    if isinstance(many, int):
        return many
    few += many
    return 0


# -- looks at a text --


def _always(table: _Table) -> _Look:
    many = table[None]
    return lambda _, few: _add(many, few)


def _folded(table: _Table) -> _Look:
    def look(text: str, few: list[int]) -> int:
        many = table.get(text.casefold())
        return 0 if many is None else _add(many, few)

    return look


def _by_length(table: _Table) -> list[tuple[int, dict[str, Many]]]:
    lengths: dict[int, dict[str, Many]] = {}
    for key, many in table.items():
        lengths.setdefault(len(str(key)), {})[str(key)] = many
    return sorted(lengths.items())


def _starts(table: _Table) -> _Look:
    lengths = _by_length(table)

    def look(text: str, few: list[int]) -> int:
        found, most = 0, len(text)
        for length, keys in lengths:
            if length > most:
                break
            many = keys.get(text[:length])
            if many is not None:
                found |= _add(many, few)
        return found

    return look


def _ends(table: _Table) -> _Look:
    lengths = _by_length(table)

    def look(text: str, few: list[int]) -> int:
        found, most = 0, len(text)
        for length, keys in lengths:
            if length > most:
                break
            many = keys.get(text[most - length :])
            if many is not None:
                found |= _add(many, few)
        return found

    return look


def _fold(make: Callable[[_Table], _Look]) -> Callable[[_Table], _Look]:
    def made(table: _Table) -> _Look:
        look = make(table)
        return lambda text, few: look(text.casefold(), few)

    return made


def _grams(text: str) -> set[str]:
    """Return the pieces of a text that it is known by: four characters each, if it has so many."""
    length = 4 if len(text) >= 4 else min(len(text), 2)
    return {text[i : i + length] for i in range(len(text) - length + 1)}


def _pieces(table: _Table) -> _Look:
    """Know each piece by the rarest gram in it, so that a text is cut into grams once for all pieces."""
    pieces = {str(key): many for key, many in table.items()}
    counts = Counter(gram for piece in pieces for gram in _grams(piece))
    lengths: dict[int, dict[str, list[tuple[str, Many]]]] = {}
    for piece, many in pieces.items():
        gram = min(_grams(piece), key=lambda one: (counts[one], one))
        lengths.setdefault(len(gram), {}).setdefault(gram, []).append((piece, many))
    tables = list(lengths.items())

    def look(text: str, few: list[int]) -> int:
        found = 0
        for length, grams in tables:
            seen = {text[i : i + length] for i in range(len(text) - length + 1)}
            for gram in grams.keys() & seen:
                for piece, many in grams[gram]:
                    if piece in text:
                        found |= _add(many, few)
        return found

    return look


_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%.*)?", re.DOTALL)


def _blocks(table: _Table) -> _Look:
    lengths: dict[tuple[int, int], dict[int, Many]] = {}
    for key, many in table.items():
        version, shift, prefix = cast(tuple[int, int, int], key)
        lengths.setdefault((version, shift), {})[prefix] = many
    tables = list(lengths.items())

    def look(text: str, few: list[int]) -> int:
        if not _ADDRESS.fullmatch(text):  # most texts are none, and to find out by an error is slow
            return 0
        try:
            address = ip_address(text)
        except ValueError:
            return 0
        found, number = 0, int(address)
        for (version, shift), blocks in tables:
            many = blocks.get(number >> shift) if version == address.version else None
            if many is not None:
                found |= _add(many, few)
        return found

    return look


_LOOKS: Final[Mapping[Kind, Callable[[_Table], _Look]]] = {
    Kind.TEXT: _always,
    Kind.FOLDED: _folded,
    Kind.STARTS: _starts,
    Kind.ENDS: _ends,
    Kind.STARTS_FOLDED: _fold(_starts),
    Kind.ENDS_FOLDED: _fold(_ends),
    Kind.BLOCK: _blocks,
}
