"""Where do public keys come from that nobody gives us by hand?  Fetched when a delivery needs them."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from relay.errors import Rejected
from relay.event import Millis
from relay.provider import Answer, Reply, Request, Timeouts
from relay.reach import Reach
from relay.source import Source

log = structlog.get_logger()

Send: TypeAlias = Callable[[Request], Awaitable[Answer]]
"""What makes the request: a `relay.send.Sender`."""

LARGEST: Final = 256 << 10
"""Bytes of a JWKS or a certificate."""

MOST: Final = 64
"""Addresses that senders named and whose keys are held."""

MINUTE_MS: Final = 60_000
"""An address is asked once in that time, whatever deliveries name as their key."""

A_MINUTE: Final = 10
"""Fetches in that time for each source, of addresses that its senders name and that never had keys."""

SPENT: Final = f"its senders have named {A_MINUTE} new addresses within a minute"
"""Why another is not asked."""

LEAST_MS: Final = 300_000
MOST_MS: Final = 86_400_000
"""How long keys are believed: as long as Cache-Control says, but not longer or shorter than that."""

USUAL_MS: Final = 3_600_000
"""How long where it says nothing."""

STALE_MS: Final = 3_600_000
"""How much longer where they can't be renewed: a provider's bad hour stops nobody's deliveries."""

FILE_MS: Final = 5_000
"""A file is cheap to read again, and its owner may be waiting for it."""

TIMEOUTS: Final = Timeouts(connect=3.0, write=3.0, read=4.0, total=5.0)
"""The delivery waits meanwhile, and few senders wait for more than ten seconds."""

_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age=\"?(\d{1,9})\"?\s*(?:,|$)", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"\bno-(?:store|cache)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Held:
    raw: bytes
    until: Millis
    last: Millis  #: until when it may be believed if it can't be renewed
    named: bool = False  #: by a sender, and not by the operator


@dataclass(frozen=True, slots=True)
class _Tried:
    at: Millis
    why: str  #: empty: it went well


