"""Is the database opened as it must be, or refused in words that a person can act on?"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest
from conftest import Door
from test_store import NOW, claim, delivery, only, owed, record

from relay import engine as engine_module
from relay.call import State
from relay.deed import Plan
from relay.engine import SQLite, migrations, reader, statements
from relay.errors import StoreBusy, StoreError
from relay.event import Decision
from relay.store import Store

NOBODY = 65_534
ROOT = os.geteuid() == 0
KNOWN = migrations()[-1][0]

HOLDER = """
import sys
from pathlib import Path
from relay.engine import SQLite
engine = SQLite(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@contextmanager
def holder(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that serves the database."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert b"held\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


@contextmanager
def powerless(mode: int = 0o777) -> Iterator[Path]:
    """Be a user without rights, beside a folder with *mode*."""
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), os.geteuid()
        folder.chmod(mode)
        if ROOT:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(before)
            folder.chmod(0o700)


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        SQLite(path).close()
    assert not isinstance(caught.value, StoreBusy)
    return str(caught.value)


# -- how it is opened --


def test_the_pragmas_are_what_the_promise_needs(path: Path) -> None:
    """I1: WAL, and a sync of every commit; foreign keys are held, and foreign schemas are not trusted."""
    with closing(SQLite(path)) as engine:
        found = {
            name: engine._connection.execute(f"PRAGMA {name}").get
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "mmap_size")
        }

    assert {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0, "mmap_size": 0,
    } == found  # fmt: skip


def test_sqlite_is_past_the_wal_reset_bug(path: Path) -> None:
    """SQLite before 3.51.3 could lose a committed transaction when the WAL was reset; the log names ours."""
    with closing(SQLite(path)) as engine:
        title = engine.title

    assert (3, 51, 3) <= tuple(map(int, apsw.sqlite_lib_version().split(".")))
    assert f"SQLite {apsw.sqlite_lib_version()} {path}" == title


def test_a_job_that_fails_is_undone_alone(path: Path) -> None:
    """Inside a group, a job's own failure leaves what the others did."""
    with closing(SQLite(path)) as engine:
        store = Store(engine.link())
        with engine.group():
            with engine.job():
                store.pulse(NOW)
            with pytest.raises(ZeroDivisionError), engine.job():
                store.pulse(NOW + 1)
                raise ZeroDivisionError
            with engine.job():
                store.claim({}, NOW, "a")

        assert [(NOW,)] == list(engine._connection.execute("SELECT at FROM pulse"))


def test_a_group_that_fails_leaves_nothing(path: Path) -> None:
    """What leaves the group by an exception was never there, and the next group works."""
    with closing(SQLite(path)) as engine:
        with pytest.raises(KeyboardInterrupt), engine.group():
            Store(engine.link()).pulse(NOW)
            raise KeyboardInterrupt
        assert [] == list(engine._connection.execute("SELECT at FROM pulse"))
        for at in (NOW, NOW + 1):  # the pulse is one row, written again and again
            Door(engine)(Store.pulse, at)
            assert [(at,)] == list(engine._connection.execute("SELECT at FROM pulse"))


def test_only_the_databases_own_trouble_is_fatal(path: Path) -> None:
    """A broken constraint is one job's fault, any other error of the driver the disk's."""
    with closing(SQLite(path)) as engine:
        assert True is engine.fatal(apsw.IOError())
        assert True is engine.fatal(apsw.FullError())
        assert False is engine.fatal(apsw.ConstraintError())
        assert False is engine.fatal(ValueError())


def test_statements_have_the_lock_where_rows_are_taken() -> None:
    """An engine's lock is the one difference between texts."""
    plain, locking = statements(""), statements("FOR UPDATE")

    assert {"due", "lost"} == {name for name in plain if plain[name] != locking[name]}


# -- the lock --


def test_a_second_opening_is_refused_with_the_holders_number(path: Path) -> None:
    """One file, one server: the second learns which process is the first, and harms nothing."""
    with closing(SQLite(path)) as engine:
        assert f"{path}: another relay serves this database (process {os.getpid()})" == refused(path)
        Door(engine)(Store.pulse, NOW)


