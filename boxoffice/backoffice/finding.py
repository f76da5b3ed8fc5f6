"""Finding bookings of any shop: by whatever a customer or a bank statement tells, in PostgreSQL and in Redis.

PostgreSQL has a booking from its first payment attempt on. Holds, and what was admitted in the last milliseconds, stand in
Redis alone, where no index is: their records are read, those of undecided bookings, or all that are left when asked to.

One file because each way of looking is one statement and its twin in Redis.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.backoffice.snapshots import snapshot
from boxoffice.bookings.reading import Bookings
from boxoffice.errors import BoxOfficeError, NotFound, Overloaded
from boxoffice.settings import Settings
from boxoffice.states import WORDS
from boxoffice.stores import keys
from boxoffice.stores.database import Connection
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shard, Shards
from boxoffice.wire.render import BookingView
from boxoffice.wire.requests import check_text

__all__ = ["Finder", "Finding", "Match", "Wanted", "records"]

TEXT_MAX: Final = 255
"""Characters of what is looked for: as many as a gateway's ids may have."""

CHUNK: Final = 200
"""Records read at once: some 80 kB, and a few milliseconds of whoever sells tickets in the same process."""

AGAIN_S: Final = 2
"""When to look again while another looks through Redis."""

_BY_REFERENCE: Final = """
SELECT b.id::text AS id, c.id AS client FROM clients c CROSS JOIN LATERAL (
  SELECT id FROM bookings WHERE client_id = c.id AND reference = $1 ORDER BY id DESC LIMIT $2
) b ORDER BY b.id DESC LIMIT $2
"""
"""Shop by shop, since that is what the index begins with."""

_BY_CUSTOMER: Final = """
SELECT id::text AS id, client_id AS client FROM bookings WHERE customer_id = $1 ORDER BY id DESC LIMIT $2
"""

_BY_PAYMENT: Final = """
SELECT b.id::text AS id, b.client_id AS client FROM bookings b WHERE b.id IN (
  SELECT booking_id FROM payments WHERE payment_key = $1 OR reference = $1
  UNION SELECT booking_id FROM refunds WHERE refund_key = $1 OR reference = $1
) ORDER BY b.id DESC LIMIT $2
"""
"""Reads every payment: an index of the gateway's own ids would cost each sale, and this is asked a few times a day."""

_BY_CARD: Final = """
SELECT b.id::text AS id, b.client_id AS client FROM bookings b WHERE b.id IN (
  SELECT booking_id FROM payments
  WHERE last4 = $1 AND booking_id BETWEEN $5::uuid AND $6::uuid AND created_at >= $3 AND created_at < $4
) ORDER BY b.id DESC LIMIT $2
"""
"""Booking ids begin with their time. A payment is made within a day of its booking's admission: holds last minutes."""

_LIST: Final = """
SELECT id::text AS id, client_id AS client FROM bookings WHERE {} ORDER BY id DESC LIMIT {}
"""


class Match(NamedTuple):
    """A booking that was found: whose it is, by what, and how it is now."""

    client: str
    by: str
    view: BookingView


