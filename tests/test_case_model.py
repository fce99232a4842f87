"""
Whatever happens in whatever order: does relay keep its promises about cases?

The model beside it is the provider, who knows what it was made to do, and the few facts that a promise speaks
of. How cases move is nowhere said again. RELAY_TEST_RUNS says how many stories are tried (150).
"""

# ruff: noqa: D401 - a rule's sentence says what happens

import contextlib
import os
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from promises import Promises
from world import LEASE, LOOKED, SENT, TURNED_AWAY, Out, Setting, World, failure, recovery

from relay.call import Step
from relay.case import DAY_MS, HOUR_MS, Act, Policy
from relay.errors import Rejected

RUNS = int(os.environ.get("RELAY_TEST_RUNS", "150"))

ANSWERS = (*SENT, *TURNED_AWAY, *LOOKED)
DEATHS = ("dies", "dies, and it was done", "dies, and it failed")
RACES = ("well first", "failed first", "well first, by its new id", "failed first, by its new id")

number = st.integers(0, 3)
passed = st.sampled_from([1, 5_000, LEASE, 10 * LEASE, HOUR_MS, DAY_MS])
beats = st.lists(
    st.sampled_from(
        (
            *["fails", "fails", "taken", "taken", "truth", "yes"] * 3,
            *["the old id fails", "a day passes", *DEATHS, *RACES] * 2,
            *ANSWERS,
        )
    ),
    max_size=8,
)
"""What comes next: a part of most rules, because each run does without some rules."""


def set_up(number: int) -> Setting:
    """Return how the operator's files are, in one of many ways, the usual ones more often."""
    one = Random(number).choice
    looks, renames = one([False, True, True]), one([False, False, True])
    held: Any = one([*[""] * 12, "ask", "approve", "reject"])
    unknown: Any = one([*["check"] * (4 if looks else 0), "resend_same_key", "resend", "person"])
    policy = Policy(
        retries=one([1, 1, 2, 3]),
        within_ms=one([HOUR_MS, DAY_MS]),
        wait_ms=one([(0,), (0, 300_000), (10_000, HOUR_MS)]),
        recover_ms=one([600_000, 6 * HOUR_MS]),
        looks=looks,
        keep="job_id" if renames else "",
        only=one(["", "", "", "", "daily 08:00-18:00 UTC"]),
        approve=held != "",
        approve_then=held or "ask",
        storm_cases=one([0, 0, 0, 1, 2]),
    )
    return Setting(
        policy=policy,
        on_unknown=unknown,
        marks=looks and one([False, True, True]),
        renames=renames,
        tries=one([2, 8, 8]),
    )


