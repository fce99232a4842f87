"""Which CloudEvents does a delivery hold?  In each of the three modes of HTTP, as JSON in one form."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

from relay.body import Unparsable, parse
from relay.event import Json

ONE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

REQUIRED: Final = ("id", "source", "specversion", "type")
"""Attributes that every event has (CloudEvents 1.0, 3.1.1), none of them empty."""

_NAME: Final = re.compile(r"ce-([a-z0-9]+)")
_OURS: Final = frozenset({"data", "datacontenttype"})
"""Names that no header may bring: Content-Type says the one, and the body is the other."""

_JSON: Final = re.compile(r"|[^/]+/(?:[^/]+\+)?json")
_TEXT: Final = re.compile(r"text/[^/]+|[^/]+/(?:[^/]+\+)?xml")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


def is_binary(kind: str, headers: Mapping[str, Sequence[str]]) -> bool:
    """Say whether the event's attributes are headers and its data the body; *kind* is its media type."""
    return not kind.startswith("application/cloudevents") and any(map(_NAME.fullmatch, headers))


def structured(kind: str, headers: Mapping[str, Sequence[str]], body: bytes) -> bytes:
    """
    Return an event in binary mode as one in structured mode (HTTP protocol binding 3.1; JSON format 3.1).

    *headers* maps lower-case names to all their values; one that stands twice becomes a list, which no
    attribute may be. Data that is neither JSON nor text in UTF-8 is written as ``data_base64``. Raises
    Unparsable for data that is said to be JSON and can't be read.
    """
    found: dict[str, Json] = {}
    for header, values in headers.items():
        name = _NAME.fullmatch(header)
        if name and name[1] not in _OURS:
            texts: list[Json] = [_decoded(value) for value in values]
            found[name[1]] = texts[0] if len(texts) == 1 else texts
    if given := "".join(headers.get("content-type", ())[:1]).strip():
        found["datacontenttype"] = given
    return orjson.dumps(found | _data(kind, body))


def _data(kind: str, body: bytes) -> dict[str, Json]:
    if not body:
        return {}
    if _JSON.fullmatch(kind):
        return {"data": parse(body)}
    if _TEXT.fullmatch(kind):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(body).decode()}


def _decoded(value: str) -> str:
    """Undo quotes, then one round of percent-encoding (binding 3.1.3.2); what is not UTF-8 stays as it is."""
    quoted = _QUOTED.fullmatch(value)
    text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        return value


def batch(body: bytes) -> list[Json] | None:
    """Return the events of a batch (JSON format 4); None: it is no list, or an empty one."""
    try:
        data = parse(body)
    except Unparsable:
        return None
    return data if isinstance(data, list) and data else None


def flaw_of(data: Json) -> str:
    """Say why *data* is no CloudEvent, or nothing."""
    if not isinstance(data, dict):
        return "not a CloudEvent: expected an object"
    lacks = [name for name in REQUIRED if not (isinstance(data.get(name), str) and data[name])]
    if lacks:
        return f"not a CloudEvent: it lacks {', '.join(lacks)}"
    version = data["specversion"]
    return "" if version == "1.0" else f"not a CloudEvent of version 1.0: specversion is {str(version)[:20]}"
