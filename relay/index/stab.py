"""Which of many ranges does a number stand in?"""

from bisect import bisect_left
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from relay.index.many import Many, packed


class Range(NamedTuple):
    """Numbers between two ends, each in it or, if it is open, not."""

    low: float = -inf
    low_open: bool = False
    high: float = inf
    high_open: bool = False


class Stab:
    """
    Ranges with a number each, as a tree over the places where one begins or ends.

    A range stands at few nodes, at most two on each floor; a look goes from one leaf to the root. So it costs
    by the height of the tree and by what it finds, never by the ranges that it passes.
    """

    __slots__ = ("_ends", "_nodes", "_width")

    def __init__(self, ranges: Iterable[tuple[Range, int]], size: int) -> None:
        kept = list(ranges)
        ends = sorted({end for one, _ in kept for end in (one.low, one.high) if abs(end) != inf})
        at = {end: i for i, end in enumerate(ends)}
        self._ends = ends
        self._width = width = 2 * len(ends) + 1  # leaves are the ends, and the gaps around and between them
        nodes: dict[int, list[int]] = {}
        for one, number in kept:
            left = width + (0 if one.low == -inf else 2 * at[one.low] + 1 + one.low_open)
            right = width + (width if one.high == inf else 2 * at[one.high] + 2 - one.high_open)
            while left < right:
                if left & 1:
                    nodes.setdefault(left, []).append(number)
                    left += 1
                if right & 1:
                    right -= 1
                    nodes.setdefault(right, []).append(number)
                left >>= 1
                right >>= 1
        self._nodes: dict[int, Many] = {node: packed(numbers, size) for node, numbers in nodes.items()}

    def hits(self, value: float, few: list[int]) -> int:
        """Return the ranges around *value* as bits; those that are kept as a list are added to *few*."""
        ends, nodes, found = self._ends, self._nodes, 0
        i = bisect_left(ends, value)
        node = self._width + 2 * i + (i < len(ends) and ends[i] == value)
        while node:
            many = nodes.get(node)
            if many is not None:
                if isinstance(many, int):
                    found |= many
                else:
                    few += many
            node >>= 1
        return found
