"""A request for which there is no time, in a flood: it is told so at the end of the turn in which it came.

Not at once: uvloop writes at once, and libuv goes on reading in the same turn, up to 48 times 1,024 sockets, while as many as
that have something. A client that asks again as soon as it is answered would be read in the same turn again and again, and
nobody who was let in would be answered for seconds.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from api import problems
from boxoffice.telemetry import series

__all__ = ["NOBODY", "Nobody", "SentAway"]


class Nobody:
    """Stands where uvicorn wakes a request that waits for its body."""

    def set(self) -> None:
        """Nothing: nobody waits."""

    def end(self) -> None:
        """Nothing either, when the client sends no more."""


NOBODY = Nobody()

_overloaded = series.REFUSED_CONNECTIONS.cell("overloaded")


class SentAway(Struct, eq=False):
    """What its connection is busy with until then."""

    protocol: Any
    name: bytes
    keep_alive: bool
    disconnected: bool = False
    response_complete: bool = False
    message_event: Nobody = NOBODY

    def answer(self) -> None:
        """Say so, and let the connection's next request come."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self.protocol
        _overloaded.add()
        if not self.disconnected and not protocol.transport.is_closing():
            protocol.refuse_request(self.keep_alive, self.name, problems.overloaded(self.name))
            protocol.on_response_complete()
