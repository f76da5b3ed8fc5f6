"""Final records in Redis that differ from PostgreSQL: what an older Redis tells, or ended before it was checked.

PostgreSQL decides; a record that says otherwise is corrected, and its event's stock counted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from boxoffice.books import queries
from boxoffice.settings import Settings
from boxoffice.states import FINAL, LETTERS
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection
from boxoffice.stores.record import items_of, unpack
from boxoffice.stores.shard import Shard

__all__ = ["Finals"]

log = structlog.get_logger()

CHUNK: Final = 1_000
"""Records compared at once: half a megabyte."""

_FINAL: Final = frozenset(letter.encode() for letter in FINAL)


class Finals:
    """Corrects one shard's final records."""

    def __init__(self, here: Shard, settings: Settings) -> None:
        self.shard = here.number
        self._redis = here.redis
        self._here = here
        self._ttl_s = settings.worker.settled_ttl_s

    async def correct(
        self, connection: Connection, booking_ids: Sequence[str], *, say: bool = True, events: set[str] | None = None
    ) -> set[str]:
        """Correct those of the bookings that are over in Redis and ended otherwise in PostgreSQL, or were sold with other
        items, with a line in the log unless it is not to be `said`. Returns their events, whose stock is to be reconciled.
        They are added to `events` before a record is written, and stand there whatever fails afterwards."""
        events = set() if events is None else events
        for start in range(0, len(booking_ids), CHUNK):
            await self._correct(connection, booking_ids[start : start + CHUNK], say, events)
        return events

    async def _correct(self, connection: Connection, booking_ids: Sequence[str], say: bool, events: set[str]) -> None:
        # Redis first: what PostgreSQL says afterwards is at least as new as what Redis was told.
        raws = await self._redis.mget([keys.booking(self.shard, booking) for booking in booking_ids])
        over = {booking: raw for booking, raw in zip(booking_ids, raws, strict=True) if raw and raw[:1] in _FINAL}
        ends = await queries.final_ends(connection, list(over)) if over else {}
        wrong = [
            booking
            for booking, (status, items) in ends.items()
            if LETTERS[status].encode() != over[booking][:1] or (items and items != items_of(over[booking]))
        ]
        if not wrong:
            return
        endings = await queries.final_endings(connection, wrong)
        pair = await fence.last_batch(connection, self.shard)
        names: list[str] = []
        changes: list[bytes] = []
        for booking, ending in endings.items():
            try:
                record = unpack(booking, over[booking])
            except ValueError:
                continue
            names += [keys.booking(self.shard, booking), keys.idempotency(self.shard, record.scope)]
            changes.append(f"{record.state}|{ending.state}|".encode() + ending.end)
            events.add(record.event)
        corrected = await self._here.run(
            "correct", keys=names, ttl_s=self._ttl_s, pair=str(pair or ""), changes=changes
        )
        if say:
            log.warning("records.corrected", shard=self.shard, bookings=int(corrected))
