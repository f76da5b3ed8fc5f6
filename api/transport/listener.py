"""Stop listening without a reset for whoever is connected.

The kernel shakes hands before we accept. Whoever is connected but not accepted when the listening socket is closed gets a
reset, perhaps with a request already sent. So connections that are there, and those whose handshake has begun, are accepted,
and only then is the socket closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["stop_listening"]

HANDSHAKE_S: Final = 0.01
"""Time for handshakes that have begun: some round trips of a data centre."""


async def stop_listening(server: asyncio.Server, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Close the server's sockets; whoever had connected before is served by a new `protocol`. Whoever connects in the very
    moment may get a reset."""
    loop = asyncio.get_running_loop()
    # The copies keep the sockets open, out of the loop's sight.
    listeners = [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
    for listener in listeners:
        listener.setblocking(False)
    server.close()
    await asyncio.sleep(HANDSHAKE_S)
    for listener in listeners:
        with listener, suppress(BlockingIOError):
            while True:
                connected, _ = listener.accept()
                connected.setblocking(False)
                await loop.connect_accepted_socket(protocol, connected)
