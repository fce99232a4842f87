"""How does relay run as a process?  uvicorn, one loop, and signals that end it well."""

import asyncio
import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from relay.app import build
from relay.config import Config
from relay.errors import ConfigError, Problem, RelayError

log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn, but the signals are ours: it would end the process with the signal instead of code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def serve(config: Config) -> int:
    """
    Serve until SIGTERM or SIGINT; return the exit code: 0, or 1 if the store broke or nothing could start.

    Raises ConfigError if the files or the address are wrong, StoreError if there is no database, RelayError
    if the address is taken.
    """
    broken: list[bool] = []

    def on_broken() -> None:
        broken.append(True)
        server.should_exit = True

    app = build(config, on_broken=on_broken)
    listener = _listen(config.host, config.port)
    server = Server(
        uvicorn.Config(
            app,
            http="httptools",
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

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave, number)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        async with app.router.lifespan_context(app):
            log.info("relay.listening", url=f"http://{shown}:{port}")
            await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(run())
    return 1 if broken or not server.started else 0


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
