"""
Whatever happens in whatever order: does relay keep its promises about cases?

The model beside it is the provider, who knows what it was made to do, and the few facts that a promise speaks
of. How cases move is nowhere said again. RELAY_TEST_RUNS says how many stories are tried (150).
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import (
    LEASE,
    LOOKED,
    SENT,
    TURNED_AWAY,
    Out,
    Picture,
    Setting,
    World,
    failure,
    picture,
    recovery,
)  # fmt: skip

from relay.call import NEVER, Call, State, Step
from relay.case import DAY_MS, HOUR_MS, Act, Case, Policy, Stand, Storming
from relay.errors import Rejected

RUNS = int(os.environ.get("RELAY_TEST_RUNS", "150"))
REST = 1_000  #: steps in which all must have come to an end, when faults have stopped

number = st.integers(0, 3)
ANSWERS = (*SENT, *TURNED_AWAY, *LOOKED)
DEATHS = ("dies", "dies, and it was done", "dies, and it failed")
answers = st.sampled_from(ANSWERS)
HELD = ["ask", "approve", "reject"]
beat = st.sampled_from((*["taken", "truth", "fails", "fails", "yes"] * 4, *DEATHS, *ANSWERS))
then = st.lists(beat, max_size=6)  #: what comes next is a part of many rules: each run leaves some rules out
passed = st.sampled_from([1, 5_000, LEASE, 10 * LEASE, HOUR_MS, DAY_MS])


def set_up(number: int) -> Setting:
    """Return how the operator's files are in one of many ways, the usual ones more often."""
    one = Random(number).choice
    looks, renames, held = one([False, True, True]), one([False, False, True]), one([""] * 9 + HELD)
    policy = Policy(
        retries=one([1, 1, 2, 3]), within_ms=one([HOUR_MS, DAY_MS]),
        wait_ms=one([(0,), (0, 300_000), (10_000, HOUR_MS)]), recover_ms=one([600_000, 6 * HOUR_MS]),
        only=one(["", "", "", "", "daily 08:00-18:00 UTC"]), storm_cases=one([0, 0, 0, 1, 2]),
        looks=looks, keep="job_id" if renames else "",
        approve=held != "", approve_then=held or "ask",
    )  # fmt: skip
    return Setting(
        policy=policy, renames=renames, marks=looks and one([False, True, True]), tries=one([2, 8, 8]),
        on_unknown=one((["check"] * 4 if looks else []) + ["resend_same_key", "resend", "person"]),
    )  # fmt: skip


