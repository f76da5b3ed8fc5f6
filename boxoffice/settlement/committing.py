"""Committing a batch: one transaction that decides and writes, tried again or halved, and what becomes of whoever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, NamedTuple

import structlog
from msgspec.structs import replace

from boxoffice.books import rows, traces
from boxoffice.books.dead_letters import count_failure
from boxoffice.books.decisions import Claimed, Decision, Verdict
from boxoffice.clock import Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.gateway.base import CaptureRequest, PaymentGateway
from boxoffice.money.pump import MoneyPump
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch, Ready, halves, parked
from boxoffice.settlement.claims import Claims
from boxoffice.settlement.counting import count_commit
from boxoffice.settlement.deciding import decide, sold_by
from boxoffice.settlement.declines import Declines
from boxoffice.settlement.mirror import Mirror
from boxoffice.settlement.outage import Outage, StoreRefuses
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.fence import Pair, open_batch
from boxoffice.stores.postgres import AWAY, TRANSIENT, SerializationError, sqlstate
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import PARKED

__all__ = ["Committing"]

log = structlog.get_logger()

ALONE_MAX_S: Final = 60.0
"""Longest pause between two tries of a booking that fails alone and cannot be shown to be at fault."""

ROUNDS: Final = 5
"""Tries of one transaction when PostgreSQL itself says that the next may succeed."""

SURE: Final = 0.5
"""So much of a lease nobody else can have a booking; the rest is left for the commit."""

_status: Final = attrgetter("status")


class Committed(NamedTuple):
    """What a transaction has written."""

    decisions: list[Decision]
    listed: int | None
    """The row in `captures` that lists what is to be captured; None when nothing is."""
    pair: Pair


class Committing:
    """Of one shard, in one worker."""

    def __init__(
        self,
        shard: int,
        database: Database,
        gateway: PaymentGateway,
        claims: Claims,
        mirror: Mirror,
        pump: MoneyPump,
        outage: Outage,
        declines: Declines,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.database = database
        self.claims = claims
        self.mirror = mirror
        self.outage = outage
        self.declines = declines
        self.settings = settings
        self.suspects: dict[str, tuple[int, float]] = {}
        """Bookings that failed alone: how often, and since when."""
        self._shard = shard
        self._gateway = gateway
        self._pump = pump
        self._clock = clock
        self._triples: set[rows.Triple] = set()

    async def settle(self, batch: Batch, ready: Ready) -> None:
        """Commit what is decided of these and mirror it. A batch that fails for a reason of its own is halved, down to the
        offender, so that one bad booking never fails its neighbours."""
        claims = ready.claims
        if not claims:
            return
        suspects = [claim for claim in claims if claim.record.id in self.suspects]
        if suspects and len(claims) > 1:
            await self.settle(batch, ready.only([claim for claim in claims if claim.record.id not in self.suspects]))
            for claim in suspects:
                await self.settle(batch, ready.only([claim]))
            return
        try:
            decisions, listed, pair = await self.commit(batch, ready)
        except (*AWAY, StoreRefuses):
            raise
        except Exception as error:
            if isinstance(error, TRANSIENT):
                seldom.warning("settlement.retry", shard=self._shard, error=type(error).__name__, bookings=len(claims))
                await self.claims.release(batch, claims, 0.1)
            elif len(claims) == 1:
                await self.fail_alone(batch, claims[0], error, asking=False, since=self._clock.now_s())
            else:
                for half in halves(claims):
                    await self.settle(batch, ready.only(half))
            return
        if REGISTRY.counts:
            count_commit(batch, decisions, self._clock.now_s())
        crashpoint("committed")
        await self.mirror.tell(decisions, batch.done, pair)
        crashpoint("settled")
        await self.declines.count(decisions)
        if batch.traces is not None:
            batch.traces.committed(decisions, self._clock.now_s() - batch.claimed_s)
        if listed is not None:
            traced = {} if batch.traces is None else batch.traces.by_payment(decisions)
            self._pump.give(listed, _captures(decisions), traced)
        self.outage.settled()
        for claim in claims if self.suspects else ():
            self.suspects.pop(claim.record.id, None)
        _report(self._shard, decisions)

    async def commit(self, batch: Batch, ready: Ready) -> Committed:
        """Decide and write these, with a few tries where PostgreSQL says that the next may succeed."""

        async def work(connection: Connection) -> Committed:
            committed = await self.transact(connection, batch, ready)
            crashpoint("written")
            return committed

        async def between(error: Exception, tried: int) -> None:
            nonlocal ready
            if isinstance(error, traces.TracesLost):
                batch.keeps_traces = False
                return
            if not isinstance(error, rows.Raced):
                await self._clock.sleep(0.005 * 2**tried * (1 + self._clock.chance()))
                return
            async with self.database.writer() as connection:
                known = await rows.known_by_key(connection, [claim.record for claim in ready.claims])
            ready = ready._replace(known=known)

        try:
            return await self.database.transaction(
                work, tries=ROUNDS, races=(rows.Raced, traces.TracesLost), between=between
            )
        except rows.Raced as error:
            raise SerializationError("raced in every round") from error

    async def transact(self, connection: Connection, batch: Batch, ready: Ready) -> Committed:
        """Once, in the transaction of this connection: under the locks of the inventory rows."""
        records = [claim.record for claim in ready.claims]
        triples = {(record.body.client, record.event, line.tier) for record in records for line in record.body.lines}
        left = await rows.lock_inventory(connection, {tier for _, _, tier in triples})
        await rows.vouch(connection, triples, self._triples)
        await rows.recheck(connection, records, ready.known)
        terms = batch.terms
        if self._clock.now_s() >= batch.leased_s + SURE * self.settings.worker.lease_ms / 1_000:
            terms = replace(terms, shared=True)
        decisions = decide(ready.claims, ready.known, ready.outcomes, left, terms)
        listed = await rows.write(
            connection, decisions, self._gateway.books, self.settings.worker.lease_ms, ready.known
        )  # fmt: skip
        await rows.sell(connection, sold_by(decisions))
        if batch.traces is not None and batch.keeps_traces:
            await traces.keep(connection, batch.traces.by_booking(decisions))
        # Also when every booking was found decided: whoever is told hears of a commit that has all of them.
        pair = await open_batch(connection, self._shard, batch.told, settles=True)
        return Committed(decisions, listed, pair)

    async def fail_alone(self, batch: Batch, claim: Claimed, error: Exception, *, asking: bool, since: float) -> None:
        """Only a booking that failed alone, and by its own fault, counts an attempt; after some it is parked. One of which
        that cannot be shown is tried again, later and later. `since`: when it was tried.

        Raises what `blames_the_row` raises.
        """
        booking = claim.record.id
        tries, since = self.suspects.get(booking, (0, since))
        self.suspects[booking] = tries + 1, since
        what = f"{type(error).__name__} {sqlstate(error)}".strip()
        attempts, attempts_max = 0, self.settings.worker.attempts_max
        if await self.outage.blames_the_row(error, asking=asking, since=since):
            async with self.database.writer() as connection:
                attempts = await count_failure(connection, booking, claim.raw, what, attempts_max=attempts_max)
        if attempts >= attempts_max:
            self.suspects.pop(booking)
            decision = parked(claim)
        else:
            delay_s = min(0.1 * 2 ** min(attempts or tries + 1, 10), ALONE_MAX_S)
            decision = batch.released(claim, int(1_000 * delay_s))
        parks = decision.verdict is Verdict.PARK
        log.error("booking.failed_alone", booking_id=booking, error=what, attempts=attempts, parked=parks)
        await self.mirror.tell([decision], batch.done)
        if parks:
            PARKED.cell().add()


def _captures(decisions: Iterable[Decision]) -> list[CaptureRequest]:
    """What these decisions are to capture."""
    requests = []
    for decision in decisions:
        record, payment = decision.claim.record, decision.payment
        if payment is not None and payment.due == "capture":
            amount_cents, currency = record.body.amount_cents, record.body.currency
            requests.append(CaptureRequest(record.payment_key, payment.reference or "", amount_cents, currency))
    return requests


def _report(shard: int, decisions: Iterable[Decision]) -> None:
    log.info("batch.settled", shard=shard, **Counter(map(_status, decisions)))
