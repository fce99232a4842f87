"""How does relay run as a process?  uvicorn, one loop, and signals that end it well."""

import asyncio
import errno
import ipaddress
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson
import structlog
import uvicorn

from relay.app import MADE, build
from relay.config import Config, admin_file
from relay.errors import ConfigError, Problem, RelayError
from relay.secret import Secret
from relay.web.door import SPARE, Door, Terms
from relay.web.protocol import behind

log = structlog.get_logger()

MOST_DESCRIPTORS: Final = 1 << 20
"""Asked for where the system sets no limit."""


class Server(uvicorn.Server):
    """uvicorn, but the signals are ours: it would end the process with the signal instead of code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def serve(config: Config) -> int:
    """
    Serve until SIGTERM or SIGINT; return the exit code: 0, or 1 if the store broke or nothing could start.

    SIGHUP has the files read again, or ends it, if it is the terminal's that has gone.

    Raises ConfigError if the files or the address are wrong, StoreError if there is no database, RelayError
    if the address is taken.
    """
    broken: list[bool] = []

    def on_broken() -> None:
        broken.append(True)
        server.should_exit = True

    app = build(config, on_broken=on_broken)
    listener = _listen(config.host, config.port)
    places = min(config.connections, max(_descriptors() - SPARE, 1))
    door = Door(Terms(connections=places), app.state.tally)
    server = Server(
        uvicorn.Config(
            app,
            http=behind(door),  # httptools: h11 answers smuggled requests
            loop="uvloop",
            ws="none",
            lifespan="off",  # ours: uvicorn skips its end in a hurry, and makes tracebacks of its errors
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(config.grace_s) or 1,
        )
    )

    def leave(number: int) -> None:
        """Stop politely: claim nothing from now on; a second signal cuts the grace short."""
        hurry = server.should_exit
        server.should_exit, server.force_exit = True, hurry
        if hasattr(app.state, "leave"):
            app.state.leave(0 if hurry else config.grace_s)
        log.info("relay.stopping", signal=signal.Signals(number).name)

    at_terminal = sys.stderr.isatty()

    def hung_up() -> None:
        """Read the files; but where the terminal has gone, stop as others do: nobody reads the log."""
        if at_terminal and not sys.stderr.isatty():
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno()
            )  # a log that fails would break the stop
            leave(signal.SIGHUP)
        elif hasattr(app.state, "reload"):
            app.state.reload()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, hung_up)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave, number)
        host, port = listener.getsockname()[:2]
        async with app.router.lifespan_context(app):
            log.info("relay.listening", url=_url(host, port), connections=places)
            with _announced(admin_file(config.db), _url(_reached(host), port), app.state.admin):
                await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(run())
    return 1 if broken or not server.started else 0


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reached(host: str) -> str:
    """Return the address at which a relay is reached from here that listens on *host*."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"


@contextmanager
def _announced(place: Path, url: str, admin: Secret) -> Iterator[None]:
    """
    Say in a file how this relay is reached, for as long as it listens; nobody but its user may read it.

    The token stands there only if it was made at the start: who has set one knows it.
    """
    told = {"url": url} | ({"token": admin.reveal()} if admin.origin == MADE else {})
    try:
        _write(place, orjson.dumps(told) + b"\n")
    except OSError as error:
        # Events come first: relay runs, though its shell can't act.
        log.warning("admin.no_file", file=str(place), why=(error.strerror or str(error)).lower())
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()


def _write(place: Path, content: bytes) -> None:
    """Put *content* at *place*, whole or not at all. The database's lock says that nobody else does."""
    fresh = place.with_name(f"{place.name}.new")
    fresh.unlink(missing_ok=True)
    # Made anew and never followed: what others may have left there is not written to.
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            file.write(content)
        fresh.replace(place)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _descriptors() -> int:
    """Allow this process as many descriptors as it may allow itself; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if soft == resource.RLIM_INFINITY else soft


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - only a server needs it, and it takes a while to load

    return uvloop.new_event_loop()


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a taken port is a clear error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = f"can't listen on {host}:{port}: {(error.strerror or str(error)).lower()}"
        if error.errno == errno.EADDRINUSE:
            raise RelayError(why) from None  # the other one may go: starting again can help
        raise ConfigError([Problem(file="--host/--port", what=why)]) from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener
