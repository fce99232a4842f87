"""Which parts make a running relay?  The one place that wires them together."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware

from relay import __version__
from relay.clock import now_ms
from relay.config import Config, admin_token
from relay.engine import SQLite
from relay.errors import ConfigError
from relay.intake import Intake
from relay.keep import Keeper
from relay.log import scrub
from relay.reload import InForce, Reloader, read, tell_orphans
from relay.ring import Ring
from relay.secret import Secret
from relay.send import Sender
from relay.store import Store
from relay.web import api, health, hooks
from relay.web.guard import Guard
from relay.web.problem import HANDLERS
from relay.web.shed import Disk, Shed
from relay.web.tally import Tally
from relay.work import Worker

log = structlog.get_logger()

MADE: Final = "made at the start"
"""Where an admin's token is from that no variable holds."""


def build(config: Config, *, on_broken: Callable[[], None] = lambda: None) -> Starlette:
    """
    Return the ASGI app of a whole relay: intake, store and worker live as long as its lifespan.

    Raises ConfigError if the files are wrong, now and not later. *on_broken* is called when the store can
    take nothing more: the process should end and be started again.
    """
    reading = read(config.rules, config.environ)
    rules = reading.rules
    if rules is None:
        raise ConfigError(reading.problems)
    in_force = InForce(rules, now_ms())
    admin = admin_token(config.environ) or Secret(secrets.token_urlsafe(32), MADE)
    scrub.learn([*rules.secrets(), admin])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = SQLite(config.db)
        keep = Keeper(engine)
        send = Sender()
        worker = Worker(in_force, keep, send)
        reloader = Reloader(in_force, reading, keep, worker.wake, config.environ, looks=config.reload)
        # The lock file says that no other worker lives: what was out is out no longer.
        swept = await keep(Store.sweep, now_ms(), everything=True)
        await keep(Store.arm, rules.watches, now_ms())
        await keep(Store.resume)
        tell_orphans(await keep(Store.counts), rules)
        app.state.disk = Disk(config.db.absolute().parent, config.min_free)
        app.state.keep, app.state.intake = keep, Intake(in_force, keep, worker.wake, ring=Ring(send))
        app.state.wake, app.state.leave, app.state.reload = worker.wake, worker.leave, reloader.ask
        log.info(
            "relay.started",
            version=__version__,
            rules=len(rules.rules),
            rule_version=rules.version,
            sources=sorted(rules.sources),
            providers=sorted(rules.providers),
            watches=sorted(rules.watches),
            database=engine.title,
            unknown_after_crash=len(swept),
        )
        working = asyncio.create_task(worker.run(), name="worker")
        working.add_done_callback(lambda task: _ended(task, keep, on_broken))
        reloading = asyncio.create_task(reloader.run(), name="reloader")
        try:
            yield
        finally:
            reloading.cancel()
            stopped = await worker.stop(config.grace_s)
            await asyncio.wait([working, reloading])
            await send.close()
            keep.close()
            log.info("relay.stopped", finished=stopped.finished, given_back=stopped.given_back)

    routes = [*hooks.ROUTES, *health.ROUTES, *api.ROUTES]
    tally = Tally()
    edge = [
        Middleware(Guard, hosts=_hosts(config), tally=tally),
        Middleware(Shed, tally=tally),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=HANDLERS, middleware=edge)
    app.state.admin, app.state.in_force, app.state.tally = admin, in_force, tally
    # A redirect would repeat the token in a path, to a host that the sender names, and lose the event.
    app.router.redirect_slashes = False
    return app


def _hosts(config: Config) -> tuple[str, ...]:
    """Return the names by which relay may be asked for; none: any. It always may by its address."""
    own = f"[{config.host}]" if ":" in config.host else config.host
    return (*config.allow_hosts, own.lower()) if config.allow_hosts else ()


def _ended(task: "asyncio.Task[None]", keep: Keeper, on_broken: Callable[[], None]) -> None:
    """Say why the worker ended, unless it was asked to."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("worker.failed", exc_info=error)
    if keep.broken is not None:
        log.critical(
            "store.broken", why=str(keep.broken), then="stopping, so as to start from what the disk holds"
        )
    if error is not None or keep.broken is not None:
        on_broken()
