"""Redis against PostgreSQL, tier by tier, exact while sales go on: find drift, say it, mend it.

Under the lock of the event's inventory rows nothing of it is sold or cancelled: what PostgreSQL calls final stays so, and
one script may compare, and recount what is held. Admissions never wait; settling waits for some milliseconds.

One file because all of it is one call of a script: what goes in, under which lock, and what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from boxoffice.books import bought, queries
from boxoffice.books.finals import Finals
from boxoffice.books.moves import MOVED_TTL_S, Move, mark_applied, open_moves
from boxoffice.errors import CannotRun, GateClosed, NotFound
from boxoffice.repair.strays import Strays
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.record import unpack
from boxoffice.stores.shard import Shard

__all__ = ["EventReport", "Reconciler", "TierDrift"]

DEEP_MAX: Final = 20_000
"""Bookings in a shard up to which even a look counts every one of them: about a millisecond per thousand."""

LOCK_TRIES: Final = 10
"""A settling batch holds the rows for some milliseconds; who waits longer than this many lock timeouts gives up."""

OWNERS_MAX: Final = 10_000
"""Customers counted by one script call: some 50 ms in which Redis runs nothing else."""

MOVES_MAX: Final = 20_000
"""Open stock moves of an event that one script call takes, of four arguments each: some 100 ms in which Redis runs nothing
else. Workers keep them at some thousands."""

LOOKED_AT_MAX: Final = 200_000
"""The same of a look, which makes none of them: Redis takes a million arguments."""

PART: Final = 2
"""To reconcile.lua: write what PostgreSQL has decided, and judge nothing, for there is more of it."""

CHUNK: Final = 1_000
"""Records read, and customers written, at once."""

_LOCK = """
SELECT i.tier_id, i.total, i.sold, t.code, t.display_order
FROM inventory i JOIN tiers t ON t.id = i.tier_id
WHERE t.event_id = $1 ORDER BY i.tier_id FOR UPDATE OF i
"""


class Counts(NamedTuple):
    """One tier's counters."""

    available: int
    held: int
    sold: int
    total: int


class TierDrift(NamedTuple):
    """One tier as Redis had it, once it had heard what PostgreSQL decided, and as it should be."""

    tier: str
    code: str
    found: Counts
    expected: Counts

    @property
    def drift(self) -> Counts:
        """Found less expected."""
        return Counts(*(found - expected for found, expected in zip(self.found, self.expected, strict=True)))


class EventReport(NamedTuple):
    """What was found of one event. `word` is same, drift or fixed."""

    event: str
    word: str
    settled: int
    """Bookings of which Redis had not heard that PostgreSQL had decided them."""
    moved: int
    oversold: int
    """Tickets sold and held beyond the total: so far below zero is what is available, until PostgreSQL has refused the
    surplus."""
    tiers: tuple[TierDrift, ...]


