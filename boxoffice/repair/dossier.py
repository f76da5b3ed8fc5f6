"""What Redis, PostgreSQL and the gateway know of one booking, side by side. For operators."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.clock import timestamp
from boxoffice.errors import NotFound
from boxoffice.gateway.accounts import same_books
from boxoffice.gateway.base import PaymentGateway
from boxoffice.states import WORDS
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards

__all__ = ["Dossier", "Dossiers"]

Dossier = dict[str, Any]

_TABLES = {
    "booking": "SELECT * FROM bookings WHERE id = $1::uuid",
    "items": "SELECT tier_id, quantity, unit_price_cents, refunded FROM booking_items WHERE booking_id = $1::uuid"
    " ORDER BY tier_id",
    "payments": "SELECT payment_key, gateway, status, amount_cents, refunded_cents, currency, method, last4, reference,"
    " failure_code, due, due_at, due_since, leased_until, tries, created_at FROM payments WHERE booking_id = $1::uuid"
    " ORDER BY created_at",
    "refunds": "SELECT refund_key, status, amount_cents, reason, origin, attempt, reference, failure_code, owed_since, due_at,"
    " due_since, tries, written_off_at, written_off_by, written_off_reason FROM refunds WHERE booking_id = $1::uuid"
    " ORDER BY created_at",
    "disputes": "SELECT d.reference, d.amount_cents, d.status, d.reason, d.withdrawn, d.created_at, d.updated_at"
    " FROM disputes d JOIN payments p ON p.payment_key = d.payment_key WHERE p.booking_id = $1::uuid ORDER BY d.created_at",
    "stock_moves": "SELECT id, tier_id, sold_delta, applied_at FROM stock_moves WHERE booking_id = $1::uuid ORDER BY id",
    "interventions": "SELECT verb, operator, reason, outcome, refund_key, created_at, ended_at FROM interventions"
    " WHERE booking_id = $1::uuid ORDER BY id",
    "dead_letter": "SELECT error, attempts, parked_at FROM dead_letters WHERE booking_id = $1::uuid",
}


class Dossiers:
    """Asks all three. A store that does not answer is part of the answer."""

    def __init__(self, shards: Shards, database: Database, gateway: PaymentGateway) -> None:
        self.shards = shards
        self.database = database
        self.gateway = gateway

    async def of(self, booking_id: str) -> Dossier:
        """`redis`, `postgres`, `gateway`. Raises `NotFound` when nobody knows the booking."""
        booking = ids.canonical_booking_id(booking_id)
        if booking is None:
            raise NotFound("This is no booking id.")
        in_redis, in_postgres = await self.in_redis(booking), await self._in_postgres(booking)
        if in_redis is None and in_postgres is None:
            raise NotFound("Neither Redis nor PostgreSQL knows this booking.")
        books = {row["payment_key"]: row["gateway"] for row in (in_postgres or {}).get("payments", ())}
        payments = {row["payment_key"]: row["reference"] for row in (in_postgres or {}).get("payments", ())}
        if in_redis and in_redis.get("payment_key") and in_redis["amount_cents"]:
            payments.setdefault(in_redis["payment_key"], None)
        at_gateway = {}
        for key, reference in payments.items():
            if not same_books(books.get(key, self.gateway.books), self.gateway.books):
                at_gateway[key] = {"answer": "NotAsked", "books": books[key], "ours": self.gateway.books}
                continue
            found = await self.gateway.lookup(key, reference)
            at_gateway[key] = {"answer": type(found).__name__, **msgspec.structs.asdict(found)}
        return {"booking_id": booking, "redis": in_redis, "postgres": in_postgres, "gateway": at_gateway}

    async def in_redis(self, booking: str) -> dict[str, Any] | None:
        """The booking's record and where it stands; None when Redis has none."""
        shard = ids.shard_of(booking)
        key = keys.booking(shard, booking)
        try:
            async with self.shards[shard].redis.pipeline(transaction=True) as pipe:
                pipe.get(key)
                pipe.ttl(key)
                for name in (keys.pending(shard), keys.deadlines(shard), keys.dead(shard)):
                    pipe.zscore(name, booking)
                raw, ttl_s, *places = await pipe.execute()
        except (RedisError, OSError) as error:
            return {"error": type(error).__name__}
        names = ("claimable_at", "deadline", "parked_at")
        where = {name: timestamp(int(score)) for name, score in zip(names, places, strict=True) if score is not None}
        if raw is None and not where:
            return None
        try:
            return {**describe(unpack(booking, raw or b"")), **where, "ttl_s": ttl_s}
        except ValueError:
            return {"state": "unreadable" if raw else "missing", "bytes": len(raw or b""), **where}

    async def _in_postgres(self, booking: str) -> dict[str, Any] | None:
        try:
            async with self.database.writer() as connection:
                found = {
                    name: [dict(row) for row in await connection.fetch(query, booking)]
                    for name, query in _TABLES.items()
                }
        except TRANSIENT as error:
            return {"error": type(error).__name__}
        return {name: rows for name, rows in found.items() if rows} or None


def describe(record: Record) -> dict[str, Any]:
    """A record for people. The gateway's token stays out of it."""
    card = record.payload.outcome or record.payload.charge
    return {
        "state": WORDS.get(record.state, record.state),
        "sequence": record.sequence,
        "admitted_at": timestamp(record.admitted_ms),
        "expires_at": timestamp(record.deadline_ms) if record.deadline_ms else None,
        "event": record.event,
        "client": record.body.client,
        "customer": record.body.customer,
        "items": record.items,
        "amount_cents": record.body.amount_cents,
        "currency": record.body.currency,
        "payment_key": record.payment_key,
        "attempts": record.attempts,
        "extended": record.extended,
        "cancel_requested": record.cancel_requested,
        "revived": record.revived,
        "payment": {"status": getattr(card, "status", "pending"), "method": card.method, "last4": card.last4}
        if card
        else None,
        "failure": record.payload.failure,
    }
