"""What does a delivery say in one place, and in that one only?"""

import re
from typing import Final

from relay.body import Unparsable, parse
from relay.errors import Unfit
from relay.event import Json
from relay.source import Incoming, Way
from relay.template import at
from relay.verify.key import PUBLIC
from relay.verify.proof import Flaw, Flawed
from relay.verify.spell import read

LONGEST: Final = 8 << 10
"""Bytes of a header that has to do with a proof."""

MOST: Final = 16
"""Items of a list of signatures."""

MOST_BY_KEY: Final = 4
"""Signatures that are tried by public keys: each takes as long as the HMAC of a hundred kilobytes."""

_FORM: Final = re.compile(r"\s*application/x-www-form-urlencoded\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)


def wire(text: str) -> bytes:
    """Return the bytes that were sent: a header's or a query's are read as Latin-1. Raises Flawed."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Flawed(Flaw.MALFORMED) from None


class Shown:
    """A delivery, asked for what a proof needs. What is missing or stands twice raises Flawed."""

    __slots__ = ("_data", "incoming")

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self._data: tuple[Json] | None = None

    def header(self, name: str) -> str:
        """Return a header's one value, which is not empty; *name* is in small letters."""
        values = self.incoming.headers.get(name, ())
        if not values or values == ("",):
            raise Flawed(Flaw.MISSING)
        if len(values) > 1:
            raise Flawed(Flaw.DOUBLED)
        if len(values[0]) > LONGEST:
            raise Flawed(Flaw.MALFORMED)
        return values[0]

    def member(self, path: str) -> str:
        """Return the text or whole number at *path* of the body, which is JSON, as text."""
        if self._data is None:
            try:
                self._data = (parse(self.incoming.body),)
            except Unparsable:
                raise Flawed(Flaw.MALFORMED) from None
        try:
            value = at(self._data[0], path)
        except Unfit:
            raise Flawed(Flaw.MISSING) from None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Flawed(Flaw.MALFORMED)
        return str(value)

    def url(self, way: Way) -> bytes:
        """Return the address as its sender knows it, with the query as it came."""
        if not way.public_url:
            raise Flawed(Flaw.WRONG)
        query = wire(self.incoming.query)
        return way.public_url.encode() + (b"?" + query if query else b"")

    def is_form(self) -> bool:
        """Say if the body is a form by its one content type."""
        values = self.incoming.headers.get("content-type", ())
        return len(values) == 1 and _FORM.fullmatch(values[0]) is not None


def stripped(way: Way, text: str) -> str:
    """
    Return *text* without the way's prefix, which must be there. Raises Flawed.

    Prefixes are compared exactly, but for Authorization, whose scheme has no case (RFC 9110 11.1).
    """
    found, rest = text[: len(way.prefix)], text[len(way.prefix) :]
    same = found.lower() == way.prefix.lower() if way.header == "authorization" else found == way.prefix
    if not same:
        raise Flawed(Flaw.MALFORMED)
    return rest


def items(way: Way, text: str) -> list[tuple[str, str]]:
    """Take a list of signatures apart into names and values; a plain one has the name "". Raises Flawed."""
    if way.format == "plain":
        return [("", text)]
    found = text.split(way.item_separator, MOST)
    if len(found) > MOST or not all(way.key_separator in one for one in found):
        raise Flawed(Flaw.MALFORMED)
    pairs = (one.split(way.key_separator, 1) for one in found)
    return [(name, value) for name, value in pairs]


def claims(way: Way, found: list[tuple[str, str]]) -> list[bytes]:
    """Return the signatures among the *found* items; those of other names are skipped. Raises Flawed."""
    wanted = way.field if way.format == "list" else ""
    spelt = [value for name, value in found if name == wanted]
    if not spelt:
        raise Flawed(Flaw.MISSING)
    if way.verify in PUBLIC and len(spelt) > MOST_BY_KEY:
        raise Flawed(Flaw.MALFORMED)
    several = [raw for value in spelt if (raw := read(value, way.encoding)) is not None]
    if not several:
        raise Flawed(Flaw.MALFORMED)
    return several
