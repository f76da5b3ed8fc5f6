"""Claims on one shard's bookings: leased to this worker, kept while it waits, and given back when they cannot be settled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from boxoffice.books.dead_letters import count_failure
from boxoffice.books.decisions import Claimed, Terms
from boxoffice.clock import Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch
from boxoffice.settlement.mirror import Mirror
from boxoffice.settlement.outage import Outage
from boxoffice.settlement.spans import traces_of
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.fence import read
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.record import payment_key_of, unpack
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import LAPSES, PARKED
from boxoffice.telemetry.traces import TRACES

__all__ = ["Claims"]

log = structlog.get_logger()

_lapses: Final = LAPSES.cell()

LAPSES_MAX: Final = 14
"""A booking whose lease lapsed so often, the last times alone, kills its workers. It is parked untouched."""


class Claims:
    """What one worker leases of a shard."""

    def __init__(
        self, here: Shard, database: Database, mirror: Mirror, outage: Outage, settings: Settings, clock: Clock
    ) -> None:
        self.here = here
        self.database = database
        self.mirror = mirror
        self.outage = outage
        self.settings = settings
        self.closed_until = 0.0
        """Nothing is claimed before, in seconds of the clock."""
        self._shard = here.number
        self._clock = clock

    def close(self, pause_s: float) -> None:
        """Claim nothing for so long."""
        self.closed_until = self._clock.now_s() + pause_s

    async def claim(self) -> Batch:
        """The next bookings that are due; an empty batch when none is, or none may be claimed."""
        worker, leased_s = self.settings.worker, self._clock.now_s()
        try:
            reply = await self.here.run("claim", limit=worker.batch_max, lease_ms=worker.lease_ms, ring_on=1)
        except GateClosed:
            return Batch([], Terms(0, 0))  # a repair is on its way, and rings when it opens
        if not reply:
            return Batch([], Terms(0, 0))
        crashpoint("claimed")
        terms = Terms(int(reply[0]), int(self.settings.gateway.deadline_s * 1_000))
        batch = Batch([], terms, read(reply[2]), claimed_s=self._clock.now_s(), leased_s=leased_s)
        unfit = []
        for index in range(3, len(reply), 3):
            booking, lapses, raw = reply[index].decode(), int(reply[index + 1]), reply[index + 2]
            if lapses:
                _lapses.add()
            try:
                record = unpack(booking, raw)
            except ValueError as error:
                unfit.append((booking, raw, payment_key_of(raw), f"unreadable record: {type(error).__name__}"))
                continue
            if lapses >= LAPSES_MAX and not self.outage.within(LAPSES_MAX * worker.lease_ms / 1_000):
                unfit.append((booking, raw, record.payment_key, "its lease lapsed again and again"))
            else:
                batch.claims.append(Claimed(record, raw, lapses))
        if TRACES.on:
            batch.traces = traces_of(batch.claims)
        try:
            for booking, raw, payment_key, what in unfit:
                await self.park(booking, raw, payment_key, what)
        except TRANSIENT as error:
            await self.give_back(batch, batch.claims, error)
            return Batch([], Terms(0, 0))
        return batch

    async def park(self, booking: str, raw: bytes, payment_key: str, error: str) -> None:
        """Out of the way, its stock kept, until an operator decides."""
        async with self.database.writer() as connection:
            await count_failure(connection, booking, raw, error, attempts_max=0)
        await self.mirror.park(booking, payment_key)
        PARKED.cell().add()
        log.error("booking.parked", booking_id=booking, error=error)

    async def extend(self, claims: Iterable[Claimed]) -> None:
        """Leases of this worker now end later; nobody else's are touched by it for long (they are renewed too)."""
        seconds, micros = await self.here.redis.time()
        until = seconds * 1_000 + micros // 1_000 + self.settings.worker.lease_ms + 1 / 16
        due = {claim.record.id: until for claim in claims}
        await self.here.redis.zadd(keys.pending(self._shard), due, xx=True, gt=True)

    async def give_back(self, batch: Batch, claims: list[Claimed], error: BaseException) -> None:
        """Stop claiming for a moment, and let go of what nobody has settled. That is no lapse of its lease."""
        pause_s = self.outage.begin(error)
        self.close(pause_s)
        await self.release(batch, [claim for claim in claims if claim.record.id not in batch.done], pause_s)

    async def release(self, batch: Batch, claims: Iterable[Claimed], delay_s: float) -> None:
        """Let others claim these after a while. Their records keep their cards."""
        released = [batch.released(claim, int(1_000 * delay_s * (1 + self._clock.chance()))) for claim in claims]
        try:
            await self.mirror.tell(released, batch.done)
        except GateClosed:
            seldom.warning("leases.kept", shard=self._shard, bookings=len(released))  # they lapse
