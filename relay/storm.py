"""Is this a storm, and how many retries may try whether it is over?"""

from dataclasses import dataclass, replace
from typing import Final

from relay.call import NEVER, Call, Kind, State
from relay.case import Case, Move, Policy, Stand, Storming
from relay.event import Millis

TALLY: Final = 20
"""Results that are remembered."""

HELPFUL: Final = 4
"""As few of them helped, or fewer: retries are of no use now."""

REST_MS: Final = Policy().storm_rest_ms
"""How long nothing is tried after a probe that did not help, if the provider's file does not say; doubles."""

LONGEST_REST_MS: Final = 900_000


PATIENCE_MS: Final = 300_000
"""How long what is out may say nothing: then it no longer holds up the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How a provider's resources fare. One row, shared by all workers."""

    provider: str
    began_at: Millis = 0  #: of the storm; 0: it is calm
    width: int = 1  #: how many retries may be out at once in a storm; 0: it rests
    rests: int = 0  #: rests in a row, without a probe that helped
    rests_until: Millis = 0  #: when the rest, or else the patience with what is out, is over; 0: neither
    tally: str = ""  #: the last results: + helped, - did not

    @property
    def stormy(self) -> bool:
        """Say whether retries are let go one by one."""
        return self.began_at > 0

    @property
    def useless(self) -> bool:
        """Say whether retries have hardly helped lately."""
        return len(self.tally) >= TALLY and self.tally.count("+") <= HELPFUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A storm began or ended: said once."""

    provider: str
    began: bool
    waiting: int  #: cases that wait for it to end
    why: str


def breaks_out(weather: Weather, lately: int, policy: Policy) -> str:
    """Say why a storm begins with a case that has just opened, *lately* counting it; empty: it does not."""
    if weather.stormy or not policy.storm_cases:
        return ""
    if lately > policy.storm_cases:
        return f"more than {policy.storm_cases} cases in {policy.storm_ms / 1000:g} s"
    if weather.useless:
        return f"of the last {TALLY} retries, {weather.tally.count('+')} helped"
    return ""


def begun(weather: Weather, now: Millis) -> Weather:
    """Return the weather as a storm begins: one retry at a time."""
    return replace(weather, began_at=now, width=1, rests=0, rests_until=0)


def over(weather: Weather) -> Weather:
    """Return the weather when nothing waits any more."""
    return Weather(provider=weather.provider)


def result(move: Move) -> bool | None:
    """Say whether a retry helped, where this move tells that."""
    before = move.before
    if before is None or move.moment.by is not None:
        return None
    if move.moment.kind == "failed_again":
        return False
    if before.state is move.case.state:
        return None
    if move.case.state is Stand.RECOVERED:
        return True
    if before.state is Stand.OPEN:
        return None  # no retry was out
    if before.state is Stand.WATCHING or move.case.state in {Stand.GAVE_UP, Stand.NEEDS_PERSON}:
        return False
    return None


def learned(
    weather: Weather, *, helped: bool, probe: bool, now: Millis, rest_ms: Millis = REST_MS
) -> Weather:
    """Return the weather after one more result; a *probe* that helped lets one more out, else all rest."""
    weather = replace(weather, tally=(weather.tally + ("+" if helped else "-"))[-TALLY:])
    if not (weather.stormy and probe):
        return weather
    if helped:
        return replace(weather, width=weather.width + 1, rests=0, rests_until=0)
    if not weather.width:
        return weather  # it was out before the rest began, and does not make it longer
    rest = min(rest_ms << min(weather.rests, 10), LONGEST_REST_MS)
    return replace(weather, width=0, rests=weather.rests + 1, rests_until=now + rest)


def rested(weather: Weather) -> Weather:
    """Return the weather when the rest is over, or the patience with what is out: one more may try."""
    return replace(weather, width=max(weather.width, 1), rests_until=0)


def patient(weather: Weather, now: Millis) -> Weather:
    """Return the weather while some wait: rest and patience have an end, which is never put off."""
    return weather if weather.rests_until else replace(weather, rests_until=now + PATIENCE_MS)


def lingering(weather: Weather, policy: Policy, now: Millis) -> Weather:
    """Return the weather while none waits, and the next one would: it ends by itself."""
    soon = now + policy.storm_ms
    return replace(weather, rests_until=min(weather.rests_until, soon) if weather.rests_until > now else soon)


def room(weather: Weather, out: int) -> int:
    """Return how many more may be let go now, with so many *out*."""
    return max(0, weather.width - out)


def held_up(move: Move) -> Call | None:
    """Return the retry that a move makes, or sets free, and that a storm holds up; a person's goes."""
    call = move.queue or move.change
    waits = call is not None and call.kind is Kind.RETRY and call.state is State.QUEUED
    return call if waits and move.moment.by is None else None


def parked(case: Case, call: Call) -> tuple[Case, Call]:
    """
    Return a case and its retry that wait for the end of a storm.

    Its due time is kept beyond NEVER: a storm makes no retry come sooner.
    """
    why = f"a storm of failures at {case.provider}: waits until others have recovered"
    return (
        replace(case, state=Stand.OPEN, why=why, storming=Storming.PARKED),
        replace(call, due_at=NEVER + call.due_at % NEVER),
    )


def let_go(case: Case, call: Call, now: Millis) -> tuple[Case, Call]:
    """Return a case and its retry that may try whether the storm is over."""
    why = "let go to see whether retries help again"
    return replace(case, state=Stand.RETRYING, why=why, storming=Storming.OUT), replace(call, due_at=now)
