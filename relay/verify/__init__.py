"""Who sent this?  A signature over the raw bytes, a token, a password, or one whose keys are fetched."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from relay.event import Millis, Trust
from relay.secret import Secret
from relay.source import Incoming, Method, Source, Way
from relay.verify.cover import covers
from relay.verify.jwt import by_jwt
from relay.verify.proof import Flaw, Flawed, Proof
from relay.verify.sns import by_sns
from relay.verify.ways import by_password, by_signature, by_token, by_twilio

__all__ = ["SIGNATURES", "Flaw", "Proof", "best", "verify", "waste"]

_DUMMY: Final = b"a key where there is none, so that whatever is wrong costs a digest of the body"
_NOBODY: Final = Source(
    name="nobody", ways=(Way(verify="hmac", header="x", secrets=(Secret(_DUMMY.decode(), "nowhere"),)),)
)
_SHOWN: Final[Mapping[str, tuple[str, ...]]] = {"x": ("0" * 64,)}

_Local: TypeAlias = Callable[[Way, Incoming, Millis], Proof]
_Fetched: TypeAlias = Callable[[Way, Incoming, Millis, Mapping[str, bytes]], Proof]

SIGNATURES: Final[frozenset[Method]] = frozenset({"hmac", "ed25519", "ecdsa-p256"})
"""Ways that sign what the file says."""

_LOCAL: Final[Mapping[Method, _Local]] = {
    **dict.fromkeys(SIGNATURES, by_signature),
    "token": by_token,
    "basic": by_password,
    "twilio": by_twilio,
}
_FETCHED: Final[Mapping[Method, _Fetched]] = {"jwt": by_jwt, "sns": by_sns}
"""Ways whose public keys are not in the operator's hands."""

_TELLING: Final[Sequence[Flaw | None]] = [*Flaw, None]


def verify(source: Source, incoming: Incoming, now: Millis, keys: Mapping[str, bytes] | None = None) -> Proof:
    """
    Say how far the sender of *incoming* is known at *now*, or what is wrong. Never raises.

    Every way and every secret is tried and compared in constant time, so that the time taken tells nothing.
    The best proof counts; if there is none, the flaw of the way that came closest. *keys* are public keys by
    the address that they were fetched from.
    """
    if source.open:
        return Proof(trust=Trust.UNATTEMPTED, signed=incoming.body)
    proofs = [_by(way, incoming, now, keys or {}) for way in source.ways]
    for trust in (Trust.VERIFIED, Trust.AUTHENTICATED):
        for proof in proofs:
            if proof.trust is trust:
                return proof
    if not any(map(_worked, source.ways, proofs)):
        hmac.digest(_DUMMY, incoming.body, "sha256")
    return min(proofs, key=lambda proof: _TELLING.index(proof.flaw), default=Proof(flaw=Flaw.WRONG))


def best(source: Source) -> Trust:
    """Return how far a sender is known at best that has shown who it is."""
    if source.open or not source.ways:
        return Trust.UNATTEMPTED
    covered = any(
        way.verify in {"sns", "twilio"} or (way.verify in SIGNATURES and covers(way, {"body"}))
        for way in source.ways
    )
    return Trust.VERIFIED if covered else Trust.AUTHENTICATED


def waste(body: bytes) -> None:
    """Verify *body* against nobody, so that an unknown source answers no faster than a bad signature."""
    verify(_NOBODY, Incoming(headers=_SHOWN, body=body), 0)


def _worked(way: Way, proof: Proof) -> bool:
    """Say if the body was digested before the delivery was refused."""
    return way.verify in {*SIGNATURES, "twilio"} and proof.flaw in {Flaw.WRONG, Flaw.OLD, Flaw.EARLY}


def _by(way: Way, incoming: Incoming, now: Millis, keys: Mapping[str, bytes]) -> Proof:
    try:
        if way.verify in _FETCHED:
            return _FETCHED[way.verify](way, incoming, now, keys)
        return _LOCAL[way.verify](way, incoming, now)
    except Flawed as found:
        return Proof(flaw=found.flaw)
