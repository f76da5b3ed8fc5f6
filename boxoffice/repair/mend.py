"""Booking by booking: what one store has decided and the other has not heard of, long after it should have.

The workers do all this as they go; mend finds what a lost record, a lost member or a restored server left behind.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from boxoffice.bookings.held_rows import HeldRows
from boxoffice.bookings.records import readable
from boxoffice.books import bookings, queries
from boxoffice.errors import CannotRun, GateClosed, NotFound
from boxoffice.repair.rebuild import Rebuilder
from boxoffice.repair.reconcile import Reconciler
from boxoffice.settings import Settings
from boxoffice.states import HOLDS_STOCK
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.gate import look
from boxoffice.stores.record import Record
from boxoffice.stores.shard import Shard

__all__ = ["Mended", "Mender"]

LIMIT: Final = 2_000
"""Bookings looked at in one pass, oldest first."""

STRAY_PAGES: Final = 20
"""Thousands of keys looked through for strays in one pass. With two keys a booking and a pass every two leases, a
million bookings take an hour, and a few thousand one pass."""


class Mended(NamedTuple):
    """What one pass did."""

    settled: int
    restored: int
    expired: int
    gathered: int
    corrected: int = 0
    """Events of which Redis had called a booking something else than PostgreSQL."""


class Mender:
    """Mends one shard."""

    def __init__(
        self,
        here: Shard,
        database: Database,
        reconciler: Reconciler,
        rebuilder: Rebuilder,
        rows: HeldRows,
        settings: Settings,
    ) -> None:
        self.shard = here.number
        self._here = here
        self._redis = here.redis
        self._database = database
        self.reconciler = reconciler
        self._rebuilder = rebuilder
        self._rows = rows
        self.age_ms = 2 * settings.worker.lease_ms
        self._finals = reconciler.finals
        self._uncounted: set[str] = set()
        """Events of which a record was corrected, until their stock was counted anew: a pass may end in between."""

    async def mend(self) -> Mended:
        """One pass. While the gate is shut nothing is done: a repair is on its way. Raises `WentBack`; and what the first
        event that could not be counted raised, after all others were."""
        if (await look(self._here)).word != "open":
            return Mended(0, 0, 0, 0, 0)
        seen: list[str] = []
        gathered = await self.reconciler.strays.gather_some(STRAY_PAGES, seen)
        seconds, _ = await self._redis.time()
        before_ms = 1_000 * int(seconds) - self.age_ms
        async with self._database.writer() as connection:
            await fence.check(connection, self._here)
            events = set(await self._unheard(connection, before_ms))
            await self._finals.correct(connection, seen[:LIMIT], events=self._uncounted)
            restored, expired = 0, 0
            async for records in queries.undecided(connection, self.shard, self.age_ms):
                overdue = {record.id for record in records if record.state == "H" and record.deadline_ms < before_ms}
                restored += await self._rebuilder.restore(
                    [(0, record) for record in records if record.id not in overdue]
                )
                expired += await self._expire(connection, sorted(overdue))
                await self._tell([record for record in records if record.id not in overdue])
        corrected = len(self._uncounted)
        events |= self._uncounted
        if events:
            gathered += await self.reconciler.strays.gather()
        settled = await self._recount(events)
        return Mended(settled, restored, expired, gathered, corrected)

    async def _recount(self, events: set[str]) -> int:
        """Bookings of these that are settled now. One that cannot be counted keeps no other from it."""
        settled = 0
        first: Exception | None = None
        for event in sorted(events):
            try:
                report = await self.reconciler.event(event, fix=True, owned=event in self._uncounted, strays=False)
                settled += report.settled
            except NotFound as error:
                first = first or error
            except (CannotRun, GateClosed) as error:
                first = first or error
                continue
            self._uncounted.discard(event)
        if first is not None:
            raise first
        return settled

    async def _tell(self, records: list[Record]) -> None:
        """Write holds whose items or deadline Redis has changed since, and their API died, or PostgreSQL was away."""
        holds = [record for record in records if record.state == "H"]
        raws = await self._redis.mget([keys.booking(self.shard, hold.id) for hold in holds]) if holds else []
        for hold, raw in zip(holds, raws, strict=True):
            now = readable(hold.id, raw) if raw else hold
            if now is None:
                continue
            if now.state in HOLDS_STOCK and (now.body.lines, now.deadline_ms) != (hold.body.lines, hold.deadline_ms):
                await self._rows.write(hold.id)

    async def _unheard(self, connection: Connection, before_ms: int) -> list[str]:
        """Events of bookings that wait, or are held, in Redis although PostgreSQL decided them long ago."""
        waiting: list[bytes] = []
        for name in (keys.pending(self.shard), keys.dead(self.shard), keys.deadlines(self.shard)):
            waiting += await self._redis.zrange(name, 0, LIMIT - 1)
        old = [booking for booking in map(bytes.decode, waiting) if admitted_ms(booking) < before_ms]
        return await queries.events_of_final(connection, old) if old else []

    async def _expire(self, connection: Connection, overdue: list[str]) -> int:
        """Tell PostgreSQL of holds that ended in Redis. One that is still held there is the sweeper's."""
        if not overdue:
            return 0
        ended: list[str] = []
        cancelled: list[str] = []
        raws = await self._redis.mget([keys.booking(self.shard, booking) for booking in overdue])
        for booking, raw in zip(overdue, raws, strict=True):
            record = readable(booking, raw) if raw else None
            if raw and record is None:
                continue
            state = record.state if record else "E"
            if state in "EX":
                (cancelled if state == "X" else ended).append(booking)
        expired = await bookings.end_holds(connection, ended, "expired")
        return expired + await bookings.end_holds(connection, cancelled, "cancelled")


def admitted_ms(booking: str) -> int:
    """When the booking's id was made, by the clock of the host that made it. Close enough for something this old."""
    return int(booking[:8] + booking[9:13], 16)
