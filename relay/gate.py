"""When may a provider next be called? Rate limit, Retry-After and breaker, as one instant."""

from dataclasses import dataclass, replace
from typing import Final

from relay.call import Answered, Failed, Refused, Signal, Throttled
from relay.event import Millis
from relay.provider import Limit

TRIP: Final = 5
"""Failures in a row that open the breaker (Envoy's consecutive_5xx)."""

REST_MS: Final = 30_000
"""How long it stays open first; doubles each time the probe fails too."""

LONGEST_REST_MS: Final = 600_000

REFUSED_REST_MS: Final = 900_000
"""How long a provider that refuses our credentials is left alone before one call asks again."""

LONGEST_WAIT_MS: Final = 86_400_000
"""Retry-After is believed up to a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What is known about a provider as a whole. One row, shared by all workers."""

    provider: str
    spent_at: Millis = 0  #: GCRA's theoretical arrival time: when all that was let through is paid for
    throttled_until: Millis = 0  #: the latest Retry-After
    shut_until: Millis = 0  #: the breaker, a pause, or the probe that is under way
    failures: int = 0  #: in a row
    tripped_at: Millis = 0  #: when the breaker last opened, or the pause began
    trips: int = 0  #: times the breaker opened without a success between
    paused: str = ""  #: why the provider refuses us; empty: it does not

    @property
    def ill(self) -> bool:
        """Only one probe at a time goes through."""
        return bool(self.paused) or self.failures >= TRIP

    def opens_at(self, limit: Limit) -> Millis:
        """Return the one instant before which nobody calls."""
        paid = self.spent_at - (limit.burst - 1) * limit.every_ms if limit.every_ms else 0
        return max(self.throttled_until, self.shut_until, paid)


def admit(gate: Gate, limit: Limit, now: Millis, wanted: int, probe_ms: Millis) -> tuple[Gate, int]:
    """
    Let up to *wanted* calls through now; return the gate after them and how many.

    GCRA: each call pushes `spent_at` one interval on, and none goes while that is more than
    ``burst - 1`` intervals ahead. An ill provider gets one call, and the gate shuts behind it for
    *probe_ms*, the longest that call can take: a probe that hangs can't lock the gate for ever.
    """
    admitted = 0
    while admitted < wanted and gate.opens_at(limit) <= now:
        admitted += 1
        if limit.every_ms:
            gate = replace(gate, spent_at=max(gate.spent_at, now) + limit.every_ms)
        if gate.ill:
            return replace(gate, shut_until=now + probe_ms), admitted
    return gate, admitted


def learn(gate: Gate, signal: Signal | None, began: Millis, now: Millis) -> Gate:
    """
    Return the gate after a try that *began* then told *signal* now; None: nothing about the provider.

    What set out before the gate last shut is a straggler: it can't shut it a second time, nor open it.
    """
    # Those of the same millisecond, too: refused connections fail that fast. A probe always comes later.
    straggler = gate.ill and began <= gate.tripped_at
    match signal:
        case Answered():
            return gate if straggler else replace(gate, failures=0, trips=0, shut_until=0, paused="")
        case Throttled(until):
            until = max(gate.throttled_until, min(until, now + LONGEST_WAIT_MS))
            gate = gate if straggler else replace(gate, failures=0, trips=0, shut_until=0, paused="")
            return replace(gate, throttled_until=until)
        case Failed():
            failures = gate.failures + 1
            if straggler:
                return gate
            if failures < TRIP:
                # A paused provider's probe did not get through: it told nothing about the credentials.
                shut = now + REST_MS if gate.paused else gate.shut_until
                return replace(gate, failures=failures, shut_until=shut)
            rest = rest_ms(gate.trips)
            return replace(
                gate, failures=failures, trips=gate.trips + 1, tripped_at=now, shut_until=now + rest
            )
        case Refused(why):
            if straggler:
                return gate
            return replace(gate, paused=why, tripped_at=now, shut_until=now + REFUSED_REST_MS)
        case None:
            # If it was the probe, another one may go at once.
            probe = gate.ill and not straggler
            return replace(gate, shut_until=min(gate.shut_until, now)) if probe else gate


def resume(gate: Gate) -> Gate:
    """
    Return the gate as a fresh start finds it.

    The operator may have changed the credentials: a pause lets one call ask at once. A probe that was out is
    no longer: only the rest of the open breaker's time stands.
    """
    if gate.paused:
        return replace(gate, shut_until=0)
    return replace(gate, shut_until=min(gate.shut_until, gate.tripped_at + rest_ms(gate.trips - 1)))


def rest_ms(trips: int) -> Millis:
    """Milliseconds the breaker stays open after *trips* probes that failed."""
    return min(REST_MS << min(max(trips, 0), 10), LONGEST_REST_MS)
