"""Forgetting a customer: what is personal goes from PostgreSQL and from Redis; the books and limits stay.

Redis first: from a record or a note there, PostgreSQL could be told again who it was. A process that dies between the two has
erased a part, and the command once more erases the rest.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
from redis.exceptions import RedisError, WatchError

from boxoffice import ids
from boxoffice.backoffice.finding import CHUNK, records
from boxoffice.books import interventions, personal
from boxoffice.books.moves import Note
from boxoffice.errors import CannotRun, StoreAway
from boxoffice.states import FINAL
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shard, Shards
from boxoffice.wire.requests import check_text

__all__ = ["Forgetting", "Forgotten"]

PREFIX: Final = "forgotten-"
"""Begins every pseudonym."""

_PSEUDONYM: Final = re.compile(PREFIX + "[0-9a-f]{12}")
"""Who has one is not forgotten once more under it: the limit would be another's."""


class Forgotten(NamedTuple):
    """What was erased: rows of each table, and records in Redis. `pseudonym` stands for the customer from now on; None
    when PostgreSQL had no booking of it. `unread`: records of failures that nobody can read, and that may be anybody's."""

    pseudonym: str | None
    erased: dict[str, int]
    records: int
    unread: int


class Forgetting:
    """Erases a shop's customer."""

    def __init__(self, shards: Shards, database: Database) -> None:
        self._shards = shards
        self._database = database

    async def forget(self, client: str, customer: str, by: str) -> Forgotten:
        """Erase what is personal of this customer of this shop. However often, and after any crash, the rest is erased.

        Raises `CannotRun` while something of the customer is undecided, `StoreAway` when either store does not answer.
        """
        check_text(by, "/by", 64)
        if _PSEUDONYM.fullmatch(customer):
            raise CannotRun("This is the pseudonym of a customer who is forgotten.")
        owner = ids.owner_digest(client, customer)
        async with self._database.answering():
            found = await self._records(client, customer)
            async with self._database.begin() as connection:
                known = await personal.lock(connection, client, customer)
                failed, unread = _failed(await personal.unclaimed(connection), {*found}, client, customer)
                await self._refuse(connection, sorted({*known, *found, *failed}))
            pseudonym = PREFIX + ids.digest("forgotten", owner)[:12]
            number = await interventions.begin(self._database, "forget", by, None, f"client {client}, owner {owner}")
            seen = [await self._erase_record(booking, pseudonym, owner) for booking in found]
            await self._erase_notes({*known, *found})
            async with self._database.begin() as connection:
                bookings = await personal.lock(connection, client, customer)
                # Of those that Redis alone has there may be failures, and words of operators.
                theirs = sorted({*bookings, *found, *failed})
                await self._refuse(connection, theirs)
                erased = await personal.erase(connection, theirs, pseudonym, owner)
            # Those that were booked and decided since.
            admitted_since = sorted({*bookings} - {*found})
            seen += [await self._erase_record(booking, pseudonym, owner) for booking in admitted_since]
            records, unread = seen.count(True), unread + seen.count(None)
            await interventions.end(self._database, number, f"erased {len(bookings)} bookings, {records} records")
        return Forgotten(pseudonym if bookings else None, erased, records, unread)

    async def _refuse(self, connection: Connection, bookings: list[str]) -> None:
        if waiting := await personal.undecided(connection, bookings):
            what = ", ".join(f"{count} {kind}" for kind, count in waiting.items())
            raise CannotRun(
                f"Something of this customer is undecided: {what}. Look with `boxoffice bookings find`, and with"
                " `boxoffice payments owed`; end it, and forget then. Nothing was erased."
            )

    async def _records(self, client: str, customer: str) -> list[str]:
        """Ids of the customer's records in Redis, all of them decided."""
        found = []
        try:
            for shard in self._shards:
                async for record in records(shard, ended=True):
                    if (record.body.client, record.body.customer) == (client, customer):
                        found.append(record)
        except (RedisError, OSError) as error:
            raise StoreAway("Redis does not answer, and it may know the customer. Nothing was erased.") from error
        if waiting := [record.id for record in found if record.state not in FINAL]:
            raise CannotRun(
                f"Something of this customer is undecided: {len(waiting)} bookings in Redis, such as {waiting[0]}. End them"
                " with `boxoffice bookings cancel`, or wait until they are decided. Nothing was erased."
            )
        return [record.id for record in found]

    async def _erase_notes(self, bookings: set[str]) -> None:
        """The reasons that Redis remembers of these bookings' refunds. Nobody changes a note."""
        try:
            for shard in self._shards:
                names = [name async for name in shard.redis.scan_iter(f"{keys.moved(shard.number, '')}*", count=CHUNK)]
                for start in range(0, len(names), CHUNK):
                    await _erase_some(shard, names[start : start + CHUNK], bookings)
        except (RedisError, OSError) as error:
            raise StoreAway("Redis does not answer: a part is erased. Type the same again.") from error

    async def _erase_record(self, booking: str, pseudonym: str, owner: str) -> bool | None:
        """In the record as it is at that moment: scripts may change it meanwhile, and then it is read again. None: nobody can
        read it."""
        number = ids.shard_of(booking)
        name = keys.booking(number, booking)
        try:
            async with self._shards[number].redis.pipeline(transaction=True) as pipe:
                while True:
                    await pipe.watch(name)
                    raw = await pipe.get(name)
                    try:
                        record = unpack(booking, raw) if raw is not None else None
                    except ValueError:
                        return None
                    if record is None or record.body.customer == pseudonym:
                        return False
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.set(name, erased_of(record, pseudonym, owner).pack(), keepttl=True)
                    try:
                        await pipe.execute()
                        return True
                    except WatchError:
                        continue
        except (RedisError, OSError) as error:
            raise StoreAway("Redis does not answer: a part is erased. Type the same again.") from error


