"""How is said what may happen a thousand times a second?  In one line a second, with how often."""

import asyncio
from collections import Counter
from typing import Final, TypeAlias

import structlog

log = structlog.get_logger()

PAUSE_S: Final = 1.0
"""Seconds between two lines of one kind."""

_Kind: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


class Tally:
    """
    Counts what the edge turns away, and says it.

    The first of a kind is said at once; what follows within a second is said together at its end. *totals*
    are since the start, by the line's name.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self.totals: Counter[str] = Counter()
        self._pause_s = pause_s
        self._unsaid: dict[_Kind, int] = {}

    def speak(self, name: str, **facts: str) -> None:
        """Count one *name*; *facts* are of few values, for each combination of them gets lines of its own."""
        kind = (name, tuple(facts.items()))
        self.totals[name] += 1
        if kind in self._unsaid:
            self._unsaid[kind] += 1
        else:
            self._say(kind, 1)

    def _say(self, kind: _Kind, count: int) -> None:
        name, facts = kind
        log.warning(name, count=count, total=self.totals[name], **dict(facts))
        self._unsaid[kind] = 0
        asyncio.get_running_loop().call_later(self._pause_s, self._again, kind)

    def _again(self, kind: _Kind) -> None:
        """Say what came meanwhile; after a second without any, the next one is said at once."""
        if count := self._unsaid.pop(kind):
            self._say(kind, count)
