"""What happens in the demo?  Twelve things that happen to a relay, and what it must make of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from relay.demo.flatfile import forwarded
from relay.demo.sim import Fault, Simulator
from relay.demo.stage import Stage
from relay.event import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Something that happens, and how each case of it must end."""

    source: str
    tells: str  #: for the reader
    happens: Callable[[], Sequence[Json]] = (
        tuple  #: sets it up at the provider; returns what is posted to relay
    )
    sim: Simulator | None = None
    keys: tuple[str, ...] = ()  #: of the cases; the resources of the simulator bear the same, but for *at*
    at: str = ""  #: how the simulator names the resource
    status: int = 202  #: of relay's answer
    end: str = ""  #: the state in which each case must end; empty: no case is waited for
    retries: int = 0  #: how often the provider must have done the work for each
    requests: int | None = None  #: how many requests those retries must have come in
    command: tuple[str, ...] = ()  #: what the reader would type then
    forged: bool = False  #: sent with a wrong signature

    def times(self, key: str) -> int:
        """Return how often the provider did the work for a case."""
        return self.sim.retries[self.at or key] if self.sim else 0

    def flaw(self) -> str:
        """Say what is wrong with how the retries were asked for; nothing, if it is right."""
        if self.requests is None or self.sim is None:
            return ""
        posts = [
            seen
            for seen in self.sim.calls
            if seen.method == "POST" and any(key.encode() in seen.body for key in self.keys)
        ]
        if len(posts) == self.requests:
            return ""
        return f"asked for in {len(posts)} requests, should be {self.requests}"


def first(on: Stage) -> list[Scene]:
    """Return all scenes but the last."""
    file1, night, contract = _uuid(1), tuple(map(_uuid, (2, 3, 4))), _uuid(5)
    job = "us_jb_import_7"

    def fails(*keys: str, **facts: Json) -> list[Json]:
        for key in keys:
            on.writer.add(key, name=str(facts.get("name", "prices.pdf")))
        return [{"type": "file.failed", "file_id": key, **facts} for key in keys]

    def night_fails() -> list[Json]:
        # What a call is shared by is due at one whole second: the files must not fail on both sides of one.
        time.sleep(-time.time() % 1)
        return fails(*night, folder="nightly")

    def forged() -> list[Json]:
        return [{"type": "file.failed", "file_id": file1}]

    def job_fails(key: str, *outcomes: str) -> list[Json]:
        on.flatfile.add(key, outcomes=outcomes)
        return [forwarded(on.flatfile.events()[-1], on.flatfile.key)]

    def busy_job() -> list[Json]:
        on.flatfile.faults.append(Fault(status=429, headers={"Retry-After": "2"}))
        return job_fails(job)

    def said_before() -> list[Json]:
        return [forwarded(on.flatfile.events()[-1], on.flatfile.key)]

    def other_topic() -> list[Json]:
        (told,) = said_before()
        assert isinstance(told, dict)
        src = told["src"]
        assert isinstance(src, dict)
        return [told | {"topic": "job:updated", "src": {**src, "id": "us_evt_other"}}]

    def untold() -> list[Json]:
        on.docflow.add("1978297791713619968")
        return []

    def child() -> list[Json]:
        on.docflow.add("1978297791713619999", task_type=0, parent_task_id="1978297791713619968")
        return [{"task_id": "1978297791713619999", "status": "failed"}]

    def package() -> list[Json]:
        on.xpkg.add_version("example.package1", "1.3.0b9")
        return [{"package_id": "example.package1", "package_version": "1.3.0b9", "status": "failed"}]

    writer = partial(Scene, source="writer", sim=on.writer, end="recovered", retries=1)
    flatfile = partial(Scene, source="flatfile", sim=on.flatfile)
    docflow = partial(Scene, source="docflow", sim=on.docflow)
    return [
        writer(
            tells="a file failed at Writer: relay asks for it once more, then looks whether it recovered",
            happens=partial(fails, file1), keys=(file1,),
        ),
        flatfile(
            tells="a job failed at Flatfile, which is busy: 429, wait 2 s; its own event says it recovered",
            happens=busy_job, keys=(job,), end="recovered", retries=1,
        ),
        flatfile(
            tells="Flatfile's forwarder says it twice: a duplicate, and no second call",
            happens=said_before, status=200,
        ),
        flatfile(tells="a job goes on: kept, but no rule is for it", happens=other_topic),
        docflow(
            tells="a task failed at DocFlow, and nobody says so: the watch finds it; relay looks, then calls",
            happens=untold, keys=("1978297791713619968",), end="recovered", retries=1,
        ),
        docflow(
            tells="a child task failed at DocFlow: those can't be retried, so it is not called at all",
            happens=child, keys=("1978297791713619999",), end="gave_up", retries=0,
        ),
        Scene(
            tells="a package failed at X-Pkg: its zip is uploaded again", source="xpkg", sim=on.xpkg,
            happens=package, keys=("example.package1@1.3.0b9",), end="recovered", retries=1,
        ),
        writer(
            tells="three files of a night failed at Writer: three cases, and one call for all",
            happens=night_fails, keys=night, requests=1,
        ),
        writer(
            tells="a contract failed at Writer: its rule wants a person's yes",
            happens=partial(fails, contract, name="contract.pdf"), keys=(contract,),
            command=("approve", contract, "--by", "you", "--why", "it is the right version"),
        ),
        writer(
            tells="somebody posts with a wrong signature: refused",
            happens=forged, status=401, forged=True, end="",
        ),
        flatfile(
            tells="a job fails at Flatfile, and again after each retry: after three, relay gives up, once",
            happens=partial(job_fails, "us_jb_broken", *["failed"] * 9), keys=("us_jb_broken",),
            end="gave_up", retries=3,
        ),
    ]  # fmt: skip


def last(on: Stage) -> list[Scene]:
    """Return the scene whose fault no other call must take."""
    file2 = _uuid(6)

    def half_done() -> list[Json]:
        on.writer.add(file2, name="terms.pdf")
        on.writer.faults.append(Fault(status=500, after=True))
        return [{"type": "file.failed", "file_id": file2}]

    return [
        Scene(
            tells="Writer takes the call, then answers 500: unknown, so relay looks before it calls twice",
            source="writer", sim=on.writer, happens=half_done, keys=(file2,), end="recovered", retries=1,
        ),
    ]  # fmt: skip


def _uuid(number: int) -> str:
    digit = str(number)
    return f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}"
