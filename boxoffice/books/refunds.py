"""Where a refund's row moves: due, claimed, answered, owed, tried again, written off.

Of every transaction about refunds the payment's row is locked first: whoever counts them counts alone. An attempt that the
gateway refused is over, and the next has another number: who was overtaken finds another one in the row, and writes nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from boxoffice.books.notices import NOTICE_OF_REFUNDS
from boxoffice.gateway.accounts import WRITTEN_IN, written_in
from boxoffice.stores.database import Connection, Reader, Writer

__all__ = [
    "DueRefund",
    "add_foreign",
    "answer",
    "begin",
    "claim_due",
    "drop_uncaptured",
    "lock_owed_payments",
    "put_off",
    "take_over",
    "try_again",
    "write_off",
]


class DueRefund(NamedTuple):
    """A refund that was claimed, and what its gateway needs to hear."""

    refund_key: str
    payment_key: str
    reference: str | None
    """The gateway's own id of the payment."""
    amount_cents: int
    attempt: int
    tries: int


class WrittenOff(NamedTuple):
    """A refund that a person has ended."""

    refund_key: str
    booking: str
    amount_cents: int


# ------------------------------------------------------------------ a refund begins

_MOVED: Final = "RETURNING booking_id AS booking, refund_key AS key, status, amount_cents AS cents, failure_code"
"""What its notice needs to hear of a refund."""

_BEGIN: Final = """
WITH moved AS (
  INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status, fingerprint)
  VALUES ($1, $2::uuid, $3, $4::bigint, $5, $6, CASE WHEN $4::bigint = 0 THEN 'succeeded' ELSE 'due' END, $7)
"""

_BEGIN_NEW: Final = f"{_BEGIN} {_MOVED}) {NOTICE_OF_REFUNDS}"
_BEGIN_ONCE: Final = f"{_BEGIN} ON CONFLICT DO NOTHING {_MOVED}) {NOTICE_OF_REFUNDS}"

_ADD_FOREIGN: Final = f"""
WITH moved AS (
  INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason, origin, reference,
                       failure_code)
  VALUES ($1, $2::uuid, $3, $4, $5, $6, 'at_the_gateway', 'gateway', $7, $8) {_MOVED})
{NOTICE_OF_REFUNDS}
"""


async def begin(
    writer: Writer, refund_key: str, booking_id: str, payment_key: str | None, cents: int, currency: str, reason: str,
    fingerprint: str | None = None, *, once: bool = False,
) -> None:  # fmt: skip
    """A new refund, `due` now; of nothing, `succeeded`: the row remembers that tickets came back that were free. `payment_key`
    is NULL for a booking that was free. With `once` one that is there already is left alone; otherwise it is an error."""
    statement = _BEGIN_ONCE if once else _BEGIN_NEW
    await writer.execute(statement, refund_key, booking_id, payment_key, cents, currency, reason, fingerprint)


async def add_foreign(
    writer: Writer, refund_key: str, booking_id: str, payment_key: str, cents: int, currency: str, status: str,
    reference: str, code: str | None,
) -> None:  # fmt: skip
    """A new row for a refund that somebody made at the gateway itself, in the status that the gateway tells."""
    await writer.execute(
        _ADD_FOREIGN, refund_key, booking_id, payment_key, cents, currency, status, reference, code
    )  # fmt: skip


# ------------------------------------------------------------------ it is asked for

_CLAIM_DUE: Final = f"""
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

_ANSWER: Final = f"""
WITH moved AS (
  UPDATE refunds SET status = $3, reference = $4, failure_code = $5, leased_until = NULL, updated_at = now()
  WHERE refund_key = $1 AND status = 'due' AND attempt = $2 {_MOVED}, payment_key),
