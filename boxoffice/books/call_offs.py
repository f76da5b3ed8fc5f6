"""Events that are called off: what a worker has still to give back, given back in chunks, and how far it has got.

A chunk is one transaction under the locks of all inventory rows of the event, as every sale and cancellation of it takes them:
whatever it finds confirmed it cancels, with a refund of all that was paid and not given back. A chunk that is done
again finds nothing confirmed, and the key of a refund is made of its booking: so each is refunded once.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from boxoffice import ids
from boxoffice.books.inventory import lock_inventory
from boxoffice.books.notices import NOTICE_OF_REFUNDS, notice_of
from boxoffice.books.sold import PAID
from boxoffice.crashpoint import crashpoint
from boxoffice.states import CALLED_OFF
from boxoffice.stores import fence
from boxoffice.stores.database import Connection, Database, Reader
from boxoffice.stores.shard import Shard

__all__ = ["CHUNK", "Report", "begin", "finish", "give_back", "read", "unfinished"]

CHUNK: Final = 200
"""Bookings of one transaction."""

REFUSED_MAX: Final = 100
"""Refunds that a report names. All of them: `boxoffice payments owed`."""

_BEGIN: Final = "INSERT INTO call_offs (event_id, reason, called_off_by) VALUES ($1, $2, $3)"

_CLOSE: Final = """
UPDATE inventory SET called_off = true, version = version + 1, updated_at = now()
WHERE tier_id IN (SELECT id FROM tiers WHERE event_id = $1)
"""

_UNFINISHED: Final = """
SELECT c.event_id FROM call_offs c JOIN events e ON e.id = c.event_id
WHERE c.finished_at IS NULL AND e.shard = $1 ORDER BY c.started_at, c.event_id
"""

_FINISH: Final = """
UPDATE call_offs SET finished_at = now() WHERE event_id = $1 AND finished_at IS NULL
  AND NOT EXISTS (SELECT FROM bookings WHERE event_id = $1 AND status IN ('confirmed', 'pending', 'held'))
RETURNING true
"""

_CONFIRMED: Final = """
SELECT id, client_id, customer_id, owner, access_code FROM bookings
WHERE event_id = $1 AND status = 'confirmed' LIMIT $2 FOR UPDATE
"""

_LOCK_PAYMENTS: Final = f"""
SELECT FROM payments WHERE booking_id = ANY($1::uuid[]) AND {PAID} ORDER BY payment_key FOR UPDATE
"""

_REFUND: Final = f"""
WITH due AS (
  SELECT b.id, a.refund_key, b.currency, p.payment_key, coalesce(greatest(0, least(p.cents, (
    SELECT sum((i.quantity - i.refunded)::bigint * i.unit_price_cents) FROM booking_items i WHERE i.booking_id = b.id
  ))), 0)::bigint AS cents
  FROM unnest($1::uuid[], $2::text[]) AS a (id, refund_key) JOIN bookings b ON b.id = a.id LEFT JOIN LATERAL (
    SELECT payment_key, amount_cents - refunded_cents - (
      SELECT coalesce(sum(r.amount_cents), 0) FROM refunds r
      WHERE r.payment_key = payments.payment_key AND r.status IN ('owed', 'written_off')
    ) AS cents
    FROM payments WHERE booking_id = b.id AND {PAID} LIMIT 1
  ) p ON true
), taken AS (
  UPDATE payments p SET refunded_cents = refunded_cents + due.cents, updated_at = now()
  FROM due WHERE p.payment_key = due.payment_key AND due.cents > 0
), moved AS (
  INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status, items)
  SELECT refund_key, id, payment_key, cents, currency, $3, CASE WHEN cents = 0 THEN 'succeeded' ELSE 'due' END, (
    SELECT jsonb_object_agg(i.tier_id, i.quantity - i.refunded) FROM booking_items i
    WHERE i.booking_id = due.id AND i.quantity > i.refunded
  ) FROM due
  RETURNING booking_id AS booking, refund_key AS key, status, amount_cents AS cents, failure_code
)
{NOTICE_OF_REFUNDS}
"""

_MOVE: Final = """
INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, owner, refund_key)
SELECT $1, i.tier_id, i.booking_id, i.refunded - i.quantity, a.owner, a.refund_key
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS a (id, refund_key, owner)
JOIN booking_items i ON i.booking_id = a.id WHERE i.quantity > i.refunded
"""

_UNSELL: Final = """
UPDATE inventory v SET sold = v.sold - back.quantity, version = v.version + 1, updated_at = now()
FROM (SELECT tier_id, sum(quantity - refunded)::int AS quantity FROM booking_items WHERE booking_id = ANY($1::uuid[])
      GROUP BY tier_id) AS back
