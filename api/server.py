"""The HTTP server, in this process."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import Any

import uvicorn

from api.app import create_app, entrance_of
from api.front import Front
from api.transport import memory
from api.transport.connection import Connection
from api.transport.lane import lane
from api.transport.watch import Server, room_for
from boxoffice.settings import Settings
from boxoffice.stores.postgres import look_ahead
from boxoffice.stores.sessions import call_us
from boxoffice.stores.waits import EXPECTED
from boxoffice.telemetry import log
from boxoffice.telemetry.series import CONNECTIONS_MAX

__all__ = ["connection_class", "serve"]

GRACE_S = 10
"""How long requests in flight may take once the process was told to stop and idle connections are closed."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve the API until SIGINT or SIGTERM, then finish what is in flight, let connections end, and return.

    Raises `CannotRun` for a PostgreSQL that can never do."""
    log.configure(settings, expected=EXPECTED)
    call_us("api")
    asyncio.run(look_ahead(settings))
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=connection_class(settings, app),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=4_096,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn raises the signal again when it has shut down; by then there is nothing left to do.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _heard)
    _spare_the_collector()
    memory.map_large()
    Server(config, settings.api.drain_s, app.stop).run()


def connection_class(settings: Settings, app: Any) -> type[Connection]:
    """What serves one connection to this application: in the lane, if there is one."""
    front = entrance_of(app)
    in_lane = settings.api.lane and isinstance(front, Front)
    kind = lane(front, shapes=settings.api.shapes) if in_lane else Connection
    room = room_for(settings.api.connections_max)
    CONNECTIONS_MAX.set(room)
    patience = settings.api.model_copy(update={"connections_max": room})
    return type("Served", (kind,), {"limits": settings.limits, "patience": patience})


def _heard(_signum: int, _frame: Any) -> None:
    """Takes the signal that uvicorn raises again, and does nothing."""


def _spare_the_collector() -> None:
    """Freeze what the start has made, and make full collections rare: their pauses are
    the longest answers of a rush."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
