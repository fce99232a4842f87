"""How does relay speak of what it does?  One wide line an outcome, JSON or coloured text; secrets never."""

import logging
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, MutableMapping
from json import dumps
from typing import Any, Final, TextIO
from urllib.parse import quote, quote_plus

import orjson
import structlog

from relay.secret import SHORTEST, Secret

MASK: Final = "***"
LEAST_INSIDE: Final = 8
"""Bytes of a secret that is looked for in the middle of base64, too: fewer make letters that words have."""
LEAST_IN_DATA: Final = 12
"""Characters of a secret that is cut out of data: a shorter one may stand in an id, or be a number there."""
LONGEST: Final = 1024
"""Characters of one value in a log line."""
TRACE: Final = 8 * LONGEST
"""Characters of a traceback."""


_URLSAFE: Final = str.maketrans("+/", "-_")
_UNESCAPED: Final = ("", "/", "!'()*", ";,/?:@&=+$#!'()*")
"""What some leave as it is in a URL: nothing, Python's quote, and two functions of JavaScript."""


def spellings(value: str) -> set[str]:
    """Return how a secret may stand in a text: plain, in URLs, hex, base64, JSON, and as Python shows it."""
    raw = value.encode()
    coded = {b64encode(raw).decode().rstrip("=")}
    if len(raw) >= LEAST_INSIDE:
        coded |= {_inside(raw, shift) for shift in range(3)}
    urls = {quote(value, safe=safe) for safe in _UNESCAPED} | {quote_plus(value)}
    urls |= {re.sub("%..", lambda byte: byte[0].lower(), url) for url in urls}
    found = {value, raw.hex(), raw.hex().upper()} | urls | coded | {one.translate(_URLSAFE) for one in coded}
    for text in (orjson.dumps(value).decode(), dumps(value), repr(value)):
        # JSON may stand in a text of JSON.
        found |= {text[1:-1], orjson.dumps(text[1:-1]).decode()[1:-1]}
    return found


def _inside(raw: bytes, shift: int) -> str:
    """Return those letters of base64 that are *raw* alone, if it begins *shift* bytes into a group."""
    text = b64encode(bytes(shift) + raw).decode()
    end = text.rstrip("=")
    return end[(0, 2, 3)[shift] : len(end) - (end != text)]


class Scrubber:
    """A net under the wrapped secrets: cuts their values, plain and encoded, out of text and bytes."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: list[str] = []
        self._raw: list[bytes] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Know more secrets."""
        values = {secret.reveal() for secret in secrets}
        forms = {one for value in values if len(value) >= SHORTEST for one in spellings(value)}
        raw = {one.encode() for value in values if len(value) >= LEAST_IN_DATA for one in spellings(value)}
        # The longest first, so that no form is cut in two by a shorter one.
        self._forms = sorted(forms.union(self._forms), key=len, reverse=True)
        self._raw = sorted(raw.union(self._raw), key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return *text* without secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def bytes(self, raw: bytes) -> bytes:
        """Return *raw*, which programs go on to read, without secrets that are no part of an id by chance."""
        for form in self._raw:
            raw = raw.replace(form, MASK.encode())
        return raw

    def _clean(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float():
                return value
            case list() | tuple():
                return [self._clean(item) for item in value[:LONGEST]]
            case dict():
                return {self.text(str(key)): self._clean(item) for key, item in value.items()}
            case bytes():
                return self.text(value.decode("utf-8", "replace"))[:LONGEST]
            case _:
                return self.text(str(value))[:LONGEST]

    def __call__(self, _logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Clean one log line: a structlog processor."""
        for key, value in line.items():
            # Of a traceback the end counts: the error itself.
            line[key] = self.text(value)[-TRACE:] if key == "exception" else self._clean(value)
        return line


scrub: Final = Scrubber()
"""The process's own net; `load` teaches it what the files name."""


def plain(text: str, kept: str = "") -> str:
    """Write control characters as escapes, but for those *kept*: no text from outside steers a terminal."""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def _for_eyes(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what is empty, and escape what the renderer would write as it is."""
    shown = {key: _plainly(value) for key, value in line.items() if value not in (None, [], "")}
    return shown | ({"exception": plain(line["exception"], "\n")} if "exception" in line else {})


def _plainly(value: Any) -> Any:
    match value:
        case str():
            return plain(value)
        case list():
            return [_plainly(item) for item in value]
        case dict():
            return {plain(str(key)): _plainly(item) for key, item in value.items()}
        case _:
            return value


_UNSEEN: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and a terminal that shows the line would obey: C1, and marks of direction."""


def _as_json(line: Mapping[str, Any], **_: Any) -> str:
    """Write a line as JSON that no terminal obeys."""
    text = orjson.dumps(line, default=str).decode()
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def set_up(stream: TextIO | None = None, *, level: str = "info", json: bool | None = None) -> None:
    """
    Send all log lines to *stream* (default: stderr), as JSON unless it is a terminal.

    Other libraries' lines go the same way, from warnings up: httpx would log whole URLs at info.
    """
    stream = stream or sys.stderr
    as_json = not stream.isatty() if json is None else json
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="at")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        stamp,
        structlog.processors.format_exc_info,
        scrub,
    ]
    render: structlog.typing.Processor
    if as_json:
        render = structlog.processors.JSONRenderer(serializer=_as_json)
    else:
        shared.append(_for_eyes)
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), timestamp_key="at", pad_event_to=18, sort_keys=False
        )
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
