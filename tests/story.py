"""What do the stories stand on?  `relay serve` as a process, simulators on loopback, waiting by looking."""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

import httpx
import tomli_w
from build import incoming
from click.testing import Result
from process import AS_SOLD, BUGS, DB, LUCKLESS, PATIENCE_S, ROOT, Relay, later, until
from shell import relay as shell
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.call import Attempt, Call, Kind, State
from relay.case import ENDS, Case, Moment, Stand
from relay.clock import now_ms
from relay.config import admin_file
from relay.demo.docflow import DocflowSim
from relay.demo.flatfile import FlatfileSim, event, forwarded
from relay.demo.sim import Simulator, Status
from relay.demo.writer import WriterSim
from relay.demo.xpkg import XpkgSim
from relay.engine import Row, reader
from relay.gate import Gate
from relay.load import load
from relay.rule import Ruleset
from relay.sign import sign
from relay.store import Store

__all__ = [
    "SOON", "Relay", "Story", "Told", "failed_file", "fails", "forward", "healing", "hook", "sent", "story",
    "until",
]  # fmt: skip

TRIES = frozenset({"look", "send", "check"})
"""Moments of a case's timeline that are tries of its calls."""

SOON: dict[str, Any] = {"action": {"retry": {"check": {"wait": ["200ms"]}}}}
"""Keys for a provider's drop-in: whether a retry helped is asked five times a second."""


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

    def spawn(self, *options: str, code: tuple[str, ...] = AS_SOLD, **environ: str) -> Relay:
        """Start a relay, and don't wait for it; *environ* differs from the story's own."""
        options = options if "--port" in options else ("--port", "0", *options)
        options = options if "--grace" in options else ("--grace", "1", *options)
        self.relays.append(Relay(self.folder, self.environ | environ, *options, code=code))
        return self.relay

    def start(self, *options: str, luckless: bool = False, later_s: float = 0.0, **environ: str) -> Relay:
        """Start a relay and wait until it listens: without luck, or as if it were so much later."""
        code = LUCKLESS if luckless else later(later_s) if later_s else AS_SOLD
        relay = self.spawn(*options, code=code, **environ)
        assert relay.url
        return relay

    # -- what is sent to it --

    def post(self, source: str, event: Any, headers: Mapping[str, str] | None = None) -> Told:
        """Sign an event as its source would, and post it; bytes go as they are."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        token, shown = self.signed(source, body, headers)
        return self.send("POST", hook(source, token), body, shown)

    def signed(
        self, source: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[str, dict[str, str]]:
        """Return the token for the path and the headers with which a source takes *body*."""
        shown = sign(self.rules.sources[source], incoming(body, headers), now_ms())
        return shown.token, {name: values[0] for name, values in shown.headers.items()}

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
        """All retries, or those of one event, newest first; not the checks that follow them."""
        found = self.store().calls(limit=10_000, event=event)
        return [call for call in found if call.kind is Kind.RETRY]

    def call(self, told: Told) -> Call:
        """Return the one retry of an event."""
        (call,) = self.calls(told.event)
        return call

    def settled(self, told: Told, within_s: float = PATIENCE_S) -> Call:
        """Wait until the one retry of an event has ended."""
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
        """Wait until every retry is done, and return them, oldest first."""
        until(
            lambda: {call.state for call in self.calls()} <= {State.DONE},
            lambda: self.store().counts(),
            within_s,
        )
        return sorted(self.calls(), key=lambda call: call.id)

    # -- its cases --

    def cases(self) -> list[Case]:
        """All cases, newest first."""
        return [shown.case for shown in self.store().cases(limit=10_000)]

    def case(self, name: str) -> Case:
        """Return the newest case of an id, key or alias."""
        return self.store().case(name)[0].case

    def stands(self, name: str, *states: Stand, within_s: float = PATIENCE_S) -> Case:
        """Wait until the newest case of an id, key or alias stands in one of these states, and return it."""

        def there() -> list[Case]:
            found = [shown.case for shown in self.store().case(name)[:1]]
            return [case for case in found if case.state in states]

        return until(there, lambda: self.lately(name), within_s)[0]

    def lately(self, name: str) -> object:
        """Return what to show of a case that is not as it should be."""
        return [(one.kind, one.what) for one in self.moments(name)] if self.store().case(name) else "no case"

    def ended(self, name: str, within_s: float = PATIENCE_S) -> Case:
        """Wait until a case has ended."""
        return self.stands(name, *ENDS, within_s=within_s)

    def moments(self, name: str) -> list[Moment]:
        """Return all that happened to a case, its tries among it, in order."""
        return self.store().timeline(self.case(name).id)

    def way(self, name: str) -> list[str]:
        """
        Return the way of a case in words: ``opened``, ``look retry``, ``send done``, ``accepted``.

        Of checks only the last of a row stands there: how often it was asked is a matter of time.
        """
        words = [
            f"{one.kind} {one.what.partition(':')[0]}" if one.kind in TRIES else one.kind
            for one in self.moments(name)
        ]
        return [
            word
            for word, then in pairwise([*words, ""])
            if word != "check retry" or not then.startswith("check")
        ]

    def act(self, name: str, act: str, **wish: str) -> Told:
        """Do what a person can do with a case, over HTTP, with the token that relay left for that."""
        token = json.loads(admin_file(self.db).read_text())["token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        path = f"/api/v1/cases/{quote(name, safe='')}/{act}"
        return self.send("POST", path, json.dumps({"by": "ann"} | wish).encode(), headers)

    def shell(self, *args: str) -> Result:
        """Run a command of the shell beside the relay, as ann."""
        beside = {"RELAY_DB": f"sqlite:///{self.db}", "RELAY_RULES": str(self.folder / "rules.toml")}
        return shell(*args, **beside, USER="ann")

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
    first: str = "",
    slow: Callable[[], float] | None = None,
    **files: Mapping[str, Any],
) -> Iterator[Story]:
    """
    Set a story up, without a relay, and take it down.

    *rules* are added to our own rules.toml, *first* is put before them: where two rules want the same call of
    one event, the first one's terms hold. *slow* says how many seconds a simulator takes before its work,
    and again before its answer; *files* are keys for a provider's drop-in, by its name. At the end each relay
    that still runs is stopped politely, and must never have met a bug.
    """
    with ExitStack() as stack:
        writer = WriterSim(heals_after_s=heals_after_s)
        flatfile = FlatfileSim(heals_after_s=heals_after_s)
        docflow = DocflowSim(heals_after_s=heals_after_s)
        xpkg = XpkgSim(heals_after_s=heals_after_s)
        sims: tuple[Simulator, ...] = (writer, flatfile, docflow, xpkg)
        (folder / "rules.toml").write_text(first + (ROOT / "rules.toml").read_text() + rules)
        (folder / "packages").mkdir()
        (folder / "providers").mkdir()
        for sim in sims:
            if slow is not None:
                sim.app.add_middleware(Slow, wait=slow)
            base: dict[str, Any] = {
                "base_url": sim.start(),
                "allow_http": True,
                "allow_networks": ["127.0.0.1/32"],
            }
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


@contextmanager
def healing(folder: Path, first: str) -> Iterator[Story]:
    """Run a relay with rules *first* before our own, and a Writer whose files heal at once."""
    with story(folder, heals_after_s=0.1, first=first, writer=SOON) as told:
        told.start()
        yield told


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


def fails(on: Story, **facts: str) -> str:
    """Let a file fail, post it, and return its id."""
    key, event = failed_file(on)
    assert 202 == on.post("writer", event | facts).status
    return key


def sent(sim: Simulator, method: str = "POST") -> list[float]:
    """Return when a simulator was called, in seconds since 1970."""
    return [seen.at for seen in list(sim.calls) if seen.method == method]


def forward(on: Story) -> None:
    """Let Flatfile's forwarder tell whichever relay runs what became of each retry: once, never again."""

    def post(body: dict[str, Any]) -> None:
        with suppress(httpx.TransportError, RuntimeError):  # nobody listens, or the story is over
            on.post("flatfile", body)

    def changed(key: str, _status: Status) -> None:
        newest = next(note for note in reversed(on.flatfile.notes) if note.job == key)
        # Not in the simulator's own thread, which has requests to answer.
        told = forwarded(event(newest), "sk_live")
        threading.Thread(target=post, args=(told,), daemon=True).start()

    on.flatfile.on_change = changed
