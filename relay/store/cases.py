"""What does the store know about cases?  It takes one, asks `follow` what becomes of it, and keeps that."""

from dataclasses import dataclass, replace
from typing import Final

from relay import follow, people, storm
from relay.call import NEVER, Call, Kind, State, Step
from relay.case import Act, Case, Failure, Moment, Move, Recovery, Stand, Storming
from relay.errors import Rejected
from relay.event import Millis
from relay.store.known import Known
from relay.store.rows import call_of, call_row, case_row
from relay.storm import Turn, Weather

MANY: Final = 100
"""Cases whose deadline is acted on at once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was decided and kept."""

    moves: tuple[Move, ...] = ()
    turns: tuple[Turn, ...] = ()

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(self.moves + other.moves, self.turns + other.turns)


class Cases(Known):
    """Cases, their names, their timelines, and the weather."""

    # -- what happens to them --

    def fail(self, failure: Failure, event: str, seen_at: Millis, now: Millis) -> Kept:
        """Open a case for a failure, or let it join the one that is there."""
        case = self._named(failure.provider, failure.key)
        call = self.call_of_case(case) if case else None
        return self.keep(follow.failed(case, failure, event, seen_at, now, call), now)

    def recover(self, recovery: Recovery, event: str, now: Millis) -> Kept:
        """Let an event say that a resource is well; nothing, where no case knows it."""
        case = self._named(recovery.provider, recovery.key)
        if case is None:
            return Kept()
        return self.keep(follow.recovered(case, "an event says that it recovered", event, now), now)

    def follow_up(self, case: Case | None, call: Call, now: Millis) -> Kept:
        """Let a case learn what became of its call."""
        if case is None or case.call != call.id:
            return Kept()
        move = follow.settled(case, call, now)
        if move is None:
            return Kept()
        kept = self.keep(move, now)
        if len(move.case.aliases) > len(case.aliases):
            learn = self._merge if not case.ended else self._bequeath
            kept += learn(move.case.id, move.case.aliases[-1], now)
        return kept

    def _bequeath(self, from_: str, alias: str, now: Millis) -> Kept:
        """Hand the new id that an ended case has learnt too late to the last case of its resource."""
        case = self.take(from_)
        heir, other = self._named(case.provider, case.key) or case, self._named(case.provider, alias)
        if not heir.ended:
            if heir.id != case.id and (other is None or other.id != heir.id):
                heir = replace(heir, aliases=(*heir.aliases, alias))
                self._rows("keep_case", case_row(heir))
            return self._merge(heir.id, alias, now)
        if other is None or other.ended:
            self._name(heir, alias)
            return Kept() if other is None or other.id == heir.id else self.keep(_took_in(heir, other), now)
        self._name(other, heir.key, *heir.aliases)
        return self.keep(_took_in(other, heir), now)

    def _merge(self, into: str, alias: str, now: Millis) -> Kept:
        """Take in a case that was opened under the new id before the answer that told it was here."""
        case = self.take(into)
        other = self._named(case.provider, alias)
        if other is None or other.id == case.id or other.ended:
            self._name(case, alias)
            if other is None or other.id == case.id:
                return Kept()
            return self.keep(_took_in(case, other), now)
        # The one whose retry is out already goes on: two for one resource would both be made.
        further = _begun(other, self.call_of_case(other))
        stays, goes = (other, case) if further else (case, other)
        kept = self.keep(follow.merged(goes, stays.id, now), now)
        stays, goes = self.take(stays.id), self.take(goes.id)
        self._name(stays, goes.key, *goes.aliases)
        kept += self.keep(_took_in(stays, goes), now)
        if further:
            self._narrow(self.take(stays.id), now)
            return kept
        failure = Failure(
            rule=other.rule, provider=other.provider, action=other.action, key=alias, values=other.values
        )
        # It failed after it was taken, whatever the clocks say: the new id did not exist before.
        case = self.take(case.id)
        return kept + self.keep(follow.failed(case, failure, other.event, now + 1, now), now)

    def _narrow(self, case: Case, now: Millis) -> None:
        """Let a case's call do no more than the merged budget has left."""
        if case.call:
            spent = sum(at > now - case.policy.within_ms for at in case.spent)
            self._rows("narrow", {"id": case.call, "room": max(0, case.policy.retries - spent)})

    def _name(self, case: Case, *names: str) -> None:
        """Let names lead to this case from now on."""
        for name in names:
            self._rows("name", {"provider": case.provider, "name": name, "case_id": case.id})

    def act(
        self, name: str, act: Act, *, by: str, why: str, now: Millis, until: Millis | None = None
    ) -> Move:
        """
        Do what a person wants with the case of this id, key or alias.

        Raises Rejected: 404 if there is none, 409 if several fit or it can't be done now.
        """
        found = self._found(name)
        live = [case for case in found if not case.ended]
        if not found:
            raise Rejected(404, "No such case", f"no case has the id, key or alias {name}")
        if len(live) > 1 or (not live and len({case.provider for case in found}) > 1):
            several = ", ".join(case.id for case in live or found)
            raise Rejected(409, "Several cases", f"say which by its id: {several}")
        case = self.take((live or found)[0].id)
        for known in (case.key, *case.aliases) if case.ended else ():
            other = self._named(case.provider, known)
            if other and other.id != case.id and not other.ended:
                raise Rejected(409, "Not possible", f"the resource has a newer case: {other.id}")
        move = people.acted(case, self.call_of_case(case), act, by=by, why=why, now=now, until=until)
        return self.keep(move, now).moves[0]

    def be_on_time(self, now: Millis) -> Kept:
        """Act on deadlines that have passed, and on storms whose rest is over."""
        kept = Kept()
        for row in self._rows("overdue", {"now": now, "limit": MANY}):
            case = self.take(row["id"])
            kept += self.keep(follow.overdue(case, self.call_of_case(case), now), now)
        for row in self._rows("rested", {"now": now}):
            self._calm(row["provider"])  # what is still out has said nothing for long
            kept += self._let_go(storm.rested(self._weather(row["provider"])), now)
        return kept

    def next_time(self) -> Millis | None:
        """Return when `be_on_time` is wanted next."""
        times = [self._rows(name, {})[0]["at"] for name in ("next_deadline", "next_rested")]
        return min((at for at in times if at is not None), default=None)

    # -- how it is kept --

    def keep(self, move: Move, now: Millis) -> Kept:
        """Write a move down, with all that the weather makes of it."""
        weather = self._weather(move.case.provider) if move.case.policy.storm_cases else None
        begins = ""
        if weather is not None:
            weather, move, begins = self._under(weather, move, now)
        kept = Kept((self._write(move, now),))
        if weather is None:
            return kept
        if begins:
            waiting = self._catch(weather.provider, move.case.id)
            kept += Kept((), (Turn(provider=weather.provider, began=True, waiting=waiting, why=begins),))
        return kept + self._let_go(weather, now, move)

    def _under(self, weather: Weather, move: Move, now: Millis) -> tuple[Weather, Move, str]:
        """Let the weather learn from a move, and the move wait if there is a storm."""
        case, before = move.case, move.before
        helped = storm.result(move)
        if helped is not None:
            probe = before is not None and before.storming is Storming.OUT
            rest_ms = case.policy.storm_rest_ms
            weather = storm.learned(weather, helped=helped, probe=probe, now=now, rest_ms=rest_ms)
        if helped is not None or case.ended:
            case = replace(case, storming=Storming.CALM)
        begins, call = "", storm.held_up(move)
        if before is None and call is not None:
            begins = storm.breaks_out(weather, self._lately(case, now) + 1, case.policy)
            weather = storm.begun(weather, now) if begins else weather
        move = replace(move, case=case)
        if call is None or not weather.stormy:
            return weather, move, begins
        case, call = storm.parked(case, call)
        if move.queue is None:
            return weather, replace(move, case=case, change=call), begins
        return weather, replace(move, case=case, queue=call), begins

    def _lately(self, case: Case, now: Millis) -> int:
        """Return how many cases of its provider have opened within the time that makes them a storm."""
        since, limit = now - case.policy.storm_ms, case.policy.storm_cases + 1
        asked = {"provider": case.provider, "since": since, "limit": limit}
        found = self._rows("lately", asked)[0]["cases"]
        assert isinstance(found, int)
        return found

    def _write(self, move: Move, now: Millis) -> Move:
        case, moment = move.case, move.moment
        if move.drop and move.before is not None and move.before.call is not None:
            for row in self._rows("cancel", {"id": move.before.call, "why": move.drop, "now": now}):
                # What it may have done already counts, though nobody will ever look.
                case = follow.counted(case, call_of(self._rows("call", {"id": row["id"]})[0]), now)
        case = replace(case, moments=case.moments + 1)
        if move.before is None:
            self._rows("open_case", case_row(case))
        else:
            self._rows("keep_case", case_row(case))
        if move.change is not None:
            self._rows("change", call_row(move.change))
        if move.queue is not None:
            self._rows("queue", call_row(move.queue))
        if move.before is None or (move.before.ended and not case.ended):
            self._name(case, case.key, *case.aliases)
        self._rows(
            "note",
            {
                "case_id": case.id,
                "number": case.moments,
                "at": now,
                "kind": moment.kind,
                "what": moment.what,
                "ref": moment.ref,
                "who": moment.by,
            },
        )
        if not case.ended or (move.before is not None and move.before.ended):
            return replace(move, case=case)
        tries = self._rows("tries_made", {"case_id": case.id})[0]["tries"]
        return replace(move, case=case, tries=tries)

    # -- storms --

    def _catch(self, provider: str, but: str) -> int:
        """As a storm begins: what was not begun yet waits, what is out shows whether retries help."""
        waiting = 1
        for row in self._rows("caught", {"provider": provider}):
            if row["id"] == but:
                continue
            case = self.take(row["id"])
            call = self.call_of_case(case)
            if call is None:
                continue
            fresh = call.kind is Kind.RETRY and call.state is State.QUEUED and not call.tries
            if fresh:
                case, call = storm.parked(case, call)
                self._rows("change", call_row(call))
                waiting += 1
            elif call.state is not State.HELD:
                case = replace(case, storming=Storming.OUT)
            self._rows("keep_case", case_row(case))
        return waiting

    def _let_go(self, weather: Weather, now: Millis, cause: Move | None = None) -> Kept:
        """Let as many waiting retries go as the storm has room for, or say that it is over."""
        kept = Kept()
        if weather.stormy:
            room = storm.room(weather, self._storming(weather, Storming.OUT, weather.width))
            for row in self._rows("ready", {"provider": weather.provider, "by": NEVER + now, "limit": room}):
                kept += self._release(self.take(row["id"]), now)
            if self._storming(weather, Storming.PARKED, 1):
                weather = storm.patient(weather, now)
            elif cause and cause.moment.by:
                weather = replace(weather, rests_until=now)  # the next claim ends it, and says so
            elif cause and self._lately(cause.case, now) > cause.case.policy.storm_cases:
                # One more case would begin it again, and a storm is said once.
                weather = storm.lingering(weather, cause.case.policy, now)
            else:
                # What is out still counts for the tally, but nobody waits for it any more.
                why = "none waits any more"
                kept += Kept((), (Turn(provider=weather.provider, began=False, waiting=0, why=why),))
                weather = storm.over(weather)
                self._calm(weather.provider)
        self._rows("keep_weather", _weather_row(weather))
        return kept

    def _storming(self, weather: Weather, storming: Storming, most: int) -> int:
        """Count the cases that a storm holds up, or that are out, up to *most*."""
        asked = {"provider": weather.provider, "storming": storming.value, "limit": most}
        found = self._rows("storming", asked)[0]["cases"]
        assert isinstance(found, int)
        return found

    def _calm(self, provider: str) -> None:
        """Wait no longer for what is out."""
        self._rows("calm", {"provider": provider})

    def _release(self, case: Case, now: Millis) -> Kept:
        call = self.call_of_case(case)
        assert call is not None  # `ready` found it
        at = follow.opens(case.policy, now)
        if at > now:
            self._rows("change", call_row(replace(call, due_at=NEVER + at)))
            return Kept()
        gone, call = storm.let_go(case, call, now)
        moment = Moment(kind="let_go", what=gone.why, ref=call.id)
        return Kept((self._write(Move(before=case, case=gone, moment=moment, change=call), now),))

    def _weather(self, provider: str) -> Weather:
        """Take a provider's weather for this transaction; that of a new one is calm."""
        taken = self._rows("take_weather", {"provider": provider})
        if not taken:
            self._rows("new_weather", {"provider": provider})
            taken = self._rows("take_weather", {"provider": provider})
        return Weather(**taken[0])


