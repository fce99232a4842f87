"""
How do TextIn DocFlow's tasks behave?

Source: docs-docflow.textin.com, the OpenAPI of the service; requests as docflow-sdk 1.1.5 sends them.
"""

import hashlib
import hmac
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from relay.demo.sim import Door, Resource, Simulator, Status, Work, answer_json, number, read_json
from relay.event import Json

PREFIX: Final = "/api/app-api/sip/platform/v2"
CHILDREN: Final = frozenset({0, 3})
"""Task types of children: split and crop sub-tasks. 1 is a regular task, 2 a parent."""

FINISHED: Final = frozenset({1, 2})
FILTERS: Final = ("batch_number", "file_id", "category", "recognition_status", "verification_status")
NUMBERS: Final = ("recognition_status", "verification_status")
"""Filters whose values are numbers: 2, not failed."""


class DocflowSim(Simulator):
    """
    Tasks of one workspace. Whatever is wrong, the HTTP status is 200: ``code`` in the body tells.

    One route shows a task and lists them: *read_faults* are for either.
    """

    name = "docflow"
    words: ClassVar[Mapping[Status, Status]] = {"failed": 2, "running": 4, "recovered": 1}

    def __init__(
        self,
        *,
        app_id: str = "demo-app",
        secret_code: str = "demo-secret-code",  # noqa: S107  the simulator's own, good for nothing else
        workspace_id: str = "1234567890",
        heals_after_s: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(heals_after_s=heals_after_s, clock=clock)
        self.app_id, self.secret_code, self.workspace_id = app_id, secret_code, workspace_id
        self.open(
            Door(
                method="POST", path=f"{PREFIX}/file/retry", work=self._guard(self._retry), faults=self.faults
            ),
            Door(
                method="GET",
                path=f"{PREFIX}/file/fetch",
                work=self._guard(self._fetch),
                faults=self.read_faults,
            ),
        )

    def add(
        self, key: str, *, status: Status = "failed", outcomes: Iterable[Status] = (), **facts: Json
    ) -> Resource:
        """Put a task in; a child has ``task_type`` 0 or 3 and its parent's id in ``parent_task_id``."""
        standard: dict[str, Json] = {
            "id": f"2024{len(self.held):08}",
            "task_type": 1,
            "batch_number": "202412190001",
            "name": "invoice.pdf",
            "format": "pdf",
            "verification_status": 0,
            "category": "invoice",
            "pages": [],
            "data": None,
            "duration_ms": 10000,
            "total_page_num": 10,
        }
        return super().add(key, status=status, outcomes=outcomes, **{**standard, **facts})

    def _guard(self, work: Work) -> Work:
        async def guarded(request: Request) -> Response:
            headers = request.headers
            if "x-ti-signature" in headers:
                # How old a timestamp may be is not documented, so any is taken.
                expected = await self._signature(request)
                known = hmac.compare_digest(headers["x-ti-signature"], expected)
            elif "x-ti-secret-code" in headers:
                known = headers["x-ti-secret-code"] == self.secret_code
            else:
                return refusal(40101, "x-ti-app-id or x-ti-secret-code is empty")
            if not (known and headers.get("x-ti-app-id") == self.app_id):
                return refusal(40102, "x-ti-app-id or x-ti-secret-code is invalid")
            return await work(request)

        return guarded

    async def _signature(self, request: Request) -> str:
        timestamp = request.headers.get("x-ti-timestamp", "")
        key = hmac.digest(self.secret_code.encode(), timestamp.encode(), "sha256")
        params = "&".join(f"{name}={value}" for name, value in sorted(request.query_params.multi_items()))
        body = hashlib.sha256(await request.body()).hexdigest()
        text = f"{request.method}\n{request.url.path}\n{params}\n{body}"
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    async def _retry(self, request: Request) -> Response:
        asked = await read_json(request)
        workspace, key = asked.get("workspace_id"), asked.get("task_id")
        if not (isinstance(workspace, str) and isinstance(key, str)):
            return refusal(40004, "workspace_id and task_id must be strings")
        # Invented: that these are refused is documented (the child, the task in flight) or plain, but not the
        # code. 40004 is TextIn's "bad parameters".
        if workspace != self.workspace_id or key not in self.held:
            return refusal(40004, "任务不存在 (task not found)")
        if self.held[key].facts["task_type"] in CHILDREN:
            return refusal(40004, "子任务不支持重试 (a child task can't be retried)")
        if self.state(key) not in FINISHED:
            return refusal(40004, "任务处理中 (the task is still in flight)")
        self.accept(self.held[key])
        return answer_json({"code": 200, "msg": "success"})

    async def _fetch(self, request: Request) -> Response:
        asked = dict(request.query_params)
        page, size = number(asked.get("page", "1"), 10**6), number(asked.get("page_size", "20"), 1000)
        if not (page and size):
            return refusal(40004, "page or page_size is out of range")
        if asked.get("workspace_id") != self.workspace_id:
            return refusal(40004, "空间不存在 (workspace not found)")  # invented
        if not all(asked[name].isdecimal() for name in NUMBERS if name in asked):
            return refusal(40004, "参数错误 (a status is a number)")  # invented
        if "task_id" in asked:
            # Invented: a child is found by its own id. Without one, children appear only below their parents.
            keys = [asked["task_id"]] if asked["task_id"] in self.held else []
        else:
            keys = [key for key, task in self.held.items() if task.facts["task_type"] not in CHILDREN]
        children = defaultdict(list)
        for key, task in self.held.items():
            children[str(task.facts.get("parent_task_id", ""))].append(key)
        found = [view for key in keys if meets(view := self._view(key, children), asked)]
        start = (page - 1) * size
        files: list[Json] = [dict(view) for view in found[start : start + size]]
        result: Json = {"total": len(found), "page": page, "page_size": size, "files": files}
        return answer_json({"code": 200, "msg": "success", "result": result})

    def _view(self, key: str, children: Mapping[str, list[str]]) -> dict[str, Json]:
        state = self.state(key)
        view = {"task_id": key, **self.held[key].facts, "recognition_status": state}
        if state == self.words["failed"]:
            view["failure_causes"] = "文件解析失败 (the file could not be parsed)"
        return {**view, "child_files": [self._view(child, children) for child in children.get(key, ())]}


def refusal(code: int, message: str) -> Response:
    """DocFlow's error body; the HTTP status stays 200."""
    return answer_json({"code": code, "msg": message, "traceId": f"sim-{code}"})


def meets(view: Mapping[str, Json], asked: Mapping[str, str]) -> bool:
    """Whether a task passes all filters that were asked for."""
    fields = {"file_id": "id"}
    return all(str(view.get(fields.get(name, name))) == asked[name] for name in FILTERS if name in asked)
