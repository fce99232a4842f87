"""Does a request with holes hold together?  Its method, its path, and the values that fill it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from relay.condition import near
from relay.document import Document
from relay.event import Json
from relay.inner import header, template
from relay.place import Path
from relay.provider import Shape, Value
from relay.schema import MultipartFile, ShapeFile, ValueFile
from relay.template import pieces

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class Shaper:
    """The requests of the action or watch at *path*, and the values that it declares for them."""

    doc: Document
    path: Path
    values: Mapping[str, ValueFile]
    used: set[str] = field(default_factory=set)  #: values that a placeholder stands for

    @property
    def owner(self) -> str:
        """Say what it is: an action, or a watch."""
        return str(self.path[0])

    def declared(self) -> dict[str, Value]:
        """Check the values' names and patterns, and return them."""
        for name, value in self.values.items():
            here = (*self.path, "values", name)
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                self.doc.wrong(here, "expected a name of small letters, digits and _")
            try:
                re.compile(value.pattern or "")
            except re.error as error:
                self.doc.wrong((*here, "pattern"), f"no regular expression: {error.msg}")
        return {key: Value(**value.model_dump()) for key, value in self.values.items()}

    def no_idle_values(self) -> None:
        """Check that each value stands somewhere, now that all requests are known."""
        for idle in sorted(self.values.keys() - self.used):
            self.doc.wrong((*self.path, "values", idle), "no placeholder uses this value")

    def shape(self, path: Path, file: ShapeFile, ours: Mapping[str, str] = _NOTHING) -> Shape:
        """Check one request; *ours* has the placeholder that relay itself fills, for each part that may."""
        doc = self.doc
        method, at = self._request((*path, "request"), file.request)
        for key, value in file.headers.items():
            header(doc, (*path, "headers", key), key)
            self._fill((*path, "headers", key), value, ours.get("headers"))
        self._fill((*path, "query"), file.query, ours.get("query"))
        self._fill((*path, "json"), file.json_, ours.get("json"))
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

    def _fill(self, path: Path, value: Json, ours: str | None = None) -> None:
        """Check that each placeholder is a declared value, and no file."""
        for at, name in template(self.doc, path, value):
            self.used.add(name)
            if name == ours:
                continue
            if name not in self.values:
                what = f"{{{name}}} is no value of this {self.owner}"
                self.doc.wrong(at, what, near(name, [*self.values, *([ours] if ours else [])]))
            elif self.values[name].type == "file":
                self.doc.wrong(at, f"{{{name}}} is a file", 'multipart.NAME = { file = "{…}" }')

    def _file(self, path: Path, value: str) -> None:
        """Check that a file in a form is one placeholder for a value of that type."""
        found = [name for _, name in template(self.doc, path, value)]
        self.used |= set(found)
        spec = self.values.get(found[0]) if len(found) == 1 else None
        if spec is None or spec.type != "file" or value != f"{{{found[0]}}}":
            self.doc.wrong(path, 'expected "{name}" of a value with type = "file"')
