"""Gives back what is due, and reads at the gateway what became of it: one part of the money pump.

Unknown outcomes are asked again under the same key. Only when the gateway is known to have refused an attempt does the
next one get a key of its own; until a person asks for it, the money is owed.
"""

from __future__ import annotations

from collections.abc import Awaitable

from boxoffice.books import looks, refunds
from boxoffice.books.looks import Look
from boxoffice.books.refunds import DueRefund
from boxoffice.crashpoint import crashpoint
from boxoffice.gateway.base import Done, PaymentGateway, Pending, Refused, Reversals, Unknown
from boxoffice.money.owed import attempt_key
from boxoffice.money.patience import Patience
from boxoffice.money.reversals import RefusedAttempt, take_in
from boxoffice.money.spans import MoneyTraces
from boxoffice.stores.database import Database

__all__ = ["RefundPump"]


class RefundPump:
    """Works off refunds that are due, and looks at payments whose refunds or disputes the gateway has news of."""

    def __init__(
        self, database: Database, gateway: PaymentGateway, patience: Patience, traces: MoneyTraces
    ) -> None:  # fmt: skip
        self._database = database
        self._gateway = gateway
        self._patience = patience
        self._traces = traces

    async def claim(self, lease_ms: int, most: int) -> list[Awaitable[None]]:
        """What is due and nobody holds, each as work to be awaited."""
        books = self._gateway.books
        async with self._database.writer() as connection:
            dues = await refunds.claim_due(connection, lease_ms, most, books)
            seen = await looks.claim_due(connection, lease_ms, most, books)
        await self._traces.find(self._database, [due.payment_key for due in dues])
        return [*map(self.refund, dues), *map(self.look_at, seen)]

    async def refund(self, due: DueRefund) -> None:
        """Ask the gateway for one that is due, and write down what it says."""
        crashpoint("before_refund")
        began_s = self._traces.now_s()
        outcome = await self._gateway.refund(
            attempt_key(due.refund_key, due.attempt), due.payment_key, due.reference or "", due.amount_cents
        )
        crashpoint("refunded")
        self._traces.called("refund", due.payment_key, outcome, began_s)
        match outcome:
            case Done(reference):
                await self._taken(due, "succeeded", reference, None)
            case Pending(reference, reason):
                await self._taken(due, "pending", reference, reason)
            case Refused(code):
                await self._refused(due, code)
            case Unknown(reason):
                await self._later(due, reason)

    async def _taken(self, due: DueRefund, status: str, reference: str, reason: str | None) -> None:
        self._patience.known("refund", due.refund_key, due.tries)
        look_ms = self._patience.pause_ms(0)
        await refunds.answer(self._database, due.refund_key, due.attempt, status, reference, reason, look_ms)

    async def _refused(self, due: DueRefund, code: str) -> None:
        """No error is believed before the payment was read: too little may be left, because somebody refunded it at the
        gateway itself; or the refund is there after all."""
        seen = await self._gateway.reversals(due.payment_key, due.reference or "")
        if not isinstance(seen, Reversals):
            await self._later(due, "refused, and not read")
            return
        self._patience.known("refund", due.refund_key, due.tries)
        crashpoint("refusal_read")
        async with self._database.begin() as connection:
            await take_in(connection, due.payment_key, seen, RefusedAttempt(due.refund_key, due.attempt, code))
            crashpoint("owed_written")

    async def _later(self, due: DueRefund, reason: str) -> None:
        self._patience.unknown("refund", due.refund_key, reason, due.tries)
        await refunds.put_off(self._database, due.refund_key, due.attempt, self._patience.pause_ms(due.tries))

    async def look_at(self, look: Look) -> None:
        """Read a payment's refunds and disputes at the gateway, and take them in."""
        seen = await self._gateway.reversals(look.payment_key, look.reference or "")
        crashpoint("looked_at")
        pending: bool | None = isinstance(seen, Unknown)
        if isinstance(seen, Reversals):
            async with self._database.begin() as connection:
                pending = await take_in(connection, look.payment_key, seen)
            crashpoint("taken_in")
        elif isinstance(seen, Unknown):
            self._patience.unknown("look", look.payment_key, seen.reason, look.tries)
        if pending:
            pause_ms = self._patience.pause_ms(look.tries)
            await looks.put_off(self._database, look.payment_key, look.leased_until, pause_ms)
        else:
            await looks.close(self._database, look.payment_key, look.leased_until)
