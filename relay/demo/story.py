"""How is the demo told?  Scene by scene: posted, followed in relay's own log, and judged at the end."""

import asyncio
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Final, NoReturn
from urllib.parse import quote

import click

from relay.clock import now_ms
from relay.demo.flatfile import forwarded
from relay.demo.scenes import Scene, first, last
from relay.demo.sim import Status
from relay.demo.stage import Stage, stage
from relay.errors import RelayError
from relay.event import Json
from relay.load import load
from relay.provider import Reply, Request
from relay.reach import ANYWHERE
from relay.rule import Ruleset
from relay.send import Sender
from relay.sign import sign
from relay.source import Incoming

PATIENCE_S: Final = 60.0
"""How long the whole story may take."""

ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a terminal that is closed."""


@dataclass(slots=True)
class Told:
    """What was seen so far."""

    ends: dict[str, dict[str, Any]] = field(default_factory=dict)  #: by key: how its case ended
    wrong: list[str] = field(default_factory=list)


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
            on.flatfile.on_change = _forwarder(on, rules)
            script = []
            # The last scene's fault is put in when the calls before it are through.
            for part in (first, last):
                scenes = part(on)
                script += scenes
                _play(on, rules, scenes, told)
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
    """Let each scene happen, then follow relay's log until every case has ended."""
    for scene in script:
        say(f"{scene.source:9} {scene.tells}", bold=True)
        for event in scene.happens():
            status = asyncio.run(_post(on.url, rules, scene.source, event, forged=scene.forged))
            if status != scene.status:
                told.wrong.append(f"{scene.tells}: relay answered {status}")
        _follow(on, told, until=lambda: True)
        if scene.command:
            say(f"{'you':9}   $ relay {' '.join(scene.command)}", fg="magenta")
            _run(on, *scene.command)
    wanted = [key for scene in script if scene.end for key in scene.keys]
    _follow(on, told, until=lambda: all(key in told.ends for key in wanted))


def _forwarder(on: Stage, rules: Ruleset) -> Callable[[str, Status], None]:
    """Return what posts each new event of Flatfile's to relay, as its forwarder plugin does."""

    def forward(key: str, _status: Status) -> None:
        newest = next(one for one in reversed(on.flatfile.events()) if _job(one) == key)
        event = forwarded(newest, on.flatfile.key)
        # Not in the simulator's own thread, which has requests to answer.
        post = partial(asyncio.run, _post(on.url, rules, "flatfile", event))
        threading.Thread(target=post, daemon=True).start()

    return forward


def _job(event: Mapping[str, Json]) -> Json:
    context = event["context"]
    assert isinstance(context, dict)
    return context["jobId"]


async def _post(url: str, rules: Ruleset, source: str, event: Json, *, forged: bool = False) -> int | str:
    """Sign an event as its source would, post it, and return the answer's status, or why there was none."""
    body = json.dumps(event).encode()
    shown = sign(rules.sources[source], Incoming(headers={}, body=body + b" " if forged else body), now_ms())
    token, headers = shown.token, {name: values[0] for name, values in shown.headers.items()}
    place = f"{url}/hooks/{source}" + (f"/{quote(token, safe='')}" if token else "")
    sender = Sender()
    request = Request(method="POST", url=place, headers=tuple(headers.items()), body=body, reach=ANYWHERE)
    try:
        answer = await sender(request)
    finally:
        await sender.close()
    return answer.status if isinstance(answer, Reply) else answer.why


def _run(on: Stage, *command: str) -> None:
    """Run relay's own shell, as the reader would."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", *command],
        cwd=on.folder,
        env=on.shell,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    for line in (done.stdout + done.stderr).splitlines():
        say(f"{'':9}   {line}", fg="magenta")


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


COLOURS: Final = {"done": "green", "dead": "red", "unknown": "yellow", "retry": "yellow"}


def _line(line: Mapping[str, Any], told: Told) -> None:
    match line["event"]:
        case "event.taken":
            number = len(line["calls"])
            made = "duplicate" if line["duplicate"] else line["decision"]
            calls = f"{number} call{'' if number == 1 else 's'}"
            how = f"taken in {line['took_ms']} ms" if "took_ms" in line else "found by the watch"
            say(f"{line['source']:9}   {how}, {made}: {calls}", fg="cyan")
        case "call.tried" | "call.settled":
            status, why = f"{line['status'] or ''}", line["why"]
            what = "check" if line.get("kind") == "check" else line["step"]
            step = what if why.startswith(status) else f"{what} {status}"  # never said twice
            say(f"{line['provider']:9}   {step} → {line['state']}: {why}", fg=COLOURS.get(line["outcome"]))
        case "case.recovered" | "case.gave_up" | "case.closed" as end:
            told.ends[line["key"]] = dict(line)
            mark, colour = ("✓", "green") if end == "case.recovered" else ("✗", "red")
            took = f"{line['took_ms'] / 1000:.1f} s, {_times(line['retries'])}"
            why = f"{line['state']} after {took}: {line['why']}"
            say(f"{line['provider']:9} {mark} {why}", fg=colour)
        case "case.needs_person" | "case.opened" if line["state"] != "retrying":
            say(f"{line['provider']:9}   case {line['key']} is {line['state']}: {line['why']}", fg="yellow")
        case "hook.refused" | "provider.throttled" | "provider.paused" | "provider.down":
            who = line.get("source", line.get("provider", ""))
            say(f"{who:9}   {line['event']} {line.get('why', '')}{line.get('until', '')}", fg="yellow")
        case _:
            pass


def _times(number: int) -> str:
    return f"{number} {'retry' if number == 1 else 'retries'}"


def _judge(script: list[Scene], told: Told) -> None:
    """Compare what happened with what should have."""
    for scene in script:
        for key in scene.keys if scene.end else ():
            end = told.ends.get(key)
            if end is None or end["state"] != scene.end:
                is_ = end["state"] if end else "still open"
                told.wrong.append(f"{scene.tells}: should be {scene.end}, is {is_}")
            times = scene.times(key)
            if times != scene.retries:
                told.wrong.append(
                    f"{scene.tells}: the provider did it {times} times, should be {scene.retries}"
                )
        if (flaw := scene.flaw()) and scene.end:
            told.wrong.append(f"{scene.tells}: {flaw}")


def _summary(script: list[Scene], told: Told) -> None:
    """Say how it ended."""
    click.echo()
    for scene in script:
        for key in scene.keys if scene.end else ():
            end = told.ends.get(key, {"state": "open", "why": "it has not ended"})
            fine = end["state"] == "recovered"
            mark = click.style("✓" if fine else "·", fg="green" if fine else "yellow")
            state = f"{end['state']}, {_times(scene.times(key))}"
            click.echo(f" {mark} {scene.source:9} {key:37} {state:22} {end['why']}")
    click.echo()
    if told.wrong:
        for each in told.wrong:
            click.secho(f"not as it should be: {each}", fg="red")
        return
    click.secho("All as it should be: nothing lost, nothing done twice.", fg="green", bold=True)


def _stay(on: Stage) -> None:
    """Let the reader post events of their own, until Ctrl-C."""
    mine = on.folder / "mine.json"
    mine.write_text(json.dumps({"type": "file.failed", "file_id": on.writer.add(name="mine.pdf").key}))
    click.echo(f"""
The demo goes on until Ctrl-C. In another shell:

  . {on.folder}/environ
  relay cases
  relay case us_jb_broken
  relay watches
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


BEGAN: Final = time.monotonic()
