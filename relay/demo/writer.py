"""
How does Writer's File API behave?

Source: dev.writer.com, file-api and error-codes; requests as writer-sdk 3.0.0 sends them.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from relay.demo.sim import (
    Door,
    Resource,
    Simulator,
    Status,
    Window,
    Work,
    answer_json,
    number,
    read_json,
    stamp,
)
from relay.event import Json

ERRORS: Mapping[int, tuple[str, str, str]] = {
    400: ("BadRequest", "Invalid input parameters", "fail.badRequest.invalidParameters"),
    401: ("Unauthorized", "Invalid token", "fail.unauthorized.badToken"),
    404: ("NotFound", "Resource is not found", "fail.notFound.resource"),
    410: ("Gone", "File gone: deleted or expired", "fail.notFound.resource"),
    429: ("TooManyRequests", "Quota exceeded", "fail.tooManyRequests.quotaExceeded"),
}


def refusal(status: int) -> Response:
    """Writer's error body; its first field is literally called tpe."""
    tpe, description, key = ERRORS[status]
    error: Json = {"description": description, "key": key, "extras": {}}
    return answer_json({"tpe": tpe, "errors": [error], "extras": {}}, status)


class WriterSim(Simulator):
    """Files by UUID. A file with the status ``gone`` was deleted or has expired."""

    name = "writer"
    words: ClassVar[Mapping[Status, Status]] = {"running": "in_progress", "recovered": "completed"}

    def __init__(
        self, *, key: str = "wr-demo-key", heals_after_s: float = 0.5, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(heals_after_s=heals_after_s, clock=clock)
        self.key = key
        self.limit = Window(400, 60)
        self.open(
            Door(method="POST", path="/v1/files/retry", work=self._guard(self._retry), faults=self.faults),
            Door(method="GET", path="/v1/files", work=self._guard(self._list), faults=self.list_faults),
            Door(
                method="GET",
                path="/v1/files/{file_id}",
                work=self._guard(self._file),
                faults=self.read_faults,
            ),
        )

    def add(
        self, key: str = "", *, status: Status = "failed", outcomes: Iterable[Status] = (), **facts: Json
    ) -> Resource:
        """Put a file in, under a fresh UUID if *key* is empty."""
        standard: dict[str, Json] = {
            "name": "document.txt",
            "created_at": stamp(self.clock()),
            "graph_ids": [],
        }
        return super().add(
            key or str(uuid.uuid4()), status=status, outcomes=outcomes, **{**standard, **facts}
        )

    def _guard(self, work: Work) -> Work:
        async def guarded(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.key}":
                return refusal(HTTPStatus.UNAUTHORIZED)
            # Writer promises no Retry-After, so there is none.
            if self.limit.take(self.clock()).refused:
                return refusal(HTTPStatus.TOO_MANY_REQUESTS)
            return await work(request)

        return guarded

    async def _retry(self, request: Request) -> Response:
        ids = (await read_json(request)).get("file_ids")
        if not (isinstance(ids, list) and ids and all(is_uuid(one) for one in ids)):
            return refusal(HTTPStatus.BAD_REQUEST)
        # Invented: Writer doesn't say what an unknown id does to the batch, nor what a retry does to a file
        # that has not failed. Here the first refuses the batch, the second runs again: a double shows.
        if not all(one in self.held and self.state(one) != "gone" for one in ids):
            return refusal(HTTPStatus.NOT_FOUND)
        for one in ids:
            self.accept(self.held[one])
        return answer_json({"success": True})

    async def _file(self, request: Request) -> Response:
        key = request.path_params["file_id"]
        if key not in self.held:
            return refusal(HTTPStatus.NOT_FOUND)
        if self.state(key) == "gone":
            return refusal(HTTPStatus.GONE)
        return answer_json(self._view(key))

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        limit, order = number(asked.get("limit", "50"), 100), asked.get("order", "desc")
        if not limit or order not in {"asc", "desc"}:
            return refusal(HTTPStatus.BAD_REQUEST)
        keys = [key for key in self.held if self.state(key) != "gone"]
        if order == "desc":
            keys.reverse()
        for cursor in ("after", "before"):
            if cursor in asked and asked[cursor] not in keys:
                return refusal(HTTPStatus.BAD_REQUEST)  # invented
        if "after" in asked:
            keys = keys[keys.index(asked["after"]) + 1 :]
        if "before" in asked:
            keys = keys[: keys.index(asked["before"])]
        # The cursors are applied before the filter: a file that has healed since the last page is still a
        # place to go on from.
        keys = [key for key in keys if asked.get("status", self.state(key)) == self.state(key)]
        page = keys[-limit:] if "before" in asked else keys[:limit]
        return answer_json(
            {
                "data": [self._view(key) for key in page],
                "has_more": len(page) < len(keys),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    def _view(self, key: str) -> dict[str, Json]:
        return {"id": key, **self.held[key].facts, "status": self.state(key)}


def is_uuid(value: object) -> bool:
    """Whether *value* is a UUID written with hyphens."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
