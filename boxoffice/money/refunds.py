"""Giving money and tickets back, once: cancellations and refunds of confirmed bookings, captures that were refused.

Each is one PostgreSQL transaction: inventory rows in tier order, then the booking's row, then what changes, with a
stock move for Redis and a refund row for the gateway. Ten at once wait for each other; nine find it done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.books import bookings, inventory, payments, refunds
from boxoffice.books.finals import Finals
from boxoffice.books.inventory import lock_inventory
from boxoffice.books.moves import Note, apply_moves, came_back
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import (
    GateClosed,
    KeyReused,
    Malformed,
    NotCancellable,
    NotFound,
    NothingOwed,
    RefundOwed,
    RefundTooLarge,
    StoreAway,
)
from boxoffice.money.owed import try_again
from boxoffice.settings import Settings
from boxoffice.stores import fence
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.postgres import TRANSIENT, WentBack
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["Refunded", "Refunds"]

log = structlog.get_logger()

_BOOKING: Final = """
SELECT b.status, b.client_id, b.customer_id, b.event_id, b.currency, e.refund_percent, e.shard,
       now() > coalesce(e.cancel_until, e.starts_at) AS too_late
FROM bookings b JOIN events e ON e.id = b.event_id WHERE b.id = $1::uuid
"""

_ITEMS: Final = """
SELECT tier_id, quantity, refunded, unit_price_cents FROM booking_items WHERE booking_id = $1::uuid ORDER BY tier_id
"""

_PAYMENT: Final = """
SELECT payment_key, amount_cents, refunded_cents FROM payments
WHERE booking_id = $1::uuid AND status IN ('authorized', 'captured')
  AND failure_code IS DISTINCT FROM 'paid_too_late' FOR UPDATE
"""

_SPOKEN_FOR: Final = """
SELECT coalesce(sum(amount_cents), 0)::bigint FROM refunds WHERE payment_key = $1 AND status IN ('owed', 'written_off')
"""
"""What is owed, or was written off, is nobody else's to have again."""

_OWED: Final = """
SELECT amount_cents, ARRAY(SELECT m.tier_id FROM stock_moves m WHERE m.refund_key = r.refund_key) AS tiers
FROM refunds r WHERE booking_id = $1::uuid AND status = 'owed'
"""
"""With the tiers whose tickets came back. Moves are trimmed after a month: then none."""

_REFUSED_ONCE: Final = """
SELECT refund_key FROM refunds
WHERE booking_id = $1::uuid AND attempt > 0 AND status IN ('due', 'pending', 'succeeded', 'owed')
ORDER BY updated_at DESC, refund_key LIMIT 1
"""

_ASKED_BEFORE: Final = "SELECT fingerprint FROM refunds WHERE refund_key = $1"
_IS_THERE: Final = "SELECT true FROM refunds WHERE refund_key = $1"

_ROUNDS: Final = 5
"""Tries of one transaction when PostgreSQL itself says that the next may succeed."""


class Refunded(NamedTuple):
    """What was given back. `repeated`: it had been before, and nothing was done now."""

    booking_id: str
    status: str
    refund_key: str | None
    amount_cents: int
    currency: str
    repeated: bool
    refund_status: str = "due"


class _Item(NamedTuple):
    tier: str
    quantity: int
    refunded: int
    unit_price_cents: int


