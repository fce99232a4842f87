"""Does a bearer token show who sent this?  A JWT (RFC 7519), signed by somebody whose public keys we hold."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from relay.event import Json, Millis, Trust
from relay.source import Incoming, Way
from relay.verify.proof import Flaw, Flawed, Proof
from relay.verify.shown import Shown, stripped
from relay.verify.spell import read

LEEWAY_MS: Final = 60_000
"""How far the issuer's clock may be from ours."""

WEAKEST: Final = 2048
"""Bits of an RSA key (RFC 7518 3.3)."""

Key: TypeAlias = tuple[str, str | None, Any]
"""With which algorithm, under which kid, and what PyJWT made of it."""

_PART: Final = r"[A-Za-z0-9_-]+"
_TOKEN: Final = re.compile(rf"{_PART}\.{_PART}\.{_PART}")
_ALGORITHMS: Final[Mapping[tuple[str, str], str]] = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256"}
"""A key has one algorithm, said by its own type: never what the token asks for (RFC 8725 3.1)."""

_FLAWS: Final[tuple[tuple[type[Exception], Flaw], ...]] = (
    (jwt.InvalidSignatureError, Flaw.WRONG),
    (jwt.InvalidIssuerError, Flaw.CLAIMS),
    (jwt.InvalidAudienceError, Flaw.CLAIMS),
    (jwt.MissingRequiredClaimError, Flaw.CLAIMS),
)


def by_jwt(way: Way, incoming: Incoming, now: Millis, keys: Mapping[str, bytes]) -> Proof:
    """
    Say whether the token in *way*'s header was issued for us. Never raises.

    *keys* maps ``way.keys`` to the JWKS (RFC 7517) that was found there. Where it has no key for this token,
    the proof ``wants`` that address. A token does not cover the body: the best trust is authenticated.
    """
    try:
        token = stripped(way, Shown(incoming).header(way.header))
    except Flawed as error:
        return Proof(flaw=error.flaw)
    # One spelling of each part only; PyJWT would pass over spare bits.
    if not _TOKEN.fullmatch(token) or None in {read(part, "base64url") for part in token.split(".")}:
        return Proof(flaw=Flaw.MALFORMED)
    try:
        head = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return Proof(flaw=Flaw.MALFORMED)
    if "crit" in head:  # what must be understood, we do not (RFC 7515 4.1.11)
        return Proof(flaw=Flaw.MALFORMED)
    # Before any key is looked for: who does not even claim to be the right one makes us fetch nothing.
    if flaw := _flaw(way, claimed, now):
        return Proof(flaw=flaw)
    if head.get("alg") not in _ALGORITHMS.values():
        return Proof(flaw=Flaw.WRONG)
    known = _keys(keys.get(way.keys, b""))
    fit = [key for alg, kid, key in known if alg == head["alg"] and kid == head.get("kid")]
    if "kid" not in head:
        fit = [key for alg, _, key in known if alg == head["alg"]]
    if len(fit) != 1:
        return Proof(flaw=Flaw.NO_KEY, wants=way.keys)
    try:
        jwt.decode(
            token,
            fit[0],
            algorithms=[head["alg"]],
            audience=way.audience,
            issuer=list(way.issuers),
            options={
                "require": ["exp", "iss", "aud"],
                "verify_exp": False,  # by our clock, above
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        return Proof(flaw=next((flaw for kind, flaw in _FLAWS if isinstance(error, kind)), Flaw.MALFORMED))
    return Proof(trust=Trust.AUTHENTICATED, by=way.keys, signed=incoming.body)


def _flaw(way: Way, claimed: Mapping[str, Any], now: Millis) -> Flaw | None:
    """Say what is wrong with what a token claims, whoever signed it."""
    audience = claimed.get("aud")
    meant = audience if isinstance(audience, list) else [audience]
    if claimed.get("iss") not in way.issuers or way.audience not in meant or not way.audience:
        return Flaw.CLAIMS
    if any(name not in claimed or not _same(claimed[name], said) for name, said in way.claims.items()):
        return Flaw.CLAIMS
    instants = {name: claimed[name] for name in ("exp", "nbf", "iat") if name in claimed}
    if "exp" not in instants or not all(map(_is_instant, instants.values())):
        return Flaw.CLAIMS
    if now >= instants["exp"] * 1000 + LEEWAY_MS:
        return Flaw.OLD
    if any(instants[name] * 1000 > now + LEEWAY_MS for name in ("nbf", "iat") if name in instants):
        return Flaw.EARLY
    return None


def _same(found: Json, said: Json) -> bool:
    """Compare as JSON: true is not 1."""
    try:
        return orjson.dumps(found, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            said, option=orjson.OPT_SORT_KEYS
        )
    except TypeError:  # beyond 64 bits, or a lone surrogate
        return False


def _is_instant(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 1e12


@lru_cache(maxsize=64)
def _keys(jwks: bytes) -> tuple[Key, ...]:
    """Read the keys that can be used to verify; others, and those that can't be read, are passed over."""
    try:
        listed = orjson.loads(jwks)["keys"]
    except (ValueError, KeyError, TypeError):
        return ()
    found: list[Key] = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        curve = one.get("crv") if one.get("kty") == "EC" else ""
        alg = _ALGORITHMS.get((str(one.get("kty")), str(curve)))
        if alg is None or one.get("alg", alg) != alg:
            continue
        try:
            key = jwt.PyJWK(one, alg).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
            continue
        strong = isinstance(key, RSAPublicKey) and key.key_size >= WEAKEST
        if strong or isinstance(key, EllipticCurvePublicKey):  # and no private one
            found.append((alg, one.get("kid"), key))
    return tuple(found)
