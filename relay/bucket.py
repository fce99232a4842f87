"""How often may a source post?"""

from relay.event import Millis
from relay.gate import Gate, admit
from relay.provider import Limit


class Buckets:
    """
    What each source has spent of its limit. It outlives a change of the rules.

    Only deliveries that have shown who sent them spend anything: a stranger can't use a sender's share up.
    """

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def wait_ms(self, source: str, limit: Limit, now: Millis) -> Millis:
        """Return the milliseconds until there is room for one more delivery; 0: there is."""
        return self._admitted(source, limit, now)[1]

    def take(self, source: str, limit: Limit, now: Millis) -> Millis:
        """Let one delivery through, and return 0; or else the milliseconds until there is room for one."""
        self._gates[source], wait_ms = self._admitted(source, limit, now)
        return wait_ms

    def _admitted(self, source: str, limit: Limit, now: Millis) -> tuple[Gate, Millis]:
        gate, admitted = admit(self._gates.get(source, Gate(provider=source)), limit, now, 1, 0)
        return gate, 0 if admitted else gate.opens_at(limit) - now
