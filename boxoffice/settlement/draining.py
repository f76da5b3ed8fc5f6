"""Settling bookings: claim a batch, authorise its payments, commit it in one transaction, tell Redis.

PostgreSQL decides what became of a booking; Redis mirrors it. Every step may be repeated by anyone: a claim is a lease,
the gateway answers the same key the same way, the transaction looks again under its lock, and settle.lua moves a booking
only from P. So a worker may die anywhere, and the next one finishes its work.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from boxoffice.bookings.holds import Holds
from boxoffice.books import rows
from boxoffice.books.dead_letters import count_failure
from boxoffice.books.decisions import Claimed, Decision, Known, PaymentRow, Standing, Terms, Verdict
from boxoffice.clock import CLOCK, Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    AuthorizeRequest,
    CaptureRequest,
    Declined,
    Done,
    Found,
    PaymentGateway,
    RequiresAction,
    Unknown,
)
from boxoffice.gateway.calls import in_parallel
from boxoffice.money.pump import MoneyPump
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch, Ready, parked
from boxoffice.settlement.deciding import GatewayOutcome, decide, is_overdue, never_asked, sold_by, standing_of
from boxoffice.settlement.mirror import Mirror
from boxoffice.settlement.outage import REFUSED, Outage, StoreRefuses
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.fence import Pair, open_batch, read
from boxoffice.stores.postgres import AWAY, TRANSIENT, SerializationError, sqlstate
from boxoffice.stores.record import Record, payment_key_of, unpack
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.seldom import seldom

__all__ = ["Settlement"]

log = structlog.get_logger()

LOOK_S: Final = 0.05
"""While nothing is due and batches are under way, how long until it is looked again."""

GATHER_S: Final = 0.05
"""After a slow answer, how long its neighbours' are waited for, to be settled in the same transaction."""

SLOW_MAX: Final = 2_000
"""Bookings that may wait for slow answers in one worker; beyond it nothing more is claimed."""

LAPSES_MAX: Final = 14
"""A booking whose lease lapsed so often, the last times alone, kills its workers. It is parked untouched."""

ALIKE_MAX: Final = 3
"""So many bookings of a claim may fail alone while their payments are asked for, and none is answered: then it is the
gateway, or how we ask it."""

ALONE_MAX_S: Final = 60.0
"""Longest pause between two tries of a booking that fails alone and cannot be shown to be at fault."""

ROUNDS: Final = 5
"""Tries of one transaction when PostgreSQL itself says that the next may succeed."""


