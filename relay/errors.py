"""
What can go wrong, by whose hands.

* RelayError
  + ConfigError    the operator's files say something relay can't do
  + Rejected       the sender's request can't be taken
  + Unfit          an event's value can't go where the rule wants it
  + StoreError     the database refused or went away
    - StoreBusy    no room on the disk, or locked by another; nothing was written, it may work again

A provider saying no is not here: that is an Outcome, not an exception.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class RelayError(Exception):
    """Anything relay raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file, said so that its author can mend it."""

    file: str
    what: str  #: what was found and what was expected
    line: int | None = None
    key: str = ""  #: dotted, as written: rule[2].when.status
    hint: str = ""  #: a near miss, or the way out

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{key} {self.what}{hint}"


class ConfigError(RelayError):
    """The operator's files say something relay can't do; all problems at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Rejected(RelayError):
    """
    The sender's request can't be taken: *status* and *title* go back as problem+json (RFC 9457).

    With *again_s*, it may come again after so many seconds.
    """

    def __init__(self, status: int, title: str, why: str = "", again_s: int = 0) -> None:
        self.status, self.title, self.why, self.again_s = status, title, why, again_s
        super().__init__(f"{status} {title}: {why}" if why else f"{status} {title}")


class Unfit(RelayError):
    """An event's value is missing, or can't go where the rule or the provider wants it."""


class StoreError(RelayError):
    """The database refused or went away."""


class StoreBusy(StoreError):
    """No room on the disk, or another process holds the file. Nothing was written; it may work again."""
