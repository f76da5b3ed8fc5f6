"""Money that arrives after its hold has ended, and news from the gateway."""

from __future__ import annotations

from typing import Final

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed, StoreAway
from boxoffice.gateway.base import PaymentGateway, Unknown
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.record import Charge, Payload, pack_payload, unpack
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["LateMoney", "Webhooks"]

log = structlog.get_logger()

_REVERSED: Final = ("refunded", "refund_failed", "disputed")
"""News of what went back of a captured payment: its refunds and disputes are read at the gateway."""

_KEEP: Final = f"""
WITH kept AS (
  INSERT INTO webhook_events (gateway, id, kind, payment_key) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
  RETURNING true),
news AS (
  UPDATE payments
  SET due = CASE WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN 'void' ELSE due END,
      due_at = CASE WHEN due_at IS NOT NULL THEN least(due_at, now())
                    WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN now() END,
      due_since = CASE WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN now()
                       ELSE due_since END
  WHERE payment_key = $4 AND EXISTS (SELECT FROM kept) RETURNING booking_id::text AS booking),
looked AS (
  INSERT INTO looks (payment_key) SELECT $4 FROM news WHERE $3 IN {_REVERSED}
  ON CONFLICT (payment_key) DO UPDATE SET due_at = now(), leased_until = NULL, tries = 0)
SELECT EXISTS (SELECT FROM kept) AS fresh, (SELECT booking FROM news) AS booking
"""
"""What is due is due now, but for a capture that its worker is about to make; and money for a payment that was given up
for lost is looked at once more. All of it is read from the row itself: what a subquery saw, a settlement that held the
row's lock meanwhile has changed. One statement locks the row for a moment only: a settlement that waits for it has all
tickets of its batch locked."""


class LateMoney:
    """Lets an expired hold have its tickets after all."""

    def __init__(self, shards: Shards, settings: Settings) -> None:
        self._shards = shards
        self._settings = settings

    async def revive(self, booking: str, payment_key: str, charge: Charge) -> bool:
        """Take the tickets once more. True when the booking is pending now, or nobody can say: do not void yet."""
        try:
            return await self._revive(booking, payment_key, charge)
        except (RedisError, OSError, GateClosed) as error:
            # Away, full, a replica or not checked: other money that is due must not wait for it.
            seldom.warning("booking.revived_later", booking_id=booking, error=type(error).__name__)
            return True

    async def _revive(self, booking: str, payment_key: str, charge: Charge) -> bool:
        shard = ids.shard_of(booking)
        raw = await self._shards[shard].redis.get(keys.booking(shard, booking))
        if raw is None:
            return False
        record = unpack(booking, raw)
        said = record.payload
        outcome = await self._shards[shard].run(
            "revive", record=keys.booking(shard, booking), idempotency=keys.idempotency(shard, record.scope),
            sale=keys.event(shard, record.event), owners=keys.owners(shard, record.event), payment_key=payment_key,
            payload=pack_payload(Payload(charge, None, None, said.key, said.asked, said.earlier)),
        )  # fmt: skip
        log.info("booking.late_success", booking_id=booking, outcome=outcome.decode())
        return outcome in (b"pending", b"revived")


class Webhooks:
    """Takes what gateways tell us. The work itself is settlement's and the pump's: a message only wakes them."""

    def __init__(self, shards: Shards, database: Database, gateway: PaymentGateway) -> None:
        self._database = database
        self._shards = shards
        self._gateway = gateway

    async def receive(self, gateway: str, event: GatewayEvent) -> bool:
        """Keep the message and make what it is about due now, in one statement; then ring.

        A second delivery, a late one or one out of order changes nothing: what it is about is looked up, never
        believed. Returns False for a message that was here before. Raises `StoreAway`: the gateway sends it again.
        """
        payment_key = await self._payment_key(event)
        async with self._database.answering():
            crashpoint("webhook_heard")
            row = await self._database.fetchrow(_KEEP, gateway, event.id, event.kind, payment_key)
        crashpoint("webhook_committed")
        assert row is not None, "it selects no table"
        if row["booking"]:
            await self._wake(row["booking"])
        return bool(row["fresh"])

    async def _payment_key(self, event: GatewayEvent) -> str | None:
        """Whatever we ask for carries our payment key, and so an event without one is about somebody else's payment; but
        for a refund that somebody made at the gateway itself, and for a dispute. Raises `StoreAway` when the gateway does
        not say whose it is: it sends the message again."""
        if event.payment_key is not None or event.reference is None or event.kind not in _REVERSED:
            return event.payment_key
        found = await self._gateway.payment_key_of(event.reference)
        if isinstance(found, Unknown):
            raise StoreAway
        return found

    async def _wake(self, booking: str) -> None:
        shard = ids.shard_of(booking)
        try:
            await self._shards[shard].run("wake", booking_id=booking)
        except (RedisError, OSError) as error:
            seldom.warning("webhook.unheard", booking_id=booking, error=type(error).__name__)
