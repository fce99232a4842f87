"""What goes out? An action's shape, filled with values through an encoder for each place."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import UUID

import orjson

from relay.errors import Unfit
from relay.event import CONTROL, Json, Millis
from relay.provider import Action, Auth, Listing, Provider, Request, Shape, Upload, Value
from relay.template import Get, fill, kind, names, needed, plain, text

EXACT: Final = 1 << 53
"""A JSON number from here on may have been rounded on its way: as an id it can't be trusted (RFC 8259 6)."""

LONGEST_URL: Final = 1 << 15
"""Bytes of a whole URL: servers take 8 to 16 KiB, and what none would take is no call."""

_HEADER: Final = re.compile(r"[\x20-\x7e\t]*")


CALL_ID: Final = "call.id"
"""The one placeholder that is no value: it stays the same however often a call is made."""


def checked(action: Action | Listing, values: Mapping[str, Json]) -> dict[str, Json]:
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
    provider: Provider,
    shape: Shape,
    action: Action,
    values: Mapping[str, Json],
    now: Millis,
    call_id: str = "",
) -> Request:
    """Fill *shape* (the action's, or its check's) with checked *values* and sign it. Raises Unfit."""
    return _signed(provider, shape, _filled(provider, shape, action.name, values, call_id), now)


def listing_request(
    provider: Provider,
    listing: Listing,
    values: Mapping[str, Json],
    extra_query: Mapping[str, str],
    now: Millis,
) -> Request:
    """Ask for the page of *listing* that *extra_query* names. Raises Unfit."""
    filled = _filled(provider, listing.shape, listing.name, values)
    params = [(key, value) for key, value in filled.params if key not in extra_query]
    return _signed(provider, listing.shape, replace(filled, params=[*params, *extra_query.items()]), now)


def batched(
    provider: Provider,
    shape: Shape,
    action: Action,
    list_of_values: Sequence[Mapping[str, Json]],
    field: str,
    now: Millis,
) -> Request:
    """
    Return one request for several calls: each filled alone, then the lists at *field* of their bodies joined.

    Raises Unfit where anything else differs, or where that is no list.
    """
    if CALL_ID in {*names(list(shape.headers.values())), *names(shape.json)}:
        raise Unfit(f"{action.name} says {{{CALL_ID}}}, and a batch is several calls")
    each = [_filled(provider, shape, action.name, values) for values in list_of_values]
    bodies = [one.json if isinstance(one.json, dict) else {} for one in each]
    joined: list[Json] = []
    rests: set[tuple[object, ...]] = set()
    for one, body in zip(each, bodies, strict=True):
        part = body.get(field)
        if not isinstance(part, list):
            raise Unfit(f"{field} in the body of {action.name} is {kind(part)}, expected a list")
        joined += part
        # As bytes: true and 1 are the same to Python, and not to a provider.
        rest = _json("the body", {key: value for key, value in body.items() if key != field})
        rests.add((one.path, tuple(one.params), tuple(one.headers.items()), rest))
    if len(rests) != 1:
        raise Unfit(f"the calls of this batch differ in more than {field}")
    return _signed(provider, shape, replace(each[0], json={**bodies[0], field: joined}), now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """A shape without holes, before it is signed."""

    path: str  #: encoded
    params: Sequence[tuple[str, str]]  #: not encoded
    headers: Mapping[str, str]
    json: Json
    upload: Upload | None


def _filled(
    provider: Provider, shape: Shape, name: str, values: Mapping[str, Json], call_id: str | None = None
) -> _Filled:
    def get(name: str) -> Json:
        if name not in values:
            raise Unfit(f"{name} is missing")
        return values[name]

    def own(name: str) -> Json:
        return call_id if name == CALL_ID and call_id is not None else get(name)

    return _Filled(
        path=text(shape.path, get, _segment),
        params=[
            (key, plain(fill(value, get), key)) for key, value in shape.query.items() if _given(value, values)
        ],
        headers={key: _header(text(value, own)) for key, value in shape.headers.items()},
        json=fill(shape.json, own),
        upload=_upload(provider, shape, name, get) if shape.json is None and shape.multipart else None,
    )


def _signed(provider: Provider, shape: Shape, filled: _Filled, now: Millis) -> Request:
    """Encode what was filled, and add the headers that say who is calling."""
    body = b"" if shape.json is None else _json("the body", filled.json)
    url = provider.base_url.rstrip("/") + filled.path
    if filled.params:
        url += "?" + "&".join(
            f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in filled.params
        )
    if len(url) > LONGEST_URL:
        raise Unfit(f"the address becomes longer than {LONGEST_URL} bytes")
    headers = {"Accept": "application/json", **filled.headers}
    if shape.json is not None:
        headers["Content-Type"] = "application/json"
    signed = _Signed(
        method=shape.method,
        path=urlsplit(url).path,
        params="&".join(f"{key}={value}" for key, value in sorted(filled.params)),
        body=body,
        timestamp=str(now // 1000),
    )
    headers |= credentials(provider.auth, provider, signed)
    return Request(
        method=shape.method,
        url=url,
        headers=tuple(headers.items()),
        body=body if filled.upload is None else filled.upload,
        timeouts=provider.timeouts,
        reach=provider.reach,
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


def _upload(provider: Provider, shape: Shape, name: str, get: Get) -> Upload:
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Path, str]] = []
    for key, part in shape.multipart.items():
        if isinstance(part, str):
            fields.append((key, text(part, get)))
        else:
            files.append((key, _inside(provider, text(part["file"], get)), part.get("type", _OCTETS)))
    if provider.files is None:
        raise Unfit(f"{name} uploads a file, and provider {provider.name} has no `files` folder")
    return Upload(fields=tuple(fields), files=tuple(files), root=provider.files)


_OCTETS: Final = "application/octet-stream"


def _inside(provider: Provider, path: str) -> Path:
    """Keep a path inside the provider's folder; `send` opens it without following links."""
    if provider.files is None:
        raise Unfit(f"provider {provider.name} has no `files` folder")
    return provider.files / path


def _given(template: Json, values: Mapping[str, Json]) -> bool:
    """Say if a query parameter has what it needs; without an optional value it is left out."""
    return all(name in values for name in needed(template))


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
    _json(name, value)  # half of a character can't go anywhere
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
    if not value.strip() or value in {".", ".."} or "/" in value or "\\" in value or CONTROL.search(value):
        raise Unfit(f"{value[:60]!r} can't stand in a path")
    return quote(value, safe="")


def _header(value: str) -> str:
    """Let only visible ASCII into a header: CR and LF would start another one. Never echo the value."""
    if not _HEADER.fullmatch(value):
        raise Unfit("a header's value holds characters that no header can carry")
    return value
