"""The ceiling: the API's own server, with its own settings, around an application that does nothing at all.

python -m bench.noop PORT
"""

from __future__ import annotations

import sys
from typing import Any

from api import server
from boxoffice.settings import load_settings

__all__ = ["noop"]

START = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"{}"}


async def noop(scope: Any, receive: Any, send: Any) -> None:
    """Answer 202 without looking at the request, its body included."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(START)
    await send(BODY)


def main() -> None:
    """Serve until told to stop."""
    # `serve` takes its application from here, so that every other setting of the server is the real one.
    own: Any = server
    own.create_app = lambda _settings: noop
    server.serve(load_settings(), "127.0.0.1", int(sys.argv[1]))


if __name__ == "__main__":
    main()
