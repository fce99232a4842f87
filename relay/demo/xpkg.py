"""
How does the X-Pkg registry behave?

Source: its own code of October 2023 (ArkinSolomon/xpkg-registry at 6e5fd198), which its documents describe.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from http import HTTPStatus
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from relay.demo.sim import Door, Resource, Simulator, Status, Window, Work, answer_json, stamp
from relay.event import Json

PACKAGE: Final = re.compile(r"(?=.{6,32}\Z)([a-z][a-z0-9_-]*\.)*[a-z][a-z0-9_-]*", re.ASCII)
VERSION: Final = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?(?:([abr])(\d{1,3}))?", re.ASCII)
POWERED_BY: Final = "Express, X-Pkg contributors, and you :)"
PACKAGE_DATA: Final[dict[str, Json]] = json.loads("""{
    "packageName": "Example Package 1", "authorId": "GPew5C4M1688712972", "authorName": "Arkin Solomon",
    "description": "A cool package\\n\\nJust for an example though", "packageType": "aircraft"
}""")
# The documents say version and installs; the code sends its database's names.
VERSION_DATA: Final[dict[str, Json]] = json.loads("""{
    "isPublic": true, "isStored": true, "downloads": 0, "size": 0, "installedSize": 0, "xpSelection": "*",
    "dependencies": [["example.package2", "1.2-"]], "incompatibilities": [["xpkg/example.package3", "*"]],
    "platforms": {"macOS": true, "windows": true, "linux": true}, "uploadDate": "2023-07-16T05:53:38.506Z"
}""")


@dataclass(slots=True, kw_only=True)
class Package:
    """What the token's author may do with a package."""

    allowed: bool = True  #: the token may upload versions of it
    owned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A retry that was asked for, with what the registry knows of it."""

    file: bytes | None
    package_id: str
    version: str
    package: Package | None
    resource: Resource | None
    state: Status


# The handler's own order; the first line that holds is the answer.
REFUSALS: Final[tuple[tuple[Callable[[Asked], bool], int, str], ...]] = (
    (lambda a: a.file is None, 400, "no_file"),
    (lambda a: not a.package_id.strip(), 400, "invalid_or_empty_str"),
    # The documents take full ids such as xpkg/example.package1; the code refuses them.
    (lambda a: not PACKAGE.fullmatch(a.package_id), 400, "invalid_id_or_repo"),
    (lambda a: not a.version.strip(), 400, "invalid_or_empty_str"),
    (lambda a: len(a.version) > 15, 400, "bad_version_len"),
    (lambda a: normal(a.version) is None, 400, "invalid_version"),
    (lambda a: a.package is None, 400, "version_not_exist"),
    (lambda a: a.package is not None and not a.package.allowed, 401, "Unauthorized"),
    (lambda a: a.package is not None and not a.package.owned, 403, "Forbidden"),
    (lambda a: a.resource is None, 400, "version_not_exist"),
    (lambda a: a.state in {"processed", "processing"}, 400, "cant_retry"),
)


class XpkgSim(Simulator):
    """Versions of packages, by ``id@version``, with the version in its normal form of three numbers."""

    name = "xpkg"
    words: ClassVar[Mapping[Status, Status]] = {
        "failed": "failed_server",
        "running": "processing",
        "recovered": "processed",
    }

    def __init__(
        self,
        *,
        token: str = "xpkg-demo-token",  # noqa: S107  the simulator's own, good for nothing else
        heals_after_s: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(heals_after_s=heals_after_s, clock=clock)
        self.token = token
        self.may_view = True  #: the token has the permission ViewPackages
        self.packages: dict[str, Package] = {}
        self.everyone = Window(30, 10, block_s=30)
        retry = self._guard(self._retry, Window(3, 8, block_s=3))
        read = self._guard(self._read, Window(5, 3, block_s=3))
        # The documents give one limit for both; the code's own leaves the list out. Here each has a window.
        listed = self._guard(self._list, Window(5, 3, block_s=3))
        self.open(
            Door(method="POST", path="/packages/retry", work=retry, faults=self.faults),
            Door(method="GET", path="/account/packages", work=listed, faults=self.list_faults),
            Door(method="GET", path="/account/packages/{id}/{version}", work=read, faults=self.read_faults),
        )

    def add_version(
        self, package_id: str, version: str, *, status: Status = "failed", outcomes: Iterable[Status] = ()
    ) -> Resource:
        """Put a version in, and its package if it is new."""
        self.packages.setdefault(package_id, Package())
        return self.add(f"{package_id}@{normal(version)}", status=status, outcomes=outcomes)

    def run(self, resource: Resource) -> None:
        """Send a version on its way; its upload is of now."""
        super().run(resource)
        resource.facts["uploadDate"] = stamp(resource.began_at)

    def _guard(self, work: Work, window: Window) -> Work:
        async def guarded(request: Request) -> Response:
            headers = {"X-Powered-By": POWERED_BY, "X-Request-Id": uuid.uuid4().hex}
            # Raw, without Bearer. Who isn't known isn't counted and sees no limits.
            if request.headers.get("authorization") != self.token:
                return PlainTextResponse("Unauthorized", HTTPStatus.UNAUTHORIZED, headers)
            for end, limit in (("-Global", self.everyone), ("", window)):
                turn = limit.take(now := self.clock())
                headers |= {
                    f"X-Retry-After{end}" if end else "Retry-After": f"{round(turn.wait_s, 3):g}",
                    f"X-RateLimit-Limit{end}": str(limit.points),
                    f"X-RateLimit-Remaining{end}": str(turn.left),
                    f"X-RateLimit-Reset{end}": stamp(now + turn.wait_s),
                }
                if turn.refused:
                    return PlainTextResponse("Too Many Requests", HTTPStatus.TOO_MANY_REQUESTS, headers)
            answer = await work(request)
            answer.headers.update(headers)
            return answer

        return guarded

    async def _retry(self, request: Request) -> Response:
        texts, files = form(request.headers.get("content-type", ""), await request.body())
        if files.keys() - {"file"}:
            # multer's error about a field it does not know, which nobody handles.
            return PlainTextResponse("Internal Server Error", HTTPStatus.INTERNAL_SERVER_ERROR)
        package_id, version = texts.get("packageId", "").lower(), texts.get("packageVersion", "")
        key = f"{package_id}@{normal(version)}"
        asked = Asked(
            file=files.get("file"),
            package_id=package_id,
            version=version,
            package=self.packages.get(package_id),
            resource=self.held.get(key),
            state=self.state(key) if key in self.held else "",
        )
        for holds, status, word in REFUSALS:
            if holds(asked):
                # A bare send() makes HTML of a word, sendStatus() plain text of a phrase.
                kind = HTMLResponse if status == HTTPStatus.BAD_REQUEST else PlainTextResponse
                return kind(word, status)
        resource = self.held[key]
        self.accept(resource)
        if not files["file"].startswith(b"PK"):
            resource.status = "failed"  # accepted all the same: only the worker looks into the file
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _read(self, request: Request) -> Response:
        package_id, version = request.path_params["id"].lower(), normal(request.path_params["version"])
        if version is None:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # the code forgets to end this one
        if not self.may_view:
            return PlainTextResponse("Unauthorized", HTTPStatus.UNAUTHORIZED)
        package, key = self.packages.get(package_id), f"{package_id}@{version}"
        if package is None or not package.owned or key not in self.held:
            return PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)
        return answer_json({"packageId": package_id, **PACKAGE_DATA, "versionData": self._version(key)})

    async def _list(self, _request: Request) -> Response:
        if not self.may_view:
            return PlainTextResponse("Unauthorized", HTTPStatus.UNAUTHORIZED)
        versions: dict[str, list[Json]] = {id_: [] for id_, package in self.packages.items() if package.owned}
        for key in self.held:
            if (id_ := key.partition("@")[0]) in versions:
                versions[id_].append(self._version(key))
        # The list says nothing of the author.
        plain = {name: value for name, value in PACKAGE_DATA.items() if not name.startswith("author")}
        packages = [{"packageId": id_, **plain, "versions": found} for id_, found in versions.items()]
        return answer_json({"packages": packages})

    def _version(self, key: str) -> dict[str, Json]:
        facts = self.held[key].facts
        version = key.partition("@")[2]
        return {**VERSION_DATA, **facts, "packageVersion": version, "status": self.state(key)}


def normal(version: str) -> str | None:
    """Write *version* with three numbers, ``1.3b9`` as ``1.3.0b9``; None if it is not a version."""
    found = VERSION.fullmatch(version) if len(version) <= 15 else None
    if found is None:
        return None
    *numbers, kind, pre = found.groups()
    x, y, z = (int(number or 0) for number in numbers)
    if not x | y | z or (kind and not int(pre)):
        return None
    return f"{x}.{y}.{z}" + (f"{kind}{int(pre)}" if kind else "")


def form(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Take multipart/form-data apart: texts by field name, and files by field name."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", "", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename() is None:
            texts[str(name)] = content.decode("utf-8", "replace")
        else:
            files[str(name)] = content
    return texts, files
