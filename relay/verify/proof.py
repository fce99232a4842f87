"""What does a delivery show of its sender?"""

from dataclasses import dataclass
from enum import StrEnum

from relay.event import Trust


class Flaw(StrEnum):
    """Why a sender is not who the source expects; for our log, never for the sender."""

    # The most telling one comes first: of several ways, its flaw is told.
    NO_KEY = "unknown_key"
    OLD = "timestamp_too_old"
    EARLY = "timestamp_in_future"
    WRONG = "wrong_secret"
    CLAIMS = "wrong_claims"  #: a token, rightly signed or not, for another or by another
    TOPIC = "unknown_topic"
    MALFORMED = "malformed_header"
    DOUBLED = "doubled_header"
    MISSING = "missing_header"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a delivery shows of its sender."""

    trust: Trust = Trust.FAILED
    flaw: Flaw | None = None  #: of one that failed
    by: str = ""  #: where the secret is from that was right: ``env:HOOK_NEW``
    signed: bytes = b""  #: what the signature covers; of a token, the body
    headers: frozenset[str] = frozenset()  #: which headers are signed, too; in small letters
    wants: str = ""  #: the address of public keys that would be needed to tell; fetch them, and ask again


class Flawed(Exception):
    """A delivery can't be a proof; raised and caught inside `relay.verify`, which itself never raises."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw = flaw
        super().__init__(flaw.value)