def _failed(
    unclaimed: dict[str, bytes], found: set[str], client: str, customer: str
) -> tuple[list[str], int]:  # fmt: skip
    """Of records of failures that have no row: which are the customer's, and how many nobody can read. `found` are known."""
    failed, unread = [], 0
    for booking, raw in unclaimed.items():
        try:
            body = unpack(booking, raw).body
        except ValueError:
            unread += booking not in found
            continue
        if (body.client, body.customer) == (client, customer):
            failed.append(booking)
    return failed, unread


async def _erase_some(shard: Shard, names: list[bytes], bookings: set[str]) -> None:
    for name, raw in zip(names, await shard.redis.mget(names), strict=True):
        try:
            note = msgspec.json.decode(raw or b"", type=Note)
        except msgspec.DecodeError:
            continue  # of no booking, or forgotten by now
        if note.booking in bookings and note.reason not in (*personal.OURS, ""):
            erased = msgspec.structs.replace(note, reason=personal.ERASED)
            await shard.redis.set(name, msgspec.json.encode(erased), xx=True, keepttl=True)


def erased_of(record: Record, pseudonym: str, owner: str) -> Record:
    """The record without what is personal: no name, no digits and no token of a card, no words of the shop, and another
    customer. By
    `owner` its tickets count, should it have to be written to PostgreSQL again."""
    payload = record.payload
    outcome = payload.outcome and msgspec.structs.replace(payload.outcome, last4=None, next_action=None)
    earlier = tuple(
        msgspec.structs.replace(
            each, fingerprint="", outcome=msgspec.structs.replace(each.outcome, last4=None, next_action=None)
        )
        for each in payload.earlier
    )
    record.body = msgspec.structs.replace(record.body, customer=pseudonym, metadata=None, return_url=None)
    record.payload = msgspec.structs.replace(
        payload, charge=None, outcome=outcome, earlier=earlier, fingerprint="", owner=owner
    )
    return record
