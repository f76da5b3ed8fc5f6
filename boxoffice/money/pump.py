"""What is due at the gateway after a commit: captures, voids, refunds. Payment and refund rows are the outbox.

A row is claimed by its lease column, so no lock and no transaction is open while the gateway is asked. The settling
transaction lists its own captures in one row of `captures`, leased to the worker that wrote it, which captures at once,
without a claim; whoever dies in between leaves a row whose lease ends, and then each of its payments is due by itself.

One file because one loop claims, asks the gateway and writes down what it said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from boxoffice.books import payments
from boxoffice.books.payments import DuePayment
from boxoffice.clock import CLOCK, Clock
from boxoffice.crashpoint import crashpoint
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
from boxoffice.money.spans import MoneyTraces
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import is_transient, sqlstate
from boxoffice.stores.record import Charge
from boxoffice.stores.waits import waits_for
from boxoffice.telemetry.seldom import seldom

__all__ = ["MoneyPump"]

log = structlog.get_logger()

CLAIM_MAX: Final = 500
"""Rows of one kind that are claimed at once."""

PAUSE_S: Final = 0.5
"""After an error, how long nothing is asked of the stores and the gateway."""

UNLIST_MAX: Final = 10
"""Lists taken apart in one sweep: at most `worker.batch_max` payments each, in one short statement."""

GIVEN_MAX: Final = 20_000
"""Captures that may wait in this process; beyond it they are left to the outbox."""


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
        self.traces = MoneyTraces(clock.now_s)
        self.refund_pump = RefundPump(database, gateway, self.patience, self.traces)
        self.given: deque[tuple[int, list[CaptureRequest]]] = deque()
        self.woken = asyncio.Event()
        self._stopping = False

    def give(
        self, listed: int, requests: list[CaptureRequest], traces: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        """Captures that were just committed, leased to us in one row of `captures`; `traces`: as `MoneyTraces.given`."""
        if sum(len(given) for _, given in self.given) < GIVEN_MAX:
            self.traces.given.update(traces or {})
            self.given.append((listed, requests))
            self.woken.set()

    async def run(self) -> None:
        """Work until `stop`. What this process was given comes first; the outbox is looked at once a sweep, and again at once
        while it is full."""
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
                    if await self.work_outbox() >= CLAIM_MAX:  # as many again may be due
                        next_sweep = 0.0
                        self.woken.set()
                    if paused_at is not None:
                        log.info("money.resumed", seconds=round(self.clock.now_s() - paused_at, 1))
                        paused_at = None
            except Exception as error:
                self.traces.given.clear()
                if is_transient(error):
                    if paused_at is None:
                        paused_at = self.clock.now_s()
                        log.warning(
                            "money.paused", waits_for=waits_for(error), error=type(error).__name__, code=sqlstate(error)
                        )
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
        lease_ms = self.settings.worker.lease_ms
        self.traces.due.clear()
        async with self.database.writer() as connection:
            await payments.unlist_lapsed(connection, UNLIST_MAX)
            dues = await payments.claim_due(connection, lease_ms, CLAIM_MAX, self.gateway.books)
        await self.traces.find(self.database, [due.payment_key for due in dues])
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

    async def say_what_others_owe(self) -> None:
        """What is due at another gateway than ours stays due: only a worker with that gateway can do it."""
        async with self.database.writer() as connection:
            for books, count in await payments.due_in_other_books(connection, self.gateway.books):
                log.error("money.of_another_gateway", gateway=books, payments=count, ours=self.gateway.books)

    async def capture(
        self, requests: list[CaptureRequest], listed: list[int], tries: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Take the money, and say so; the rows that listed it are no longer needed then."""
        crashpoint("before_capture")
        began_s = self.clock.now_s()
        outcomes = await self.gateway.capture_batch(requests)
        crashpoint("captured")
        if self.traces.given or self.traces.due:
            for request, outcome in zip(requests, outcomes, strict=True):
                self.traces.called("capture", request.payment_key, outcome, began_s)
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
            await payments.mark_captured(self.database, done, listed)
        crashpoint("capture_marked")

    async def void(self, due: DuePayment) -> None:
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
                    await payments.put_off(self.database, due.payment_key, 5_000)
                    return
                # Revived earlier, it may have been settled while we asked: then its money is a sale's.
                if not await self.is_to_be_voided(due.payment_key):
                    return
        crashpoint("before_void")
        began_s = self.clock.now_s()
        outcome = await self.gateway.void(due.payment_key, due.reference)
        crashpoint("voided")
        self.traces.called("void", due.payment_key, outcome, began_s)
        match outcome:
            case Done() if late:
                await payments.close_late_void(self.database, due.payment_key)
            case Done():
                status = "failed" if due.status == "unknown" else "voided"
                await payments.close_void(self.database, due.payment_key, status)
            case NotFound() if due.old:
                await payments.close_void(self.database, due.payment_key, "failed")
            case AlreadyCaptured(captured_cents):
                await self.refunds.captured_too_late(due.payment_key, captured_cents)
            case _:
                if not isinstance(outcome, NotFound):
                    self.patience.unknown("void", due.payment_key, getattr(outcome, "reason", "refused"), due.tries)
                await payments.put_off(self.database, due.payment_key, self.patience.pause_ms(due.tries))

    async def ask_later(self, unknown: list[tuple[str, str]], tries: Mapping[str, int]) -> None:
        """Nobody can say whether these were captured. Many at once have one reason, and are told in one line."""
        new = [(key, reason) for key, reason in unknown if tries.get(key, 0) <= 1]
        if new:
            self.patience.unknown("capture", *new[0], tries=0, payments=len(new))
        for key, _ in unknown:
            await payments.put_off(self.database, key, self.patience.pause_ms(tries.get(key, 0)))

    async def is_to_be_voided(self, payment_key: str) -> bool:
        """Whether the payment's row says by now that it is to be let go."""
        async with self.database.writer() as connection:
            return await payments.is_to_be_voided(connection, payment_key)
