"""Giving money and tickets back, once: cancellations and refunds of confirmed bookings, captures that were refused.

Each is one PostgreSQL transaction: inventory rows in tier order, then the booking's row, then what changes, with a
stock move for Redis and a refund row for the gateway. Ten at once wait for each other; nine find it done. Whether and how
much is said by `terms.py`, each change of a row by a verb of the books, and Redis hears of it from `mirror.py`.

One file because whatever the cause, who gives back takes the same locks in the same order and writes the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.books import bookings, given_back, inventory, payments, refunds, sold
from boxoffice.books.moves import Note, came_back
from boxoffice.books.sold import Sold
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import KeyReused, NotFound, NothingOwed
from boxoffice.money.mirror import StockMirror
from boxoffice.money.owed import try_again
from boxoffice.money.terms import (
    cancellation,
    check_cancellable,
    check_not_owed,
    left_of,
    payable,
    refund_of,
)
from boxoffice.settings import Settings
from boxoffice.stores import fence
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.postgres import WentBack
from boxoffice.stores.shard import Shards

__all__ = ["Refunded", "Refunds"]

log = structlog.get_logger()

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


class Refunds:
    """Cancels and refunds what is confirmed."""

    def __init__(self, shards: Shards, database: Database, settings: Settings) -> None:
        self._shards = shards
        self._database = database
        self._mirror = StockMirror(shards, database, settings)

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
                found = await self._lock(connection, booking)
                await fence.check(connection, self._shards[found.shard])
                if not await payments.refuse_capture(connection, payment_key, code):
                    return
                await refunds.drop_uncaptured(connection, payment_key)
                if found.status == "confirmed":
                    await _give_back(connection, found, left_of(found.items), None)
                    await bookings.cancel(connection, booking, "capture_failed")
                await fence.open_batch(connection, found.shard, ())
                crashpoint("refusal_written")
        log.error("booking.capture_failed", booking_id=booking, code=code)
        crashpoint("refusal_committed")
        await self._mirror.tell(found.shard, booking)

    async def captured_too_late(self, payment_key: str, captured_cents: int) -> None:
        """A payment that should have been voided was captured, and so much of it: give it all back. Its row may tell another
        amount, of a hold whose items had changed.

        Unless it belongs to a sale by now: whoever asked for the void may have been overtaken by the settlement that
        captured it.
        """
        async with self._database.begin() as connection:
            row = await payments.lock_late_capture(connection, payment_key)
            if row is None:
                return
            await payments.take_late_capture(connection, payment_key, captured_cents)
            key = ids.digest(row["booking"], payment_key, "late")
            if (left := captured_cents - row["spoken_for"]) > 0:
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
            found = await self._lock(connection, booking)
            if found.status != "confirmed":
                return 0
            left = Counter(left_of(found.items))
            done = 0
            for key, (note, tickets) in came_back(notes).items():
                if await given_back.is_there(connection, key):
                    continue
                back = left & tickets
                left -= back
                if key:
                    await _pay_back(connection, found, key, note.amount_cents, note.reason, note.fingerprint or None)
                await _give_back(connection, found, back, key or None)
                done += 1
            if not +left and (code := next((note.code for note in notes if note.code), "")):
                await bookings.cancel(connection, booking, code)
            pair = await fence.open_batch(connection, found.shard, ())
        await fence.tell(self._shards[found.shard], pair)
        return done

    async def cancel_again(self, booking: str) -> bool:
        """Cancel by the event's terms what Redis calls cancelled, and nobody remembers how. Raises as `again`."""
        async with self._database.begin() as connection:
            found = await self._lock(connection, booking)
            if found.status != "confirmed":
                return False
            await self._cancel_now(connection, found)
            pair = await fence.open_batch(connection, found.shard, ())
        await fence.tell(self._shards[found.shard], pair)
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
        await self._mirror.tell_first(shard, booking, pair)
        return refunded

    async def _pairs_told(self, booking: str) -> list[fence.Pair]:
        """What PostgreSQL must have. While Redis is away nobody can say, and it is believed: whatever it decides once more,
        it decides under the same refund key."""
        try:
            return await fence.told(self._shards[ids.shard_of(booking)])
        except (RedisError, OSError):
            return []

    async def _cancel(self, connection: Connection, booking: str, client: str) -> tuple[Refunded, int]:
        found = await self._lock(connection, booking, client)
        if found.status == "cancelled":
            tried = await try_again(connection, booking)
            return await _earlier(connection, found, tried=tried), found.shard
        check_cancellable(found, by_terms=True)
        await try_again(connection, booking)
        return await self._cancel_now(connection, found), found.shard

    async def _cancel_now(self, connection: Connection, found: Sold) -> Refunded:
        back, key = cancellation(found), ids.digest(found.booking, "cancel")
        refund = await _pay_back(connection, found, key, back.cents, "cancelled")
        await _give_back(connection, found, back.tickets, refund.refund_key)
        await bookings.cancel(connection, found.booking, "cancelled")
        log.info("booking.cancelled", booking_id=found.booking, amount_cents=refund.amount_cents)
        return refund._replace(status="cancelled")

    async def _refund(
        self, connection: Connection, booking: str, client: str, key_digest: str, wanted: dict[str, int] | None,
        reason: str,
    ) -> tuple[Refunded, int]:  # fmt: skip
        found = await self._lock(connection, booking, client)
        key = ids.digest(booking, "refund", key_digest)
        fingerprint = ids.refund_fingerprint(wanted, reason)
        before = await given_back.refund_before(connection, key)
        if before is not None:
            if before["fingerprint"] not in (None, fingerprint):
                raise KeyReused(booking_id=booking)
            tried = await try_again(connection, booking, key)
            return await _earlier(connection, found, key, tried=tried), found.shard
        if found.status != "confirmed" and (again := await self._again(connection, found)):
            return again, found.shard
        check_cancellable(found, by_terms=False)
        back = refund_of(found, wanted)
        if wanted is None:
            await try_again(connection, booking)
        else:
            check_not_owed(wanted, await given_back.owed_tiers(connection, booking))
        refund = await _pay_back(connection, found, key, back.cents, reason, fingerprint)
        await _give_back(connection, found, back.tickets, refund.refund_key)
        if back.ends:
            await bookings.cancel(connection, booking, "refunded")
            refund = refund._replace(status="cancelled")
        log.info("booking.refunded", booking_id=booking, amount_cents=refund.amount_cents)
        return refund, found.shard

    async def _retry(self, connection: Connection, booking: str, client: str) -> tuple[Refunded, int]:
        found = await _find(connection, booking, client)
        again = await self._again(connection, found)
        if again is None:
            raise NothingOwed
        return again, found.shard

    async def _again(self, connection: Connection, found: Sold) -> Refunded | None:
        """Try again what is owed. The answer is the same while that goes on, and when it has been paid; None when the
        gateway has refused nothing."""
        tried = await try_again(connection, found.booking)
        key = await given_back.refused_once(connection, found.booking)
        return await _earlier(connection, found, key, tried=tried) if key else None

    async def _lock(self, connection: Connection, booking: str, client: str | None = None) -> Sold:
        await _find(connection, booking, client)
        return await sold.lock(connection, booking)


