"""Settling bookings: claim a batch, authorise its payments, commit it in one transaction, tell Redis.

PostgreSQL decides what became of a booking; Redis mirrors it. Every step may be repeated by anyone: a claim is a lease,
the gateway answers the same key the same way, the transaction looks again under its lock, and settle.lua moves a booking
only from P. So a worker may die anywhere, and the next one finishes its work.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from operator import attrgetter
from typing import Final

from boxoffice.bookings.holds import Holds
from boxoffice.books.decisions import Claimed
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import PaymentGateway
from boxoffice.money.pump import MoneyPump
from boxoffice.settings import Settings
from boxoffice.settlement.authorising import Authorising
from boxoffice.settlement.batch import Batch
from boxoffice.settlement.claims import Claims
from boxoffice.settlement.committing import Committing
from boxoffice.settlement.counting import count_batch
from boxoffice.settlement.declines import Declines
from boxoffice.settlement.mirror import Mirror
from boxoffice.settlement.outage import REFUSED, Outage
from boxoffice.settlement.slow import SlowAnswers
from boxoffice.stores.database import Database
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.seldom import seldom

__all__ = ["Settlement"]

LOOK_S: Final = 0.05
"""While nothing is due and batches are under way, how long until it is looked again."""

_lapses: Final = attrgetter("lapses")


class Settlement:
    """Settles the bookings of one shard. Several may do so at once, in one process or in many."""

    def __init__(
        self,
        here: Shard,
        database: Database,
        gateway: PaymentGateway,
        pump: MoneyPump,
        holds: Holds,
        settings: Settings,
        clock: Clock = CLOCK,
    ) -> None:
        shard, lease_ms = here.number, settings.worker.lease_ms
        self.shard = shard
        self.settings = settings
        self.draining = False
        self.again = False
        """Somebody rang while it was draining, or there is more than it could do."""
        self.stopping = False
        self.mirror = Mirror(here, holds, settings)
        self.outage = Outage(shard, database, gateway.books, lease_ms, clock)
        self.declines = Declines(here, settings, clock)
        self.claims = Claims(here, database, self.mirror, self.outage, settings, clock)
        self.committing = Committing(
            shard, database, gateway, self.claims, self.mirror, pump, self.outage, self.declines, settings, clock
        )
        self.slow = SlowAnswers(shard, self.claims, self.committing, lease_ms, clock)
        self.authorising = Authorising(
            database, gateway, self.claims, self.slow, self.outage, self.declines, settings.gateway.concurrency
        )
        self._clock = clock

    async def drain(self) -> bool:
        """Settle until nothing is due. False when there was more than `worker.drain_s` allows: ring again."""
        self.again = True
        if self.draining or self.stopping or self._clock.now_s() < self.claims.closed_until:
            return True
        self.draining = True
        try:
            if pause_s := await self.outage.over():
                self.claims.close(pause_s)
                return True
            end = self._clock.now_s() + self.settings.worker.drain_s
            while self.again and not self.stopping and self.claims.closed_until <= self._clock.now_s() < end:
                self.again = False
                await self.batches(end)
            return not self.again
        finally:
            self.draining = False

    async def stop(self) -> None:
        """Finish the batches at hand; give back what waits for a slow card."""
        self.stopping = True
        while self.draining:  # noqa: ASYNC110 - a batch ends within a moment
            await asyncio.sleep(0.005)
        await self.slow.stop()

    async def batches(self, end: float) -> None:
        """Claim and settle until nothing is due. A batch is settled while later ones are claimed: what it waits for, a disk
        or another process, leaves the machine to them."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while not self.stopping and self.claims.closed_until <= self._clock.now_s() < end:
                if self.slow.too_many:
                    await self.slow.until_one_ends()
                    continue
                claimed_at = self._clock.now_s()
                batch = await self.claims.claim()
                claims = batch.claims
                if not claims and not under_way:
                    return
                lapsed = any(map(_lapses, claims))
                if lapsed and under_way:
                    await asyncio.wait(under_way)
                if claims:
                    under_way.add(asyncio.create_task(self.settle(batch)))
                if lapsed:
                    # It may be what killed its workers. Whoever is settled beside it would lapse with it, and be parked.
                    await asyncio.wait(under_way)
                elif claims and len(claims) < self.settings.worker.batch_max:
                    await self.linger(claimed_at)
                if len(under_way) >= self.settings.worker.batches_at_once:
                    await asyncio.wait(under_way, return_when=FIRST_COMPLETED)
                elif not claims:
                    # A batch that hangs, on a row's lock or a dead disk, is no reason to leave others waiting.
                    await asyncio.wait(under_way, timeout=LOOK_S, return_when=FIRST_COMPLETED)
                for ended in [task for task in under_way if task.done()]:
                    under_way.discard(ended)
                    ended.result()
            self.again = True
        finally:
            for error in await asyncio.gather(*under_way, return_exceptions=True):
                if isinstance(error, Exception):
                    # Nothing is lost: their leases lapse.
                    seldom.exception("batch.failed", error, shard=self.shard)

    async def linger(self, claimed_at: float) -> None:
        """Wait for company, until so long after a claim."""
        rest_s = self.settings.worker.linger_ms / 1_000 - (self._clock.now_s() - claimed_at)
        if rest_s > 0 and not self.stopping:
            await self._clock.sleep(rest_s)

    async def settle(self, batch: Batch) -> None:
        """Everything between a claim and the next. Whatever fails, leases are given back or lapse."""
        failed: list[tuple[Claimed, Exception]] = []
        since = self._clock.now_s()
        try:
            ready = await self.authorising.apart(batch, batch.claims, failed, since)
            await self.committing.settle(batch, ready)
            for claim, error in failed:
                await self.committing.fail_alone(batch, claim, error, asking=True, since=since)
        except (GateClosed, *REFUSED) as error:
            await self.claims.give_back(batch, batch.claims, error)
        finally:
            if REGISTRY.counts:
                count_batch(batch, self._clock.now_s())
            if batch.traces is not None:
                batch.traces.ended(self.shard, len(batch.claims), self._clock.now_s() - since)