WHERE v.tier_id = back.tier_id
"""

_RETURN: Final = "UPDATE booking_items SET refunded = quantity WHERE booking_id = ANY($1::uuid[])"

_CANCEL: Final = f"""
WITH moved AS (
  UPDATE bookings SET status = 'cancelled', failure_code = $2, updated_at = now() WHERE id = ANY($1::uuid[])
  RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.cancelled'", "jsonb_build_object('failure_code', $2::text)")}
"""

_REPORT: Final = """
SELECT c.reason, c.called_off_by, c.started_at, c.finished_at,
       (SELECT json_object_agg(status, n) FROM (
          SELECT status, count(*) AS n FROM bookings WHERE event_id = $1 AND duplicate_of IS NULL GROUP BY 1) b) AS bookings,
       (SELECT json_object_agg(status, json_build_object('refunds', n, 'cents', cents)) FROM (
          SELECT r.status, count(*) AS n, sum(r.amount_cents) AS cents FROM refunds r JOIN bookings b ON b.id = r.booking_id
          WHERE b.event_id = $1 AND r.reason = $2 GROUP BY r.status) r) AS refunds
FROM call_offs c WHERE c.event_id = $1
"""

_REFUSED: Final = f"""
SELECT r.booking_id::text AS booking_id, r.amount_cents, r.currency, r.failure_code AS code
FROM refunds r JOIN bookings b ON b.id = r.booking_id WHERE b.event_id = $1 AND r.status = 'owed'
  AND ($2::text IS NULL OR b.client_id = $2)
ORDER BY r.owed_since, r.refund_key LIMIT {REFUSED_MAX}
"""


class Report(NamedTuple):
    """How far it has got. `bookings` by status; `refunds` by status, each with how many and how much; `refused` by the gateway,
    so owed: up to `REFUSED_MAX` of them."""

    reason: str
    called_off_by: str
    started_at: Any
    finished_at: Any
    bookings: str
    refunds: str
    refused: list[dict[str, Any]]


async def begin(connection: Connection, event_id: str, tiers: list[str], reason: str, by: str) -> None:
    """In the transaction that calls the event off: from its commit on, nothing of it is confirmed."""
    await lock_inventory(connection, tiers)
    await connection.execute(_CLOSE, event_id)
    await connection.execute(_BEGIN, event_id, reason, by)


async def unfinished(reader: Reader, shard: int) -> list[str]:
    """Events of the shard that are called off, and not all given back."""
    return [row["event_id"] for row in await reader.fetch(_UNFINISHED, shard)]


async def give_back(database: Database, here: Shard, event_id: str, *, tries: int) -> int:
    """Cancel and refund a chunk of what is confirmed. Returns how many bookings. Raises PostgreSQL's errors, and Redis's."""

    async def transact(connection: Connection) -> tuple[int, fence.Pair | None]:
        await fence.check(connection, here)
        tiers = await connection.fetch("SELECT id FROM tiers WHERE event_id = $1", event_id)
        await lock_inventory(connection, [tier["id"] for tier in tiers])
        found = await connection.fetch(_CONFIRMED, event_id, CHUNK)
        if not found:
            return 0, None
        bookings = [row["id"] for row in found]
        refund_keys = [ids.digest(str(booking), CALLED_OFF) for booking in bookings]
        owners = [
            ids.owners_of(
                row["owner"] or ids.owner_digest(row["client_id"], row["customer_id"]),
                row["access_code"],
                row["client_id"],
            )
            for row in found
        ]
        await connection.execute(_LOCK_PAYMENTS, bookings)
        await connection.execute(_REFUND, bookings, refund_keys, CALLED_OFF)
        await connection.execute(_MOVE, event_id, bookings, refund_keys, owners)
        await connection.execute(_UNSELL, bookings)
        await connection.execute(_RETURN, bookings)
        await connection.execute(_CANCEL, bookings, CALLED_OFF)
        pair = await fence.open_batch(connection, here.number, ())
        crashpoint("call_off_written")
        return len(bookings), pair

    done, pair = await database.transaction(transact, tries=tries)
    if pair:
        crashpoint("call_off_committed")
        await fence.tell(here, pair)
    return done


async def finish(database: Database, event_id: str) -> bool:
    """For who found nothing held or pending in Redis: if nothing is confirmed or undecided in PostgreSQL either, all is given
    back, or owed."""
    return bool(await database.fetchval(_FINISH, event_id))


async def read(reader: Reader, event_id: str, client: str | None) -> Report | None:
    """None for an event that is not called off. `refused` has those of this client's bookings; None: of everybody's."""
    row = await reader.fetchrow(_REPORT, event_id, CALLED_OFF)
    if row is None:
        return None
    refused = [dict(each) for each in await reader.fetch(_REFUSED, event_id, client)]
    return Report(
        row["reason"], row["called_off_by"], row["started_at"], row["finished_at"], row["bookings"], row["refunds"], refused
    )  # fmt: skip
