"""Wakes whoever waits for notices: one look for all of a process, ten times a second, while somebody waits, and none else.

Places are given in one order, so a look needs to see only what got its place since the last one. Who comes to wait says how
far it has read: what was looked at beyond that is looked at once more. A wake that turns out to be for nothing is harmless,
one too few would not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from typing import Final, NamedTuple

from boxoffice.clock import CLOCK, Clock
from boxoffice.stores.database import Database, Row
from boxoffice.telemetry.seldom import seldom

__all__ = ["EVERY_S", "Watch"]

EVERY_S: Final = 0.1
"""Between two looks: as long as a notice that is there may be kept from who waits for it, with as long as the look takes."""

_NEW: Final = """
SELECT client_id, type, max(position) AS position FROM notices WHERE position > $1 GROUP BY client_id, type
UNION ALL SELECT NULL, NULL, NULL WHERE EXISTS (SELECT FROM notices WHERE position IS NULL)
"""
"""What was told behind a place, by shop and type; and one row of nothing when there are notices without a place."""

_END: Final = 2**62


class _Waiter(NamedTuple):
    woken: asyncio.Future[bool]
    types: frozenset[str]
    """Empty for any."""


class Watch:
    """Of one process."""

    def __init__(self, database: Database, number: Callable[[], Awaitable[object]], clock: Clock = CLOCK) -> None:
        """`number` gives places to what has none."""
        self._database = database
        self._number = number
        self._clock = clock
        self._waiters: dict[str, dict[int, _Waiter]] = {}
        """By client, and by a number of their own."""
        self._last = 0
        self._from = _END
        """Behind which the next look begins; the end: nobody has said."""
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self.looks = 0
        """Queries made so far."""

    @property
    def waiting(self) -> int:
        """Who waits now."""
        return sum(map(len, self._waiters.values()))

    async def news(self, client: str, position: int, types: Collection[str], most_s: float) -> bool:
        """Whether something of these types (none given: of any) was told to the shop behind the place, or may have been;
        waits for it so many seconds at most, and no longer than until `end`."""
        if self._ended:
            return False
        loop = asyncio.get_running_loop()
        self._last += 1
        name, waiter = self._last, _Waiter(loop.create_future(), frozenset(types))
        self._waiters.setdefault(client, {})[name] = waiter
        self._from = min(self._from, position)
        if self._task is None:
            # In nobody's name: it looks for all.
            self._task = loop.create_task(self._look_on(), context=Context())
        timer = loop.call_later(most_s, _wake, waiter, False, context=Context())
        try:
            return await waiter.woken
        finally:
            timer.cancel()
            of_client = self._waiters[client]
            del of_client[name]
            if not of_client:
                del self._waiters[client]

    def end(self) -> None:
        """The process stops: whoever waits has waited long enough, and nobody waits any more."""
        self._ended = True
        for of_client in self._waiters.values():
            for waiter in of_client.values():
                _wake(waiter, False)

    async def _look_on(self) -> None:
        try:
            while self._waiters:
                try:
                    await self._look()
                except Exception as error:
                    seldom.exception("notices.look_failed", error)
                await self._clock.sleep(EVERY_S)
        finally:
            self._task, self._from = None, _END

    async def _look(self) -> None:
        began, self._from = self._from, _END
        last = began
        try:
            rows = await self._rows(began)
            if any(row["client_id"] is None for row in rows):
                await self._number()
                rows = await self._rows(began)
            for row in rows:
                if row["client_id"] is not None:
                    last = max(last, row["position"])
                    self._wake_those(row["client_id"], row["type"])
        finally:
            # Who came meanwhile may have read less.
            self._from = min(self._from, last)

    async def _rows(self, position: int) -> list[Row]:
        self.looks += 1
        return await self._database.fetch(_NEW, position)

    def _wake_those(self, client: str, kind: str) -> None:
        for waiter in self._waiters.get(client, {}).values():
            if not waiter.types or kind in waiter.types:
                _wake(waiter, True)


def _wake(waiter: _Waiter, there_is: bool) -> None:
    if not waiter.woken.done():
        waiter.woken.set_result(there_is)
