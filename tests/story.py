"""What do the stories stand on?  `relay serve` as a process, simulators on loopback, waiting by looking."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any, TypeVar
from urllib.parse import quote
from zipfile import ZipFile

import httpx
import tomli_w
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.call import Attempt, Call, State
from relay.demo.docflow import DocflowSim
from relay.demo.flatfile import FlatfileSim
from relay.demo.sim import Simulator
from relay.demo.writer import WriterSim
from relay.demo.xpkg import XpkgSim
from relay.engine import Row, reader
from relay.gate import Gate
from relay.load import load
from relay.rule import Ruleset
from relay.store import Store
from relay.verify import sign

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
DB = "relay.db"
PATIENCE_S = 20.0

AS_SOLD = ("-m", "relay")
LUCKLESS = ("-c", "import random; random.random = float; from relay.cli import main; main()")
"""The same relay, with the dice of its backoff fixed at nought: half a second, never more."""

BUGS = frozenset({"worker.failed", "call.failed", "http.failed", "store.broken"})
"""Lines that no story may bring about."""


def until(look: Callable[[], T], what: Callable[[], object] | str, within_s: float = PATIENCE_S) -> T:
    """Look again and again until there is something to see, and return it; *what* says what was missing."""
    give_up = time.monotonic() + within_s
    while not (seen := look()):
        if time.monotonic() > give_up:
            raise AssertionError(f"after {within_s:g} s: {what() if callable(what) else 'not yet ' + what}")
        time.sleep(0.02)
    return seen


class Relay:
    """One `relay serve`, and every line that it says."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], *options: str, code: tuple[str, ...] = AS_SOLD
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, *code, "serve", "--db", f"sqlite:///{DB}", "--log", "json", *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.text += line
                if line.startswith("{") and line.endswith("}\n"):  # a killed one may stop in mid-line
                    self.lines.append(json.loads(line))

    def said(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Return the lines called *event* that hold *facts*."""
        return [line for line in list(self.lines) if line["event"] == event and facts.items() <= line.items()]

    @property
    def url(self) -> str:
        """Where it listens, as soon as it has started."""

        def started() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.text
            return self.said("relay.started") and self.said("relay.listening")

        return str(until(started, "relay has started")[0]["url"])

    def kick(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end, and return the exit code."""
        code = self.process.wait(within_s)
        self._ear.join(5)
        return code

    def end(self, number: int = SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        self.kick(number)
        return self.ended()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What relay answered to a post."""

    status: int
    kind: str
    said: dict[str, Any]

    @property
    def event(self) -> str:
        """The event's id."""
        assert self.status in {200, 202}, self
        return str(self.said["event"])


@dataclass(slots=True, kw_only=True)
class Story:
    """A folder with our own rules, the four simulators, and the relays that were started there."""

    folder: Path
    environ: dict[str, str]
    rules: Ruleset
    client: httpx.Client
    writer: WriterSim
    flatfile: FlatfileSim
    docflow: DocflowSim
    xpkg: XpkgSim
    relays: list[Relay] = field(default_factory=list)

    # -- relay --

    @property
    def relay(self) -> Relay:
        """The relay that was started last."""
        return self.relays[-1]

    @property
    def db(self) -> Path:
        """Where the database is."""
        return self.folder / DB

    def spawn(self, *options: str, luckless: bool = False, **environ: str) -> Relay:
        """Start a relay, and don't wait for it; *environ* differs from the story's own."""
        code = LUCKLESS if luckless else AS_SOLD
        options = options if "--port" in options else ("--port", "0", *options)
        options = options if "--grace" in options else ("--grace", "1", *options)
        self.relays.append(Relay(self.folder, self.environ | environ, *options, code=code))
        return self.relay

    def start(self, *options: str, luckless: bool = False, **environ: str) -> Relay:
        """Start a relay and wait until it listens."""
        relay = self.spawn(*options, luckless=luckless, **environ)
        assert relay.url
        return relay

    # -- what is sent to it --

    def post(self, source: str, event: Any, headers: Mapping[str, str] | None = None) -> Told:
        """Sign an event as its source would, and post it; bytes go as they are."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        signed, token = sign(self.rules.sources[source], body)
        return self.send("POST", hook(source, token), body, {**signed, **(headers or {})})

    def send(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Told:
        """Send anything at all."""
        answer = self.client.request(method, self.relay.url + path, content=body, headers=headers)
        kind = answer.headers.get("content-type", "")
        return Told(
            status=answer.status_code, kind=kind, said=json.loads(answer.content) if "json" in kind else {}
        )

    # -- what it remembers --

    def store(self) -> Store:
        """Open the database, only to read."""
        return Store(reader(self.db))

    def events(self) -> list[Row]:
        """All events, newest first."""
        return self.store().events(limit=10_000)

    def event(self, event: str) -> Row:
        """Return one event's row."""
        return self.store().events(id=event)[0]

    def calls(self, event: str | None = None) -> list[Call]:
        """All calls, or those of one event."""
        return self.store().calls(limit=10_000, event=event)

    def call(self, told: Told) -> Call:
        """Return the one call of an event."""
        (call,) = self.calls(told.event)
        return call

    def settled(self, told: Told, within_s: float = PATIENCE_S) -> Call:
        """Wait until the one call of an event has ended."""
        until(lambda: self.call(told).settled_at, lambda: self.call(told), within_s)
        return self.call(told)

    def attempts(self, call: Call) -> list[Attempt]:
        """Return a call's tries in order."""
        return self.store().attempts(call.id)

    def tries(self, call: Call) -> list[str]:
        """Return a call's tries as words: ``send unknown``."""
        return [f"{one.step} {one.outcome or 'out'}" for one in self.attempts(call)]

    def gate(self, provider: str) -> Gate:
        """Return what is known of a provider."""
        return self.store().gates().get(provider, Gate(provider=provider))

    def all_done(self, within_s: float = PATIENCE_S) -> list[Call]:
        """Wait until every call is done, and return them, oldest first."""
        until(
            lambda: {call.state for call in self.calls()} <= {State.DONE},
            lambda: self.store().counts(),
            within_s,
        )
        return sorted(self.calls(), key=lambda call: call.id)

    def pack(self, package: str, version: str) -> dict[str, str]:
        """Put a version into X-Pkg, and its zip where the rule looks for it; return the event."""
        self.xpkg.add_version(package, version)
        with ZipFile(self.folder / "packages" / f"{package}-{version}.zip", "w") as zipped:
            zipped.writestr(f"{package}/readme.txt", "an aircraft\n")
        return {"package_id": package, "package_version": version, "status": "failed"}


class Slow:
    """A provider that takes its time, before the work and before the answer."""

    def __init__(self, app: ASGIApp, wait: Callable[[], float]) -> None:
        self.app, self.wait = app, wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, later."""

        async def later(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(self.wait())
            await send(message)

        await asyncio.sleep(self.wait())
        await self.app(scope, receive, later)


@contextmanager
def story(
    folder: Path,
    *,
    heals_after_s: float = 30.0,
    rules: str = "",
    slow: Callable[[], float] | None = None,
    **files: Mapping[str, Any],
) -> Iterator[Story]:
    """
    Set a story up, without a relay, and take it down.

    *rules* are added to our own rules.toml; *slow* says how many seconds a simulator takes before its work,
    and again before its answer; *files* are keys for a provider's drop-in, by its name. At the end each relay
    that still runs is stopped politely, and must never have met a bug.
    """
    with ExitStack() as stack:
        writer = WriterSim(heals_after_s=heals_after_s)
        flatfile = FlatfileSim(heals_after_s=heals_after_s)
        docflow = DocflowSim(heals_after_s=heals_after_s)
        xpkg = XpkgSim(heals_after_s=heals_after_s)
        sims: tuple[Simulator, ...] = (writer, flatfile, docflow, xpkg)
        shutil.copy(ROOT / "rules.toml", folder)
        with (folder / "rules.toml").open("a") as file:
            file.write(rules)
        (folder / "packages").mkdir()
        (folder / "providers").mkdir()
        for sim in sims:
            if slow is not None:
                sim.app.add_middleware(Slow, wait=slow)
            base: dict[str, Any] = {"base_url": sim.start(), "allow_http": True}
            stack.callback(sim.stop)
            (folder / "providers" / f"{sim.name}.toml").write_text(
                tomli_w.dumps({**base, **files.get(sim.name, {})})
            )
        environ = {
            "WRITER_API_KEY": writer.key,
            "FLATFILE_API_KEY": flatfile.key,
            "DOCFLOW_APP_ID": docflow.app_id,
            "DOCFLOW_SECRET_CODE": docflow.secret_code,
            "XPKG_TOKEN": xpkg.token,
            "WRITER_HOOK_SECRET": secrets.token_urlsafe(24),
        } | {f"{name}_HOOK_TOKEN": secrets.token_urlsafe(24) for name in ("FLATFILE", "DOCFLOW", "XPKG")}
        told = Story(
            folder=folder,
            environ=environ,
            rules=load(folder / "rules.toml", environ),
            client=stack.enter_context(httpx.Client(trust_env=False, verify=False, timeout=10)),
            writer=writer,
            flatfile=flatfile,
            docflow=docflow,
            xpkg=xpkg,
        )
        stack.callback(_kill, told)
        yield told
        told.client.close()
        for relay in told.relays:
            if relay.process.poll() is None:
                assert relay.end() == 0, relay.text
            assert not BUGS & {line["event"] for line in relay.lines}, relay.text
            assert "Traceback" not in relay.text, relay.text


def _kill(told: Story) -> None:
    """End whatever a test that failed left running."""
    for relay in told.relays:
        if relay.process.poll() is None:
            relay.process.kill()
        relay.ended()


def hook(source: str, token: str = "") -> str:
    """Return the path of a source's hook."""
    return f"/hooks/{source}" + (f"/{quote(token, safe='')}" if token else "")


def failed_file(on: Story, **facts: Any) -> tuple[str, dict[str, str]]:
    """Put a failed file into Writer; return its id and the event."""
    key = on.writer.add(**facts).key
    return key, {"type": "file.failed", "file_id": key}


def sent(sim: Simulator, method: str = "POST") -> list[float]:
    """Return when a simulator was called, in seconds since 1970."""
    return [seen.at for seen in list(sim.calls) if seen.method == method]
