"""How does the shell speak to a running relay?"""

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from relay import log
from relay.errors import ConfigError, Problem
from relay.provider import Answer, Reply, Request
from relay.reach import ANYWHERE


def address(to: str) -> None:
    """See that *to* is where a relay can be. Raises ConfigError."""
    try:
        url = urlsplit(to)
        fine = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        fine = False
    if not fine:
        hint = "" if "://" in to else f"did you mean http://{log.plain(to)}?"
        what = f"expected http://HOST:PORT, got '{log.plain(to)}'"
        raise ConfigError([Problem(file="--to", what=what, hint=hint)])


def ask(request: Request) -> Answer:
    """Send a request, and return what came back."""
    return asyncio.run(_send(request))


def told(reply: Reply) -> dict[str, Any]:
    """Return what relay said; nothing, where another server answered."""
    try:
        said = json.loads(reply.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


async def _send(request: Request) -> Answer:
    from relay.send import Sender  # noqa: PLC0415 - slow to load

    sender = Sender()
    try:
        return await sender(replace(request, reach=ANYWHERE))  # a person has said where relay is
    finally:
        await sender.close()
