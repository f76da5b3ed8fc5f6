"""Writes bookings that PostgreSQL has forgotten as Redis remembers them: the statements of `recovery.py`, and what they say.

No gateway is asked. A booking that was confirmed had its payment authorised, perhaps captured: its capture is due again,
under the same payment key, and one that was captured already is simply marked.

One file because what is written of a booking follows from one reading of its record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from boxoffice import ids
from boxoffice.books.columns import INSERT_BOOKINGS, INSERT_ITEMS, BookingRow, booking_arrays, item_arrays
from boxoffice.books.inventory import lock_inventory, sell
from boxoffice.books.items import drop_items
from boxoffice.books.moves import Note, came_back
from boxoffice.books.notices import NOTICE_OF_REFUNDS, Groups, group_up, notify
from boxoffice.books.rows import known_by_key
from boxoffice.books.sold import REFUND_PERCENT
from boxoffice.states import HOLDS_STOCK, WITHDRAWN, WORDS
from boxoffice.stores.database import Connection
from boxoffice.stores.fence import Pair, open_batch
from boxoffice.stores.record import Record

__all__ = ["Rewritten", "rewrite"]

_EXISTING = "SELECT id::text AS id, status FROM bookings WHERE id = ANY($1::uuid[]) FOR UPDATE"

_INSERT_BOOKINGS = f"""{INSERT_BOOKINGS}
ON CONFLICT (id) DO UPDATE SET status = excluded.status, failure_code = excluded.failure_code,
    amount_cents = excluded.amount_cents, updated_at = now()
"""

_INSERT_ITEMS = f"{INSERT_ITEMS}ON CONFLICT (booking_id, tier_id) DO UPDATE SET refunded = excluded.refunded"

_INSERT_PAYMENTS = """
INSERT INTO payments (payment_key, booking_id, gateway, method, last4, amount_cents, refunded_cents, currency, status,
                      reference, failure_code, due, due_at, due_since)
SELECT key, booking, $11, method, last4, amount, refunded, currency, status, reference, failure, due,
       CASE WHEN due IS NOT NULL THEN now() END, CASE WHEN due IS NOT NULL THEN now() END
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
            $10::text[], $12::text[])
  AS new (key, booking, method, last4, amount, refunded, currency, status, reference, failure, due)
ON CONFLICT (payment_key) DO UPDATE
SET status = excluded.status, reference = coalesce(excluded.reference, payments.reference),
    failure_code = excluded.failure_code, refunded_cents = excluded.refunded_cents, next_action = NULL,
    due = excluded.due, due_at = excluded.due_at, due_since = excluded.due_since, leased_until = NULL, updated_at = now()
