"""What is there to see of cases?  One by any of its names, all of them, and their timelines."""

from dataclasses import dataclass
from typing import Final

from relay.call import Call, Kind
from relay.case import Case, Moment
from relay.store.rows import Base, call_of, case_of
from relay.storm import Weather

SETS_FREE: Final = frozenset({"released", "let_go"})
"""Moments that are about a call because they make it due, not because it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A case and its own call, as they stand."""

    case: Case
    call: Call | None


class Known(Base):
    """What is known of cases."""

    def take(self, case: str) -> Case:
        """Take a case for this transaction."""
        return case_of(self._rows("take_case", {"id": case})[0])

    def call_of_case(self, case: Case) -> Call | None:
        """Return a case's own call as it stands."""
        rows = self._rows("call", {"id": case.call}) if case.call else []
        return call_of(rows[0]) if rows else None

    def _named(self, provider: str, name: str) -> Case | None:
        rows = self._rows("named", {"provider": provider, "name": name})
        return self.take(rows[0]["case_id"]) if rows else None

    def _found(self, name: str) -> list[Case]:
        """Return the cases of an id, a key or an alias, newest first, changing nothing."""
        rows = self._rows("case", {"id": name})
        if not rows:
            ids = [row["case_id"] for row in self._rows("bears", {"name": name})]
            rows = [row for case in ids for row in self._rows("case", {"id": case})]
        return [case_of(row) for row in rows]

    def case(self, name: str) -> list[Shown]:
        """Return the last case of each provider that bears this id, key or alias, newest first."""
        return [Shown(case=case, call=self.call_of_case(case)) for case in self._found(name)]

    def cases(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        state: str | None = None,
        provider: str | None = None,
        rule: str | None = None,
        key: str | None = None,
    ) -> list[Shown]:
        """Return cases with their own calls, newest first."""
        asked = {
            "limit": limit, "before": before, "state": state, "provider": provider, "rule": rule, "key": key,
        }  # fmt: skip
        found = map(case_of, self._rows("cases", asked))
        return [Shown(case=case, call=self.call_of_case(case)) for case in found]

    def told(self, event: str) -> list[Shown]:
        """Return the cases that an event opened, joined or ended."""
        ids = [row["case_id"] for row in self._rows("told", {"ref": event})]
        return [one for id_ in ids for one in self.case(id_)]

    def timeline(self, case: str) -> list[Moment]:
        """Return all that happened to a case, in order: what it went through, and every try for it."""
        moments = [
            Moment(
                kind=row["kind"], what=row["what"], ref=row["ref"], by=row["who"], at=row["at"],
                number=row["number"],
            )
            for row in self._rows("moments", {"case_id": case})
        ]  # fmt: skip
        tries = [_try(row) for row in self._rows("tries_of", {"case_id": case})]
        told: list[Moment] = []
        for moment in moments:
            while tries and _before(tries[0], moment):
                told.append(tries.pop(0))
            told.append(moment)
        return told + tries

    def weather(self) -> dict[str, Weather]:
        """Return how each provider's resources fare."""
        return {row["provider"]: Weather(**row) for row in self._rows("weathers", {})}


def _before(try_: Moment, moment: Moment) -> bool:
    """Say whether a try comes first: within one millisecond, before what it brought about and no sooner."""
    if try_.at == moment.at:
        return try_.ref == moment.ref and moment.kind not in SETS_FREE
    return try_.at < moment.at


def _try(row: dict[str, object]) -> Moment:
    """Tell a try as a moment of its case's timeline."""
    kind = "check" if row["kind"] == Kind.CHECK else str(row["step"])
    status = f"{row['status']}" if row["status"] else ""
    why = str(row["why"])
    said = why if not status or why.startswith(status) else f"{status}: {why}"
    what = f"{row['outcome']}: {said}" if row["outcome"] else "under way"
    began = row["began_at"]
    assert isinstance(began, int)
    return Moment(kind=kind, what=what, ref=str(row["call_id"]), at=began)