class Committed(NamedTuple):
    """What a transaction has written."""

    decisions: list[Decision]
    listed: int | None
    """The row in `captures` that lists what is to be captured; None when nothing is."""
    pair: Pair


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
        self.shard = here.number
        self._database = database
        self.here = here
        self._gateway = gateway
        self._pump = pump
        self._mirror = Mirror(here, holds, settings)
        self._settings = settings
        self._clock = clock
        self._draining = False
        self._again = False
        self._stopping = False
        self._late: set[asyncio.Task[None]] = set()
        self._slow = 0
        self._calls = asyncio.Semaphore(settings.gateway.concurrency)
        self._kin: set[rows.Kin] = set()
        self._suspects: dict[str, tuple[int, float]] = {}
        """Bookings that failed alone: how often, and since when."""
        self._closed_until = 0.0
        self._outage = Outage(here.number, database, gateway.books, settings.worker.lease_ms, clock)

    # ------------------------------------------------------------------ draining

    async def drain(self) -> bool:
        """Settle until nothing is due. False when there was more than `worker.drain_s` allows: ring again."""
        self._again = True
        if self._draining or self._stopping or self._clock.now_s() < self._closed_until:
            return True
        self._draining = True
        try:
            if pause_s := await self._outage.over():
                self._closed_until = self._clock.now_s() + pause_s
                return True
            end = self._clock.now_s() + self._settings.worker.drain_s
            while self._again and not self._stopping and self._closed_until <= self._clock.now_s() < end:
                self._again = False
                await self._batches(end)
            return not self._again
        finally:
            self._draining = False

    async def stop(self) -> None:
        """Finish the batches at hand; give back what waits for a slow card."""
        self._stopping = True
        while self._draining:  # noqa: ASYNC110 - a batch ends within a moment
            await asyncio.sleep(0.005)
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def _batches(self, end: float) -> None:
        """Claim and settle until nothing is due. A batch is settled while later ones are claimed: what it waits for, a disk
        or another process, leaves the machine to them."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while not self._stopping and self._closed_until <= self._clock.now_s() < end:
                if self._slow >= SLOW_MAX and self._late:
                    await asyncio.wait(self._late, timeout=GATHER_S, return_when=FIRST_COMPLETED)
                    continue
                claimed_at = self._clock.now_s()
                batch = await self._claim()
                claims = batch.claims
                if not claims and not under_way:
                    return
                lapsed = any(claim.lapses for claim in claims)
                if lapsed and under_way:
                    await asyncio.wait(under_way)
                if claims:
                    under_way.add(asyncio.create_task(self._settle_claim(batch)))
                if lapsed:
                    # It may be what killed its workers. Whoever is settled beside it would lapse with it, and be parked.
                    await asyncio.wait(under_way)
                elif claims and len(claims) < self._settings.worker.batch_max:
                    await self._linger(claimed_at)
                if len(under_way) >= self._settings.worker.lanes:
                    await asyncio.wait(under_way, return_when=FIRST_COMPLETED)
                elif not claims:
                    # A batch that hangs, on a row's lock or a dead disk, is no reason to leave others waiting.
                    await asyncio.wait(under_way, timeout=LOOK_S, return_when=FIRST_COMPLETED)
                for ended in [task for task in under_way if task.done()]:
                    under_way.discard(ended)
                    ended.result()
            self._again = True
        finally:
            for error in await asyncio.gather(*under_way, return_exceptions=True):
                if isinstance(error, Exception):
                    # Nothing is lost: their leases lapse.
                    seldom.exception("batch.failed", error, shard=self.shard)

    async def _linger(self, claimed_at: float) -> None:
        rest_s = self._settings.worker.linger_ms / 1_000 - (self._clock.now_s() - claimed_at)
        if rest_s > 0 and not self._stopping:
            await self._clock.sleep(rest_s)

    async def _claim(self) -> Batch:
        """The next bookings that are due; an empty batch when none is, or none may be claimed."""
        worker = self._settings.worker
        try:
            reply = await self.here.run("claim", limit=worker.batch_max, lease_ms=worker.lease_ms, ring_on=1)
        except GateClosed:
            return Batch([], Terms(0, 0))  # a repair is on its way, and rings when it opens
        if not reply:
            return Batch([], Terms(0, 0))
        crashpoint("claimed")
        batch = Batch([], Terms(int(reply[0]), int(self._settings.gateway.deadline_s * 1_000)), read(reply[2]))
        unfit = []
        for index in range(3, len(reply), 3):
            booking, lapses, raw = reply[index].decode(), int(reply[index + 1]), reply[index + 2]
            try:
                record = unpack(booking, raw)
            except ValueError as error:
                unfit.append((booking, raw, payment_key_of(raw), f"unreadable record: {type(error).__name__}"))
                continue
            if lapses >= LAPSES_MAX and not self._outage.within(LAPSES_MAX * worker.lease_ms / 1_000):
                unfit.append((booking, raw, record.payment_key, "its lease lapsed again and again"))
            else:
                batch.claims.append(Claimed(record, raw, lapses))
        try:
            for booking, raw, payment_key, what in unfit:
                await self._park(booking, raw, payment_key, what)
        except TRANSIENT as error:
            await self._give_back(batch, batch.claims, error)
            return Batch([], Terms(0, 0))
        return batch

    async def _park(self, booking: str, raw: bytes, payment_key: str, error: str) -> None:
        """Out of the way, its stock kept, until an operator decides."""
        async with self._database.writer() as connection:
            await count_failure(connection, booking, raw, error, attempts_max=0)
        await self._mirror.park(booking, payment_key)
        log.error("booking.parked", booking_id=booking, error=error)

    # ------------------------------------------------------------------ one claim

    async def _settle_claim(self, batch: Batch) -> None:
        """Everything between a claim and the next. Whatever fails, leases are given back or lapse."""
        failed: list[tuple[Claimed, Exception]] = []
        since = self._clock.now_s()
        try:
            ready = await self._authorise_apart(batch, batch.claims, failed, since)
            await self._settle(batch, ready)
            for claim, error in failed:
                await self._fail_alone(batch, claim, error, asking=True, since=since)
        except (GateClosed, *REFUSED) as error:
            await self._give_back(batch, batch.claims, error)

    async def _give_back(self, batch: Batch, claims: list[Claimed], error: BaseException) -> None:
        """Stop claiming for a moment, and let go of what nobody has settled. That is no lapse of its lease."""
        pause_s = self._outage.begin(error)
        self._closed_until = self._clock.now_s() + pause_s
        await self._release(batch, [claim for claim in claims if claim.record.id not in batch.done], pause_s)

    async def _release(self, batch: Batch, claims: Iterable[Claimed], delay_s: float) -> None:
        """Let others claim these after a while. Their records keep their cards."""
        released = [batch.released(claim, int(1_000 * delay_s * (1 + self._clock.chance()))) for claim in claims]
        try:
            await self._mirror.tell(released, batch.done)
        except GateClosed:
            seldom.warning("leases.kept", shard=self.shard, bookings=len(released))  # they lapse

    async def _authorise_apart(
        self, batch: Batch, claims: list[Claimed], failed: list[tuple[Claimed, Exception]], since: float
    ) -> Ready:
        """Authorise, and when that fails for a reason of its own, halve the batch down to the offenders, which are added to
        `failed`. Raises `StoreRefuses` when nobody was answered `since`, and some have failed already."""
        try:
            return await self._authorise(batch, claims)
        except (RedisError, GateClosed, *REFUSED):
            raise
        except Exception as error:
            if len(claims) == 1:
                failed.append((claims[0], error))
                if len(failed) >= ALIKE_MAX and not self._outage.answered_after(since):
                    raise StoreRefuses from error
                return Ready([], {}, {})
            middle = len(claims) // 2
            ready = await self._authorise_apart(batch, claims[:middle], failed, since)
            return ready.and_(await self._authorise_apart(batch, claims[middle:], failed, since))

    async def _authorise(self, batch: Batch, claims: list[Claimed]) -> Ready:
        """Look the batch up, then ask the gateway for every payment that PostgreSQL has not decided.

        What the gateway cannot say at once goes on in a task of its own: a slow card never holds up the others.
        """
        claims, known = await self._look_up(batch, claims)
        crashpoint("looked_up")
        ready, ask = [], []
        slow: dict[asyncio.Future[Any], Claimed] = {}
        for claim in claims:
            record, met = claim.record, known.get(claim.record.id)
            if standing_of(record, met) in (Standing.DECIDED, Standing.DUPLICATE) or not record.body.amount_cents:
                ready.append(claim)
            elif is_overdue(record, met, batch.terms):
                slow[in_parallel(partial(self._let_go, batch, met), [claim], self._calls)[0]] = claim
            elif met and met.payment and met.payment.status == "requires_action":
                slow[in_parallel(partial(self._look_closer, met.payment), [claim], self._calls)[0]] = claim
            else:
                ask.append(claim)
        batch.asked.update(claim.record.id for claim in ask)
        answers = await self._gateway.authorize_batch([_request(claim.record) for claim in ask])
        if ask:
            self._outage.answered()
        crashpoint("authorised")
        outcomes: dict[str, GatewayOutcome] = {}
        for claim, answer in zip(ask, answers, strict=True):
            if isinstance(answer, asyncio.Future):
                slow[answer] = claim
            else:
                outcomes[claim.record.id] = answer
                ready.append(claim)
        if slow:
            self._wait_for(batch, slow, known)
        return Ready(ready, known, outcomes)

    async def _look_up(self, batch: Batch, claims: list[Claimed]) -> tuple[list[Claimed], dict[str, Known]]:
        """What PostgreSQL knows already. Of two bookings under one key the later waits until the first is written."""
        async with self._database.writer() as connection:
            known = await rows.known_by_key(connection, [claim.record for claim in claims])
        first: dict[str, Claimed] = {}
        later = []
        for claim in sorted(claims, key=lambda claim: claim.record.sequence):
            record = claim.record
            if record.id not in known and first.setdefault(record.scope, claim) is not claim:
                later.append(claim)
        if later:
            batch.put_off.update(claim.record.id for claim in later)
            await self._release(batch, later, 0.1)
        return [claim for claim in claims if claim.record.id not in batch.put_off], known

    async def _look_closer(self, row: PaymentRow, claim: Claimed) -> Authorization:
        """A payment that waited for its customer: has it moved?"""
        found = await self._gateway.lookup(claim.record.payment_key, row.reference)
        return (
            _authorization(found)
            if isinstance(found, Found)
            else RequiresAction(row.next_action or "", row.reference or "")
        )

    async def _let_go(self, batch: Batch, known: Known | None, claim: Claimed) -> GatewayOutcome:
        """Nobody waits for this payment any more: void it. What a customer finished at the last moment counts, as its
        tickets are still held, unless they were cancelled; and what was captured already always counts."""
        if never_asked(claim, known, asked=claim.record.id in batch.asked):
            return Done("")
        key, row = claim.record.payment_key, known.payment if known else None
        reference = row.reference if row else None
        if row and row.status == "requires_action" and not claim.record.cancel_requested:
            found = await self._gateway.lookup(key, reference)
            if isinstance(found, Found) and found.status in ("authorized", "captured"):
                return _authorization(found)
        crashpoint("letting_go")
        outcome = await self._gateway.void(key, reference)
        crashpoint("let_go")
        match outcome:
            case Done():
                return outcome
            case AlreadyCaptured():
                found = await self._gateway.lookup(key, reference)
                return _authorization(found) if isinstance(found, Found) else Unknown("captured")
            case Unknown():
                return outcome
            case _:
                return Unknown("void without an answer")

    def _wait_for(self, batch: Batch, slow: dict[asyncio.Future[Any], Claimed], known: Mapping[str, Known]) -> None:
        """Let slow answers come in their own time, in a task that keeps their leases and settles them in groups."""
        batch.done.update(claim.record.id for claim in slow.values())
        self._slow += len(slow)
        task = asyncio.create_task(self._settle_slow(batch, slow, known))
        self._late.add(task)
        task.add_done_callback(self._late_ended)

    def _late_ended(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # Nothing is lost: their leases lapse.
            seldom.exception("batch.failed", error, shard=self.shard)

    async def _settle_slow(
        self, batch: Batch, slow: dict[asyncio.Future[Any], Claimed], known: Mapping[str, Known]
    ) -> None:
        half_lease_s = self._settings.worker.lease_ms / 2_000
        renew_at = self._clock.now_s() + half_lease_s
        try:
            while slow:
                await asyncio.wait(slow, timeout=max(0.0, renew_at - self._clock.now_s()), return_when=FIRST_COMPLETED)
                if any(answer.done() for answer in slow):
                    await asyncio.wait(slow, timeout=GATHER_S)
                    ready = [answer for answer in slow if answer.done()]
                    claims = [slow.pop(answer) for answer in ready]
                    self._slow -= len(claims)
                    crashpoint("answered")
                    await self._settle_late(batch, claims, ready, known)
                if self._clock.now_s() >= renew_at and slow:
                    renew_at = self._clock.now_s() + half_lease_s
                    with contextlib.suppress(RedisError, OSError):
                        await self._extend_leases(slow.values())
        except asyncio.CancelledError:
            # Before Python 3.11.3 every timeout within a task that is being cancelled ends as another cancellation.
            current = asyncio.current_task()
            assert current is not None
            current.uncancel()
            for answer in slow:
                answer.cancel()
            await self._release(batch, slow.values(), 0)
            raise
        finally:
            self._slow -= len(slow)

    async def _settle_late(
        self, batch: Batch, claims: list[Claimed], answers: list[asyncio.Future[Any]], known: Mapping[str, Known]
    ) -> None:
        batch.done.difference_update(claim.record.id for claim in claims)
        try:
            ready: list[Claimed] = []
            outcomes: dict[str, GatewayOutcome] = {}
            for claim, answer in zip(claims, answers, strict=True):
                if error := answer.exception():
                    if not isinstance(error, Exception):
                        raise error
                    await self._fail_alone(batch, claim, error, asking=True, since=self._clock.now_s())
                else:
                    outcomes[claim.record.id] = answer.result()
                    ready.append(claim)
            await self._settle(batch, Ready(ready, known, outcomes))
        except (GateClosed, *REFUSED) as error:
            await self._give_back(batch, claims, error)
        except RedisError as error:
            # Their leases lapse. Those who still wait for an answer keep theirs.
            seldom.exception("batch.failed", error, shard=self.shard)

    async def _extend_leases(self, claims: Iterable[Claimed]) -> None:
        """Leases of this worker now end later; nobody else's are touched by it for long (they are renewed too)."""
        seconds, micros = await self.here.redis.time()
        until = seconds * 1_000 + micros // 1_000 + self._settings.worker.lease_ms + 1 / 16
        due = {claim.record.id: until for claim in claims}
        await self.here.redis.zadd(keys.pending(self.shard), due, xx=True, gt=True)

    # ------------------------------------------------------------------ the transaction

    async def _settle(self, batch: Batch, ready: Ready) -> None:
        """Commit what is decided of these and mirror it. A batch that fails for a reason of its own is halved, down to the
        offender, so that one bad booking never fails its neighbours."""
        claims = ready.claims
        if not claims:
            return
        suspects = [claim for claim in claims if claim.record.id in self._suspects]
        if suspects and len(claims) > 1:
            await self._settle(batch, ready.only([claim for claim in claims if claim.record.id not in self._suspects]))
            for claim in suspects:
                await self._settle(batch, ready.only([claim]))
            return
        try:
            decisions, listed, pair = await self._commit(batch, ready)
        except (*AWAY, StoreRefuses):
            raise
        except Exception as error:
            if isinstance(error, TRANSIENT):
                seldom.warning("settlement.retry", shard=self.shard, error=type(error).__name__, bookings=len(claims))
                await self._release(batch, claims, 0.1)
            elif len(claims) == 1:
                await self._fail_alone(batch, claims[0], error, asking=False, since=self._clock.now_s())
            else:
                middle = len(claims) // 2
                await self._settle(batch, ready.only(claims[:middle]))
                await self._settle(batch, ready.only(claims[middle:]))
            return
        crashpoint("committed")
        await self._mirror.tell(decisions, batch.done, pair)
        crashpoint("settled")
        if listed is not None:
            self._pump.give(listed, _captures(decisions))
        self._outage.settled()
        for claim in claims if self._suspects else ():
            self._suspects.pop(claim.record.id, None)
        _report(self.shard, decisions)

    async def _commit(self, batch: Batch, ready: Ready) -> Committed:
        async def work(connection: Connection) -> Committed:
            committed = await self._transact(connection, batch, ready)
            crashpoint("written")
            return committed

        async def between(error: Exception, tried: int) -> None:
            nonlocal ready
            if not isinstance(error, rows.Raced):
                await self._clock.sleep(0.005 * 2**tried * (1 + self._clock.chance()))
                return
            async with self._database.writer() as connection:
                known = await rows.known_by_key(connection, [claim.record for claim in ready.claims])
            ready = ready._replace(known=known)

        try:
            return await self._database.transaction(work, tries=ROUNDS, races=(rows.Raced,), between=between)
        except rows.Raced as error:
            raise SerializationError("raced in every round") from error

    async def _transact(self, connection: Connection, batch: Batch, ready: Ready) -> Committed:
        records = [claim.record for claim in ready.claims]
        kin = {(record.body.client, record.event, line.tier) for record in records for line in record.body.lines}
        left = await rows.lock_inventory(connection, {tier for _, _, tier in kin})
        await rows.vouch(connection, kin, self._kin)
        await rows.recheck(connection, records, ready.known)
        decisions = decide(ready.claims, ready.known, ready.outcomes, left, batch.terms)
        listed = await rows.write(connection, decisions, self._gateway.books, self._settings.worker.lease_ms)
        await rows.sell(connection, sold_by(decisions))
        # Also when every booking was found decided: whoever is told hears of a commit that has all of them.
        pair = await open_batch(connection, self.shard, batch.told, settles=True)
        return Committed(decisions, listed, pair)

    async def _fail_alone(self, batch: Batch, claim: Claimed, error: Exception, *, asking: bool, since: float) -> None:
        """Only a booking that failed alone, and by its own fault, counts an attempt; after some it is parked. One of which
        that cannot be shown is tried again, later and later. `since`: when it was tried.

        Raises what `blames_the_row` raises.
        """
        booking = claim.record.id
        tries, since = self._suspects.get(booking, (0, since))
        self._suspects[booking] = tries + 1, since
        what = f"{type(error).__name__} {sqlstate(error)}".strip()
        attempts, attempts_max = 0, self._settings.worker.attempts_max
        if await self._outage.blames_the_row(error, asking=asking, since=since):
            async with self._database.writer() as connection:
                attempts = await count_failure(connection, booking, claim.raw, what, attempts_max=attempts_max)
        if attempts >= attempts_max:
            self._suspects.pop(booking)
            decision = parked(claim)
        else:
            delay_s = min(0.1 * 2 ** min(attempts or tries + 1, 10), ALONE_MAX_S)
            decision = batch.released(claim, int(1_000 * delay_s))
        parks = decision.verdict is Verdict.PARK
        log.error("booking.failed_alone", booking_id=booking, error=what, attempts=attempts, parked=parks)
        await self._mirror.tell([decision], batch.done)


def _request(record: Record) -> AuthorizeRequest:
    charge = record.payload.charge
    return AuthorizeRequest(
        record.payment_key,
        record.id,
        record.body.amount_cents,
        record.body.currency,
        charge.method if charge else "card",
        charge.token if charge else "",
    )


def _authorization(found: Found) -> Authorization:
    """What a look-up says, in the words of an authorisation."""
    match found.status:
        case "authorized" | "captured":
            return Authorized(found.reference, found.amount_cents, found.currency)
        case "declined":
            return Declined(found.failure_code or "declined", found.reference)
        case "requires_action":
            return RequiresAction(found.next_action or "", found.reference)
        case "voided":
            return Declined(found.failure_code or "voided", found.reference)
        case _:
            return Unknown("processing")


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
    counts: dict[str, int] = {}
    for decision in decisions:
        counts[decision.status] = counts.get(decision.status, 0) + 1
    log.info("batch.settled", shard=shard, **counts)
