"""An ASGI application on a real port, in this event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.support.waiting import true_soon


@asynccontextmanager
async def served(create: Callable[[str], Any]) -> AsyncIterator[str]:
    """Serve the application that `create` makes for its own address, and yield that address."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(create(url), log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    # serve() would take over SIGINT from pytest.
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    await true_soon(lambda: server.started or serving.done())
    if serving.done():
        await serving
    try:
        yield url
    finally:
        server.should_exit = True
        await serving
        listener.close()
