"""Money that is owed: refunds that the gateway refused. Tried again by a shop or an operator, or written off by a person.

An attempt that was refused is over: the next one has another key at the gateway. So trying again, however often and by
whomever, never pays twice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import structlog

from boxoffice.books import payments, refunds
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import CannotRun, NotFound
from boxoffice.stores.database import Connection, Database

__all__ = ["OwedMoney", "OwedRefund", "attempt_key", "try_again"]

log = structlog.get_logger()

_OPEN: Final = """
SELECT refund_key, booking_id::text AS booking, payment_key, amount_cents, currency, failure_code,
       to_char(owed_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since, attempt AS attempts, origin
FROM refunds WHERE status = 'owed' AND ($1::text IS NULL OR booking_id::text = $1 OR refund_key = $1)
ORDER BY owed_since, refund_key
"""


class OwedRefund(NamedTuple):
    """One refund that the gateway refused."""

    refund_key: str
    booking: str
    payment_key: str
    amount_cents: int
    currency: str
    failure_code: str
    since: str
    """ISO 8601, in UTC."""
    attempts: int
    """How often it was refused."""
    origin: str


class OwedMoney:
    """What operators do with money that is owed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, which: str | None = None) -> list[OwedRefund]:
        """All that is owed, oldest first; or of one booking, or one refund. Raises PostgreSQL's errors."""
        return [OwedRefund(*row) for row in await self._database.fetch(_OPEN, which)]

    async def retry(self, which: str | None) -> list[OwedRefund]:
        """Let a worker ask the gateway again: for one booking's, one refund, or (None) all. Returns what was owed.

        Raises `NotFound` when nothing of it is owed.
        """
        owed = await self.find(which)
        if which is not None and not owed:
            raise NotFound("Nothing of that is owed.")
        tried = []
        for refund in owed:
            async with self._database.begin() as connection:
                if await try_again(connection, refund.booking, refund.refund_key):
                    tried.append(refund)
        return tried

    async def write_off(self, which: str, by: str, reason: str) -> list[OwedRefund]:
        """End it without the gateway: it was paid by other means, or never will be. Who says so, and why, is kept.

        Raises `NotFound` when nothing of it is owed, `CannotRun` without a name or a reason.
        """
        by, reason = by.strip(), reason.strip()
        if not by or not reason:
            raise CannotRun("Whoever writes money off says who they are, and why.")
        owed = {refund.refund_key: refund for refund in await self.find(which)}
        ended = await refunds.write_off(self._database, which, by, reason)
        if not ended:
            raise NotFound("Nothing of that is owed. What is on its way at the gateway cannot be written off.")
        for refund in ended:
            log.warning("refund.written_off", refund_key=refund.refund_key, booking_id=refund.booking,
                        amount_cents=refund.amount_cents)  # fmt: skip
        return [owed[refund.refund_key] for refund in ended if refund.refund_key in owed]


def attempt_key(refund_key: str, attempt: int) -> str:
    """What the gateway knows an attempt by. The first has the refund's own key."""
    return f"{refund_key}-{attempt}" if attempt else refund_key


async def try_again(connection: Connection, booking: str, refund_key: str | None = None) -> list[tuple[str, int]]:
    """Make due what is owed of a booking, or one of its refunds. Key and cents of each.

    In the caller's transaction; its locks come before those of refunds, so that two who try again do it once.
    """
    locked = await refunds.lock_owed_payments(connection, booking)
    if not locked:
        return []
    tried = await refunds.try_again(connection, booking, refund_key)
    for payment_key in locked:
        await payments.recount_refunded(connection, payment_key)
    crashpoint("retry_written")
    if tried:
        log.info(
            "refund.retried", booking_id=booking, refunds=len(tried), amount_cents=sum(cents for _, cents in tried)
        )
    return tried
