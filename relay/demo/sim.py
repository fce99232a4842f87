"""
How does a provider behave that we cannot call from here?

What the four simulators share: serving on loopback, remembering every request, and misbehaving on demand.
"""

import asyncio
import heapq
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from typing import Any, ClassVar, Final, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.event import Json

Status: TypeAlias = str | int
"""A provider's own word for a state, or one of the common ones: failed, running, recovered."""

Work: TypeAlias = Callable[[Request], Awaitable[Response]]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
KEPT_BYTES: Final = 1 << 16
"""So much of a request's body stays in memory once it is answered."""

TICK_S: Final = 0.02

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing then sends RST, not FIN."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request as it arrived; *status* stays None when it was never answered."""

    method: str
    path: str  #: as sent, still percent-encoded
    query: Mapping[str, str]
    headers: Mapping[str, str]  #: names in lower case
    body: bytes = b""  #: at most KEPT_BYTES of it
    body_bytes: int = 0  #: how long it was; 0 if the client left before its end
    at: float  #: seconds since 1970, by the simulator's clock
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One misbehaviour: answer *status*, *headers* and *body* instead of the provider's own answer.

    *after*: do the work first. *hang*: do the work and never answer. *reset*: break the connection.
    """

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes = b""
    after: bool = False
    hang: bool = False
    reset: bool = False


@dataclass(slots=True, kw_only=True)
class Resource:
    """Something that can fail at a provider: a file, a job, a task, a package's version."""

    key: str
    status: Status  #: what it is, or will be at *busy_until*
    outcomes: list[Status]  #: where the next retries lead, in order; when none is left: recovered
    facts: dict[str, Json]  #: what else the provider says of it
    born_at: float  #: when it was put in
    began_at: float  #: when it was put in, or last sent on its way
    busy_until: float = 0.0  #: in flight before this instant
    runs: int = 0  #: how often it was sent on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One route: what it does, and whose faults it takes."""

    method: str
    path: str
    work: Work
    faults: deque[Fault] = field(default_factory=deque)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a window said to one call."""

    refused: bool
    left: int
    wait_s: float  #: until the window, or the block, is over


class Window:
    """
    At most *points* calls in *per_s* seconds from the first; all others are refused.

    With *block_s*, the first refusal ends the window, and a new one starts so many seconds later.
    """

    def __init__(self, points: int, per_s: float, block_s: float = 0.0) -> None:
        self.points, self.per_s, self.block_s = points, per_s, block_s
        self._taken, self._ends_at = 0, 0.0

    def take(self, now: float) -> Turn:
        """Count one call at *now*, in seconds, and say what became of it."""
        if now >= self._ends_at:
            self._taken, self._ends_at = 0, now + self.per_s
        self._taken += 1
        if self.block_s and self._taken == self.points + 1:
            self._ends_at = now + self.block_s
        left = self.points - self._taken
        return Turn(refused=left < 0, left=max(0, left), wait_s=self._ends_at - now)


class Simulator:
    """A provider on loopback: what it holds, what it was asked, and how it shall misbehave."""

    name: ClassVar[str]
    words: ClassVar[Mapping[Status, Status]]  #: the common words → the provider's own

    def __init__(self, *, heals_after_s: float = 0.5, clock: Callable[[], float] = time.time) -> None:
        self.heals_after_s = heals_after_s  #: how long an accepted retry is in flight
        self.clock = clock
        self.held: dict[str, Resource] = {}
        self.calls: list[Seen] = []
        self.retries: Counter[str] = Counter()  #: by key: how often the work of a retry was done
        self.lineage: dict[str, str] = {}  #: an id that a retry made → the first id of its line
        self.rounds: Counter[str] = Counter()  #: by the first id of a line: how often it was retried in all
        self.on_change: Callable[[str, Status], None] | None = None
        """Is told, in the simulator's thread, of each resource that has come to its outcome after a retry."""
        self.mishaps: list[Exception] = []  #: what *on_change* raised; *stop* raises it again
        self.faults: deque[Fault] = deque()  #: each is taken by one retry call
        self.read_faults: deque[Fault] = deque()  #: each is taken by one read of a resource's state
        self.list_faults: deque[Fault] = deque()  #: each is taken by one read of a list
        self._coming: list[tuple[float, int, int, Resource]] = []  #: a heap: when, in which order, which run
        self._order = count()
        self.app: Starlette
        self._running: tuple[_Server, threading.Thread] | None = None

    # -- what it holds --

    def add(
        self, key: str, *, status: Status = "failed", outcomes: Iterable[Status] = (), **facts: Json
    ) -> Resource:
        """Put a resource in; its retries will lead to *outcomes* one by one, and then to recovered."""
        now = self.clock()
        self.held[key] = Resource(
            key=key, status=status, outcomes=list(outcomes), facts=facts, born_at=now, began_at=now
        )
        return self.held[key]

    def state(self, key: str) -> Status:
        """Return the state of a resource now, in the provider's own word."""
        resource = self.held[key]
        status = "running" if self.clock() < resource.busy_until else resource.status
        return self.words.get(status, status)

    def changed_at(self, key: str) -> float:
        """Return when a resource last changed: put in, sent on its way, or come to its outcome."""
        resource = self.held[key]
        ended = resource.began_at <= resource.busy_until <= self.clock()
        return resource.busy_until if ended else resource.began_at

    def tally(self, key: str) -> None:
        """Count one retry of a resource."""
        self.retries[key] += 1
        self.rounds[self.lineage.get(key, key)] += 1

    def accept(self, resource: Resource) -> Resource:
        """Do the work of a retry, count it, and return what runs now."""
        self.tally(resource.key)
        self.run(resource)
        return resource

    def run(self, resource: Resource) -> None:
        """Send a resource on its way: in flight now, at its next outcome after *heals_after_s*."""
        now = self.clock()
        resource.busy_until = now + self.heals_after_s  # first: others read while we write
        resource.status = resource.outcomes.pop(0) if resource.outcomes else "recovered"
        resource.began_at = now
        resource.runs += 1
        heapq.heappush(self._coming, (resource.busy_until, next(self._order), resource.runs, resource))

    def tick(self) -> None:
        """Tell *on_change* of each run that has come to its outcome by now, once; a server does it often."""
        while self._coming and self._coming[0][0] <= self.clock():
            _, _, run, resource = heapq.heappop(self._coming)
            # A resource that was sent on its way again before its time has never come to that outcome.
            if self.on_change is None or resource.runs != run or self.held.get(resource.key) is not resource:
                continue
            try:
                self.on_change(resource.key, resource.status)
            except Exception as mishap:  # noqa: BLE001  whatever it is, it is not the provider's
                self.mishaps.append(mishap)

    # -- how it answers --

    def open(self, *doors: Door) -> None:
        """Make the app of these routes; any other path is a 404 that is remembered, too."""
        nowhere = [Door(method=method, path="/{rest:path}", work=missing) for method in METHODS]
        routes = [Route(d.path, self._endpoint(d), methods=[d.method]) for d in (*doors, *nowhere)]
        self.app = Starlette(routes=routes)

    def _endpoint(self, door: Door) -> Work:
        async def endpoint(request: Request) -> Response:
            seen = Seen(
                method=request.method,
                path=request.scope["raw_path"].decode("ascii"),
                query=dict(request.query_params),
                headers=dict(request.headers),
                at=self.clock(),
            )
            try:
                body = await request.body()
            except ClientDisconnect:
                self.calls.append(seen)
                return Response()  # nobody is there to read it
            seen.body, seen.body_bytes = body[:KEPT_BYTES], len(body)
            self.calls.append(seen)
            answer = await self._answer(door, request)
            if answer is None:
                return Response()  # goes nowhere: the connection is gone
            seen.status = answer.status_code
            return answer

        return endpoint

    async def _answer(self, door: Door, request: Request) -> Response | None:
        fault = door.faults.popleft() if door.faults else None
        if fault is None:
            return await door.work(request)
        if fault.after or fault.hang:
            await door.work(request)
        if fault.reset:
            transport = request.state.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.abort()
        if fault.reset or fault.hang:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return None
        return Response(fault.body, fault.status, fault.headers)

    # -- how it is served --

    def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 in a thread of our own and return the URL; 0 takes any free port."""
        assert self._running is None, f"the simulator of {self.name} is running"
        listener = socket.create_server(("127.0.0.1", port))
        # asyncio sets this only on sockets that name their protocol; without it each answer waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            self.app,
            http=_Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            log_config=None,
            log_level=None,
            access_log=False,
        )
        server = _Server(config, self.tick)
        thread = threading.Thread(
            target=server.run, args=([listener],), name=f"{self.name} simulator", daemon=True
        )
        self._running = server, thread
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def stop(self) -> None:
        """
        Break all connections and close the port; what it holds stays, and it may start again.

        Raises what *on_change* raised, if it did.
        """
        if self._running is None:
            return
        server, thread = self._running
        self._running = None
        server.should_exit = True
        thread.join()
        if self.mishaps:
            raise self.mishaps.pop(0)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """Run between *start* and *stop*."""
        try:
            yield self.start(port)
        finally:
            self.stop()


class _Protocol(HttpToolsProtocol):
    """Uvicorn's own, which also hands the connection to the app, so that a fault can break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class _Server(uvicorn.Server):
    """Uvicorn's own, which stops at once and does not wait for requests that hang on purpose."""

    def __init__(self, config: uvicorn.Config, tick: Callable[[], None]) -> None:
        super().__init__(config)
        self.tick = tick

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # uvicorn is stopped by a flag
            self.tick()
            await asyncio.sleep(TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        for server in self.servers:
            server.close()
        await asyncio.sleep(TICK_S)  # who was just accepted becomes a connection that can be broken
        while self.server_state.connections or self.server_state.tasks:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(TICK_S)


async def missing(_request: Request) -> Response:
    """Answer that there is no such path."""
    return PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)


def answer_json(data: Json | Mapping[str, Any], status: int = HTTPStatus.OK) -> Response:
    """Answer *data* as JSON, in UTF-8."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


async def read_json(request: Request) -> dict[str, Any]:
    """Read the request's body as a JSON object; empty if it is anything else."""
    try:
        data = json.loads(await request.body())
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def number(text: str, most: int) -> int:
    """Read a whole number from 1 to *most*; 0 if *text* is anything else."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) and int(text) <= most else 0


def stamp(at: float) -> str:
    """Write an instant, in seconds since 1970, as ISO date and time in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
