"""Reading bookings: from Redis while they are fresh, from PostgreSQL for ever after.

One file because one booking and a list of them follow the same rules of whom to believe.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.bookings import refund_rows
from boxoffice.bookings.held import newest_held
from boxoffice.bookings.listing import (
    CREATED,
    IN_ORDER,
    OVER,
    UPDATED,
    Query,
    by_change,
    by_key,
    by_lead,
    cursor_of,
    place_after,
    place_of,
)
from boxoffice.bookings.records import Reading, Seen
from boxoffice.bookings.rows import ATTEMPT, SELECT, BookingRow, of_row, payment_of
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import NotFound, StoreAway, Unavailable
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.states import DUPLICATE_OF, KEY_REUSED
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.lookups import BatchedReads
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards
from boxoffice.wire import render
from boxoffice.wire.render import BookingView, PaymentView, RefundRowView

__all__ = ["BookingFilter", "Bookings", "Found", "Page"]

UNSETTLED_MS = 2_000
"""A booking pending in Redis for so long is looked up in PostgreSQL too: a worker may have died between the commit and
telling Redis."""

FRESH_MS = 30_000
"""A final booking this old is read from PostgreSQL, which hears of captures and refunds; Redis is the second choice."""


class Found(NamedTuple):
    """A booking, and whether it is the one that was asked for: one that repeated a forgotten key is answered by the
    original."""

    view: BookingView
    original: bool


class Page(NamedTuple):
    """Some bookings in the order of their list, where to go on, and of a list by change how far it goes: see `Query`."""

    views: list[BookingView]
    next_cursor: str | None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class BookingFilter:
    """Which bookings to list; None for any. `key_digest` is that of an idempotency key. By when they were made, newest first,
    or by their last change, oldest first; holds and one key's bookings by when they were made alone."""

    customer_id: str | None = None
    event_id: str | None = None
    status: str | None = None
    reference: str | None = None
    key_digest: str | None = None
    updated_since: datetime | None = None
    order: str = CREATED


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
            if failure is not None and failure.startswith(DUPLICATE_OF):
                return Found((await self.get(client, failure.removeprefix(DUPLICATE_OF))).view, original=False)
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
            row = await self.database.fetchrow(ATTEMPT, booking, payment_key)
        if row is None:
            return None
        card = row["last4"] or row["token"]
        return ids.payment_fingerprint(row["method"], card) if card else None, payment_of(row)

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
            if record is None or record.refunded:
                raise  # some of its tickets are valid no more, and Redis cannot tell which
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

    async def read_rows(self, names: list[str]) -> Mapping[str, BookingRow]:
        """What PostgreSQL has of these bookings, by id. Raises `StoreAway`."""
        rows = await self._fetch(f"{SELECT} WHERE b.id = ANY($1::uuid[])", [UUID(name) for name in names])
        return {row.view.id: row for row in rows}

    async def _fetch(self, query: str, *values: Any) -> list[BookingRow]:
        async with self.database.answering():
            rows = await self.database.fetch(query, *values)
        return [of_row(row) for row in rows]

    async def refunds(self, client: str, booking_id: str) -> builtins.list[RefundRowView]:
        """All refunds of the client's booking, oldest first: none of a hold that nobody tried to pay. Raises as `get`."""
        return await refund_rows.of_booking(self.database, (await self.get(client, booking_id)).view.id)

    async def refund(self, client: str, refund_id: str) -> RefundRowView:
        """One refund of the client's bookings. Raises `NotFound`, `StoreAway`."""
        return await refund_rows.one(self.database, client, refund_id)

    async def list(self, client: str, wanted: BookingFilter, cursor: str | None, limit: int) -> Page:
        """The client's bookings as PostgreSQL has them: from their first payment attempt on. Holds, when they are asked for by
        their status, as both stores have them.

        One that is asked for by its event and idempotency key is also looked for in Redis, so that a shop that lost its
        answer finds it at once. Raises `Malformed` for a cursor that is none of ours; of holds as `newest_held`.
        """
        after = None if cursor is None else place_after(cursor, wanted.order)
        if wanted.key_digest and wanted.event_id:
            return await self._by_key(client, wanted)
        query = await self._query(client, wanted, after, limit)
        rows, behind = await self._fetch_page(query, limit)
        found = await asyncio.gather(*(self.as_read(row, wanted) for row in rows))
        views = [view for view in found if view is not None]
        if wanted.status == "held" and wanted.key_digest is None:
            return await self._with_held(client, wanted, after, limit, views, behind)
        return Page(views, cursor_of(behind) if behind else None, query.as_of)

    async def _query(self, client: str, wanted: BookingFilter, after: str | None, limit: int) -> Query:
        columns = {
            "client_id": client, "customer_id": wanted.customer_id, "event_id": wanted.event_id,
            "reference": wanted.reference, "status": wanted.status, "idempotency_key": wanted.key_digest,
        }  # fmt: skip
        chosen = {column: value for column, value in columns.items() if value is not None}
        if wanted.key_digest is not None:
            return by_key(chosen, after, limit)
        if wanted.order == UPDATED:
            async with self.database.answering():
                over = await self.database.fetchval(OVER)
            return by_change(chosen, after, limit, wanted.updated_since, over)
        return by_lead(chosen, after, limit, wanted.updated_since)

    async def _with_held(
        self, client: str, wanted: BookingFilter, after: str | None, limit: int, known: builtins.list[BookingView],
        behind: str | None,
    ) -> Page:  # fmt: skip
        """A page of holds: those `known` to PostgreSQL, down to the booking `behind`, and those that Redis has."""
        shards = [*self._shards]
        if wanted.event_id is not None:
            try:
                shards = shards[(await self._catalogue.event(wanted.event_id)).shard :][:1]
            except NotFound:
                shards = []
        held = await newest_held(
            shards, self._reading,
            lambda record: record.body.client == client and wanted.event_id in (None, record.event)
            and wanted.customer_id in (None, record.body.customer)
            and wanted.reference in (None, record.body.reference),
            after, limit,
        )  # fmt: skip
        views = {view.id: view for view in known}
        for record in held.records:
            with suppress(NotFound):  # its event is gone: it hides no other
                views[record.id] = await self.show(record)
        # Of what is older than either store was looked at, the other may have more.
        floor = max(behind or "", held.behind or "")
        page = sorted((booking for booking in views if booking >= floor), reverse=True)
        last = page[limit - 1] if len(page) > limit else floor
        return Page([views[booking] for booking in page[:limit]], cursor_of(last) if last else None)

    async def _fetch_page(self, query: Query, limit: int) -> tuple[builtins.list[BookingRow], str | None]:
        """A page, and the place behind which the next one begins."""
        async with (
            self.database.answering(),
            self.database.reader() as connection,
            connection.transaction(readonly=True, isolation="repeatable_read"),
        ):
            if query.last:
                await connection.execute(IN_ORDER)
            rows = [of_row(row) for row in await connection.fetch(query.page, *query.values)]
            if len(rows) > limit:
                last = rows[limit - 1]
                return rows[:limit], place_of(query.order, last.view.id, last.updated_us)
            return rows, await connection.fetchval(query.last, *query.bounds) if query.last else None

    async def as_read(self, row: BookingRow, wanted: BookingFilter) -> BookingView | None:
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
        booking, views = b"", []
        with suppress(NotFound, Unavailable, RedisError, OSError):
            shard = (await self._catalogue.event(wanted.event_id)).shard
            name = keys.idempotency(shard, ids.scope(client, wanted.event_id, wanted.key_digest))
            booking = await self._shards[shard].redis.get(name) or b""
        with suppress(NotFound):  # nobody has used the key, or it outlived its record
            views = [(await self.get(client, booking.decode())).view]
        if not views or (views[0].failure and views[0].failure.code == KEY_REUSED):
            query = f"{SELECT} WHERE b.client_id || '' = $1 AND b.event_id || '' = $2 AND b.idempotency_key = $3"
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


def _newer(row: BookingRow, record: Record) -> bool:
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
