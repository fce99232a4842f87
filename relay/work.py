"""Who makes the calls?  Claim, look or send, judge, settle; and stop politely."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog

from relay import over, report, watch
from relay.call import NEVER, Attempt, Call, Claim, Dead, Kind, State, Verdict
from relay.clock import now_ms, rfc3339
from relay.errand import asked, gone, meant, timed, together, trial_of, word
from relay.errors import StoreBusy, StoreError, Unfit
from relay.event import Millis, new_id
from relay.gate import Gate
from relay.judge import after, given_back
from relay.keep import Keeper
from relay.listing import own
from relay.log import scrub
from relay.provider import Answer, Provider, Reply, Request
from relay.reload import InForce
from relay.rule import Ruleset
from relay.store import Settled, Slot, Store, batch_size
from relay.trial import PageTrial

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

TICK_S: Final = 10.0
"""A lost wake-up costs no more than this; the sweep comes by as often."""

LEASE_MS: Final = 30_000
"""What a lease lasts beyond the longest that the call itself may take."""

HURRY_S: Final = 0.1
"""How soon a second signal is heard while calls finish."""

KEPT: Final = 16 * 1024
"""Bytes of an answer that are stored."""


class Send(Protocol):
    """What `relay.send.Sender` does: a request out, an answer or a fault back, never an exception."""

    def __call__(self, request: Request) -> Awaitable[Answer]:
        """Make the request."""
        ...


@dataclass(frozen=True, slots=True)
class Stopped:
    """How the worker ended: calls that it finished in the grace time, and calls given back."""

    finished: int
    given_back: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What a request meant for one of its calls."""

    verdict: Verdict
    answer: Answer | None = None  #: None: there was none to be had
    leaf: watch.Leaf | None = None  #: of a watch's run


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules that a claim goes by, from the claim to its end, and what they say of batches."""

    rules: Ruleset
    batches: Mapping[str, int]  #: calls that share a request at most, by provider
    batch_ms: Mapping[str, Millis]  #: how long the first waits for company, by rule


def terms(rules: Ruleset) -> Terms:
    """Return what claims go by under these rules."""
    batches: dict[str, int] = {}
    batch_ms: dict[str, Millis] = {}
    for rule in rules.rules:
        for aim in rule.aims:
            most = batch_size(aim.policy.batch)
            batches[aim.provider] = max(most, batches.get(aim.provider, 1))
            batch_ms[rule.name] = max(aim.policy.batch_ms, batch_ms.get(rule.name, 0))
    return Terms(rules, batches, batch_ms)


class Worker:
    """Claims due calls, as many of each provider at once as it allows, and makes them."""

    def __init__(
        self,
        in_force: InForce,
        keep: Keeper,
        send: Send,
        *,
        clock: Callable[[], Millis] = now_ms,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._in_force, self._keep, self._send, self._clock, self._luck = in_force, keep, send, clock, luck
        self._terms = terms(in_force.rules)
        self._woken = asyncio.Event()
        self._stopping = False
        self._busy: Counter[str] = Counter()  # requests that are out, by provider
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()  # nothing more will be claimed
        self._idle.set()
        self._leave_at = math.inf  # by the loop's clock
        self._ended = 0  # calls that ended after `leave`
        self._given_back = 0

    def wake(self) -> None:
        """Look for work now: something was committed, or a call ended."""
        self._woken.set()

    async def run(self) -> None:
        """Work until `leave`, or until the store is broken."""
        self._idle.clear()
        try:
            await self._run()
        finally:
            self._idle.set()

    async def _run(self) -> None:
        swept_at = 0
        while not self._stopping:
            self._woken.clear()
            now = self._clock()
            try:
                if now - swept_at > TICK_S * 1000:
                    await self._sweep(now)
                    swept_at = now
                if self._terms.rules is not self._in_force.rules:
                    self._terms = terms(self._in_force.rules)
                goes_by = self._terms
                claimed = await self._keep(
                    Store.claim, self._slots(goes_by), self._clock(), new_id("ls", now)
                )
            except StoreBusy as error:
                log.error("store.busy", why=str(error))
                await self._rest(1.0)
                continue
            except StoreError:
                return  # the keeper is broken: serve says so, and stops
            report.moves(claimed.moves)
            report.turns(claimed.turns)
            report.windows(claimed.windows)
            for claims in together(claimed.claims, self._clock()):
                self._start(claims, goes_by)
            if claimed.over and not await over.act(claimed.over, goes_by.rules, self._keep, self._clock):
                await self._rest(1.0)
            elif not claimed.claims:
                wait_s = TICK_S if claimed.ask_at is None else (claimed.ask_at - self._clock()) / 1000
                await self._rest(min(max(wait_s, 0.001), TICK_S))

    def leave(self, grace_s: float) -> None:
        """Claim nothing more; what is out has *grace_s* seconds from now. Said again, it can get shorter."""
        self._leave_at = min(self._leave_at, asyncio.get_running_loop().time() + grace_s)
        self._stopping = True
        self.wake()

    async def stop(self, grace_s: float) -> Stopped:
        """Leave, and once `run` has ended, let calls finish as long as they may; give the rest back."""
        self.leave(grace_s)
        await self._idle.wait()  # a claim that was on its way is in
        while self._tasks and (left := self._leave_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=min(left, HURRY_S))
        late = set(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return Stopped(finished=self._ended - self._given_back, given_back=self._given_back)

    def _slots(self, goes_by: Terms) -> dict[str, Slot]:
        return {
            name: Slot(
                limit=provider.limit,
                free=provider.limit.concurrency - self._busy[name],
                lease_ms=int(provider.timeouts.total * 1000) + LEASE_MS,
                batch=goes_by.batches.get(name, 1),
                keeps=frozenset(action.name for action in provider.actions.values() if action.keep),
            )
            for name, provider in goes_by.rules.providers.items()
        }

    async def _rest(self, seconds: float) -> None:
        """Wait to be woken, but not longer than *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _sweep(self, now: Millis) -> None:
        """Take back what dead workers held, and forget what nobody sends again."""
        swept = await self._keep(Store.sweep, now)
        await self._keep(Store.forget, now)
        if swept:
            log.warning("calls.swept", calls=swept, why="their lease ran out; what was sent is unknown")

    def _start(self, claims: Sequence[Claim], goes_by: Terms) -> None:
        provider = claims[0].call.provider
        self._busy[provider] += 1
        task = asyncio.create_task(self._work(claims, goes_by), name=claims[0].call.id)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._busy[provider] -= 1
            self._ended += len(claims) if self._stopping else 0
            self.wake()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("call.failed", call=[claim.call.id for claim in claims], exc_info=error)

        task.add_done_callback(ended)

    async def _work(self, claims: Sequence[Claim], goes_by: Terms) -> None:
        """Make one request for all these calls, and settle each by itself."""
        provider, luck = goes_by.rules.providers[claims[0].call.provider], self._luck()
        try:
            tried = await self._try(goes_by.rules, provider, claims, luck)
        except asyncio.CancelledError:
            self._given_back += len(claims)
            trials = [trial_of(provider, claim.call, self._clock(), luck) for claim in claims]
            tried = [Tried(given_back(trial)) for trial in trials if trial]
        await asyncio.gather(*map(partial(self._settle, goes_by), claims, tried))

    async def _try(
        self, rules: Ruleset, provider: Provider, claims: Sequence[Claim], luck: float
    ) -> Sequence[Tried]:
        calls = [claim.call for claim in claims]
        trial = trial_of(provider, calls[0], self._clock(), luck)
        if trial is None:
            return [Tried(gone(provider, call, self._clock(), luck)) for call in calls]
        if isinstance(trial, PageTrial):
            return [await self._turn(rules, trial, claims[0])]
        made = asked(trial, calls)
        if isinstance(made, Verdict):
            return [Tried(made)] * len(claims)
        answer, several = await self._send(made), len(calls) > 1
        trial = replace(trial, now=self._clock())
        # One luck for all: calls of one batch that have to wait stay together.
        return [Tried(meant(replace(trial, call=call), answer, several=several), answer) for call in calls]

    async def _turn(self, rules: Ruleset, trial: PageTrial, claim: Claim) -> Tried:
        """Ask for one page of a watch's list."""
        call, seen_at = claim.call, claim.attempt.began_at
        if not _asks(rules, call):
            why = "the rules have this watch no longer, or otherwise"
            return Tried(Verdict(Dead(why, spent=False), None))
        if watch.BEGAN not in call.values:
            row = await self._hold(Store.watch, call.key)
            trial = replace(trial, call=watch.begun(call, trial.listing, row, seen_at))
        answer: Answer | None = None
        try:
            answer = await self._send(watch.asked(trial))
            leaf = watch.turned(replace(trial, now=self._clock()), answer, seen_at, rules)
        except Unfit as error:
            leaf = watch.turned(trial, error, seen_at, rules)
        return Tried(leaf.verdict, answer, leaf)

    async def _settle(self, goes_by: Terms, claim: Claim, tried: Tried) -> None:
        now, leaf, answer = self._clock(), tried.leaf, tried.answer
        reply = answer if isinstance(answer, Reply) else None
        if leaf is None:
            call = after(claim.call, tried.verdict, now)
            call = timed(call, goes_by.batch_ms.get(call.rule, 0))
        else:
            call = leaf.call
        call = replace(call, why=scrub.text(call.why))
        attempt = replace(
            claim.attempt,
            ended_at=now,
            status=reply.status if reply else None,
            outcome=word(tried.verdict.outcome),
            why=call.why,
            # A watch asks every minute: what its lists say is kept in its events.
            answer=scrub.bytes(reply.body)[:KEPT] if reply and call.kind is not Kind.PAGE else b"",
        )
        signal = tried.verdict.signal
        # What the provider said must not be lost: it is held on to until there is room again.
        if leaf is None:
            settled = await self._hold(Store.settle, claim, call, attempt, signal, now)
        else:
            settled = await self._hold(Store.page, claim, call, attempt, signal, now, run=leaf.run)
        if settled is None:
            return  # the next start takes the call for unknown
        if settled.withdrawn:
            call = replace(call, state=State.CANCELLED, settled_at=now)
        _tell(call, attempt)
        if leaf is not None and settled.ours:
            row = await self._hold(Store.watch, call.key) if leaf.run.over else None
            watch.tell(leaf, settled, row)
        _tell_settled(call, settled)

    async def _hold(
        self, method: Callable[Concatenate[Store, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Run one method of Store as soon as it can be done; None: it can't, and relay has to stop."""
        while True:
            try:
                return await self._keep(method, *args, **kwargs)
            except StoreBusy as error:
                log.error("store.busy", why=str(error))
                if asyncio.get_running_loop().time() >= self._leave_at:
                    return None  # the grace is over
                await asyncio.sleep(1.0)
            except StoreError:
                return None  # the keeper is broken


def _asks(rules: Ruleset, run: Call) -> bool:
    """Say whether the rules still have the watch of this run, and as it was when the run began."""
    known = rules.watches.get(run.key)
    asked = (run.provider, run.action, own(run.values))
    return known is not None and asked == (known.provider, known.listing, dict(known.with_))


def _tell(call: Call, attempt: Attempt) -> None:
    """One line a try, with all ids."""
    assert attempt.ended_at is not None
    settled = call.settled_at is not None
    speak = log.warning if attempt.outcome in {"dead", "unknown"} else log.info
    if call.kind is Kind.PAGE and attempt.outcome != "dead":
        speak = log.debug  # its watch speaks for it
    speak(
        "call.settled" if settled else "call.tried",
        call=call.id,
        event_id=call.event,
        case=call.case,
        key=call.key,
        rule=call.rule,
        provider=call.provider,
        action=call.action,
        kind=call.kind.value,
        step=attempt.step.value,
        attempt=attempt.number,
        tries=call.tries,
        status=attempt.status,
        outcome=attempt.outcome,
        state=call.state.value,
        why=call.why,
        next_at=rfc3339(call.due_at) if not settled and call.due_at < NEVER else None,
        took_ms=attempt.ended_at - attempt.began_at,
    )


def _tell_settled(call: Call, settled: Settled) -> None:
    """Say what a settlement brought about beyond its call."""
    if not settled.ours:
        log.warning("call.late", call=call.id, why="its lease had run out; the answer changes nothing")
    if settled.before is not None and settled.gate is not None:
        _tell_gate(settled.before, settled.gate)
    report.moves(settled.moves)
    report.turns(settled.turns)


def _tell_gate(before: Gate, gate: Gate) -> None:
    """Say once what changed for a provider as a whole."""
    if gate.paused and not before.paused:
        log.error(
            "provider.paused", provider=gate.provider, why=gate.paused, asks_again_at=rfc3339(gate.shut_until)
        )
    elif before.paused and not gate.paused:
        log.info("provider.resumed", provider=gate.provider)
    if gate.trips > before.trips:
        log.warning(
            "provider.down",
            provider=gate.provider,
            failures=gate.failures,
            asks_again_at=rfc3339(gate.shut_until),
        )
    elif before.trips and not gate.trips:
        log.info("provider.up", provider=gate.provider)
    if gate.throttled_until > before.throttled_until:
        log.warning("provider.throttled", provider=gate.provider, until=rfc3339(gate.throttled_until))
