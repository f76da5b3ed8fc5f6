"""Where the row of one booking moves outside a settlement. A settlement moves its batch in `rows.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from boxoffice.books.items import rewrite_items
from boxoffice.books.notices import PAID_TOO_LATE, notice_of
from boxoffice.stores.database import Connection, Reader, Writer
from boxoffice.stores.record import Record

__all__ = ["cancel", "change_hold", "end_holds", "extend_hold", "lock_hold", "mark_paid_too_late"]

_LOCK_HOLD: Final = "SELECT true FROM bookings WHERE id = $1::uuid AND status = 'held' FOR UPDATE"

_END_HOLDS: Final = f"""
WITH moved AS (
  UPDATE bookings SET status = $2, updated_at = now() WHERE id = ANY($1::uuid[]) AND status = 'held'
  RETURNING id AS booking, client_id, event_id, failure_code),
told AS ({notice_of("moved", "'booking.' || $2", "jsonb_strip_nulls(jsonb_build_object('failure_code', m.failure_code))")})
SELECT count(*) FROM moved
"""

_EXTEND_HOLD: Final = f"""
WITH moved AS (
  UPDATE bookings SET expires_at = to_timestamp($2 / 1000.0), updated_at = now() WHERE id = $1::uuid AND status = 'held'
  RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.changed'")}
"""

_CANCEL: Final = f"""
WITH moved AS (
  UPDATE bookings SET status = 'cancelled', failure_code = $2, updated_at = now() WHERE id = $1::uuid
  RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.cancelled'", "jsonb_build_object('failure_code', $2::text)")}
"""

_PAID_TOO_LATE: Final = f"""
WITH moved AS (
  UPDATE bookings SET failure_code = 'paid_too_late', updated_at = now()
  WHERE id = $1::uuid AND status IN ('failed', 'expired') AND failure_code IS DISTINCT FROM 'withdrawn'
  RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.paid_too_late'", PAID_TOO_LATE)}
"""


async def end_holds(reader: Reader, booking_ids: Sequence[str], status: str) -> int:
    """`held` to `expired` or `cancelled`: holds that ended in Redis, which decides them. One that was paid or decided
    meanwhile is left alone, and so is one without a row. Returns how many moved."""
    return int(await reader.fetchval(_END_HOLDS, booking_ids, status))


async def extend_hold(writer: Writer, booking_id: str, deadline_ms: int) -> None:
    """`expires_at` of a `held` booking, as Redis has it (epoch ms). Any other booking is left alone."""
    await writer.execute(_EXTEND_HOLD, booking_id, deadline_ms)


async def lock_hold(connection: Connection, booking_id: str) -> bool:
    """Lock a booking that is `held`; whether there is such a row."""
    return await connection.fetchval(_LOCK_HOLD, booking_id) is not None


async def change_hold(connection: Connection, record: Record) -> None:
    """Items, `amount_cents` and `expires_at` of a `held` booking, as Redis has them. The caller has locked it."""
    await rewrite_items(connection, [record])
    await extend_hold(connection, record.id, record.deadline_ms)


async def cancel(writer: Writer, booking_id: str, code: str) -> None:
    """`confirmed` to `cancelled`, with the reason. The caller has locked the row and seen that it is confirmed; its stock and
    its money are moved in the same transaction."""
    await writer.execute(_CANCEL, booking_id, code)


async def mark_paid_too_late(writer: Writer, booking_id: str) -> None:
    """The reason of a `failed` or `expired` booking becomes `paid_too_late`: its money arrived after its end. One that was
    withdrawn keeps that reason; no status moves."""
    await writer.execute(_PAID_TOO_LATE, booking_id)
