"""How is relay run, and an event sent to it?"""

import os
from pathlib import Path
from urllib.parse import quote

import click

from relay import log
from relay.cli import options, talk
from relay.config import Config, database
from relay.load import load
from relay.provider import Reply, Request
from relay.verify import sign


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
        environ=os.environ,
    )
    raise SystemExit(run(config))


@click.command()
@click.argument("source")
@click.argument("event", metavar="EVENT.json", type=options.FILE)
@options.rules
@options.to(default="http://127.0.0.1:8080", show_default=True, help="Where relay runs.")
@options.as_json
def send(source: str, event: Path, rules: Path, to: str, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """
    Sign a sample event, and post it to a running relay.

    It is signed as SOURCE would. EVENT.json may be - for standard input.
    """
    talk.address(to)
    by = options.source(load(rules, os.environ, only=source), source)
    body = options.read(event)
    headers, token = sign(by, body)
    request = Request(
        method="POST",
        url=f"{to.rstrip('/')}/hooks/{quote(source, safe='')}"
        + (f"/{quote(token, safe='')}" if token else ""),
        headers=(("Content-Type", "application/json"), *headers.items()),
        body=body,
    )
    answer = talk.ask(request)
    if not isinstance(answer, Reply):
        click.echo(f"relay: {to}: {answer.why} (is `relay serve` running there?)", err=True)
        raise SystemExit(1)
    told = talk.told(answer)
    taken = answer.status in {200, 202} and {"event", "calls", "duplicate"} <= told.keys()
    if as_json:
        options.print_json({"status": answer.status} | told)
    elif taken:
        number = f"{told['calls']} call{'' if told['calls'] == 1 else 's'}"
        again = ", a duplicate of an earlier one" if told["duplicate"] else ""
        click.echo(f"{answer.status}: event {told['event']}, {number}{again}")
    else:
        said = [told[key] for key in ("title", "detail") if key in told] or ["this is not relay's answer"]
        click.echo(log.plain(f"relay: {to}: {answer.status}: {', '.join(map(str, said))}"), err=True)
    if not taken:
        raise SystemExit(1)
