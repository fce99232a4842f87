"""How does relay speak of what it does?  One wide line an outcome, JSON or coloured text; secrets never."""

import logging
import sys
from base64 import b64encode
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, TextIO
from urllib.parse import quote

import orjson
import structlog

from relay.secret import SHORTEST, Secret

MASK: Final = "***"
LONGEST: Final = 1024
"""Characters of one value in a log line."""
TRACE: Final = 8 * LONGEST
"""Characters of a traceback."""


class Scrubber:
    """A net under the wrapped secrets: cuts their values, plain and encoded, out of text and bytes."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Know more secrets."""
        forms = set(self._forms)
        for secret in secrets:
            value = secret.reveal()
            if len(value) >= SHORTEST:
                coded = b64encode(value.encode()).decode().rstrip("=")
                forms |= {value, quote(value, safe=""), coded, value.encode().hex()}
                # As text inside JSON, and inside the repr of an exception's argument.
                forms |= {orjson.dumps(value).decode()[1:-1], repr(value)[1:-1]}
        # The longest first, so that no form is cut in two by a shorter one.
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return *text* without secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def bytes(self, raw: bytes) -> bytes:
        """Return *raw* without secrets."""
        for form in self._forms:
            raw = raw.replace(form.encode(), MASK.encode())
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
    line["event"] = plain(line["event"])
    if "exception" in line:
        line["exception"] = plain(line["exception"], "\n")
    return {key: value for key, value in line.items() if value not in (None, [], "")}


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
        render = structlog.processors.JSONRenderer(
            serializer=lambda line, **_: orjson.dumps(line, default=str).decode()
        )
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
