"""Parked bookings (dead letters): they could not be settled, keep their stock, and wait for an operator's word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.books import dead_letters
from boxoffice.books.dead_letters import DeadLetter, read_parked
from boxoffice.books.poisoned import Facts, fail_booking, fail_payment
from boxoffice.errors import CannotRun, NotFound
from boxoffice.gateway.accounts import same_books
from boxoffice.gateway.base import Done, Found, PaymentGateway
from boxoffice.repair.reconcile import Reconciler
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.postgres import TRANSIENT, WentBack
from boxoffice.stores.record import SAME, Body, Payload, Record, pack_payload
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards
from boxoffice.texts import is_storable

__all__ = ["Ended", "Parked", "Retried"]

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1

CHUNK: Final = 500
"""Bookings given back to the workers at once."""

_STATUSES = """
SELECT booking_id::text AS booking FROM dead_letters WHERE parked_at IS NOT NULL AND booking_id = ANY($1::uuid[])
"""


class Ended(NamedTuple):
    """What became of a parked booking that was failed."""

    booking: str
    payment: str
    """What the gateway knew of it, and did."""
    written: bool
    """False when not even its event could be read: PostgreSQL has no row of it."""
    stock: str
    """How its tickets came back: by its `record`, or by a `recount` of its event."""


class Retried(NamedTuple):
    """What became of bookings that were given back to the workers."""

    ended: int
    """Settled, one way or the other; or held, waiting for another payment."""
    waiting: int
    """Not yet, or for their customer or the gateway."""
    parked: int
    """Parked again."""


class Parked:
    """Lists parked bookings, and does with one what the operator says."""

    def __init__(
        self,
        shards: Shards,
        database: Database,
        gateway: PaymentGateway,
        reconcilers: Sequence[Reconciler],
        settings: Settings,
    ) -> None:
        self._database = database
        self._shards = shards
        self._gateway = gateway
        self._reconcilers = reconcilers
        self._settings = settings

    async def all(self, *, event: str = "", reason: str = "") -> list[DeadLetter]:
        """Those that are parked, in the order in which they were: of one event, or whose error has this in it, if asked so.

        A retry that was cut short, or a PostgreSQL that was restored, may know nothing of one that Redis has set aside:
        it is listed too. Raises `CannotRun`.
        """
        try:
            found = await read_parked(self._shards, self._database)
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error
        return [
            letter for letter in found
            if reason.lower() in letter.error.lower() and event in ("", letter.record and letter.record.event)
        ]  # fmt: skip

    async def one(self, booking_id: str) -> DeadLetter:
        """A parked booking. Raises `NotFound`, `CannotRun`."""
        booking = ids.canonical_booking_id(booking_id)
        found = [letter for letter in await self.all() if letter.booking == booking] if booking else []
        if not found:
            raise NotFound(f"No booking {booking_id} is parked.")
        return found[0]

    async def retry(self, booking_id: str) -> None:
        """Let a worker try it again now, with all its attempts. Raises `NotFound`, `CannotRun`."""
        await self.retry_all([await self.one(booking_id)])

    async def retry_all(self, letters: Sequence[DeadLetter], progress: Callable[[int], None] = lambda _: None) -> None:
        """Let workers try these again now, with all their attempts. `progress` is told how many have been given back.

        Raises `CannotRun`; those that have been given back stay so, and all may be asked for again.
        """
        try:
            for start in range(0, len(letters), CHUNK):
                chunk = [letter.booking for letter in letters[start : start + CHUNK]]
                await dead_letters.try_again(self._database, chunk)
                # Together: it is always in one of them, so that reconcile counts its tickets. A sweep finds it within a
                # second.
                for redis, some in self._shards.by_redis(chunk, ids.shard_of):
                    async with redis.pipeline(transaction=True) as pipe:
                        for booking in some:
                            shard = ids.shard_of(booking)
                            # With a lapse: whoever failed on it may have asked for its money.
                            pipe.zadd(keys.pending(shard), {booking: 1 + 1 / 16})
                            pipe.zrem(keys.dead(shard), booking)
                        await pipe.execute()
                progress(start + len(chunk))
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error

    async def retried(self, letters: Sequence[DeadLetter]) -> Retried:
        """What has become of bookings that were given back to the workers, so far. Raises `CannotRun`."""
        bookings = [letter.booking for letter in letters]
        counted = dict.fromkeys(Retried._fields, 0)
        try:
            parked = {row["booking"] for row in await self._database.fetch(_STATUSES, bookings)}
            for start in range(0, len(bookings), CHUNK):
                for redis, chunk in self._shards.by_redis(bookings[start : start + CHUNK], ids.shard_of):
                    async with redis.pipeline(transaction=False) as pipe:
                        for booking in chunk:
                            pipe.zscore(keys.pending(ids.shard_of(booking)), booking)
                        waiting = await pipe.execute()
                    for booking, score in zip(chunk, waiting, strict=True):
                        word = "parked" if booking in parked else "ended" if score is None else "waiting"
                        counted[word] += 1
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error
        return Retried(**counted)

    async def fail(self, booking_id: str) -> Ended:
        """End it: let its payment go, write FAILED without whatever could not be written, put its tickets on sale again,
        once. May be repeated when it was cut short.

        Raises `NotFound`, `CannotRun`.
        """
        try:
            return await self._fail(await self.one(booking_id))
        except WentBack as error:
            raise CannotRun(
                "PostgreSQL went back in time and may lack how this booking ended. `boxoffice reconcile --fix` writes again "
                "what it forgot."
            ) from error
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}). Fail it again to finish.") from error

    async def _fail(self, letter: DeadLetter) -> Ended:
        shard = ids.shard_of(letter.booking)
        told = await fence.told(self._shards[shard])
        decided = await self._database.fetchrow(
            "SELECT status, failure_code FROM bookings WHERE id = $1::uuid AND status NOT IN ('pending', 'held')",
            letter.booking,
        )
        if decided and decided["failure_code"] != "poison":
            raise CannotRun(f"PostgreSQL has it as {decided['status']}: `boxoffice dead retry` tells Redis so.")
        payment_key = letter.record.payment_key if letter.record else head_of(letter.raw).get("payment_key", "")
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
                connection, payment_key, letter.booking, facts, books=self._gateway.books, last4=_last4(letter.record),
                status=status, reference=reference, due="void" if status == "unknown" else None,
            )  # fmt: skip

    async def give_back(self, letter: DeadLetter, facts: Facts | None, pair: fence.Pair | None) -> str:
        """Tell Redis that it failed: its tickets go on sale again. The script's word."""
        booking, shard, record, head = letter.booking, ids.shard_of(letter.booking), letter.record, head_of(letter.raw)
        scope = record.scope if record else head.get("scope", "-")
        event = record.event if record else head.get("event", "-")
        payment_key = record.payment_key if record else head.get("payment_key", "")
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
        record = letter.record
        head = head_of(letter.raw)
        event = await connection.fetchrow(
            "SELECT id, client_id, currency FROM events WHERE id = $1",
            record.event if record else head.get("event", ""),
        )
        if event is None:
            return None
        body = record.body if record else None
        key = record.payload.key if record else ""
        client = await connection.fetchval("SELECT id FROM clients WHERE id = $1", _clean(body.client) if body else "")
        return Facts(
            client or event["client_id"],
            event["id"],
            _clean(body.customer) or "" if body else "",
            _clean(body.reference) if body else None,
            body.amount_cents if body and 0 <= body.amount_cents <= INT8_MAX else 0,
            event["currency"],
            key if _HEX.fullmatch(key) else ids.digest(letter.booking),
            record.fingerprint if record and _HEX.fullmatch(record.fingerprint) else "",
            record.sequence if record and 0 <= record.sequence <= INT8_MAX else 0,
            record.deadline_ms if record and 0 <= record.deadline_ms < 10**14 else 0,
            record.admitted_ms if record and 0 < record.admitted_ms < 10**14 else _made_ms(letter.booking),
            lines_of(body) if body else (),
        )


