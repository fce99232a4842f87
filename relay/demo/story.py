"""What does the demo tell?  Ten things that happen to a relay, and what it must make of each."""

import asyncio
import json
import queue
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Final, NoReturn
from urllib.parse import quote

import click

from relay.demo.flatfile import forwarded
from relay.demo.sim import Fault, Simulator
from relay.demo.stage import Stage, stage
from relay.errors import RelayError
from relay.event import Json
from relay.load import load
from relay.provider import Reply, Request
from relay.rule import Ruleset
from relay.send import Sender
from relay.verify import sign

PATIENCE_S: Final = 60.0
"""How long the whole story may take."""

ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a terminal that is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One event, and how it must end."""

    source: str
    tells: str  #: what happens, for the reader
    event: Json
    sim: Simulator | None = None
    key: str = ""  #: the resource in the simulator
    status: int = 202  #: of relay's answer
    end: str = ""  #: the state in which the call must end; empty: no call
    retries: int = 0  #: how often the provider must have done the work
    forged: bool = False  #: sent with a wrong signature


@dataclass(slots=True)
class Told:
    """What was seen so far."""

    scene_of: dict[str, Scene] = field(default_factory=dict)  #: by event id
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)  #: by event id: how its call ended
    wrong: list[str] = field(default_factory=list)


def scenes(on: Stage) -> list[Scene]:
    """Set the simulators up and return what will happen."""
    on.flatfile.faults.append(Fault(status=429, headers={"Retry-After": "2"}))
    file1, file2 = on.writer.add(name="prices.pdf").key, on.writer.add(name="terms.pdf").key
    on.flatfile.add("us_jb_import_7")
    on.docflow.add("1978297791713619968")
    on.docflow.add("1978297791713619999", task_type=0, parent_task_id="1978297791713619968")
    on.xpkg.add_version("example.package1", "1.3b9")
    on.xpkg.add_version("example.package2", "2.0")
    job = forwarded(next(event for event in on.flatfile.events()), on.flatfile.key)
    finished = job | {"topic": "job:completed", "src": {**_table(job["src"]), "id": "us_evt_other"}}
    writer = partial(Scene, source="writer", sim=on.writer, end="done", retries=1)
    docflow = partial(Scene, source="docflow", sim=on.docflow)
    xpkg = partial(Scene, source="xpkg", sim=on.xpkg, end="done", retries=1)
    return [
        writer(
            tells="a file failed at Writer: relay asks for it once more",
            event={"type": "file.failed", "file_id": file1}, key=file1,
        ),
        Scene(
            tells="a job failed at Flatfile, which is busy: 429, wait 2 seconds; relay waits, then calls",
            event=job, sim=on.flatfile, source="flatfile", key="us_jb_import_7", end="done", retries=1,
        ),
        Scene(
            tells="Flatfile's forwarder says it twice: a duplicate, and no second call",
            event=job, source="flatfile", status=200,
        ),
        Scene(
            tells="a job went well: kept, but no rule is for it",
            event=finished, source="flatfile",
        ),
        docflow(
            tells="a task failed at DocFlow: relay looks first, for a retry overwrites results",
            event={"task_id": "1978297791713619968", "status": "failed"},
            key="1978297791713619968", end="done", retries=1,
        ),
        docflow(
            tells="a child task failed at DocFlow: those can't be retried, so it is not called at all",
            event={"task_id": "1978297791713619999", "status": "failed"},
            key="1978297791713619999", end="dead", retries=0,
        ),
        xpkg(
            tells="a package failed at X-Pkg: its zip is uploaded again",
            event={"package_id": "example.package1", "package_version": "1.3b9", "status": "failed"},
            key="example.package1@1.3.0b9",
        ),
        Scene(
            tells="somebody posts with a wrong signature: refused",
            event={"type": "file.failed", "file_id": file1}, source="writer", status=401, forged=True,
        ),
        writer(
            tells="Writer takes the call, then answers 500: unknown, so relay looks before it calls twice",
            event={"type": "file.failed", "file_id": file2}, key=file2,
        ),
        xpkg(
            tells="X-Pkg takes an upload and never answers: relay looks, and does not upload twice",
            event={"package_id": "example.package2", "package_version": "2.0", "status": "aborted"},
            key="example.package2@2.0.0",
        ),
    ]  # fmt: skip


def tell(*, once: bool) -> int:
    """Play the story and say how it went; then, unless *once*, stay up for the reader's own events."""
    # SIGINT, too: in the background of a script it is ignored.
    for number in ENDS:
        signal.signal(number, _leave)
    say("starting a relay, and simulators of Writer, Flatfile, DocFlow and X-Pkg, on this machine only")
    try:
        with stage() as on:
            rules = load(on.folder / "rules.toml", on.environ)
            told = Told()
            say(f"relay listens on {on.url}, its files are in {on.folder}\n")
            script = scenes(on)
            # The faults of the last two are put in when the calls before them are through.
            _play(on, rules, script[:-2], told)
            on.writer.faults.append(Fault(status=500, after=True))
            on.xpkg.faults.append(Fault(hang=True))
            _play(on, rules, script[-2:], told)
            _judge(script, told)
            _summary(script, told)
            if once or told.wrong:
                return 1 if told.wrong else 0
            _stay(on)
            return 0
    except RelayError as error:
        click.secho(f"relay: {error}", fg="red", err=True)
        return 1


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's arguments
    """Break the story off, once: what takes its stage down is not broken off."""
    for each in ENDS:
        signal.signal(each, lambda *_: None)
    raise KeyboardInterrupt