class Ring:
    """
    Public keys by the address that they come from: ``https://…``, or ``file:/…`` for the operator's own.

    Whatever senders write, each address is asked once a minute, and for each source at most ten that its
    senders name and that never had keys. Those that the operator named are not counted, nor what is held. All
    are public. Lives in one event loop.
    """

    def __init__(
        self, send: Send, *, reach: Reach | None = None, clock: Callable[[], Millis] | None = None
    ) -> None:
        self._send, self._reach, self._clock = send, reach or Reach(), clock or _steady_ms
        self._held: dict[str, _Held] = {}
        self._tried: dict[str, _Tried] = {}
        self._spent: dict[str, list[Millis]] = {}  #: by source, of this minute
        self._said: dict[str, Millis] = {}  #: by source, when the log had it
        self._out: dict[str, asyncio.Task[str]] = {}

    @property
    def keys(self) -> Mapping[str, bytes]:
        """What is held and still believed, for `relay.verify.verify`."""
        now = self._clock()
        return {address: one.raw for address, one in self._held.items() if now < one.until}

    async def fetch(self, address: str, source: Source | None = None) -> bool:
        """
        Fetch the keys of *address*, which a delivery to *source* needs, and say whether `keys` may be new.

        False: those held are of this minute. Who asks while they are on their way waits for the same fetch.
        Raises Rejected (503) where they can't be had: the delivery may be genuine, and its sender should come
        again. Where they were had before, True: they are believed for `STALE_MS` more, a minute each time.
        """
        if address not in self._out:
            now = self._clock()
            self._tried = {each: one for each, one in self._tried.items() if now - one.at < _again_ms(each)}
            if tried := self._tried.get(address):
                if tried.why:
                    raise _later()
                return False
            self._held = {each: one for each, one in self._held.items() if now < one.last}
            named = not address.startswith("file:") and not _is_own(address, source)
            if named and address not in self._held:
                self._spend(address, source.name if source else "", now)
            self._out[address] = asyncio.create_task(self._get(address, now, named=named))
        # One sender that hangs up must not take the others' keys along.
        if await asyncio.shield(self._out[address]):
            raise _later()
        return True

    def _spend(self, address: str, source: str, now: Millis) -> None:
        """Count an address that a sender named; whoever knows a topic can make names up. Raises Rejected."""
        spent = [at for at in self._spent.get(source, ()) if now - at < MINUTE_MS]
        if len(spent) >= A_MINUTE:
            if now - self._said.get(source, now - MINUTE_MS) >= MINUTE_MS:
                self._said[source] = now
                log.warning("keys.not_fetched", address=address, why=SPENT, source=source or None)
            raise _later()
        self._spent[source] = [*spent, now]

    async def _get(self, address: str, now: Millis, *, named: bool) -> str:
        """Take the keys in, or say why not, here and in the log; empty, too, if the old ones are believed."""
        try:
            found = await self._read(address) if address.startswith("file:") else await self._ask(address)
            if isinstance(found, _Held):
                self._tried[address] = _Tried(now, "")
                self._hold(address, replace(found, named=named))
                return ""
            self._tried[address] = _Tried(now, found)
            old = self._held.get(address)
            stale = old is not None and old.until <= now < old.last
            if old is not None and stale:
                self._held[address] = replace(old, until=min(now + MINUTE_MS, old.last))
            log.warning("keys.not_fetched", address=address, why=found, still_believed=stale or None)
            return "" if stale else found
        finally:
            del self._out[address]

    def _hold(self, address: str, found: _Held) -> None:
        """Put keys into the ring; what senders name makes room for nothing but its like."""
        self._held.pop(address, None)
        named = [each for each, one in self._held.items() if one.named]
        if found.named and len(named) >= MOST:
            del self._held[min(named, key=lambda one: self._held[one].until)]
        self._held[address] = found

    async def _read(self, address: str) -> _Held | str:
        path = Path(address.removeprefix("file:"))
        try:
            raw = await asyncio.to_thread(_beginning, path)
        except OSError as error:
            return (error.strerror or "unreadable").lower()
        until = self._clock() + FILE_MS
        return _flaw(raw) or _Held(raw, until, until)

    async def _ask(self, address: str) -> _Held | str:
        if not address.startswith("https://"):
            return "not an https address"
        answer = await self._send(
            Request(method="GET", url=address, headers=(), timeouts=TIMEOUTS, reach=self._reach)
        )
        if not isinstance(answer, Reply):
            return answer.why
        if answer.status != 200:
            return f"answered {answer.status}"
        if not answer.whole and len(answer.body) <= LARGEST:
            return "the answer broke off"
        until = self._clock() + _lasts_ms(answer.headers)
        return _flaw(answer.body) or _Held(answer.body, until, until + STALE_MS)


def _is_own(address: str, source: Source | None) -> bool:
    """Say if the operator named this address, and not a sender."""
    return source is not None and any(way.keys == address for way in source.ways)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _again_ms(address: str) -> Millis:
    return FILE_MS if address.startswith("file:") else MINUTE_MS


def _flaw(raw: bytes) -> str:
    """Say why these bytes can be no keys: a page of a proxy that is in the way, for one."""
    if len(raw) > LARGEST:
        return f"more than {LARGEST} bytes"
    if raw.lstrip()[:1] != b"{" and b"-----BEGIN CERTIFICATE-----" not in raw:
        return "neither a JWKS nor a certificate in PEM"
    return ""


def _lasts_ms(headers: Mapping[str, str]) -> Millis:
    """Say how long an answer may be used (RFC 9111), within our bounds."""
    said = headers.get("cache-control", "")
    if _NO_CACHE.search(said):
        return LEAST_MS
    found = _MAX_AGE.search(said)
    if found is None:
        return USUAL_MS
    age = headers.get("age", "")
    spent = int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0
    return min(max((int(found[1]) - spent) * 1000, LEAST_MS), MOST_MS)


def _later() -> Rejected:
    return Rejected(
        503,
        "Not known yet",
        "the keys that would show who sent this could not be fetched; relay's log says why",
        MINUTE_MS // 1000,
    )


def _steady_ms() -> Millis:
    """Return a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000
