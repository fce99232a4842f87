"""How are many numbers held, and told, when nearly all of a hundred thousand may be among them?"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias, overload

Many: TypeAlias = int | tuple[int, ...]
"""Numbers as the bits of one integer or, where they are few, as they are."""

SPARSE: Final = 1024
"""One number in so many is still written as a bit: at most 128 bytes for each number kept, and few lists."""
_BYTE: Final = re.compile(rb"[^\0]")
_ONES: Final = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def packed(numbers: Sequence[int], size: int) -> Many:
    """Return *numbers* below *size* in the form that is the cheaper one to work with."""
    return bits(numbers) if len(numbers) * SPARSE > size else tuple(numbers)


def bits(numbers: Iterable[int]) -> int:
    """Return *numbers* as bits of one integer."""
    found = list(numbers)
    if len(found) == 1:
        return 1 << found[0]
    if len(found) <= 4:
        small = 0
        for number in found:
            small |= 1 << number
        return small
    raw = bytearray((max(found) >> 3) + 1)
    for number in found:
        raw[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(raw, "little")


def as_bits(many: Many) -> int:
    """Return *many* as bits of one integer, whichever form it has."""
    return many if isinstance(many, int) else bits(many)


def numbers(held: int) -> Iterator[int]:
    """Yield the numbers whose bits are set, from the lowest; each costs only once it is asked for."""
    if held.bit_count() <= 8:
        while held:
            low = held & -held
            yield low.bit_length() - 1
            held ^= low
        return
    raw = held.to_bytes((held.bit_length() + 7) // 8, "little")
    for found in _BYTE.finditer(raw):
        at = found.start()
        for bit in _ONES[raw[at]]:
            yield at * 8 + bit


class Met(Sequence[int]):
    """Numbers in ascending order, told as they are asked for."""

    __slots__ = ("held",)

    def __init__(self, held: int) -> None:
        self.held = held

    def __len__(self) -> int:
        return self.held.bit_count()

    def __iter__(self) -> Iterator[int]:
        return numbers(self.held)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number >= 0 and bool(self.held >> number & 1)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return tuple(self)[at]
        wanted = at + len(self) if at < 0 else at
        for number in islice(self, wanted, None) if wanted >= 0 else ():
            return number
        raise IndexError(f"there is no number {at} of {len(self)}")
