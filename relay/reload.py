"""Which rules are in force, and when do others take their place?"""

import asyncio
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

import orjson
import structlog

from relay.clock import now_ms
from relay.errors import ConfigError, Problem, StoreBusy, StoreError
from relay.event import Millis
from relay.keep import Keeper
from relay.load import load
from relay.log import scrub
from relay.plan import ready
from relay.rule import Ruleset
from relay.store import Store

log = structlog.get_logger()

LOOK_S: Final = 1.0
"""How often the files are looked at. By looking, since that works on every disk, mount and symlink."""

REST_S: Final = 0.05
"""How long files have to rest when somebody asks for them to be read at once."""

AGAIN_MS: Final = 10_000
"""How often broken files are checked again: what they lack may be a folder or a secret's file."""

BLUR_NS: Final = 100_000_000
"""Within this time a file can be written twice and look the same from outside."""

TRIES: Final = 3
"""How often files that change while they are read are read again at once."""

Stamp: TypeAlias = tuple[int, ...]
"""Size, times and inode of a file; of one that can't be looked at, why not."""


@dataclass(slots=True)
class InForce:
    """The rules that decide. Who decides takes `rules` once: the next time they may be others."""

    rules: Ruleset
    loaded_at: Millis = 0
    broken: tuple[Problem, ...] = ()  #: what is wrong with the files as they are now


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the files said at one moment."""

    rules: Ruleset | None = None
    problems: tuple[Problem, ...] = ()
    said: Mapping[str, bytes] = field(default_factory=dict)  #: what rules.toml says of each rule
    stamps: Mapping[str, Stamp] = field(default_factory=dict)  #: empty: the files did not rest
    blurred: bool = False  #: a later write could look the same

    @property
    def secrets(self) -> dict[str, list[str]]:
        """The values of the secrets, by the provider or source that holds them."""
        if self.rules is None:
            return {}
        held = {f"source.{name}": one.secrets() for name, one in self.rules.sources.items()}
        held |= {
            f"provider.{name}": tuple(one.secrets.values()) for name, one in self.rules.providers.items()
        }
        return {name: [secret.reveal() for secret in secrets] for name, secrets in held.items()}


# -- the files --


def stamps(rules: Path, more: Iterable[Path] = ()) -> dict[str, Stamp]:
    """Return how each file looks from outside that `load` reads or would read, and each of *more*."""
    beside = [
        file for kind in ("providers", "sources") for file in sorted((rules.parent / kind).glob("*.toml"))
    ]
    return {str(file): _stamp(file) for file in (rules, *beside, *more)}


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError as error:
        return (-(error.errno or 1),)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _secret_files(rules: Ruleset | None) -> tuple[Path, ...]:
    origins = sorted({secret.origin for secret in rules.secrets()} if rules else ())
    return tuple(Path(origin.removeprefix("file:")) for origin in origins if origin.startswith("file:"))


def read(path: Path, environ: Mapping[str, str], before: Reading | None = None) -> Reading:
    """
    Return what the files say as a whole, or what is wrong with them; *before* is what is in force.

    What was read is of one moment: nothing changed meanwhile, or `stamps` is empty.
    """
    held = before.stamps if before else {}
    secrets = _secret_files(before.rules if before else None)
    found = Reading()
    for _ in range(TRIES):
        now, seen = time.time_ns(), stamps(path, secrets)
        found = _read(path, environ, [file for file, stamp in seen.items() if _emptied(held, file, stamp)])
        named = _secret_files(found.rules) if found.rules else secrets
        if named == secrets and stamps(path, secrets) == seen:
            blurred = any(max(times) > now - BLUR_NS for _, *times in seen.values() if times)
            return Reading(
                rules=found.rules, problems=found.problems, said=found.said, stamps=seen, blurred=blurred
            )
        secrets = named
    return found


def _emptied(held: Mapping[str, Stamp], file: str, stamp: Stamp) -> bool:
    """Say whether *file* was cut to nothing: most likely it is about to be written."""
    return stamp[0] == 0 and held.get(file, stamp)[0] > 0


def _read(path: Path, environ: Mapping[str, str], emptied: Iterable[str]) -> Reading:
    hint = "if that is meant, leave a comment in it"
    if problems := tuple(Problem(file=file, what="is empty now", hint=hint) for file in emptied):
        return Reading(problems=problems)
    try:
        rules = load(path, environ)
        ready(rules)
        return Reading(rules=rules, said=_said(path))
    except ConfigError as error:
        return Reading(problems=error.problems)
    except Exception as error:  # a bug: relay stays with the rules that it has
        log.error("reload.failed", exc_info=error)
        what = f"relay failed to check it: {type(error).__name__}"
        return Reading(problems=(Problem(file=str(path), what=what, hint="a bug in relay"),))


def _said(path: Path) -> dict[str, bytes]:
    """Return each rule's table as it is written, without its tests: they decide nothing."""
    try:
        tables: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8-sig")).get("rule", [])
    except (OSError, ValueError):
        return {}  # changed since it was loaded: the stamps tell
    return {
        str(table.get("name")): orjson.dumps({key: table[key] for key in sorted(table.keys() - {"test"})})
        for table in tables
    }


# -- what became of them --


