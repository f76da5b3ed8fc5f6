"""Calling an event off: one transaction that stops all sales of it, and a worker that gives everything back, in bounded steps.

What is to be done stands in PostgreSQL (`call_offs`), and every step may be done again: whoever dies, the next worker goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any, Final

import structlog

from boxoffice.bookings.holds import Holds
from boxoffice.books import call_offs
from boxoffice.books.moves import apply_moves
from boxoffice.clock import iso
from boxoffice.errors import GateClosed, NotFound
from boxoffice.sales.control import Actor, Control
from boxoffice.sales.loading import Loader
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.gate import look
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shard, Shards

__all__ = ["CallingOff"]

log = structlog.get_logger()

CHUNK: Final = 500
"""Records read at once."""

AT_ONCE: Final = 16
"""Holds ended at the same time: half of the connections that a process has to Redis, unless it is set otherwise."""

STEPS: Final = 10
"""Chunks of one round. A worker looks whether it is to stop between two."""

TRIES: Final = 5
"""Of one transaction, when PostgreSQL itself says that the next may succeed."""


class CallingOff:
    """Calls events off, and tells how far that has got."""

    def __init__(
        self, shards: Shards, database: Database, control: Control, loader: Loader, holds: Holds
    ) -> None:  # fmt: skip
        self._shards = shards
        self._database = database
        self._control = control
        self._loader = loader
        self._holds = holds

    async def call_off(
        self, event_id: str, reason: str, by: Actor | None = None, *, if_version: int | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Call an event off, for good. From the return on nothing of it is let in or confirmed; workers end its holds, let go
        of what is pending and refund everybody. Of one that was called off before, how far that is.

        Raises `NotFound`, `Malformed`, `EventChanged`, and `StoreAway`: then it may be done, and may be asked for once more.
        """
        await self._control.call_off(event_id, reason, by or Actor.operator(), if_version, call_offs.begin)
        return await self.report(event_id, by)

    async def report(self, event_id: str, by: Actor | None = None) -> dict[str, Any]:
        """How far it is: bookings and refunds by status, and what the gateway refused of the bookings of whoever asks, of all
        to an operator. Raises `NotFound`, `StoreAway`."""
        async with self._database.answering():
            found = await call_offs.read(self._database, event_id, by.client if by else None)
        if found is None:
            raise NotFound("The event is not called off.")
        return {
            "event_id": event_id,
            "status": "running" if found.finished_at is None else "finished",
            "reason": found.reason,
            "called_off_by": found.called_off_by,
            "started_at": iso(found.started_at),
            "finished_at": None if found.finished_at is None else iso(found.finished_at),
            "bookings": json.loads(found.bookings or "{}"),
            "refunds": json.loads(found.refunds or "{}"),
            "refused": found.refused,
        }

    # ------------------------------------------------------------------ the worker's part

    async def work(self, shard: int, steps: int = STEPS) -> int:
        """Some steps of each event of the shard that is being called off, until nothing is left to be done now. Returns how
        many bookings were ended or refunded; 0 while the gate is shut.

        Raises `StoreAway`, and the stores' errors.
        """
        done = 0
        with contextlib.suppress(GateClosed):
            for _ in range(steps):
                some, failed = 0, list[Exception]()
                for event_id in await call_offs.unfinished(self._database, shard):
                    try:
                        some += await self._step(self._shards[shard], event_id)
                    except GateClosed:
                        raise
                    except Exception as error:  # what is wrong with one event keeps no other waiting
                        failed.append(error)
                if failed:
                    raise failed[0]
                if not some:
                    break
                done += some
        return done

    async def _step(self, here: Shard, event_id: str) -> int:
        # First: as long as Redis says that it is on sale, holds come in as they are ended.
        await self._loader.publish(event_id)
        undecided = await self._end_holds(here, event_id)
        # Redis could be told of no move: chunk after chunk would leave more open than a repair takes, which opens the gate.
        if (await look(here)).word != "open":
            raise GateClosed
        refunded = await call_offs.give_back(self._database, here, event_id, tries=TRIES)
        if refunded:
            log.info("call_off.refunded", event_id=event_id, bookings=refunded)
            # Chunk by chunk, and all of it: a repair has to know every move that is open, and takes no more than some at once.
            while await apply_moves(here, self._database):
                pass
        elif not undecided and await call_offs.finish(self._database, event_id):
            log.info("call_off.finished", event_id=event_id)
        return undecided + refunded

    async def _end_holds(self, here: Shard, event_id: str) -> int:
        """Give back what is held; have workers let go of what is pending. Returns how many there were, parked ones among them:
        those wait for an operator, and fail when he lets them go on."""
        met = 0
        for name in (keys.deadlines, keys.pending, keys.dead):
            bookings = [each.decode() for each in await here.redis.zrange(name(here.number), 0, -1)]
            for start in range(0, len(bookings), CHUNK):
                records = await self._records(here, bookings[start : start + CHUNK], event_id)
                met += len(records)
                await self._let_go(record for record in records if record.state == "H" or not record.cancel_requested)
        return met

    async def _let_go(self, records: Iterable[Record]) -> None:
        """End holds, have payments let go of: so many at the same time. Raises the first error once all were asked for."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(record: Record) -> None:
            async with limit:
                with contextlib.suppress(NotFound):  # it ended meanwhile, and its record with it
                    await self._holds.cancel(record)

        for error in await asyncio.gather(*map(one, records), return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    async def _records(self, here: Shard, bookings: list[str], event_id: str) -> list[Record]:
        """Those of them that are of the event, and not decided."""
        raws = await here.redis.mget([keys.booking(here.number, booking) for booking in bookings])
        found = []
        for booking, raw in zip(bookings, raws, strict=True):
            try:
                record = unpack(booking, raw or b"")
            except ValueError:  # parked, and for an operator
                continue
            if record.event == event_id and record.state in "HP":
                found.append(record)
        return found
