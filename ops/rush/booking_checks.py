"""The audit's look at bookings in PostgreSQL, and at what customers remember of them: I4 and I5."""

from __future__ import annotations

from typing import Any, Final

from boxoffice.states import WITHDRAWN
from ops.rush.asking import is_final
from ops.rush.findings import Findings
from ops.rush.history import History
from ops.rush.stock_checks import Pool

__all__ = ["check_bookings", "check_history"]

CHUNK: Final = 5_000

_UNDECIDED: Final = """
SELECT b.id::text AS id, b.status, b.expires_at, d.parked_at IS NOT NULL AS parked
FROM bookings b LEFT JOIN dead_letters d ON d.booking_id = b.id
WHERE (b.status = 'pending' OR (b.status = 'held' AND b.expires_at < now())) AND b.id <> ALL($1::uuid[])
LIMIT 100
"""

_ORPHANS: Final = """
SELECT 'an item' AS what, i.booking_id::text AS id FROM booking_items i
WHERE NOT EXISTS (SELECT FROM bookings b WHERE b.id = i.booking_id)
UNION ALL
SELECT 'a payment', p.booking_id::text FROM payments p WHERE NOT EXISTS (SELECT FROM bookings b WHERE b.id = p.booking_id)
LIMIT 100
"""
"""No foreign key sees to it (decision 19)."""

_COUNT: Final = "SELECT status, count(*) AS bookings FROM bookings GROUP BY status ORDER BY status"

_DUPLICATES: Final = """
SELECT b.id::text AS id, b.status, o.id IS NOT NULL AND o.idempotency_key = b.idempotency_key AS has_original
FROM bookings b LEFT JOIN bookings o ON o.id = b.duplicate_of WHERE b.duplicate_of IS NOT NULL
"""

_KEY_TWICE: Final = """
SELECT client_id, event_id, idempotency_key, count(*) AS bookings FROM bookings WHERE duplicate_of IS NULL
GROUP BY 1, 2, 3 HAVING count(*) > 1 LIMIT 100
"""

_WRONG_PAYMENT_KEY: Final = r"""
SELECT b.id::text AS id, p.payment_key FROM bookings b JOIN payments p ON p.booking_id = b.id
WHERE b.expires_at IS NULL AND p.payment_key <> left(encode(sha256(
  convert_to(b.client_id, 'UTF8') || '\x00'::bytea || convert_to(b.event_id, 'UTF8') || '\x00'::bytea
  || convert_to(b.idempotency_key, 'UTF8')), 'hex'), 32)
LIMIT 100
"""
"""A booking posted with its payment has one payment, whose key follows from client, event and key alone."""

_PAID_TWICE: Final = """
SELECT booking_id::text AS id, count(*) AS payments FROM payments WHERE status = 'captured'
GROUP BY booking_id HAVING count(*) > 1 LIMIT 100
"""

_STATUSES: Final = """
SELECT id::text AS id, status, failure_code, duplicate_of::text AS original FROM bookings WHERE id = ANY($1::uuid[])
"""

_BY_KEY: Final = """
SELECT id::text AS id, idempotency_key AS key, status FROM bookings
WHERE client_id = ANY($1::text[]) AND idempotency_key = ANY($2::text[])
"""


async def check_bookings(pool: Pool, findings: Findings) -> None:
    """What PostgreSQL says about bookings and keys, by itself."""
    for row in await pool.fetch(_UNDECIDED, list(findings.undecided)):
        if row["parked"]:
            if row["id"] not in findings.parked:
                findings["I4"].blame(f"booking {row['id']}: parked in PostgreSQL, not in Redis")
        else:
            findings["I4"].blame(f"booking {row['id']}: {row['status']} in PostgreSQL")
    for row in await pool.fetch(_ORPHANS):
        findings["I4"].blame(f"booking {row['id']}: not in PostgreSQL, and {row['what']} of it is")
    for row in await pool.fetch(_DUPLICATES):
        findings.duplicates += 1
        if row["status"] != "failed" or not row["has_original"]:
            findings["I5"].blame(
                f"booking {row['id']}: a duplicate, {row['status']}, whose original is not under its key"
            )
    for row in await pool.fetch(_KEY_TWICE):
        findings["I5"].blame(f"key {row['idempotency_key']} of event {row['event_id']}: {row['bookings']} bookings")
    for row in await pool.fetch(_WRONG_PAYMENT_KEY):
        findings["I5"].blame(f"booking {row['id']}: payment {row['payment_key']} does not follow from its key")
    for row in await pool.fetch(_PAID_TWICE):
        findings["I5"].blame(f"booking {row['id']}: {row['payments']} captured payments")
    counts = ", ".join(f"{row['bookings']} {row['status']}" for row in await pool.fetch(_COUNT))
    findings["I4"].looked_at.append(f"in PostgreSQL {counts or 'nothing'}")
    findings["I5"].looked_at.append(f"{findings.duplicates} duplicates")