class CaseMachine(RuleBasedStateMachine):
    """Relay and the world, and what must hold between them."""

    @initialize(setting=st.integers(0, 9_999).map(set_up), then=beats)
    def begin(self, setting: Setting, then: list[str]) -> None:
        """Begin with an empty database and two jobs, the newer of which fails."""
        self.world = World(setting)
        self.promises = Promises(self.world)
        self.goes_on(["fails", *then])

    def teardown(self) -> None:
        """Let faults stop; then all must come to an end."""
        try:
            self.promises.rest()
        finally:
            self.world.close()

    @invariant()
    def promises_hold(self) -> None:
        """Hold every promise after every step."""
        self.promises.hold()

    # -- what happens --

    @rule(
        job=number,
        ago=st.sampled_from([0, 0, 0, 1, 60_000]),
        step=st.sampled_from(Step),
        flaw=st.sampled_from(["", "", "", "", "", "no job_id"]),
        then=beats,
    )
    def a_job_fails(self, job: int, ago: int, step: Step, flaw: str, then: list[str]) -> None:
        """An event says that a job has failed; or that it had a while ago, however it fares now."""
        self.world.now += 1
        if not ago:
            self.world.fares(self._job(job), "failed")
        told = failure(self.world, self._job(job), step, flaw)
        recorded = self.world.post((told,), (), self.world.now - ago)
        assert not recorded.duplicate, "I2: a new event was taken for one that had come before"
        self.goes_on(then)

    @rule(job=number, then=beats)
    def a_job_is_well(self, job: int, then: list[str]) -> None:
        """An event says that a job is well."""
        self.world.post((), (recovery(self._job(job)),), self.world.now)
        self.goes_on(then)

    @rule(which=st.integers(0, 40), other_bytes=st.booleans())
    def an_event_comes_again(self, which: int, *, other_bytes: bool) -> None:
        """A delivery is repeated."""
        first, recorded = self.world.post_again(which, other_bytes=other_bytes)
        assert (first, True) == (recorded.event, recorded.duplicate), "I2: a duplicate points to the first"
        assert () == recorded.moves, "I2: a duplicate moves nothing"

    @rule(job=number, state=st.sampled_from(["failed", "running", "recovered"]), then=beats)
    def a_job_fares_by_itself(self, job: int, state: str, then: list[str]) -> None:
        """The provider, or somebody else, does something that relay is not told."""
        self.world.fares(self._job(job), state)
        self.goes_on(then)

    @rule(what=st.sampled_from(["claim", "claim", "sweep", "restart"]))
    def relay_works(self, what: str) -> None:
        """Calls are claimed, to be answered later or never; lost ones are swept; all dies and starts anew."""
        getattr(self.world, what)()

    @precondition(lambda self: self.world.out)
    @rule(which=number)
    def a_call_arrives(self, which: int) -> None:
        """The provider does what it is asked, and has not answered yet."""
        out = self._out(which)
        if out.claim.call.step is Step.SEND:
            self.world.reach(out)

    @precondition(lambda self: self.world.out)
    @rule(which=number, how=st.sampled_from(ANSWERS), then=beats)
    def an_answer_comes(self, which: int, how: str, then: list[str]) -> None:
        """A try ends."""
        out = self._out(which)
        self.world.answer(out, _fitting(out, how))
        self.goes_on(then)

    @precondition(lambda self: self.world.out)
    @rule(which=number)
    def a_worker_dies(self, which: int) -> None:
        """Nobody settles a try."""
        self.world.lose(self._out(which))

    @rule(passed=passed, then=beats)
    def time_passes(self, passed: int, then: list[str]) -> None:
        """The clock goes on."""
        self.world.now += passed
        self.goes_on(then)

    @rule(
        which=number, act=st.sampled_from([*Act, Act.RETRY]), until=passed, by_key=st.booleans(), then=beats
    )
    def a_person_acts(self, which: int, act: Act, until: int, then: list[str], *, by_key: bool) -> None:
        """Somebody does something to a case, the newest first, also to one that has ended."""
        shown = list(self.promises.seen.shown.values())
        case = shown[which % len(shown)].case
        self._act(case.key if by_key else case.id, act, until)
        self.goes_on(then)

    # -- and then --

    def goes_on(self, then: list[str]) -> None:
        """Let beat after beat follow, and hold the promises after each."""
        for beat in then:
            match beat:
                case "fails":
                    self.a_job_fails(job=0, ago=0, step=Step.LOOK, flaw="", then=[])
                case "the old id fails":
                    self.a_job_fails(job=1, ago=0, step=Step.LOOK, flaw="", then=[])
                case "yes":
                    for case in self.promises.seen.live:
                        self._act(case.id, Act.APPROVE, 1)
                case "a day passes":
                    self.world.now += DAY_MS
                case _:
                    self._works(beat)
            self.promises.hold()

    def _works(self, how: str) -> None:
        """Let time go on to the next call, and each have its end: an answer, or relay dies over it."""
        had = len(self.world.out)
        self.world.wait()
        for out in self.world.out[had:]:
            if how in RACES:
                self._overtakes(out, how)
            elif how not in DEATHS:
                self.world.answer(out, _fitting(out, how))
            elif how != "dies" and out.claim.call.step is Step.SEND:
                self.world.reach(out)
                if how == "dies, and it failed" and out.done_as is not None:
                    self.world.fares(out.done_as, "failed")
        if how in DEATHS:
            self.world.restart()

    def _overtakes(self, out: Out, how: str) -> None:
        """Let the provider tell how a retry went before it has answered the call."""
        well, new_id = how.startswith("well"), how.endswith("new id")
        if out.claim.call.step is Step.SEND:
            self.world.reach(out)
            job = out.done_as if new_id and out.done_as else str(out.claim.call.values["job_id"])
            self.world.fares(job, "recovered" if well else "failed")
            self.world.now += 1
            failures = () if well else (failure(self.world, job, Step.SEND),)
            self.world.post(failures, (recovery(job),) if well else (), self.world.now)
        self.world.answer(out, _fitting(out, "taken"))

    def _act(self, case: str, act: Act, until: int) -> None:
        with contextlib.suppress(Rejected):
            move = self.world.act(case, act, self.world.now + until)
            assert "ada" == move.moment.by, "I8: a person's act bears the person's name"
            self.promises.person(move.case)

    def _job(self, which: int) -> str:
        """Pick a job, the newest first."""
        return list(self.world.jobs)[-1 - which % len(self.world.jobs)]

    def _out(self, which: int) -> Out:
        return self.world.out[which % len(self.world.out)]


def _fitting(out: Out, how: str) -> str:
    """Turn what can't be answered to this try into what can."""
    if out.claim.call.step is Step.LOOK:
        return how if how in LOOKED else "truth"
    if how in SENT or (how in TURNED_AWAY and out.done_as is None):
        return how
    return "taken"


TestCaseModel: Callable[[], object] = CaseMachine.TestCase
CaseMachine.TestCase.settings = settings(
    max_examples=RUNS, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
