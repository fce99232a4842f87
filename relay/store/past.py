"""What came in within a time?  Page after page in the order in which it came, changing nothing."""

from collections.abc import Iterator
from typing import Final

import orjson

from relay.engine import Row
from relay.event import Millis
from relay.store.rows import Base

PAGE: Final = 50
"""Events that are held at once: each may be as long as its source lets it."""


class Past(Base):
    """Events of a time that is over."""

    def past(self, since: Millis, until: Millis, source: str | None = None) -> Iterator[Row]:
        """Yield the events that came from *since* on and before *until*, the oldest first."""
        asked = {"after": _before(since), "before": _before(until), "source": source, "limit": PAGE}
        while rows := self._rows("past", asked):
            for row in rows:
                yield row | {"headers": orjson.loads(row["headers"]), "parts": orjson.loads(row["parts"])}
            asked["after"] = rows[-1]["id"]

    def past_count(self, since: Millis, until: Millis, source: str | None = None) -> int:
        """Return how many events `past` has."""
        asked = {"after": _before(since), "before": _before(until), "source": source}
        count: int = self._rows("past_count", asked)[0]["events"]
        return count


def _before(instant: Millis) -> str:
    """Return what stands before all ids of events that came at this *instant*, and after all earlier ones."""
    return f"ev_{max(0, instant):011x}"
