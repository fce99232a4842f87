"""How is a sample made a delivery of its own?  A new id, the time of now, and all else as it was."""

import json
import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

from relay import form
from relay.body import Unparsable, parse
from relay.clock import rfc3339
from relay.event import Json, Millis
from relay.moment import SECONDS_BELOW
from relay.source import Sample, Source
from relay.verify import SIGNATURES
from relay.verify.cover import parts

Change: TypeAlias = Callable[[Any], Json]
"""What is made of a value that stands in a sample."""

BLANKS: Final = " \t\r\n"
"""White space that JSON allows at its end (RFC 8259 2)."""

_PREFIX: Final = re.compile(r"[A-Za-z]{1,8}[_-]|")


def fresh(source: Source, sample: Sample, now: Millis) -> Sample:
    """
    Return *sample* so that relay knows it as no duplicate: with another delivery id, and as of *now*.

    The first place in which the source looks for either, and finds it in the sample, is written anew, in the
    form that it had. The bytes differ in any case: by white space at the end of JSON, or by another field.
    """
    made = _changed(source, sample, source.delivery, _another)
    made = _changed(source, made, source.time, lambda old: _time(old, now))
    for reference in _signed(source):
        made = _changed(source, made, [reference], _another)
    if made.body != sample.body:
        return made
    if _is_form(source, sample):
        end = f"&relay={secrets.token_hex(8)}"
    else:
        end = "".join(secrets.choice(BLANKS) for _ in range(24))
    return replace(made, body=made.body + end.encode())


def _signed(source: Source) -> list[str]:
    """Name what is signed besides the body, and is neither an id nor a time: a token that is used once."""
    way = next((one for one in source.ways if one.verify in SIGNATURES), None)
    kinds = {"header": "header", "member": "body"}
    found = [f"{kinds[one.what]}:{one.name}" for one in parts(way.signed) if one.what in kinds] if way else []
    known = {part for reference in (*source.delivery, *source.time) for part in reference.split("+")}
    return [one for one in found if way and one != way.timestamp and one not in known]


def _is_form(source: Source, sample: Sample) -> bool:
    kind = sample.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == form.TYPE or (not kind and source.reads == "form")


def _changed(source: Source, sample: Sample, references: Sequence[str], change: Change) -> Sample:
    """Change what stands at the first reference that is there; of joined ones what is an id, or the first."""
    for reference in references:
        parts = reference.split("+")
        if None in [_put(source, sample, part, _as_it_is) for part in parts]:
            continue
        chosen = next((part for part in parts if part.lower().endswith("id")), parts[0])
        return _put(source, sample, chosen, change) or sample
    return sample


def _put(source: Source, sample: Sample, reference: str, change: Change) -> Sample | None:
    """Change what stands at one reference; None if nothing does."""
    kind, _, place = reference.partition(":")
    header = place.lower() if kind == "header" else ""
    if source.reads == "cloudevents" and f"ce-{place}" in sample.headers:
        header = f"ce-{place}"  # in binary mode the attributes are headers
    if header:
        if header not in sample.headers:
            return None
        return replace(sample, headers={**sample.headers, header: str(change(sample.headers[header]))})
    if _is_form(source, sample):
        return _in_form(source, sample, place, change)
    body = _in_json(source, sample.body, place, change)
    return None if body is None else replace(sample, body=body)


def _in_form(source: Source, sample: Sample, place: str, change: Change) -> Sample | None:
    fields = parse_qsl(sample.body.decode("utf-8", "replace"), keep_blank_values=True)
    names = [name for name, _ in fields]
    here = source.form_field if source.form_field in names else place
    if here not in names:
        return None
    number = names.index(here)
    value = fields[number][1]
    if here != source.form_field:
        fields[number] = (here, str(change(value)))
    elif inner := _in_json(source, value.encode(), place, change):
        fields[number] = (here, inner.decode())
    else:
        return None
    return replace(sample, body=urlencode(fields).encode())


def _in_json(source: Source, body: bytes, place: str, change: Change) -> bytes | None:
    """Change what stands at a path of a JSON body, or of each of its items, where the source splits it."""
    try:
        data = parse(body)
    except Unparsable:
        return None
    items = _at(data, source.split) if source.split else data
    several = source.split is not None or source.reads == "cloudevents"
    each = items if isinstance(items, list) and several else [data]
    changed = [_replaced(one, place.split("."), change) for one in each]
    if not any(changed):
        return None
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _at(data: Json, path: str) -> Json:
    for step in path.split("."):
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _replaced(data: Json, steps: Sequence[str], change: Change) -> bool:
    """Change a value in place; say if there was one."""
    here: Any = data
    for number, step in enumerate(steps):
        key: Any = int(step) if isinstance(here, list) and step.isdecimal() else step
        try:
            value = here[key]
        except (KeyError, IndexError, TypeError):
            return False
        if number == len(steps) - 1:
            if isinstance(value, dict | list) or value in {None, ""}:
                return False
            here[key] = value if isinstance(value, bool) else change(value)
            return True
        here = value
    return False


def _as_it_is(value: Any) -> Json:
    found: Json = value
    return found


def _another(old: str | float) -> Json:
    """Return another id of the same kind: a UUID, a number of as many digits, or a text with its prefix."""
    if not isinstance(old, str) or (old.isascii() and old.isdigit()):
        digits = len(old if isinstance(old, str) else str(int(old)))
        number = 10 ** (digits - 1) + secrets.randbelow(9 * 10 ** (digits - 1))
        return str(number) if isinstance(old, str) else number
    try:
        uuid.UUID(old)
    except ValueError:
        prefix = _PREFIX.match(old)
        return f"{prefix[0] if prefix else ''}{secrets.token_hex(12)}"
    return str(uuid.uuid4())


def _time(old: str | float, now: Millis) -> Json:
    """Write *now* as *old* was written: ISO 8601, seconds or milliseconds, a number or a text."""
    if isinstance(old, str):
        try:
            return str(_time(float(old) if "." in old else int(old), now))
        except ValueError:
            return rfc3339(now)
    at = now if abs(old) >= SECONDS_BELOW else now // 1000
    return float(at) if isinstance(old, float) else at
