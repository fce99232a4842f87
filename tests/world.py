"""What do cases live in?  A provider that remembers what it did, and a relay that is driven step by step."""

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Literal
from unittest import mock

from build import NOW, action, check, event, provider, reply
from conftest import Door

from relay.call import NEVER, Call, Claim, Step, Verdict
from relay.case import DAY_MS, Act, Failure, Move, Policy, Recovery
from relay.deed import Deed, Plan
from relay.engine import SQLite
from relay.errand import asked, meant, timed, word
from relay.event import Decision, Event, Millis
from relay.judge import after, given_back
from relay.provider import Answer, Fault, Limit
from relay.store import Recorded, Slot, Store
from relay.trial import Trial

LEASE: Millis = 60_000
KEY_MS: Millis = DAY_MS  #: how long the provider knows an Idempotency-Key

SENT = ("taken", "taken, no id", "500", "timeout", "stopped")
"""Answers to a call that the provider may have done."""

TURNED_AWAY = ("400", "429", "503", "401", "unreachable")
"""Answers to a call that it has certainly not done."""

LOOKED = ("truth", "odd", "unreadable", "refused", "404", "429", "500", "401", "timeout", "stopped")
"""Answers to a look."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the operator's files are in one run."""

    policy: Policy = field(default_factory=Policy)
    on_unknown: Literal["check", "resend_same_key", "resend", "person"] = "resend"
    marks: bool = False  #: a look shows how often the job ran
    renames: bool = False  #: a retry goes on under a new id
    tries: int = 8

    @property
    def looks(self) -> bool:
        """Say whether jobs can be looked at."""
        return self.policy.looks


@dataclass(kw_only=True)
class Job:
    """One job at the provider."""

    state: str = "failed"
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Work:
    """That the provider did a job once more: for which try of which call."""

    at: Millis
    job: str
    call: str
    number: int
    asked: bool  #: a person wanted it
    marked: bool  #: a look had seen how often the job ran, and the call had not been sent before
    kin: frozenset[str]  #: the ids that relay had been told for this resource when it began the try


@dataclass(kw_only=True)
class Out:
    """A try that a worker has: what it knew when it began, and the id under which the provider did it."""

    claim: Claim
    kin: frozenset[str]
    done_as: str | None = None


@cache
def _empty() -> Path:
    """Make an empty database, once for all worlds."""
    path = Path(tempfile.mkdtemp()) / "relay.db"
    SQLite(path).close()
    return path