def test_a_second_process_is_refused_through_any_name(path: Path) -> None:
    """The lock is the file's: another process, or a symbolic link to the file, does not get by."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    with holder(path) as process:
        assert f"(process {process.pid})" in refused(path)
        assert f"(process {process.pid})" in refused(link)


def test_close_gives_the_lock_back(path: Path) -> None:
    """After a close the next server starts at once and finds everything."""
    with closing(SQLite(path)) as engine:
        record(Door(engine), delivery(), owed())
    with closing(SQLite(path)) as engine:
        assert owed() == only(Door(engine))


def test_a_killed_holder_leaves_no_lock(path: Path) -> None:
    """The lock ends with its process, however that ends; the number of a dead one stops nobody."""
    with holder(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with closing(SQLite(path)):
            assert f"(process {os.getpid()})" in refused(path)


def test_a_refused_opening_keeps_no_lock(path: Path) -> None:
    """Who could not open the database does not stop who can."""
    path.write_bytes(b"no database at all, and longer than a header" * 100)
    refused(path)
    path.unlink()
    SQLite(path).close()


# -- reading beside it --


def test_a_reader_sees_what_a_running_server_committed(path: Path) -> None:
    """Beside the writer a reader sees each commit, nothing before it, and can change nothing."""
    with closing(SQLite(path)) as engine:
        store, reading = Door(engine), Store(reader(path))
        record(store, delivery(1), owed())
        with engine.group():
            Store(store.link).record(delivery(2), Plan(Decision.NO_RULE), version="v1", dedupe_ms=1)
            assert ["ev_000001"] == [row["id"] for row in reading.events()]
        assert ["ev_000002", "ev_000001"] == [row["id"] for row in reading.events()]
        claim(store)
        assert State.RUNNING is reading.calls()[0].state
        with pytest.raises(StoreError, match="readonly database"):
            reading.pulse(NOW)


def test_a_reader_reads_after_a_clean_close(path: Path) -> None:
    """When no server runs and the WAL is gone, all can still be read, and a server starts beside it."""
    with closing(SQLite(path)) as engine:
        record(Door(engine), delivery(), owed())
    assert not path.with_name("relay.db-wal").exists()

    reading = Store(reader(path))
    assert [owed()] == reading.calls()
    with closing(SQLite(path)) as engine:
        claim(Door(engine))
        assert State.RUNNING is reading.calls()[0].state


def test_a_reader_of_nothing_is_told_so(path: Path) -> None:
    """No file, no database in it, or another schema: a plain sentence, and nothing is made."""
    with pytest.raises(StoreError, match="no such database"):
        reader(path)
    assert not path.exists()
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="its schema is version 0"):
        reader(path)
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreError, match=r"relay\.db: .*not a database"):
        reader(path)


def test_a_broken_file_is_reported_in_our_words(path: Path) -> None:
    """What the driver finds wrong while reading comes as StoreError, with the file's name."""
    with closing(SQLite(path)) as engine:
        record(Door(engine), delivery(body=b"x" * 100_000), owed())
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (size - 4_096))

    with pytest.raises(StoreError, match=r"relay\.db: .*malformed"):
        Store(reader(path)).events()


# -- the schema --


def test_the_schema_is_made_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration runs in the first start that knows it, and never again."""
    text = "CREATE TABLE extra (one BIGINT); INSERT INTO extra VALUES (1)"
    SQLite(path).close()
    monkeypatch.setattr(engine_module, "migrations", lambda: (*migrations(), (KNOWN + 1, "x.sql", text)))
    for _ in range(2):
        with closing(SQLite(path)) as engine:
            assert [(1,)] == list(engine._connection.execute("SELECT one FROM extra"))
            assert KNOWN + 1 == engine._connection.execute("PRAGMA user_version").get


def test_a_migration_is_whole_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails half-way leaves the schema before it, and a relay that mends it goes on from there."""
    broken = "CREATE TABLE extra (one BIGINT); INSERT INTO extra VALUES (1); CREATE TABLE event (id TEXT)"
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "migrations", lambda: (*migrations(), (KNOWN + 1, "x.sql", broken)))
        assert f"{path}: table event already exists" == refused(path)

    with closing(SQLite(path)) as engine:
        assert KNOWN == engine._connection.execute("PRAGMA user_version").get
        assert 0 == engine._connection.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'extra'").get


def test_a_newer_schema_is_refused(path: Path) -> None:
    """An older relay does not touch what a newer one has made, neither to write nor to read."""
    SQLite(path).close()
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"PRAGMA user_version={KNOWN + 1}")

    assert f"made by a newer relay (schema {KNOWN + 1}, this one knows {KNOWN})" in refused(path)
    with pytest.raises(StoreError, match=f"version {KNOWN + 1}, this relay reads {KNOWN}"):
        reader(path)


# -- what can't be opened --


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Relay makes a database, but not folders that were perhaps mistyped."""
    assert f"there is no folder {tmp_path / 'nowhere'}" in refused(tmp_path / "nowhere" / "relay.db")


def test_what_is_no_database_is_refused(path: Path) -> None:
    """A file of another kind, or a folder, is left as it is."""
    path.write_bytes(b"dear diary, " * 1_000)
    assert f"{path}: " in refused(path)
    assert b"dear diary, " * 1_000 == path.read_bytes()
    assert f"{path.parent}: " in refused(path.parent)


def test_a_database_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has no WAL: what can't keep the promise does not start."""
    monkeypatch.chdir(tmp_path)

    assert "relay needs wal and 2" in refused(Path(":memory:"))


def test_a_folder_that_can_not_be_written_is_refused() -> None:
    """Without rights in the folder there is a plain sentence, not a traceback."""
    with powerless(0o555) as folder:
        assert "Permission denied" in refused(folder / "relay.db")


def test_a_folder_that_can_not_be_entered_is_refused() -> None:
    """A folder whose inside is closed to us is no traceback either, to serve or to read."""
    with powerless() as folder:
        (folder / "closed" / "inner").mkdir(parents=True)
        (folder / "closed").chmod(0o000)
        try:
            assert "Permission denied" in refused(folder / "closed" / "inner" / "relay.db")
            with pytest.raises(StoreError, match="Permission denied"):
                reader(folder / "closed" / "inner" / "relay.db")
        finally:
            (folder / "closed").chmod(0o700)


def test_a_file_that_can_only_be_read_is_refused() -> None:
    """I10: a database that takes no insert is refused at the start, not at the first event."""
    with powerless() as folder:
        SQLite(folder / "relay.db").close()
        (folder / "relay.db").chmod(0o400)
        assert "relay.db: " in refused(folder / "relay.db")
