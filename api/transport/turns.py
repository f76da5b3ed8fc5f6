"""Whose turn it is: how much of the loop, which serves everybody, connections take that nobody vouches for.

A hundred clients that come at once, or send all they can, may each cost little, and together make everybody wait. So in
one turn of the loop, reading requests takes a bounded time, and whoever comes later has the next turn; requests that were
sent before the answers to those before them, and bytes that are thrown away, have a rate for all connections together.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from contextvars import Context
from typing import Final, Protocol

from api.transport.sent_away import SentAway
from boxoffice.admission.flood import FLOOD, Waits
from boxoffice.settings import ApiSettings
from boxoffice.telemetry.seldom import seldom

__all__ = ["ORDINARY_S", "Turns", "is_probe"]

TURN_S: Final = 0.002
"""Seconds of one turn of the loop in which requests are read. A booking is admitted in about five times that."""

LET_IN_EACH: Final = 16
"""In a flood one of so many is let in, whatever time that takes: to send all others away takes twice as long, and may be all
that there is time for."""

SENT_AWAY_EACH: Final = 256
"""In a flood so many are told so in a turn. All of two thousand take 15 ms, in which no answer of Redis is read: whoever was
let in waited for several such turns. With fewer, less of three times what can be done is answered."""

ORDINARY_S: Final = 0.0005
"""Seconds that a request takes which goes the ordinary way, most of them after it was read."""

BOOKING_S: Final = 0.0001
"""Seconds that a booking takes, all in all."""

PAST_MOST: Final = 8
"""Requests in a turn that are let in beyond its time, in a flood: payments and what a gateway tells, which settle what is in
already. Half of them may be others that change something and are no new booking: a cancellation, say."""

BURST: Final = 16
"""Requests sent before the answers to those before them that are answered at once, of all connections."""

PIPELINED_EACH_S: Final = 200
"""Requests in a second, of all connections, that were sent before the answers to those before them. No client library
does it, and a hundred clients that did nothing else would leave no time for others."""

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


_PAYS: Final = re.compile(rb"/v1/(?:webhooks/|bookings/[^/?]+/payment(?:\?|$))")


def is_new(method: bytes, target: bytes) -> bool:
    """Whether it is a new booking, or a read: nobody who is in already loses anything when it comes again later."""
    return method in _READS or target.partition(b"?")[0] == _BOOKINGS


_READS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))

_BOOKINGS: Final = b"/v1/bookings"


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
        self._sent_away: deque[SentAway] = deque()
        """Whoever is told so at the end of this turn, or of one of the next."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        """Nobody's: whoever has a turn must not have it in the name of the request that was worked for when the turn began."""
        self._end_s = self._paced_until = self._passed_until = self._pieces_until = self._probe_at = 0.0
        self._came = self._let_in = 0.0
        """Requests of this turn, in a flood, and those of them that were let in."""
        self._past = 0
        """Requests that were let in beyond this turn's time."""
        self._waits = Waits()

    def is_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this turn's time for reading is used up. The first who asks begins it."""
        if self._loop is loop:
            return time.monotonic() >= self._end_s and not (FLOOD.is_on and self._let_in * LET_IN_EACH < self._came)
        self._loop = loop
        self._end_s = time.monotonic() + TURN_S
        self._came = self._let_in = self._past = 0
        self._waiting.clear()
        self._sent_away.clear()
        loop.call_soon(self._next, context=self._context)
        return False

    def spend(self, seconds: float) -> None:
        """Something was begun that will take so long."""
        self._end_s -= seconds
        self._let_in += seconds / BOOKING_S

    def lets_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """In a flood: whether this turn has time for whoever has just come."""
        over = self.is_over(loop)
        self.count(sent_away=over)
        return not over

    def count(self, *, sent_away: bool) -> None:
        """One more has come, in a flood."""
        FLOOD.count(sent_away)
        self._came += 1
        if not sent_away:
            self._let_in += 1

    def send_away(self, request: SentAway) -> SentAway:
        """Tell it so at the end of this turn, or when those before it were told. Returns what its connection is busy with until
        then."""
        self._sent_away.append(request)
        return request

    def wait(self, who: Waiting) -> None:
        """Have them called in one of the next turns, before all who come later."""
        self._waiting.append(who)

    def are_overdue(self, waited_s: float, patience: ApiSettings) -> bool:
        """Whether somebody who has waited so long is sent away: they began to before it was known to be a flood."""
        return FLOOD.is_on and 1_000 * waited_s > patience.wait_ms

    def _next(self) -> None:
        loop = self._loop
        if FLOOD.is_on:
            FLOOD.look()
        for _ in range(min(SENT_AWAY_EACH, len(self._sent_away))):
            try:
                self._sent_away.popleft().answer()
            except Exception as error:
                # One that cannot be told asks again; without a next turn nobody would ever be read.
                seldom.exception("request.failed", error)
        if loop is None or not (self._waiting or self._sent_away):
            self._loop = None
            return
        now = time.monotonic()
        self._end_s = now + TURN_S
        self._came = self._let_in = self._past = 0
        loop.call_soon(self._next, context=self._context)
        if not self._waiting:
            return
        first = self._waiting[0]
        self._waits.note(loop.time() - first.queued_at, now, first.patience)
        # At least one, or nobody would ever be.
        while True:
            try:
                self._waiting.popleft().has_turn()
            except Exception as error:
                seldom.exception("request.failed", error)
            if not self._waiting or time.monotonic() >= self._end_s:
                return

    def lets_past(self, method: bytes, target: bytes, now: float) -> bool:
        """In a flood: whether a request for which the turn has no time is let in all the same: some probes, and what is about
        something that is in already. Those that pay come first: they have places that others have not."""
        if is_probe(target):
            return self.may_be_probed(now)
        if is_new(method, target) or self._past >= (PAST_MOST if _PAYS.match(target) else PAST_MOST // 2):
            return False
        self._past += 1
        return True

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
