"""Where is the demo played?  A relay of its own process, simulators on loopback, a folder that goes away."""

import json
import os
import queue
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from relay.demo.docflow import DocflowSim
from relay.demo.flatfile import FlatfileSim
from relay.demo.sim import Simulator
from relay.demo.writer import WriterSim
from relay.demo.xpkg import XpkgSim
from relay.errors import RelayError

RULES: Final = next(
    place
    for place in (Path(__file__).parents[1] / "rules.toml", Path(__file__).parents[2] / "rules.toml")
    if place.exists()
)
"""Our own rules.toml: in the wheel it lies inside the package, in a checkout at the top."""

FIRST: Final = Path(__file__).with_name("first.toml")
"""What stands before them here."""

SOON: Final = 'action.retry.check.wait = ["700ms", "1s"]\n'
"""How soon a simulator is asked whether a retry helped: it heals in a second or two."""

START_S: Final = 30.0

PLAIN: Final = ("--log", "json", "--log-level", "info", "--grace", "5", "--min-free", "0")
"""The story is read from the log, whatever RELAY_LOG says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A relay that runs, what it says, and the four simulators; `folder/environ` is for a reader's shell."""

    url: str
    folder: Path
    environ: Mapping[str, str]
    shell: Mapping[str, str] = field(repr=False)  #: the whole environment of a reader's shell
    writer: WriterSim
    flatfile: FlatfileSim
    docflow: DocflowSim
    xpkg: XpkgSim
    process: "subprocess.Popen[str]"
    lines: "queue.SimpleQueue[dict[str, Any] | None]" = field(repr=False)  #: relay's log; None: it ended


@contextmanager
def stage(*, heals_after_s: float = 1.5, port: int = 0) -> Iterator[Stage]:
    """Set everything up, and take it down whatever happens. Raises RelayError if relay does not start."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="relay-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        writer = WriterSim(heals_after_s=heals_after_s)
        flatfile = FlatfileSim(heals_after_s=heals_after_s)
        docflow = DocflowSim(heals_after_s=heals_after_s)
        xpkg = XpkgSim(heals_after_s=heals_after_s)
        (folder / "rules.toml").write_text(FIRST.read_text() + RULES.read_text())
        (folder / "providers").mkdir()
        sims: tuple[Simulator, ...] = (writer, flatfile, docflow, xpkg)
        for sim in sims:
            url = stack.enter_context(sim.serve())
            # Only the address differs from the real provider, and how soon it is asked what came of a retry.
            text = f'base_url = "{url}"\nallow_http = true\nallow_networks = ["127.0.0.1/32"]\n{SOON}'
            (folder / "providers" / f"{sim.name}.toml").write_text(text)
        _pack(folder / "packages")
        environ = {
            "WRITER_API_KEY": writer.key,
            "FLATFILE_API_KEY": flatfile.key,
            "DOCFLOW_APP_ID": docflow.app_id,
            "DOCFLOW_SECRET_CODE": docflow.secret_code,
            "XPKG_TOKEN": xpkg.token,
        } | {f"{name.upper()}_HOOK_{kind}": secrets.token_urlsafe(24) for name, kind in HOOKS}
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve", "--host", "127.0.0.1", "--port", str(port), *PLAIN],
            cwd=folder,
            env={**os.environ, **environ, "RELAY_RULES": "rules.toml", "RELAY_DB": "sqlite:///relay.db"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, process)
        stack.callback(_dismiss, _guard(process, folder))
        lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(process, lines), daemon=True).start()
        url = _address(lines)
        shell = environ | {
            "RELAY_RULES": str(folder / "rules.toml"),
            "RELAY_DB": f"sqlite:///{folder / 'relay.db'}",
            "RELAY_TO": url,
        }
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in shell.items()]
        path = f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n'
        (folder / "environ").write_text("".join([*exports, path]))
        yield Stage(
            url=url,
            folder=folder,
            environ=environ,
            shell={**os.environ, **shell},
            writer=writer,
            flatfile=flatfile,
            docflow=docflow,
            xpkg=xpkg,
            process=process,
            lines=lines,
        )


HOOKS: Final = (("writer", "SECRET"), ("flatfile", "TOKEN"), ("docflow", "TOKEN"), ("xpkg", "TOKEN"))


def _pack(folder: Path) -> None:
    """Put a small package where the rule for X-Pkg looks for it."""
    folder.mkdir()
    with ZipFile(folder / "example.package1-1.3.0b9.zip", "w") as zipped:
        zipped.writestr("example.package1/readme.txt", "an aircraft\n")


def _listen(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    assert process.stderr is not None
    with process.stderr as stream:
        for line in stream:
            try:
                lines.put(json.loads(line))
            except ValueError:
                lines.put({"event": "relay.said", "why": line.rstrip()})
    lines.put(None)


def _address(lines: "queue.SimpleQueue[dict[str, Any] | None]") -> str:
    """Wait until relay says that it has started, and where it listens."""
    said: list[str] = []
    url, started = "", False
    while True:
        try:
            line = lines.get(timeout=START_S)
        except queue.Empty:
            line = None
        if line is None:
            raise RelayError("\n".join(["the demo's relay did not start", *said]))
        said.append(str(line.get("why", line["event"])))
        if line["event"] == "relay.listening":
            url = str(line["url"])
        started = started or line["event"] == "relay.started"
        if started and url:
            return url


def _guard(process: "subprocess.Popen[str]", folder: Path) -> "subprocess.Popen[bytes]":
    """Start what clears up if we are killed: its input ends with us, however we end."""
    clear = 'read -r _; kill -9 "$0"; rm -rf "$1"'
    return subprocess.Popen(["/bin/sh", "-c", clear, str(process.pid), str(folder)], stdin=subprocess.PIPE)


def _dismiss(guard: "subprocess.Popen[bytes]") -> None:
    guard.kill()
    guard.communicate()


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
