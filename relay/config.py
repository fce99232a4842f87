"""Where does this process run, and with which files?  Flags and ``RELAY_…`` variables, checked once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from relay.errors import ConfigError, Problem
from relay.secret import Secret

ADMIN: Final = "RELAY_ADMIN_TOKEN"
"""The variable with the word that opens the admin's routes."""

LEAST_TOKEN: Final = 16
"""Bytes of an admin's token."""

SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
"""Units of a size."""

MAGIC: Final = b"SQLite format 3\0"
"""How every SQLite file begins that is not empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What `relay serve` needs to know beside the rules."""

    rules: Path = Path("rules.toml")
    db: Path = Path("relay.db")
    host: str = "127.0.0.1"
    port: int = 8080
    grace_s: float = 20.0  #: how long running calls may take to end after SIGTERM
    reload: bool = True  #: whether changed files are noticed; on SIGHUP they are read anyway
    connections: int = 2048  #: that senders may hold at once
    allow_hosts: tuple[str, ...] = ()  #: names by which relay may be asked for; none: any
    min_free: int = 256 << 20  #: bytes of the database's disk below which no events are taken; 0: not watched
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)  #: where ``env:NAME`` looks


def admin_token(environ: Mapping[str, str]) -> Secret | None:
    """Return the admin's token if the operator has set one. Raises ConfigError for one that is too weak."""
    token = environ.get(ADMIN)
    if token is None:
        return None
    hint = "as of `openssl rand -hex 24`"
    if not token:
        hint = "unset it, and each start makes a token of its own"
    elif re.fullmatch(r"[!-~]+", token) is None:
        what = "expected visible ASCII characters without spaces: it goes into a header"
        raise ConfigError([Problem(file=ADMIN, what=what, hint=hint)])
    if len(token) < LEAST_TOKEN:
        what = f"expected {LEAST_TOKEN} bytes or more, got {len(token)}"
        raise ConfigError([Problem(file=ADMIN, what=what, hint=hint)])
    return Secret(token, f"env:{ADMIN}")


def size(text: str) -> int:
    """Read ``0``, ``512KiB``, ``256MiB`` or ``1GiB`` as bytes. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9}) ?([KMG]iB|B)?", text, re.ASCII)
    if match is None:
        raise ValueError(f"expected a size such as 512KiB, 256MiB or 1GiB, got {text!r}")
    return int(match[1]) * SIZES[match[2] or "B"]


def host_name(text: str) -> str:
    """Return a host's name as `relay.web.guard` compares it. Raises ValueError for what is none."""
    name = text.strip().lower()
    if re.fullmatch(r"\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9._-]*", name, re.ASCII) is None:
        raise ValueError(f"expected a host's name without scheme and port, got {text!r}")
    return name


def admin_file(db: Path) -> Path:
    """Return where a running relay says how it is reached, beside its database."""
    return Path(f"{db}.admin")


def database(url: str) -> Path:
    """
    Return the file that a database URL names: ``sqlite:///relay.db``, ``sqlite:////var/lib/relay/relay.db``.

    Raises ConfigError for anything else, and for a file that can't be there: starting again won't help.
    """
    scheme, found, place = url.partition(":///")
    if scheme != "sqlite" or not found or not place or "?" in place or "%00" in place:
        what = f"expected sqlite:///FILE, as in sqlite:///relay.db, got {_shown(url)!r}"
        hint = "PostgreSQL is not supported yet" if url.startswith("postgres") else ""
        raise ConfigError([Problem(file="--db", what=what, hint=hint)])
    path = Path(unquote(place))
    if why := _no_place(path):
        raise ConfigError([Problem(file="--db", what=f"{path}: {why}")])
    return path


def _no_place(path: Path) -> str:
    """Say why no database can be at *path*; nothing, if one is there or can be made."""
    if str(path) == ":memory:":
        return "relay keeps what it acknowledged on the disk, so it needs a file"
    try:
        if path.is_dir():
            return "is a folder; expected a file"
        if path.is_file():
            with path.open("rb") as file:
                return "" if file.read(len(MAGIC)) in {MAGIC, b""} else "is not a database"
        return "" if path.parent.is_dir() else f"there is no folder {path.parent}"
    except OSError as error:
        return (error.strerror or "unreadable").lower()


def _shown(url: str) -> str:
    """Write a URL without the password it may hold."""
    before, at, after = url.rpartition("@")
    return f"{before.split('://')[0]}://…@{after}" if at else url
