"""
A retry was sent and no answer came: what then?  At each provider, in each way, whatever the provider did.

All of it is played once, in four relays side by side; the tests then look at one cell of the table each.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from story import Story, story, until

from relay.case import ENDS, Stand
from relay.demo import xpkg
from relay.demo.sim import RESET, Simulator, Window

PROVIDERS = ("writer", "flatfile", "docflow", "xpkg")
MARKED = frozenset({"flatfile", "xpkg"})
"""Those whose check can tell a new failure from the old one."""

ONE_AT_A_TIME = frozenset({"docflow", "xpkg"})
"""Those that refuse a retry while one is under way."""

PATIENCE_S = 40.0
IN_FLIGHT_S = 6.0
SOON_S = 0.5
SHOWS_AFTER_S = 1.5
BLIND_LOOKS = 2
TERMS = 'budget = { retries = 3, within = "24h", wait = ["0s", "100ms"] }'
HASTY = {
    "timeouts": {"read": 0.5},
    "limit": {"rate": "1000/s", "burst": 100, "concurrency": 20},
    "action": {"retry": {"check": {"wait": ["200ms"]}}},
    "storm": {"cases": 0},
}
UNHURRIED = HASTY | {"timeouts": {"read": 20}}


class Fate(StrEnum):
    """Why there is no answer."""

    CRASH = "relay is killed"
    TIMEOUT = "no answer in time"
    ERROR = "500"
    RESET = "the connection breaks"


class World(StrEnum):
    """What the provider did with the retry, and what can be seen of it."""

    EXECUTED = "executed"
    FAILED_AGAIN = "executed, and failed again"
    SHOWS_LATER = "executed, and for a moment still failed"
    IN_FLIGHT = "in flight"
    NOT_EXECUTED = "not executed"
    LATE = "executed when relay had already looked"
    BLURRED = "executed, and the check fails for a while"
    BLIND = "executed, and the check can't be read for ever"


GROUPS = (
    (World.EXECUTED, World.FAILED_AGAIN, World.IN_FLIGHT),
    (World.NOT_EXECUTED, World.LATE, World.SHOWS_LATER),
    (World.BLURRED, World.BLIND),
)
"""So many at once that a provider does not seem to be down: that takes five failures in a row."""


@dataclass(slots=True, kw_only=True)
class Cell:
    """One resource, and what happens to its first retry."""

    provider: str
    fate: Fate
    world: World
    name: str  #: what stands in every request about it, and in no other
    key: str  #: of its case, and at the simulator
    event: dict[str, Any]
    posts: int = 0
    blurred: int = 0
    waits: list[tuple[Scope, bytes]] = field(default_factory=list)  #: a request that will be executed late
    # -- what came of it --
    taken: int = 0  #: the status of relay's answer to the event
    done: int = 0  #: how often the provider did the work
    stands: Stand | None = None
    why: str = ""
    retries: int = 0
    tries: list[str] = field(default_factory=list)


class Gremlin:
    """What stands between relay and a provider: it does to each first retry what its cell says."""

    def __init__(self, app: ASGIApp, sim: Simulator, cells: Sequence[Cell], told: Event) -> None:
        self.app, self.sim, self.cells, self.told = app, sim, cells, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the cell that a request is about."""
        body = await whole(receive)
        asked = scope["path"].encode() + b"?" + scope["query_string"] + body
        cell = next(cell for cell in self.cells if cell.name.encode() in asked)
        if scope["method"] == "GET":
            await self.look(cell, scope, body, send)
            return
        cell.posts += 1
        if cell.posts == 1:
            await self.first(cell, scope, body, receive, send)
            return
        await self.work(scope, body, send)
        while cell.waits:
            self.keep_busy(cell, SOON_S)
            await self.work(*cell.waits.pop(), nowhere)

    async def work(self, scope: Scope, body: bytes, send: Send) -> None:
        """Let the provider do it."""
        await self.app(scope, partial(once, body), send)

    async def first(self, cell: Cell, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Do the work or don't, and don't let relay know."""
        match cell.world:
            case World.NOT_EXECUTED:
                pass
            case World.LATE:
                cell.waits.append((scope, body))
            case _:
                await self.work(scope, body, nowhere)
        resource = self.sim.held[cell.key]
        if cell.world is World.IN_FLIGHT:
            self.keep_busy(cell, IN_FLIGHT_S)
        elif cell.world is World.SHOWS_LATER:
            asyncio.get_running_loop().call_later(SHOWS_AFTER_S, setattr, resource, "status", resource.status)
            resource.status = "failed"
        match cell.fate:
            case Fate.ERROR:
                await Response("Internal Server Error", 500)(scope, receive, send)
                return
            case Fate.RESET:
                transport = scope["state"]["transport"]
                transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
                transport.abort()
            case Fate.CRASH | Fate.TIMEOUT:
                pass
        while (await receive())["type"] != "http.disconnect":
            pass

    def keep_busy(self, cell: Cell, for_s: float) -> None:
        """Let a retry that was taken take its time."""
        self.sim.held[cell.key].busy_until = self.sim.clock() + for_s

    async def look(self, cell: Cell, scope: Scope, body: bytes, send: Send) -> None:
        """Answer a look, or fail to."""
        if cell.posts and cell.world is World.BLIND:
            await Response(b'{"nothing": "that is known"}')(scope, partial(once, b""), send)
        elif cell.posts and cell.world is World.BLURRED and cell.blurred < BLIND_LOOKS:
            cell.blurred += 1
            await Response("Internal Server Error", 500)(scope, partial(once, b""), send)
        else:
            # All have failed before the first is retried: else Flatfile's wait, for they may be its children.
            await asyncio.to_thread(self.told.wait, PATIENCE_S)
            await self.work(scope, body, send)


async def whole(receive: Receive) -> bytes:
    """Read a request's body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def once(body: bytes) -> Message:
    """Be a body that was read already."""
    return {"type": "http.request", "body": body, "more_body": False}


async def nowhere(message: Message) -> None:
    """Let an answer go nowhere."""


# -- what is played --


def fail(on: Story, provider: str, fate: Fate, world: World, number: int) -> Cell:
    """Let something fail at a provider."""
    outcomes = ["failed"] if world is World.FAILED_AGAIN else []
    match provider:
        case "writer":
            key = name = on.writer.add(str(uuid4()), outcomes=outcomes).key
            event: dict[str, Any] = {"type": "file.failed", "file_id": key}
        case "flatfile":
            key = name = on.flatfile.add(f"us_jb_{number:04}", outcomes=outcomes).key
            event = {"topic": "job:failed", "context": {"jobId": key}, "payload": {"isPart": False}}
        case "docflow":
            key = name = on.docflow.add(f"19782977917136{number:05}", outcomes=outcomes).key
            event = {"task_id": key, "status": "failed"}
        case _:
            name, key = f"example.p{number:04}", f"example.p{number:04}@1.0.0"
            event = on.pack(name, "1.0.0")
            on.xpkg.held[key].outcomes += outcomes
    return Cell(provider=provider, fate=fate, world=world, name=name, key=key, event=event)


def stands(on: Story, cells: Sequence[Cell], *states: Stand) -> None:
    """Wait until each case has come to one of these states since relay began; who did not shows later."""

    def come() -> bool:
        lines = [line for line in list(on.relay.lines) if line["event"].startswith("case.")]
        return {cell.key for cell in cells} <= {line["key"] for line in lines if line["state"] in states}

    with suppress(AssertionError):
        until(come, "they have come so far", PATIENCE_S)


def play(folder: Path, fate: Fate) -> list[Cell]:
    """Play all that can be when there is no answer for this reason."""
    terms: Any = dict.fromkeys(PROVIDERS, HASTY if fate is Fate.TIMEOUT else UNHURRIED)
    cells: list[Cell] = []
    told = Event()
    with story(folder, heals_after_s=0.0, **terms) as on:
        rules = folder / "rules.toml"
        text = rules.read_text()
        for name in PROVIDERS:
            text = text.replace(f'call = "{name}.retry"\n', f'call = "{name}.retry"\n{TERMS}\n')
        rules.write_text(text)
        sims = {sim.name: sim for sim in (on.writer, on.flatfile, on.docflow, on.xpkg)}
        for sim in sims.values():
            sim.app.add_middleware(Gremlin, sim=sim, cells=cells, told=told)
        on.start(luckless=True)
        for worlds in [tuple(World)] if fate is Fate.CRASH else GROUPS:
            some = [
                fail(on, name, fate, world, len(World) * number + place)
                for number, name in enumerate(PROVIDERS)
                for place, world in enumerate(World)
                if world in worlds
            ]
            cells += some
            told.clear()
            for cell in some:
                cell.taken = on.post(cell.provider, cell.event).status
            told.set()
            if fate is Fate.CRASH:
                kill_when_out(on, cells)
            stands(on, some, *ENDS, Stand.NEEDS_PERSON, Stand.WATCHING)
        stands(on, cells, *ENDS, Stand.NEEDS_PERSON)
        for cell in cells:
            judge(on, cell, sims[cell.provider])
    return cells


def kill_when_out(on: Story, cells: Sequence[Cell]) -> None:
    """Kill relay when each provider has each retry, and start it again."""
    until(lambda: all(cell.posts for cell in cells), "all are out")
    on.relay.process.kill()
    on.relay.ended()
    on.start(luckless=True)


def judge(on: Story, cell: Cell, sim: Simulator) -> None:
    """Note what came of a cell."""
    case = on.case(cell.key)
    cell.done, cell.stands = sim.retries[cell.key], case.state
    cell.why, cell.retries = case.why, case.retries
    retries = [call for call in reversed(on.calls()) if call.case == case.id]
    cell.tries = [word for call in retries for word in on.tries(call)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, Fate, World], Cell]]:
    """Play all of it, side by side."""
    folders = {fate: tmp_path_factory.mktemp(fate.name.lower()) for fate in Fate}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(Fate)) as pool:
        # Its limits are another test's matter.
        patch.setattr(xpkg, "Window", lambda *_, **__: Window(10**9, 60))
        found = pool.map(play, folders.values(), folders)
        yield {(cell.provider, cell.fate, cell.world): cell for cells in found for cell in cells}