class Reconciler:
    """Compares and mends the events of one shard."""

    def __init__(
        self,
        here: Shard,
        database: Database,
        settings: Settings,
    ) -> None:
        self.shard = here.number
        self.strays = Strays(here)
        self.finals = Finals(here, settings)
        self._redis = here.redis
        self._database = database
        self._here = here
        self._ttl_s = settings.worker.settled_ttl_s

    async def every_event(
        self, *, fix: bool, deep: bool | None = None, owned: bool = False, strays: bool = True, fenced: bool = True
    ) -> list[EventReport]:
        """Reconcile each event of the shard. Raises as `event`."""
        if fix and strays:
            await self.strays.gather()
        rows = await self._database.fetch("SELECT id FROM events WHERE shard = $1 ORDER BY starts_at, id", self.shard)
        return [
            await self.event(row["id"], fix=fix, deep=deep, owned=owned, strays=False, fenced=fenced) for row in rows
        ]

    async def event(
        self,
        event: str,
        *,
        fix: bool,
        deep: bool | None = None,
        owned: bool = False,
        strays: bool = True,
        fenced: bool = True,
        shops: bool = False,
    ) -> EventReport:
        """Compare one event; with `fix`, mend it. `owned` recounts what each customer has, too; `shops`, what each shop has.
        `strays` are looked for before anything is mended: a recount would give their tickets to somebody else. Not `fenced`:
        the caller knows what PostgreSQL lacks.

        Raises `GateClosed` when the event has no counters in Redis, `NotFound`, `CannotRun` when its inventory stays
        locked, and `WentBack`.
        """
        if fix and strays:
            await self.strays.gather()
        # Most records are read before the lock is held; under it, only those that came since.
        seen: dict[str, tuple[str, str]] = {}
        await self._look(seen)
        for _ in range(LOCK_TRIES):
            try:
                async with self._database.begin() as connection:
                    if fenced:
                        await fence.check(connection, self._here)
                    return await self._locked(connection, event, seen, fix, deep, owned, shops)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(0.05)
        raise CannotRun(f"The inventory of event {event} stays locked by somebody else.")

    async def count_shops(self, event: str) -> None:
        """Count anew what each shop has of an event, and mend what is found on the way. Raises as `event`."""
        await self.event(event, fix=True, shops=True)

    async def _locked(
        self,
        connection: Connection,
        event: str,
        seen: dict[str, tuple[str, str]],
        fix: bool,
        deep: bool | None,
        owned: bool,
        shops: bool,
    ) -> EventReport:
        stock = await connection.fetch(_LOCK, event)
        if not stock:
            raise NotFound("There is no such event, or it has no tiers.")
        # Who is admitted from now on cannot be final: we hold the lock.
        waiting = await self._look(seen)
        decided = await queries.final_endings(connection, [booking for booking in waiting if seen[booking][0] == event])
        endings = [(booking, seen[booking][1], ending) for booking, ending in decided.items()]
        # Also for counters alone: they tell Redis what was sold, and given back, by then.
        pair = await fence.last_batch(connection, self.shard) if fix else None
        if deep is None:
            deep = fix or await self._backlog() <= DEEP_MAX
        # All of them: what PostgreSQL says was sold has all of them, and one that is not marked with it is made once more.
        most, before = MOVES_MAX if fix else LOOKED_AT_MAX, [0, 0]
        while len(moves := await open_moves(connection, event=event, most=most + 1)) > most:
            if not fix:
                raise CannotRun(f"More than {most} stock moves of event {event} are open: let workers make some first.")
            made = moves[:most]
            _, settled, moved, *_ = await self._heard(event, stock, endings, made, pair=pair, fix=PART, deep=False)
            before = [before[0] + settled, before[1] + moved]
            await mark_applied(connection, made)
        word, settled, moved, oversold, counts = await self._heard(
            event, stock, endings, moves, pair=pair, fix=int(fix), deep=deep
        )
        if fix and (owned or word == b"fixed"):
            # Real drift: the customers' counts may be as wrong, and we still hold the lock.
            await self._count_customers(connection, event, stock)
        elif fix and shops:
            await self._count(event, stock, await self._shops(event) | await bought.of_shops(connection, event))
        if fix:
            await mark_applied(connection, moves)
        codes = {row["tier_id"]: row["code"] for row in stock}
        tiers = [
            TierDrift(tier.decode(), codes[tier.decode()], Counts(*numbers[:4]), Counts(*numbers[4:]))
            for tier, *numbers in counts
        ]
        order = {row["tier_id"]: (row["display_order"], row["code"]) for row in stock}
        tiers.sort(key=lambda tier: order[tier.tier])
        return EventReport(event, word.decode(), before[0] + settled, before[1] + moved, oversold, tuple(tiers))

    async def _heard(self, *facts: Any, **how: Any) -> Any:
        """As `run`. Raises `GateClosed` for an event without counters."""
        reply = await self.run(*facts, **how)
        if reply[0] == b"unloaded":
            raise GateClosed("The event's counters are not in Redis.")
        return reply

    async def run(
        self,
        event: str,
        stock: Sequence[asyncpg.Record],
        endings: list[tuple[str, str, queries.Ending]],
        moves: list[Move],
        owners: Sequence[str] | None = None,
        *,
        pair: fence.Pair | None = None,
        fix: int,
        deep: bool,
    ) -> Any:
        """Call the script for one event: what it counted and what it mended. `fix` is 1, 0 for a look, or `PART`."""
        shard = self.shard
        names: list[str] = []
        for booking, scope, _ in endings:
            names += [keys.booking(shard, booking), keys.idempotency(shard, scope)]
        for move in moves:
            names += [keys.moved(shard, move.name), keys.booking(shard, move.booking or "")]
        facts: list[str | bytes] = [f"{row['tier_id']}|{row['total']}|{row['sold']}" for row in stock]
        facts += [ending.fact for _, _, ending in endings]
        facts += [move.fact for move in moves]
        facts += [move.note for move in moves]
        facts += [";".join((owners or ())[start : start + CHUNK]) for start in range(0, len(owners or ()), CHUNK)]
        return await self._here.run(
            "reconcile", sale=keys.event(shard, event), owners=keys.owners(shard, event), keys=names, fix=fix,
            deep=int(deep), owned=int(owners is not None), ttl_s=self._ttl_s, moved_ttl_s=MOVED_TTL_S, event=event,
            tiers=len(stock), finals=len(endings), moves=len(moves), pair=str(pair or ""), facts=facts,
        )  # fmt: skip

    async def _count_customers(self, connection: Connection, event: str, stock: Sequence[asyncpg.Record]) -> None:
        """Customers, access codes and shops. Who is new meanwhile is in no call."""
        counted = await self._shops(event)
        for name in (keys.owners(self.shard, event), keys.owned_tiers(self.shard, event)):
            counted |= dict.fromkeys(map(bytes.decode, await self._redis.hkeys(name)), "")  # type: ignore[misc]
        await self._count(event, stock, counted | await bought.of_everybody(connection, event))

    async def _shops(self, event: str) -> dict[str, str]:
        """Those that have a count."""
        fields = map(bytes.decode, await self._redis.hkeys(keys.shops(self.shard, event)))  # type: ignore[misc]
        return {f"@{field.partition(':')[0]}": "" for field in fields}

    async def _count(self, event: str, stock: Sequence[asyncpg.Record], has: Mapping[str, str]) -> None:
        """Each call sets some of these counts to what they hold and bought, and gives one to whoever holds tickets and has
        none."""
        owners = [f"{owner}={items}" for owner, items in has.items()]
        for start in range(0, max(1, len(owners)), OWNERS_MAX):
            await self.run(event, stock, [], [], owners[start : start + OWNERS_MAX], fix=1, deep=True)

    async def _backlog(self) -> int:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in (keys.pending(self.shard), keys.dead(self.shard), keys.deadlines(self.shard)):
                pipe.zcard(name)
            return sum(await pipe.execute())

    async def _look(self, seen: dict[str, tuple[str, str]]) -> list[str]:
        """Bookings that Redis counts as holding stock; event and idempotency scope of each are noted in `seen`."""
        found: set[str] = set()
        for name in (keys.pending(self.shard), keys.dead(self.shard), keys.deadlines(self.shard)):
            found.update(member.decode() for member in await self._redis.zrange(name, 0, -1))
        new = sorted(found - seen.keys())
        for start in range(0, len(new), CHUNK):
            some = new[start : start + CHUNK]
            records = await self._redis.mget([keys.booking(self.shard, booking) for booking in some])
            for booking, raw in zip(some, records, strict=True):
                try:
                    record = unpack(booking, raw or b"")
                    seen[booking] = record.event, record.scope
                except ValueError:
                    seen[booking] = "", ""  # parked, or about to be
        return sorted(found)
