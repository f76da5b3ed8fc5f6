"""Settling bookings: claim a batch, authorise its payments, commit it in one transaction, tell Redis.

PostgreSQL decides what became of a booking; Redis mirrors it. Every step may be repeated by anyone: a claim is a lease,
the gateway answers the same key the same way, the transaction looks again under its lock, and settle.lua moves a booking
only from P. So a worker may die anywhere, and the next one finishes its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable
from typing import Any, Final

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from boxoffice.bookings.holds import Holds
from boxoffice.books import rows
from boxoffice.books.dead_letters import count_failure
from boxoffice.books.decisions import Case, Terms
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    AuthorizeRequest,
    Declined,
    Done,
    Found,
    PaymentGateway,
    RequiresAction,
    Unknown,
    in_parallel,
)
from boxoffice.money.pump import MoneyPump
from boxoffice.settings import Settings
from boxoffice.settlement.deciding import decide
from boxoffice.settlement.mirror import Mirror
from boxoffice.settlement.outage import REFUSED, Outage, StoreRefuses
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.fence import Pair, open_batch, read
from boxoffice.stores.postgres import AWAY, TRANSIENT, sqlstate
from boxoffice.stores.record import payment_key_of, unpack
from boxoffice.stores.scripts import Scripts
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


class Settlement:
    """Settles the bookings of one shard. Several may do so at once, in one process or in many."""

    def __init__(
        self,
        shard: int,
        redis: Redis,
        database: Database,
        scripts: Scripts,
        gateway: PaymentGateway,
        pump: MoneyPump,
        holds: Holds,
        settings: Settings,
    ) -> None:
        self.shard = shard
        self._redis = redis
        self._database = database
        self._here = Shard(redis, scripts, shard)
        self._gateway = gateway
        self._pump = pump
        self._mirror = Mirror(shard, redis, scripts, holds, settings)
        self._settings = settings
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
        self._outage = Outage(shard, database, gateway.books, settings.worker.lease_ms)

    # ------------------------------------------------------------------ draining

    async def drain(self) -> bool:
        """Settle until nothing is due. False when there was more than `worker.drain_s` allows: ring again."""
        self._again = True
        if self._draining or self._stopping or time.monotonic() < self._closed_until:
            return True
        self._draining = True
        try:
            if pause_s := await self._outage.over():
                self._closed_until = time.monotonic() + pause_s
                return True
            end = time.monotonic() + self._settings.worker.drain_s
            while self._again and not self._stopping and self._closed_until <= time.monotonic() < end:
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
            while not self._stopping and self._closed_until <= time.monotonic() < end:
                if self._slow >= SLOW_MAX and self._late:
                    await asyncio.wait(self._late, timeout=GATHER_S, return_when=FIRST_COMPLETED)
                    continue
                claimed_at = time.monotonic()
                now_ms, cases = await self._claim()
                if not cases and not under_way:
                    return
                lapsed = any(case.lapses for case in cases)
                if lapsed and under_way:
                    await asyncio.wait(under_way)
                if cases:
                    under_way.add(asyncio.create_task(self._settle_claim(cases, now_ms)))
                if lapsed:
                    # It may be what killed its workers. Whoever is settled beside it would lapse with it, and be parked.
                    await asyncio.wait(under_way)
                elif cases and len(cases) < self._settings.worker.batch_max:
                    await self._linger(claimed_at)
                if len(under_way) >= self._settings.worker.lanes:
                    await asyncio.wait(under_way, return_when=FIRST_COMPLETED)
                elif not cases:
                    # A batch that hangs, on a row's lock or a dead disk, is no reason to leave others waiting.
                    await asyncio.wait(under_way, timeout=LOOK_S, return_when=FIRST_COMPLETED)
                for batch in [batch for batch in under_way if batch.done()]:
                    under_way.discard(batch)
                    batch.result()
            self._again = True
        finally:
            for error in await asyncio.gather(*under_way, return_exceptions=True):
                if isinstance(error, Exception):
                    # Nothing is lost: their leases lapse.
                    seldom.exception("batch.failed", error, shard=self.shard)

    async def _linger(self, claimed_at: float) -> None:
        rest_s = self._settings.worker.linger_ms / 1_000 - (time.monotonic() - claimed_at)
        if rest_s > 0 and not self._stopping:
            await asyncio.sleep(rest_s)

    async def _claim(self) -> tuple[int, list[Case]]:
        worker = self._settings.worker
        try:
            reply = await self._here.run("claim", limit=worker.batch_max, lease_ms=worker.lease_ms, ring_on=1)
        except GateClosed:
            return 0, []  # a repair is on its way, and rings when it opens
        if not reply:
            return 0, []
        crashpoint("claimed")
        cases, unfit, told = [], [], read(reply[2])
        for index in range(3, len(reply), 3):
            booking, lapses, raw = reply[index].decode(), int(reply[index + 1]), reply[index + 2]
            try:
                case = Case(unpack(booking, raw), raw, lapses, told=told)
            except ValueError as error:
                unfit.append((booking, raw, payment_key_of(raw), f"unreadable record: {type(error).__name__}"))
                continue
            if lapses >= LAPSES_MAX and not self._outage.within(LAPSES_MAX * worker.lease_ms / 1_000):
                unfit.append((booking, raw, case.record.payment_key, "its lease lapsed again and again"))
            else:
                cases.append(case)
        try:
            for booking, raw, payment_key, what in unfit:
                await self._park(booking, raw, payment_key, what)
        except TRANSIENT as error:
            await self._give_back(cases, error)
            return 0, []
        return int(reply[0]), cases

    async def _park(self, booking: str, raw: bytes, payment_key: str, error: str) -> None:
        """Out of the way, its stock kept, until an operator decides."""
        async with self._database.writer() as connection:
            await count_failure(connection, booking, raw, error, attempts_max=0)
        await self._mirror.park(booking, payment_key)
        log.error("booking.parked", booking_id=booking, error=error)

    # ------------------------------------------------------------------ one claim

    async def _settle_claim(self, cases: list[Case], now_ms: int) -> None:
        """Everything between a claim and the next. Whatever fails, leases are given back or lapse."""
        terms = Terms(now_ms, int(self._settings.gateway.deadline_s * 1_000))
        failed: list[tuple[Case, Exception]] = []
        since = time.monotonic()
        try:
            ready = await self._authorise_apart(cases, terms, failed, since)
            await self._settle(ready, terms)
            for case, error in failed:
                await self._fail_alone(case, error, asking=True, since=since)
        except (GateClosed, *REFUSED) as error:
            await self._give_back(cases, error)

    async def _give_back(self, cases: list[Case], error: BaseException) -> None:
        """Stop claiming for a moment, and let go of what nobody has settled. That is no lapse of its lease."""
        pause_s = self._outage.begin(error)
        self._closed_until = time.monotonic() + pause_s
        await self._release([case for case in cases if not case.done], pause_s)

    async def _release(self, cases: list[Case], delay_s: float) -> None:
        """Let others claim these after a while. Their records keep their cards."""
        for case in cases:
            case.verdict, case.delay_ms = "R", int(1_000 * delay_s * (1 + random.random()))
            case.payload = case.unfinished()
        try:
            await self._mirror.tell(cases)
        except GateClosed:
            seldom.warning("leases.kept", shard=self.shard, bookings=len(cases))  # they lapse

    async def _authorise_apart(
        self, cases: list[Case], terms: Terms, failed: list[tuple[Case, Exception]], since: float
    ) -> list[Case]:
        """Authorise, and when that fails for a reason of its own, halve the batch down to the offenders, which are added to
        `failed`. Raises `StoreRefuses` when nobody was answered `since`, and some have failed already."""
        try:
            return await self._authorise(cases, terms)
        except (RedisError, GateClosed, *REFUSED):
            raise
        except Exception as error:
            if len(cases) == 1:
                failed.append((cases[0], error))
                if len(failed) >= ALIKE_MAX and not self._outage.answered_after(since):
                    raise StoreRefuses from error
                return []
            middle = len(cases) // 2
            ready = await self._authorise_apart(cases[:middle], terms, failed, since)
            return ready + await self._authorise_apart(cases[middle:], terms, failed, since)

    async def _authorise(self, cases: list[Case], terms: Terms) -> list[Case]:
        """Look the batch up, then ask the gateway for every payment that PostgreSQL has not decided.

        What the gateway cannot say at once goes on in a task of its own: a slow card never holds up the others.
        """
        cases = await self._look_up(cases)
        crashpoint("looked_up")
        open_cases = [case for case in cases if not case.decided and not case.duplicate_of]
        ask = []
        slow: dict[asyncio.Future[Any], Case] = {}
        for case in open_cases:
            if case.free:
                continue
            if case.overdue(terms):
                slow[in_parallel(self._let_go, [case], self._calls)[0]] = case
            elif case.known and case.known.payment and case.known.payment.status == "requires_action":
                slow[in_parallel(self._look_closer, [case], self._calls)[0]] = case
            else:
                ask.append(case)
        for case in ask:
            case.asked = True
        answers = await self._gateway.authorize_batch([_request(case) for case in ask])
        if ask:
            self._outage.answered()
        crashpoint("authorised")
        for case, answer in zip(ask, answers, strict=True):
            if isinstance(answer, asyncio.Future):
                slow[answer] = case
            else:
                case.outcome = answer
        if slow:
            self._wait_for(slow, terms)
        return [case for case in cases if case.outcome is not None or case.decided or case.duplicate_of or case.free]

    async def _look_up(self, cases: list[Case]) -> list[Case]:
        """What PostgreSQL knows already. Of two bookings under one key the later waits until the first is written."""
        async with self._database.writer() as connection:
            known = await rows.known_by_key(connection, [case.record for case in cases])
        first: dict[str, Case] = {}
        later = []
        for case in sorted(cases, key=lambda case: case.record.sequence):
            case.known = known.get(case.record.id)
            if case.known is None and first.setdefault(case.record.scope, case) is not case:
                later.append(case)
        if later:
            await self._release(later, 0.1)
        return [case for case in cases if not case.verdict]

    async def _look_closer(self, case: Case) -> Authorization:
        """A payment that waited for its customer: has it moved?"""
        assert case.known is not None and case.known.payment is not None
        row = case.known.payment
        found = await self._gateway.lookup(case.record.payment_key, row.reference)
        return (
            _authorization(found)
            if isinstance(found, Found)
            else RequiresAction(row.next_action or "", row.reference or "")
        )

    async def _let_go(self, case: Case) -> Authorization | Done:
        """Nobody waits for this payment any more: void it. What a customer finished at the last moment counts, as its
        tickets are still held, unless they were cancelled; and what was captured already always counts."""
        if case.never_asked:
            return Done("")
        key, row = case.record.payment_key, case.known.payment if case.known else None
        reference = row.reference if row else None
        if row and row.status == "requires_action" and not case.record.cancel_requested:
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

    def _wait_for(self, slow: dict[asyncio.Future[Any], Case], terms: Terms) -> None:
        """Let slow answers come in their own time, in a task that keeps their leases and settles them in groups."""
        for case in slow.values():
            case.done = True
        self._slow += len(slow)
        task = asyncio.create_task(self._settle_slow(slow, terms))
        self._late.add(task)
        task.add_done_callback(self._late_ended)

    def _late_ended(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # Nothing is lost: their leases lapse.
            seldom.exception("batch.failed", error, shard=self.shard)

    async def _settle_slow(self, slow: dict[asyncio.Future[Any], Case], terms: Terms) -> None:
        half_lease_s = self._settings.worker.lease_ms / 2_000
        renew_at = time.monotonic() + half_lease_s
        try:
            while slow:
                await asyncio.wait(slow, timeout=max(0.0, renew_at - time.monotonic()), return_when=FIRST_COMPLETED)
                if any(answer.done() for answer in slow):
                    await asyncio.wait(slow, timeout=GATHER_S)
                    ready = [answer for answer in slow if answer.done()]
                    cases = [slow.pop(answer) for answer in ready]
                    self._slow -= len(cases)
                    crashpoint("answered")
                    await self._settle_late(cases, ready, terms)
                if time.monotonic() >= renew_at and slow:
                    renew_at = time.monotonic() + half_lease_s
                    with contextlib.suppress(RedisError, OSError):
                        await self._extend_leases(list(slow.values()))
        except asyncio.CancelledError:
            # Before Python 3.11.3 every timeout within a task that is being cancelled ends as another cancellation.
            current = asyncio.current_task()
            assert current is not None
            current.uncancel()
            for answer in slow:
                answer.cancel()
            await self._release(list(slow.values()), 0)
            raise
        finally:
            self._slow -= len(slow)

    async def _settle_late(self, cases: list[Case], answers: list[asyncio.Future[Any]], terms: Terms) -> None:
        for case in cases:
            case.done = False
        try:
            good = []
            for case, answer in zip(cases, answers, strict=True):
                if error := answer.exception():
                    if not isinstance(error, Exception):
                        raise error
                    await self._fail_alone(case, error, asking=True, since=time.monotonic())
                else:
                    case.outcome = answer.result()
                    good.append(case)
            await self._settle(good, terms)
        except (GateClosed, *REFUSED) as error:
            await self._give_back(cases, error)
        except RedisError as error:
            # Their leases lapse. Those who still wait for an answer keep theirs.
            seldom.exception("batch.failed", error, shard=self.shard)

    async def _extend_leases(self, cases: list[Case]) -> None:
        """Leases of this worker now end later; nobody else's are touched by it for long (they are renewed too)."""
        seconds, micros = await self._redis.time()
        until = seconds * 1_000 + micros // 1_000 + self._settings.worker.lease_ms + 1 / 16
        await self._redis.zadd(keys.pending(self.shard), {case.record.id: until for case in cases}, xx=True, gt=True)

    # ------------------------------------------------------------------ the transaction

    async def _settle(self, cases: list[Case], terms: Terms) -> None:
        """Commit the cases and mirror them. A batch that fails for a reason of its own is halved, down to the offender,
        so that one bad booking never fails its neighbours."""
        if not cases:
            return
        suspects = [case for case in cases if case.record.id in self._suspects]
        if suspects and len(cases) > 1:
            await self._settle([case for case in cases if case.record.id not in self._suspects], terms)
            for case in suspects:
                await self._settle([case], terms)
            return
        try:
            listed, pair = await self._commit(cases, terms)
        except (*AWAY, StoreRefuses):
            raise
        except Exception as error:
            if isinstance(error, TRANSIENT):
                seldom.warning("settlement.retry", shard=self.shard, error=type(error).__name__, bookings=len(cases))
                await self._release(cases, 0.1)
            elif len(cases) == 1:
                await self._fail_alone(cases[0], error, asking=False, since=time.monotonic())
            else:
                middle = len(cases) // 2
                await self._settle(cases[:middle], terms)
                await self._settle(cases[middle:], terms)
            return
        crashpoint("committed")
        await self._mirror.tell(cases, pair)
        crashpoint("settled")
        if listed is not None:
            self._pump.give(listed, [case for case in cases if case.due == "capture"])
        self._outage.settled()
        for case in cases if self._suspects else ():
            self._suspects.pop(case.record.id, None)
        _report(self.shard, cases)

    async def _commit(self, cases: list[Case], terms: Terms) -> tuple[int | None, Pair]:
        async def work(connection: Connection) -> tuple[int | None, Pair]:
            committed = await self._transact(connection, cases, terms)
            crashpoint("written")
            return committed

        async def between(error: Exception, tried: int) -> None:
            if not isinstance(error, rows.Raced):
                await asyncio.sleep(0.005 * 2**tried * (1 + random.random()))
                return
            async with self._database.reader() as connection:
                known = await rows.known_by_key(connection, [case.record for case in cases])
            for case in cases:
                case.known = known.get(case.record.id)

        try:
            return await self._database.transaction(work, tries=ROUNDS, races=(rows.Raced,), between=between)
        except rows.Raced as error:
            raise asyncpg.SerializationError("raced in every round") from error

    async def _transact(self, connection: Connection, cases: list[Case], terms: Terms) -> tuple[int | None, Pair]:
        kin = {
            (case.record.body.client, case.record.event, line.tier) for case in cases for line in case.record.body.lines
        }
        left = await rows.lock_inventory(connection, {tier for _, _, tier in kin})
        await rows.vouch(connection, kin, self._kin)
        await rows.recheck(connection, cases)
        sold = decide(cases, left, terms)
        listed = await rows.write(connection, cases, self._gateway.books, self._settings.worker.lease_ms)
        await rows.sell(connection, sold)
        # Also when every case was found decided: whoever is told hears of a commit that has all of them.
        return listed, await open_batch(connection, self.shard, cases[0].told, settles=True)

    async def _fail_alone(self, case: Case, error: Exception, *, asking: bool, since: float) -> None:
        """Only a booking that failed alone, and by its own fault, counts an attempt; after some it is parked. One of which
        that cannot be shown is tried again, later and later. `since`: when it was tried.

        Raises what `blames_the_row` raises.
        """
        booking = case.record.id
        tries, since = self._suspects.get(booking, (0, since))
        self._suspects[booking] = tries + 1, since
        what = f"{type(error).__name__} {sqlstate(error)}".strip()
        attempts, attempts_max = 0, self._settings.worker.attempts_max
        if await self._outage.blames_the_row(error, asking=asking, since=since):
            async with self._database.writer() as connection:
                attempts = await count_failure(connection, booking, case.raw, what, attempts_max=attempts_max)
        if attempts >= attempts_max:
            case.verdict, case.delay_ms = "D", 0
            self._suspects.pop(booking)
        else:
            delay_s = min(0.1 * 2 ** min(attempts or tries + 1, 10), ALONE_MAX_S)
            case.verdict, case.delay_ms, case.payload = "R", int(1_000 * delay_s), case.unfinished()
        log.error("booking.failed_alone", booking_id=booking, error=what, attempts=attempts, parked=case.verdict == "D")
        await self._mirror.tell([case])


def _request(case: Case) -> AuthorizeRequest:
    record = case.record
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


def _report(shard: int, cases: Iterable[Case]) -> None:
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.status] = counts.get(case.status, 0) + 1
    log.info("batch.settled", shard=shard, **counts)
