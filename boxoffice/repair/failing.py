"""A parked booking that an operator fails: its money is let go, its row says so, and its tickets go on sale again, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boxoffice import ids
from boxoffice.books import dead_letters
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.books.poisoned import Facts, fail_booking, fail_payment
from boxoffice.errors import CannotRun
from boxoffice.gateway.accounts import same_books
from boxoffice.gateway.base import Done, Found, PaymentGateway
from boxoffice.repair.reconcile import Reconciler
from boxoffice.repair.salvage import client_of, facts_of, last4_of, names_of
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection
from boxoffice.stores.record import Payload, pack_payload
from boxoffice.stores.shard import Shards

__all__ = ["Ended", "Failing"]


class Ended(NamedTuple):
    """What became of a parked booking that was failed."""

    booking: str
    payment: str
    """What the gateway knew of it, and did."""
    written: bool
    """False when not even its event could be read: PostgreSQL has no row of it."""
    stock: str
    """How its tickets came back: by its `record`, or by a `recount` of its event."""


class Failing:
    """Fails one parked booking."""

    def __init__(
        self,
        shards: Shards,
        gateway: PaymentGateway,
        reconcilers: Sequence[Reconciler],
        settings: Settings,
    ) -> None:
        self._shards = shards
        self._gateway = gateway
        self._reconcilers = reconcilers
        self._settings = settings

    async def fail(self, letter: DeadLetter, connection: Connection) -> Ended:
        """Let its payment go, write it as failed, give its tickets back. May be repeated when it was cut short.

        The session is the one in which `dead_letters.one_at_a_time` holds the booking, and the letter was read since: so no
        retry gives it to a worker meanwhile. Raises `CannotRun`, and what the stores raise.
        """
        shard = ids.shard_of(letter.booking)
        here = self._shards[shard]
        told = await fence.told(here)
        if await here.redis.zscore(keys.pending(shard), letter.booking) is not None:
            raise CannotRun("It waits for a worker, which may sell it: look again in some seconds.")
        await self.refuse_decided(connection, letter.booking)
        payment_key = names_of(letter).payment_key
        if letter.record and not letter.record.body.amount_cents:
            payment_key = ""  # it costs nothing, and no gateway has heard of it
        books = await connection.fetchval("SELECT gateway FROM payments WHERE payment_key = $1", payment_key)
        if books and not same_books(books, self._gateway.books):
            raise CannotRun(
                f"Its payment stands in the books of {books}; the gateway here keeps {self._gateway.books}."
            )
        status, reference, payment = await self.let_go(connection, letter.booking, payment_key)
        facts = await self.facts(connection, letter)
        pair = None
        if facts:
            async with connection.transaction():
                await self.write(connection, letter, facts, payment_key, status, reference)
                await self.refuse_decided(connection, letter.booking)
                pair = await fence.open_batch(connection, shard, told)
        stock = await self.give_back(letter, facts, pair)
        await dead_letters.close(connection, letter.booking)
        return Ended(letter.booking, payment, facts is not None, stock)

    async def refuse_decided(self, connection: Connection, booking: str) -> None:
        """Raises `CannotRun` when PostgreSQL has decided it otherwise than this does."""
        decided = await connection.fetchrow(
            "SELECT status, failure_code FROM bookings WHERE id = $1::uuid AND status NOT IN ('pending', 'held')",
            booking,
        )
        if decided and decided["failure_code"] != "poison":
            raise CannotRun(f"PostgreSQL has it as {decided['status']}: `boxoffice dead retry` tells Redis so.")

    async def let_go(self, connection: Connection, booking: str, payment_key: str) -> tuple[str, str | None, str]:
        """Status of its payment row, the gateway's reference, and what to tell. Raises `CannotRun` when it was decided while
        the gateway was asked: then its money is not ours to let go."""
        if not payment_key:
            return "", None, "none was tried"
        found = await self._gateway.lookup(payment_key, None)
        reference = found.reference if isinstance(found, Found) else None
        knew = found.status if isinstance(found, Found) else type(found).__name__.lower()
        await self.refuse_decided(connection, booking)
        if isinstance(await self._gateway.void(payment_key, reference), Done):
            return "voided", reference, f"{knew}, let go"
        return "unknown", reference, f"{knew}; a worker goes on letting it go"

    async def write(
        self, connection: Connection, letter: DeadLetter, facts: Facts, payment_key: str, status: str,
        reference: str | None,
    ) -> None:  # fmt: skip
        """The booking as failed, with its items and its payment, as far as they make sense."""
        await fail_booking(connection, letter.booking, facts)
        if payment_key:
            await fail_payment(
                connection, payment_key, letter.booking, facts, books=self._gateway.books, last4=last4_of(letter.record),
                status=status, reference=reference, due="void" if status == "unknown" else None,
            )  # fmt: skip

    async def give_back(self, letter: DeadLetter, facts: Facts | None, pair: fence.Pair | None) -> str:
        """Tell Redis that it failed: its tickets go on sale again. How they came back. Raises `CannotRun` when Redis has it as
        something else by now."""
        booking, shard = letter.booking, ids.shard_of(letter.booking)
        names = names_of(letter)
        scope, event, payment_key = names.scope or "-", names.event or "-", names.payment_key
        verdict = b"1|F|%s|0|%s" % (payment_key.encode(), pack_payload(Payload(None, None, "poison")))
        own = [keys.event(shard, event), keys.owners(shard, event)]
        own += [keys.booking(shard, booking), keys.idempotency(shard, scope)]
        here = self._shards[shard]
        (word,) = await here.run(
            "settle", keys=own, ttl_s=self._settings.worker.settled_ttl_s, pair=str(pair or ""), events=1,
            verdicts=[verdict],
        )  # fmt: skip
        if word != b"gone":
            if (await here.redis.get(keys.booking(shard, booking)) or b"").startswith(b"F|"):
                return "record"
            raise CannotRun("Redis has it as settled or paid anew: look at it with `boxoffice bookings show`.")
        # Nobody can read what it held: without it, a recount of what the others hold gives back the rest.
        async with here.redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.pending(shard), booking)
            pipe.zrem(keys.dead(shard), booking)
            pipe.delete(keys.booking(shard, booking))
            pipe.delete(keys.idempotency(shard, scope))
            await pipe.execute()
        reconciler = self._reconcilers[shard]
        if facts:
            await reconciler.event(facts.event, fix=True, deep=True, owned=True)
        else:
            await reconciler.every_event(fix=True, deep=True, owned=True)
        return "recount"

    async def facts(self, connection: Connection, letter: DeadLetter) -> Facts | None:
        """What can be written of it; None when not even its event is known."""
        event = await connection.fetchrow(
            "SELECT id, client_id, currency FROM events WHERE id = $1", names_of(letter).event
        )
        if event is None:
            return None
        client = await connection.fetchval("SELECT id FROM clients WHERE id = $1", client_of(letter))
        return facts_of(letter, client or event["client_id"], event["id"], event["currency"])
