"""How do a source's deliveries read?  From ``[source.NAME]`` or a watch, and its preset, to a `Source`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from relay.document import Document, Layer, merged
from relay.given import check_origins
from relay.inner import body_path, holes, pattern, template
from relay.match import Pattern
from relay.nested import BASE64
from relay.place import Path
from relay.provider import Limit
from relay.schema import ABOUT, PresetFile, SourceFile, every_ms
from relay.source import Handshake, Preset, Sample, Source, Vector, private
from relay.way import PROOF, REFERENCE, check_preset, proving, ways_of

_PLACES: Final = ("delivery", "type", "resource", "time")
_WHOLE: Final = frozenset({"failed", "recovered"})
"""A pattern is one thing: half of the preset's in half of the operator's would be met by nothing."""


def laid(presets: list[Layer], own: Layer) -> list[Layer]:
    """Lay the operator's own table over its presets, less what these tell of themselves."""
    below: dict[str, Any] = {}
    for layer in presets:
        below = merged(below, layer.data)
    without = {*ABOUT, *(_WHOLE & own.data.keys())}
    if own.data.get("verify", below.get("verify")) != below.get("verify"):
        # A way of one's own leaves all of the preset's proof behind, not half of it.
        without |= PROOF | {"also"}
    presets = [
        replace(layer, data={key: value for key, value in layer.data.items() if key not in without})
        for layer in presets
    ]
    return [*presets, own]


def compile_preset(doc: Document, name: str) -> Preset | None:
    """Check a preset by itself, whoever uses it; problems go to the document."""
    file = doc.fit(PresetFile)
    if file is None:
        return None
    check_preset(doc, file)
    reading(doc, name, file)
    return Preset(
        name=name,
        title=file.title or name,
        docs=file.docs,
        setup=tuple(file.setup),
        notes=file.notes,
        samples=tuple(
            Sample(
                name=one.name,
                headers={key.lower(): value for key, value in one.headers.items()},
                body=one.body.encode(),
                query=one.query,
                events=tuple(event.model_dump() for event in one.event),
                handshake=one.handshake,
            )
            for one in file.sample
        ),
        vectors=tuple(
            Vector(
                origin=one.origin,
                secret=one.secret,
                headers={key.lower(): value for key, value in one.headers.items()},
                body=one.body.encode(),
                now=None if one.now is None else one.now * 1000,
                public_url=one.public_url,
                query=one.query,
                way=one.way,
            )
            for one in file.vector
        ),
    )


def watched(doc: Document, name: str) -> Source:
    """
    Return the source of a watch that has none in the rules: where its preset's events keep what they say.

    Nobody can post to it: it is not among those that stand behind a path.
    """
    file = (doc.fit(PresetFile, quiet=True) if doc.data else None) or PresetFile()
    return replace(reading(doc, name, file), reads="json", split=None, handshakes=())


def compile_source(doc: Document, name: str, environ: Mapping[str, str] | None) -> Source | None:
    """Check the whole *doc*, and return its source if its form is right; problems go to the document."""
    file = doc.fit(SourceFile)
    if file is None:
        return None
    if file.verify is None:
        if file.preset and len(doc.layers) == 1:
            return None  # what is wrong with the preset's own file has been said
        doc.wrong(("verify",), "missing", 'who may post here? "hmac", "token" or "none"')
        return None
    ways = ways_of(doc, file, environ)
    check_origins(doc, file)
    source = reading(doc, name, file)
    return replace(source, ways=ways, open=file.verify == "none", origins=tuple(file.origins))


def reading(doc: Document, name: str, file: PresetFile | SourceFile) -> Source:
    """Return the source as far as it says how deliveries read; who may post is not in it."""
    proofs = proving(file)
    for key in _PLACES:
        for number, one in enumerate(getattr(file, key)):
            if not all(REFERENCE.fullmatch(part) for part in one.split("+")):
                at = (key, number) if isinstance(doc.data[key], list) else (key,)
                doc.wrong(at, 'expected "body:path.in.it" or "header:name"', f"got {one!r}")
            for part in one.split("+"):
                name_ = part.removeprefix("header:").lower()
                if part.startswith("header:") and private(name_):
                    doc.wrong((key,), f"the header {name_} holds a credential, and is never kept")
                elif part.startswith("header:") and name_ in proofs:
                    doc.wrong((key,), f"the header {name_} proves who sent this, and is never kept")
    for key in ("form_field", "split"):
        if getattr(file, key) and file.body == "cloudevents":
            doc.wrong((key,), 'has no meaning with body = "cloudevents"')
    for number, place in enumerate(file.nested):
        body_path(
            doc,
            ("nested", number) if isinstance(doc.data["nested"], list) else ("nested",),
            place.removeprefix(BASE64),
        )
    handshakes = _handshakes(doc, file)
    failed, recovered = _pattern(doc, "failed", file.failed), _pattern(doc, "recovered", file.recovered)
    return Source(
        name=name,
        reads=file.body,
        form_field=file.form_field,
        nested=tuple(file.nested),
        split=file.split,
        handshakes=tuple(handshakes),
        delivery=tuple(file.delivery),
        type=tuple(file.type),
        resource=tuple(file.resource),
        time=tuple(file.time),
        failed=failed,
        recovered=recovered,
        asked=tuple(sorted(_asked(doc, [failed, recovered], handshakes))),
        redact=tuple(file.redact),
        max_bytes=file.max_bytes,
        dedupe_ms=file.dedupe,
        limit=Limit(every_ms=every_ms(file.limit.rate), burst=file.limit.burst) if file.limit else None,
        answer=file.answer,
    )


def _pattern(doc: Document, key: str, table: Mapping[str, Any] | None) -> Pattern | None:
    return None if table is None else pattern(doc, (key,), table)


def _asked(doc: Document, patterns: Iterable[Pattern | None], handshakes: Iterable[Handshake]) -> set[str]:
    """Return the headers that the source's own patterns and answers ask for: they are kept, too."""
    given = [*patterns, *(one.when for one in handshakes)]
    fields = [
        field
        for one in given
        if isinstance(one, Pattern)
        for each in one.alternatives
        for field in each.fields
    ]
    paths = {field.path for field in fields if field.envelope}
    paths |= {other for field in fields for one in field.conditions for other in one.others}
    paths |= holes(*(one.text for one in handshakes), *(one.json for one in handshakes))
    found = {path.partition(".")[2].lower() for path in paths if path.startswith("$headers.")}
    for name in sorted(filter(private, found)):
        doc.wrong((), f"the header {name} holds a credential, and is never kept", "no pattern can ask for it")
    return found


def _handshakes(doc: Document, file: PresetFile | SourceFile) -> list[Handshake]:
    found = []
    for number, one in enumerate(file.handshake):
        path: Path = ("handshake", number)
        if bool(one.text) == (one.json_ is not None):
            doc.wrong(path, "expected one of text and json, and not both")
        list(template(doc, (*path, "text"), one.text))
        list(template(doc, (*path, "json"), one.json_))
        if when := pattern(doc, (*path, "when"), one.when):
            found.append(Handshake(when=when, text=one.text, json=one.json_))
    return found
