"""What is due at the gateway after a commit: captures, voids, refunds. Payment and refund rows are the outbox.

A row is claimed by its lease column, so no lock and no transaction is open while the gateway is asked. The settling
transaction lists its own captures in one row of `captures`, leased to the worker that wrote it, which captures at once,
without a claim; whoever dies in between leaves a row whose lease ends, and then each of its payments is due by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import structlog

from boxoffice.clock import CLOCK, Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.gateway.accounts import WRITTEN_IN, written_in
from boxoffice.gateway.base import (
    AlreadyCaptured,
    CaptureRequest,
    Done,
    Found,
    NotFound,
    PaymentGateway,
    Refused,
)
from boxoffice.money.late import LateMoney
from boxoffice.money.patience import Patience
from boxoffice.money.refund_pump import RefundPump
from boxoffice.money.refunds import Refunds
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import is_transient, sqlstate
from boxoffice.stores.record import Charge
from boxoffice.telemetry.seldom import seldom

__all__ = ["MoneyPump"]

log = structlog.get_logger()

CLAIM_MAX: Final = 500

PAUSE_S: Final = 0.5
"""After an error, how long nothing is asked of the stores and the gateway."""

UNLIST_MAX: Final = 10
"""Lists taken apart in one sweep: at most `worker.batch_max` payments each, in one short statement."""

GIVEN_MAX: Final = 20_000
"""Captures that may wait in this process; beyond it they are left to the outbox."""

_CLAIM = f"""
WITH free AS MATERIALIZED (
  SELECT payment_key FROM payments
  WHERE due IS NOT NULL AND due_at <= now() AND (leased_until IS NULL OR leased_until < now())
    AND {WRITTEN_IN.format("$3", "$4")}
  ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE payments p SET leased_until = now() + $1 * interval '1 millisecond', tries = p.tries + 1
FROM free WHERE p.payment_key = free.payment_key
RETURNING p.payment_key, p.due, p.reference, p.amount_cents, p.status, p.tries,
          p.created_at < now() - interval '24 hours' AS old, p.booking_id::text AS booking,
          p.method, p.token, p.card_name, p.last4, p.currency
"""
"""Materialized: a subquery may be run once for each row that it is joined to, and then locks more than its limit."""

_OF_OTHERS = f"""
SELECT gateway, count(*) AS payments FROM payments
WHERE due_at <= now() AND due IS NOT NULL AND NOT {WRITTEN_IN.format("$1", "$2")} GROUP BY gateway
"""

UNLIST = """
WITH lapsed AS (
  DELETE FROM captures
  WHERE id = ANY(ARRAY(SELECT id FROM captures WHERE leased_until < now() LIMIT $1 FOR UPDATE SKIP LOCKED))
  RETURNING payment_keys)
UPDATE payments SET due_at = now()
WHERE payment_key = ANY(ARRAY(SELECT unnest(payment_keys) FROM lapsed)) AND due = 'capture' AND due_at IS NULL
"""
"""Whoever was to capture these is dead or hangs. What it has marked already is left alone. An array, not a join: with
statistics of an empty table that would read all payments."""

CAPTURED = """
WITH over AS (DELETE FROM captures WHERE id = ANY($2::bigint[]) RETURNING id)
UPDATE payments SET status = 'captured', due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL, updated_at = now()
WHERE (SELECT count(*) FROM over) >= 0 AND payment_key = ANY($1::text[]) AND due = 'capture'
"""
"""The list first, then its payments: who takes a list apart locks them in this order too."""

CLOSE = """
UPDATE payments SET status = $2, due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL, updated_at = now()
WHERE payment_key = $1 AND due = 'void'
"""

CLOSE_LATE = """
WITH late AS (
  UPDATE payments SET status = 'voided', failure_code = 'paid_too_late', due = NULL, due_at = NULL, due_since = NULL,
         leased_until = NULL, updated_at = now()
  WHERE payment_key = $1 AND due = 'void' RETURNING booking_id)
UPDATE bookings b SET failure_code = 'paid_too_late', updated_at = now()
FROM late WHERE b.id = late.booking_id AND b.status IN ('failed', 'expired')
  AND b.failure_code IS DISTINCT FROM 'withdrawn'
"""

LATER = """
UPDATE payments SET due_at = now() + $2 * interval '1 millisecond', due_since = coalesce(due_since, updated_at),
       leased_until = NULL, updated_at = now()
WHERE payment_key = $1 AND due IS NOT NULL
"""


class Due(NamedTuple):
    payment_key: str
    due: str
    reference: str | None
    amount_cents: int
    status: str
    tries: int
    old: bool
    booking: str
    method: str
    token: str | None
    card_name: str | None
    last4: str | None
    currency: str


class MoneyPump:
    """Works off what is due. One per worker."""

    def __init__(
        self,
        database: Database,
        gateway: PaymentGateway,
        refunds: Refunds,
        late: LateMoney,
        settings: Settings,
        clock: Clock = CLOCK,
    ) -> None:
        self.database = database
        self.gateway = gateway
        self.refunds = refunds
        self.late = late
        self.settings = settings
        self.clock = clock
        self.patience = Patience(settings.gateway, clock.chance)
        self.refund_pump = RefundPump(database, gateway, self.patience)
        self.given: deque[tuple[int, list[CaptureRequest]]] = deque()
        self.woken = asyncio.Event()
        self._stopping = False

    def give(self, listed: int, requests: list[CaptureRequest]) -> None:
        """Captures that were just committed, leased to us in one row of `captures`."""
        if sum(len(given) for _, given in self.given) < GIVEN_MAX:
            self.given.append((listed, requests))
            self.woken.set()

    async def run(self) -> None:
        """Work until `stop`. What this process was given comes first; the outbox is looked at once a sweep."""
        sweep_s = self.settings.worker.sweep_ms / 1_000
        next_sweep = 0.0
        paused_at: float | None = None
        while not self._stopping or self.given:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sweep_s):
                    await self.woken.wait()
            try:
                await self.work_given()
                if not self._stopping and self.clock.now_s() >= next_sweep:
                    next_sweep = self.clock.now_s() + sweep_s
                    await self.work_outbox()
                    if paused_at is not None:
                        log.info("money.resumed", seconds=round(self.clock.now_s() - paused_at, 1))
                        paused_at = None
            except Exception as error:
                if is_transient(error):
                    if paused_at is None:
                        paused_at = self.clock.now_s()
                        log.warning("money.paused", error=type(error).__name__, code=sqlstate(error))
                    self.given.clear()
                    if self._stopping:
                        return
                    await self.database.renew(error)
                    await self.clock.sleep(PAUSE_S)
                    continue
                # Nothing is lost with what was given: its rows are due, and their lease ends.
                seldom.exception("money.failed", error)
                self.given.clear()
                await self.clock.sleep(PAUSE_S)

    def stop(self) -> None:
        """Finish what was given, then return from `run`."""
        self._stopping = True
        self.woken.set()

    async def work_given(self) -> None:
        """Capture what this process committed."""
        while self.given:
            self.woken.clear()
            row, batch = self.given.popleft()
            listed = [row]
            while self.given and len(batch) + len(self.given[0][1]) <= CLAIM_MAX:
                row, more = self.given.popleft()
                listed.append(row)
                batch += more
            await self.capture(batch, listed)
        self.woken.clear()

    async def work_outbox(self) -> int:
        """Claim what is due and nobody holds, once. Returns how many. Nothing while PostgreSQL may have gone back: what it
        calls due may have been a sale's money since. Raises `WentBack`."""
        if not await self.refunds.check_fence():
            return 0
        lease_ms, ours = self.settings.worker.lease_ms, written_in(self.gateway.books)
        async with self.database.writer() as connection:
            await connection.execute(UNLIST, UNLIST_MAX)
            dues = [Due(*row) for row in await connection.fetch(_CLAIM, lease_ms, CLAIM_MAX, *ours)]
        refunds = await self.refund_pump.claim(lease_ms, CLAIM_MAX)
        captures = [due for due in dues if due.due == "capture"]
        if captures:
            await self.capture(
                [
                    CaptureRequest(due.payment_key, due.reference or "", due.amount_cents, due.currency)
                    for due in captures
                ],
                [],
                {due.payment_key: due.tries for due in captures},
            )
        limit = asyncio.Semaphore(self.settings.gateway.concurrency)

        async def limited(work: Awaitable[None]) -> None:
            async with limit:
                await work

        # No task group: one failure is no reason to stop in the middle of the others, and before Python 3.11.3 a task whose
        # group has failed once ends at its next timeout.
        ended = await asyncio.gather(
            *(limited(self.void(due)) for due in dues if due.due != "capture"),
            *map(limited, refunds),
            return_exceptions=True,
        )
        if failed := [error for error in ended if isinstance(error, Exception)]:
            raise ExceptionGroup("not all of what was due could be done", failed)
        return len(dues) + len(refunds)

    async def tell_of_others(self) -> None:
        """What is due at another gateway than ours stays due: only a worker with that gateway can do it."""
        async with self.database.writer() as connection:
            for row in await connection.fetch(_OF_OTHERS, *written_in(self.gateway.books)):
                log.error("money.of_another_gateway", gateway=row["gateway"], payments=row["payments"],
                          ours=self.gateway.books)  # fmt: skip

    async def capture(
        self, requests: list[CaptureRequest], listed: list[int], tries: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Take the money, and say so; the rows that listed it are no longer needed then."""
        crashpoint("before_capture")
        outcomes = await self.gateway.capture_batch(requests)
        crashpoint("captured")
        done, unknown = [], []
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, Done):
                done.append(request.payment_key)
            elif isinstance(outcome, Refused):
                await self.refunds.capture_refused(request.payment_key, outcome.code)
            else:
                unknown.append((request.payment_key, outcome.reason))
        await self.ask_later(unknown, tries)
        if done or listed:
            await self.execute(CAPTURED, done, listed)
        crashpoint("capture_marked")

    async def void(self, due: Due) -> None:
        """Let money go. What the gateway does not know may still be on its way: look again for a day. Money that shows
        up for a hold that has ended buys its tickets after all, when there are some left."""
        late = False
        if due.status in ("unknown", "requires_action"):
            found = await self.gateway.lookup(due.payment_key, due.reference)
            late = isinstance(found, Found) and found.status in ("authorized", "captured")
            if late:
                charge = Charge(due.method, due.token or "", due.card_name, due.last4)
                if await self.late.revive(due.booking, due.payment_key, charge):
                    crashpoint("revived")
                    await self.execute(LATER, due.payment_key, 5_000)
                    return
                # Revived earlier, it may have been settled while we asked: then its money is a sale's.
                if not await self.is_to_be_voided(due.payment_key):
                    return
        crashpoint("before_void")
        outcome = await self.gateway.void(due.payment_key, due.reference)
        crashpoint("voided")
        match outcome:
            case Done() if late:
                await self.execute(CLOSE_LATE, due.payment_key)
            case Done():
                await self.execute(CLOSE, due.payment_key, "failed" if due.status == "unknown" else "voided")
            case NotFound() if due.old:
                await self.execute(CLOSE, due.payment_key, "failed")
            case AlreadyCaptured():
                await self.refunds.captured_too_late(due.payment_key)
            case _:
                if not isinstance(outcome, NotFound):
                    self.patience.unknown("void", due.payment_key, getattr(outcome, "reason", "refused"), due.tries)
                await self.execute(LATER, due.payment_key, self.patience.pause_ms(due.tries))

    async def ask_later(self, unknown: list[tuple[str, str]], tries: Mapping[str, int]) -> None:
        """Nobody can say whether these were captured. Many at once have one reason, and are told in one line."""
        new = [(key, reason) for key, reason in unknown if tries.get(key, 0) <= 1]
        if new:
            self.patience.unknown("capture", *new[0], tries=0, payments=len(new))
        for key, _ in unknown:
            await self.execute(LATER, key, self.patience.pause_ms(tries.get(key, 0)))

    async def is_to_be_voided(self, payment_key: str) -> bool:
        """Whether the payment's row says by now that it is to be let go."""
        async with self.database.writer() as connection:
            due = await connection.fetchval("SELECT due FROM payments WHERE payment_key = $1", payment_key)
        return bool(due == "void")

    async def execute(self, statement: str, *args: Any) -> None:
        """One statement, in a transaction of its own."""
        async with self.database.writer() as connection:
            await connection.execute(statement, *args)
