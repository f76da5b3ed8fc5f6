"""Whose turn it is: how much of the loop, which serves everybody, connections take that nobody vouches for.

A hundred clients that come at once, or send all they can, may each cost little, and together make everybody wait. So in
one turn of the loop, reading requests takes a bounded time, and whoever comes later has the next turn; requests that were
sent before the answers to those before them, and bytes that are thrown away, have a rate for all connections together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import Context
from math import inf
from typing import Final, Protocol

from boxoffice.settings import ApiSettings

__all__ = ["ORDINARY_S", "Turns", "is_probe"]

TURN_S: Final = 0.002
"""Seconds of one turn of the loop in which requests are read. A booking is admitted in about five times that."""

ORDINARY_S: Final = 0.0005
"""Seconds that a request takes which goes the ordinary way, most of them after it was read."""

BURST: Final = 16
"""Requests sent before the answers to those before them that are answered at once, of all connections."""

PIPELINED_EACH_S: Final = 200
"""Requests in a second, of all connections, that were sent before the answers to those before them. No client library
does it, and a hundred clients that did nothing else would leave no time for others."""

SHED_EACH: Final = 4
"""In a flood, every so many requests that are read are one that waited for too long."""

PROBES_EACH_S: Final = 50
"""Probes in a second, of all connections, that are read whether or not this turn's time is used up."""

PIECES_EACH_S: Final = 1_000
"""Small pieces of requests that are read in a second, of all connections that send theirs in many."""

PIECE_WAIT_S: Final = 2.0
"""Longest time until such a connection is read again. Beyond `PIECES_EACH_S` of them each is read that often."""

PASSED_EACH_S: Final = 67_108_864
"""Bytes in a second, of all connections, that are read only to be thrown away. More wait in their clients' systems."""

PASS_S: Final = 0.0005
"""Seconds from one such read to the next, in any case."""


_PROBES: Final = frozenset((b"/healthz", b"/readyz", b"/metrics"))


def is_probe(target: bytes) -> bool:
    """Whether it is answered however long it has waited: whoever looks after us wants to know."""
    return target.partition(b"?")[0] in _PROBES


class Waiting(Protocol):
    """Somebody who has something to read."""

    queued_at: float
    """Loop time from which on they wait."""

    @property
    def patience(self) -> ApiSettings:
        """How long they may."""

    def has_turn(self) -> None:
        """Read it now."""


class Turns:
    """Of one process. Times are the loop's but for the length of a turn, during which the loop's clock stands still."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        """Nobody's: whoever has a turn must not have it in the name of the request that was worked for when the turn began."""
        self._end_s = self._paced_until = self._passed_until = self._pieces_until = self._probe_at = 0.0
        self._served = 0
        """Requests that were read in a flood, since one was sent away."""
        self._since: float | None = None
        """When the first of those who wait now, and of those before them, began to."""

    def is_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this turn's time for reading is used up. The first who asks begins it."""
        if self._loop is loop:
            return time.monotonic() >= self._end_s
        self._loop = loop
        self._end_s = time.monotonic() + TURN_S
        self._waiting.clear()
        loop.call_soon(self._next, context=self._context)
        return False

    def spend(self, seconds: float) -> None:
        """Something was begun that will take so long."""
        self._end_s -= seconds

    def wait(self, who: Waiting) -> None:
        """Have them called in one of the next turns, before all who come later, unless this is a flood."""
        if not self._waiting and self._since is None:
            self._since = time.monotonic()
        self._waiting.append(who)

    def are_overdue(self, waited_s: float, patience: ApiSettings) -> bool:
        """Whether somebody who has waited so long is to be sent away: longer than may be, and others have waited for longer
        than a burst takes."""
        if not patience.wait_ms or 1_000 * waited_s <= patience.wait_ms or self._since is None:
            return False
        return time.monotonic() - self._since >= patience.burst_s

    def _next(self) -> None:
        loop = self._loop
        if loop is None or not self._waiting:
            self._loop = self._since = None
            return
        self._end_s = time.monotonic() + TURN_S
        loop.call_soon(self._next, context=self._context)
        # At least one, or nobody would ever be.
        while True:
            self._next_of(loop).has_turn()
            if not self._waiting or time.monotonic() >= self._end_s:
                return

    def _next_of(self, loop: asyncio.AbstractEventLoop) -> Waiting:
        """Who came first. In a flood everybody would have waited for too long, first come, first served: then whoever came last
        is in time, and after some of those one who came first is sent away. To send away all whose time is up before anybody is
        served would leave no time to serve: it costs nearly as much."""
        first = self._waiting[0]
        if not self.are_overdue(inf, first.patience):
            return self._waiting.popleft()
        self._served = (self._served + 1) % SHED_EACH
        if not self._served and self.are_overdue(loop.time() - first.queued_at, first.patience):
            return self._waiting.popleft()
        return self._waiting.pop()

    def may_be_probed(self, now: float) -> bool:
        """Whether a probe is before others now: whoever looks after us must not wait behind a flood, nor be one."""
        if now < self._probe_at:
            return False
        self._probe_at = now + 1 / PROBES_EACH_S
        return True

    def pace(self, now: float) -> float:
        """One more request that came together with its next. Returns when that is due."""
        each = 1 / PIPELINED_EACH_S
        self._paced_until = max(now - BURST * each, self._paced_until) + each
        return self._paced_until

    def unpace(self) -> None:
        """Whoever was to wait for theirs has gone: others need not wait for it."""
        self._paced_until -= 1 / PIPELINED_EACH_S

    def piece(self, now: float) -> float:
        """One more small piece of a request was read. Returns when the next of that connection is."""
        self._pieces_until = min(max(now, self._pieces_until) + 1 / PIECES_EACH_S, now + PIECE_WAIT_S)
        return self._pieces_until

    def throw_away(self, now: float, count: int) -> float:
        """So many bytes were read to be thrown away. Returns when whoever sent them may be read again."""
        self._passed_until = max(now, self._passed_until) + PASS_S + count / PASSED_EACH_S
        return self._passed_until
