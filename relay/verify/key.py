"""Which key does a secret spell, and is a signature right by it?"""

import base64
import binascii
import hmac
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from relay.source import Way

PUBLIC: Final = frozenset({"ed25519", "ecdsa-p256"})
"""Ways whose secrets are public keys: whoever has them can verify, and not sign."""

_PRIME: Final = 2**255 - 19
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""
The y of the points of Ed25519 whose order is 8 or less, whatever the sign of their x.

By such a key, signatures that anybody can make are right for many messages or for all (RFC 8032 8.5; the
encodings are those that libsodium refuses).
"""

_PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey


class Unreadable(ValueError):
    """A secret spells no key; the message says why, and nothing of the secret."""


def text_bytes(text: str) -> bytes:
    """Return *text* as UTF-8; never raises, whatever an environment holds."""
    return text.encode("utf-8", "surrogatepass")


def key(way: Way, secret: str) -> bytes:
    """
    Return the key of *secret*: without its prefix, decoded as the way says.

    A public key is checked, too: 32 bytes for Ed25519 (RFC 8032), and no point of small order; a P-256 key in
    DER for ECDSA (RFC 5280 4.1.2.7). Raises Unreadable.
    """
    spelt = secret.removeprefix(way.strip_key_prefix)
    match way.key_encoding:
        case "utf8":
            raw = text_bytes(spelt)
        case "hex":
            raw = _decoded(spelt, "hex")
        case "base64":
            raw = _decoded(spelt, "base64")
    if not raw:
        raise Unreadable("empty")
    if way.verify in PUBLIC:
        _public(way.verify, raw)
    return raw


def _decoded(text: str, name: str) -> bytes:
    try:
        return binascii.unhexlify(text) if name == "hex" else base64.b64decode(text, validate=True)
    except ValueError:
        raise Unreadable(f"not {name}") from None


@lru_cache(maxsize=64)
def _public(kind: str, raw: bytes) -> _PublicKey:
    """Return a public key. Raises Unreadable."""
    if kind == "ed25519":
        if len(raw) != 32:
            raise Unreadable(f"{len(raw)} bytes, and a public key of Ed25519 has 32")
        # One that is not reduced (p, p + 1) is the same point.
        if (int.from_bytes(raw, "little") & (1 << 255) - 1) % _PRIME in _SMALL:
            raise Unreadable("a point of small order, by which anyone could sign")
        return Ed25519PublicKey.from_public_bytes(raw)
    try:
        found = load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise Unreadable("no public key in DER") from None
    if not isinstance(found, EllipticCurvePublicKey) or not isinstance(found.curve, SECP256R1):
        raise Unreadable("a key of another kind than P-256")
    return found


def right(way: Way, claims: list[bytes], signed: bytes) -> str | None:
    """
    Return the origin of the secret by which one of *claims* is the signature of *signed*; None if none is.

    All are tried against each other, whatever is found on the way, so that the time taken tells nothing.
    """
    found = None
    for secret in reversed(way.secrets):
        try:
            own = key(way, secret.reveal())
        except Unreadable:
            continue
        by = _by_public_key if way.verify in PUBLIC else _by_hmac
        if any(by(way, own, claims, signed)):
            found = secret.origin
    return found


def mac(way: Way, own: bytes, signed: bytes) -> bytes:
    """Return the HMAC (RFC 2104) of *signed* by the key *own*; Twilio's is always with SHA-1."""
    return hmac.digest(own, signed, "sha1" if way.verify == "twilio" else way.algorithm)


def _by_hmac(way: Way, own: bytes, claims: list[bytes], signed: bytes) -> list[bool]:
    made = mac(way, own, signed)
    return [hmac.compare_digest(made, claim) for claim in claims]


def _by_public_key(way: Way, own: bytes, claims: list[bytes], signed: bytes) -> list[bool]:
    public = _public(way.verify, own)
    return [_holds(public, claim, signed) for claim in claims]


def _holds(public: _PublicKey, claim: bytes, signed: bytes) -> bool:
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(claim, signed)
        else:
            public.verify(claim, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
