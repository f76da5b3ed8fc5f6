"""The audit's look at what shops are told: I15. Whoever replays the feed from its start ends with what the tables say.

Rows from before the record began, or of which notices were let go, may lack some: the head of the feed says until when.
"""

from __future__ import annotations

from typing import Final

from boxoffice.notices.reading import Notices
from boxoffice.notices.types import TYPES
from boxoffice.stores.database import Database
from ops.rush.findings import Findings
from ops.rush.stock_checks import Pool

__all__ = ["check_feed", "check_notices"]

_OTHERS: Final = ("booking.changed", "booking.refunded", "booking.forgotten", "booking.paid_too_late")
"""Notices of bookings that move no status."""

_STATUSES: Final = {kind.name: kind.status for kind in TYPES if kind.subject in ("payment", "refund")}

_SINCE: Final = "(SELECT greatest(begun_at, trimmed_at) FROM notice_head)"
"""What was made later has all its notices."""

_LAST: Final = "ORDER BY coalesce(n.position, 9223372036854775807) DESC, n.id DESC"

_BOOKINGS: Final = f"""
WITH told AS (
  SELECT b.id, count(*) FILTER (WHERE n.client_id <> k.client_id OR n.event_id IS DISTINCT FROM k.event_id) AS strangers,
         (array_agg(n.type {_LAST}) FILTER (WHERE n.type <> ALL($1::text[])))[1] AS type,
         (array_agg(n.details->>'failure_code' {_LAST}) FILTER (WHERE n.type <> ALL($1::text[])
            OR n.type = 'booking.paid_too_late'))[1] AS failure, k.id IS NULL AS unknown
  FROM notices n CROSS JOIN LATERAL unnest(n.bookings) AS b (id) LEFT JOIN bookings k ON k.id = b.id
  WHERE n.type LIKE 'booking.%' GROUP BY b.id, k.id)
SELECT coalesce(b.id, told.id)::text AS id, b.status, b.failure_code, told.type, told.failure, told.strangers
FROM bookings b FULL JOIN told ON told.id = b.id
WHERE b.id IS NULL OR told.strangers > 0
   OR told.type IS NULL AND least(b.created_at, b.updated_at) > {_SINCE}
   OR told.type IS NOT NULL AND (told.type <> 'booking.' || b.status OR told.failure IS DISTINCT FROM b.failure_code)
LIMIT 100
"""

_PAYMENTS: Final = f"""
WITH said AS (
  SELECT n.position, n.id, k.key, n.cents[k.place] AS cents,
         coalesce(n.details->'payment'->>'status', n.details->>'status', kinds.status) AS status
  FROM notices n CROSS JOIN LATERAL unnest(n.keys) WITH ORDINALITY AS k (key, place)
  LEFT JOIN unnest($1::text[], $2::text[]) AS kinds (type, status) ON kinds.type = n.type
  WHERE n.type LIKE 'payment.%' OR n.type LIKE 'booking.%' AND n.details ? 'payment'),
told AS (
  SELECT key, (array_agg(status {_LAST}))[1] AS status, (array_agg(cents {_LAST}))[1] AS cents FROM said n GROUP BY key)
SELECT coalesce(p.payment_key, told.key) AS id, p.status, p.amount_cents, told.status AS told, told.cents
FROM payments p FULL JOIN told ON told.key = p.payment_key
WHERE p.payment_key IS NULL OR told.key IS NULL AND p.created_at > {_SINCE}
   OR told.key IS NOT NULL AND (told.status IS DISTINCT FROM p.status OR coalesce(told.cents, p.amount_cents) <> p.amount_cents)
LIMIT 100
"""

