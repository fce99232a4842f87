"""Is this a message of one of our SNS topics?  Signed in its body, with a certificate of Amazon's."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from relay.body import Unparsable, parse
from relay.event import CONTROL, Json, Millis, Trust
from relay.moment import instant
from relay.source import Incoming, Way
from relay.verify.proof import Flaw, Proof
from relay.verify.spell import read

RETRIED_MS: Final = 3_600_000
"""
How long SNS may go on trying to deliver one message: an hour at most, with any delivery policy.

A message keeps its Timestamp meanwhile. So a narrower window would lose what comes late; what comes twice is
a duplicate by its MessageId and by its signed bytes.
"""

WEAKEST: Final = 2048
"""Bits of an RSA key."""

CERTIFICATE: Final = re.compile(
    r"https://sns\.[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?(?::443)?"
    r"/SimpleNotificationService-[0-9a-zA-Z]{1,64}\.pem"
)
"""
Where Amazon's certificates are: with a region in the middle, and nothing that a customer of Amazon's names.

``sns.s3-us-west-2.amazonaws.com`` would be somebody's bucket called sns.
"""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
"""What is signed of each type of message, in this order; a message may have no Subject."""

_HASHES: Final[Mapping[str, type[HashAlgorithm]]] = {"1": SHA1, "2": SHA256}
"""By SignatureVersion. Topics made before 2022 still sign with SHA-1."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)


def by_sns(way: Way, incoming: Incoming, now: Millis, keys: Mapping[str, bytes]) -> Proof:
    """
    Say whether *incoming* is a message of one of the way's topics, signed by Amazon. Never raises.

    The format is that of "Verifying the signatures of Amazon SNS messages". *keys* maps an address to the
    certificate (PEM) that was found there: that of ``way.keys`` if the way has one, else of the message's own
    SigningCertURL, which counts only if it is Amazon's. Where it is not there, the proof ``wants`` it. A
    message's MessageAttributes are not signed.
    """
    try:
        message = parse(incoming.body)
    except Unparsable:
        return Proof(flaw=Flaw.MALFORMED)
    if not isinstance(message, dict) or "Signature" not in message:
        return Proof(flaw=Flaw.MISSING)  # a raw delivery, for one, is not signed
    text = canonical(message)
    shown, version = message["Signature"], message.get("SignatureVersion")
    algorithm = _HASHES.get(version) if isinstance(version, str) else None
    signature = read(shown, "base64") if isinstance(shown, str) else None
    if text is None or signature is None or algorithm is None:
        return Proof(flaw=Flaw.MALFORMED)
    if message["TopicArn"] not in way.topics:
        return Proof(flaw=Flaw.CLAIMS)
    at = instant(message["Timestamp"])
    if at is None:
        return Proof(flaw=Flaw.MALFORMED)
    if at < now - RETRIED_MS - way.tolerance_ms:
        return Proof(flaw=Flaw.OLD)
    if at > now + way.tolerance_ms:
        return Proof(flaw=Flaw.EARLY)
    address = way.keys or message.get("SigningCertURL")
    if not way.keys and not (isinstance(address, str) and CERTIFICATE.fullmatch(address)):
        return Proof(flaw=Flaw.NO_KEY)
    where = str(address)
    if where not in keys:
        return Proof(flaw=Flaw.NO_KEY, wants=where)
    key = _key(keys[where], now)
    if key is None:
        return Proof(flaw=Flaw.NO_KEY)
    try:
        key.verify(signature, text, PKCS1v15(), algorithm())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return Proof(flaw=Flaw.WRONG)
    return Proof(trust=Trust.VERIFIED, by=where, signed=text)


def canonical(message: Mapping[str, Json]) -> bytes | None:
    """Return what SNS signs of a message: name and value of each field, a line each; None if it is none."""
    kind = message.get("Type")
    names = FIELDS.get(kind) if isinstance(kind, str) else None
    if names is None:
        return None
    lines = []
    for name in names:
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        # A line end in any other field could be read as the end of it, and as the name of the next.
        if not isinstance(value, str) or (name != "Message" and CONTROL.search(value)):
            return None
        if name == "Timestamp" and not _TIME.fullmatch(value):
            return None
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode()


def _key(pem: bytes, now: Millis) -> RSAPublicKey | None:
    """Return the public key of a certificate that is valid now."""
    found = _certificate(pem)
    if found is None:
        return None
    key, begins, ends = found
    return key if begins <= datetime.fromtimestamp(now / 1000, UTC) <= ends else None


@lru_cache(maxsize=64)
def _certificate(pem: bytes) -> tuple[RSAPublicKey, datetime, datetime] | None:
    try:
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, RSAPublicKey) or key.key_size < WEAKEST:
        return None
    return key, found.not_valid_before_utc, found.not_valid_after_utc
