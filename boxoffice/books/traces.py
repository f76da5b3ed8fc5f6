"""Where the traces of sampled bookings are kept, from the commit of a booking until `trim` forgets them.

A trace is worth less than any booking and any money: whatever PostgreSQL says of it, whoever settles and pays goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from boxoffice.stores.database import Connection, Reader
from boxoffice.stores.postgres import sqlstate
from boxoffice.telemetry.seldom import seldom

__all__ = ["TracesLost", "keep", "of_payments"]


class TracesLost(Exception):
    """These traces are lost. Nothing else need be."""


_KEEP: Final = """
INSERT INTO booking_traces (booking_id, traceparent)
SELECT id, traceparent FROM unnest($1::uuid[], $2::text[]) AS new (id, traceparent)
ON CONFLICT (booking_id) DO NOTHING
"""
"""A booking keeps the trace that it had first."""

_OF_PAYMENTS: Final = """
SELECT due.payment_key, t.traceparent FROM unnest($1::text[]) AS due (payment_key)
CROSS JOIN LATERAL (SELECT booking_id FROM payments p WHERE p.payment_key = due.payment_key LIMIT 1) AS paid
CROSS JOIN LATERAL (SELECT traceparent FROM booking_traces b WHERE b.booking_id = paid.booking_id LIMIT 1) AS t
"""
"""LIMIT keeps each an index look-up: as a join, with statistics of an empty table, it would read all payments."""


async def keep(connection: Connection, traces: Mapping[str, str]) -> None:
    """Booking id to the `traceparent` of the request that it came with, for whatever becomes of it later.

    Raises `TracesLost` after an error, which is logged: the transaction is over then, and is done again without them. A
    savepoint would cost two more round trips for each.
    """
    if not traces:
        return
    try:
        await connection.execute(_KEEP, list(traces), list(traces.values()))
    except Exception as error:
        _say_lost("keep", error)
        raise TracesLost from error


async def of_payments(reader: Reader, payment_keys: Sequence[str]) -> dict[str, str]:
    """Payment key to the `traceparent` of its booking, of those whose bookings are traced. Changes nothing.

    None after an error, which is logged: the session may be of no more use then.
    """
    try:
        return {row["payment_key"]: row["traceparent"] for row in await reader.fetch(_OF_PAYMENTS, payment_keys)}
    except Exception as error:
        _say_lost("find", error)
        return {}


def _say_lost(verb: str, error: Exception) -> None:
    seldom.warning("traces.lost", verb=verb, error=type(error).__name__, code=sqlstate(error))
