"""Where a payment's row moves after its settlement: captured, let go, put off, refused, heard of.

`due` says what is to be asked of the gateway: `capture` or `void`. A row is claimed by `leased_until`, so no lock and no
transaction is open while the gateway is asked. What a settlement is to capture is listed in one row of `captures` instead,
leased to the worker that settled: its payments have `due_at` NULL until somebody takes the list apart.

One file because each verb leaves a row as the next one expects it: what is due, leased, listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from boxoffice.books.notices import PAID_TOO_LATE, notice_by_key, notice_of
from boxoffice.gateway.accounts import WRITTEN_IN, written_in
from boxoffice.states import GIVEN_BACK
from boxoffice.stores.database import Connection, Reader, Writer

__all__ = [
    "DuePayment",
    "add_refunded",
    "claim_due",
    "close_late_void",
    "close_void",
    "due_in_other_books",
    "is_listed",
    "is_to_be_voided",
    "lock_late_capture",
    "make_due",
    "mark_captured",
    "put_off",
    "recount_refunded",
    "refuse_capture",
    "take_late_capture",
    "unlist_lapsed",
]


class DuePayment(NamedTuple):
    """A payment that was claimed, and what its gateway needs to hear."""

    payment_key: str
    due: str
    reference: str | None
    amount_cents: int
    status: str
    tries: int
    old: bool
    """Made a day ago or more."""
    booking: str
    method: str
    token: str | None
    card_name: str | None
    last4: str | None
    currency: str


# ------------------------------------------------------------------ what is due

_CLAIM_DUE = f"""
WITH free AS MATERIALIZED (
  SELECT payment_key FROM payments
  WHERE due IS NOT NULL AND due_at <= now() AND (leased_until IS NULL OR leased_until < now())
    AND {WRITTEN_IN.format("$3", "$4")}
  ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE payments p SET leased_until = now() + $1 * interval '1 millisecond', tries = p.tries + 1
FROM free WHERE p.payment_key = free.payment_key
RETURNING p.payment_key, p.due, p.reference, p.amount_cents, p.status, p.tries,
          p.created_at < now() - interval '24 hours' AS old, p.booking_id::text AS booking,
          p.method, p.token, p.card_name, p.last4, p.currency
"""
"""Materialized: a subquery may be run once for each row that it is joined to, and then locks more than its limit."""

_DUE_IN_OTHER_BOOKS = f"""
SELECT gateway, count(*) AS payments FROM payments
WHERE due_at <= now() AND due IS NOT NULL AND NOT {WRITTEN_IN.format("$1", "$2")} GROUP BY gateway
"""

_UNLIST_LAPSED = """
WITH lapsed AS (
  DELETE FROM captures
  WHERE id = ANY(ARRAY(SELECT id FROM captures WHERE leased_until < now() LIMIT $1 FOR UPDATE SKIP LOCKED))
  RETURNING payment_keys)
UPDATE payments SET due_at = now()
WHERE payment_key = ANY(ARRAY(SELECT unnest(payment_keys) FROM lapsed)) AND due = 'capture' AND due_at IS NULL
"""
"""An array, not a join: with statistics of an empty table that would read all payments."""

_PUT_OFF = """
UPDATE payments SET due_at = now() + $2 * interval '1 millisecond', due_since = coalesce(due_since, updated_at),
       leased_until = NULL, updated_at = now()
WHERE payment_key = $1 AND due IS NOT NULL
"""

_MAKE_DUE = f"""
WITH moved AS (
  UPDATE payments SET due = $2, due_at = now(), due_since = CASE WHEN due = $2 THEN coalesce(due_since, updated_at) END,
         leased_until = NULL, status = coalesce($3, status), reference = coalesce(reference, $4), updated_at = now()
  WHERE payment_key = $1 RETURNING booking_id AS booking, payment_key AS key, status, due)
{notice_by_key("moved", "'payment.changed'", "jsonb_build_object('status', m.status, 'due', m.due)")}
"""

_IS_LISTED = """
SELECT true FROM captures WHERE leased_until > now() AND $1 = ANY(payment_keys) LIMIT 1
"""


async def claim_due(connection: Connection, lease_ms: int, most: int, books: str) -> list[DuePayment]:
    """Lease at most so many payments of these books that are due and that nobody holds, longest due first. `leased_until`
    and `tries` move, `due` stays. Rows that somebody has locked are left for the next claim."""
    rows = await connection.fetch(_CLAIM_DUE, lease_ms, most, *written_in(books))
    return [DuePayment(*row) for row in rows]


async def due_in_other_books(reader: Reader, books: str) -> list[tuple[str, int]]:
    """What is due now at other gateways than this: whose books, and how many payments. Changes nothing."""
    return [tuple(row) for row in await reader.fetch(_DUE_IN_OTHER_BOOKS, *written_in(books))]


async def unlist_lapsed(writer: Writer, most: int) -> None:
    """Delete at most so many lists of `captures` whose lease ended: whoever was to capture these is dead or hangs. Each of
    their payments whose capture is still due becomes due by itself, now; what was marked already is left alone."""
    await writer.execute(_UNLIST_LAPSED, most)


async def put_off(writer: Writer, payment_key: str, pause_ms: int) -> None:
    """What is due is due again after the pause, and the lease ends. `due_since` keeps the beginning. A payment of which
    nothing is due any more is left alone."""
    await writer.execute(_PUT_OFF, payment_key, pause_ms)


async def make_due(writer: Writer, payment_key: str, due: str, status: str | None, reference: str | None) -> None:
    """`due` becomes `capture` or `void`, now, with the status (None: as it is) and the gateway's reference if the row has none.
    The lease ends. The caller has locked the row and seen that nobody is about to do it."""
    await writer.execute(_MAKE_DUE, payment_key, due, status, reference)


async def is_listed(reader: Reader, payment_key: str) -> bool:
    """Whether a worker is about to capture it: it stands in a list whose lease lasts. Changes nothing."""
    return bool(await reader.fetchval(_IS_LISTED, payment_key))


async def is_to_be_voided(reader: Reader, payment_key: str) -> bool:
    """Whether the row says by now that it is to be let go. Changes nothing."""
    return bool(await reader.fetchval("SELECT due FROM payments WHERE payment_key = $1", payment_key) == "void")


# ------------------------------------------------------------------ what became of it

_MARK_CAPTURED = f"""
WITH over AS (DELETE FROM captures WHERE id = ANY($2::bigint[]) RETURNING client_id, event_id),
moved AS (
  UPDATE payments SET status = 'captured', due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL, updated_at = now()
  WHERE (SELECT count(*) FROM over) >= 0 AND payment_key = ANY($1::text[]) AND due = 'capture'
  RETURNING booking_id AS booking, payment_key AS key, amount_cents),
whose AS (
  SELECT min(client_id) AS client_id, min(event_id) AS event_id FROM over
  HAVING count(client_id) = cardinality($2::bigint[]) AND min(client_id) = max(client_id) AND min(event_id) = max(event_id)),
told AS (
  INSERT INTO notices (client_id, event_id, type, size, bookings, keys, cents)
  SELECT whose.client_id, whose.event_id, 'payment.captured', m.size, m.bookings, m.keys, m.cents FROM whose, (
    SELECT count(*) AS size, array_agg(booking) AS bookings, array_agg(key) AS keys, array_agg(amount_cents) AS cents
    FROM moved) AS m WHERE m.size > 0)
{
    notice_by_key(
        "(SELECT * FROM moved WHERE NOT EXISTS (SELECT FROM whose))", "'payment.captured'", cents="m.amount_cents"
    )
}
"""
"""The list first, then its payments: who takes a list apart locks them in this order too. A list tells whose its payments are,
if they are one shop's: of every booking its row would have to be looked up otherwise. So it is when one of the lists is gone:
somebody took it apart, and nobody knows any more whose its payments were."""

_CLOSE_VOID = f"""
WITH moved AS (
  UPDATE payments SET status = $2, due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL, updated_at = now()
  WHERE payment_key = $1 AND due = 'void' RETURNING booking_id AS booking, payment_key AS key, failure_code)
{notice_by_key("moved", "'payment.' || $2", "jsonb_strip_nulls(jsonb_build_object('failure_code', m.failure_code))")}
"""

_CLOSE_LATE_VOID = f"""
WITH late AS (
  UPDATE payments SET status = 'voided', failure_code = 'paid_too_late', due = NULL, due_at = NULL, due_since = NULL,
         leased_until = NULL, updated_at = now()
  WHERE payment_key = $1 AND due = 'void' RETURNING booking_id AS booking, payment_key AS key),
ended AS (
  UPDATE bookings b SET failure_code = 'paid_too_late', updated_at = now()
  FROM late WHERE b.id = late.booking AND b.status IN ('failed', 'expired')
    AND b.failure_code IS DISTINCT FROM 'withdrawn'
  RETURNING b.id AS booking, b.client_id, b.event_id),
told AS ({notice_of("ended", "'booking.paid_too_late'", PAID_TOO_LATE)})
{notice_by_key("late", "'payment.voided'", PAID_TOO_LATE)}
"""

_REFUSE_CAPTURE: Final = f"""
WITH moved AS (
  UPDATE payments SET status = 'failed', failure_code = $2, due = 'void', due_at = now(), due_since = now(), tries = 0,
         leased_until = NULL, refunded_cents = 0, updated_at = now()
  WHERE payment_key = $1 AND due = 'capture' RETURNING booking_id AS booking, payment_key AS key),
told AS ({notice_by_key("moved", "'payment.capture_refused'", "jsonb_build_object('failure_code', $2::text)")})
SELECT true FROM moved
"""

_LOCK_LATE_CAPTURE: Final = """
SELECT booking_id::text AS booking, currency,
       (SELECT coalesce(sum(r.amount_cents), 0)::bigint FROM refunds r
        WHERE r.payment_key = p.payment_key AND r.status <> 'dropped') AS spoken_for
FROM payments p WHERE payment_key = $1 AND (due = 'void' OR status NOT IN ('authorized', 'captured')) FOR UPDATE
"""

_TAKE_LATE_CAPTURE: Final = f"""
WITH moved AS (
  UPDATE payments SET status = 'captured', due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL,
         failure_code = 'paid_too_late', amount_cents = $2, updated_at = now()
  WHERE payment_key = $1 RETURNING booking_id AS booking, payment_key AS key, amount_cents)
{notice_by_key("moved", "'payment.captured_too_late'", PAID_TOO_LATE, cents="m.amount_cents")}
"""


async def mark_captured(writer: Writer, payment_keys: Sequence[str], listed: Sequence[int]) -> None:
    """`authorized` to `captured`, with nothing due any more, of those whose capture was due; the lists go. Where something else
    is due by now, nothing moves."""
    await writer.execute(_MARK_CAPTURED, payment_keys, listed)


async def close_void(writer: Writer, payment_key: str, status: str) -> None:
    """To `voided`, or to `failed` for one of which the gateway never knew any money. Nothing is due any more. One that is not
    to be let go any more is left alone."""
    await writer.execute(_CLOSE_VOID, payment_key, status)


async def close_late_void(writer: Writer, payment_key: str) -> None:
    """As `close_void` to `voided`, for money that had arrived after its booking's end: both are told as `paid_too_late`, but
    for a booking that was withdrawn."""
    await writer.execute(_CLOSE_LATE_VOID, payment_key)


async def refuse_capture(connection: Connection, payment_key: str, code: str) -> bool:
    """`authorized` to `failed`, with the gateway's reason: what is set aside is to be let go from now on, and nothing of it
    counts as given back. False, and nothing moves, when its capture is not due any more."""
    return bool(await connection.fetchval(_REFUSE_CAPTURE, payment_key, code))


async def lock_late_capture(connection: Connection, payment_key: str) -> Any:
    """Lock a payment that was to be let go, and was captured: booking and currency, and `spoken_for`, the cents of its
    refunds. None when it belongs to a sale by now."""
    return await connection.fetchrow(_LOCK_LATE_CAPTURE, payment_key)


async def take_late_capture(writer: Writer, payment_key: str, captured_cents: int) -> None:
    """To `captured`, for the reason `paid_too_late`, with the amount that was, and nothing due. The caller has locked the row,
    and gives all back."""
    await writer.execute(_TAKE_LATE_CAPTURE, payment_key, captured_cents)


# ------------------------------------------------------------------ what was given back

_ADD_REFUNDED: Final = """
UPDATE payments SET refunded_cents = refunded_cents + $2, updated_at = now() WHERE payment_key = $1
"""

_RECOUNT_REFUNDED: Final = f"""
UPDATE payments p SET refunded_cents = least(back.cents, p.amount_cents), updated_at = now(),
       due_since = CASE WHEN p.due IS NOT NULL THEN coalesce(p.due_since, p.updated_at) END
FROM (SELECT coalesce(sum(amount_cents), 0)::bigint AS cents FROM refunds
      WHERE payment_key = $1 AND status IN {GIVEN_BACK}) AS back
WHERE p.payment_key = $1 AND p.refunded_cents <> back.cents
"""


async def add_refunded(writer: Writer, payment_key: str, cents: int) -> None:
    """`refunded_cents` grows by that much. The caller has locked the row, and writes the refund in the same transaction."""
    await writer.execute(_ADD_REFUNDED, payment_key, cents)


async def recount_refunded(writer: Writer, payment_key: str) -> None:
    """`refunded_cents` becomes what its refunds add up to: those that were given back or are under way. The caller has locked
    the row. Nothing moves when it says so already."""
    await writer.execute(_RECOUNT_REFUNDED, payment_key)
