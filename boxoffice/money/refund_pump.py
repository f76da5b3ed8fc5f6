"""Gives back what is due, and reads at the gateway what became of it: one part of the money pump.

Unknown outcomes are asked again under the same key. Only when the gateway is known to have refused an attempt does the
next one get a key of its own; until a person asks for it, the money is owed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog

from boxoffice.crashpoint import crashpoint
from boxoffice.gateway.accounts import WRITTEN_IN, written_in
from boxoffice.gateway.base import Done, PaymentGateway, Pending, Refused, Reversals, Unknown
from boxoffice.money.owed import attempt_key
from boxoffice.money.patience import Patience
from boxoffice.money.reversals import Asked, take_in
from boxoffice.stores.database import Database

__all__ = ["RefundPump"]

log = structlog.get_logger()

_CLAIM: Final = f"""
WITH free AS MATERIALIZED (
  SELECT f.refund_key, p.reference
  FROM refunds f JOIN payments p ON p.payment_key = f.payment_key
  WHERE f.status = 'due' AND f.due_at <= now() AND (f.leased_until IS NULL OR f.leased_until < now())
    AND p.status = 'captured' AND {WRITTEN_IN.format("$3", "$4")}
  ORDER BY f.due_at LIMIT $2 FOR UPDATE OF f SKIP LOCKED)
UPDATE refunds r SET leased_until = now() + $1 * interval '1 millisecond', tries = r.tries + 1
FROM free WHERE r.refund_key = free.refund_key
RETURNING r.refund_key, r.payment_key, free.reference, r.amount_cents, r.attempt, r.tries
"""
"""A refund waits until its payment is captured: only then is there anything to give back."""

_CLAIM_LOOKS: Final = f"""
WITH free AS MATERIALIZED (
  SELECT k.payment_key, p.reference FROM looks k JOIN payments p ON p.payment_key = k.payment_key
  WHERE k.due_at <= now() AND (k.leased_until IS NULL OR k.leased_until < now())
    AND {WRITTEN_IN.format("$3", "$4")}
  ORDER BY k.due_at LIMIT $2 FOR UPDATE OF k SKIP LOCKED)
UPDATE looks l SET leased_until = now() + $1 * interval '1 millisecond', tries = l.tries + 1
FROM free WHERE l.payment_key = free.payment_key
RETURNING l.payment_key, free.reference, l.tries, l.leased_until
"""

TAKEN: Final = """
WITH taken AS (
  UPDATE refunds SET status = $3, reference = $4, failure_code = $5, leased_until = NULL, updated_at = now()
  WHERE refund_key = $1 AND status = 'due' AND attempt = $2 RETURNING payment_key)
INSERT INTO looks (payment_key, due_at)
SELECT payment_key, now() + $6 * interval '1 millisecond' FROM taken WHERE $3 = 'pending'
ON CONFLICT (payment_key) DO NOTHING
"""
"""Whoever was overtaken writes nothing: the attempt is not the same any more."""

LATER: Final = """
UPDATE refunds SET due_at = now() + $3 * interval '1 millisecond', leased_until = NULL, updated_at = now()
WHERE refund_key = $1 AND status = 'due' AND attempt = $2
"""

SEEN: Final = "DELETE FROM looks WHERE payment_key = $1 AND leased_until = $2"

LOOK_LATER: Final = """
UPDATE looks SET due_at = now() + $3 * interval '1 millisecond', leased_until = NULL
WHERE payment_key = $1 AND leased_until = $2
"""
"""News that came while we looked has ended our lease: then it is looked at once more."""


class Due(NamedTuple):
    refund_key: str
    payment_key: str
    reference: str | None
    amount_cents: int
    attempt: int
    tries: int


class Look(NamedTuple):
    payment_key: str
    reference: str | None
    tries: int
    leased_until: datetime


class RefundPump:
    """Works off refunds that are due, and looks at payments whose refunds or disputes the gateway has news of."""

    def __init__(self, database: Database, gateway: PaymentGateway, patience: Patience) -> None:
        self._database = database
        self._gateway = gateway
        self._patience = patience

    async def claim(self, lease_ms: int, most: int) -> list[Awaitable[None]]:
        """What is due and nobody holds, each as work to be awaited."""
        ours = written_in(self._gateway.books)
        async with self._database.writer() as connection:
            dues = [Due(*row) for row in await connection.fetch(_CLAIM, lease_ms, most, *ours)]
            looks = [Look(*row) for row in await connection.fetch(_CLAIM_LOOKS, lease_ms, most, *ours)]
        return [*map(self.refund, dues), *map(self.look_at, looks)]

    async def refund(self, due: Due) -> None:
        """Ask the gateway for one that is due, and write down what it says."""
        crashpoint("before_refund")
        outcome = await self._gateway.refund(
            attempt_key(due.refund_key, due.attempt), due.payment_key, due.reference or "", due.amount_cents
        )
        crashpoint("refunded")
        match outcome:
            case Done(reference):
                await self._taken(due, "succeeded", reference, None)
            case Pending(reference, reason):
                await self._taken(due, "pending", reference, reason)
            case Refused(code):
                await self._refused(due, code)
            case Unknown(reason):
                await self._later(due, reason)

    async def _taken(self, due: Due, status: str, reference: str, reason: str | None) -> None:
        self._patience.known("refund", due.refund_key, due.tries)
        await self.execute(TAKEN, due.refund_key, due.attempt, status, reference, reason, self._patience.pause_ms(0))

    async def _refused(self, due: Due, code: str) -> None:
        """No error is believed before the payment was read: too little may be left, because somebody refunded it at the
        gateway itself; or the refund is there after all."""
        seen = await self._gateway.reversals(due.payment_key, due.reference or "")
        if not isinstance(seen, Reversals):
            await self._later(due, "refused, and not read")
            return
        self._patience.known("refund", due.refund_key, due.tries)
        crashpoint("refusal_read")
        async with self._database.begin() as connection:
            await take_in(connection, due.payment_key, seen, Asked(due.refund_key, due.attempt, code))
            crashpoint("owed_written")

    async def _later(self, due: Due, reason: str) -> None:
        self._patience.unknown("refund", due.refund_key, reason, due.tries)
        await self.execute(LATER, due.refund_key, due.attempt, self._patience.pause_ms(due.tries))

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
            await self.execute(LOOK_LATER, look.payment_key, look.leased_until, pause_ms)
        else:
            await self.execute(SEEN, look.payment_key, look.leased_until)

    async def execute(self, statement: str, *args: Any) -> None:
        """One statement, in a transaction of its own."""
        async with self._database.writer() as connection:
            await connection.execute(statement, *args)