_HEX: Final = re.compile("[0-9a-f]{16,64}")
_HEAD: Final = re.compile(
    rb"^[A-Z]\|[^|\n]*\|[^|\n]*\|[^|\n]*\|([0-9a-f]*|=)\|([0-9a-f]{32})\|[^|\n]*\|([0-9a-z]{1,64})\|"
)


def head_of(raw: bytes) -> dict[str, str]:
    """What of a damaged record's head still makes sense."""
    found = _HEAD.match(raw)
    if found is None:
        return {}
    payment_key, scope = found[1].decode(), found[2].decode()
    return {"payment_key": scope if payment_key == SAME else payment_key, "scope": scope, "event": found[3].decode()}


def _clean(text: str | None) -> str | None:
    """The text, unless there is something in it that PostgreSQL would not take."""
    return text if text and is_storable(text) else None


def lines_of(body: Body) -> list[tuple[str, int, int]]:
    return [
        (line.tier, line.quantity, line.unit_price_cents)
        for line in body.lines
        if _clean(line.tier) and 0 < line.quantity <= INT4_MAX and 0 <= line.unit_price_cents <= INT4_MAX
    ]


def _last4(record: Record | None) -> str | None:
    charge = record.payload.charge if record else None
    return _clean(charge.last4) if charge else None


def _made_ms(booking: str) -> int:
    return int(booking[:8] + booking[9:13], 16)