def _play(on: Stage, rules: Ruleset, script: list[Scene], told: Told) -> None:
    """Post each event, then follow relay's log until every call has ended."""
    for scene in script:
        say(f"{scene.source:9} {scene.tells}", bold=True)
        answer = asyncio.run(_post(on.url, rules, scene))
        if answer.get("status") != scene.status:
            told.wrong.append(f"{scene.tells}: relay answered {answer}")
        elif scene.status == 202:
            told.scene_of[answer["event"]] = scene
        _follow(on, told, until=lambda: True)
    open_ = [event for event, scene in told.scene_of.items() if scene.end and event not in told.ends]
    _follow(on, told, until=lambda: all(event in told.ends for event in open_))


async def _post(url: str, rules: Ruleset, scene: Scene) -> dict[str, Any]:
    body = json.dumps(scene.event).encode()
    headers, token = sign(rules.sources[scene.source], body + b" " if scene.forged else body)
    place = f"{url}/hooks/{scene.source}" + (f"/{quote(token, safe='')}" if token else "")
    sender = Sender()
    try:
        made = Request(method="POST", url=place, headers=tuple(headers.items()), body=body)
        answer = await sender(made)
    finally:
        await sender.close()
    if not isinstance(answer, Reply):
        return {"status": answer.why}
    said: dict[str, Any] = json.loads(answer.body)
    return said | {"status": answer.status}


def _follow(on: Stage, told: Told, *, until: Callable[[], bool]) -> None:
    """Tell relay's own log lines until there is nothing to wait for."""
    give_up = time.monotonic() + PATIENCE_S
    quiet_s = 0.3
    while not until() or quiet_s:
        try:
            line = on.lines.get(timeout=quiet_s or 0.2)
        except queue.Empty:
            quiet_s = 0.0
            if time.monotonic() > give_up:
                return
            continue
        if line is None:
            raise RelayError("the relay ended before the story did")
        _line(line, told)


def _line(line: Mapping[str, Any], told: Told) -> None:
    match line["event"]:
        case "event.taken":
            made = "duplicate" if line["duplicate"] else line["decision"]
            number = len(line["calls"])
            calls = f"{number} call{'' if number == 1 else 's'}"
            say(f"{line['source']:9}   taken in {line['took_ms']} ms, {made}: {calls}", fg="cyan")
        case "call.tried" | "call.settled":
            colour = {"done": "green", "dead": "red", "unknown": "yellow", "retry": "yellow"}[line["outcome"]]
            status, why = f"{line['status'] or ''}", line["why"]
            step = line["step"] if why.startswith(status) else f"{line['step']} {status}"  # never said twice
            say(f"{line['provider']:9}   {step} → {line['state']}: {why}", fg=colour)
            if line["event"] == "call.settled":
                told.ends[line["event_id"]] = dict(line)
        case "hook.refused" | "provider.throttled" | "provider.paused" | "provider.down":
            who = line.get("source", line.get("provider", ""))
            say(f"{who:9}   {line['event']} {line.get('why', '')}{line.get('until', '')}", fg="yellow")
        case _:
            pass


def _judge(script: list[Scene], told: Told) -> None:
    """Compare what happened with what should have."""
    ended = {scene.key: told.ends.get(event) for event, scene in told.scene_of.items() if scene.end}
    for scene in script:
        if not scene.end or scene.sim is None:
            continue
        end = ended.get(scene.key)
        if end is None or end["state"] != scene.end:
            told.wrong.append(
                f"{scene.tells}: should be {scene.end}, is {end['state'] if end else 'still open'}"
            )
        if scene.sim.retries[scene.key] != scene.retries:
            times = scene.sim.retries[scene.key]
            told.wrong.append(f"{scene.tells}: the provider did it {times} times, should be {scene.retries}")


def _summary(script: list[Scene], told: Told) -> None:
    """Say how it ended."""
    click.echo()
    case_of = {
        scene.key: told.ends[event]["case"] for event, scene in told.scene_of.items() if event in told.ends
    }
    for scene in script:
        if scene.end and scene.sim is not None:
            fine = scene.end == "done"
            times = scene.sim.retries[scene.key]
            called = f"called {times} time{'' if times == 1 else 's'}, now {scene.sim.held[scene.key].status}"
            mark = click.style("✓" if fine else "·", fg="green" if fine else "yellow")
            click.echo(f" {mark} {scene.source:9} {case_of.get(scene.key, scene.key):38} {called}")
    click.echo()
    if told.wrong:
        for each in told.wrong:
            click.secho(f"not as it should be: {each}", fg="red")
        return
    click.secho("All as it should be: nothing lost, nothing called twice.", fg="green", bold=True)


def _stay(on: Stage) -> None:
    """Let the reader post events of their own, until Ctrl-C."""
    mine = on.folder / "mine.json"
    mine.write_text(json.dumps({"type": "file.failed", "file_id": on.writer.add(name="mine.pdf").key}))
    click.echo(f"""
The demo goes on until Ctrl-C. In another shell:

  . {on.folder}/environ
  relay events
  relay calls
  relay providers
  relay match writer {mine}
  relay send writer {mine}
""")
    told = Told()
    try:
        while True:
            line = on.lines.get()
            if line is None:
                raise RelayError("the relay has ended")
            _line(line, told)
    except KeyboardInterrupt:
        click.echo("\nstopping")


def say(text: str, **style: Any) -> None:
    """Print one line with the time since the start."""
    click.echo(f"{time.monotonic() - BEGAN:6.1f}  {click.style(text, **style)}")


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


BEGAN: Final = time.monotonic()
