"""What JSON does a form hold?"""

from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson

from relay.body import Unparsable
from relay.event import Json

TYPE: Final = "application/x-www-form-urlencoded"

MOST_FIELDS: Final = 1_000


def as_json(body: bytes, field: str = "") -> bytes:
    """
    Return a form as JSON: an object of its fields, all texts, one that stands twice as a list of them.

    The JSON text that stands in *field* is returned instead, if the form has one. Raises Unparsable for what
    is not ``name=value&…`` in UTF-8 (WHATWG URL 5.1), or has more than 1,000 fields.
    """
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:  # its message repeats the body
        raise Unparsable(f"not a form of at most {MOST_FIELDS:,} fields: name=value&name=value") from None
    several: dict[str, list[Json]] = {}
    for name, value in pairs:
        several.setdefault(name, []).append(value)
    inner = several.get(field, []) if field else []
    if len(inner) == 1:
        return str(inner[0]).encode()
    return orjson.dumps({name: values if len(values) > 1 else values[0] for name, values in several.items()})


def names_any(body: bytes, names: frozenset[str]) -> bool:
    """Say whether one of *names* stands in a form that can't be read, percent-encoded or not."""
    told = unquote_to_bytes(body)
    return any(name.encode() in told for name in names)
