"""A secret that shows itself only when asked by name."""

from typing import Final

SHORTEST: Final = 4
"""Values shorter than this are not looked for in logs: they would blank out ordinary text."""


class Secret:
    """A secret value; ``str``, ``repr`` and formatting show ``***``, ``reveal`` shows it."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin  #: where it came from, safe to show: ``env:WRITER_API_KEY``

    def reveal(self) -> str:
        """Return the value itself: for the wire, never for a log."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
