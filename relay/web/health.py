"""Is relay alive, and would an event be kept now?"""

import asyncio

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from relay.clock import now_ms
from relay.errors import StoreError
from relay.keep import Keeper
from relay.store import Store
from relay.web.problem import problem

PROBE_S = 2.0
"""Seconds that the disk has to take one write."""


async def livez(_: Request) -> Response:
    """Say that the loop turns; touches nothing else."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """Say 200 only if an insert would be on the disk now: one is made."""
    keep: Keeper = request.app.state.keep
    try:
        async with asyncio.timeout(PROBE_S):
            await keep(Store.pulse, now_ms())
    except StoreError as error:
        return problem(503, "Not ready", str(error))
    except TimeoutError:
        return problem(503, "Not ready", f"the disk took more than {PROBE_S:.0f} s")
    return PlainTextResponse("ready\n")


ROUTES = [Route("/livez", livez, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]
