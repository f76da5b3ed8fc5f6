"""Bookings that wait for somebody else: a customer in 3-D Secure, a gateway that has not answered. Neither lost nor late."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

__all__ = ["undecided"]

_UNDECIDED: Final = """
SELECT DISTINCT b.id::text AS id FROM bookings b JOIN payments p ON p.booking_id = b.id
WHERE b.status = 'pending' AND p.status IN ('unknown', 'requires_action')
  AND now() < coalesce(b.expires_at, p.created_at + $1 * interval '1 second') + $2 * interval '1 second'
"""

OVERDUE_S: Final = 60.0
"""So long after its deadline a payment may still be looked up and let go."""


async def undecided(pool: asyncpg.Pool[Any] | asyncpg.Connection[Any], deadline_s: float) -> frozenset[str]:
    """Their ids. One that has waited for longer than its hold, or `gateway.deadline_s`, lasts is none of them."""
    return frozenset(row["id"] for row in await pool.fetch(_UNDECIDED, deadline_s, OVERDUE_S))
