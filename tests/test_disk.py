"""Is what was acknowledged still there when the disk is full, or does not do what it says?"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from test_keep import kept, record, run

from relay.engine import SQLite, reader
from relay.errors import StoreBusy, StoreError
from relay.keep import Keeper
from relay.store import Recorded, Store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    """Acknowledged is kept; refused is StoreBusy; with room again relay goes on, and the file is whole."""
    (small_disk / "filler").write_bytes(bytes(300_000))
    path = small_disk / "relay.db"
    keep = Keeper(SQLite(path))

    async def flood(first: int) -> list[Recorded | BaseException]:
        work = (record(keep, n, body=b"%d" % n + bytes(9_000)) for n in range(first, first + 20))
        return await asyncio.gather(*work, return_exceptions=True)

    results: list[Recorded | BaseException] = []
    while StoreBusy not in map(type, results):
        results += run(flood(len(results) + 1))
        assert len(results) < 200
    (small_disk / "filler").unlink()
    results.append(run(record(keep, 1_000)))
    keep.close()

    assert {StoreBusy, Recorded} == set(map(type, results))
    acknowledged = {result.event for result in results if isinstance(result, Recorded)}
    assert acknowledged == {row["id"] for row in Store(reader(path)).events(limit=1_000)}
    with closing(apsw.Connection(str(path))) as connection:
        assert "ok" == connection.execute("PRAGMA integrity_check").get


def test_a_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    """No room for the first tables, or for the lock's number: words, not a traceback, and no lock is left."""
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4_096))
    with pytest.raises(StoreBusy):
        SQLite(small_disk / "relay.db")
    (small_disk / "filler").unlink()
    SQLite(small_disk / "relay.db").close()


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    """Another process that holds the file is told to the sender as busy; when it lets go, relay goes on."""
    path = tmp_path / "relay.db"
    keep = Keeper(SQLite(path))
    with closing(apsw.Connection(str(path))) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another process"):
            run(record(keep, 1))
        another.execute("ROLLBACK")

    assert not run(record(keep, 1)).duplicate
    assert keep.broken is None
    keep.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_has_gone_takes_nothing_in(tmp_path: Path, how: str) -> None:
    """What would go into a file without a name is not acknowledged: relay stops, to be started again."""
    path = tmp_path / "relay.db"
    keep = Keeper(SQLite(path))
    run(record(keep, 1))
    path.unlink()
    if how == "replaced":
        path.write_bytes(b"")

    with pytest.raises(StoreError, match="removed or replaced"):
        run(record(keep, 2))

    assert keep.broken is not None
    keep.close()


UNSYNCED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_keep import record
from relay.engine import SQLite
from relay.errors import StoreError
from relay.keep import Keeper

keep = Keeper(SQLite(Path(sys.argv[1])))

async def story():
    for number in range(1, 31):
        try:
            print((await record(keep, number)).event)
        except StoreError as error:
            print(type(error).__name__, keep.broken is not None)

asyncio.run(story())
"""


def test_a_sync_that_fails_is_never_carried_on_from(tmp_path: Path) -> None:
    """After one EIO of fdatasync nothing more is acknowledged; all that was is there after a restart."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    path, here = tmp_path / "relay.db", Path(__file__).parent
    inject = "inject=fdatasync,fsync:error=EIO:when=20"
    told = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, sys.executable, "-c", UNSYNCED, path, here],
        env=os.environ | {"PYTHONPATH": str(here.parent)}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    if b"PTRACE" in told.stderr:
        pytest.skip("strace may not trace here")
    lines = told.stdout.decode().splitlines()
    count = sum(line.startswith("ev_") for line in lines)

    assert 30 == len(lines), told.stderr.decode()
    assert 0 < count < 30
    assert ["StoreError True"] * (30 - count) == lines[count:]
    with closing(SQLite(path)) as engine:
        assert set(lines[:count]) <= kept(engine)
