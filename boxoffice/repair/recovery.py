"""PostgreSQL went back in time: what Redis was told, and it forgot, is written again, with the shard's gate closed.

Redis has a record of every booking that ended within `worker.settled_ttl_s`. One that was confirmed is written as confirmed,
in the order of admission and as far as there are tickets; the gateway has its payment under the same key. One that ended
otherwise is written as its shop was told, and money that is not a sale's is let go. Cancellations and refunds are made again
under the same refund key. What cannot be confirmed, and everything when an operator says that it shall be forgotten, is
withdrawn: failed, with a code that its shop can read, its money given back. All of it may be repeated at any point.

One file because it is one procedure: what is looked at decides what is written, and in which order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from boxoffice.access.api_keys import VERSION
from boxoffice.bookings.records import readable
from boxoffice.books import looks
from boxoffice.books.moves import Note
from boxoffice.books.queries import final_endings
from boxoffice.books.rewrite import Rewritten, rewrite
from boxoffice.errors import DriftUnexplained
from boxoffice.money.refunds import Refunds
from boxoffice.settings import Settings
from boxoffice.states import WORDS
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shard

__all__ = ["Recovered", "Recovery"]

PAGE: Final = 1_000
"""Records read, and looked up in PostgreSQL, at once."""

CHUNK: Final = 500
"""Bookings written again by one transaction, and corrected by one script call."""

_OTHERWISE = """
SELECT asked.id::text AS id, b.status FROM unnest($1::uuid[], $2::text[]) AS asked (id, status)
LEFT JOIN bookings b ON b.id = asked.id WHERE b.status IS DISTINCT FROM asked.status
"""

_SHARD = """
SELECT batch, settled_at < now() - $2 * interval '1 second' AS long_ago FROM shards WHERE shard = $1
"""

_REFUNDS = "SELECT refund_key FROM refunds WHERE refund_key = ANY($1::text[])"


class Recovered(NamedTuple):
    """What was done about what PostgreSQL had forgotten."""

    confirmed: int = 0
    """Bookings written as confirmed again."""
    ended: int = 0
    """Bookings that ended otherwise, written as their shops had been told."""
    refunds: int = 0
    """Cancellations and refunds of bookings that PostgreSQL still had."""
    withdrawn: int = 0
    """Bookings that their shops were told are confirmed, and that are failed now; their money goes back."""


class Lost(NamedTuple):
    """What Redis has and PostgreSQL lacks, by the ids of bookings."""

    bookings: list[tuple[int, str]]
    """With their places in the order of admission."""
    unpaid: list[tuple[int, str]]
    """Holds that ended without an attempt to pay: Redis alone decides them. Free ones may have been confirmed before."""
    decided: list[str]
    """PostgreSQL calls them ended, Redis confirmed."""
    cancelled: list[str]
    """The other way round."""
    notes: dict[str, list[Note]]
    """Of cancellations and refunds."""
    events: set[str]
    """Named by any record, and not known to PostgreSQL."""


class Recovery:
    """Recovers one shard. The caller has its lock, and has closed its gate. `books`: whose books our gateway keeps, for the
    payments of bookings that PostgreSQL forgot; what the settings tell of it without."""

    def __init__(
        self, here: Shard, database: Database, refunds: Refunds, settings: Settings,
        books: Callable[[], str] | None,
    ) -> None:  # fmt: skip
        self.shard = here.number
        self._redis = here.redis
        self._database = database
        self._here = here
        self._settings = settings
        self.gateway_books = books or (lambda: settings.gateway.kind)
        self._refunds = refunds

    async def recover(self, lost: Sequence[fence.Pair], *, forget: bool = False) -> Recovered:
        """Write again what PostgreSQL forgot with the `lost` commits; with `forget`, withdraw it.

        Raises `DriftUnexplained` when more may be lost than Redis remembers, or this is another database: then an operator
        has to decide.
        """
        if forget:
            await self._database.execute(
                "INSERT INTO shards (shard, generation) VALUES ($1, '') ON CONFLICT DO NOTHING", self.shard
            )
        known = {row["id"] for row in await self._database.fetch("SELECT id FROM events")}
        found = await self._look(known)
        if not forget:
            await self.see_that_it_is_ours(lost, found)
        done = Recovered(refunds=await self._refund_again(found))
        for start in range(0, len(found.bookings), CHUNK):
            some = [booking for _, booking in found.bookings[start : start + CHUNK]]
            rewritten = await self._write_again(some, found.notes, known, forget)
            done = done._replace(
                confirmed=done.confirmed + rewritten.confirmed, ended=done.ended + rewritten.ended,
                withdrawn=done.withdrawn + len(rewritten.withdrawn),
            )  # fmt: skip
        for start in range(0, len(found.decided), CHUNK):
            await self.correct(found.decided[start : start + CHUNK])
        # What came back within a week: that it failed since may have been told to a PostgreSQL that is no more.
        await looks.ask_for(self._database, list(found.notes.keys() | set(found.cancelled)))
        if forget:
            await self.forget_events(known)
        return done

    # ------------------------------------------------------------------ looking

    async def _look(self, known: set[str]) -> Lost:
        found = Lost([], [], [], [], {}, set())
        async with self._database.writer() as connection:
            await self._look_with(connection, found, known)
            # Whoever has this commit has all that was found there, should PostgreSQL go back once more.
            if pair := await fence.last_batch(connection, self.shard):
                await fence.tell(self._here, pair)
        found.bookings.extend(place for place in found.unpaid if place[1] in found.notes)
        found.bookings.sort()
        return found

    async def _look_with(self, connection: Connection, found: Lost, known: set[str]) -> None:
        prefix = keys.booking(self.shard, "")
        async for records, notes in self.pages():
            for raw in notes:
                self.keep(raw, found.notes)
            heads = {name[len(prefix) :]: raw.split(b"|", 8) for name, raw in records.items() if raw.count(b"|") > 8}
            for booking, head in heads.items():
                if (event := head[7].decode()) not in known:
                    found.events.add(event)
                    if head[0] in (b"P", b"H"):
                        found.bookings.append((int(head[1]), booking))
            ended = {
                booking: head
                for booking, head in heads.items()
                if head[0] in b"CFEX" or (head[0] == b"H" and head[7].decode() in known)
            }
            rows = await connection.fetch(
                _OTHERWISE, list(ended), [WORDS.get(head[0].decode(), "") for head in ended.values()]
            )
            for row in rows:
                self.sort(row["id"], row["status"], records[prefix + row["id"]], found)

    async def pages(self) -> AsyncIterator[tuple[dict[str, bytes], list[bytes]]]:
        """Every record, and every note that a stock move left behind, a page at a time."""
        tag, cursor = keys.shard_tag(self.shard), 0
        records, notes = keys.booking(self.shard, ""), f"{tag}:moved:"
        while True:
            cursor, found = await self._redis.scan(cursor, match=f"{tag}:*", count=PAGE)
            names = [name for name in map(bytes.decode, found) if name.startswith((records, notes))]
            values = await self._redis.mget(names) if names else []
            page = {name: raw for name, raw in zip(names, values, strict=True) if raw}
            yield (
                {name: raw for name, raw in page.items() if name.startswith(records)},
                [raw for name, raw in page.items() if name.startswith(notes)],
            )
            if not cursor:
                return

    def keep(self, raw: bytes, notes: dict[str, list[Note]]) -> None:
        """Add what a move's note says of its booking, once."""
        try:
            note = msgspec.json.decode(raw, type=Note)
        except msgspec.MsgspecError:
            return  # of a move that is about no booking, or made by an earlier version
        if note not in notes.setdefault(note.booking, []):
            notes[note.booking].append(note)

    def sort(self, booking: str, status: str | None, raw: bytes, found: Lost) -> None:
        """Put the booking where its record and its status say that it belongs."""
        try:
            record = unpack(booking, raw)
        except ValueError:
            return  # a worker will park it
        if record.state == "X" and status == "confirmed":
            found.cancelled.append(booking)
        elif record.state in "EHX" and not record.attempts:
            found.unpaid.append((record.sequence, booking))
        elif status in (None, "pending", "held") or (record.state == "C" and status == "expired"):
            if WORDS[record.state] != status:
                found.bookings.append((record.sequence, booking))
        elif record.state == "C":
            found.decided.append(booking)

    async def see_that_it_is_ours(self, lost: Sequence[fence.Pair], found: Lost) -> None:
        """Whether what Redis has is all that is lost. Else tickets that were sold would be sold again."""
        row = await self._database.fetchrow(_SHARD, self.shard, self._settings.worker.settled_ttl_s - 3_600)
        if row is None or found.events:
            raise DriftUnexplained(
                f"PostgreSQL knows nothing of shard {self.shard}, or lacks events that are on sale: is DATABASE_URL right? "
                "Restore a newer PostgreSQL, or accept this one with --accept-postgres."
            )
        lacking = max(pair.number for pair in lost) - row["batch"]
        if row["long_ago"] and lacking > len(found.bookings) + len(found.notes):
            raise DriftUnexplained(
                f"PostgreSQL went back in time, further than shard {self.shard} of Redis remembers. "
                "Restore a newer PostgreSQL, or accept this one with --accept-postgres."
            )

    # ------------------------------------------------------------------ writing

    async def _refund_again(self, found: Lost) -> int:
        """Cancellations and refunds of bookings that PostgreSQL has as confirmed."""
        lacking = {booking for _, booking in found.bookings}
        noted = {booking: notes for booking, notes in found.notes.items() if booking not in lacking}
        refund_keys = [note.refund_key for notes in noted.values() for note in notes if note.refund_key]
        there = {row["refund_key"] for row in await self._database.fetch(_REFUNDS, refund_keys)}
        done = 0
        for booking in sorted(noted.keys() | set(found.cancelled)):
            lost = [
                note for note in noted.get(booking, ())
                if note.refund_key not in there and (note.refund_key or booking in found.cancelled)
            ]  # fmt: skip
            if lost:
                done += await self._refunds.again(booking, lost)
            if booking in found.cancelled or any(note.code for note in lost):
                done += await self._refunds.cancel_again(booking)
        return done

    async def _write_again(
        self, bookings: list[str], notes: dict[str, list[Note]], known: set[str], forget: bool
    ) -> Rewritten:
        records = await self._records(bookings)
        async with self._database.begin() as connection:
            rewritten = await rewrite(
                connection, self.shard, records, notes, gateway=self.gateway_books(), known=known, forget=forget
            )
        if rewritten.pair:
            await fence.tell(self._here, rewritten.pair)
        if rewritten.withdrawn:
            await self.correct(rewritten.withdrawn)
        return rewritten

    async def forget_events(self, known: set[str]) -> None:
        """Events that PostgreSQL does not have are on sale no more."""
        name = keys.catalogue(self.shard)
        events = {event.decode() for event in await self._redis.hkeys(name)}  # type: ignore[misc]
        gone = sorted(events - known - {VERSION})
        if gone:
            async with self._redis.pipeline(transaction=True) as pipe:
                for event in gone:
                    pipe.hdel(name, event)
                    names = (keys.event, keys.owners, keys.owned_tiers, keys.shops, keys.unpaid, keys.codes)
                    pipe.delete(*(key(self.shard, event) for key in names))
                if VERSION in events:
                    pipe.hincrby(name, VERSION, 1)
                await pipe.execute()

    async def _records(self, bookings: list[str]) -> list[Record]:
        raws = await self._redis.mget([keys.booking(self.shard, booking) for booking in bookings])
        found = [readable(booking, raw) for booking, raw in zip(bookings, raws, strict=True) if raw]
        return [record for record in found if record is not None]

    async def correct(self, bookings: list[str]) -> int:
        """Tell Redis how PostgreSQL has these, which it calls something else."""
        records = await self._records(bookings)
        async with self._database.writer() as connection:
            endings = await final_endings(connection, bookings)
            pair = await fence.last_batch(connection, self.shard)
        names: list[str] = []
        changes: list[bytes] = []
        for record in records:
            if (ending := endings.get(record.id)) is not None and ending.state != record.state:
                names += [keys.booking(self.shard, record.id), keys.idempotency(self.shard, record.scope)]
                changes.append(f"{record.state}|{ending.state}|".encode() + ending.end)
        ttl_s = self._settings.worker.settled_ttl_s
        return int(await self._here.run("correct", keys=names, ttl_s=ttl_s, pair=str(pair or ""), changes=changes))
