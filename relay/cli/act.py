"""What can a person do with a case?  Said over HTTP to the relay that runs: it alone moves cases."""

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import click

from relay import log
from relay.case import Act
from relay.cli import options, talk
from relay.config import ADMIN, admin_file, admin_token, database
from relay.errors import ConfigError, Problem, RelayError
from relay.provider import Reply, Request
from relay.schema.units import duration
from relay.secret import Secret

HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})

HELP: Final = {
    Act.RETRY: """
    Make the retry of a case now, whatever it waits for.

    It is one more than the budget has, if that is spent; an ended case is taken up again.
    """,
    Act.CLOSE: """
    End a case by hand.

    Nothing more is done for it, until its resource fails anew.
    """,
    Act.SNOOZE: """
    Leave a case alone for a time.

    TIME is a duration such as 90m, 2h or 3d, or an instant such as 2026-11-23T08:00.
    """,
    Act.APPROVE: "Say yes to a retry that waits for it.",
    Act.REJECT: "Say no to a retry that waits for a yes: the case is closed.",
}

NAMED: Final = """
    The case is named by its id, or by the key or an alias of its resource. Needs a running relay: the one
    that serves --db, or that at --to; then RELAY_ADMIN_TOKEN is the word that it wants.
"""


def _command(act: Act) -> click.Command:
    """Make the command of an act."""

    def run(name: str, to: str | None, db: str, by: str, why: str, time: str = "", *, as_json: bool) -> None:
        body = {"by": by} | ({"why": why} if why else {}) | (_when(time) if act is Act.SNOOZE else {})
        _do(act, name, body, to, db, as_json=as_json)

    add: list[Callable[[Any], Any]] = [
        options.as_json,
        click.option("--why", metavar="TEXT", default="", help="The reason; the case's timeline keeps it."),
        click.option(
            "--by", metavar="NAME", envvar=["USER", "LOGNAME"], default="shell", show_envvar=True,
            help="Who wants it.",
        ),
        options.to(help="Where relay runs, if it is not beside --db."),
        options.db,
    ]  # fmt: skip
    if act is Act.SNOOZE:
        add.append(click.argument("time"))
    add.append(click.argument("name", metavar="ID|KEY"))
    command: Any = run
    for each in add:
        command = each(command)
    return click.command(name=act.value, help=f"{HELP[act].rstrip()}\n\n{NAMED}")(command)


def _when(text: str) -> dict[str, str]:
    """Read until when a case is left alone; an instant without a time zone is the reader's own."""
    try:
        duration(text)
    except ValueError:
        pass
    else:
        return {"for": text}
    try:
        return {"until": datetime.fromisoformat(text).astimezone().isoformat()}
    except (ValueError, OverflowError):
        what = f"expected 90m, 2h, 3d or an instant such as 2026-11-23T08:00, got '{log.plain(text)}'"
        raise click.BadParameter(what, param_hint="TIME") from None


def _do(act: Act, name: str, body: dict[str, str], to: str | None, db: str, *, as_json: bool) -> None:
    """Ask the running relay, and say what it made of it."""
    url, token = _reach(to, db)
    request = Request(
        method="POST",
        url=f"{url.rstrip('/')}/api/v1/cases/{quote(name, safe='')}/{act.value}",
        headers=(
            ("Authorization", f"Bearer {token.reveal()}"),
            ("Content-Type", "application/json"),
        ),
        body=json.dumps(body).encode(),
    )
    answer = talk.ask(request)
    if not isinstance(answer, Reply):
        maybe = f"; it may be done all the same: see `relay case {name}`" if answer.sent else ""
        raise RelayError(f"{url}: {answer.why} (is `relay serve` running there?){maybe}")
    told = talk.told(answer)
    done = answer.status == 200 and {"case", "done"} <= told.keys()
    if as_json:
        options.print_json({"status": answer.status} | told)
    elif done:
        click.echo(log.plain(_line(told)))
    else:
        raise RelayError(_refusal(url, answer.status, told))
    if not done:
        raise SystemExit(1)


def _line(told: dict[str, Any]) -> str:
    case = told["case"]
    then = f"; next {options.local(case['next_at'])}" if case["next_at"] else ""
    return f"{case['id']} {case['key']}: {case['state']}: {case['why']}{then}"


def _refusal(url: str, status: int, told: dict[str, Any]) -> str:
    """Say why not, as a person at the shell puts it."""
    title, detail = (str(told.get(key, "")) for key in ("title", "detail"))
    if not title:
        return f"{url}: {status}: this is not relay's answer"
    match status:
        case 401:
            return f"{url}: wrong token (is {ADMIN} that of this relay?)"
        case 404 if detail:
            return detail
        case 400 | 409:
            return f"{title[:1].lower()}{title[1:]}: {detail}"
        case _:
            return f"{url}: {status}: {', '.join(filter(None, (title, detail)))}"


def _reach(to: str | None, db: str) -> tuple[str, Secret]:
    """
    Return where relay runs, and the word that it wants.

    Raises ConfigError or RelayError. The token in the file beside the database is shown to that relay only.
    """
    token = admin_token(os.environ)
    if to is not None:
        talk.address(to)
        if token is not None:
            return to, token
    file = admin_file(database(db))
    found = _read(file)
    if to is None and found is None:
        raise RelayError(f"no relay runs on {db}: there is no {file} (--to says where else one may run)")
    url = to or (found or {}).get("url", "")
    if token is None and found and "token" in found and _same(url, found["url"]):
        token = Secret(found["token"], str(file))
    if token is None:
        hint = f"it opens the relay at {url}; {file} has none for it"
        raise ConfigError([Problem(file=ADMIN, what="is not set", hint=hint)])
    return url, token


def _read(file: Path) -> dict[str, str] | None:
    """Read what a running relay says of itself; None: none runs. Raises RelayError."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise RelayError(f"{file}: {why} (it is for the user that relay runs as)") from None
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or "url" not in found
        or not all(isinstance(v, str) for v in found.values())
    ):
        raise RelayError(f"{file}: not what relay writes there; start relay again")
    return found


def _same(one: str, other: str) -> bool:
    """Say if two addresses lead to one relay."""
    first, second = urlsplit(one), urlsplit(other)
    if (first.scheme, first.port) != (second.scheme, second.port):
        return False
    return first.hostname == second.hostname or {first.hostname, second.hostname} <= HERE


COMMANDS: Final = tuple(map(_command, Act))
