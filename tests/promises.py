"""What has relay promised about cases?  Each promise, held against what the provider and the clock know."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from world import World

from relay.call import NEVER, Call, Kind, State, Step
from relay.case import Case, Stand, Storming
from relay.event import Millis
from relay.store import Shown

REST = 1_000
"""Steps in which all must have come to an end, when faults have stopped."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What relay says of itself at one moment."""

    shown: Mapping[str, Shown]
    calls: tuple[Call, ...]
    stormy: bool  #: a storm goes on, and has a time at which it lets somebody go

    @property
    def live(self) -> list[Case]:
        """Name the cases that are not ended."""
        return [shown.case for shown in self.shown.values() if not shown.case.ended]

    def retries(self, case: Case) -> list[Call]:
        """Name the retries of a case that are not settled."""
        return [
            call for call in self.calls
            if call.case == case.id and call.kind is Kind.RETRY and call.settled_at is None
        ]  # fmt: skip


def picture(world: World) -> Picture:
    """Take a picture of what relay knows."""
    shown = {one.case.id: one for one in world.reading.cases(limit=10_000)}
    weather = world.reading.weather().get("flatfile")
    stormy = weather is not None and weather.stormy and weather.rests_until > 0
    return Picture(shown=shown, calls=tuple(world.reading.calls(limit=10_000)), stormy=stormy)


class Promises:
    """The promises of one run, with what has to be remembered from step to step."""

    def __init__(self, world: World) -> None:
        self.world, self.turn = world, world.turn
        self.before = self.seen = picture(world)
        self.acted: set[str] = set()  #: cases on which a person has acted since the picture before
        self.wanted: dict[str, Millis] = {}  #: when people last acted for a resource, by its names
        self.ruled = 0  #: works that were looked at

    def hold(self) -> None:
        """Take one picture, and hold every promise against it."""
        if self.turn == self.world.turn:
            return
        self.turn, self.before, self.seen = self.world.turn, self.seen, picture(self.world)
        self.one_retry_in_flight()
        self.one_live_case()
        self.no_silent_double()
        self.no_double_where_a_look_can_tell()
        self.within_the_budget()
        self.given_up_once()
        self.somebody_moves_it()
        self.no_way_back()
        self.ruled = len(self.world.works)
        self.acted.clear()

    def person(self, case: Case) -> None:
        """Remember that a person acted on a case."""
        self.acted.add(case.id)
        self.wanted |= dict.fromkeys((case.key, *case.aliases), self.world.now)

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
                self._allowed(work.call, mine[-2].number, work.number)

    def _allowed(self, call: str, first: int, second: int) -> None:
        outcomes = {one.number: one.outcome for one in self.world.reading.attempts(call)}
        assert outcomes[first] == "unknown", f"I5: {call} was done twice, and the first is {outcomes[first]}"
        looked = any(one == call and first < at < second for one, at in self.world.seen)
        person = any(one == call and first <= at < second for one, at in self.world.released)
        assert looked or person or self.world.setting.on_unknown == "resend", (
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
            since = work.at - policy.within_ms
            times = 1 + sum(
                other.job in work.kin and other.at > since and not other.asked for other in works[:number]
            )
            assert times <= policy.retries or work.asked, (
                f"I6: {sorted(work.kin)} was done {times} times, its budget is {policy.retries}"
            )

    def given_up_once(self) -> None:
        """I6: a resource that was given up is left alone for the time of its budget, but for people."""
        fresh = [shown.case for name, shown in self.seen.shown.items() if name not in self.before.shown]
        for shown in self.seen.shown.values():
            end = shown.case
            # What could not be sent at all may be sent now.
            if end.state is not Stand.GAVE_UP or end.ended_at is None or end.flaw:
                continue
            names = {name for name in (end.key, *end.aliases) if self.wanted.get(name, 0) < end.ended_at}
            until = end.ended_at + end.policy.within_ms
            again = [case.id for case in fresh if case.key in names and end.ended_at < case.opened_at < until]
            assert not again, f"I6: {end.id} was given up, and {again} was opened within its window"

    def somebody_moves_it(self) -> None:
        """I7: what is not ended has a call, a deadline, a storm that lets it go, or a person."""
        for case in self.seen.live:
            person = case.state is Stand.NEEDS_PERSON
            parked = case.storming is Storming.PARKED and self.seen.stormy
            moved = person or parked or case.deadline_at is not None or _waits(self.seen.shown[case.id].call)
            assert moved, f"I7: nobody moves {case.id} on: {case.state}, {case.why}"

    def no_way_back(self) -> None:
        """I8: an end of a case or a call is final, but for a person's recorded act."""
        for name, was in self.before.shown.items():
            case = self.seen.shown[name].case
            if was.case.ended and _end(was.case) != _end(case):
                moments = self.world.reading.timeline(name)
                by = [one.by for one in moments if one.number > was.case.moments and one.by]
                assert by, f"I8: {name} was {was.case.state}, is {case.state}, and no person did it"
                assert name in self.acted, f"I8: a person is said to have acted on {name}, and has not"
        calls = {call.id: call for call in self.seen.calls}
        for call in self.before.calls:
            unchanged = call.settled_at is None or call == calls[call.id]
            assert unchanged, f"I8: {call.id} had ended as {call.state}, and was changed"

    def rest(self) -> None:
        """I2, I7: when faults stop, each event is on record once, each case at an end or with a person."""
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
            self.hold()
        else:
            raise AssertionError(f"I7: not at rest after {REST} steps without a fault")
        for case in picture(world).live:
            assert case.state is Stand.NEEDS_PERSON, f"I7: {case.id} is left {case.state}: {case.why}"


def _waits(call: Call | None) -> bool:
    """Say whether a call waits for a time that comes, or runs."""
    if call is None or call.due_at >= NEVER:
        return False
    return call.state in {State.QUEUED, State.UNKNOWN, State.RUNNING}


def _end(case: Case) -> tuple[Stand, Millis | None]:
    return case.state, case.ended_at
