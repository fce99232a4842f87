"""Would an event be kept now, and soon?  If not, its sender is told so before its body is read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.errors import Rejected
from relay.intake import Intake
from relay.keep import Keeper
from relay.web.problem import refusal
from relay.web.tally import Tally

log = structlog.get_logger()

MOST_JOBS: Final = 2000
"""Jobs that may wait for the store."""

LONGEST_S: Final = 1.0
"""Seconds that one of them may have waited."""

AGAIN_S: Final = 5
"""Seconds after which a sender that was shed should come again."""

LOOK_S: Final = 1.0
"""Seconds between two looks at the disk."""

HOOKS: Final = "/hooks/"


def overload(waiting: int, age_s: float) -> str:
    """Say why the store can't keep up; nothing, if it can."""
    if waiting > MOST_JOBS:
        return f"more than {MOST_JOBS} jobs wait for the disk"
    return f"a job has waited for the disk for more than {LONGEST_S:g} s" if age_s > LONGEST_S else ""


def shut(was: bool, free: int, least: int) -> bool:  # noqa: FBT001 - the mark's state, not an option
    """Say if too little of the disk is free: it shuts below *least* bytes, and opens at a quarter more."""
    return free < least * 5 // 4 if was else free < least


class Disk:
    """How much room there is where the database is, looked at once a second at most."""

    def __init__(
        self,
        folder: Path,
        least: int,
        free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._folder, self._least, self._free, self._clock = folder, least, free, clock
        self._low = False
        self._next = clock()

    def low(self) -> str:
        """Say that there is too little room, and how little; nothing, if there is enough."""
        if self._least and self._clock() >= self._next:
            self._next = self._clock() + LOOK_S
            self._look()
        return f"less than {self._least} bytes of the disk are free" if self._low else ""

    def _look(self) -> None:
        try:
            free = self._free(self._folder)
        except OSError:
            return  # the store will say what is wrong with it
        was, self._low = self._low, shut(self._low, free, self._least)
        if self._low and not was:
            log.error("disk.low", free=free, least=self._least)
        elif was and not self._low:
            log.info("disk.enough", free=free, least=self._least)


class Shed:
    """
    A middleware before the hooks: 503 while events can't be kept, 429 for a source that posts too often.

    The parts that it asks stand in the app's state, for they live as long as its lifespan.
    """

    def __init__(self, app: ASGIApp, *, tally: Tally) -> None:
        self._app, self._tally = app, tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a delivery by its source and the state of the store alone."""
        hook = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(HOOKS)
        refused = self._refused(scope) if hook else None
        await (self._app if refused is None else refusal(refused))(scope, receive, send)

    def _refused(self, scope: Scope) -> Rejected | None:
        """Return what a sender is told; None: go on."""
        state = scope["app"].state
        keep: Keeper = state.keep
        disk: Disk = state.disk
        intake: Intake = state.intake
        if disk.low():
            self._tally.speak("edge.shed", why="disk")
            return Rejected(503, "Not kept", "too little of the disk is free", AGAIN_S)
        if why := overload(keep.waiting, keep.age_s):
            self._tally.speak("edge.shed", why="store")
            return Rejected(503, "Busy", why, AGAIN_S)
        name = scope["path"].removeprefix(HOOKS).partition("/")[0]
        if (full := intake.full(name)) is not None:
            self._tally.speak("edge.limited", source=name)
        return full
