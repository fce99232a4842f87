"""What would a sender make whose public keys we know, with a private key of our own?"""

import base64
import datetime as dt
import hashlib
import json
from dataclasses import replace
from typing import Final, TypeAlias

import jwt as pyjwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.body import Unparsable, parse
from relay.clock import rfc3339
from relay.errors import Unfit
from relay.event import Millis
from relay.moment import instant
from relay.source import Incoming, Method, Way
from relay.verify.sns import RETRIED_MS, canonical

Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

HOUR_S: Final = 3600
YEAR: Final = dt.timedelta(days=365)


def fresh(method: Method) -> bytes:
    """Return a new private key for a way of proof whose secrets are public keys, as PEM (PKCS 8)."""
    made: Private
    match method:
        case "ed25519":
            made = ed25519.Ed25519PrivateKey.generate()
        case "ecdsa-p256":
            made = ec.generate_private_key(ec.SECP256R1())
        case _:
            made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private(pem: bytes) -> Private:
    """Read a private key: RSA, ECDSA or ed25519, in PEM without a password. Raises Unfit."""
    try:
        found = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unfit("the key is no private key in PEM without a password") from None
    if not isinstance(found, Private):
        raise Unfit("the private key is of another kind than RSA, ECDSA and ed25519")
    return found


def public(way: Way, key: bytes) -> str:
    """
    Return the public half of a private *key* (PEM) as a secret of *way* spells it.

    Raw for ed25519, else in DER, behind the prefix of such secrets. Raises Unfit.
    """
    half = private(key).public_key()
    raw = isinstance(half, ed25519.Ed25519PublicKey)
    form = PublicFormat.Raw if raw else PublicFormat.SubjectPublicKeyInfo
    found = half.public_bytes(Encoding.Raw if raw else Encoding.DER, form)
    return way.strip_key_prefix + (
        found.hex() if way.key_encoding == "hex" else base64.b64encode(found).decode()
    )


# -- JSON Web Tokens --


def jwt(way: Way, incoming: Incoming, now: Millis, key: bytes) -> Incoming:
    """
    Return *incoming* with a token as the way's first issuer would make it, good for an hour from *now*.

    *key* is the issuer's private key in PEM: RSA, or ECDSA on P-256. Raises Unfit.
    """
    one, (algorithm, shown) = private(key), _jwk(key)
    assert not isinstance(one, ed25519.Ed25519PrivateKey)
    began = now // 1000
    claims = {
        "iss": next(iter(way.issuers), ""),
        "aud": way.audience,
        "iat": began,
        "exp": began + HOUR_S,
        **way.claims,
    }
    token = pyjwt.encode(claims, one, algorithm=algorithm, headers={"kid": shown["kid"]})
    return replace(incoming, headers={**incoming.headers, way.header: (way.prefix + token,)})


def jwks(key: bytes) -> bytes:
    """Return the public half of a private *key* (PEM) as a JWKS (RFC 7517). Raises Unfit."""
    return json.dumps({"keys": [_jwk(key)[1]]}).encode()


def _jwk(key: bytes) -> tuple[str, dict[str, str]]:
    """Return the algorithm of a private key, and its public half; its kid is its thumbprint (RFC 7638)."""
    match private(key).public_key():
        case rsa.RSAPublicKey() as public:
            numbers = public.public_numbers()
            algorithm, size = "RS256", (public.key_size + 7) // 8
            shown = {"e": _number(numbers.e, 3), "kty": "RSA", "n": _number(numbers.n, size)}
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as point:
            at = point.public_numbers()
            algorithm = "ES256"
            shown = {"crv": "P-256", "kty": "EC", "x": _number(at.x, 32), "y": _number(at.y, 32)}
        case _:
            raise Unfit("a token is signed with RSA, or with ECDSA on P-256")
    said = json.dumps(shown, separators=(",", ":"), sort_keys=True).encode()
    kid = _base64url(hashlib.sha256(said).digest())
    return algorithm, {**shown, "kid": kid, "alg": algorithm, "use": "sig"}


def _number(number: int, size: int) -> str:
    return _base64url(number.to_bytes(size, "big"))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# -- Amazon SNS --


def sns(way: Way, incoming: Incoming, now: Millis, key: bytes) -> Incoming:
    """
    Return *incoming* with its message signed as SNS does (SignatureVersion 2), by a private RSA key in PEM.

    A Timestamp that would not be believed any more becomes *now*; a topic that the way does not take becomes
    its first one. Raises Unfit where the body is no message of SNS.
    """
    one = private(key)
    if not isinstance(one, rsa.RSAPrivateKey):
        raise Unfit("SNS signs with RSA")
    try:
        message = parse(incoming.body)
    except Unparsable as error:
        raise Unfit(f"the body is no message of SNS: {error}") from None
    if not isinstance(message, dict):
        raise Unfit("the body is no message of SNS: expected an object")
    at = instant(message.get("Timestamp"))
    if at is None or not now - RETRIED_MS <= at <= now:
        message["Timestamp"] = rfc3339(now)
    if way.topics and message.get("TopicArn") not in way.topics:
        message["TopicArn"] = way.topics[0]
    message["SignatureVersion"] = "2"
    text = canonical(message)
    if text is None:
        raise Unfit("the body is no message of SNS: a field is missing, or no text")
    message["Signature"] = base64.b64encode(one.sign(text, PKCS1v15(), SHA256())).decode()
    body = json.dumps(message, ensure_ascii=False, indent=2).encode()
    return replace(incoming, body=body)


def certificate(key: bytes, now: Millis) -> bytes:
    """Return a certificate (PEM) that a private *key* says for itself, good for a year. Raises Unfit."""
    one = private(key)
    begins = dt.datetime.fromtimestamp(now / 1000, dt.UTC) - dt.timedelta(hours=1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "for trying relay")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(one.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + YEAR)
        .sign(one, None if isinstance(one, ed25519.Ed25519PrivateKey) else SHA256())
    )
    return made.public_bytes(Encoding.PEM)
