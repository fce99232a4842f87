"""Everything relay remembers. Each method is one job inside a transaction; `keep` is the door to it."""

from relay.event import Millis
from relay.store.calls import Claimed, Settled, Slot, batch_size
from relay.store.events import Recorded
from relay.store.known import Shown
from relay.store.past import Past
from relay.store.rows import event_of as event
from relay.store.watches import Run, Sighting, Watches
from relay.store.windows import Closed

__all__ = [
    "Claimed", "Closed", "Recorded", "Run", "Settled", "Shown", "Sighting", "Slot", "Store", "batch_size",
    "event",
]  # fmt: skip


class Store(Watches, Past):
    """The questions and acts that the rest of relay has for its database."""

    def pulse(self, now: Millis) -> None:
        """Write and sync something, to know that an insert would work now."""
        self._rows("pulse", {"at": now})
