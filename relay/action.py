"""Does an action hold together?  Its request, its values, its outcomes and its check."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.condition import near
from relay.document import Document
from relay.event import Json
from relay.inner import body_path, holes, pattern
from relay.place import Path
from relay.provider import Action, Check, Example, Reading
from relay.render import CALL_ID
from relay.schema import ActionFile, ExampleFile, OutcomeFile, Strict, said
from relay.shape import Shaper

ANSWER: Final = ("status", "headers", "body")
"""What an answer consists of, to the patterns of outcomes and checks."""

OURS: Final[Mapping[str, str]] = {"headers": CALL_ID, "json": CALL_ID}
"""What relay itself fills in, and where it may stand."""


def compile_action(doc: Document, path: Path, name: str, file: ActionFile) -> Action:
    """Check everything about the action at *path*, and return it as far as it is right."""
    return _Action(doc, path, file, Shaper(doc, path, file.values)).compile(name)


def compile_outcomes(doc: Document, path: Path) -> tuple[Reading, ...]:
    """Compile the ``outcomes`` of the table at *path*, those that have the right form."""
    readings = []
    found = doc.at((*path, "outcomes"))
    for number in range(len(found) if isinstance(found, list) else 0):
        here: Path = (*path, "outcomes", number)
        if outcome := doc.fit(OutcomeFile, here, quiet=True):
            if outcome.after and outcome.is_ != "retry":
                doc.wrong((*here, "after"), f"only a retry comes later, this is {outcome.is_}")
            if when := pattern(doc, (*here, "when"), outcome.when, ANSWER):
                readings.append(Reading(is_=outcome.is_, when=when, why=outcome.why, after_ms=outcome.after))
    return tuple(readings)


@dataclass(slots=True)
class _Action:
    """One action on its way from tables to words."""

    doc: Document
    path: Path
    file: ActionFile
    shaper: Shaper

    def compile(self, name: str) -> Action:
        """Check everything about the action, and return it as far as it is right."""
        file = self.file
        values = self.shaper.declared()
        shape = self.shaper.shape(self.path, file, OURS)
        check = self._check()
        self.shaper.no_idle_values()
        self._keep()
        if check is None and file.check_first:
            self.doc.wrong(
                (*self.path, "check_first"), "there is no check to look with", f"add [action.{name}.check]"
            )
        if check is None and file.on_unknown == "check":
            self.doc.wrong((*self.path, "on_unknown"), "there is no check to look with", "resend, or person")
        if file.on_unknown == "resend_same_key" and CALL_ID not in holes(*file.headers.values(), file.json_):
            self.doc.wrong(
                (*self.path, "on_unknown"),
                f"expected {{{CALL_ID}}} in the headers or the json",
                f'headers.Idempotency-Key = "{{{CALL_ID}}}"',
            )
        return Action(
            name=name,
            title=file.title,
            shape=shape,
            values=values,
            idempotent=file.idempotent,
            on_unknown=file.on_unknown or ("check" if check else "resend" if file.idempotent else "person"),
            check_first=file.check_first,
            outcomes=compile_outcomes(self.doc, self.path),
            check=check,
            keep=file.keep,
            examples=tuple(self._example(number, one) for number, one in enumerate(file.example)),
        )

    def _keep(self) -> None:
        """Check that a new id is kept for one value of the action."""
        keep, path = self.file.keep, (*self.path, "keep")
        if len(keep) > 1:
            self.doc.wrong(path, f"expected one value, got {' and '.join(keep)}")
        for name, place in keep.items():
            if name not in self.file.values:
                self.doc.wrong((*path, name), "no value of this action", near(name, self.file.values))
            body_path(self.doc, (*path, name), place)

    def _check(self) -> Check | None:
        file, path = self.file.check, (*self.path, "check")
        if file is None:
            return None
        shape = self.shaper.shape(path, file)
        if file.multipart:
            self.doc.wrong((*path, "multipart"), "a look uploads nothing")
        states = []
        for number, one in enumerate(file.refused):
            if when := pattern(self.doc, (*path, "refused", number, "when"), one.when, ANSWER):
                states.append(Reading(is_="refused", when=when, why=one.why))
        for state in ("recovered", "running", "failed"):
            states += self._states((*path, state), state, getattr(file, state))
        if file.mark:
            body_path(self.doc, (*path, "mark"), file.mark)
        if file.within < file.wait[0]:
            first = said(file.wait[0])
            self.doc.wrong((*path, "within"), f"it ends before the first look, which comes after {first}")
        return Check(
            shape=shape,
            states=tuple(states),
            mark=file.mark,
            wait_ms=tuple(file.wait),
            within_ms=file.within,
        )

    def _states(self, path: Path, state: str, tables: Any) -> Iterator[Reading]:
        several = isinstance(tables, list)
        for number, table in enumerate(tables if several else [tables] if tables else []):
            if when := pattern(self.doc, (*path, number) if several else path, table, ANSWER):
                yield Reading(is_=state, when=when)

    def _example(self, number: int, file: ExampleFile) -> Example:
        path = (*self.path, "example", number)
        for name in sorted(file.with_.keys() - self.file.values.keys()):
            self.doc.wrong((*path, "with", name), "no value of this action", near(name, self.file.values))
        for there, here in (
            ("outcome", "answer"),
            ("answer", "outcome"),
            ("state", "look"),
            ("look", "state"),
        ):
            if getattr(file, there) and not getattr(file, here):
                self.doc.wrong((*path, there), f"an example with this needs {here}, too")
        return Example(
            with_=file.with_,
            request=_told(file.request),
            answer=_told(file.answer),
            outcome=file.outcome or "",
            look=_told(file.look),
            state=file.state or "",
        )


def _told(part: Strict | None) -> dict[str, Json]:
    """Return the keys that were written."""
    return part.model_dump(by_alias=True, exclude_unset=True) if part else {}
