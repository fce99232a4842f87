"""How does a request leave, and what came back?"""

import asyncio
import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, cast

import httpx

from relay import __version__
from relay.provider import Answer, Fault, Reply, Request, Timeouts, Upload
from relay.wire import REACH, AiohttpTransport, may_have_left

MOST: Final = 1 << 20
"""Bytes of an answer that are read to judge it."""

OURS: Final = (("Accept-Encoding", "identity"), ("User-Agent", f"relay/{__version__}"))


UNFIT: Final = "the request can't be put on the wire"


class Sender:
    """Sends requests, each at most once, and returns what came back as data. Lives in one event loop."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport or AiohttpTransport()

    async def __call__(self, request: Request) -> Answer:
        """Send *request*; raises nothing but `asyncio.CancelledError`."""
        with ExitStack() as files:
            try:
                wired = _wired(request, files)
            except _Unreadable as error:
                return Fault(why=str(error), sent=False, ours=True)
            except (httpx.InvalidURL, ValueError, TypeError):
                return Fault(why=UNFIT, sent=False, ours=True)
            return await self._exchange(wired, request.timeouts)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def _exchange(self, wired: httpx.Request, timeouts: Timeouts) -> Answer:
        response: httpx.Response | None = None
        body = bytearray()
        whole = False
        try:
            async with asyncio.timeout(timeouts.total):
                response = await self._transport.handle_async_request(wired)
                whole = await _read(response, body)
            why = ""
        except TimeoutError:
            why = f"no answer within {timeouts.total:g} s"
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            return Fault(why=str(error), sent=may_have_left(wired), ours=not may_have_left(wired))
        except httpx.TransportError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001  (whatever it was, the call must be told if it may have left)
            why = type(error).__name__
        finally:
            if response is not None:
                await response.aclose()
        if response is None:
            return Fault(why=why, sent=may_have_left(wired))
        return Reply(
            status=response.status_code, headers=dict(response.headers), body=bytes(body[:MOST]), whole=whole
        )


async def _read(response: httpx.Response, body: bytearray) -> bool:
    """Read the answer into *body* until it ends (True) or is longer than we care for (False)."""
    # Not aiter_raw(): a generator that is left half-way is closed by the loop, and later.
    async for piece in cast("httpx.AsyncByteStream", response.stream):
        body += piece
        if len(body) > MOST:
            return False
    return True


def _wired(request: Request, files: ExitStack) -> httpx.Request:
    """Return *request* for the wire; *files* closes what it reads from."""
    given = {name.lower() for name, _ in request.headers}
    headers = [*request.headers, *(ours for ours in OURS if ours[0].lower() not in given)]
    limits = request.timeouts
    timeout = {"connect": limits.connect, "write": limits.write, "read": limits.read, "pool": None}
    terms = {"timeout": timeout, REACH: request.reach}
    match request.body:
        case bytes() as content:
            return httpx.Request(
                request.method, request.url, headers=headers, content=content, extensions=terms
            )
        case Upload() as upload:
            # Fields go as nameless files: so a name may come twice, and it is multipart without files, too.
            parts: list[tuple[str, tuple[str | None, str | BinaryIO, str | None]]] = [
                (name, (None, text, None)) for name, text in upload.fields
            ]
            for name, path, media in upload.files:
                parts.append((name, (path.name, files.enter_context(_opened(upload.root, path)), media)))
            return httpx.Request(request.method, request.url, headers=headers, files=parts, extensions=terms)


class _Unreadable(Exception):
    """A file that can't be opened, said without the folder that it is in."""


def _opened(root: Path, path: Path) -> BinaryIO:
    """Open the regular file *path*, which lies below *root* and behind no symbolic link, for reading."""
    try:
        parts = (path.relative_to(root) if path.is_absolute() else path).parts
        if not parts or ".." in parts:
            raise _Unreadable(f"no file {path.name!r} in the provider's folder")
        # Step by step from one open folder to the next: a name that is swapped meanwhile leads nowhere.
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in parts[:-1]:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            # O_NONBLOCK: a pipe without a writer would hold us for ever.
            file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        why = "a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise _Unreadable(f"no file {path.name!r}: {(why or 'unreadable').lower()}") from error
    except ValueError as error:
        raise _Unreadable(f"no file {path.name!r} in the provider's folder") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _Unreadable(f"no file {path.name!r}: not a regular file")
    return os.fdopen(file, "rb")