class Finding(NamedTuple):
    """What was found, newest first. `redis_away`: holds that only Redis knows are not among it. `more`: behind which
    booking there may be others."""

    matches: list[Match]
    redis_away: bool = False
    more: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bookings to list; None for any. Times are those of admission."""

    client: str | None = None
    event: str | None = None
    status: str | None = None
    customer: str | None = None
    reference: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: str | None = None
    """Only what stands behind this booking."""


class _Candidate(NamedTuple):
    booking: str
    client: str
    by: str


class Finder:
    """Looks for bookings on behalf of operators, who may see every shop's."""

    def __init__(self, shards: Shards, bookings: Bookings, settings: Settings) -> None:
        self._shards = shards
        self._bookings = bookings
        self._settings = settings
        self._sweep = asyncio.Lock()

    async def owner(self, booking: str) -> str:
        """The client of a booking, by its canonical id. Raises `NotFound` when both stores answered and neither knows it,
        PostgreSQL's errors, and Redis's when PostgreSQL does not know it."""
        async with snapshot(self._settings) as connection:
            client = await connection.fetchval("SELECT client_id FROM bookings WHERE id = $1::uuid", booking)
        if client is not None:
            return str(client)
        raw = await self._shards[ids.shard_of(booking)].redis.get(keys.booking(ids.shard_of(booking), booking))
        try:
            return unpack(booking, raw or b"").body.client
        except ValueError:
            raise NotFound("There is no such booking.") from None

    async def find(self, text: str, limit: int, *, ended: bool = False) -> Finding:
        """Bookings of which this is the id, the reference, the customer, or a payment's or refund's key or the gateway's id
        of it. `ended`: look in Redis for holds, too, that ended unpaid and are not forgotten yet. By its id a booking is read
        alone; for anything else Redis is looked through, for one at a time.

        Raises PostgreSQL's errors, `Malformed` and `CardDataRefused` for the text, and `Overloaded` while another looks.
        """
        check_text(text, "/text", TEXT_MAX)
        if (known := ids.canonical_booking_id(text)) and (match := await self._by_id(known)):
            return Finding([match])
        found: builtins.list[_Candidate] = []
        async with snapshot(self._settings) as connection:
            for by, query in (("reference", _BY_REFERENCE), ("customer", _BY_CUSTOMER), ("payment", _BY_PAYMENT)):
                if not found or by == "customer":
                    found += await _candidates(connection, by, query, text, limit + 1)

        def found_by(record: Record) -> str | None:
            names = {record.payment_key: "payment", record.body.reference: "reference"}
            return names.get(text) or ("customer" if record.body.customer == text else None)

        return await self._finding(found, found_by, limit, ended=ended)

    async def _by_id(self, booking: str) -> Match | None:
        """None, too, when Redis is away and PostgreSQL does not know it."""
        try:
            return await self._match(_Candidate(booking, await self.owner(booking), "id"))
        except (NotFound, RedisError, OSError):
            return None

    async def by_card(self, last4: str, day: date, limit: int, *, ended: bool = False) -> Finding:
        """Bookings that were tried to be paid on that day (UTC) with a card that ends so. Raises as `find`."""
        start = datetime.combine(day, time(), UTC)
        end = start + timedelta(days=1)
        bounds = (_first_id(start - timedelta(days=1)), _first_id(end))
        async with snapshot(self._settings) as connection:
            found = await _candidates(connection, "card", _BY_CARD, last4, limit + 1, start, end, *bounds)

        def found_by(record: Record) -> str | None:
            card = record.payload.outcome or record.payload.charge
            at = datetime.fromtimestamp(record.admitted_ms / 1_000, UTC)
            return "card" if card and card.last4 == last4 and start <= at < end else None

        return await self._finding(found, found_by, limit, ended=ended)

    async def list(self, wanted: Wanted, limit: int) -> Finding:
        """Bookings of all shops, newest first. Raises PostgreSQL's errors."""
        conditions, values = _conditions(wanted)
        query = _LIST.format(" AND ".join(["duplicate_of IS NULL", *conditions]), limit + 1)
        async with snapshot(self._settings) as connection:
            found = [_Candidate(row["id"], row["client"], "list") for row in await connection.fetch(query, *values)]
        finding = await self._finding(found, lambda record: "list" if agrees(wanted, record) else None, limit)
        if wanted.status is None:
            return finding
        return finding._replace(matches=[match for match in finding.matches if match.view.status == wanted.status])

    async def _finding(
        self,
        found: builtins.list[_Candidate],
        found_by: Callable[[Record], str | None],
        limit: int,
        *,
        ended: bool = False,
    ) -> Finding:
        away = False
        if self._sweep.locked():
            raise Overloaded("Another looks through Redis at the moment.", retry_after_s=AGAIN_S)
        async with self._sweep:
            try:
                for shard in self._shards:
                    async for record in records(shard, ended=ended):
                        if by := found_by(record):
                            found.append(_Candidate(record.id, record.body.client, by))
            except (RedisError, OSError):
                away = True
        once = {each.booking: each for each in reversed(found)}
        ordered = [once[booking] for booking in sorted(once, reverse=True)]
        page = ordered[:limit]
        matches = [match for match in await asyncio.gather(*map(self._match, page)) if match]
        # Two that were one purchase are answered by the first.
        matches = list({match.view.id: match for match in matches}.values())
        return Finding(matches, away, page[-1].booking if len(ordered) > limit else None)

    async def _match(self, found: _Candidate) -> Match | None:
        try:
            return Match(found.client, found.by, (await self._bookings.get(found.client, found.booking)).view)
        except NotFound:
            return None
        except BoxOfficeError:
            # Redis is away or shut: PostgreSQL's word will do.
            try:
                return Match(found.client, found.by, await self._bookings.decided(found.client, found.booking))
            except NotFound:
                return None


