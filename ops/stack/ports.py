"""Ports for servers of ours: each belongs to one boxoffice of this machine, for as long as that one wants it.

Between a look whether a port is free and the server that listens there, another process may look too. So whoever takes a
port marks it first, with a UDP socket bound to the same number: the kernel gives it to one alone, and takes it back when
its process ends. TCP's ports are others; the servers do not notice.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Collection
from typing import Final

from boxoffice.errors import CannotRun

__all__ = ["PORTS", "Ports", "port_is_free"]

PORTS: Final = range(15_000, 32_000)
"""Below the range that systems give to outgoing connections: from inside it, a client knocking at a dead server's port
could be given that very port, connect to itself, and keep the server from coming back."""

TRIES: Final = 500

LOOPBACK: Final = "127.0.0.1"


class Ports:
    """Those that are ours, until `leave`, `close`, or the end of the process."""

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}
        """Port to the descriptor of its mark. No sockets: one that is forgotten is no mistake."""

    def take(self, port: int) -> bool:
        """Make it ours if nobody else has it and a server could listen there; or if it is ours already."""
        if port in self._marks:
            return True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mark:
            try:
                mark.bind((LOOPBACK, port))
            except (OSError, OverflowError):
                return False
            # Behind the mark: before it, one of ours that has the mark may be just about to listen.
            if not port_is_free(port):
                return False
            self._marks[port] = mark.detach()
        return True

    def draw(self, avoid: Collection[object] = ()) -> int:
        """Make one ours that is none of these. Raises `CannotRun` when there is none."""
        for port in random.sample(PORTS, min(TRIES, len(PORTS))):
            if port not in self._marks and port not in avoid and self.take(port):
                return port
        raise CannotRun(f"No free port found between {PORTS.start} and {PORTS.stop}.")

    def leave(self, port: int) -> None:
        """Let others have it."""
        if (mark := self._marks.pop(port, None)) is not None:
            with contextlib.suppress(OSError):
                os.close(mark)

    def close(self) -> None:
        """Let others have all of them."""
        for port in [*self._marks]:
            self.leave(port)


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still fading is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
