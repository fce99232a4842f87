"""Where do events come in?  ``POST /hooks/{source}``, and OPTIONS for those that ask first."""

from collections import defaultdict
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.errors import Rejected
from relay.event import as_name
from relay.intake import Intake, Taken
from relay.source import Incoming

log = structlog.get_logger()

DEFAULT_BYTES = 1 << 20

BARE: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT})
"""Statuses whose answers have no body (RFC 9110 15.3.5 and 15.3.6)."""


async def receive(request: Request) -> Response:
    """
    Take one delivery: the source's status when its events are on the disk.

    It is 200 with the first one's id for a duplicate, and for a handshake.
    """
    intake: Intake = request.app.state.intake
    name = request.path_params["source"]
    source = intake.source(name)
    encodings = request.headers.getlist("content-encoding")
    if {one.strip().lower() for one in encodings} - {"", "identity"}:
        log.warning("hook.refused", source=as_name(name), why="compressed")
        raise Rejected(415, "Content-Encoding not supported", "send the body as it is")
    body = await _read(request, as_name(name), source.max_bytes if source else DEFAULT_BYTES)
    incoming = Incoming(
        headers=_headers(request),
        body=body,
        token=request.path_params.get("token", ""),
        query=request.scope["query_string"].decode("latin-1"),
        method=request.method,
    )
    return _answer(await intake.take(name, incoming))


def _answer(taken: Taken) -> Response:
    if taken.greeting is not None:
        # What a stranger wrote is repeated: no browser may take it for a page.
        return Response(
            taken.greeting.body,
            headers={"Content-Type": taken.greeting.kind, "X-Content-Type-Options": "nosniff"},
        )
    status = HTTPStatus.OK if taken.duplicate else taken.status
    if status in BARE:
        return Response(status_code=status)
    told: dict[str, Any] = {"event": taken.events[0], "calls": taken.calls, "duplicate": taken.duplicate}
    if len(taken.events) > 1:
        told["events"] = list(taken.events)
    return Response(orjson.dumps(told), status, media_type="application/json")


async def asked(request: Request) -> Response:
    """Tell a sender whether it may post (CloudEvents HTTP webhook 4): 200, or 403; 405 if it does not ask."""
    intake: Intake = request.app.state.intake
    headers = _headers(request)
    if "webhook-request-origin" not in headers:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
    told = intake.permit(request.path_params["source"], headers)
    if told is None:
        # The same for a source that is not there: nobody can search for sources so.
        raise Rejected(403, "Not permitted", "this origin may not post here")
    return Response(headers=dict(told))


def _headers(request: Request) -> dict[str, tuple[str, ...]]:
    """Return all values of each header, its name in lower case."""
    headers: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in request.headers.items():
        headers[key].append(value)
    return {key: tuple(values) for key, values in headers.items()}


async def _read(request: Request, source: str, most: int) -> bytes:
    """Read the body's raw bytes; stop as soon as there are more than *most*. Raises Rejected (413)."""

    def too_large(size: int) -> Rejected:
        log.warning("hook.refused", source=source, why="too_large", bytes=size, most=most)
        return Rejected(413, "Body too large", f"this source takes at most {most} bytes")

    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > most:
        raise too_large(int(announced))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large(size)
        chunks.append(chunk)
    return b"".join(chunks)


ROUTES = [
    Route("/hooks/{source}", receive, methods=["POST"]),
    Route("/hooks/{source}/{token}", receive, methods=["POST"]),
    Route("/hooks/{source}", asked, methods=["OPTIONS"]),
    Route("/hooks/{source}/{token}", asked, methods=["OPTIONS"]),
]
