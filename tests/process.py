"""How is `relay serve` run as a process, and how does a test wait for anything?  By looking."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
DB = "relay.db"
PATIENCE_S = 20.0

AS_SOLD = ("-m", "relay")
LUCKLESS = ("-c", "import random; random.random = float; from relay.cli import main; main()")
"""The same relay, with the dice of its backoff fixed at nought: half a second, never more."""


def later(seconds: float) -> tuple[str, ...]:
    """Return how relay is started so that its clock is ahead by so many seconds."""
    ahead = f"now = time.time_ns; time.time_ns = lambda: now() + {round(seconds * 1e9)}"
    return ("-c", f"import time; {ahead}; from relay.cli import main; main()")


BUGS = frozenset({"worker.failed", "call.failed", "http.failed", "store.broken", "window.failed"})
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

    def events(self) -> frozenset[str]:
        """Return the names of all lines so far."""
        return frozenset(line["event"] for line in list(self.lines))

    def said(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Return the lines called *event* that hold *facts*."""
        return [line for line in list(self.lines) if line["event"] == event and facts.items() <= line.items()]

    def heard(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Wait until it has said so, and return the lines: the log comes a moment after the database."""
        return until(lambda: self.said(event, **facts), f"{event} {facts}")

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
