"""A sale of any size, written by PostgreSQL itself in seconds: confirmed, paid, every hundredth refunded."""

from __future__ import annotations

import asyncpg

from boxoffice.sales.catalogue import EventView

__all__ = ["sell_many"]

_STATEMENTS = (
    """CREATE TEMPORARY TABLE made AS SELECT gen, (lpad(to_hex(1700000000000 + gen), 12, '0') || '7001'
       || '8' || lpad(to_hex(gen), 15, '0'))::uuid AS id FROM generate_series(1, $1::int) AS gen""",
    """INSERT INTO bookings (id, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key,
         fingerprint, sequence, created_at)
       SELECT id, $1, $2, 'customer-' || gen, 'order-' || gen, 'confirmed', 3000, 'USD', md5(gen::text), md5('f' || gen), gen,
         to_timestamp(1700000000 + gen / 1000.0) FROM made""",
    """INSERT INTO booking_items (booking_id, tier_id, quantity, unit_price_cents, line_total_cents)
       SELECT id, $1, 3, 1000, 3000 FROM made""",
    """INSERT INTO payments (payment_key, booking_id, gateway, method, last4, amount_cents, currency, status, reference)
       SELECT md5('p' || gen), id, 'simulator', 'card', '4242', 3000, 'USD', 'captured', 'sim_' || gen FROM made""",
    """INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason)
       SELECT md5('r' || gen), id, md5('p' || gen), 1000, 'USD', 'succeeded', 'requested' FROM made WHERE gen % 100 = 0""",
)

INDEXED_MAX = 100_000
"""More rows than these are indexed once they are there: in an order that is none of an index, each takes a write of its own."""

_INDEXES = """
SELECT i.indexname, i.indexdef FROM pg_indexes i
WHERE i.tablename IN ('bookings', 'payments', 'refunds') AND i.indexname NOT IN (SELECT conname FROM pg_constraint)
"""


async def sell_many(url: str, event: EventView, client: str, count: int) -> None:
    """So many bookings of three tickets of the event's first tier."""
    connection = await asyncpg.connect(url)
    arguments = ((count,), (client, event.id), (event.tiers[0].id,), (), ())
    try:
        await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        indexes = await connection.fetch(_INDEXES) if count > INDEXED_MAX else []
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        try:
            for statement, values in zip(_STATEMENTS, arguments, strict=True):
                await connection.execute(statement, *values)
        finally:
            for index in indexes:
                await connection.execute(index["indexdef"])
        await connection.execute("DROP TABLE made")
        await connection.execute("ANALYZE bookings, booking_items, payments, refunds")
    finally:
        await connection.close()