async def check_history(pool: Pool, history: History, unpaid: dict[str, str], findings: Findings) -> None:
    """What customers were told against what is written."""
    for entry in history.entries:
        if len(entry.ids) > 1:
            findings["I5"].blame(f"key of {entry.ids[0]} was answered with {len(entry.ids)} bookings: {entry.ids}")
    accepted = history.accepted()
    lost: set[str] = set()
    for chunk in _chunks(list(accepted)):
        rows = {row["id"]: row for row in await pool.fetch(_STATUSES, chunk)}
        for booking in chunk:
            if rows.get(booking) is None and booking not in unpaid and booking in history.forgotten:
                lost.add(booking)
            else:
                _check_accepted(booking, accepted[booking].status, rows.get(booking), unpaid, findings)
            if accepted[booking].confirmed:
                _check_confirmed(booking, accepted[booking].status, rows.get(booking), findings)
    refused = history.refused_digests()
    for chunk in _chunks(list(refused)):
        for row in await pool.fetch(_BY_KEY, history.clients, chunk):
            findings["I5"].blame(f"booking {row['id']}: {row['status']}, though its customer was refused")
    outcomes = history.outcomes()
    confirmed_to_shops = sum(entry.confirmed for entry in accepted.values())
    findings["I11"].looked_at.append(f"{confirmed_to_shops} told confirmed by a reading")
    lost_holds = f", {len(lost)} of them unpaid holds that an older Redis lacked" if lost else ""
    findings["I4"].looked_at.append(f"{len(accepted)} accepted, as their customers read them{lost_holds}")
    findings["I5"].looked_at.append(
        f"{outcomes['ok']} keys accepted, {len(refused)} refused for certain, {outcomes['unknown']} unknown, "
        f"{history.retries + history.replays} repeats"
    )


def _check_accepted(booking: str, seen: str, row: Any, unpaid: dict[str, str], findings: Findings) -> None:
    if booking in findings.parked:
        return
    if not is_final(seen):
        findings["I4"].blame(f"booking {booking}: accepted; its customer last read {seen or 'nothing'}")
    if row is None:
        if booking not in unpaid:
            findings["I4"].blame(f"booking {booking}: accepted, and nobody knows it")
        elif unpaid[booking] != seen:
            findings["I4"].blame(f"booking {booking}: {unpaid[booking]} in Redis, its customer read {seen}")
    elif row["status"] != seen and row["original"] is None:
        findings["I4"].blame(f"booking {booking}: {row['status']} in PostgreSQL, its customer read {seen}")


def _check_confirmed(booking: str, seen: str, row: Any, findings: Findings) -> None:
    """Its customer has read so, at least once."""
    if row is None:
        findings["I11"].blame(f"booking {booking}: was told confirmed, and PostgreSQL does not know it")
    elif row["original"] is None and row["status"] not in ("confirmed", "cancelled"):
        if row["failure_code"] != WITHDRAWN:
            findings["I11"].blame(f"booking {booking}: was told confirmed, and is {row['status']}")
        elif seen != row["status"]:
            findings["I11"].blame(f"booking {booking}: withdrawn, and its customer last read {seen}")


def _chunks(things: list[str]) -> list[list[str]]:
    return [things[at : at + CHUNK] for at in range(0, len(things), CHUNK)]