# -- what must come of it --

IS_WELL = ["send unknown", "look done"]
SENT_AGAIN = ["send unknown", "look retry", "send done"]
FAILED_TWICE = ["send unknown", "look done", "look retry", "send done"]
CANT_SEE = ["send unknown"] + ["look unknown"] * BLIND_LOOKS + ["look done"]
NOBODY_KNOWS = ["send unknown"] + ["look unknown"] * 6


def wanted(provider: str, world: World) -> tuple[int, Stand, list[str]]:
    """Return how often it is done, how the case ends, and the tries after the first look."""
    match world:
        case World.EXECUTED | World.SHOWS_LATER | World.IN_FLIGHT:
            return 1, Stand.RECOVERED, IS_WELL
        case World.FAILED_AGAIN:
            # Who can't tell a new failure from the old one sends once more, and counts both.
            return 2, Stand.RECOVERED, FAILED_TWICE if provider in MARKED else SENT_AGAIN
        case World.NOT_EXECUTED:
            return 1, Stand.RECOVERED, SENT_AGAIN
        case World.LATE:
            # No check can tell this: it is done twice where the provider does it, and shows as unknown.
            return 1 if provider in ONE_AT_A_TIME else 2, Stand.RECOVERED, SENT_AGAIN
        case World.BLURRED:
            return 1, Stand.RECOVERED, CANT_SEE
        case World.BLIND:
            return 1, Stand.NEEDS_PERSON, NOBODY_KNOWS


@pytest.mark.parametrize("world", World)
@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_retry_without_an_answer(
    played: dict[tuple[str, Fate, World], Cell], provider: str, fate: Fate, world: World
) -> None:
    """I5, I7: it is looked up; no double where the check can tell; the rest with a person; nothing lost."""
    cell = played[provider, fate, world]

    done, stands, tries = wanted(provider, world)
    # Only Writer's events are signed: the others' are looked at first.
    first = [] if provider == "writer" else ["look retry"]
    assert first + tries == cell.tries, cell
    assert (202, done, stands) == (cell.taken, cell.done, cell.stands), cell
    # The budget counts what was done, and no more than was sent; a person's case is not counted up yet.
    if stands is not Stand.NEEDS_PERSON:
        assert done <= cell.retries <= sum(one.startswith("send") for one in tries), cell
