"""Reading bookings: from Redis while they are fresh, from PostgreSQL for ever after."""

from __future__ import annotations

import asyncio
import base64
import binascii
import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.bookings.records import Reading, Seen
from boxoffice.clock import CLOCK, Clock, timestamp
from boxoffice.errors import NotFound, StoreAway, Unavailable
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.states import KEY_REUSED
from boxoffice.stores import keys
from boxoffice.stores.database import Database, Row
from boxoffice.stores.lookups import BatchedReads
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards
from boxoffice.wire import render
from boxoffice.wire.parameters import bad_parameter
from boxoffice.wire.render import BookingView, ItemView, PaymentView, RefundState

__all__ = ["BookingFilter", "Bookings", "Found", "Page"]

UNSETTLED_MS = 2_000
"""A booking pending in Redis for so long is looked up in PostgreSQL too: a worker may have died between the commit and
telling Redis."""

FRESH_MS = 30_000
"""A final booking this old is read from PostgreSQL, which hears of captures and refunds; Redis is the second choice."""

DUPLICATE = "duplicate_of:"
"""Begins the failure in the record of a booking whose key had been used before, while Redis had forgotten it."""


class Found(NamedTuple):
    """A booking, and whether it is the one that was asked for: one that repeated a forgotten key is answered by the
    original."""

    view: BookingView
    original: bool


