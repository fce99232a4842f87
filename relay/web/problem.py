"""How does an error look over HTTP?  problem+json (RFC 9457), never a traceback."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from relay.errors import Rejected, StoreError
from relay.event import as_name

log = structlog.get_logger()


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Make an answer of type ``application/problem+json``."""
    body = {"type": "about:blank", "title": title, "status": status} | ({"detail": detail} if detail else {})
    return Response(
        orjson.dumps(body), status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def refusal(error: Rejected, headers: Mapping[str, str] | None = None) -> Response:
    """Make the answer to a request that can't be taken, with when to come again where that is known."""
    again = {"Retry-After": str(error.again_s)} if error.again_s else {}
    return problem(error.status, error.title, error.why, {**again, **(headers or {})})


async def on_rejected(_: Request, error: Exception) -> Response:
    """Tell a sender what is wrong with its request."""
    assert isinstance(error, Rejected)
    # The rest of a body that is too large is still on its way.
    large = error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return refusal(error, {"Connection": "close"} if large else {})


async def on_store_error(request: Request, error: Exception) -> Response:
    """Tell a sender to come again: nothing was kept."""
    again = {"Retry-After": "5"}
    if not request.url.path.startswith("/hooks/"):
        log.error("admin.not_done", path=as_name(request.url.path), why=str(error))
        return problem(503, "Not done", str(error), again)
    log.error("hook.not_kept", why=str(error))
    return problem(503, "Not kept", "the event could not be stored; send it again", again)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Tell about a wrong path or method."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, HTTPStatus(error.status_code).phrase, headers=error.headers)


async def on_gone(request: Request, error: Exception) -> Response:
    """Say to the log alone that the sender hung up before its body was here: nobody reads the answer."""
    if "relay.cut" not in request.scope.get("extensions", {}):  # it was our door, which has told its reasons
        log.info("hook.left", why=str(error) or "the sender closed the connection before its body was here")
    return problem(400, "Incomplete body")


async def on_bug(_: Request, error: Exception) -> Response:
    """Tell nothing but that it was our fault; the log has the rest."""
    log.error("http.failed", exc_info=error)
    return problem(500, "Internal error", "relay's log has the details")


HANDLERS = {
    Rejected: on_rejected,
    StoreError: on_store_error,
    HTTPException: on_http_error,
    ClientDisconnect: on_gone,
    Exception: on_bug,
}
