"""What came in."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, TypeAlias, Union

Millis: TypeAlias = int
"""An instant: milliseconds since 1970, UTC. Every engine keeps it as BIGINT."""

Json: TypeAlias = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]
"""What JSON can say."""


def new_id(kind: str, now: Millis) -> str:
    """Return a fresh id such as ``ev_19a8c3f2b1d4e5f6a7b8c9d``: sorted by time, then by 48 bits of luck."""
    return f"{kind}_{now:011x}{secrets.token_hex(6)}"


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Control characters, C0 and C1: no id holds one."""

LONGEST_NAME: Final = 200


def as_name(text: str) -> str:
    """
    Return *text* fit to be a key in a database and a word in a log: no control characters, not too long.

    What has to be changed for that gets a piece of its hash, so that two names never become one.
    """
    clean = CONTROL.sub("\ufffd", text)
    if clean == text and len(text) <= LONGEST_NAME:
        return text
    return f"{clean[: LONGEST_NAME - 40]}…{hashlib.sha256(text.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Around:
    """What a pattern may ask for besides a body."""

    envelope: Mapping[str, Json] = field(default_factory=dict)  #: ``$source``, ``$type``, ``$headers`` …
    now: Millis = 0  #: what times are compared with


class Trust(StrEnum):
    """How far the sender of an event is known."""

    VERIFIED = "verified"  #: a signature over the body was right
    AUTHENTICATED = "authenticated"  #: a shared token was right; the body could be anybody's
    UNATTEMPTED = "unattempted"  #: the operator said that anyone may post here
    FAILED = "failed"  #: it did not show who it is: refused, and never an event


class Decision(StrEnum):
    """What the rules made of an event."""

    MATCHED = "matched"  #: at least one rule met it
    IGNORED = "ignored"  #: a rule says why nothing is to be done
    SUPPRESSED = "suppressed"  #: met, but a throttle, the event's age or the rule's mode says: not now
    UNJUDGED = "unjudged"  #: it is too large or too tangled to tell if some rules meet it; others do not
    NO_RULE = "no_rule"  #: kept, and nothing to do
    UNPARSABLE = "unparsable"  #: kept, but it is not JSON that can be read safely


class Does(StrEnum):
    """What one rule makes of an event that it meets."""

    CALL = "call"  #: a call, or its part in a case that is there
    PERSON = "person"  #: a case for a person
    TELL = "tell"
    RECOVER = "recover"
    IGNORE = "ignore"
    WAIT = "wait"  #: until its throttle's window is over, or what it expects has not come
    SEEN = "seen"  #: what it expected came
    THROTTLED = "throttled"
    OLD = "old"  #: older than its max_age
    UNJUDGED = "unjudged"  #: it could not be told whether the event meets it
    SHADOW = "shadow"  #: nothing: this is what it would have done


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One rule's part in what became of an event; it is stored with the event."""

    rule: str
    does: Does
    what: str = ""  #: ``provider.action``, or the channel that is told
    key: str = ""  #: of the resource, or of the window
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One delivery, as it came; *data* is the body read as JSON, or None with the *flaw* that forbade it."""

    id: str
    source: str
    type: str | None  #: where the source says it: Flatfile's ``topic``
    delivery: str | None  #: the sender's own id of this delivery
    digest: str  #: SHA-256 of the signed bytes, hex
    received_at: Millis
    happened_at: Millis | None = None  #: where the source says it
    resource: str | None = None  #: what it is about, where the source says it
    tells: Literal["failed", "recovered", ""] = ""  #: what it says of it, as its source reads it
    verified: Trust
    headers: Mapping[str, str] = field(default_factory=dict)  #: those worth keeping, lower case
    body: bytes  #: the raw bytes, less what the source redacts
    data: Json = None
    flaw: str = ""
