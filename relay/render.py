"""What goes out? An action's shape, filled with values through an encoder for each place."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import UUID

import orjson

from relay.errors import Unfit
from relay.event import CONTROL, Json, Millis
from relay.provider import Action, Auth, Provider, Request, Shape, Upload, Value
from relay.template import Get, fill, kind, names, plain, text

EXACT: Final = 1 << 53
"""A JSON number from here on may have been rounded on its way: as an id it can't be trusted (RFC 8259 6)."""

_HEADER: Final = re.compile(r"[\x20-\x7e\t]*")


def checked(action: Action, values: Mapping[str, Json]) -> dict[str, Json]:
    """Return *values* in the types that *action* declares. Raises Unfit, which names the value."""
    for name in values:
        if name not in action.values:
            raise Unfit(f"{name} is no value of {action.name}")
    found: dict[str, Json] = {}
    for name, spec in action.values.items():
        if name in values:
            found[name] = _typed(name, spec, values[name])
        elif not spec.optional:
            raise Unfit(f"{name} is missing")
    return found


def request(
    provider: Provider, shape: Shape, action: Action, values: Mapping[str, Json], now: Millis
) -> Request:
    """Fill *shape* (the action's, or its check's) with checked *values* and sign it. Raises Unfit."""

    def get(name: str) -> Json:
        if name not in values:
            raise Unfit(f"{name} is missing")
        return values[name]

    path = text(shape.path, get, _segment)
    params = [
        (key, plain(fill(value, get), key)) for key, value in shape.query.items() if _given(value, values)
    ]
    body, content_type = _body(provider, shape, action, get)
    url = provider.base_url.rstrip("/") + path
    if params:
        url += "?" + "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in params)
    headers = {"Accept": "application/json"} | {
        key: _header(text(value, get)) for key, value in shape.headers.items()
    }
    if content_type:
        headers["Content-Type"] = content_type
    signed = _Signed(
        method=shape.method,
        path=urlsplit(url).path,
        params="&".join(f"{key}={value}" for key, value in sorted(params)),
        body=body if isinstance(body, bytes) else b"",
        timestamp=str(now // 1000),
    )
    headers |= credentials(provider.auth, provider, signed)
    return Request(
        method=shape.method,
        url=url,
        headers=tuple(headers.items()),
        body=body,
        timeouts=provider.timeouts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What a signature may cover."""

    method: str
    path: str
    params: str  #: sorted by name, not URL-encoded
    body: bytes
    timestamp: str  #: seconds


def credentials(auth: Auth, provider: Provider, signed: _Signed) -> dict[str, str]:
    """Return the headers that say who is calling."""
    known = {f"secret.{name}": secret.reveal() for name, secret in provider.secrets.items()}
    known |= {
        "timestamp": signed.timestamp,
        "method": signed.method,
        "path": signed.path,
        "params": signed.params,
        "body_sha256": hashlib.sha256(signed.body).hexdigest(),
    }

    def get(name: str) -> Json:
        if name not in known:
            raise Unfit(f"{{{name}}} is no part of a request's credentials")
        return known[name]

    if auth.sign is not None:
        key = text(auth.sign.key, get).encode()
        for step in auth.sign.derive:
            key = hmac.digest(key, text(step, get).encode(), "sha256")
        known["signature"] = hmac.digest(key, text(auth.sign.text, get).encode(), "sha256").hex()
    return {name: _header(text(value, get)) for name, value in auth.headers.items()}


def _body(provider: Provider, shape: Shape, action: Action, get: Get) -> tuple[bytes | Upload, str]:
    if shape.json is not None:
        return _json("the body", fill(shape.json, get)), "application/json"
    if not shape.multipart:
        return b"", ""
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Path, str]] = []
    for name, part in shape.multipart.items():
        if isinstance(part, str):
            fields.append((name, text(part, get)))
        else:
            files.append((name, _inside(provider, text(part["file"], get)), part.get("type", _OCTETS)))
    if provider.files is None:
        raise Unfit(f"{action.name} uploads a file, and provider {provider.name} has no `files` folder")
    return Upload(fields=tuple(fields), files=tuple(files), root=provider.files), ""


_OCTETS: Final = "application/octet-stream"


def _inside(provider: Provider, path: str) -> Path:
    """Keep a path inside the provider's folder; `send` opens it without following links."""
    if provider.files is None:
        raise Unfit(f"provider {provider.name} has no `files` folder")
    return provider.files / path


def _given(template: Json, values: Mapping[str, Json]) -> bool:
    """Say if all values of a query parameter are there; without its optional value it is left out."""
    return all(name in values for name in names(template))


def _typed(name: str, spec: Value, value: Json) -> Json:
    match spec.type:
        case "any":
            _json(name, value)
            return value
        case "boolean":
            if not isinstance(value, bool):
                raise Unfit(f"{name} is {kind(value)}, expected true or false")
            return value
        case "integer":
            if isinstance(value, bool) or not isinstance(value, int):
                raise Unfit(f"{name} is {kind(value)}, expected a whole number")
            _json(name, value)
            return value
        case "text" | "file":
            return _text(name, spec, value)


def _json(name: str, value: Json) -> bytes:
    """Write *value* as JSON. Raises Unfit for what only TOML can say: integers beyond 64 bits."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Unfit(f"{name} holds what can be no part of JSON") from None


def _text(name: str, spec: Value, value: Json) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= EXACT:
            raise Unfit(f"{name} is a number of 2^53 or beyond, which may have been rounded; expected text")
        value = str(value)
    if not isinstance(value, str):
        raise Unfit(f"{name} is {kind(value)}, expected text")
    if not value.strip():
        raise Unfit(f"{name} is empty")
    if CONTROL.search(value):
        raise Unfit(f"{name} holds a control character")
    if len(value.encode()) > spec.max:
        raise Unfit(f"{name} is longer than {spec.max} bytes")
    if spec.format == "uuid" and not _is_uuid(value):
        raise Unfit(f"{name} is {value[:60]!r}, expected a UUID")
    if spec.pattern is not None and not _pattern(spec.pattern).fullmatch(value):
        said = f"{spec.title} ({name})" if spec.title else name
        raise Unfit(f"{said} is {value[:60]!r}, which does not match {spec.pattern}")
    if spec.type == "file":
        parts = value.split("/")
        if "\\" in value or PurePosixPath(value).is_absolute() or not all(p.strip(".") for p in parts):
            raise Unfit(f"{name} is {value[:60]!r}, which is no path inside a folder")
    return value


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _is_uuid(value: str) -> bool:
    try:
        return str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _segment(value: str) -> str:
    """Encode one path segment (RFC 3986 3.3). Raises Unfit for what could be read as several, or none."""
    if not value or value in {".", ".."} or "/" in value or "\\" in value or CONTROL.search(value):
        raise Unfit(f"{value[:60]!r} can't stand in a path")
    return quote(value, safe="")


def _header(value: str) -> str:
    """Let only visible ASCII into a header: CR and LF would start another one. Never echo the value."""
    if not _HEADER.fullmatch(value):
        raise Unfit("a header's value holds characters that no header can carry")
    return value
