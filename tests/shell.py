"""A shell for tests: relay's commands, and a relay beside which they run."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from typing import Any

from click.testing import CliRunner, Result
from rulesfiles import ENVIRON

from relay.cli import main
from relay.demo.stage import Stage


def relay(*args: str, stdin: str | bytes = "", **environ: str) -> Result:
    """Run a command with these variables only; what it raises is a failed test."""
    ours = dict.fromkeys(name for name in os.environ if name in ENVIRON or name.startswith("RELAY_"))
    return CliRunner().invoke(main, args, input=stdin, env=ours | environ, catch_exceptions=False)


def read(*args: str, **environ: str) -> Any:
    """Run a command with --json, and read what it says."""
    result = relay(*args, "--json", **environ)
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def on_a_terminal(*args: str, **environ: str) -> tuple[int, str]:
    """Run a command on a terminal of 80 columns; return its exit code and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    usual = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-m", "relay", *args],
        env=usual | environ | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
        os.close(ours)
    return process.returncode, said.decode()


def _read(terminal: int) -> bytes:
    """Read on; Linux answers EIO when nobody is left at the other end."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def beside(on: Stage) -> dict[str, str]:
    """Return the variables of a shell beside that relay."""
    files = {"RELAY_RULES": str(on.folder / "rules.toml"), "RELAY_DB": f"sqlite:///{on.folder / 'relay.db'}"}
    return {**on.environ, **files, "RELAY_TO": on.url}


def post(on: Stage, source: str, event: Any) -> str:
    """Send an event, JSON or any text, with `relay send`; return its id."""
    text = event if isinstance(event, str) else json.dumps(event)
    result = relay("send", source, "-", "--json", stdin=text, **beside(on))
    assert 0 == result.exit_code, result.output
    return str(json.loads(result.stdout)["event"])


def settled(on: Stage, calls: int) -> None:
    """Wait until so many calls have ended."""
    until = time.monotonic() + 20
    items: list[Any] = []
    while time.monotonic() < until:
        items = read("calls", **beside(on))["items"]
        if len([call for call in items if call["settled_at"]]) >= calls:
            return
        time.sleep(0.1)
    raise AssertionError(items)
