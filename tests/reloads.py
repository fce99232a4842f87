"""What do tests of reloads stand on?  A folder of files, what is in force, and a store beside it."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.engine import SQLite
from relay.errors import StoreBusy
from relay.event import Millis
from relay.keep import Keeper
from relay.reload import InForce, Reloader, read

__all__ = ["ENVIRON", "WATCH", "Desk", "desk", "renamed"]

RULES = """
[source.flatfile]
preset = "flatfile"
secrets = ["file:{secret}"]

[provider.flatfile]
token = "env:FLATFILE_API_KEY"

[[rule]]
name = "retry jobs"
from = "flatfile"
when.topic = "job:failed"
case = "{{context.jobId}}"
call = "flatfile.retry"
with.job_id = "{{context.jobId}}"
"""
WATCH = """
[[watch]]
name = "failed tasks"
call = "docflow.failed_tasks"
every = "1m"
with.workspace_id = "1"

[provider.docflow]
app_id = "env:DOCFLOW_APP_ID"
secret_code = "env:DOCFLOW_SECRET_CODE"
"""
ENVIRON = {
    "FLATFILE_API_KEY": "sk_of_the_tests",
    "DOCFLOW_APP_ID": "an-app-of-the-tests",
    "DOCFLOW_SECRET_CODE": "a-code-of-the-tests",
}


@dataclass
class Desk:
    """A folder of files, what is in force, and a store beside it."""

    folder: Path
    now: Millis = 1_000_000
    woken: int = 0
    busy: int = 0  #: so many jobs find no room
    asked: list[str] = field(default_factory=list)
    lines: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = Keeper(SQLite(self.folder / "relay.db"))
        self.secret.write_text("a-token-of-a-good-length")
        self.write(RULES.format(secret=self.secret))
        self.start()

    def start(self) -> None:
        """Begin with what the files say now."""
        reading = read(self.rules, ENVIRON)
        assert reading.rules is not None, reading.problems
        self.in_force = InForce(reading.rules, self.now)
        self.reloader = Reloader(
            self.in_force, reading, self.keep, self.wake, ENVIRON, clock=lambda: self.now  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def rules(self) -> Path:
        """The file of rules."""
        return self.folder / "rules.toml"

    @property
    def secret(self) -> Path:
        """A file with a secret."""
        return self.folder / "secret"

    async def keep(self, method: Any, *args: Any) -> Any:
        """Be the door to the store."""
        self.asked.append(method.__name__)
        if self.busy:
            self.busy -= 1
            raise StoreBusy("the disk is full")
        return await self.keeper(method, *args)

    def wake(self) -> None:
        """Be the worker's bell."""
        self.woken += 1

    def write(self, text: str, name: str = "rules.toml") -> None:
        """Write a file in place, as `>` does."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run to an end, and keep what it says."""
        with capture_logs() as lines:
            asyncio.run(work)
        self.lines += lines

    def look(self, times: int = 2) -> None:
        """Let so many looks pass."""

        async def looks() -> None:
            for _ in range(times):
                await self.reloader.look()

        self.run(looks())

    def sighup(self) -> None:
        """Do what SIGHUP asks for."""
        self.run(self.reloader.check(asked=True))

    def said(self, event: str) -> list[Any]:
        """Return the lines of that name."""
        return [line for line in self.lines if line["event"] == event]

    @property
    def names(self) -> list[str]:
        """The rules in force."""
        return [rule.name for rule in self.in_force.rules.rules]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Set a desk up whose file system tells any two writes apart."""
    monkeypatch.setattr("relay.reload.BLUR_NS", -(10**18))
    monkeypatch.setattr("relay.reload.REST_S", 0)
    made = Desk(tmp_path)
    yield made
    made.keeper.close()


def renamed(desk: Desk, name: str) -> str:
    """Return the file of rules with another name in it."""
    return desk.rules.read_text().replace("retry jobs", name)
