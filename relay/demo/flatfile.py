"""
How do Flatfile's jobs behave?

Source: Flatfile's reference for jobs and events, @flatfile/api 1.23.1, plugin-webhook-event-forwarder.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from relay.demo.sim import Door, Resource, Simulator, Status, Work, answer_json, number, stamp
from relay.event import Json

JOB: Final[dict[str, Json]] = json.loads("""{
    "createdBy": "us_usr_YOUR_ID", "environmentId": "us_env_YOUR_ID", "spaceId": "us_sp_YOUR_ID",
    "type": "workbook", "operation": "submitAction", "source": "us_wb_YOUR_ID",
    "destination": "us_wb_YOUR_ID", "config": {}, "trigger": "immediate", "mode": "foreground",
    "input": {}, "managed": true, "subject": {"type": "resource", "id": "us_wb_YOUR_ID"}
}""")
EVENT: Final[dict[str, Any]] = json.loads("""{
    "topic": "job:failed", "domain": "job", "target": "us_wb_YOUR_ID", "origin": {"id": "us_wb_YOUR_ID"},
    "context": {"accountId": "us_acc_YOUR_ID", "environmentId": "us_env_YOUR_ID", "spaceId": "us_sp_YOUR_ID",
                "workbookId": "us_wb_YOUR_ID", "actorId": "us_key_SOME_KEY"},
    "payload": {"domain": "workbook", "operation": "submitAction", "job": "workbook:submitAction",
                "status": "failed", "info": "Job was failed", "isPart": false, "input": {}},
    "attributes": {"progress": {"current": 1, "total": 1, "percent": 100}},
    "namespaces": ["workbook"], "callbackUrl": "", "dataUrl": ""
}""")


class FlatfileSim(Simulator):
    """
    Jobs, and the events that tell of their failures.

    *new_ids*: a retry answers with a job of a new id, since nobody says that the id stays.
    """

    name = "flatfile"
    # Invented: which status a job has right after a retry is not documented.
    words: ClassVar[Mapping[Status, Status]] = {"running": "executing", "recovered": "complete"}

    def __init__(
        self,
        *,
        key: str = "sk_demo_key",
        new_ids: bool = False,
        heals_after_s: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(heals_after_s=heals_after_s, clock=clock)
        self.key, self.new_ids = key, new_ids
        self.failures: list[tuple[float, str]] = []  #: when, in seconds since 1970, and which job
        self.open(
            Door(
                method="POST", path="/v1/jobs/{job_id}/retry", work=self._job(self._retry), faults=self.faults
            ),
            Door(method="GET", path="/v1/jobs/{job_id}", work=self._job(self._get), faults=self.read_faults),
            Door(method="GET", path="/v1/events", work=self._guard(self._events)),
        )

    def add(
        self, key: str, *, status: Status = "failed", outcomes: Iterable[Status] = (), **facts: Json
    ) -> Resource:
        """Put a job in; if it has failed, an event says so."""
        job = super().add(key, status=status, outcomes=outcomes, **facts)
        self._note(job)
        return job

    def run(self, resource: Resource) -> None:
        """Send a job on its way; if it will fail again, an event will say so."""
        super().run(resource)
        self._note(resource)

    def events(self) -> list[dict[str, Json]]:
        """List the job:failed events so far, oldest first, as ``GET /v1/events`` shows them."""
        return [event(count, at, key) for count, (at, key) in enumerate(self.failures) if at <= self.clock()]

    def _note(self, job: Resource) -> None:
        if job.status == "failed":
            self.failures.append((max(job.busy_until, self.clock()), job.key))

    def _guard(self, work: Work) -> Work:
        async def guarded(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.key}":
                return refusal(HTTPStatus.FORBIDDEN, "Forbidden")
            return await work(request)

        return guarded

    def _job(self, work: Work) -> Work:
        async def guarded(request: Request) -> Response:
            # Invented: the header is documented as required, what happens without it is not; nor with a body.
            if request.headers.get("x-disable-hooks") != "true":
                return refusal(HTTPStatus.BAD_REQUEST, "header X-Disable-Hooks must be true")
            if await request.body():
                return refusal(HTTPStatus.BAD_REQUEST, "this endpoint takes no body")
            if request.path_params["job_id"] not in self.held:
                return refusal(HTTPStatus.NOT_FOUND, "Not Found")
            return await work(request)

        return self._guard(guarded)

    async def _retry(self, request: Request) -> Response:
        # Invented: whether a job that has not failed is refused is not documented. Here it runs again: a
        # double shows.
        job = self.held[request.path_params["job_id"]]
        if not self.new_ids:
            self.accept(job)
            return self._view(job)
        self.retries[job.key] += 1
        again = self.add(
            f"{job.key}_{self.retries[job.key]}", status="running", outcomes=job.outcomes, **job.facts
        )
        self.run(again)
        return self._view(again)

    async def _get(self, request: Request) -> Response:
        return self._view(self.held[request.path_params["job_id"]])

    async def _events(self, request: Request) -> Response:
        asked = request.query_params
        size, page = number(asked.get("pageSize", "10"), 1000), number(asked.get("pageNumber", "1"), 10**6)
        if not (size and page):
            return refusal(HTTPStatus.BAD_REQUEST, "pageSize or pageNumber is out of range")
        found = [
            one
            for one in self.events()
            if asked.get("topic", one["topic"]) == one["topic"]
            and asked.get("since", "") <= str(one["createdAt"])
        ]
        return answer_json(
            {
                "data": found[(page - 1) * size : page * size],
                "pagination": {
                    "currentPage": page,
                    "pageCount": -(-len(found) // size),
                    "totalCount": len(found),
                },
            }
        )

    def _view(self, job: Resource) -> Response:
        now = stamp(self.clock())
        facts = {"createdAt": now, "updatedAt": now, **JOB, **job.facts}
        return answer_json({"data": {**facts, "id": job.key, "status": self.state(job.key)}})


def refusal(status: int, message: str) -> Response:
    """Flatfile's error body."""
    return answer_json({"errors": [{"message": message}]}, status)


def event(count: int, at: float, job_id: str) -> dict[str, Json]:
    """Write the event that a job failed, with the fields that the API gives it."""
    context = {**EVENT["context"], "jobId": job_id}
    return {**EVENT, "id": f"us_evt_{count:08}", "createdAt": stamp(at), "context": context}


def forwarded(raw: Mapping[str, Json], key: str) -> dict[str, Json]:
    """Wrap an event as the forwarder posts it: no id on top, and the live API token inside."""
    same = ("domain", "topic", "context", "payload", "target", "origin", "createdAt")
    return {
        "_accessToken": key,
        "_apiUrl": "https://api.x.flatfile.com/v1/",
        "src": dict(raw),
        "afterAllCallbacks": {},
        "cache": {"eventCache": {}},
        "action": "",
        "namespace": raw["namespaces"],
        **{name: raw[name] for name in same},
    }