_REFUNDS: Final = f"""
WITH said AS (
  SELECT n.position, n.id, k.key, n.cents[k.place] AS cents, n.details->>'failure_code' AS failure, kinds.status
  FROM notices n CROSS JOIN LATERAL unnest(n.keys) WITH ORDINALITY AS k (key, place)
  JOIN unnest($1::text[], $2::text[]) AS kinds (type, status) ON kinds.type = n.type
  WHERE n.type LIKE 'refund.%'),
told AS (
  SELECT key, (array_agg(status {_LAST}))[1] AS status, (array_agg(cents {_LAST}))[1] AS cents,
         (array_agg(failure {_LAST}))[1] AS failure
  FROM said n GROUP BY key)
SELECT coalesce(r.refund_key, told.key) AS id, r.status, r.amount_cents, told.status AS told, told.cents
FROM refunds r FULL JOIN told ON told.key = r.refund_key
WHERE r.refund_key IS NULL OR told.key IS NULL AND r.created_at > {_SINCE}
   OR told.key IS NOT NULL AND (told.status, told.cents, told.failure)
      IS DISTINCT FROM (r.status, r.amount_cents, r.failure_code)
LIMIT 100
"""

_EVENTS: Final = f"""
WITH told AS (
  SELECT e.id, (array_agg((n.details->>'version')::bigint {_LAST}))[1] AS version,
         (array_agg(n.details->>'status' {_LAST}))[1] AS status
  FROM notices n JOIN events e ON e.id = n.event_id AND e.client_id = n.client_id
  WHERE n.type LIKE 'event.%' GROUP BY e.id)
SELECT e.id, e.version, e.status, told.version AS told, told.status AS told_status
FROM events e LEFT JOIN told ON told.id = e.id
WHERE told.id IS NULL AND e.created_at > {_SINCE}
   OR told.id IS NOT NULL AND (told.version, told.status) IS DISTINCT FROM (e.version, e.status)
LIMIT 100
"""

_PLACES: Final = """
SELECT h.position AS head, h.trimmed, count(n.position) AS places, min(n.position) AS first, max(n.position) AS last,
       count(n.id) - count(n.position) AS fresh, coalesce(sum(n.size), 0) AS changes
FROM notice_head h LEFT JOIN notices n ON true GROUP BY h.position, h.trimmed
"""

_SHOPS: Final = "SELECT client_id, sum(size) AS changes FROM notices WHERE position IS NOT NULL GROUP BY client_id"

PAGE: Final = 5_000


async def check_notices(pool: Pool, findings: Findings) -> None:
    """The last that was told of each booking, payment, refund and event, against its row; and the places of the feed."""
    finding = findings["I15"]
    for row in await pool.fetch(_BOOKINGS, list(_OTHERS)):
        if row["strangers"]:
            finding.blame(f"booking {row['id']}: another shop was told of it, or of another event")
        else:
            stands, last = f"{row['status']} {row['failure_code']}", f"{row['type']} {row['failure']}"
            finding.blame(f"booking {row['id']}: {stands}, last told {last}")
    kinds = list(_STATUSES), list(_STATUSES.values())
    for what, query in (("payment", _PAYMENTS), ("refund", _REFUNDS)):
        for row in await pool.fetch(query, *kinds):
            stands, last = f"{row['status']} {row['amount_cents']}", f"{row['told']} {row['cents']}"
            finding.blame(f"{what} {row['id']}: {stands}, last told {last}")
    for row in await pool.fetch(_EVENTS):
        stands, last = f"{row['status']} {row['version']}", f"{row['told_status']} {row['told']}"
        finding.blame(f"event {row['id']}: {stands}, last told {last}")
    row = await pool.fetchrow(_PLACES)
    assert row is not None, "the head is never deleted"
    places = (row["places"], row["first"] or row["head"] + 1, row["last"] or row["head"])
    if places != (row["head"] - row["trimmed"], row["trimmed"] + 1, row["head"]):
        finding.blame(f"places: {places} between {row['trimmed']} and {row['head']}")
    finding.looked_at.append(
        f"{row['changes']} changes in {row['places'] + row['fresh']} notices, {row['fresh']} fresh"
    )


async def check_feed(database: Database, pool: Pool, findings: Findings) -> None:
    """Each shop that reads its feed from the start is given all of it once, in order."""
    notices = Notices(database)
    for row in await pool.fetch(_SHOPS):
        cursor, more, ids = await notices.start(), True, list[str]()
        while more:
            found, cursor, more = await notices.after(row["client_id"], cursor, most=PAGE)
            ids += (notice.id for notice in found)
        if len(ids) != row["changes"] or len({*ids}) != len(ids):
            findings["I15"].blame(
                f"shop {row['client_id']}: read {len(ids)} changes ({len({*ids})} ids) of {row['changes']}"
            )
