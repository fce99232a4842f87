"""How is relay run?"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from relay import log
from relay.cli import options
from relay.config import Config, database, host_name, size


def _by(read: Callable[[str], Any]) -> Callable[..., Any]:
    """Return a callback that reads one text or each of several; what it can't read is a wrong option."""

    def convert(_: click.Context, __: click.Parameter, value: str | tuple[str, ...]) -> Any:
        try:
            return tuple(map(read, value)) if isinstance(value, tuple) else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


@click.command()
@options.rules
@options.db
@click.option(
    "--host", default="127.0.0.1", envvar="RELAY_HOST", show_default=True, show_envvar=True,
    help="The address to listen on.",
)  # fmt: skip
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    envvar="RELAY_PORT",
    show_default=True,
    show_envvar=True,
    help="0: any free one.",
)
@click.option(
    "--grace", type=click.FloatRange(0, 3600), default=20.0, envvar="RELAY_GRACE",
    show_default=True, show_envvar=True,
    help="Seconds that running calls have to end after SIGTERM.",
)  # fmt: skip
@click.option(
    "--reload/--no-reload", default=True, envvar="RELAY_RELOAD", show_default=True, show_envvar=True,
    help="Notice changed files. On SIGHUP they are read anyway.",
)  # fmt: skip
@click.option(
    "--connections", type=click.IntRange(1, 1_000_000), default=2048, envvar="RELAY_CONNECTIONS",
    show_default=True, show_envvar=True, help="How many senders may hold at once.",
)  # fmt: skip
@click.option(
    "--allow-host", "allow_hosts", metavar="NAME", multiple=True, default=(), envvar="RELAY_ALLOW_HOSTS",
    show_envvar=True, callback=_by(host_name),
    help="A name by which relay may be asked for; several, or with spaces in the variable. None: any.",
)  # fmt: skip
@click.option(
    "--min-free", metavar="SIZE", default="256MiB", envvar="RELAY_MIN_FREE", show_default=True,
    show_envvar=True, callback=_by(size), help="Take no events while less of the disk is free.",
)  # fmt: skip
@click.option(
    "--log", "style", type=click.Choice(["auto", "json", "text"]), default="auto", envvar="RELAY_LOG",
    show_default=True, show_envvar=True, help="auto: text on a terminal, else JSON lines.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
    envvar="RELAY_LOG_LEVEL", show_default=True, show_envvar=True, help="The least that is said.",
)  # fmt: skip
def serve(
    rules: Path,
    db: str,
    host: str,
    port: int,
    grace: float,
    reload: bool,  # noqa: FBT001 - click's way
    connections: int,
    allow_hosts: tuple[str, ...],
    min_free: int,
    style: str,
    log_level: str,
) -> None:
    """
    Take events in and make the calls, until SIGTERM.

    Exits with 0 after a polite stop, 1 if the database broke (start it again), 2 if a file is wrong.
    """
    from relay.serve import serve as run  # noqa: PLC0415 - slow to load

    log.set_up(level=log_level, json={"auto": None, "json": True, "text": False}[style])
    config = Config(
        rules=rules,
        db=database(db),
        host=host,
        port=port,
        grace_s=grace,
        reload=reload,
        connections=connections,
        allow_hosts=allow_hosts,
        min_free=min_free,
        environ=os.environ,
    )
    raise SystemExit(run(config))