class Reloader:
    """Looks after the files, and puts what they say in force if all of it is right."""

    def __init__(
        self,
        in_force: InForce,
        reading: Reading,
        keep: Keeper,
        wake: Callable[[], None],
        environ: Mapping[str, str],
        *,
        looks: bool = True,
        clock: Callable[[], Millis] = now_ms,
    ) -> None:
        self._in_force, self._held, self._keep, self._wake = in_force, reading, keep, wake
        self._environ, self._looks, self._clock = environ, looks, clock
        self._path = in_force.rules.path
        self._last: Mapping[str, Stamp] = reading.stamps
        self._checked: Mapping[str, Stamp] = {} if reading.blurred else reading.stamps
        self._checked_at = clock()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the files as they are now, and say what came of it."""
        self._asked.set()

    async def run(self) -> None:
        """Look, and do what is asked, for ever."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S if self._looks else None):
                    await self._asked.wait()
                asked = True
            except TimeoutError:
                asked = False
            try:
                if asked:
                    self._asked.clear()
                    await self.check(asked=True)
                else:
                    await self.look()
            except Exception as error:  # a bug: the old rules stay, and the next look may go well
                log.error("reload.failed", exc_info=error)

    async def look(self) -> None:
        """Look at the files from outside; check them once they differ and two looks in a row saw the same."""
        seen = await self._seen()
        rests, self._last = seen == self._last, seen
        late = self._clock() - self._checked_at >= AGAIN_MS
        if rests and (seen != self._checked or (self._in_force.broken and late)):
            await self.check()

    async def _seen(self) -> dict[str, Stamp]:
        return await asyncio.to_thread(stamps, self._path, _secret_files(self._held.rules))

    async def _rest(self) -> None:
        """Wait until nobody is writing: half a file may be right in itself, and say half of what is meant."""
        before: dict[str, Stamp] | None = None
        seen = await self._seen()
        while seen != before:
            await asyncio.sleep(REST_S)
            before, seen = seen, await self._seen()

    async def check(self, *, asked: bool = False) -> None:
        """Read the files; put them in force, or say what is wrong. If *asked*, say what came of it anyway."""
        if asked:
            await self._rest()
        began = perf_counter()
        while True:
            found = await asyncio.to_thread(read, self._path, self._environ, self._held)
            if found.stamps:
                break
            await asyncio.sleep(LOOK_S)  # they are being written
        self._checked = {} if found.blurred else found.stamps
        self._checked_at = self._clock()
        if found.rules is None:
            self._refuse(found.problems, asked=asked)
            return
        took_ms = round((perf_counter() - began) * 1000, 1)
        await self._take(found, found.rules, asked=asked, took_ms=took_ms)

    def _refuse(self, problems: tuple[Problem, ...], *, asked: bool) -> None:
        """Leave the old in force; say so once for all that is wrong in one way."""
        if asked or problems != self._in_force.broken:
            in_force = self._in_force.rules.version
            log.error(
                "rules.broken", in_force=in_force, count=len(problems), problems=list(map(str, problems))
            )
        self._in_force.broken = problems

    async def _take(self, found: Reading, rules: Ruleset, *, asked: bool, took_ms: float) -> None:
        before, self._held = self._held, found
        old = self._in_force.rules
        # What has no secrets any more has no fresh ones.
        fresh = sorted(name for name, held in found.secrets.items() if held != before.secrets.get(name, held))
        if not (asked or fresh or self._in_force.broken or rules.version != old.version):
            return  # touched, and nothing else
        # No line may show a secret, and the first that could comes right after.
        scrub.learn(rules.secrets())
        self._in_force.rules, self._in_force.broken = rules, ()
        self._in_force.loaded_at = self._clock()
        log.info(
            "rules.loaded",
            why="SIGHUP" if asked else "the files changed",
            before=old.version,
            rule_version=rules.version,
            rules=len(rules.rules),
            sources=len(rules.sources),
            providers=len(rules.providers),
            watches=len(rules.watches),
            **_differs("files", before.stamps, found.stamps),
            **_differs("rules", before.said, found.said),
            secrets_changed=fresh,
            took_ms=took_ms,
        )
        paused = [name.removeprefix("provider.") for name in fresh if name.startswith("provider.")]
        await self._settle(rules, paused, gone=bool(old.providers.keys() - rules.providers.keys()))

    async def _settle(self, rules: Ruleset, paused: list[str], *, gone: bool) -> None:
        """See that the store's watches and gates follow the rules, as soon as it has room."""
        while True:
            try:
                await self._keep(Store.arm, rules.watches, self._clock())
                if paused:
                    await self._keep(Store.resume, paused)
                if gone:
                    tell_orphans(await self._keep(Store.counts), rules)
            except StoreBusy as error:
                log.error("store.busy", why=str(error))
                await asyncio.sleep(LOOK_S)
            except StoreError:
                return  # relay stops
            else:
                self._wake()
                return


def _differs(what: str, before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, list[str]]:
    """Name what is there only now, what is there no more, and what is not what it was."""
    return {
        f"{what}_added": sorted(after.keys() - before.keys()),
        f"{what}_removed": sorted(before.keys() - after.keys()),
        f"{what}_changed": sorted(
            name for name in before.keys() & after.keys() if before[name] != after[name]
        ),
    }


def tell_orphans(counts: Mapping[str, Mapping[str, int]], rules: Ruleset) -> None:
    """Say which calls wait for a provider that the rules no longer know: nobody will make them."""
    for provider, states in counts.items():
        waiting = states.get("queued", 0) + states.get("unknown", 0)
        if waiting and provider not in rules.providers:
            log.warning(
                "calls.orphaned", provider=provider, calls=waiting, why="rules.toml no longer uses it"
            )
