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
from boxoffice.stores.database import Connection, Database
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
        database: Database,
        gateway: PaymentGateway,
        reconcilers: Sequence[Reconciler],
        settings: Settings,
    ) -> None:
        self._shards = shards
        self._database = database
        self._gateway = gateway
        self._reconcilers = reconcilers
        self._settings = settings

    async def fail(self, letter: DeadLetter) -> Ended:
        """Let its payment go, write it as failed, give its tickets back. May be repeated when it was cut short.

        Raises `CannotRun`, and what the stores raise.
        """
        shard = ids.shard_of(letter.booking)
        told = await fence.told(self._shards[shard])
        decided = await self._database.fetchrow(
            "SELECT status, failure_code FROM bookings WHERE id = $1::uuid AND status NOT IN ('pending', 'held')",
            letter.booking,
        )
        if decided and decided["failure_code"] != "poison":
            raise CannotRun(f"PostgreSQL has it as {decided['status']}: `boxoffice dead retry` tells Redis so.")
        payment_key = names_of(letter).payment_key
        if letter.record and not letter.record.body.amount_cents:
            payment_key = ""  # it costs nothing, and no gateway has heard of it
        books = await self._database.fetchval("SELECT gateway FROM payments WHERE payment_key = $1", payment_key)
        if books and not same_books(books, self._gateway.books):
            raise CannotRun(
                f"Its payment stands in the books of {books}; the gateway here keeps {self._gateway.books}."
            )
        status, reference, payment = await self.let_go(payment_key)
        async with self._database.writer() as connection:
            facts = await self.facts(connection, letter)
            pair = None
            if facts:
                async with connection.transaction():
                    await self.write(connection, letter, facts, payment_key, status, reference)
                    pair = await fence.open_batch(connection, shard, told)
        stock = await self.give_back(letter, facts, pair)
        await dead_letters.close(self._database, letter.booking)
        return Ended(letter.booking, payment, facts is not None, stock)

    async def let_go(self, payment_key: str) -> tuple[str, str | None, str]:
        """Status of its payment row, the gateway's reference, and what to tell."""
        if not payment_key:
            return "", None, "none was tried"
        found = await self._gateway.lookup(payment_key, None)
        reference = found.reference if isinstance(found, Found) else None
        knew = found.status if isinstance(found, Found) else type(found).__name__.lower()
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
        """Tell Redis that it failed: its tickets go on sale again. The script's word."""
        booking, shard = letter.booking, ids.shard_of(letter.booking)
        names = names_of(letter)
        scope, event, payment_key = names.scope or "-", names.event or "-", names.payment_key
        verdict = b"1|F|%s|0|%s" % (payment_key.encode(), pack_payload(Payload(None, None, "poison")))
        own = [keys.event(shard, event), keys.owners(shard, event)]
        own += [keys.booking(shard, booking), keys.idempotency(shard, scope)]
        here = self._shards[shard]
        await here.run(
            "settle", keys=own, ttl_s=self._settings.worker.settled_ttl_s, pair=str(pair or ""), events=1,
            verdicts=[verdict],
        )  # fmt: skip
        if (await here.redis.get(keys.booking(shard, booking)) or b"").startswith(b"F|"):
            return "record"
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