class World:
    """A store on a file, the provider behind it, and a clock that somebody else winds."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.now = setting, NOW
        look = replace(check(), mark="runs" if setting.marks else "") if setting.looks else None
        keep = {"job_id": "id"} if setting.renames else {}
        self.action = action(check=look, keep=keep, on_unknown=setting.on_unknown)
        self.provider = provider(self.action, tries=setting.tries)
        self.jobs: dict[str, Job] = {}
        self.kin: dict[str, frozenset[str]] = {}  #: what answers told relay: which ids are one resource
        self.keys: dict[str, tuple[Millis, str]] = {}  #: Idempotency-Key → since when, and the answer
        self.works: list[Work] = []
        self.seen: list[tuple[str, int]] = []  #: the looks, by call and try, that were told: failed
        self.asked: Counter[str] = Counter()  #: how many sends of a call people wanted
        self.released: list[tuple[str, int]] = []  #: calls that people let go, and after how many tries
        self.out: list[Out] = []
        self.told: list[tuple[Event, tuple[Failure, ...], tuple[Recovery, ...]]] = []
        self.folder = tempfile.TemporaryDirectory()
        # Ids of one millisecond are told apart by luck: here by their order, so that a story can come again.
        ids = count(1)
        self.luck = mock.patch("relay.event.secrets", mock.Mock(token_hex=lambda _: f"{next(ids):012x}"))
        self.luck.start()
        self.turn = 0  #: grows with all that happens
        self.leases = 0
        shutil.copy(_empty(), Path(self.folder.name) / "relay.db")
        self._open()
        for _ in range(2):
            self.new_job("failed")

    def _open(self) -> None:
        self.engine = SQLite(Path(self.folder.name) / "relay.db")
        # Power cuts have tests of their own; here thousands of small databases want to be quick.
        for pragma in ("synchronous=OFF", "locking_mode=EXCLUSIVE"):
            self.engine._connection.execute(f"PRAGMA {pragma}")
        self.store, self.reading = Door(self.engine), Store(self.engine.link())

    def close(self) -> None:
        """End what was started."""
        self.luck.stop()
        self.engine.close()
        self.folder.cleanup()

    # -- the provider --

    def new_job(self, state: str) -> str:
        """Make a job and return its id."""
        name = f"j{len(self.jobs) + 1}"
        self.jobs[name] = Job(state=state)
        self.kin[name] = frozenset({name})
        return name

    def fares(self, name: str, state: str) -> None:
        """Let a job fare by itself, or by somebody else's hands."""
        job = self.jobs[name]
        job.runs += job.state not in {"running", state}
        job.state = state

    def reach(self, out: Out) -> None:
        """Let a send reach the provider: it does the work, unless it knows the key, or it is too late."""
        call = out.claim.call
        if out.done_as is not None or self.now >= out.claim.attempt.began_at + LEASE:
            return
        since, known = self.keys.get(call.id, (0, ""))
        if self.setting.on_unknown == "resend_same_key" and self.now < since + KEY_MS:
            out.done_as = known
            return
        name = str(call.values["job_id"])
        if self.setting.renames:
            out.done_as = self.new_job("running")
        else:
            self.jobs[name] = Job(state="running", runs=self.jobs[name].runs + 1)
            out.done_as = name
        self.keys[call.id] = (self.now, out.done_as)
        wanted = self.asked[call.id] > 0
        self.asked[call.id] -= wanted
        self.works.append(
            Work(
                at=self.now, job=name, call=call.id, number=out.claim.attempt.number, asked=wanted,
                marked=call.mark != "" and not call.tries, kin=out.kin,
            )
        )  # fmt: skip

    def _says(self, out: Out, how: str) -> Answer:
        """Answer a try; a send that is said to be taken is taken."""
        job = str(out.claim.call.values["job_id"])
        match how:
            case "taken" | "taken, no id":
                self.reach(out)
                if out.done_as is None:
                    return Fault(why="timed out", sent=True)
                told = {"id": out.done_as} if self.setting.renames and how == "taken" else {}
                return reply(200, told)
            case "truth":
                if self.jobs[job].state == "failed":
                    self.seen.append((out.claim.call.id, out.claim.attempt.number))
                return reply(200, {"status": self.jobs[job].state, "runs": self.jobs[job].runs})
            case "odd" | "refused":
                return reply(200, {"status": how})
            case "unreadable":
                return reply(200, b"<html>")
            case "timeout":
                return Fault(why="timed out", sent=True)
            case "unreachable":
                return Fault(why="connection refused", sent=False)
            case "429":
                return reply(429, retry_after="7")
            case _:
                return reply(int(how))

    # -- relay --

    def post(
        self, failures: tuple[Failure, ...], recoveries: tuple[Recovery, ...], seen_at: Millis
    ) -> Recorded:
        """Let an event come in."""
        number = len(self.told) + 1
        told = event(
            {"n": number}, id=f"ev_{number:05}", delivery=f"d{number}", digest=f"{number:064x}",
            received_at=self.now,
        )  # fmt: skip
        self.told.append((told, failures, recoveries))
        return self._record(told, failures, recoveries, seen_at)

    def post_again(self, number: int, *, other_bytes: bool) -> tuple[str, Recorded]:
        """Let an event come in once more, perhaps signed anew; return the first one's id, too."""
        first, failures, recoveries = self.told[number % len(self.told)]
        digest = f"{'f' * 8}{self.turn:056x}" if other_bytes else first.digest
        again = replace(first, id=f"ev_again_{self.turn}", received_at=self.now, digest=digest)
        return first.id, self._record(again, failures, recoveries, self.now)

    def _record(
        self, told: Event, failures: tuple[Failure, ...], recoveries: tuple[Recovery, ...], seen_at: Millis
    ) -> Recorded:
        self.turn += 1
        return self.store(
            Store.record, told, Plan(Decision.MATCHED, Deed(failures=failures, recoveries=recoveries)),
            version="v1", dedupe_ms=1_000 * DAY_MS, seen_at=seen_at,
        )  # fmt: skip

    def claim(self) -> Millis | None:
        """Let a worker take what is due; return when it is to ask again."""
        self.turn, self.leases = self.turn + 1, self.leases + 1
        slots = {"flatfile": Slot(limit=Limit(), free=8 - len(self.out), lease_ms=LEASE)}
        claimed = self.store(Store.claim, slots, self.now, f"l{self.leases}")
        ask_at = claimed.ask_at
        for claim in claimed.claims:
            made = asked(self._trial(claim.call), (claim.call,))
            if isinstance(made, Verdict):
                self._settled(claim, made)
                ask_at = self.now
            else:
                self.out.append(Out(claim=claim, kin=self.kin[str(claim.call.values["job_id"])]))
        return ask_at if ask_at is not None and ask_at < NEVER else None

    def wait(self) -> None:
        """Let a worker take what is due; if that is nothing, wind the clock to when it wants to ask again."""
        had = len(self.out)
        ask_at = self.claim()
        if len(self.out) == had and ask_at is not None and ask_at > self.now:
            self.now = ask_at
            self.claim()

    def answer(self, out: Out, how: str) -> None:
        """Let a try end with an answer, which the worker settles."""
        self.turn += 1
        self.out.remove(out)
        call = out.claim.call
        trial = self._trial(call)
        stopped = how == "stopped"
        verdict = given_back(trial) if stopped else meant(trial, self._says(out, how), several=False)
        if self._settled(out.claim, verdict) and how == "taken" and out.done_as is not None:
            # Relay was told that the resource goes on under this id.
            both = self.kin[str(call.values["job_id"])] | self.kin[out.done_as]
            self.kin |= dict.fromkeys(both, both)

    def _trial(self, call: Call) -> Trial:
        return Trial(provider=self.provider, action=self.action, call=call, now=self.now, luck=0.5)

    def _settled(self, claim: Claim, verdict: Verdict) -> bool:
        call = timed(after(claim.call, verdict, self.now), 0)
        attempt = replace(claim.attempt, ended_at=self.now, outcome=word(verdict.outcome), why=call.why)
        return self.store(Store.settle, claim, call, attempt, verdict.signal, self.now).ours

    def lose(self, out: Out) -> None:
        """Let a worker die with what it had."""
        self.out.remove(out)

    def sweep(self) -> None:
        """Take back what dead workers held; who lives has its answer or its timeout before its lease ends."""
        self.turn += 1
        self.store(Store.sweep, self.now)

    def restart(self) -> None:
        """Kill relay, and start it anew as `app` does."""
        self.turn += 1
        self.out.clear()
        self.engine.close()
        self._open()
        self.store(Store.sweep, self.now, everything=True)
        self.store(Store.resume)

    def act(self, name: str, act: Act, until: Millis) -> Move:
        """Let a person act on a case. Raises Rejected."""
        self.turn += 1
        move = self.store(Store.act, name, act, by="ada", why="", now=self.now, until=until)
        call = move.queue or move.change
        if call is not None and act is Act.RETRY:
            self.asked[call.id] += 1
        if call is not None and act in {Act.RETRY, Act.APPROVE}:
            self.released.append((call.id, call.attempts))
        return move


def key(job: str) -> str:
    """Name a job's case."""
    return f"flatfile:job_id={job}"


def failure(world: World, job: str, step: Step, flaw: str = "") -> Failure:
    """Return what the rule makes of a failed job."""
    return Failure(
        rule="retry jobs", provider="flatfile", action="retry", key=key(job), values={"job_id": job},
        policy=world.setting.policy, step=step if world.setting.looks else Step.SEND, flaw=flaw,
    )  # fmt: skip


def recovery(job: str) -> Recovery:
    """Return what the rule makes of a job that is well."""
    return Recovery(rule="retry jobs", provider="flatfile", key=key(job))
