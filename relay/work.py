"""Who makes the calls?  Claim, look or send, judge, settle; and stop politely."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from relay.call import NEVER, Attempt, Call, Claim, Dead, Done, Retry, Step, Unknown, Verdict
from relay.clock import now_ms, rfc3339
from relay.errors import StoreBusy, StoreError, Unfit
from relay.event import Millis, new_id
from relay.gate import Gate
from relay.judge import Trial, after, blind, given_back, judge, judge_look
from relay.keep import Keeper
from relay.log import scrub
from relay.provider import Answer, Provider, Reply, Request, Shape
from relay.render import request
from relay.rule import Ruleset
from relay.store import Slot, Store

log = structlog.get_logger()

TICK_S: Final = 10.0
"""A lost wake-up costs no more than this; the sweep comes by as often."""

LEASE_MS: Final = 30_000
"""What a lease lasts beyond the longest that the call itself may take."""

HURRY_S: Final = 0.1
"""How soon a second signal is heard while calls finish."""

KEPT: Final = 16 * 1024
"""Bytes of an answer that are stored."""

OUTCOMES: Final = {Done: "done", Retry: "retry", Unknown: "unknown", Dead: "dead"}


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


class Worker:
    """Claims due calls, as many of each provider at once as it allows, and makes them."""

    def __init__(
        self,
        rules: Ruleset,
        keep: Keeper,
        send: Send,
        *,
        clock: Callable[[], Millis] = now_ms,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._rules, self._keep, self._send, self._clock, self._luck = rules, keep, send, clock, luck
        self._woken = asyncio.Event()
        self._stopping = False
        self._busy: Counter[str] = Counter()
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
                claimed = await self._keep(Store.claim, self._slots(), self._clock(), new_id("ls", now))
            except StoreBusy as error:
                log.error("store.busy", why=str(error))
                await self._rest(1.0)
                continue
            except StoreError:
                return  # the keeper is broken: serve says so, and stops
            for claim in claimed.claims:
                self._start(claim)
            if not claimed.claims:
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

    def _slots(self) -> dict[str, Slot]:
        return {
            name: Slot(
                limit=provider.limit,
                free=provider.limit.concurrency - self._busy[name],
                lease_ms=int(provider.timeouts.total * 1000) + LEASE_MS,
            )
            for name, provider in self._rules.providers.items()
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

    def _start(self, claim: Claim) -> None:
        provider = claim.call.provider
        self._busy[provider] += 1
        task = asyncio.create_task(self._work(claim), name=claim.call.id)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._busy[provider] -= 1
            self._ended += self._stopping
            self.wake()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("call.failed", call=claim.call.id, exc_info=error)

        task.add_done_callback(ended)

    async def _work(self, claim: Claim) -> None:
        """Make one try of a call and settle it."""
        provider = self._rules.providers[claim.call.provider]
        answer: Answer | None = None
        try:
            verdict, answer = await self._try(provider, claim.call)
        except asyncio.CancelledError:
            self._given_back += 1
            verdict = given_back(self._trial(provider, claim.call))
        await self._settle(claim, verdict, answer)

    async def _try(self, provider: Provider, call: Call) -> tuple[Verdict, Answer | None]:
        action = provider.actions.get(call.action)
        if action is None:
            return Verdict(
                Dead(f"{provider.name} has no action {call.action} any more", spent=False), None
            ), None
        shape: Shape = action.shape
        if call.step is Step.LOOK:
            if action.check is None:
                return blind(self._trial(provider, call)), None
            shape = action.check.shape
        try:
            made = request(provider, shape, action, call.values, self._clock())
        except Unfit as error:
            return Verdict(Dead(f"not sent: {error}", spent=False), None), None
        answer = await self._send(made)
        judged = judge_look if call.step is Step.LOOK else judge
        return judged(self._trial(provider, call), answer), answer

    def _trial(self, provider: Provider, call: Call) -> Trial:
        action = provider.actions[call.action]
        return Trial(provider=provider, action=action, call=call, now=self._clock(), luck=self._luck())

    async def _settle(self, claim: Claim, verdict: Verdict, answer: Answer | None) -> None:
        now = self._clock()
        reply = answer if isinstance(answer, Reply) else None
        call = after(claim.call, verdict, now)
        call = replace(call, why=scrub.text(call.why))
        attempt = replace(
            claim.attempt,
            ended_at=now,
            status=reply.status if reply else None,
            outcome=OUTCOMES[type(verdict.outcome)],
            why=call.why,
            answer=scrub.bytes(reply.body)[:KEPT] if reply else b"",
        )
        while True:
            try:
                settled = await self._keep(Store.settle, claim, call, attempt, verdict.signal, now)
                break
            except StoreBusy as error:
                # What the provider said must not be lost: hold on to it until there is room again.
                log.error("store.busy", why=str(error), call=call.id)
                if asyncio.get_running_loop().time() >= self._leave_at:
                    return  # the grace is over: the next start takes the call for unknown
                await asyncio.sleep(1.0)
            except StoreError:
                return
        _tell(call, attempt)
        if not settled.ours:
            log.warning("call.late", call=call.id, why="its lease had run out; the answer changes nothing")
        if settled.before is not None and settled.gate is not None:
            _tell_gate(settled.before, settled.gate)


def _tell(call: Call, attempt: Attempt) -> None:
    """One line a try, with all ids."""
    assert attempt.ended_at is not None
    settled = call.settled_at is not None
    speak = log.warning if attempt.outcome in {"dead", "unknown"} else log.info
    speak(
        "call.settled" if settled else "call.tried",
        call=call.id,
        event_id=call.event,
        case=call.case,
        rule=call.rule,
        provider=call.provider,
        action=call.action,
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
