"""Where do events come in?  ``POST /hooks/{source}``."""

from collections import defaultdict

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.errors import Rejected
from relay.event import as_name
from relay.intake import Intake

log = structlog.get_logger()

DEFAULT_BYTES = 1 << 20


async def receive(request: Request) -> Response:
    """Take one event: 202 when it is on the disk, 200 with the first one's id for a duplicate."""
    intake: Intake = request.app.state.intake
    name = request.path_params["source"]
    source = intake.source(name)
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        log.warning("hook.refused", source=as_name(name), why="compressed")
        raise Rejected(415, "Content-Encoding not supported", "send the body as it is")
    body = await _read(request, as_name(name), source.max_bytes if source else DEFAULT_BYTES)
    headers: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in request.headers.items():
        headers[key].append(value)
    taken = await intake.take(name, headers, body, request.path_params.get("token", ""))
    told = {"event": taken.event, "calls": taken.calls, "duplicate": taken.duplicate}
    return Response(orjson.dumps(told), 200 if taken.duplicate else 202, media_type="application/json")


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
]
