"""Does a delivery prove who sent it, in one way?  By a signature, a token, a password, or as Twilio does."""

import hashlib
import hmac
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from relay.event import Millis, Trust
from relay.form import MOST_FIELDS
from relay.source import Incoming, Way
from relay.verify.cover import cover, covers, headers
from relay.verify.key import right, text_bytes
from relay.verify.proof import Flaw, Flawed, Proof
from relay.verify.shown import Shown, claims, items, stripped, wire
from relay.verify.spell import read
from relay.verify.stamp import off, stamp

_FIELD: Final = re.compile(rb"((?:[^ %&=]|%[0-9A-F]{2})*)=((?:[^ %&]|%[0-9A-F]{2})*)", re.DOTALL)
"""A field of a form, in one spelling: its name and value are signed, and not how they were escaped."""

_BODY_HASH: Final = re.compile(r"(?:^|&)bodySHA256=([^&]*)")


def by_signature(way: Way, incoming: Incoming, now: Millis) -> Proof:
    """Look for a right signature over what the way says is signed, made about *now*. Raises Flawed."""
    shown = Shown(incoming)
    found = items(
        way,
        stripped(way, shown.member(way.field) if way.place == "body" else shown.header(way.header)),
    )
    claimed = claims(way, found)
    # What is not signed by itself stands in the body, which is not read before it is known to be right.
    first = way.timestamp and covers(way, {"timestamp"})
    sent = stamp(way, shown, found) if first else ""
    signed = cover(way, shown, sent)
    by = right(way, claimed, signed)
    if by is None:
        return Proof(flaw=Flaw.WRONG)
    if way.timestamp and (flaw := off(way, sent or stamp(way, shown, found), now)):
        return Proof(flaw=flaw)
    trust = Trust.VERIFIED if covers(way, {"body"}) else Trust.AUTHENTICATED
    return Proof(trust=trust, by=by, signed=signed, headers=headers(way))


def by_token(way: Way, incoming: Incoming, now: Millis) -> Proof:
    """Look for a right token in a header or in the path. Raises Flawed."""
    del now
    if way.place == "path":
        if not incoming.token:
            raise Flawed(Flaw.MISSING)
        return _known(way, text_bytes(incoming.token), incoming.body)
    return _known(way, wire(stripped(way, Shown(incoming).header(way.header))), incoming.body)


def by_password(way: Way, incoming: Incoming, now: Millis) -> Proof:
    """Look for a right user and password, as RFC 7617 has them. Raises Flawed."""
    del now
    scheme, _, spelt = Shown(incoming).header(way.header).partition(" ")
    raw = read(spelt, "base64")
    if scheme.lower() != "basic" or raw is None:
        raise Flawed(Flaw.MALFORMED)
    return _known(way, raw, incoming.body)


def _known(way: Way, shown: bytes, body: bytes) -> Proof:
    """Compare digests, so that not even the length of a token shows; all secrets, whichever is right."""
    found, by = hashlib.sha256(shown).digest(), None
    for secret in reversed(way.secrets):
        own = hashlib.sha256(text_bytes(secret.reveal())).digest()
        by = secret.origin if hmac.compare_digest(found, own) else by
    if by is None:
        return Proof(flaw=Flaw.WRONG)
    return Proof(trust=Trust.AUTHENTICATED, by=by, signed=body)


def by_twilio(way: Way, incoming: Incoming, now: Millis) -> Proof:
    """
    Look for a right signature as Twilio makes it: HMAC-SHA1 of the address, and of a form's fields.

    A body of another kind is covered by its SHA-256 in the address. Raises Flawed. Source: Twilio's page
    "Webhooks security", and its libraries' RequestValidator.
    """
    del now
    shown = Shown(incoming)
    claimed = read(shown.header(way.header), "base64")
    if claimed is None:
        raise Flawed(Flaw.MALFORMED)
    signed, whole = twilio(way, incoming)
    by = right(way, [claimed], signed)
    if by is None or not whole:
        return Proof(flaw=Flaw.WRONG)
    return Proof(trust=Trust.VERIFIED, by=by, signed=signed)


def twilio(way: Way, incoming: Incoming) -> tuple[bytes, bool]:
    """Return what Twilio signs of *incoming*, and if the body is the one that this covers. Raises Flawed."""
    shown = Shown(incoming)
    url, hashes = shown.url(way), _BODY_HASH.findall(incoming.query)
    if len(hashes) == 1:
        made = hashlib.sha256(incoming.body).hexdigest().encode()
        return url, hmac.compare_digest(made, wire(hashes[0]))
    if hashes or (incoming.body and not shown.is_form()):
        raise Flawed(Flaw.MALFORMED)
    # A set: their libraries take a name that stands twice with the same value once.
    return url + b"".join(name + value for name, value in sorted(set(_fields(incoming.body)))), True


def _fields(body: bytes) -> list[tuple[bytes, bytes]]:
    """
    Read a form strictly, so that two bodies with one signature are one form. Raises Flawed.

    A stranger's body of a megabyte would have half a million fields: more than 1,000 are not taken apart.
    """
    if body.count(b"&") >= MOST_FIELDS:
        raise Flawed(Flaw.MALFORMED)
    found = [_FIELD.fullmatch(one) for one in body.split(b"&")] if body else []
    if not all(found):
        raise Flawed(Flaw.MALFORMED)
    return [(_plain(one[1]), _plain(one[2])) for one in found if one]


def _plain(escaped: bytes) -> bytes:
    return unquote_to_bytes(escaped.replace(b"+", b" "))
