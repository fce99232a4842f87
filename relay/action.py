"""Does an action hold together?  Its request, its values, its outcomes and its check."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from relay.condition import near
from relay.document import Document
from relay.event import Json
from relay.inner import header, pattern, template
from relay.place import Path
from relay.provider import Action, Check, Example, Reading, Shape, Value
from relay.schema import ActionFile, ExampleFile, MultipartFile, OutcomeFile, ShapeFile, Strict
from relay.template import pieces

ANSWER: Final = ("status", "headers", "body")
"""What an answer consists of, to the patterns of outcomes and checks."""


def compile_action(doc: Document, path: Path, name: str, file: ActionFile) -> Action:
    """Check everything about the action at *path*, and return it as far as it is right."""
    return _Action(doc, path, file).compile(name)


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
    used: set[str] = field(default_factory=set)  #: values that a placeholder stands for

    def compile(self, name: str) -> Action:
        """Check everything about the action, and return it as far as it is right."""
        file = self.file
        self._values()
        shape = self._shape(self.path, file)
        check = self._check()
        for unused in sorted(file.values.keys() - self.used):
            self.doc.wrong((*self.path, "values", unused), "no placeholder uses this value")
        if check is None and file.check_first:
            self.doc.wrong(
                (*self.path, "check_first"), "there is no check to look with", f"add [action.{name}.check]"
            )
        if check is None and file.on_unknown == "check":
            self.doc.wrong((*self.path, "on_unknown"), "there is no check to look with", "resend, or person")
        return Action(
            name=name,
            title=file.title,
            shape=shape,
            values={key: Value(**value.model_dump()) for key, value in file.values.items()},
            idempotent=file.idempotent,
            on_unknown=file.on_unknown or ("check" if check else "resend" if file.idempotent else "person"),
            check_first=file.check_first,
            outcomes=compile_outcomes(self.doc, self.path),
            check=check,
            keep=file.keep,
            examples=tuple(self._example(number, one) for number, one in enumerate(file.example)),
        )

    def _values(self) -> None:
        for name, value in self.file.values.items():
            here = (*self.path, "values", name)
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                self.doc.wrong(here, "expected a name of small letters, digits and _")
            try:
                re.compile(value.pattern or "")
            except re.error as error:
                self.doc.wrong((*here, "pattern"), f"no regular expression: {error.msg}")

    def _shape(self, path: Path, file: ShapeFile) -> Shape:
        """Check one request with its placeholders."""
        doc = self.doc
        method, at = self._request((*path, "request"), file.request)
        for key, value in file.headers.items():
            header(doc, (*path, "headers", key), key)
            self._fill((*path, "headers", key), value)
        self._fill((*path, "query"), file.query)
        self._fill((*path, "json"), file.json_)
        for name, part in file.multipart.items():
            here = (*path, "multipart", name)
            if isinstance(part, MultipartFile):
                self._file((*here, "file"), part.file)
            else:
                self._fill(here, part)
        bodies = [
            key for key, body in (("json", file.json_ is not None), ("multipart", file.multipart)) if body
        ]
        if len(bodies) == 2:
            doc.wrong((*path, "multipart"), "a request has one body: json or multipart")
        elif bodies and method in {"GET", "HEAD"}:
            doc.wrong((*path, bodies[0]), f"a {method} request has no body", "query, or another method")
        return Shape(
            method=method,
            path=at,
            query=file.query,
            headers=file.headers,
            json=file.json_,
            multipart={
                name: {"file": part.file, "type": part.type} if isinstance(part, MultipartFile) else part
                for name, part in file.multipart.items()
            },
        )

    def _request(self, path: Path, request: str) -> tuple[str, str]:
        """Take ``POST /path/{value}`` apart."""
        match = re.fullmatch(r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[\x21-\x7e]*)", request)
        if match is None:
            self.doc.wrong(path, 'expected a method and a path such as "POST /v1/jobs/{job_id}/retry"')
            return "", ""
        self._fill(path, match[2])
        try:
            plain = "".join("x" if hole else text for text, hole in pieces(match[2]))
        except ValueError:
            return match[1], match[2]
        if re.search(r"[?#\\]", plain):
            self.doc.wrong(path, "?, # and \\ can't stand in a path", "query = { … }")
        elif re.search(r"//|/\.\.?(/|$)", plain):
            self.doc.wrong(path, "a path can't have empty segments, '.' or '..'")
        return match[1], match[2]

    def _fill(self, path: Path, value: Json) -> None:
        """Check that each placeholder is a declared value, and no file."""
        for at, name in template(self.doc, path, value):
            self.used.add(name)
            if name not in self.file.values:
                self.doc.wrong(at, f"{{{name}}} is no value of this action", near(name, self.file.values))
            elif self.file.values[name].type == "file":
                self.doc.wrong(at, f"{{{name}}} is a file", 'multipart.NAME = { file = "{…}" }')

    def _file(self, path: Path, value: str) -> None:
        """Check that a file in a form is one placeholder for a value of that type."""
        found = [name for _, name in template(self.doc, path, value)]
        self.used |= set(found)
        spec = self.file.values.get(found[0]) if len(found) == 1 else None
        if spec is None or spec.type != "file" or value != f"{{{found[0]}}}":
            self.doc.wrong(path, 'expected "{name}" of a value with type = "file"')

    def _check(self) -> Check | None:
        file, path = self.file.check, (*self.path, "check")
        if file is None:
            return None
        shape = self._shape(path, file)
        if file.multipart:
            self.doc.wrong((*path, "multipart"), "a look uploads nothing")
        states = []
        for number, one in enumerate(file.refused):
            if when := pattern(self.doc, (*path, "refused", number, "when"), one.when, ANSWER):
                states.append(Reading(is_="refused", when=when, why=one.why))
        for state in ("recovered", "running", "failed"):
            states += self._states((*path, state), state, getattr(file, state))
        return Check(shape=shape, states=tuple(states))

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
