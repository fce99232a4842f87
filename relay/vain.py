"""What does a rule ask for that none of its sources ever says?  It would wait for ever, and look right."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.condition import listed, shown
from relay.document import Document
from relay.errors import ConfigError
from relay.event import Json, Trust
from relay.match import ENVELOPE, Field, Pattern
from relay.match.pattern import CHOICES
from relay.place import Path
from relay.source import Source
from relay.template import needed
from relay.verify import best

PATTERNS: Final[Sequence[Path]] = (("when",), ("recovered",), ("approve", "when"), ("expect", "when"))
"""Where patterns over events of the rule's own sources stand."""

TEMPLATES: Final[Sequence[Path]] = (
    ("with",), ("calls",), ("case",), ("person",), ("say",), ("throttle", "by"), ("expect", "by"),
    ("expect", "seen_by"),
)  # fmt: skip
"""Where templates over them stand."""

_HINTS: Final[Mapping[str, str]] = {
    "$verified": "a signature over the body makes it verified, a token authenticated",
    "$failed": "failed = { … } of a source says which events do",
    "$recovered": "recovered = { … } of a source says which events do",
    "$source": "from says whose events the rule sees",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What may come around the events of one source."""

    name: str
    resource: bool  #: whether they say what they are about
    envelopes: tuple[Mapping[str, Json], ...]  #: each with one value for what `_HINTS` names


def heard(source: Source, *, watched: bool) -> Heard | None:
    """Return what *source* may say, which a watch may feed, too; None: nobody knows, for it is not right."""
    trusts = {best(replace(source, ways=(way,))) for way in source.ways}
    trusts |= {Trust.UNATTEMPTED} if source.open else set()
    trusts |= {Trust.VERIFIED} if watched else set()
    tells = ["", *(["failed"] if source.failed else []), *(["recovered"] if source.recovered else [])]
    envelopes: list[Mapping[str, Json]] = [
        {
            "$source": source.name,
            "$verified": trust.value,
            "$failed": told == "failed",
            "$recovered": told == "recovered",
        }
        for trust in sorted(trusts)
        for told in tells
    ]
    return Heard(source.name, bool(source.resource), tuple(envelopes)) if envelopes else None


def check_vain(doc: Document, path: Path, names: Collection[str], known: Mapping[str, Heard | None]) -> None:
    """
    Tell of what the rule at *path*, which is from the sources of these *names*, asks for in vain.

    One source that may say it is enough. Where one of them is not right itself, nothing is told.
    """
    several = [one for name in names if (one := known.get(name))]
    if not several or len(several) < len(names):
        return
    for inner in PATTERNS:
        if isinstance(table := doc.at((*path, *inner)), dict):
            _pattern(doc, (*path, *inner), table, several)
    if not any(one.resource for one in several):
        for inner in TEMPLATES:
            for at, text in _texts((*path, *inner), doc.at((*path, *inner))):
                if "$resource" in _needed(text):
                    _no_resource(doc, at, several)


def _pattern(doc: Document, path: Path, table: Mapping[str, Any], several: Sequence[Heard]) -> None:
    """Check each field that asks for what comes around an event, then all that must be met together."""
    # Thousands of rules ask for nothing of the kind, and are not compiled once more for it.
    if "$" not in str(table) or (whole := _compiled(table)) is None:
        return
    told = len(doc.problems)
    for at, key, value in _asked(path, table):
        _field(doc, at, key, value, several)
    envelopes = [envelope for one in several for envelope in one.envelopes]
    if len(doc.problems) == told and not any(
        all(_met(field, envelope) for field in each.fields)
        for each in whole.alternatives
        for envelope in envelopes
    ):
        doc.wrong(path, f"it can't be met: no event of {_names(several)} has all of it at once")


def _field(doc: Document, at: Path, key: str, value: Json, several: Sequence[Heard]) -> None:
    if key == "$resource" and not any(one.resource for one in several):
        _no_resource(doc, at, several)
    if key not in _HINTS or (field := _compiled({key: value})) is None:
        return
    told = len(doc.problems)
    items = [((*at, number), one) for number, one in enumerate(value)] if isinstance(value, list) else []
    for place, item in items or [(at, value)]:
        if key in {"$failed", "$recovered"} and not isinstance(item, bool | dict):
            doc.wrong(place, f"expected true or false, got {shown(item)}")
    envelopes = [envelope for one in several for envelope in one.envelopes]
    if len(doc.problems) == told and not any(_met(field.alternatives[0].fields[0], one) for one in envelopes):
        values = listed((shown(one[key]) for one in envelopes), "or")
        doc.wrong(at, f"it can't be met: {key} is {values} in what comes from {_names(several)}", _HINTS[key])


def _no_resource(doc: Document, at: Path, several: Sequence[Heard]) -> None:
    what = f"{_names(several)} does not say what an event is about: there is no $resource"
    doc.wrong(at, what, f'resource = "body:job.id" in [source.{several[0].name}]')


def _met(field: Field, envelope: Mapping[str, Json]) -> bool:
    """Say if an event may meet a *field*: all may meet those that are not looked up in the *envelope*."""
    if not field.envelope or field.path not in envelope:
        return True
    return field.given or field.accepts(envelope[field.path])


def _compiled(table: Mapping[str, Any]) -> Pattern | None:
    """Compile a pattern; None if it is not right, which is told elsewhere."""
    try:
        return Pattern(table, toml=True, envelope=ENVELOPE)
    except ConfigError:
        return None


def _asked(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[Path, str, Json]]:
    """Yield what a pattern asks for around an event, with its place: at its top, or in alternatives."""
    for key, value in table.items():
        if key in CHOICES:
            for number, one in enumerate(value):
                yield from _asked((*path, key, number), one)
        elif key.startswith("$"):
            yield (*path, key), key, value


def _texts(path: Path, value: Json) -> Iterator[tuple[Path, str]]:
    """Yield each text in a tree of templates."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts((*path, key), item)
    elif isinstance(value, str):
        yield path, value


def _needed(text: str) -> set[str]:
    """Name what a template can't do without; a broken one needs nothing (its problem is told elsewhere)."""
    try:
        return set(needed(text))
    except ValueError:
        return set()


def _names(several: Sequence[Heard]) -> str:
    return listed((repr(one.name) for one in several), "or")
