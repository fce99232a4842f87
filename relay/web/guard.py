"""Is this a request that all who read it understand alike?  Judged before anything else looks at it."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from relay.errors import Rejected
from relay.web.problem import problem
from relay.web.tally import Tally

MOST_HEADERS: Final = 100

MOST_BYTES: Final = 32 << 10
"""Bytes of all headers, as `weight` counts them."""

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods of which the routes say themselves where they will do."""

AT_HOME: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts by which the shell and a health check on relay's own machine name it; no browser is lured to them."""

KEYED: Final = b"/api/v1/cases/"
"""Below it stands a case's key as one segment: there, ``%2F`` and ``%5C`` are letters of a name."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*))(?::[0-9]{1,5})?", re.ASCII)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DOTS: Final = frozenset({b".", b".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request's head: *target* as it was sent, headers with lower-case names."""

    method: str
    target: bytes
    headers: Headers


def weight(name: bytes, value: bytes) -> int:
    """Return how many bytes of a request's head one header takes."""
    return len(name) + len(value) + len(b": \r\n")


def check(asked: Asked, hosts: Collection[str] = ()) -> None:
    """
    Let pass what has one meaning only. Raises Rejected: 400, 405, 421, 431, 501.

    *hosts* are the only names by which relay may be asked for, in lower case and without port; none: any.
    Exactly one Host (RFC 9112 3.2), a target in origin form (or in absolute form with the same host), and a
    path that equals its own normal form (RFC 3986 6.2.2): no front end and no route can read it otherwise.
    """
    size = sum(weight(name, value) for name, value in asked.headers)
    if len(asked.headers) > MOST_HEADERS or size > MOST_BYTES:
        raise Rejected(431, "Headers too large", f"at most {MOST_HEADERS} headers, {MOST_BYTES} bytes in all")
    named = [value for name, value in asked.headers if name == b"host"]
    if len(named) != 1:
        raise Rejected(400, "Bad request", f"expected one Host header, got {len(named)}")
    host = named[0].decode("latin-1").strip().lower()
    match = _HOST.fullmatch(host)
    if match is None:
        raise Rejected(400, "Bad request", "the Host header names no host")
    codings = [value.strip().lower() for name, value in asked.headers if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        raise Rejected(501, "Not implemented", "the only transfer coding that is understood is chunked")
    target = asked.target
    if absolute := _ABSOLUTE.match(target):
        if absolute[1].decode("latin-1").lower() != host:
            raise Rejected(400, "Bad request", "the target and the Host header name different hosts")
        target = target[absolute.end() :]
    if flaw := oddity(target):
        raise Rejected(400, "Bad request", f"the path {flaw}")
    if hosts and match[1] not in hosts and match[1] not in AT_HOME:
        raise Rejected(421, "Misdirected request", "relay is not asked for by this host's name")
    if asked.method not in METHODS:
        raise Rejected(405, "Method not allowed", f"expected one of {', '.join(METHODS)}")


def oddity(target: bytes) -> str:
    """Say in what the path of a *target* differs from its normal form; nothing, if it does not."""
    path = target.partition(b"?")[0]
    keyed = path.startswith(KEYED)
    if not path.startswith(b"/"):
        return "does not begin with a slash"
    if b"//" in path:
        return "has two slashes in a row"
    if any(char <= 0x20 or char >= 0x7F or char in b"\\#" for char in path):
        return "has a character that must be encoded"
    # A path parameter does not hide the dots: some servers drop it, and then see them.
    if any(segment.partition(b";")[0] in _DOTS for segment in path.split(b"/")):
        return "has a segment of dots"
    for escape in _ESCAPE.finditer(path):
        if escape[1] is None:
            return "has a percent sign that encodes nothing"
        char = int(escape[1], 16)
        if char in _UNRESERVED:
            return "encodes what needs no encoding"
        if char < 0x20 or char == 0x7F or (char in b"/\\" and not keyed):
            return "encodes a slash or a control character"
    return ""


class Guard:
    """The outermost middleware: what does not pass `check` is answered at once, and the connection closed."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], tally: Tally) -> None:
        self._app, self._hosts, self._tally = app, hosts, tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request by its head."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check(Asked(method=scope["method"], target=_target(scope), headers=scope["headers"]), self._hosts)
        except Rejected as error:
            self._tally.speak("edge.refused", status=str(error.status), why=error.why)
            allow = {"Allow": ", ".join(METHODS)} if error.status == 405 else {}
            answer = problem(error.status, error.title, error.why, {"Connection": "close", **allow})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _target(scope: Scope) -> bytes:
    """Return the target as it was sent: our own protocol tells it; other servers know the path alone."""
    told = scope.get("extensions", {}).get("relay.target", {})
    found = told.get("raw") or scope.get("raw_path") or scope["path"].encode()
    return bytes(found)
