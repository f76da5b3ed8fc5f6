"""Clients whose bytes are worth little: read again only when others have had their turn. And those that read no answers."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final

from api.transport.condition import Condition, count_refused
from api.transport.cycle import Flow

__all__ = ["PIECE", "PIECES_FREE", "Slowing"]

PIECE: Final = 512
"""Bytes of a piece that brings a request on: one that comes in such pieces is there soon, or too long."""

PIECES_FREE: Final = 8
"""Smaller pieces in which a request may come without being slowed. Clients of this world send one or two."""


class Slowing(Condition):
    """A connection that is read no further for a while. `may_be_read` says whether anything else is in the way."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    flow: Flow

    def may_be_read(self) -> bool:
        """Whether it is read on, once it is slowed no more."""
        raise NotImplementedError

    def throw_away(self, count: int) -> None:
        """Discard these bytes; read the next ones when other connections have had their turn."""
        if not self.slowed and not self.transport.is_closing():
            self._slow(self.turns.throw_away(self.loop.time(), count))

    def note_piece(self, size: int) -> None:
        """So many bytes came of a request, and not the last of it. One that comes in drops is read when many are there: each
        piece costs as much as a whole request, and thousands of clients can send drops all at once."""
        if size < PIECE:
            self.pieces += 1
            if self.pieces > PIECES_FREE and not self.slowed and not self.transport.is_closing():
                self._slow(self.turns.piece(self.loop.time()))

    def _slow(self, until: float) -> None:
        self.slowed = True
        self.flow.pause_reading()
        self.loop.call_at(until, self._read_on, context=Context())

    def _read_on(self) -> None:
        self.slowed = False
        if self.may_be_read():
            self.flow.read_on()

    def is_stuck(self, now: float) -> bool:
        """Whether its answers are not read. For too long: hang up, and lose them."""
        size, before = self.transport.get_write_buffer_size(), self.stuck_size
        self.stuck_size = size
        if not size and not self.transport.is_closing():
            self.stuck_since = 0.0
            return False
        if not self.stuck_since or size < before:
            self.stuck_since = now
        elif now - self.stuck_since > min(self.patience.flush_s, self.stopping_s):
            count_refused("unread")
            self.transport.abort()
        return True