async def _candidates(connection: Connection, by: str, query: str, *values: Any) -> list[_Candidate]:
    return [_Candidate(row["id"], row["client"], by) for row in await connection.fetch(query, *values)]


def _first_id(at: datetime) -> str:
    """No booking of that time or later has a smaller id."""
    return str(UUID(int=max(0, int(at.timestamp() * 1_000)) << 80))


def _conditions(wanted: Wanted) -> tuple[list[str], list[str]]:
    bounds: Mapping[str, str | None] = {
        "client_id = ${}": wanted.client,
        "event_id = ${}": wanted.event,
        "status = ${}": wanted.status,
        "customer_id = ${}": wanted.customer,
        "reference = ${}": wanted.reference,
        "id >= ${}::uuid": _first_id(wanted.since) if wanted.since else None,
        "id < ${}::uuid": _first_id(wanted.until) if wanted.until else None,
        "id < ${}::uuid ": wanted.after,
    }
    chosen = [(condition, value) for condition, value in bounds.items() if value is not None]
    return [condition.format(at) for at, (condition, _) in enumerate(chosen, 1)], [value for _, value in chosen]


def agrees(wanted: Wanted, record: Record) -> bool:
    """Whether a record is one of the wanted."""
    return (
        wanted.client in (None, record.body.client)
        and wanted.event in (None, record.event)
        and wanted.status in (None, WORDS[record.state])
        and wanted.customer in (None, record.body.customer)
        and wanted.reference in (None, record.body.reference)
        and (wanted.since is None or record.id >= _first_id(wanted.since))
        and (wanted.until is None or record.id < _first_id(wanted.until))
        and (wanted.after is None or record.id < wanted.after)
    )


async def records(shard: Shard, *, ended: bool) -> AsyncIterator[Record]:
    """Of a shard's undecided bookings; with `ended`, all that Redis still has. Raises Redis's errors."""
    async for some in _ids(shard, ended=ended):
        raws = await shard.redis.mget([keys.booking(shard.number, booking) for booking in some])
        for booking, raw in zip(some, raws, strict=True):
            try:
                yield unpack(booking, raw or b"")
            except ValueError:
                continue  # parked and unreadable, or over by now: `boxoffice dead` tells of the one


async def _ids(shard: Shard, *, ended: bool) -> AsyncIterator[builtins.list[str]]:
    """Ids of a shard's undecided bookings, some at a time; with `ended`, of all that Redis has. Raises Redis's errors."""
    redis, number = shard.redis, shard.number
    prefix = keys.booking(number, "")
    if ended:
        seen, some = set[str](), list[str]()
        async for name in redis.scan_iter(f"{prefix}*", count=CHUNK):
            booking = name.decode().removeprefix(prefix)
            if booking not in seen:
                seen.add(booking)
                some.append(booking)
            if len(some) == CHUNK:
                yield some
                some = []
        if some:
            yield some
        return
    sets = (keys.pending(number), keys.deadlines(number), keys.dead(number))
    found = [each.decode() for name in sets for each in await redis.zrange(name, 0, -1)]
    once = sorted(set(found))
    for start in range(0, len(once), CHUNK):
        yield once[start : start + CHUNK]
