"""Is relay alive, would an event be kept now, and by which rules?"""

import asyncio
from dataclasses import asdict
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from relay.clock import now_ms, rfc3339
from relay.errors import StoreError
from relay.keep import Keeper
from relay.log import scrub
from relay.reload import InForce
from relay.store import Store
from relay.web.problem import problem
from relay.web.shed import Disk
from relay.web.tally import Tally

PROBE_S: Final = 2.0
"""Seconds that the disk has to take one write."""

MOST: Final = 100
"""Problems that are shown; the log has all."""


async def livez(_: Request) -> Response:
    """Say that the loop turns; touches nothing else."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """Say 200 only if an insert would be on the disk now: one is made. The rules are told beside."""
    keep: Keeper = request.app.state.keep
    disk: Disk = request.app.state.disk
    tally: Tally = request.app.state.tally
    if why := disk.low():
        return problem(503, "Not ready", why)
    try:
        async with asyncio.timeout(PROBE_S):
            await keep(Store.pulse, now_ms())
    except StoreError as error:
        return problem(503, "Not ready", str(error))
    except TimeoutError:
        return problem(503, "Not ready", f"the disk took more than {PROBE_S:.0f} s")
    told = {"ready": True, "rules": _rules(request.app.state.in_force), "edge": turned_away(tally)}
    return Response(orjson.dumps(told) + b"\n", media_type="application/json")


def turned_away(tally: Tally) -> dict[str, int]:
    """Say how many requests and connections the edge has turned away since the start, by the log's words."""
    return {name: tally.totals[f"edge.{name}"] for name in ("shed", "limited", "refused", "slow", "full")}


def _rules(in_force: InForce) -> dict[str, Any]:
    """Say which rules decide, and what is wrong with the files if these are others."""
    problems = [
        {key: scrub.text(value) if isinstance(value, str) else value for key, value in asdict(one).items()}
        for one in in_force.broken[:MOST]
    ]
    return {
        "version": in_force.rules.version,
        "loaded_at": rfc3339(in_force.loaded_at),
        "broken": problems or None,
    }


ROUTES = [Route("/livez", livez, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]
