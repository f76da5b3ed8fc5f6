"""Fills a shard's Redis again from PostgreSQL, with its gate closed. What Redis still has is never deleted.

Re-created are events, API keys, undecided bookings with their stock, and the recent final ones with their idempotency
keys; then every event is reconciled, customers' counts included. Bookings that only Redis knows stay accepted.

One file because a whole rebuild and a quick check take the same steps in the same order, and open the same gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeVar

from boxoffice import ids
from boxoffice.books import queries
from boxoffice.books.moves import remember_applied
from boxoffice.errors import CannotRun, DriftUnexplained
from boxoffice.repair.reconcile import EventReport, Reconciler
from boxoffice.repair.recovery import Recovered, Recovery
from boxoffice.repair.survey import suspects
from boxoffice.sales.loading import Loader
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.gate import Gate, open_gate
from boxoffice.stores.record import Record, items_of
from boxoffice.stores.redis import run_id
from boxoffice.stores.shard import Shard

__all__ = ["POSTGRES_WENT_BACK", "RebuildReport", "Rebuilder", "shard_lock"]

POSTGRES_WENT_BACK: Final = "postgres_went_back"
"""The alert under which a shard stays closed until an operator accepts what PostgreSQL has."""

SEQUENCE_LEAP: Final = 1_000_000
"""Added to the sequence, so that it lies beyond every admission that a lost Redis may have numbered."""

COMMIT_S: Final = 5.0
"""A decision is dated by the beginning of its transaction, which ends within a lease; and so exactly is it known when Redis
was last seen to agree."""

CHUNK: Final = 250
"""Bookings restored by one script call: about two milliseconds in which Redis runs nothing else."""

FINALS_CHUNK: Final = 1_000
"""Records looked at at once: half a megabyte."""

REPAIR_LOCK: Final = 0x72657061
"""Advisory lock, with the shard as its second half: one process repairs a shard at a time."""

Chunk = TypeVar("Chunk")

Progress = Callable[[int], None]
"""Called with the bookings looked at so far."""


class RebuildReport(NamedTuple):
    """What a rebuild put back."""

    shard: int
    generation: str
    events: int
    undecided: int
    final: int
    reports: tuple[EventReport, ...]
    recovered: Recovered
    """What PostgreSQL had forgotten, and has again."""


@asynccontextmanager
async def shard_lock(database: Database, shard: int) -> AsyncIterator[bool]:
    """True while this process alone repairs the shard; False when another one does. Ends with the connection."""
    async with database.writer() as connection:
        got = await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", REPAIR_LOCK, shard)
        try:
            yield got
        finally:
            if got and not connection.is_closed():
                await connection.execute("SELECT pg_advisory_unlock($1, $2)", REPAIR_LOCK, shard)


class Rebuilder:
    """Rebuilds one shard."""

    def __init__(
        self,
        here: Shard,
        database: Database,
        loader: Loader,
        reconciler: Reconciler,
        recovery: Recovery,
        settings: Settings,
    ) -> None:
        self.shard = here.number
        self._redis = here.redis
        self._database = database
        self._here = here
        self._loader = loader
        self._life_s = settings.worker.settled_ttl_s
        self._commit_s = settings.worker.lease_ms / 1_000 + COMMIT_S
        self.reconciler = reconciler
        self._recovery = recovery

    async def rebuild(self, *, accept_postgres: bool = False, progress: Progress | None = None) -> RebuildReport:
        """Close the gate, fill Redis, open the gate under a new generation.

        What PostgreSQL forgot is written again first, or withdrawn when an operator accepts that it is forgotten. Raises
        `DriftUnexplained` when that has to be an operator's decision, and `CannotRun` when another process is at it.
        """
        async with shard_lock(self._database, self.shard) as alone:
            if not alone:
                raise CannotRun(f"Shard {self.shard} is being repaired by another process.")
            return await self.rebuild_locked(accept_postgres=accept_postgres, progress=progress)

    async def rebuild_locked(
        self, *, accept_postgres: bool = False, fill: bool = True, progress: Progress | None = None
    ) -> RebuildReport:
        """As `rebuild`, for a caller that has the shard's lock. Not `fill`: Redis lacks nothing, PostgreSQL does."""
        # It is opened for the run that it was filled on: another one in the meantime may have lost what was put back.
        run = await run_id(self._redis)
        await self._redis.delete(keys.gate(self.shard))
        # Whoever is told from here on adds to these, and is looked at after the gate has opened.
        told = await fence.told(self._here)
        # Before anything is put back: only survivors can be strays.
        await self.reconciler.strays.gather()
        recovered = Recovered()
        lost = await fence.lost(self._database, self.shard, told)
        if not lost and not accept_postgres:
            await self._see_that_nobody_waits()
        if lost or accept_postgres:
            recovered = await self._recovery.recover(lost, forget=accept_postgres)
        if accept_postgres:
            await self._loader.withdraw_keys(self.shard)
        loaded = await self._loader.load(self.shard)
        undecided, final = await self._fill(progress) if fill else (0, 0)
        reports = await self.reconciler.every_event(fix=True, deep=True, owned=True, strays=False, fenced=False)
        generation = await self.open_gate(run, lost)
        return RebuildReport(
            self.shard, generation, len(loaded.events), undecided, final, tuple(reports), recovered
        )  # fmt: skip

    async def _see_that_nobody_waits(self) -> None:
        """The Redis that knew what PostgreSQL lacks may be lost since: still an operator has to decide."""
        if await self._database.fetchval("SELECT alert FROM shards WHERE shard = $1", self.shard) == POSTGRES_WENT_BACK:
            raise DriftUnexplained(
                f"PostgreSQL went back in time, and shard {self.shard} waits for an operator. "
                "Restore a newer PostgreSQL, or accept this one with --accept-postgres."
            )

    async def _fill(self, progress: Progress | None) -> tuple[int, int]:
        """Put back what PostgreSQL has and Redis lacks: how many undecided bookings, and how many final ones."""
        seen = undecided = final = 0
        there: list[str] = []

        def report(count: int) -> None:
            nonlocal seen
            seen += count
            if progress:
                progress(seen)

        async with self._database.writer() as connection:
            async for records in queries.undecided(connection, self.shard):
                undecided += await self.restore([(0, record) for record in records])
                report(len(records))
            async for chunk, pair in _ahead(self._finals(connection)):
                restored = await self.restore(chunk, pair)
                if restored < len(chunk):
                    there += [record.id for _, record in chunk]
                final += restored
                report(len(chunk))
            await self.reconciler.finals.correct(connection, there)
            since = await connection.fetchval("SELECT now() - $1 * interval '1 second'", float(self._life_s))
            await remember_applied(self._here, connection, since)
        return undecided, final

    async def _finals(
        self, connection: Connection
    ) -> AsyncIterator[tuple[list[tuple[int, Record]], fence.Pair | None]]:
        """Chunks of final bookings, each with the pair of a commit that has them: asked on the same connection, so of the
        same server."""
        async for chunk in queries.finals(connection, self.shard, self._life_s):
            yield chunk, await fence.last_batch(connection, self.shard)

    async def check(self) -> list[EventReport]:
        """Compare a Redis that has just started with PostgreSQL, and mend what differs, for a caller that has the shard's
        lock and opens the gate afterwards. Quick when nothing does. Returns the events that had to be mended.

        Raises `WentBack`."""
        lost = set((await self._loader.load(self.shard)).lost)
        async with self._database.writer() as connection:
            await fence.check(connection, self._here)
            async for records in queries.undecided(connection, self.shard):
                await self.restore([(0, record) for record in records])
            since = await connection.fetchval(
                "SELECT to_timestamp(coalesce($1::float8, extract(epoch FROM now()) - $2) - $3)",
                await self.sound_s(), float(self._life_s), self._commit_s,
            )  # fmt: skip
            ended = await queries.finals_since(connection, self.shard, since)
            changed = await self._end_changed(connection, ended)
            corrected = changed | await self.reconciler.finals.correct(connection, ended)
            await remember_applied(self._here, connection, since)
            events, drifted = await suspects(self._here, connection)
        if drifted or lost or corrected:
            await self.reconciler.strays.gather()
        return [
            await self.reconciler.event(event, fix=True, deep=True, owned=event in corrected | lost, strays=False)
            for event in sorted(events | corrected | lost)
        ]

    async def _end_changed(self, connection: Connection, ended: Sequence[str]) -> set[str]:
        """Bookings that have ended and wait or are held in Redis, with other items, are what they ended as. Returns their
        events: what customers and codes have of these is counted anew."""
        events: set[str] = set()
        for start in range(0, len(ended), FINALS_CHUNK):
            some = ended[start : start + FINALS_CHUNK]
            raws = await self._redis.mget([keys.booking(self.shard, booking) for booking in some])
            items = {
                booking: items_of(raw)
                for booking, raw in zip(some, raws, strict=True)
                if raw and raw[:1] in (b"P", b"H")
            }
            finals = await queries.finals_of(connection, [*items]) if items else []
            records = [record for record in finals if record.items != items[record.id]]
            events |= {record.event for record in records}
            pair = await fence.last_batch(connection, self.shard)
            await self.restore([(self._life_s, record) for record in records], pair)
        return events

    async def sound_s(self) -> float | None:
        """When a guard last found this Redis open and agreeing, by PostgreSQL's clock."""
        raw = await self._redis.get(keys.sound(self.shard))
        return int(raw) / 1_000 if raw is not None and raw.isdigit() else None

    async def restore(self, bookings: Sequence[tuple[int, Record]], pair: fence.Pair | None = None) -> int:
        """Put back those bookings that Redis lacks, each with the seconds it has to live if it is final. `pair`: of a
        commit that has all of these; none when none is final.

        Returns how many that were.
        """
        calls = [self._restore(bookings[start : start + CHUNK], pair) for start in range(0, len(bookings), CHUNK)]
        return sum(await asyncio.gather(*calls))

    async def _restore(self, bookings: Sequence[tuple[int, Record]], pair: fence.Pair | None) -> int:
        shard = self.shard
        events = {event: n for n, event in enumerate(sorted({record.event for _, record in bookings}), 1)}
        names: list[str] = []
        for event in events:
            names += [keys.event(shard, event), keys.owners(shard, event)]
        forms: list[bytes] = []
        for life_s, record in bookings:
            names += [keys.booking(shard, record.id), keys.idempotency(shard, record.scope)]
            forms.append(b"%d|%d|%s" % (events[record.event], life_s, record.pack()))
        return int(
            await self._here.run("restore", keys=names, events=len(events), pair=str(pair or ""), bookings=forms)
        )

    async def open_gate(self, run: str, lost: Sequence[fence.Pair]) -> str:
        """A crash between any two steps leaves the gate closed, and the next rebuild does them again. Only what was lost and
        is made good is missed no more: should PostgreSQL go back again meanwhile, the other pairs tell."""
        generation = ids.short_id()
        async with self._database.writer() as connection:
            highest = await queries.highest_sequence(connection, self.shard)
            row = await connection.fetchrow("SELECT sequence FROM shards WHERE shard = $1", self.shard)
            last = await fence.last_batch(connection, self.shard)
            ours = int(await self._redis.get(keys.sequence(self.shard)) or 0)
            sequence = max(ours, highest, row["sequence"] if row else 0) + SEQUENCE_LEAP
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keys.sequence(self.shard), sequence)
                if lost:
                    pipe.srem(keys.told(self.shard), *map(str, lost))
                if last:
                    pipe.sadd(keys.told(self.shard), str(last))
                await pipe.execute()
            await connection.execute(
                "INSERT INTO shards (shard, generation, sequence, run_id) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (shard) DO UPDATE SET generation = $2, sequence = $3, run_id = $4, server = '', alert = NULL",
                self.shard, generation, sequence, run,
            )  # fmt: skip
        await open_gate(self._here, Gate(generation, run))
        return generation


async def _ahead(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """Read the next chunk while the caller works on this one."""
    reading = asyncio.ensure_future(anext(chunks, None))
    try:
        while (chunk := await reading) is not None:
            reading = asyncio.ensure_future(anext(chunks, None))
            yield chunk
    finally:
        reading.cancel()
