"""Money that arrives after its hold has ended, and news from the gateway."""

from __future__ import annotations

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.books.messages import REVERSED, hear
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
        try:
            record = unpack(booking, raw)
        except ValueError as error:
            # Nobody can tell what it bought: the money goes back, and what else is due is not kept waiting.
            seldom.warning("record.unreadable", booking_id=booking, error=type(error).__name__)
            return False
        before = record.payload
        payload = Payload(charge, None, None, before.key, before.fingerprint, before.earlier, trace=before.trace)
        outcome = await self._shards[shard].run(
            "revive", record=keys.booking(shard, booking), idempotency=keys.idempotency(shard, record.scope),
            sale=keys.event(shard, record.event), owners=keys.owners(shard, record.event), payment_key=payment_key,
            payload=pack_payload(payload),
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
            heard = await hear(self._database, gateway, event.id, event.kind, payment_key)
        crashpoint("webhook_committed")
        if heard.booking:
            await self._wake(heard.booking)
        return heard.fresh

    async def _payment_key(self, event: GatewayEvent) -> str | None:
        """Whatever we ask for carries our payment key, and so an event without one is about somebody else's payment; but
        for a refund that somebody made at the gateway itself, and for a dispute. Raises `StoreAway` when the gateway does
        not say whose it is: it sends the message again."""
        if event.payment_key is not None or event.reference is None or event.kind not in REVERSED:
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
