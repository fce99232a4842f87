"""Who sent this? A signature over the raw bytes, or a shared token."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from relay.event import Trust
from relay.rule import Source

_DUMMY: Final = b"a key for sources that have none, so that an unknown source costs the same work"


class Flaw(StrEnum):
    """Why a sender is not who the source expects; for our log, never for the sender."""

    MISSING = "missing_header"
    DOUBLED = "doubled_header"
    MALFORMED = "malformed_header"
    WRONG = "wrong_secret"


def verify(source: Source, headers: Mapping[str, Iterable[str]], body: bytes, token: str) -> Trust | Flaw:
    """
    Say how far the sender of *body* is known, or what is wrong. Never raises.

    *headers* maps lower-case names to all their values; *token* is what stood in the path.
    Every secret is tried and compared in constant time, so that the time taken tells nothing.
    """
    if source.verify == "none":
        return Trust.UNATTEMPTED
    if source.place == "path":
        shown = token
    else:
        values = list(headers.get(source.header, ()))
        if not values:
            return Flaw.MISSING
        if len(values) > 1:
            return Flaw.DOUBLED
        shown = values[0]
    if not shown:
        return Flaw.MISSING
    if not _has_prefix(source, shown):
        return Flaw.MALFORMED
    shown = shown[len(source.prefix) :]
    if source.verify == "token":
        return Trust.AUTHENTICATED if _token_is_ours(source, shown) else Flaw.WRONG
    claimed = _decode(shown, source.encoding)
    if claimed is None:
        return Flaw.MALFORMED
    return Trust.VERIFIED if _signed_by_us(source, claimed, body) else Flaw.WRONG


def sign(source: Source, body: bytes) -> tuple[dict[str, str], str]:
    """Return the headers and the path's token with which *source* takes *body*: `relay send` and tests."""
    if source.verify == "none":
        return {}, ""
    secret = source.secrets[0].reveal()
    if source.verify == "token":
        return ({}, secret) if source.place == "path" else ({source.header: source.prefix + secret}, "")
    digest = hmac.digest(secret.encode(), body, source.algorithm)
    text = digest.hex() if source.encoding == "hex" else base64.b64encode(digest).decode()
    return {source.header: source.prefix + text}, ""


def waste(body: bytes) -> None:
    """Do the work of one verification, so that an unknown source answers no faster than a known one."""
    hmac.compare_digest(hmac.digest(_DUMMY, body, "sha256"), bytes(32))


def _has_prefix(source: Source, shown: str) -> bool:
    """Compare prefixes exactly, but for Authorization, whose scheme has no case (RFC 9110 11.1)."""
    found = shown[: len(source.prefix)]
    if source.header == "authorization":
        return found.lower() == source.prefix.lower()
    return found == source.prefix


def _token_is_ours(source: Source, shown: str) -> bool:
    """Compare digests, so that not even the length of a token shows."""
    found = hashlib.sha256(shown.encode("utf-8", "surrogatepass")).digest()
    hits = [
        hmac.compare_digest(found, hashlib.sha256(secret.reveal().encode()).digest())
        for secret in source.secrets
    ]
    return any(hits)


def _signed_by_us(source: Source, claimed: bytes, body: bytes) -> bool:
    hits = [
        hmac.compare_digest(claimed, hmac.digest(secret.reveal().encode(), body, source.algorithm))
        for secret in source.secrets
    ]
    return any(hits)


def _decode(text: str, encoding: str) -> bytes | None:
    """Read a signature in its one canonical spelling; base64's spare bits could spell it several ways."""
    try:
        if encoding == "hex":
            raw = binascii.unhexlify(text)
            return raw if raw.hex() == text.lower() else None
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
