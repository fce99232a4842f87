"""What JSON stands inside the texts of a body?"""

import base64
import binascii
from collections.abc import Iterable
from typing import Final

import orjson

from relay.body import Unparsable, parse
from relay.event import Json

BASE64: Final = "base64:"


def opened(body: bytes, places: Iterable[str]) -> bytes:
    """
    Return JSON *body* with the objects and lists at *places* that stood there as texts.

    A place is a dotted path, ``Message``, or one to base64, ``base64:message.data``. What is no such text
    stays as it is, and so does a body that can't be read: a body that was opened before is the same again.
    """
    try:
        data = parse(body)
    except Unparsable:
        return body
    found = [_open(data, place) for place in places]
    return orjson.dumps(data) if any(found) else body


def _open(data: Json, place: str) -> bool:
    """Open the text at *place*, and say if there was one to open."""
    *way, last = place.removeprefix(BASE64).split(".")
    here = data
    for step in way:
        here = here.get(step) if isinstance(here, dict) else None
    if not isinstance(here, dict) or not isinstance(text := here.get(last), str):
        return False
    try:
        raw = base64.b64decode(text, validate=True) if place.startswith(BASE64) else text.encode()
        inner = parse(raw)
    except (binascii.Error, ValueError):
        return False
    if not isinstance(inner, dict | list):
        return False
    here[last] = inner
    return True
