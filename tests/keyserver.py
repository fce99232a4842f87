"""A server of keys over HTTPS, and a ring that asks it, for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from wires import HERE, Peer, Server, Trust, serving

from relay import mint
from relay.errors import Rejected
from relay.reach import Reach
from relay.ring import Ring
from relay.send import Sender
from relay.source import Source
from relay.wire import AiohttpTransport

TRUST = Trust()
KEY = mint.fresh("jwt")
JWKS = mint.jwks(KEY)


class Everything(AbstractResolver):
    """A name server that knows one host for every name."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Answer with this machine."""
        return await ThreadedResolver().resolve("127.0.0.1", port, family)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class World:
    """A server of keys, a ring that asks it, and a clock that stands still."""

    ring: Ring
    server: Server
    now: int = 1_000_000_000
    answer: bytes = JWKS
    status: str = "200 OK"
    headers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event | None = None

    def at(self, path: str = "/certs", host: str = "keys.example") -> str:
        """Return an address of the server."""
        return f"https://{host}:{self.server.port}{path}"

    async def says(self, peer: Peer) -> None:
        """Answer each request."""
        while True:
            self.asked.append((await peer.request()).split(b" ")[1].decode())
            self.arrived.set()
            if self.held:
                await self.held.wait()
            head = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(self.answer)}", *self.headers]
            await peer.say("\r\n".join([*head, "", ""]).encode() + self.answer)


@asynccontextmanager
async def world(reach: Reach = HERE) -> AsyncIterator[World]:
    """Set it up, and take it down."""
    found: list[World] = []

    async def script(peer: Peer) -> None:
        await found[0].says(peer)

    async with serving(script, TRUST.server("keys.example")) as server:
        sender = Sender(AiohttpTransport(tls=TRUST.client(), resolver=Everything()))
        ring = Ring(sender, reach=reach, clock=lambda: found[0].now)
        found.append(World(ring, server))
        try:
            yield found[0]
        finally:
            await sender.close()


async def refused(on: World, address: str, by: Source | None = None) -> str:
    """Ask for keys that can't be had; return why not, as the log has it."""
    with structlog.testing.capture_logs() as logs, pytest.raises(Rejected) as caught:
        await on.ring.fetch(address, by)
    assert 503 == caught.value.status
    return str(logs[0]["why"]) if logs else ""