told AS ({NOTICE_OF_REFUNDS})
INSERT INTO looks (payment_key, due_at)
SELECT payment_key, now() + $6 * interval '1 millisecond' FROM moved WHERE $3 = 'pending'
ON CONFLICT (payment_key) DO NOTHING
"""

_PUT_OFF: Final = """
UPDATE refunds SET due_at = now() + $3 * interval '1 millisecond', leased_until = NULL, updated_at = now()
WHERE refund_key = $1 AND status = 'due' AND attempt = $2
"""

_DROP_UNCAPTURED: Final = f"""
WITH moved AS (
  UPDATE refunds SET status = 'dropped', failure_code = 'never_captured', leased_until = NULL, updated_at = now()
  WHERE payment_key = $1 AND status = 'due' {_MOVED})
{NOTICE_OF_REFUNDS}
"""


async def claim_due(connection: Connection, lease_ms: int, most: int, books: str) -> list[DueRefund]:
    """Lease at most so many refunds of these books that are due and that nobody holds, longest due first, whose payments are
    captured: only then is there anything to give back. `leased_until` and `tries` move, the status stays."""
    return [DueRefund(*row) for row in await connection.fetch(_CLAIM_DUE, lease_ms, most, *written_in(books))]


async def answer(
    writer: Writer, refund_key: str, attempt: int, status: str, reference: str, reason: str | None, look_ms: int
) -> None:
    """`due` to `succeeded` or `pending`, as the gateway answered this attempt; of a pending one the payment is looked at after
    `look_ms`. An attempt that was overtaken moves nothing."""
    await writer.execute(_ANSWER, refund_key, attempt, status, reference, reason, look_ms)


async def put_off(writer: Writer, refund_key: str, attempt: int, pause_ms: int) -> None:
    """This attempt is due again after the pause, and the lease ends; `due_since` keeps the beginning. An attempt that was
    overtaken moves nothing."""
    await writer.execute(_PUT_OFF, refund_key, attempt, pause_ms)


async def drop_uncaptured(writer: Writer, payment_key: str) -> None:
    """`due` to `dropped`, all refunds of a payment that will never be captured: nothing was taken."""
    await writer.execute(_DROP_UNCAPTURED, payment_key)


# ------------------------------------------------------------------ it is refused, and owed

_TAKE_OVER: Final = f"""
WITH moved AS (
UPDATE refunds SET status = $2, attempt = $3, amount_cents = $4, reference = $5, failure_code = $6,
       owed_since = CASE WHEN $2 = 'owed' THEN coalesce(owed_since, now()) ELSE owed_since END,
       due_at = now(), due_since = CASE WHEN $2 = 'due' AND status <> 'due' THEN now() ELSE due_since END,
       leased_until = NULL, tries = CASE WHEN $3 <> attempt THEN 0 ELSE tries END,
       written_off_at = CASE WHEN $2 = 'written_off' THEN written_off_at END,
       written_off_by = CASE WHEN $2 = 'written_off' THEN written_off_by END,
       written_off_reason = CASE WHEN $2 = 'written_off' THEN written_off_reason END, updated_at = now()
WHERE refund_key = $1 {_MOVED})
{NOTICE_OF_REFUNDS}
"""

_LOCK_OWED_PAYMENTS: Final = """
SELECT p.payment_key, p.amount_cents FROM payments p
WHERE EXISTS (SELECT FROM refunds r WHERE r.payment_key = p.payment_key AND r.booking_id = $1::uuid AND r.status = 'owed')
ORDER BY p.payment_key FOR UPDATE
"""

_TRY_AGAIN: Final = f"""
WITH moved AS (
  UPDATE refunds SET status = 'due', due_at = now(), due_since = now(), leased_until = NULL, tries = 0, reference = NULL,
         updated_at = now()
  WHERE booking_id = $1::uuid AND status = 'owed' AND ($2::text IS NULL OR refund_key = $2) {_MOVED}),
told AS ({NOTICE_OF_REFUNDS})
SELECT key AS refund_key, cents AS amount_cents FROM moved
"""

_WRITE_OFF: Final = f"""
WITH moved AS (
  UPDATE refunds SET status = 'written_off', written_off_at = now(), written_off_by = $2, written_off_reason = $3,
         updated_at = now()
  WHERE status = 'owed' AND (booking_id::text = $1 OR refund_key = $1) {_MOVED}),
told AS ({NOTICE_OF_REFUNDS})
SELECT key AS refund_key, booking::text AS booking, cents AS amount_cents FROM moved
"""


async def take_over(
    writer: Writer, refund_key: str, status: str, attempt: int, cents: int, reference: str | None, code: str | None
) -> None:
    """The row says what the gateway's list makes of it, in any status. `owed_since` is set the first time, `due_since` when it
    becomes due, `tries` begin anew with another attempt, and only a refund that stays written off keeps who wrote it off. The
    caller has locked the payment's row."""
    await writer.execute(_TAKE_OVER, refund_key, status, attempt, cents, reference, code)


async def lock_owed_payments(connection: Connection, booking_id: str) -> list[str]:
    """Lock the payments of a booking of which a refund is owed, in the order of their keys, which are returned."""
    return [row["payment_key"] for row in await connection.fetch(_LOCK_OWED_PAYMENTS, booking_id)]


async def try_again(connection: Connection, booking_id: str, refund_key: str | None) -> list[tuple[str, int]]:
    """`owed` to `due`, now: what is owed of a booking, or one of its refunds. Key and cents of each. The attempt keeps its
    number, by which the gateway knows it for another one. The caller has locked the payments, and recounts them."""
    rows = await connection.fetch(_TRY_AGAIN, booking_id, refund_key)
    return [(row["refund_key"], row["amount_cents"]) for row in rows]


async def write_off(reader: Reader, which: str, by: str, reason: str) -> list[WrittenOff]:
    """`owed` to `written_off`, with who says so and why: one refund by its key, or all of a booking. Returns those
    that moved."""
    return [WrittenOff(*row) for row in await reader.fetch(_WRITE_OFF, which, by, reason)]