class Refunds:
    """Cancels and refunds what is confirmed."""

    def __init__(self, shards: Shards, database: Database, settings: Settings) -> None:
        self._settings = settings
        self._shards = shards
        self._database = database

    async def cancel(self, client: str, booking: str) -> Refunded:
        """Cancel a confirmed booking after its event's policy: until when, and how much comes back.

        Any number of calls make one refund. Of a booking that was cancelled before, money that is owed is tried again.
        Raises `NotFound`, `NotCancellable`, `StoreAway`.
        """
        return await self._run(booking, self._cancel, client)

    async def refund(
        self, client: str, booking: str, key_digest: str, items: dict[str, int] | None, reason: str
    ) -> Refunded:
        """Refund a confirmed booking at full price, whole or some items (tier to quantity); their tickets go back on
        sale. Refunding everything cancels the booking. Of one that has ended, and under a key whose refund was refused,
        money that is owed is tried again; also when all is refunded. Tickets of a tier of which a refund is owed are not
        refunded by name: whoever asks once more means those.

        Raises `NotFound`, `KeyReused`, `Malformed`, `NotCancellable`, `RefundOwed`, `RefundTooLarge`, `StoreAway`.
        """
        return await self._run(booking, self._refund, client, key_digest, items, reason)

    async def retry(self, client: str, booking: str) -> Refunded:
        """Try again what is owed of a booking, whatever has become of it. Any number of calls are one attempt, as long as
        the gateway has not refused it.

        Raises `NotFound`, `NothingOwed`, `StoreAway`.
        """
        return await self._run(booking, self._retry, client)

    async def capture_refused(self, payment_key: str, code: str) -> None:
        """The gateway will never capture this payment: its confirmed booking is cancelled and its tickets go back.

        Raises PostgreSQL's errors.
        """
        async with self._database.writer() as connection:
            booking = await connection.fetchval(
                "SELECT booking_id::text FROM payments WHERE payment_key = $1", payment_key
            )
            async with connection.transaction():
                row, items = await self._lock(connection, booking)
                await fence.check(connection, self._shards[row["shard"]])
                if not await payments.refuse_capture(connection, payment_key, code):
                    return
                await refunds.drop_uncaptured(connection, payment_key)
                if row["status"] == "confirmed":
                    back = {item.tier: item.quantity - item.refunded for item in items}
                    await self._give_back(connection, booking, row, back, None)
                    await bookings.cancel(connection, booking, "capture_failed")
                await fence.open_batch(connection, row["shard"], ())
                crashpoint("refusal_written")
        log.error("booking.capture_failed", booking_id=booking, code=code)
        crashpoint("refusal_committed")
        await self._tell_redis(row["shard"], booking)

    async def captured_too_late(self, payment_key: str) -> None:
        """A payment that should have been voided was captured: give it all back.

        Unless it belongs to a sale by now: whoever asked for the void may have been overtaken by the settlement that
        captured it.
        """
        async with self._database.begin() as connection:
            row = await payments.lock_late_capture(connection, payment_key)
            if row is None:
                return
            await payments.take_late_capture(connection, payment_key)
            key = ids.digest(row["booking"], payment_key, "late")
            if left := row["amount_cents"] - row["spoken_for"]:
                await refunds.begin(
                    connection, key, row["booking"], payment_key, left, row["currency"], "paid_too_late", once=True
                )
            await payments.recount_refunded(connection, payment_key)
            await bookings.mark_paid_too_late(connection, row["booking"])
        log.warning("payment.refunded_late", payment_key=payment_key)

    # ------------------------------------------------------------------ what PostgreSQL had forgotten

    async def check_fence(self) -> bool:
        """Whether PostgreSQL can be believed in what is due: Redis answers, and no commit is missing. Raises `WentBack`."""
        try:
            async with self._database.writer() as connection:
                await fence.check(connection, *self._shards)
        except RedisError:
            return False
        return True

    async def again(self, booking: str, notes: Sequence[Note]) -> int:
        """Give back once more what these refunds gave back, each under its key, in one transaction: one that ends the booking
        leaves nothing for those that were before it. Returns how many there were; none of a booking that is not confirmed
        any more. For a caller that has closed the shard's gate, and recounts."""
        async with self._database.begin() as connection:
            row, items = await self._lock(connection, booking)
            if row["status"] != "confirmed":
                return 0
            left = Counter({item.tier: item.quantity - item.refunded for item in items})
            done = 0
            for key, (note, tickets) in came_back(notes).items():
                if await connection.fetchval(_IS_THERE, key):
                    continue
                back = left & tickets
                left -= back
                if key:
                    await self._pay_back(
                        connection, booking, row["currency"], key, note.amount_cents, note.reason, note.asked or None
                    )
                await self._give_back(connection, booking, row, back, key or None)
                done += 1
            if not +left and (code := next((note.code for note in notes if note.code), "")):
                await bookings.cancel(connection, booking, code)
            pair = await fence.open_batch(connection, row["shard"], ())
        await fence.tell(self._shards[row["shard"]], pair)
        return done

    async def cancel_again(self, booking: str) -> bool:
        """Cancel by the event's terms what Redis calls cancelled, and nobody remembers how. Raises as `again`."""
        async with self._database.begin() as connection:
            row, items = await self._lock(connection, booking)
            if row["status"] != "confirmed":
                return False
            await self._cancel_now(connection, booking, row, items)
            pair = await fence.open_batch(connection, row["shard"], ())
        await fence.tell(self._shards[row["shard"]], pair)
        return True

    # ------------------------------------------------------------------ inside the transaction

    async def _run(self, booking: str, work: Callable[..., Awaitable[tuple[Refunded, int]]], *args: Any) -> Refunded:
        told = await self._pairs_told(booking)

        async def transact(connection: Connection) -> tuple[Refunded, int, fence.Pair | None]:
            if await fence.lost(connection, ids.shard_of(booking), told):
                raise WentBack
            refunded, shard = await work(connection, booking, *args)
            pair = None if refunded.repeated else await fence.open_batch(connection, shard, ())
            crashpoint("refund_written")
            return refunded, shard, pair

        async with self._database.answering():
            refunded, shard, pair = await self._database.transaction(transact, tries=_ROUNDS)
        crashpoint("refund_committed")
        await self._tell_first(shard, booking, pair)
        return refunded

    async def _pairs_told(self, booking: str) -> list[fence.Pair]:
        """What PostgreSQL must have. While Redis is away nobody can say, and it is believed: whatever it decides once more,
        it decides under the same refund key."""
        try:
            return await fence.told(self._shards[ids.shard_of(booking)])
        except (RedisError, OSError):
            return []

    async def _cancel(self, connection: Connection, booking: str, client: str) -> tuple[Refunded, int]:
        row, items = await self._lock(connection, booking, client)
        if row["status"] == "cancelled":
            tried = await try_again(connection, booking)
            return await self._earlier(connection, booking, row, tried=tried), row["shard"]
        if row["status"] != "confirmed":
            raise NotCancellable(f"The booking is {row['status']}.", booking_status=row["status"])
        if row["too_late"]:
            raise NotCancellable("The time to cancel has passed.", booking_status=row["status"])
        await try_again(connection, booking)
        return await self._cancel_now(connection, booking, row, items), row["shard"]

    async def _cancel_now(self, connection: Connection, booking: str, row: Any, items: list[_Item]) -> Refunded:
        back = {item.tier: item.quantity - item.refunded for item in items}
        price = sum(back[item.tier] * item.unit_price_cents for item in items)
        key = ids.digest(booking, "cancel")
        amount = price * row["refund_percent"] // 100
        refund = await self._pay_back(connection, booking, row["currency"], key, amount, "cancelled")
        await self._give_back(connection, booking, row, back, refund.refund_key)
        await bookings.cancel(connection, booking, "cancelled")
        log.info("booking.cancelled", booking_id=booking, amount_cents=refund.amount_cents)
        return refund._replace(status="cancelled")

    async def _refund(
        self, connection: Connection, booking: str, client: str, key_digest: str, wanted: dict[str, int] | None,
        reason: str,
    ) -> tuple[Refunded, int]:  # fmt: skip
        row, items = await self._lock(connection, booking, client)
        key = ids.digest(booking, "refund", key_digest)
        asked = ids.refund_fingerprint(wanted, reason)
        earlier = await connection.fetchrow(_ASKED_BEFORE, key)
        if earlier is not None:
            # Rows of earlier versions have no fingerprint.
            if earlier["fingerprint"] not in (None, asked):
                raise KeyReused(booking_id=booking)
            tried = await try_again(connection, booking, key)
            return await self._earlier(connection, booking, row, key, tried=tried), row["shard"]
        if row["status"] != "confirmed":
            if again := await self._again(connection, booking, row):
                return again, row["shard"]
            raise NotCancellable(f"The booking is {row['status']}.", booking_status=row["status"])
        left = {item.tier: item.quantity - item.refunded for item in items}
        back = wanted if wanted is not None else left
        for tier, quantity in back.items():
            if tier not in left:
                raise Malformed("The booking has no such tier.", pointer="/items", code="unknown_tier")
            if quantity > left[tier]:
                raise RefundTooLarge(tier_id=tier, requested=quantity, refundable=left[tier])
        if wanted is None:
            await try_again(connection, booking)
        else:
            _check_not_owed(wanted, await connection.fetch(_OWED, booking))
        amount = sum(back.get(item.tier, 0) * item.unit_price_cents for item in items)
        refund = await self._pay_back(connection, booking, row["currency"], key, amount, reason, asked)
        await self._give_back(connection, booking, row, back, refund.refund_key)
        if all(left[tier] == back.get(tier, 0) for tier in left):
            await bookings.cancel(connection, booking, "refunded")
            refund = refund._replace(status="cancelled")
        log.info("booking.refunded", booking_id=booking, amount_cents=refund.amount_cents)
        return refund, row["shard"]

    async def _retry(self, connection: Connection, booking: str, client: str) -> tuple[Refunded, int]:
        row = await connection.fetchrow(_BOOKING, booking)
        if row is None or row["client_id"] != client:
            raise NotFound("There is no such booking.")
        again = await self._again(connection, booking, row)
        if again is None:
            raise NothingOwed
        return again, row["shard"]

    async def _again(self, connection: Connection, booking: str, row: Any) -> Refunded | None:
        """Try again what is owed. The answer is the same while that goes on, and when it has been paid; None when the
        gateway has refused nothing."""
        tried = await try_again(connection, booking)
        key = await connection.fetchval(_REFUSED_ONCE, booking)
        return await self._earlier(connection, booking, row, key, tried=tried) if key else None

    async def _lock(self, connection: Connection, booking: str, client: str | None = None) -> tuple[Any, list[_Item]]:
        """Inventory rows in tier order, then the booking's: the order of every transaction that sells."""
        row = await connection.fetchrow(_BOOKING, booking)
        if row is None or (client is not None and row["client_id"] != client):
            raise NotFound("There is no such booking.")
        items = await connection.fetch(_ITEMS, booking)
        await lock_inventory(connection, [item["tier_id"] for item in items])
        await connection.execute("SELECT 1 FROM bookings WHERE id = $1::uuid FOR UPDATE", booking)
        row = await connection.fetchrow(_BOOKING, booking)
        assert row is not None, "no booking is ever deleted"
        return row, [_Item(*item) for item in await connection.fetch(_ITEMS, booking)]

    async def _pay_back(
        self, connection: Connection, booking: str, currency: str, key: str, amount_cents: int, reason: str,
        asked: str | None = None,
    ) -> Refunded:  # fmt: skip
        payment = await connection.fetchrow(_PAYMENT, booking)
        if payment is None:
            await refunds.begin(connection, key, booking, None, 0, currency, reason, asked)
            return Refunded(booking, "confirmed", key, 0, currency, repeated=False, refund_status="succeeded")
        spoken_for = payment["refunded_cents"] + await connection.fetchval(_SPOKEN_FOR, payment["payment_key"])
        amount = min(amount_cents, payment["amount_cents"] - spoken_for)
        if amount:
            await payments.add_refunded(connection, payment["payment_key"], amount)
        await refunds.begin(connection, key, booking, payment["payment_key"], amount, currency, reason, asked)
        return Refunded(booking, "confirmed", key, amount, currency, False, "due" if amount else "succeeded")

    async def _give_back(
        self, connection: Connection, booking: str, row: Any, back: Mapping[str, int], refund_key: str | None
    ) -> None:
        owner = ids.owner_digest(row["client_id"], row["customer_id"])
        await inventory.give_back(connection, row["event_id"], booking, owner, back, refund_key)

    async def _earlier(
        self, connection: Connection, booking: str, row: Any, key: str | None = None, *,
        tried: list[tuple[str, int]] | None = None,
    ) -> Refunded:  # fmt: skip
        """What was given back before; `tried`: what of it is being tried again now."""
        found = await connection.fetchrow(
            "SELECT refund_key, amount_cents, currency, status FROM refunds"
            " WHERE booking_id = $1::uuid AND ($2::text IS NULL OR refund_key = $2) ORDER BY created_at DESC LIMIT 1",
            booking,
            key,
        )
        if found is None:
            return Refunded(booking, row["status"], None, 0, row["currency"], repeated=True, refund_status="succeeded")
        return Refunded(
            booking, row["status"], found["refund_key"],
            sum(cents for _, cents in tried) if tried else found["amount_cents"], found["currency"],
            repeated=not tried, refund_status=found["status"],
        )  # fmt: skip

    async def _tell_first(self, shard: int, booking: str, pair: fence.Pair | None) -> None:
        """Nobody is told of a commit before Redis is: were PostgreSQL to forget it, it would not be missed. While Redis is
        away PostgreSQL alone speaks, as long as it still has the commit. Raises `StoreAway`: asked again, it is done once."""
        try:
            try:
                await self._mirror(shard, booking)
            except RedisError as error:
                seldom.warning("moves.later", shard=shard, error=type(error).__name__)
            if pair and await fence.lost(self._database, shard, [pair]):
                raise WentBack
        except (GateClosed, *TRANSIENT) as error:
            seldom.warning("moves.later", shard=shard, error=type(error).__name__)
            raise StoreAway from error

    async def _mirror(self, shard: int, booking: str) -> None:
        """The tickets go back on sale. When Redis cannot take them yet, whoever reads the booking next is told all the same
        that it is cancelled."""
        finals = Finals(self._shards[shard], self._settings)
        try:
            await apply_moves(self._shards[shard], self._database)
        finally:
            async with self._database.writer() as connection:
                await finals.correct(connection, [booking], said=False)

    async def _tell_redis(self, shard: int, booking: str) -> None:
        """The tickets go back on sale now. If Redis is away or shut, a worker's sweep does it."""
        try:
            await self._mirror(shard, booking)
        except (RedisError, GateClosed, *TRANSIENT) as error:
            seldom.warning("moves.later", shard=shard, error=type(error).__name__)


def _check_not_owed(wanted: Mapping[str, int], owed: Sequence[Any]) -> None:
    """Raises `RefundOwed` when some of these tiers were to be refunded before. Nobody knows of which tiers an old one was."""
    for tier in sorted(wanted):
        cents = sum(refund["amount_cents"] for refund in owed if tier in (refund["tiers"] or [tier]))
        if cents:
            raise RefundOwed(tier_id=tier, owed_cents=cents)
