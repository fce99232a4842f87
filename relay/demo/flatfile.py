"""
How do Flatfile's jobs behave?

Source: Flatfile's reference for jobs and events, @flatfile/api 1.23.1, plugin-webhook-event-forwarder.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import count
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
    "domain": "job", "target": "us_wb_YOUR_ID", "origin": {"id": "us_wb_YOUR_ID"},
    "context": {"accountId": "us_acc_YOUR_ID", "environmentId": "us_env_YOUR_ID", "spaceId": "us_sp_YOUR_ID",
                "actorId": "us_key_SOME_KEY"},
    "payload": {"domain": "workbook", "operation": "submitAction", "job": "workbook:submitAction",
                "isPart": false, "input": {}},
    "attributes": {"progress": {"current": 1, "total": 1, "percent": 100}},
    "namespaces": ["workbook"], "callbackUrl": "", "dataUrl": ""
}""")
# The outcome of a job → topic, and what its event says beside the rest. Each tells of one, never of both.
TOPICS: Final[Mapping[Status, tuple[str, dict[str, Json], dict[str, Json]]]] = {
    "failed": (
        "job:failed",
        {"workbookId": "us_wb_YOUR_ID"},
        {"status": "failed", "info": "Job was failed"},
    ),
    "recovered": (
        "job:completed",
        {},
        {"status": "complete", "info": "Job was completed"},
    ),  # the info: invented
}


@dataclass(slots=True, kw_only=True)
class Note:
    """An event that is, or will be, in the log."""

    number: int
    at: float  #: seconds since 1970
    job: str
    status: Status
    void: bool = False  #: the job was sent on its way again before it came so far


class FlatfileSim(Simulator):
    """
    Jobs, and the events that tell of their ends.

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
        self.notes: list[Note] = []
        self._numbers = count()
        self._last: dict[str, Note] = {}  #: by job
        self.open(
            Door(
                method="POST", path="/v1/jobs/{job_id}/retry", work=self._job(self._retry), faults=self.faults
            ),
            Door(method="GET", path="/v1/jobs/{job_id}", work=self._job(self._get), faults=self.read_faults),
            Door(method="GET", path="/v1/events", work=self._guard(self._events), faults=self.list_faults),
        )

    def add(
        self, key: str, *, status: Status = "failed", outcomes: Iterable[Status] = (), **facts: Json
    ) -> Resource:
        """Put a job in; if it has failed, an event says so."""
        job = super().add(key, status=status, outcomes=outcomes, **facts)
        if job.status == "failed":
            self._note(job, job.began_at)
        return job

    def accept(self, resource: Resource) -> Resource:
        """Do the work of a retry, count it, and return the job that runs now."""
        if not self.new_ids:
            return super().accept(resource)
        self.tally(resource.key)
        first = self.lineage.get(resource.key, resource.key)
        fresh = next(key for n in count(self.rounds[first]) if (key := f"{first}_{n}") not in self.held)
        self.lineage[fresh] = first
        job = self.add(fresh, status="running", outcomes=(), **resource.facts)
        job.outcomes = resource.outcomes  # one line of jobs has one line of outcomes
        self.run(job)
        return job

    def run(self, resource: Resource) -> None:
        """Send a job on its way; when it has failed or recovered, an event will say so."""
        last = self._last.get(resource.key)
        if last is not None and last.at > self.clock():
            last.void = True
        super().run(resource)
        if resource.status in TOPICS:
            self._note(resource, resource.busy_until)

    def events(self) -> list[dict[str, Json]]:
        """List the events that jobs failed or completed so far, oldest first, as ``GET /v1/events`` does."""
        now = self.clock()
        told = [note for note in list(self.notes) if note.at <= now and not note.void]
        return [event(note) for note in sorted(told, key=lambda note: (note.at, note.number))]

    def _note(self, job: Resource, at: float) -> None:
        note = Note(number=next(self._numbers), at=at, job=job.key, status=job.status)
        self._last[job.key] = note
        self.notes.append(note)

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
        return self._view(self.accept(self.held[request.path_params["job_id"]]))

    async def _get(self, request: Request) -> Response:
        return self._view(self.held[request.path_params["job_id"]])

    async def _events(self, request: Request) -> Response:
        asked = request.query_params
        size, page = number(asked.get("pageSize", "10"), 1000), number(asked.get("pageNumber", "1"), 10**6)
        try:
            since = datetime.fromisoformat(asked.get("since", "1970-01-01T00:00:00Z")).timestamp()
        except ValueError:
            return refusal(HTTPStatus.BAD_REQUEST, "since is not a time")  # invented
        if not (size and page):
            return refusal(HTTPStatus.BAD_REQUEST, "pageSize or pageNumber is out of range")
        # Invented: the order, and that the instant of since is in. The SDK knows data only, no pagination.
        found = [
            one
            for one in self.events()
            if asked.get("topic", one["topic"]) == one["topic"]
            and since <= datetime.fromisoformat(str(one["createdAt"])).timestamp()
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
        born, changed = stamp(job.born_at), stamp(self.changed_at(job.key))
        facts = {"createdAt": born, "updatedAt": changed, **JOB, **job.facts}
        return answer_json({"data": {**facts, "id": job.key, "status": self.state(job.key)}})


def refusal(status: int, message: str) -> Response:
    """Flatfile's error body."""
    return answer_json({"errors": [{"message": message}]}, status)


def event(note: Note) -> dict[str, Json]:
    """Write the event that a job failed or recovered, with the fields that the API gives it."""
    topic, context, payload = TOPICS[note.status]
    return {
        "id": f"us_evt_{note.number:08}",
        "topic": topic,
        "createdAt": stamp(note.at),
        **EVENT,
        "context": {**EVENT["context"], **context, "jobId": note.job},
        "payload": {**EVENT["payload"], **payload},
    }


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