async def _find(connection: Connection, booking: str, client: str | None) -> Sold:
    """Raises `NotFound`, also for another client's."""
    found = await sold.find(connection, booking)
    if found is None or (client is not None and found.client != client):
        raise NotFound("There is no such booking.")
    return found


async def _pay_back(
    connection: Connection, found: Sold, key: str, cents: int, reason: str, fingerprint: str | None = None
) -> Refunded:
    """A refund of that much, or of what is left of the payment. Of a booking that was free only the row remembers it."""
    booking, currency = found.booking, found.currency
    paid = await sold.lock_payment(connection, booking)
    if paid is None:
        await refunds.begin(connection, key, booking, None, 0, currency, reason, fingerprint)
        return Refunded(booking, "confirmed", key, 0, currency, repeated=False, refund_status="succeeded")
    amount = payable(cents, paid)
    if amount:
        await payments.add_refunded(connection, paid.payment_key, amount)
    await refunds.begin(connection, key, booking, paid.payment_key, amount, currency, reason, fingerprint)
    return Refunded(booking, "confirmed", key, amount, currency, False, "due" if amount else "succeeded")


async def _give_back(connection: Connection, found: Sold, back: Mapping[str, int], refund_key: str | None) -> None:
    owner = found.owner or ids.owner_digest(found.client, found.customer)
    owner = ids.owners_of(owner, found.access_code, found.client)
    await inventory.give_back(connection, found.event, found.booking, owner, back, refund_key)


async def _earlier(
    connection: Connection, found: Sold, key: str | None = None, *, tried: list[tuple[str, int]] | None = None
) -> Refunded:
    """What was given back before; `tried`: what of it is being tried again now."""
    booking, before = found.booking, await given_back.earlier(connection, found.booking, key)
    if before is None:
        return Refunded(booking, found.status, None, 0, found.currency, repeated=True, refund_status="succeeded")
    return Refunded(
        booking, found.status, before.refund_key,
        sum(cents for _, cents in tried) if tried else before.amount_cents, before.currency,
        repeated=not tried, refund_status=before.status,
    )  # fmt: skip
