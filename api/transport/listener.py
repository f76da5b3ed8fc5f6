"""Stop listening without a reset for anybody.

The kernel shakes hands before we accept. Whoever is connected but not accepted when the listening socket is closed gets a
reset, perhaps with a request already sent. So new SYNs are dropped: the client's kernel sends another after a second, and is
refused. Connections that are there are accepted, and only then is the socket closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["stop_listening"]

HANDSHAKE_S: Final = 0.01
"""Time for handshakes that have begun: some round trips of a data centre. Whose SYN is dropped meanwhile waits a second."""

_SO_ATTACH_FILTER: Final = 26

_NO_NEWCOMERS: Final = (
    (0x30, 0, 0, 13),  # load the byte of TCP's flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone begins a connection:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let pass all else
)
"""A socket filter in classic BPF: code, jump if true, jump if false, operand."""


async def stop_listening(
    server: asyncio.Server, protocol: Callable[[], asyncio.Protocol], *, turn_away: bool = True
) -> None:
    """Close the server's sockets; whoever had connected before is served by a new `protocol`. Without `turn_away` whoever
    connects meanwhile may get a reset."""
    loop = asyncio.get_running_loop()
    # The copies keep the sockets open, out of the loop's sight.
    listeners = [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
    for listener in listeners:
        listener.setblocking(False)
        if turn_away:
            _turn_away(listener)
    server.close()
    await asyncio.sleep(HANDSHAKE_S)
    for listener in listeners:
        with listener, suppress(BlockingIOError):
            while True:
                connected, _ = listener.accept()
                connected.setblocking(False)
                await loop.connect_accepted_socket(protocol, connected)


def _turn_away(listener: socket.socket) -> None:
    """Drop what begins a connection. Where the system knows no such filter, some microseconds stay open to a reset."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_NEWCOMERS)
    kept = ctypes.create_string_buffer(code)
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_NEWCOMERS), ctypes.addressof(kept))
        )