WHERE payments.status IN ('unknown', 'requires_action')
RETURNING payment_key
"""

_INSERT_REFUNDS = f"""
WITH moved AS (
  INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status, fingerprint, items)
  SELECT key, booking, payment, amount, currency, reason, CASE WHEN amount = 0 THEN 'succeeded' ELSE 'due' END, asked, items
  FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
    AS new (key, booking, payment, amount, currency, reason, asked, items)
  ON CONFLICT DO NOTHING
  RETURNING booking_id AS booking, refund_key AS key, status, amount_cents AS cents, failure_code)
{NOTICE_OF_REFUNDS}
"""

_KEEP_OWNERS = """
UPDATE bookings b SET owner = forgotten.owner FROM unnest($1::uuid[], $2::text[]) AS forgotten (id, owner)
WHERE b.id = forgotten.id
"""

_TERMS = f"SELECT e.id, {REFUND_PERCENT} AS refund_percent FROM events e WHERE e.id = ANY($1::text[])"

_SET_ASIDE: Final = ("authorized", "captured")
_LET_GO: Final = ("unknown", "requires_action", *_SET_ASIDE)
"""Money of a payment in these states may still be set aside, or taken."""


class Rewritten(NamedTuple):
    """What one transaction wrote."""

    confirmed: int
    ended: int
    pair: Pair | None
    """Of its batch; None when there was nothing to write."""
    withdrawn: list[str]
    """Redis has to hear of these."""


class _Refund(NamedTuple):
    key: str
    amount_cents: int
    reason: str
    fingerprint: str | None
    tickets: Mapping[str, int]
    """Tier to tickets that came back with it."""


class _Row(NamedTuple):
    """A booking as it is written."""

    record: Record
    status: str
    failure: str | None
    payment: str
    """Status of its payment; empty without one."""
    due: str | None
    back: Mapping[str, int]
    """Tier to tickets that came back."""
    refunds: Sequence[_Refund]
    duplicate_of: str | None = None

    @property
    def refunded_cents(self) -> int:
        """At most what was paid."""
        return min(self.record.body.amount_cents, sum(refund.amount_cents for refund in self.refunds))


async def rewrite(
    connection: Connection, shard: int, records: list[Record], notes: Mapping[str, Sequence[Note]], *, gateway: str,
    known: set[str], forget: bool,
) -> Rewritten:  # fmt: skip
    """Write these as their shops were told, the confirmed ones in the order of admission and as far as there are tickets;
    none of them with `forget`, or of an event that is not `known`. One transaction, the caller's.
    """
    left = await lock_inventory(connection, {line.tier for record in records for line in record.body.lines})
    there = {row["id"]: row["status"] for row in await connection.fetch(_EXISTING, [record.id for record in records])}
    firsts = await known_by_key(connection, [record for record in records if record.payload.key])
    percent = {
        row["id"]: row["refund_percent"]
        for row in await connection.fetch(_TERMS, list({record.event for record in records}))
    }
    rows: list[_Row] = []
    for record in sorted(records, key=lambda record: record.sequence):
        if there.get(record.id, "pending") not in ("pending", "held", "expired"):
            continue  # written meanwhile
        first = firsts.get(record.id)
        if first is not None and first.id != record.id:
            rows.append(_Row(record, "failed", "duplicate", "", None, {}, (), first.id))
            continue
        row = _as_recorded(record, notes.get(record.id, ()), percent.get(record.event, 100))
        sellable = record.event in known and not forget and all(left.get(tier, 0) >= n for tier, n in _net(row).items())
        if (record.state == "C" and not sellable) or (record.state in HOLDS_STOCK and record.event not in known):
            row = _withdrawn(row)
        for tier, tickets in _net(row).items():
            left[tier] -= tickets
        rows.append(row)
    await _write(connection, rows, gateway)
    sold: Counter[str] = Counter()
    for row in rows:
        sold.update(_net(row))
    await sell(connection, sold)
    pair = await open_batch(connection, shard, ()) if rows else None
    told = [row for row in rows if row.status != WORDS[row.record.state]]
    confirmed = sum(row.status == "confirmed" for row in rows)
    return Rewritten(confirmed, len(rows) - confirmed - len(told), pair, [row.record.id for row in told])


def _as_recorded(record: Record, notes: Iterable[Note], refund_percent: int) -> _Row:
    """What Redis says of the booking, with what is due at the gateway for it."""
    outcome, failure = record.payload.outcome, record.payload.failure
    payment = outcome.status if outcome is not None and record.payment_key else ""
    duplicate_of = None
    if failure is not None and failure.startswith("duplicate_of:"):
        failure, duplicate_of = "duplicate", failure.removeprefix("duplicate_of:")
    back: Counter[str] = Counter()
    refunds: dict[str, _Refund] = {}
    for key, (note, tickets) in came_back(notes).items():
        back.update(tickets)
        if key:
            refunds[key] = _Refund(key, note.amount_cents, note.reason, note.fingerprint or None, tickets)
    due = "void" if payment in _LET_GO else None
    if record.state in "CX" and payment in _SET_ASIDE:
        # Cancelled before its capture, it is captured all the same, and then refunded by its terms.
        payment, due = "authorized", "capture"
    if record.state == "X":
        # What nobody remembers how it was given back was given back by the event's terms.
        left = {
            line.tier: line.quantity - back[line.tier] for line in record.body.lines if line.quantity > back[line.tier]
        }
        price = sum(left.get(line.tier, 0) * line.unit_price_cents for line in record.body.lines)
        if due == "capture" and price:
            key = ids.digest(record.id, "cancel")
            refunds.setdefault(key, _Refund(key, price * refund_percent // 100, "cancelled", None, left))
        if due == "capture" or not record.body.amount_cents:
            # It was sold. A hold that was never paid gave back no ticket of a sale.
            back = Counter({line.tier: line.quantity for line in record.body.lines})
    return _Row(record, WORDS[record.state], failure, payment, due, back, list(refunds.values()), duplicate_of)


def _withdrawn(row: _Row) -> _Row:
    """It cannot be a sale any more; its shop reads so, and its money goes back."""
    payment = row.payment or ("unknown" if row.record.payment_key else "")
    return row._replace(status="failed", failure=WITHDRAWN, payment=payment, due="void" if payment else None)


def _net(row: _Row) -> dict[str, int]:
    """Tier to tickets that it has, if it has any."""
    if row.status != "confirmed":
        return {}
    net = {line.tier: line.quantity - row.back.get(line.tier, 0) for line in row.record.body.lines}
    return {tier: tickets for tier, tickets in net.items() if tickets > 0}


async def _keep_owners(connection: Connection, records: list[Record]) -> None:
    """Of customers who were forgotten: their pseudonym does not tell by what their tickets count."""
    if owners := {record.id: record.payload.owner for record in records if record.payload.owner}:
        await connection.execute(_KEEP_OWNERS, [*owners], [*owners.values()])


def _groups(rows: list[_Row], moved: set[str]) -> Groups:
    """What is told of them. `moved`: the payments that were written."""
    groups: Groups = {}
    for row in rows:
        body, key, paid = row.record.body, row.record.payment_key, row.record.payment_key in moved
        outcome = row.record.payload.outcome
        group = (
            body.client, row.record.event, row.status, row.failure, row.payment if paid else None,
            outcome.failure_code if outcome and paid else None, row.duplicate_of,
        )  # fmt: skip
        group_up(groups, group, row.record.id, key)
    return groups


async def _write(connection: Connection, rows: list[_Row], gateway: str) -> None:
    written = [
        # A record of an earlier version has no key.
        BookingRow(
            row.record, row.status, row.failure, row.duplicate_of, row.record.payload.key or ids.digest(row.record.id)
        )
        for row in rows
    ]
    await connection.execute(_INSERT_BOOKINGS, *booking_arrays(written))
    await _keep_owners(connection, [row.record for row in rows])
    lines = [
        (row.record.id, line, min(line.quantity, row.back.get(line.tier, 0)))
        for row in rows if row.failure != "duplicate" for line in row.record.body.lines
    ]  # fmt: skip
    # A hold may have had other items when it was written.
    await drop_items(connection, [row.record.id for row in rows if row.record.deadline_ms])
    await connection.execute(_INSERT_ITEMS, *item_arrays(lines))
    paid = [row for row in rows if row.payment]
    outcomes = [row.record.payload.outcome for row in paid]
    moved = await connection.fetch(
        _INSERT_PAYMENTS,
        [row.record.payment_key for row in paid],
        [row.record.id for row in paid],
        [outcome.method if outcome else "card" for outcome in outcomes],
        [outcome.last4 if outcome else None for outcome in outcomes],
        [row.record.body.amount_cents for row in paid],
        [row.refunded_cents for row in paid],
        [row.record.body.currency for row in paid],
        [row.payment for row in paid],
        [outcome.reference if outcome else None for outcome in outcomes],
        [outcome.failure_code if outcome else None for outcome in outcomes],
        gateway,
        [row.due for row in paid],
    )
    await notify(connection, _groups(rows, {payment["payment_key"] for payment in moved}))
    refunds = [(row, refund) for row in rows for refund in row.refunds]
    await connection.execute(
        _INSERT_REFUNDS,
        [refund.key for _, refund in refunds],
        [row.record.id for row, _ in refunds],
        [row.record.payment_key if row.payment else None for row, _ in refunds],
        [refund.amount_cents for _, refund in refunds],
        [row.record.body.currency for row, _ in refunds],
        [refund.reason for _, refund in refunds],
        [refund.fingerprint for _, refund in refunds],
        [msgspec.json.encode(refund.tickets).decode() if refund.tickets else None for _, refund in refunds],
    )
