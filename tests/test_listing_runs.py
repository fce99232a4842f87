"""Does a run of a watch see all that has failed?  The four lists, against the simulators, on real sockets."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import orjson
from rulesfiles import ROOT
from wires import HERE

from relay.demo.docflow import DocflowSim
from relay.demo.flatfile import FlatfileSim
from relay.demo.sim import Simulator
from relay.demo.writer import WriterSim
from relay.demo.xpkg import XpkgSim
from relay.event import Json
from relay.listing import own, query, read, since
from relay.load import load
from relay.provider import Provider, Reply
from relay.render import checked, listing_request
from relay.send import Sender

NOW = 1_700_000_000_000
PROVIDERS = load(ROOT / "rules.toml", {}, secrets=False).providers


def watched(
    sim: Simulator, name: str, values: dict[str, Json], *, size: tuple[str, int] | None = None
) -> tuple[list[bytes], int]:
    """Run the provider's watch against its simulator; return the events and the number of pages."""
    provider = PROVIDERS[name]
    [one] = provider.listings.values()
    if size is not None:
        one = replace(one, shape=replace(one.shape, query={**one.shape.query, size[0]: size[1]}))

    async def go(provider: Provider) -> tuple[list[bytes], int]:
        sender = Sender()
        events: list[bytes] = []
        state: Mapping[str, Json] | None = {}
        pages = 0
        try:
            while state is not None:
                filled = checked(one, own({**values, **state})) | {"since": since(one, None, NOW)}
                answer = await sender(listing_request(provider, one, filled, query(one, state), NOW))
                assert isinstance(answer, Reply)
                assert 200 == answer.status, answer.body
                found = read(one, answer, state)
                assert ((), "") == (found.flaws, found.cut)
                events += [item.event for item in found.items]
                state, pages = found.next, pages + 1
        finally:
            await sender.close()
        return events, pages

    with sim.serve() as url:
        return asyncio.run(go(replace(provider, base_url=url, reach=HERE)))


def secret(provider: str, name: str) -> str:
    """Return the secret with which our requests go out."""
    return PROVIDERS[provider].secrets[name].reveal()


def many(add: Callable[[int, str], str]) -> Iterator[str]:
    """Put 23 failed things in, with others between them, and yield the keys of the failed."""
    for number in range(23):
        yield add(number, "failed")
        add(number + 100, "recovered")
        add(number + 200, "running")


def test_a_run_over_writers_files() -> None:
    """Each failed file is one event, over as many pages as it takes, and no page more."""
    sim = WriterSim(key=secret("writer", "token"))
    keys = list(many(lambda _, status: sim.add(status=status).key))

    events, pages = watched(sim, "writer", {}, size=("limit", 10))

    assert [{"type": "file.failed", "file_id": key} for key in keys] == [orjson.loads(e) for e in events]
    assert 3 == pages


def test_a_run_over_docflows_tasks() -> None:
    """Each failed task is one event; the page after the last full one is asked for, and empty."""
    sim = DocflowSim(app_id=secret("docflow", "app_id"), secret_code=secret("docflow", "secret_code"))
    keys = list(many(lambda number, status: sim.add(f"{number + 1}", status=status).key))
    sim.add("999", task_type=0, parent_task_id=keys[0])

    events, pages = watched(sim, "docflow", {"workspace_id": sim.workspace_id}, size=("page_size", 10))

    assert [{"task_id": key, "status": "failed"} for key in keys] == [orjson.loads(e) for e in events]
    assert 4 == pages


def test_a_run_over_xpkgs_versions() -> None:
    """Each failed version is one event, all out of one answer."""
    sim = XpkgSim(token=secret("xpkg", "token"))
    keys = list(
        many(lambda n, status: sim.add_version(f"example.package{n % 3}", f"{n}.1", status=status).key)
    )

    events, pages = watched(sim, "xpkg", {})

    found = [orjson.loads(event) for event in events]
    assert sorted(keys) == sorted(f"{one['package_id']}@{one['package_version']}" for one in found)
    assert ({"failed_server"}, 1) == ({one["status"] for one in found}, pages)


def test_a_run_over_flatfiles_log() -> None:
    """Each event that a job failed comes as the simulator's log has it; those of completed jobs do not."""
    sim = FlatfileSim(key=secret("flatfile", "token"), heals_after_s=0)
    keys = list(many(lambda number, status: sim.add(f"us_jb_{number}", status=status).key))
    sim.run(sim.held[keys[0]])

    events, pages = watched(sim, "flatfile", {}, size=("pageSize", 10))

    failed = [event for event in sim.events() if event["topic"] == "job:failed"]
    assert failed == [orjson.loads(event) for event in events]
    assert (keys, 4) == ([one["context"]["jobId"] for one in map(orjson.loads, events)], pages)
    assert 24 == len(sim.events())
