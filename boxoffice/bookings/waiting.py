"""Requests that wait until a booking is pending no more: no task, no connection, one small object each.

Whoever waits listens for news of the booking first and looks at its record afterwards, so that none is missed; looks of one
turn of the loop are one call. News of an ending is believed in so far that the wait is over: the answer is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from itertools import islice
from typing import Final

from boxoffice.bookings.reading import Bookings
from boxoffice.bookings.records import readable
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import StoreAway
from boxoffice.stores.news import News
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import WAITING

__all__ = ["Wait", "Waiting"]

ENDS: Final = frozenset("CFEXH")
"""Letters of the states in which nobody decides about the booking any more, or not yet again."""

LOOKED_AT: Final = 200
"""Records in one look."""

AGAIN_S: Final = 1.0
"""Seconds after which who could not look does again, and by chance up to as many more. Nobody else may call: the subscription
has a connection of its own, and a gate that opens is no news."""


class Wait:
    """Somebody who waits. `set` is what a connection calls when its client has gone."""

    __slots__ = ("_waiting", "booking", "done", "timer", "until_bank")

    def __init__(self, waiting: Waiting, booking: str, done: Callable[[], None], *, until_bank: bool) -> None:
        self._waiting = waiting
        self.booking = booking
        self.done = done
        self.until_bank = until_bank
        """Whether a customer who has to go to the bank ends it, too."""
        self.timer: asyncio.TimerHandle | None = None

    def heard(self, state: str) -> None:
        """As a `Listener`."""
        if state in ENDS:
            self.end()
        else:
            self._waiting.look_at(self)

    def set(self) -> None:
        """Forget it: `done` is not called."""
        self._waiting.forget(self)

    def end(self) -> None:
        """It has waited long enough."""
        if self._waiting.forget(self):
            self.done()


class Waiting:
    """Of one process: at most so many at once."""

    def __init__(self, news: News, bookings: Bookings, most: int, clock: Clock = CLOCK) -> None:
        self._news = news
        self._bookings = bookings
        self._most = most
        self._clock = clock
        self._waits: set[Wait] = set()
        self._to_look: dict[Wait, None] = {}
        self._unseen: dict[Wait, None] = {}
        """Those who could not look."""
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._waits)

    def begin(
        self, booking: str, seconds: float, done: Callable[[], None], *, until_bank: bool = False
    ) -> Wait | None:  # fmt: skip
        """Call `done` once the booking (its canonical id) is pending no more, as far as anybody here knows, or so many seconds
        have passed. None, and no call: too many wait, or the process is told to stop."""
        if len(self._waits) >= self._most or self._stopping or seconds <= 0:
            return None
        wait = Wait(self, booking, done, until_bank=until_bank)
        self._waits.add(wait)
        WAITING.set(len(self._waits))
        wait.timer = asyncio.get_running_loop().call_later(seconds, wait.end, context=Context())
        if self._news.listen(booking, wait):
            self.look_at(wait)
        return wait

    async def until_final(self, booking: str, seconds: float, *, until_bank: bool = False) -> bool:
        """The same for who has a task. False: it was not waited for. Cancelled, it is forgotten."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wait = self.begin(
            booking, seconds, lambda: None if over.done() else over.set_result(None), until_bank=until_bank
        )
        if wait is None:
            return False
        try:
            await over
        finally:
            wait.set()
        return True

    def forget(self, wait: Wait) -> bool:
        """Whether it was still waiting."""
        if wait not in self._waits:
            return False
        self._waits.discard(wait)
        WAITING.set(len(self._waits))
        self._to_look.pop(wait, None)
        self._unseen.pop(wait, None)
        if wait.timer is not None:
            wait.timer.cancel()
        self._news.forget(wait.booking, wait)
        return True

    def stop(self) -> None:
        """The process is told to stop: all have waited long enough, and nobody begins to."""
        self._stopping = True
        for wait in tuple(self._waits):
            wait.end()

    def look_at(self, wait: Wait) -> None:
        """Read its record, with those of all who ask for it now."""
        self._to_look[wait] = None
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), context=Context())

    async def _look(self) -> None:
        try:
            while self._to_look:
                await asyncio.sleep(0)
                some = list(islice(self._to_look, LOOKED_AT))
                for wait in some:
                    del self._to_look[wait]
                await self._look_at_these(some)
        finally:
            self._looking = None

    async def _look_at_these(self, waits: Iterable[Wait]) -> None:
        try:
            seen = await self._bookings.read_records(list({wait.booking for wait in waits}))
            for wait in waits:
                found = seen[wait.booking]
                if found.shut:
                    self._look_later(wait)
                elif _is_over(wait, found.raw):
                    wait.end()
        except StoreAway:
            self._look_later(*waits)
        except Exception as error:
            seldom.exception("waits.look_failed", error)
            self._look_later(*waits)

    def _look_later(self, *waits: Wait) -> None:
        if not self._unseen:
            pause_s = AGAIN_S * (1 + self._clock.chance())
            asyncio.get_running_loop().call_later(pause_s, self._look_anew, context=Context())
        self._unseen.update(dict.fromkeys(wait for wait in waits if wait in self._waits))

    def _look_anew(self) -> None:
        unseen, self._unseen = self._unseen, {}
        for wait in unseen:
            self.look_at(wait)


def _is_over(wait: Wait, raw: bytes | None) -> bool:
    """A record that is gone is one of a booking that ended long ago."""
    if raw is None or raw[:1] != b"P":
        return True
    if not wait.until_bank or b"requires_action" not in raw:
        return False
    record = readable(wait.booking, raw)
    return record is None or record.at_bank