class CaseMachine(RuleBasedStateMachine):
    """Relay and the world, and what must hold between them."""

    @initialize(setting=st.integers(0, 9_999).map(set_up))
    def begin(self, setting: Setting) -> None:
        """Begin with an empty database and three jobs."""
        self.world = World(setting)
        self.seen: Picture = picture(self.world)
        self.before = self.seen
        self.turn = self.world.turn
        self.acted: set[str] = set()  #: cases on which a person has acted since the picture before
        self.wanted: dict[str, int] = {}  #: when people last acted for a resource, by its names
        self.ruled = 0  #: works that were looked at

    def teardown(self) -> None:
        """Let faults stop; then all must come to an end."""
        if not hasattr(self, "world"):
            return
        try:
            self.comes_to_rest()
        finally:
            self.world.close()

    # -- what happens --

    @rule(
        job=number,
        ago=st.sampled_from([0, 0, 0, 1, 60_000]),
        step=st.sampled_from(Step),
        flaw=st.integers(0, 9),
    )
    def a_job_fails(self, job: int, ago: int, step: Step, flaw: int) -> None:
        """An event says that a job has failed; or that it had a while ago, however it fares now."""
        self.world.now += 1
        if not ago:
            self.world.fares(self._job(job), "failed")
        told = failure(self.world, self._job(job), step, "no job_id" if flaw == 9 else "")
        recorded = self.world.post((told,), (), self.world.now - ago)
        assert not recorded.duplicate, "I2: a new event was taken for one that had come before"
        self.a_worker_works(then)

    @rule(job=number, then=then)
    def a_job_is_well(self, job: int, then: list[str]) -> None:
        """An event says that a job is well."""
        self.world.post((), (recovery(self._job(job)),), self.world.now)
        self.a_worker_works(then)

    @precondition(lambda self: self.world.told)
    @rule(which=st.integers(0, 40), other_bytes=st.booleans())
    def an_event_comes_again(self, which: int, *, other_bytes: bool) -> None:
        """A delivery is repeated."""
        first, recorded = self.world.post_again(which, other_bytes=other_bytes)
        assert (first, True) == (recorded.event, recorded.duplicate), "I2: a duplicate points to the first"
        assert () == recorded.moves, "I2: a duplicate moves nothing"

    @rule(job=number, state=st.sampled_from(["failed", "failed", "running", "recovered"]))
    def a_job_fares_by_itself(self, job: int, state: str) -> None:
        """The provider, or somebody else, does something that relay is not told."""
        self.world.fares(self._job(job), state)

    @rule(what=st.sampled_from(["take", "take", "sweep", "kill"]))
    def relay_goes_on(self, what: str) -> None:
        """Calls are claimed, to be answered later or never; lost ones are swept; all dies and starts anew."""
        {"take": self.world.claim, "sweep": self.world.sweep, "kill": self.world.restart}[what]()

    @rule(then=st.lists(beat, min_size=4, max_size=10))
    def a_worker_works(self, then: list[str]) -> None:
        """Time goes on to what is next, and each try has its end at once: an answer, or relay dies over it."""
        for beat in then:
            had = len(self.world.out)
            if beat == "fails":
                self.a_job_fails(job=0, ago=0, step=Step.LOOK, flaw=0, then=[])
            elif beat == "yes":
                for case in self.seen.live:
                    with contextlib.suppress(Rejected):
                        self.world.act(case.id, Act.APPROVE, self.world.now)
            else:
                self.world.wait()
            for out in self.world.out[had:]:
                if beat not in DEATHS:
                    self.world.answer(out, self._fitting(out, beat))
                elif beat != "dies" and out.claim.call.step is Step.SEND:
                    self.world.reach(out)
                    if beat == "dies, and it failed" and out.done_as is not None:
                        self.world.fares(out.done_as, "failed")
            if beat in DEATHS:
                self.world.restart()
            self.promises_hold()

    @rule(how=st.sampled_from(SENT), well=st.booleans(), other_id=st.booleans(), then=then)
    def a_webhook_overtakes_the_answer(
        self, how: str, then: list[str], *, well: bool, other_id: bool
    ) -> None:
        """The provider tells how a retry went before it has answered the call."""
        had = len(self.world.out)
        self.world.wait()
        for out in self.world.out[had:]:
            if out.claim.call.step is Step.SEND:
                self.world.reach(out)
                job = out.done_as if other_id and out.done_as else str(out.claim.call.values["job_id"])
                self.world.fares(job, "recovered" if well else "failed")
                self.world.now += 1
                told = () if well else (failure(self.world, job, Step.SEND),)
                self.world.post(told, (recovery(job),) if well else (), self.world.now)
            self.world.answer(out, self._fitting(out, how))
        self.a_worker_works(then)

    @precondition(lambda self: self.world.out)
    @rule(which=number)
    def a_call_arrives(self, which: int) -> None:
        """The provider does what it is asked, and has not answered yet."""
        out = self._out(which)
        if out.claim.call.step is Step.SEND:
            self.world.reach(out)

    @precondition(lambda self: self.world.out)
    @rule(which=number, how=answers)
    def an_answer_comes(self, which: int, how: str) -> None:
        """A try ends."""
        out = self._out(which)
        self.world.answer(out, self._fitting(out, how))

    @precondition(lambda self: self.world.out)
    @rule(which=number)
    def a_worker_dies(self, which: int) -> None:
        """Nobody settles a try."""
        self.world.lose(self._out(which))

    @rule(passed=passed, then=then)
    def time_passes(self, passed: int, then: list[str]) -> None:
        """The clock goes on."""
        self.world.now += passed
        self.a_worker_works(then)

    @precondition(lambda self: self.seen.shown)
    @rule(which=number, act=st.sampled_from([*Act, Act.RETRY]), until=passed, by_key=st.booleans(), then=then)
    def a_person_acts(self, which: int, act: Act, until: int, then: list[str], *, by_key: bool) -> None:
        """Somebody does something to a case, also to one that has ended."""
        shown = list(self.seen.shown.values())
        case = shown[which % len(shown)].case
        with contextlib.suppress(Rejected):
            move = self.world.act(case.key if by_key else case.id, act, self.world.now + until)
            assert "ada" == move.moment.by, "I8: a person's act bears the person's name"
            self.acted.add(move.case.id)
            self.wanted |= dict.fromkeys((move.case.key, *move.case.aliases), self.world.now)
        self.a_worker_works(then)

    def _job(self, which: int) -> str:
        """Pick a job, the newest first."""
        return list(self.world.jobs)[-1 - which % len(self.world.jobs)]

    def _out(self, which: int) -> Out:
        return self.world.out[which % len(self.world.out)]

    def _fitting(self, out: Out, how: str) -> str:
        """Turn what can't be answered to this try into what can."""
        if out.claim.call.step is Step.LOOK:
            return how if how in LOOKED else "truth"
        if how in SENT or (how in TURNED_AWAY and out.done_as is None):
            return how
        return "taken"

    # -- what must hold --

    @invariant()
    def promises_hold(self) -> None:
        """Take one picture after each step, and hold every promise against it."""
        if self.turn == self.world.turn:
            return
        self.turn, self.before, self.seen = self.world.turn, self.seen, picture(self.world)
        for promise in (
            self.one_retry_in_flight,
            self.one_live_case,
            self.no_silent_double,
            self.no_double_where_a_look_can_tell,
            self.within_the_budget,
            self.given_up_once,
            self.somebody_moves_it,
            self.no_way_back,
        ):
            promise()  # fmt: skip
        self.ruled = len(self.world.works)
        self.acted.clear()

    def one_retry_in_flight(self) -> None:
        """I3: a case has at most one retry in flight, an ended one none that nobody holds."""
        for shown in self.seen.shown.values():
            case, retries = shown.case, self.seen.retries(shown.case)
            if case.ended:
                waits = [call.id for call in retries if call.state is not State.RUNNING]
                assert not waits, f"I3: {case.id} is {case.state}, and its retry still waits: {waits}"
            ids = [call.id for call in retries]
            assert len(ids) <= 1, f"I3: {case.id} has several retries in flight: {ids}"

    def one_live_case(self) -> None:
        """I3: a resource has one live case, whatever its id, and each of its ids leads there."""
        live = self.seen.live
        for name, times in Counter(name for case in live for name in {case.key, *case.aliases}).items():
            assert times == 1, f"I3: {times} live cases bear the name {name}"
        for case in live:
            found = [shown.case.id for shown in self.world.reading.case(case.key)]
            assert [case.id] == found, f"I3: {case.key} leads to {found}, and {case.id} is live"

    def no_silent_double(self) -> None:
        """I5: where one call was done twice, an unknown outcome and what allowed the second are on record."""
        works = self.world.works
        for number in range(self.ruled, len(works)):
            work = works[number]
            mine = [other for other in works[: number + 1] if other.call == work.call]
            if len(mine) > 1:
                self._allowed(mine[-2].number, work.number, work.call)

    def _allowed(self, first: int, second: int, call: str) -> None:
        outcomes = {one.number: one.outcome for one in self.world.reading.attempts(call)}
        assert outcomes[first] == "unknown", f"I5: {call} was done twice, and the first is {outcomes[first]}"
        seen = any(one == call and first < at < second for one, at in self.world.seen)
        person = any(one == call and first <= at < second for one, at in self.world.released)
        assert seen or person or self.world.setting.on_unknown == "resend", (
            f"I5: {call} was done twice, without a look that said failed, a person, or a rule that allows it"
        )

    def no_double_where_a_look_can_tell(self) -> None:
        """I5: where a look before the call and one after it can tell, nothing is done twice."""
        setting, works = self.world.setting, self.world.works
        if setting.on_unknown != "check" or setting.renames:
            return
        people = {call for call, _ in self.world.released}
        for work in works[self.ruled :]:
            mine = [other for other in works if other.call == work.call]
            assert len(mine) == 1 or not mine[0].marked or work.call in people, (
                f"I5: {work.call} was done {len(mine)} times, and looks could tell"
            )

    def within_the_budget(self) -> None:
        """I6: a resource is done no more often than its budget in any window, but for what people wanted."""
        works, policy = self.world.works, self.world.setting.policy
        for number in range(self.ruled, len(works)):
            work = works[number]
            if work.asked:
                continue
            since = work.at - policy.within_ms
            times = 1 + sum(
                other.job in work.kin and other.at > since and not other.asked for other in works[:number]
            )
            assert times <= policy.retries, (
                f"I6: {sorted(work.kin)} was done {times} times, its budget is {policy.retries}"
            )

    def given_up_once(self) -> None:
        """I6: a resource that was given up is left alone for the time of its budget, but for people."""
        cases = [shown.case for shown in self.seen.shown.values()]
        for end in cases:
            if end.state is not Stand.GAVE_UP or end.ended_at is None or end.flaw:
                continue
            until = end.ended_at + end.policy.within_ms
            names = {name for name in (end.key, *end.aliases) if self.wanted.get(name, 0) < end.ended_at}
            again = [
                case.id for case in cases
                if case.key in names and end.ended_at < case.opened_at < until
                and case.id not in self.before.shown and not (end.flaw and not case.flaw)
            ]  # fmt: skip
            assert not again, f"I6: {end.id} was given up, and {again} was opened within its window"

    def somebody_moves_it(self) -> None:
        """I7: what is not ended has a call, a deadline, a storm that lets it go, or a person."""
        seen = self.seen
        for case in seen.live:
            moved = case.state is Stand.NEEDS_PERSON or case.deadline_at is not None
            parked = case.storming is Storming.PARKED and seen.stormy
            assert moved or parked or _waits(seen.shown[case.id].call), (
                f"I7: nobody moves {case.id} on: {case.state}, {case.why}"
            )

    def no_way_back(self) -> None:
        """I8: an end of a case or a call is final, but for a person's recorded act."""
        seen, before = self.seen, self.before
        for name, was in before.shown.items():
            case = seen.shown[name].case
            if was.case.ended and _end(was.case) != _end(case):
                by = [
                    moment.by for moment in self.world.reading.timeline(name)
                    if moment.number > was.case.moments and moment.by
                ]  # fmt: skip
                assert by, f"I8: {name} was {was.case.state}, is {case.state}, and no person did it"
                assert name in self.acted, f"I8: a person is said to have acted on {name}, and has not"
        calls = {call.id: call for call in seen.calls}
        for call in before.calls:
            if call.settled_at is not None:
                assert call == calls[call.id], f"I8: {call.id} had ended as {call.state}, and was changed"

    def comes_to_rest(self) -> None:
        """I2, I7: when faults stop, each event is on record once, and each case at an end or with a person."""
        world = self.world
        events = [row["id"] for row in world.reading.events(limit=10_000)]
        assert events[::-1] == [told.id for told, *_ in world.told], "I2: each event is kept, and once"
        world.restart()
        for _ in range(REST):
            ask_at = world.claim()
            if not world.out and ask_at is None:
                break
            if not world.out and ask_at is not None:
                world.now = max(world.now + 1, ask_at)
            for out in list(world.out):
                world.answer(out, "truth" if out.claim.call.step is Step.LOOK else "taken")
            for name in world.jobs:
                world.fares(name, "recovered")
        else:
            raise AssertionError(f"I7: not at rest after {REST} steps without a fault")
        for case in picture(world).live:
            assert case.state is Stand.NEEDS_PERSON, f"I7: {case.id} is left {case.state}: {case.why}"


def _waits(call: Call | None) -> bool:
    """Say whether a call waits for a time that comes, or runs."""
    return (
        call is not None
        and call.state in {State.QUEUED, State.UNKNOWN, State.RUNNING}
        and call.due_at < NEVER
    )


def _end(case: Case) -> tuple[Stand, int | None]:
    return case.state, case.ended_at


TestCaseModel: Callable[[], object] = CaseMachine.TestCase
CaseMachine.TestCase.settings = settings(
    max_examples=RUNS, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
