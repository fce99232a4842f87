"""Which events are all rules tested with, and what shall come of each?  From a folder of files to tests."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Final

from relay.body import Unparsable, parse
from relay.condition import near
from relay.document import Document, read
from relay.ends import wanted
from relay.errors import ConfigError, Problem
from relay.place import Path
from relay.rule import Ruleset, RuleTest
from relay.schema import EventFile

SEVERAL: Final = "event"
"""The key under which a file has more than one."""


def samples(folder: FilePath, rules: Ruleset) -> list[RuleTest]:
    """Return the tests of all files below *folder*. Raises ConfigError with all problems of all files."""
    problems: list[Problem] = []
    if not folder.is_dir():
        what = "expected a folder of event files" if folder.exists() else "there is no such folder"
        raise ConfigError([Problem(file=str(folder), what=what)])
    files = sorted(folder.rglob("*.toml"))
    names = {rule.name for rule in rules.rules}
    found = [one for file in files for one in _tests(file, rules, names, problems)]
    if not found and not problems:
        what, hint = "there is no event in it", "event files end in .toml"
        raise ConfigError([Problem(file=str(folder), what=what, hint=hint)])
    if problems:
        order = {str(file): number for number, file in enumerate(files)}
        raise ConfigError(sorted(dict.fromkeys(problems), key=lambda one: (order[one.file], one.line or 0)))
    return found


def _tests(
    file: FilePath, rules: Ruleset, names: Collection[str], problems: list[Problem]
) -> Iterator[RuleTest]:
    layer, _ = read(file, str(file), problems)
    if layer is None:
        return
    doc = Document([layer], problems)
    paths: list[Path] = [()]
    if SEVERAL in doc.data:
        if beside := sorted(doc.data.keys() - {SEVERAL}):
            doc.wrong((beside[0],), "it can't stand beside [[event]]", "each event has its own keys")
        several = doc.at((SEVERAL,))
        if not isinstance(several, list) or not all(isinstance(one, dict) for one in several):
            doc.wrong((SEVERAL,), "expected [[event]], one for each", 'what is sent is called "body"')
            return
        paths = [(SEVERAL, number) for number in range(len(several))]
    for path in paths:
        if found := doc.fit(EventFile, path):
            _known(doc, (*path, "rules"), found.rules or [], names)
            made = wanted(doc, path, found, {*rules.sources, *rules.watched})
            yield replace(made, raw=_raw(doc, path, found, file.parent), file=str(file))


def _known(doc: Document, path: Path, names: Collection[str], known: Collection[str]) -> None:
    one = isinstance(doc.at(path), str)
    for number, name in enumerate(names):
        if name not in known:
            doc.wrong(path if one else (*path, number), f"there is no rule {name!r}", near(name, known))


def _raw(doc: Document, path: Path, found: EventFile, folder: FilePath) -> bytes | None:
    """Read a body that stands in a file of its own; one that stands here is no matter."""
    if ("body" in found.model_fields_set) == bool(found.file):
        doc.wrong((*path, "file") if found.file else path, "expected one of body and file, and not both")
    if not found.file:
        return None
    path, file = (*path, "file"), folder / found.file
    try:
        raw = file.read_bytes()
        parse(raw)
    except OSError as error:
        doc.wrong(path, f"{str(file)!r} can't be read: {error.strerror}", "a file beside this one")
    except Unparsable as error:
        doc.wrong(path, f"{str(file)!r} can't be sent: {error}")
    else:
        return raw
    return None
