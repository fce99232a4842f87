"""When is a delivery turned away unread?  Limits, a store that can't keep up, a disk that fills."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from process import until
from raw import ask
from story import hook, story

from relay.bucket import Buckets
from relay.config import host_name, size
from relay.engine import SQLite
from relay.keep import Keeper
from relay.provider import Limit
from relay.store import Store
from relay.web.shed import Disk, overload, shut


def test_a_bucket_holds_its_burst_and_fills_with_time() -> None:
    """Three at once, then one a second; who is too early is told how long; each source has its own."""
    buckets, limit = Buckets(), Limit(every_ms=1_000, burst=3)

    assert [0, 0, 0, 1_000] == [buckets.take("a", limit, 10_000) for _ in range(4)]
    assert 1 == buckets.take("a", limit, 10_999)
    assert [0, 1_000] == [buckets.take("a", limit, 11_000) for _ in range(2)]
    assert 0 == buckets.take("b", limit, 11_000)
    assert [0, 0, 0, 1_000] == [buckets.take("a", limit, 99_000) for _ in range(4)]


def test_a_limit_that_changes_holds_from_then_on() -> None:
    """What was spent stays spent, at the new rate."""
    buckets = Buckets()
    for _ in range(5):
        assert not buckets.take("a", Limit(every_ms=1_000, burst=5), 0)

    assert 3_001 == buckets.take("a", Limit(every_ms=1_000, burst=3), 0 - 1)
    assert not buckets.take("a", Limit(every_ms=1_000, burst=6), 0)


@pytest.mark.parametrize(
    ("waiting", "age_s", "busy"), [(0, 0.0, False), (2_000, 1.0, False), (2_001, 0.0, True), (1, 1.1, True)]
)
def test_a_store_that_can_not_keep_up_is_one_with_many_or_old_jobs(
    waiting: int, age_s: float, busy: bool
) -> None:
    """More than 2,000 of them, or one that is older than a second."""
    assert busy == bool(overload(waiting, age_s))


def test_the_keeper_says_what_waits(tmp_path: Path) -> None:
    """How many jobs there are and how old the first of them is; nothing, when all are done, or failed."""
    keep = Keeper(SQLite(tmp_path / "relay.db"))
    gate = threading.Event()

    async def jobs() -> tuple[int, float]:
        slow = asyncio.create_task(keep(lambda _: gate.wait(10)))
        bad = asyncio.create_task(keep(lambda _: 1 // 0))
        gone = asyncio.create_task(keep(Store.resume))
        await asyncio.sleep(0.2)
        seen = keep.waiting, keep.age_s
        gone.cancel()
        gate.set()
        await asyncio.gather(slow, bad, gone, return_exceptions=True)
        return seen

    waiting, age_s = asyncio.run(jobs())
    keep.close()

    assert 3 == waiting
    assert 0.1 < age_s < 10
    assert (0, 0.0) == (keep.waiting, keep.age_s)


def test_the_disk_has_two_marks() -> None:
    """It shuts below the lower one, and opens at a quarter more: it does not flap between two events."""
    assert [False, True] == [shut(False, free, 100) for free in (100, 99)]
    assert [True, False] == [shut(True, free, 100) for free in (124, 125)]
    assert not shut(False, 0, 0)


def test_the_disk_is_looked_at_once_a_second(tmp_path: Path) -> None:
    """However many deliveries there are; a disk that can't be asked changes nothing."""
    now, looks = 0.0, []
    free = {"bytes": 50}

    def look(folder: Path) -> int:
        looks.append(folder)
        if free["bytes"] < 0:
            raise OSError
        return free["bytes"]

    disk = Disk(tmp_path, 100, look, lambda: now)
    assert all(disk.low() for _ in range(10))
    free["bytes"], now = -1, 1.0
    assert disk.low()
    free["bytes"], now = 124, 2.0
    assert disk.low()
    free["bytes"], now = 125, 3.0
    assert not disk.low()

    assert [tmp_path] * 4 == looks
    assert not Disk(tmp_path, 0, look, lambda: now).low()
    assert 4 == len(looks)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("0", 0), ("512KiB", 524_288), ("256MiB", 1 << 28), ("1 GiB", 1 << 30), ("7B", 7)]
)
def test_a_size_has_a_unit(text: str, bytes_: int) -> None:
    """In powers of 1,024, said so."""
    assert bytes_ == size(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5GiB", "256MB", "256 mib", "9999999999", "\u0663MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Rather than guessed."""
    with pytest.raises(ValueError, match="expected a size"):
        size(text)


def test_a_host_is_a_name_alone() -> None:
    """In lower case, without scheme, port and path."""
    assert ["relay.example.com", "[::1]"] == [host_name(" Relay.Example.com"), host_name("[::1]")]
    for wrong in ("", "https://relay.example.com", "relay:8080", "a/b", "a b", "*"):
        with pytest.raises(ValueError, match="expected a host's name"):
            host_name(wrong)


def test_a_name_that_is_not_relays_is_not_answered(tmp_path: Path) -> None:
    """With --allow-host it is 421; the names that are allowed, and relay's own machine, are served."""
    with story(tmp_path) as on:
        on.start("--allow-host", "relay.example.com", "--allow-host", "hooks.example.com")

        def status(host: str) -> list[int]:
            raw = f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            return ask(on.relay.url, raw, answers=1).statuses

        hosts = ("relay.example.com", "HOOKS.example.com:8443", "127.0.0.1", "evil.example")
        assert [[200], [200], [200], [421]] == [status(host) for host in hosts]


@pytest.mark.parametrize(
    "option", [("--min-free", "much"), ("--allow-host", "https://x"), ("--connections", "0")]
)
def test_an_option_that_is_wrong_is_said(tmp_path: Path, option: tuple[str, str]) -> None:
    """Exit code 2, and a line with the option's name."""
    with story(tmp_path) as on:
        relay = on.spawn(*option)

        assert 2 == relay.ended()
        assert option[0] in relay.text


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Make a folder on a disk of 16 MB, which only root can."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_takes_nothing_in_before_it_is_full(small: Path) -> None:
    """Below --min-free: 503 with Retry-After, not ready, and calls go on; with room again all goes on."""
    with story(small) as on:
        on.start("--min-free", "4MiB")
        call = on.post("writer", {"type": "file.failed", "file_id": on.writer.add().key})
        filler = small / "filler"
        filler.write_bytes(bytes(10 << 20))
        until(lambda: on.send("GET", "/readyz").status == 503, "it is not ready")
        answer = on.client.post(on.relay.url + hook("writer"), content=b"{}")
        done = on.settled(call)
        low = on.relay.said("disk.low")
        filler.unlink()
        until(lambda: on.send("GET", "/readyz").status == 200, "it is ready again")

        assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
        assert "done" == done.state
        assert 1 == len(low)
        assert on.relay.heard("disk.enough")
        assert on.relay.heard("edge.shed", why="disk")
        assert 202 == on.post("writer", {"type": "x"}).status
        assert 1 == on.send("GET", "/readyz").said["edge"]["shed"]


def test_a_store_that_stands_still_sheds_before_the_body(tmp_path: Path) -> None:
    """While another process holds the database, a sender hears 503 without having sent its body."""
    import apsw  # noqa: PLC0415 - here alone

    with story(tmp_path) as on:
        on.start()
        other = apsw.Connection(str(on.db))
        other.set_busy_timeout(10_000)  # relay may be writing just now
        other.execute("BEGIN IMMEDIATE")
        waiting = [threading.Thread(target=on.post, args=("writer", {"n": n})) for n in range(3)]
        for one in waiting:
            one.start()
        head = (
            f"POST {hook('writer')} HTTP/1.1\r\nHost: relay\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
        )

        def shed() -> bool:
            return b"503" in ask(on.relay.url, head.encode(), answers=1, within_s=0.2).raw

        try:
            until(shed, "it sheds")
        finally:
            other.execute("ROLLBACK")
            other.close()
            for one in waiting:
                one.join(20)

        assert on.relay.heard("edge.shed", why="store")
        until(lambda: on.post("writer", {"n": 4}).status == 202, "it takes events again")
