"""Whom do rules and watches call, and do they give it what it needs?"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from relay.condition import near
from relay.document import Document
from relay.errors import Unfit
from relay.event import Json
from relay.inner import holes
from relay.place import Path
from relay.provider import Listing
from relay.render import checked
from relay.schema import ActionFile, ListingFile, ValueFile

_AS_IN: Final = {"action": "writer.retry", "watch": "writer.failed_files"}


def calling(rules: Document, kind: str) -> Iterator[tuple[Path, str | None]]:
    """Yield the place of each rule or watch, and what it calls, as far as it says so; names stand once."""
    several = rules.at((kind,))
    names: dict[str, int] = {}
    for number in range(len(several) if isinstance(several, list) else 0):
        path: Path = (kind, number)
        name, call = rules.at((*path, "name")), rules.at((*path, "call"))
        if isinstance(name, str) and names.setdefault(name, number) != number:
            rules.wrong((*path, "name"), f"{kind}[{names[name] + 1}] has this name already")
        yield path, call if isinstance(call, str) else None


def aims_at(rules: Document, path: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the place of each call of the rule at *path*, and what it calls, as far as it says so."""
    call, several = rules.at((*path, "call")), rules.at((*path, "calls"))
    if call:
        yield path, call if isinstance(call, str) else None
    for number in range(len(several) if isinstance(several, list) else 0):
        one = rules.at((*path, "calls", number, "call"))
        yield (*path, "calls", number), one if isinstance(one, str) else None


def watch_sources(rules: Document) -> list[str]:
    """Name the sources that watches feed."""
    found = []
    for path, call in calling(rules, "watch"):
        source = rules.at((*path, "source")) or (call or "").partition(".")[0]
        found += [source] if isinstance(source, str) and source else []
    return found


def check_call(
    rules: Document,
    path: Path,
    call: str | None,
    documents: Mapping[str, Document | None],
    kind: str = "action",
) -> None:
    """Check that the call names an action or a watch, and gives it all its values and no others."""
    if call is None:
        return
    provider, dot, name = call.partition(".")
    at = (*path, "call")
    if not dot or not name:
        rules.wrong(at, f"expected provider.{kind}, got {call!r}", f'as in "{_AS_IN[kind]}"')
        return
    if provider not in documents:
        rules.wrong(at, f"there is no provider {provider!r}", near(provider, documents))
        return
    doc = documents[provider]
    if doc is None:
        return
    known = doc.keys(kind)
    if name not in known:
        rules.wrong(at, f"{provider} has no {kind} {name!r}", near(name, known))
        return
    values = values_of(doc, kind, name)
    given = rules.at((*path, "with")) or {}
    if values is None or not isinstance(given, dict):
        return
    for key in sorted(given.keys() - values.keys()):
        rules.wrong((*path, "with", key), f"{call} has no value {key!r}", near(key, values))
    for key, value in values.items():
        if not value.optional and key not in given:
            rules.wrong((*path, "with"), f"{call} needs {key}", value.title)


def values_of(doc: Document, kind: str, name: str) -> Mapping[str, ValueFile] | None:
    """Return the values of an action or a watch of the right form."""
    path = (kind, name)
    fits = (
        doc.fit(ActionFile, path, quiet=True) if kind == "action" else doc.fit(ListingFile, path, quiet=True)
    )
    return fits.values if fits else None


def constants(rules: Document, path: Path, listing: Listing) -> dict[str, Json]:
    """Check what the watch at *path* gives, and return it: no event fills it, so it is all known now."""
    given = rules.at((*path, "with"))
    found: dict[str, Json] = {}
    for key, value in given.items() if isinstance(given, dict) else ():
        spec = listing.values.get(key)
        if several := sorted(holes(value)):
            rules.wrong((*path, "with", key), f"no event is there to fill {{{several[0]}}}", "a plain value")
        elif spec:
            try:
                found |= checked(replace(listing, values={key: spec}), {key: value})
            except Unfit as error:
                rules.wrong((*path, "with", key), str(error))
    return found