class Page(NamedTuple):
    """Some bookings, newest first, and where to go on."""

    views: list[BookingView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class BookingFilter:
    """Which bookings to list; None for any. `key_digest` is that of an idempotency key."""

    customer_id: str | None = None
    event_id: str | None = None
    status: str | None = None
    reference: str | None = None
    key_digest: str | None = None


class _Row(NamedTuple):
    client: str
    payment_key: str | None
    duplicate_of: UUID | None
    """The booking that answers for this one. None of one that used its key for another request."""
    view: BookingView


class _Query(NamedTuple):
    """What PostgreSQL is asked for one page of a list."""

    page: str
    values: list[str]
    last: str
    """Asks for the last booking among which the page is looked for, when there are so many. Empty: there are few."""
    bounds: list[str]
    """Its values."""


class Bookings:
    """What is known of bookings, wherever it is. A booking is shown to its own client only."""

    def __init__(
        self, shards: Shards, database: Database, catalogue: Catalogue, settings: Settings, clock: Clock = CLOCK
    ) -> None:
        self._reading = Reading(shards, settings)
        self.database = database
        self._catalogue = catalogue
        self._shards = shards
        self._epoch_ns = clock.epoch_ns
        self.records = BatchedReads(self.read_records, most=200)
        self.rows = BatchedReads(self.read_rows, most=200)

    async def get(self, client: str, booking_id: str) -> Found:
        """The client's booking.

        Raises `NotFound` when both stores answered and neither has it, or it is another client's; `Unavailable` when
        nobody can say.
        """
        booking = ids.canonical_booking_id(booking_id)
        if booking is None:
            raise NotFound("There is no such booking.")
        record, away, shut = await self.record(booking)
        if record is not None:
            if record.body.client != client:
                raise NotFound("There is no such booking.")
            failure = record.payload.failure
            if failure is not None and failure.startswith(DUPLICATE):
                return Found((await self.get(client, failure.removeprefix(DUPLICATE))).view, original=False)
            if is_fresh(record, self._epoch_ns) and not shut:
                try:
                    return Found(render.of_record(record, await self._catalogue.event(record.event)), original=True)
                except (Unavailable, NotFound):
                    return await self.settled(client, booking, None, redis_away=True)
        return await self.settled(client, booking, record, redis_away=away or shut, shut=shut)

    async def decided(self, client: str, booking: str) -> BookingView:
        """The client's booking as PostgreSQL has it, for who has just changed it there. Raises as `get`."""
        return (await self.settled(client, booking, None, redis_away=False)).view

    async def attempt(self, booking: str, payment_key: str) -> tuple[str | None, PaymentView] | None:
        """One payment of a booking as PostgreSQL has it, with the fingerprint of its request (None: nobody remembers).

        Raises `StoreAway`.
        """
        async with self.database.answering():
            row = await self.database.fetchrow(_ATTEMPT, booking, payment_key)
        if row is None:
            return None
        card = row["last4"] or row["token"]
        return ids.payment_fingerprint(row["method"], card) if card else None, _payment(row)

    async def show(self, record: Record) -> BookingView:
        """What a record says, as its client sees it. Raises `Unavailable` while the catalogue is not there."""
        return render.of_record(record, await self._catalogue.event(record.event))

    async def settled(
        self, client: str, booking: str, record: Record | None, *, redis_away: bool, shut: bool = False
    ) -> Found:
        """PostgreSQL's answer, which wins over none, over a record that was not told yet, and over any under a gate that is
        shut."""
        try:
            row = await self.rows.ask(booking)
        except StoreAway:
            if record is None:
                raise
            return Found(await self.show(record), original=True)
        if row is not None and row.client == client:
            if row.duplicate_of is not None:
                return Found((await self.get(client, str(row.duplicate_of))).view, original=False)
            if record is None or shut or _newer(row, record):
                return Found(row.view, original=True)
        if record is not None:
            return Found(await self.show(record), original=True)
        if redis_away and row is None:
            raise StoreAway
        raise NotFound("There is no such booking.")

    async def record(self, booking: str) -> tuple[Record | None, bool, bool]:
        """The record, whether Redis failed to answer, and whether its gate is shut."""
        try:
            if ids.shard_of(booking) >= len(self._shards):
                # Nobody here serves it. Whoever made it may have accepted it all the same: then it is not for us to say.
                return None, await self._shards.anywhere(keys.booking(ids.shard_of(booking), booking)), False
            seen = await self.records.ask(booking)
        except (StoreAway, RedisError, OSError):
            return None, True, False
        assert seen is not None, "one for each"
        try:
            return (unpack(booking, seen.raw) if seen.raw else None), False, seen.shut
        except ValueError:
            return None, False, seen.shut

    async def read_records(self, bookings: list[str]) -> Mapping[str, Seen]:
        """What Redis has of these bookings, by id; nothing when it is away."""
        by_shard: dict[int, list[str]] = {}
        for booking in bookings:
            by_shard.setdefault(ids.shard_of(booking), []).append(booking)
        found: dict[str, Seen] = {}
        try:
            for shard, some in by_shard.items():
                found |= zip(some, await self._reading.read(shard, some), strict=True)
        except (RedisError, OSError) as error:
            raise StoreAway from error
        return found

    async def read_rows(self, names: list[str]) -> Mapping[str, _Row]:
        """What PostgreSQL has of these bookings, by id. Raises `StoreAway`."""
        rows = await self._fetch(f"{_SELECT} WHERE b.id = ANY($1::uuid[])", [UUID(name) for name in names])
        return {row.view.id: row for row in rows}

    async def _fetch(self, query: str, *values: Any) -> list[_Row]:
        async with self.database.answering():
            rows = await self.database.fetch(query, *values)
        return [_of_row(row) for row in rows]

    async def list(self, client: str, wanted: BookingFilter, cursor: str | None, limit: int) -> Page:
        """The client's bookings, newest first, as PostgreSQL has them: from their first payment attempt on.

        One that is asked for by its event and idempotency key is also looked for in Redis, so that a shop that lost its
        answer finds it at once. Raises `Malformed` for a cursor that is none of ours.
        """
        if wanted.key_digest and wanted.event_id:
            return await self._by_key(client, wanted)
        columns = {
            "client_id": client, "customer_id": wanted.customer_id, "event_id": wanted.event_id,
            "reference": wanted.reference, "status": wanted.status, "idempotency_key": wanted.key_digest,
        }  # fmt: skip
        chosen = {column: value for column, value in columns.items() if value is not None}
        query = (by_lead if wanted.key_digest is None else _by_key)(
            chosen, None if cursor is None else id_after(cursor), limit
        )
        rows, behind = await self._fetch_page(query, limit)
        views = await asyncio.gather(*(self.as_read(row, wanted) for row in rows))
        return Page([view for view in views if view is not None], cursor_of(behind) if behind else None)

    async def _fetch_page(self, query: _Query, limit: int) -> tuple[builtins.list[_Row], str | None]:
        """A page, and the booking behind which the next one begins."""
        async with (
            self.database.answering(),
            self.database.reader() as connection,
            connection.transaction(readonly=True, isolation="repeatable_read"),
        ):
            if query.last:
                await connection.execute(IN_ORDER)
            rows = [_of_row(row) for row in await connection.fetch(query.page, *query.values)]
            if len(rows) > limit:
                return rows[:limit], rows[limit - 1].view.id
            return rows, await connection.fetchval(query.last, *query.bounds) if query.last else None

    async def as_read(self, row: _Row, wanted: BookingFilter) -> BookingView | None:
        """A listed booking as reading it would say: of one that is undecided Redis knows more. None when it is none of
        the wanted any more."""
        if row.view.status not in ("held", "pending"):
            return row.view
        record, _, shut = await self.record(row.view.id)
        if (
            record is None
            or shut
            or record.body.client != row.client
            or not (is_fresh(record, self._epoch_ns) or not _newer(row, record))
        ):
            return row.view
        try:
            view = await self.show(record)
        except (Unavailable, NotFound):
            return row.view
        return view if agrees(view, wanted) else None

    async def _by_key(self, client: str, wanted: BookingFilter) -> Page:
        """The one booking that used this key for this event first, if the rest of the filter agrees with it."""
        assert wanted.event_id is not None and wanted.key_digest is not None
        try:
            shard = (await self._catalogue.event(wanted.event_id)).shard
            name = keys.idempotency(shard, ids.scope(client, wanted.event_id, wanted.key_digest))
            booking = await self._shards[shard].redis.get(name)
        except (NotFound, Unavailable, RedisError, OSError):
            booking = None
        views = [(await self.get(client, booking.decode())).view] if booking is not None else []
        if not views or (views[0].failure and views[0].failure.code == KEY_REUSED):
            query = f"{_SELECT} WHERE b.client_id || '' = $1 AND b.event_id || '' = $2 AND b.idempotency_key = $3"
            rows = await self._fetch(f"{query} AND b.duplicate_of IS NULL", client, wanted.event_id, wanted.key_digest)
            views = [row.view for row in rows]
        return Page([view for view in views if agrees(view, wanted)], None)


def is_fresh(record: Record, epoch_ns: Callable[[], int]) -> bool:
    """Whether Redis alone knows. The clocks of two hosts decide only where to look."""
    if record.state == "H":
        return True
    if record.state == "X" or record.refunded:
        return False  # what was refunded is PostgreSQL's to tell
    return epoch_ns() // 1_000_000 - record.admitted_ms < (UNSETTLED_MS if record.state == "P" else FRESH_MS)


def _newer(row: _Row, record: Record) -> bool:
    """Whether PostgreSQL knows more. Of a hold that is being paid again, its row may still tell the earlier attempt; and
    it hears of a hold that ended after Redis has ended it."""
    if record.state == "P":
        return row.payment_key == record.payment_key
    return row.view.status not in ("pending", "held")


def agrees(view: BookingView, wanted: BookingFilter) -> bool:
    return (
        wanted.customer_id in (None, view.customer_id)
        and wanted.status in (None, view.status)
        and wanted.reference in (None, view.reference)
    )


def cursor_of(booking: str) -> str:
    return base64.urlsafe_b64encode(UUID(booking).bytes).decode().rstrip("=")


def id_after(cursor: str) -> str:
    try:
        return str(UUID(bytes=base64.urlsafe_b64decode(cursor + "==")))
    except (ValueError, binascii.Error):
        raise bad_parameter("This is no cursor of ours.", "cursor", "cursor") from None


_SELECT = """
SELECT b.id::text AS id, b.client_id, b.event_id, b.customer_id, b.reference, b.status, b.amount_cents, b.currency,
       b.duplicate_of, b.failure_code,
       (extract(epoch FROM b.created_at) * 1000)::bigint AS created_ms,
       (extract(epoch FROM b.expires_at) * 1000)::bigint AS expires_ms,
       i.tiers, i.codes, i.quantities, i.prices,
       p.payment_key, p.status AS payment_status, p.method, p.last4, p.reference AS payment_reference,
       p.failure_code AS payment_failure, p.next_action, coalesce(p.refunded_cents, 0) AS refunded_cents,
       r.refunds, r.written_off, r.pending_cents, r.owed_cents, r.code AS owed_code, r.since_ms AS owed_ms
FROM bookings b
CROSS JOIN LATERAL (
  SELECT array_agg(i.tier_id ORDER BY i.tier_id) AS tiers, array_agg(t.code ORDER BY i.tier_id) AS codes,
         array_agg(i.quantity ORDER BY i.tier_id) AS quantities,
         array_agg(i.unit_price_cents ORDER BY i.tier_id) AS prices
  FROM booking_items i JOIN tiers t ON t.id = i.tier_id WHERE i.booking_id = b.id
) i
LEFT JOIN LATERAL (
  SELECT * FROM payments WHERE booking_id = b.id ORDER BY created_at DESC, payment_key LIMIT 1
) p ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS refunds, count(*) FILTER (WHERE status = 'written_off') AS written_off,
         coalesce(sum(amount_cents) FILTER (WHERE status IN ('due', 'pending')), 0)::bigint AS pending_cents,
         coalesce(sum(amount_cents) FILTER (WHERE status = 'owed'), 0)::bigint AS owed_cents,
         (array_agg(failure_code ORDER BY owed_since) FILTER (WHERE status = 'owed'))[1] AS code,
         (extract(epoch FROM min(owed_since) FILTER (WHERE status = 'owed')) * 1000)::bigint AS since_ms
  FROM refunds WHERE booking_id = b.id AND status <> 'dropped'
) r
"""


_PAGE = f"""
{_SELECT.replace("FROM bookings b", "FROM ({}) b")}
ORDER BY b.id DESC
"""
"""The page first, and only of what is on it items and payments."""

LOOKED_AT: Final = 5_000
"""Bookings among which one page is looked for. They take some milliseconds."""

_LEADS: Final = (
    (("client_id", "reference"), "reference IS NOT NULL"),
    (("customer_id", "client_id"), "true"),
    (("event_id", "client_id"), "true"),
    (("client_id", "status"), "status <> 'confirmed'"),
    (("client_id",), "true"),
)
"""What the indexes begin with that have bookings by id behind it, and the condition of those that have only some. What is
confirmed has none of its own, for which every sale would have to pay."""

IN_ORDER: Final = "".join(
    f"SET LOCAL {what} = off; " for what in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_incremental_sort")
)  # fmt: skip
"""PostgreSQL takes bookings by id for scattered over the table, and would rather read all of it."""


def by_lead(chosen: Mapping[str, str], after: str | None, limit: int) -> _Query:
    """A page is looked for among the next `LOOKED_AT` bookings that one index has in order. So it reads no more, whatever
    the filter, and may be a short one.

    Where in the index to begin and to end is told by comparing rows. Were PostgreSQL told that the first columns are the
    same in all of them, it would take the primary key instead, and read everybody's.
    """
    lead, some = next(
        (lead, some) for lead, some in _LEADS
        if chosen.keys() >= set(lead) and ("status" not in lead or chosen["status"] != "confirmed")
    )  # fmt: skip
    bounds = [chosen[column] for column in lead]
    names, marks = ", ".join(lead), ", ".join(f"${at}" for at in range(1, len(lead) + 1))
    # One bound each way: of two, PostgreSQL may begin at the farther one.
    within = f"{some} AND ROW({names}) >= ROW({marks}) AND "
    if after is None:
        within += f"ROW({names}) <= ROW({marks})"
    else:
        bounds.append(after)
        within += f"ROW({names}, id) < ROW({marks}, ${len(bounds)}::uuid)"
    order = "ORDER BY " + ", ".join(f"{column} DESC" for column in (*lead, "id"))
    others, values = _others(chosen, lead, bounds)
    page = f"SELECT * FROM bookings WHERE {within} {order} LIMIT {LOOKED_AT}"
    page = f"SELECT * FROM ({page}) latest WHERE {others} {order} LIMIT {limit + 1}"
    last = f"SELECT id::text AS last FROM bookings WHERE {within} {order} OFFSET {LOOKED_AT - 1} LIMIT 1"
    return _Query(_PAGE.format(page), values, last, bounds)


def _by_key(chosen: Mapping[str, str], after: str | None, limit: int) -> _Query:
    """A client's bookings under one idempotency key: at most one of each event. `OFFSET 0` has them looked up first."""
    bounds = [chosen["idempotency_key"], chosen["client_id"]]
    within = "idempotency_key = $1 AND client_id || '' = $2 AND duplicate_of IS NULL"
    if after is not None:
        bounds.append(after)
        within += f" AND id < ${len(bounds)}::uuid"
    others, values = _others(chosen, ("idempotency_key", "client_id"), bounds)
    page = f"SELECT * FROM (SELECT * FROM bookings WHERE {within} OFFSET 0) few WHERE {others}"
    page += f" ORDER BY id DESC LIMIT {limit + 1}"
    return _Query(_PAGE.format(page), values, "", [])


def _others(chosen: Mapping[str, str], lead: Sequence[str], bounds: Sequence[str]) -> tuple[str, list[str]]:
    """The conditions of the other columns, and the values of all."""
    rest = {column: value for column, value in chosen.items() if column not in lead}
    conditions = [f"{column} = ${at}" for at, column in enumerate(rest, len(bounds) + 1)]
    return " AND ".join(["duplicate_of IS NULL", *conditions]), [*bounds, *rest.values()]


_ATTEMPT = """
SELECT method, last4, token, status AS payment_status, reference AS payment_reference, failure_code AS payment_failure,
       next_action
FROM payments WHERE booking_id = $1::uuid AND payment_key = $2
"""


def _payment(row: Row) -> PaymentView:
    status = "pending" if row["payment_status"] == "unknown" else row["payment_status"]
    return PaymentView(
        status, row["method"], row["last4"], row["payment_reference"], row["payment_failure"], row["next_action"]
    )


def _of_row(row: Row) -> _Row:
    items = zip(row["tiers"] or (), row["codes"] or (), row["quantities"] or (), row["prices"] or (), strict=True)
    payment = _payment(row) if row["payment_status"] is not None else None
    view = BookingView(
        row["id"],
        row["status"],
        row["event_id"],
        row["customer_id"],
        row["reference"],
        [ItemView(tier, code, quantity, price, quantity * price) for tier, code, quantity, price in items],
        row["amount_cents"],
        row["currency"],
        row["refunded_cents"],
        refund_state(row) if row["refunds"] else None,
        timestamp(row["created_ms"]),
        timestamp(row["expires_ms"]) if row["expires_ms"] else None,
        render.seconds_left(row["expires_ms"] or 0, row["status"]),
        payment,
        render.failure_of(row["failure_code"]) if row["failure_code"] else None,
    )
    repeats = row["duplicate_of"] if row["failure_code"] == "duplicate" else None
    return _Row(row["client_id"], row["payment_key"], repeats, view)


def refund_state(row: Row) -> RefundState:
    if row["owed_cents"]:
        status = "owed"
    elif row["pending_cents"]:
        status = "pending"
    else:
        status = "written_off" if row["written_off"] else "succeeded"
    since = timestamp(row["owed_ms"]) if row["owed_ms"] else None
    return RefundState(status, row["pending_cents"], row["owed_cents"], row["owed_code"], since)
