"""How is the database reached? One engine today, SQLite through apsw; PostgreSQL will be the second."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import apsw

from relay.errors import StoreBusy, StoreError

Row: TypeAlias = dict[str, Any]
"""One row: column name → str, int, bytes or None."""

STATEMENTS: Final = ("queries.sql", "windows.sql")
"""In ``sql/``: every statement, by name."""

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_NUMBERED: Final = re.compile(r"(\d{4})_\w+\.sql")


class Link(Protocol):
    """An open connection that knows relay's statements by name."""

    def rows(self, name: str, params: Mapping[str, Any]) -> list[Row]:
        """Run the statement *name* and return its rows."""
        ...


class Engine(Protocol):
    """A kind of database. What differs between kinds is here and nowhere else."""

    title: str  #: for the log: which database, which version

    def link(self) -> Link:
        """Return the connection that writes."""
        ...

    def group(self) -> contextlib.AbstractContextManager[None]:
        """Run several jobs as one transaction, committed to disk at the end. Raises StoreError, StoreBusy."""
        ...

    def job(self) -> contextlib.AbstractContextManager[None]:
        """Run one job inside a group: when it fails, it alone is undone."""
        ...

    def fatal(self, error: Exception) -> bool:
        """Say if *error* is the database's, so that nothing of the group can be trusted to commit."""
        ...

    def close(self) -> None:
        """Close the connection and give the lock back."""
        ...


@cache
def statements(lock: str) -> Mapping[str, str]:
    """Read the files of `STATEMENTS`: name → statement, with the engine's *lock* put in."""
    read = ((files("relay") / "sql" / name).read_text() for name in STATEMENTS)
    return {
        name: text.strip().replace("{lock}", lock)
        for parts in map(_NAME.split, read)
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """Read ``sql/NNNN_name.sql`` in order: number, file name, text."""
    found = [
        (match, entry)
        for entry in (files("relay") / "sql").iterdir()
        if (match := _NUMBERED.fullmatch(entry.name))
    ]
    return tuple(sorted((int(match[1]), entry.name, entry.read_text()) for match, entry in found))


class SQLiteLink:
    """A SQLite connection that knows relay's statements."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._statements = statements("")

    def rows(self, name: str, params: Mapping[str, Any]) -> list[Row]:
        """Run the statement *name* and return its rows."""
        cursor = self._connection.execute(self._statements[name], params)
        found: list[Row] = []
        columns: tuple[str, ...] = ()
        for row in cursor:
            columns = columns or tuple(column[0] for column in cursor.get_description())
            found.append(dict(zip(columns, row, strict=True)))
        return found


class _Reading(SQLiteLink):
    """A connection that only reads: nobody above it translates the driver's errors."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        super().__init__(connection)
        self._path = path

    def rows(self, name: str, params: Mapping[str, Any]) -> list[Row]:
        """Run the statement *name* and return its rows. Raises StoreError."""
        with _translated(self._path):
            return super().rows(name, params)


class SQLite:
    """
    One file, one node, one writing connection.

    WAL with ``synchronous=FULL``: a commit is on the disk before anybody is told. A lock file keeps a second
    server off the same database; readers open it ``mode=ro``. apsw brings its own SQLite, past 3.51.3, which
    mended the WAL-reset bug.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        try:
            with _translated(path):
                self._connection = apsw.Connection(str(path))
                self._prepare()
                _migrate(self._connection, path)
        except BaseException:
            os.close(self._lock)
            raise
        self._place = _inode(path)
        self.title = f"SQLite {apsw.sqlite_lib_version()} {path}"

    def _prepare(self) -> None:
        self._connection.set_busy_timeout(1_000)
        for pragma in (
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "cell_size_check=ON",
            "mmap_size=0",
            "synchronous=FULL",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        mode = self._connection.execute("PRAGMA journal_mode=WAL").get
        level = self._connection.execute("PRAGMA synchronous").get
        if (mode, level) != ("wal", 2):
            raise StoreError(
                f"{self.path}: got journal_mode={mode} synchronous={level}, relay needs wal and 2"
            )
        if self._connection.readonly("main"):
            # SQLite opens such a file without a word, and refuses the first insert.
            raise StoreError(f"{self.path}: this user may read the file, but not write it")

    def link(self) -> Link:
        """Return the connection that writes."""
        return SQLiteLink(self._connection)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Run several jobs as one transaction, committed to disk at the end."""
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._check_place()
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors: then there is nothing to undo.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _check_place(self) -> None:
        """Raise StoreError if a commit would go into a file without a name: acknowledged, and lost."""
        if _inode(self.path) != self._place:
            raise StoreError(f"{self.path}: somebody removed or replaced the file")

    @contextmanager
    def job(self) -> Iterator[None]:
        """Run one job inside a group: when it fails, it alone is undone."""
        self._connection.execute("SAVEPOINT job")
        try:
            yield
        except Exception as error:
            if not self.fatal(error):
                self._connection.execute("ROLLBACK TO job")
                self._connection.execute("RELEASE job")
            raise
        self._connection.execute("RELEASE job")

    def fatal(self, error: Exception) -> bool:
        """Say if *error* is the disk's or the file's; a broken constraint is only one job's fault."""
        return isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError)

    def close(self) -> None:
        """Close the connection and give the lock back."""
        self._connection.close()
        os.close(self._lock)


def _inode(path: Path) -> tuple[int, int] | None:
    """Say which file a path names now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def reader(path: Path) -> Link:
    """Open a SQLite database only to read, beside a running server. It, and its link, raise StoreError."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{path}: there is no such database; `relay serve` makes it") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    with _translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(1_000)
        version = connection.execute("PRAGMA user_version").get
    if version != migrations()[-1][0]:
        known = migrations()[-1][0]
        way = "; `relay serve` brings it up to date" if version < known else ""
        raise StoreError(f"{path}: its schema is version {version}, this relay reads {known}{way}")
    return _Reading(connection, path)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into ours: no room, or worse."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreBusy(f"{path}: the disk is full") from error
    except apsw.BusyError as error:
        raise StoreBusy(f"{path}: another process has locked it") from error
    except apsw.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _lock(path: Path) -> int:
    """Hold ``PATH.lock`` for as long as this process lives. Raises StoreError where another holds it."""
    # Beside the file itself: two links to one database must meet at one lock.
    place = Path(f"{os.path.realpath(path)}.lock")
    try:
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{path}: there is no folder {place.parent}") from None
    except OSError as error:
        raise StoreError(f"{place}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "?"
        os.close(handle)
        raise StoreError(f"{path}: another relay serves this database (process {holder})") from None
    with contextlib.suppress(OSError):  # on a full disk the number is missing, the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the schema up to date, each step in a transaction of its own."""
    known = migrations()
    version = connection.execute("PRAGMA user_version").get
    if version > known[-1][0]:
        raise StoreError(f"{path}: made by a newer relay (schema {version}, this one knows {known[-1][0]})")
    for number, _, text in known:
        if number > version:
            with connection:
                connection.execute(text)
                connection.execute(f"PRAGMA user_version={number}")
