"""What was given back of a booking before. Nothing here changes anything: whoever asks holds the booking's row."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from boxoffice.stores.database import Connection

__all__ = ["Earlier", "earlier", "is_there", "owed_tiers", "refund_before", "refused_once"]

_OWED_TIERS: Final = """
SELECT amount_cents, ARRAY(SELECT m.tier_id FROM stock_moves m WHERE m.refund_key = r.refund_key) AS tiers
FROM refunds r WHERE booking_id = $1::uuid AND status = 'owed'
"""

_REFUSED_ONCE: Final = """
SELECT refund_key FROM refunds
WHERE booking_id = $1::uuid AND attempt > 0 AND status IN ('due', 'pending', 'succeeded', 'owed')
ORDER BY updated_at DESC, refund_key LIMIT 1
"""

_EARLIER: Final = """
SELECT refund_key, amount_cents, currency, status FROM refunds
WHERE booking_id = $1::uuid AND ($2::text IS NULL OR refund_key = $2) ORDER BY created_at DESC LIMIT 1
"""


class Earlier(NamedTuple):
    """A refund that was made before."""

    refund_key: str
    amount_cents: int
    currency: str
    status: str


async def owed_tiers(connection: Connection, booking_id: str) -> list[tuple[int, list[str]]]:
    """Cents of each refund that is owed, with the tiers whose tickets came back. Moves are trimmed after a month: then none."""
    return [tuple(row) for row in await connection.fetch(_OWED_TIERS, booking_id)]


async def refused_once(connection: Connection, booking_id: str) -> str | None:
    """Key of the refund that moved last of those that the gateway has refused, whatever has become of it since."""
    key: str | None = await connection.fetchval(_REFUSED_ONCE, booking_id)
    return key


async def refund_before(connection: Connection, refund_key: str) -> Any:
    """The row with the `fingerprint` of the request that asked for this refund; None when there is no such refund. Rows of
    earlier versions have no fingerprint."""
    return await connection.fetchrow("SELECT fingerprint FROM refunds WHERE refund_key = $1", refund_key)


async def is_there(connection: Connection, refund_key: str) -> bool:
    """Whether there is such a refund."""
    return bool(await connection.fetchval("SELECT true FROM refunds WHERE refund_key = $1", refund_key))


async def earlier(connection: Connection, booking_id: str, refund_key: str | None) -> Earlier | None:
    """That refund of the booking, or (None) its latest."""
    row = await connection.fetchrow(_EARLIER, booking_id, refund_key)
    return Earlier(*row) if row is not None else None