def _begun(case: Case, call: Call | None) -> bool:
    """Say whether a retry of the case was made, or may have been, so that it can't be taken back."""
    if call is not None and call.kind is Kind.RETRY and call.settled_at is None:
        return call.tries > 0 or (call.state is State.RUNNING and call.step is Step.SEND)
    return case.state in {Stand.WATCHING, Stand.NEEDS_PERSON}


def _whole(case: Case, part: Case) -> Case:
    """Return a case with what was spent for *part*, which was the same resource, and with its names."""
    names = dict.fromkeys((part.key, *part.aliases, *case.aliases))
    return replace(
        case,
        retries=case.retries + part.retries,
        spent=tuple(sorted((*case.spent, *part.spent))),
        aliases=tuple(name for name in names if name != case.key),
    )


def _took_in(case: Case, part: Case) -> Move:
    """Let a case go on for another one, too, which has ended: they are one resource."""
    moment = Moment(kind="merged", what=f"{part.id} was the same resource under its older id", ref=part.id)
    return Move(before=case, case=_whole(case, part), moment=moment)


def _weather_row(weather: Weather) -> dict[str, object]:
    return {
        "provider": weather.provider,
        "began_at": weather.began_at,
        "width": weather.width,
        "rests": weather.rests,
        "rests_until": weather.rests_until,
        "tally": weather.tally,
    }
