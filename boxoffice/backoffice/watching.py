"""How a sale goes, for those who watch it: figures of both stores and of all processes, as counts with a time, so that whoever
looks twice has rates.

One look serves all who ask within a second, however many pages are open; what it costs does not grow with a sale.

One file because each figure is filled in by a few lines, and all are of one moment.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from boxoffice.backoffice.overview import AWAY_S, ShardGlance, look_at_shard
from boxoffice.backoffice.readings import ENDPOINTS, MONEY, money_due
from boxoffice.backoffice.sums import COMMIT_BOUNDS, Sums, spread_of
from boxoffice.backoffice.watched import (
    Counters,
    Figures,
    MoneyDue,
    SaleFigures,
    ServerFigures,
    ShardFigures,
    Spread,
    TierFigures,
    WorkerFigures,
)
from boxoffice.clock import Clock, iso, timestamp
from boxoffice.stores import keys
from boxoffice.stores.database import Database, Row
from boxoffice.stores.heartbeats import Beat
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.record import unpack
from boxoffice.stores.shard import Shard, Shards

__all__ = ["FRESH_S", "HOLDS_MAX", "Watching"]

FRESH_S: Final = 1.0
"""So long a look is good: several who watch cost no more than one."""

HOLDS_FRESH_S: Final = 5.0
"""The same of what is held by holds: a shard's records of them are read for it."""

HOLDS_MAX: Final = 2_000
"""Holds of a shard up to which they are read, at about 400 bytes each; beyond it nobody says how many tickets are pending."""

EVENTS_MAX: Final = 50
"""Events that are shown: those on sale first, then by their start."""

_SALES: Final = """
WITH shown AS (
  SELECT e.*, e.status IN ('active', 'paused') AND EXISTS (
    SELECT FROM tiers t WHERE t.event_id = e.id AND t.is_active
      AND coalesce(coalesce(t.on_sale_at, e.on_sale_at) <= now(), true)
      AND coalesce(coalesce(t.off_sale_at, e.off_sale_at) > now(), true)) AS on_sale
  FROM events e WHERE e.starts_at > now() - interval '1 day' ORDER BY on_sale DESC, e.starts_at, e.id LIMIT $1
)
SELECT e.id AS event, e.name, e.client_id AS client, e.shard, e.status, e.on_sale, e.starts_at, e.on_sale_at, e.off_sale_at,
       e.version, e.currency, t.id AS tier, t.code, t.name AS tier_name, t.price_cents, t.is_active, i.total, i.sold
FROM shown e JOIN tiers t ON t.event_id = e.id JOIN inventory i ON i.tier_id = t.id
ORDER BY e.on_sale DESC, e.starts_at, e.id, t.display_order, t.code
"""

_ALERTS: Final = "SELECT shard, alert FROM shards WHERE alert IS NOT NULL ORDER BY shard"


class Watching:
    """Of one process."""

    def __init__(self, shards: Shards, database: Database, sums: Sums, clock: Clock) -> None:
        self._shards = shards
        self._database = database
        self._sums = sums
        self._clock = clock
        self._look: asyncio.Task[Figures] | None = None
        self._began_s = 0.0
        self._holds: dict[int, tuple[float, dict[tuple[str, str], int] | None]] = {}

    async def figures(self) -> Figures:
        """How it is now, or was within the last second. A store that is away is left out. Raises `CannotRun` when Redis does
        not say who it is."""
        now_s = self._clock.now_s()
        if self._look is None or (self._look.done() and now_s - self._began_s >= FRESH_S):
            self._began_s = now_s
            self._look = asyncio.create_task(self._figures())
        return await asyncio.shield(self._look)

    async def close(self) -> None:
        """Let a look that is under way go."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _figures(self) -> Figures:
        seen, servers, sums, books = await asyncio.gather(
            asyncio.gather(*map(look_at_shard, self._shards)), self._servers(), self._read_sums(), self._of_postgres()
        )
        answered = [beats for shard, beats in seen if shard.gate != "away"]
        workers = {each.name: each for beats in answered for each in beats}
        at_ms = max((shard.at_ms for shard, _ in seen), default=0) or self._clock.epoch_ms()
        money, moves, alerts, endpoints, rows = books or (None, None, None, {}, None)
        return Figures(
            timestamp(at_ms), at_ms, _counters(seen, sums), [_shard(shard, beats) for shard, beats in seen],
            [_worker(each) for each in workers.values()] if answered else None, servers, money, moves, alerts,
            endpoints.get("well", (0, 0.0))[1] if books else None,
            endpoints.get("disabled_by_us", (0, 0.0))[0] if books else None,
            None if rows is None else await self._sales(rows), sums,
        )  # fmt: skip

    async def _read_sums(self) -> dict[str, int]:
        try:
            async with asyncio.timeout(AWAY_S):
                return await self._sums.read()
        except (RedisError, OSError):
            return {}

    async def _servers(self) -> list[ServerFigures]:
        return list(await asyncio.gather(*(_server(at, redis) for at, redis in enumerate(self._shards.clients))))

    async def _of_postgres(
        self,
    ) -> tuple[list[MoneyDue], int, list[str], dict[str, tuple[int, float]], list[Row]] | None:
        try:
            async with asyncio.timeout(AWAY_S), self._database.reader() as connection:
                money = await connection.fetch(MONEY)
                alerts = await connection.fetch(_ALERTS)
                endpoints = await connection.fetch(ENDPOINTS)
                rows = await connection.fetch(_SALES, EVENTS_MAX)
        except (*TRANSIENT, OSError):
            return None
        found = {row["kind"]: (int(row["count"]), float(row["age"] or 0)) for row in money}
        due = [MoneyDue(kind, count, round(age, 1)) for kind, (count, age) in money_due(found).items()]
        sentences = [f"Shard {row['shard']} waits for an operator: {row['alert']}." for row in alerts]
        by_state = {row["state"]: (int(row["count"]), max(0.0, float(row["age"] or 0))) for row in endpoints}
        return due, found["moves"][0], sentences, by_state, rows

    async def _sales(self, rows: Sequence[Row]) -> list[SaleFigures]:
        by_event: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_event[row["event"]].append(row)
        by_shard: dict[int, list[str]] = defaultdict(list)
        for event, tiers in by_event.items():
            if tiers[0]["shard"] < len(self._shards):
                by_shard[tiers[0]["shard"]].append(event)
        counters: dict[str, dict[str, int]] = {}
        unpaid: dict[int, dict[tuple[str, str], int] | None] = {}
        for number, events in by_shard.items():
            try:
                async with asyncio.timeout(AWAY_S):
                    counters |= await _counters_of(self._shards[number], events)
                    unpaid[number] = await self._unpaid(self._shards[number])
            except (RedisError, OSError):
                continue
        return [
            _sale(tiers, counters.get(event, {}), unpaid.get(tiers[0]["shard"])) for event, tiers in by_event.items()
        ]

    async def _unpaid(self, here: Shard) -> dict[tuple[str, str], int] | None:
        """Tickets of the holds of a shard, by event and tier, as they were within `HOLDS_FRESH_S`; None: there are too many."""
        began_s, found = self._holds.get(here.number, (float("-inf"), None))
        if self._clock.now_s() - began_s >= HOLDS_FRESH_S:
            found = await _held(here)
            self._holds[here.number] = self._clock.now_s(), found
        return found


async def _held(here: Shard) -> dict[tuple[str, str], int] | None:
    bookings = [each.decode() for each in await here.redis.zrange(keys.deadlines(here.number), 0, HOLDS_MAX)]
    if len(bookings) > HOLDS_MAX:
        return None
    found: dict[tuple[str, str], int] = defaultdict(int)
    raws = await here.redis.mget([keys.booking(here.number, booking) for booking in bookings]) if bookings else []
    for booking, raw in zip(bookings, raws, strict=True):
        try:
            record = unpack(booking, raw or b"")
        except ValueError:
            continue  # it has ended meanwhile, or is parked and cannot be read
        if record.state == "H":
            for line in record.body.lines:
                found[record.event, line.tier] += line.quantity
    return found


async def _counters_of(here: Shard, events: Sequence[str]) -> dict[str, dict[str, int]]:
    """By event its counts of tickets, by `a:`, `h:`, `c:` or `t:` and the tier."""
    async with here.redis.pipeline(transaction=False) as pipe:
        for event in events:
            pipe.hgetall(keys.event(here.number, event))
        found = await pipe.execute()
    return {
        event: {name.decode(): int(count) for name, count in counts.items() if name[:2] in (b"a:", b"h:", b"c:", b"t:")}
        for event, counts in zip(events, found, strict=True)
    }


def _sale(tiers: Sequence[Row], counts: Mapping[str, int], unpaid: Mapping[tuple[str, str], int] | None) -> SaleFigures:
    first = tiers[0]
    on_sale_at, off_sale_at = (
        None if first[name] is None else iso(first[name]) for name in ("on_sale_at", "off_sale_at")
    )
    return SaleFigures(
        first["event"], first["name"], first["client"], first["status"], first["on_sale"], iso(first["starts_at"]), on_sale_at,
        off_sale_at, first["version"], first["currency"], [_tier(row, counts, unpaid) for row in tiers],
    )  # fmt: skip


def _tier(row: Row, counts: Mapping[str, int], unpaid: Mapping[tuple[str, str], int] | None) -> TierFigures:
    tier = row["tier"]
    held, available = counts.get(f"h:{tier}"), counts.get(f"a:{tier}")
    waits = None if unpaid is None or held is None else min(held, unpaid.get((row["event"], tier), 0))
    return TierFigures(
        tier, row["code"], row["tier_name"], row["price_cents"], row["is_active"], counts.get(f"t:{tier}", row["total"]),
        counts.get(f"c:{tier}", row["sold"]), held, None if waits is None or held is None else held - waits, waits, available,
    )  # fmt: skip


def _counters(seen: Sequence[tuple[ShardGlance, list[Beat]]], sums: Mapping[str, int]) -> Counters:
    answered = {
        name.removeprefix("admissions:"): count for name, count in sums.items() if name.startswith("admissions:")
    }
    answered.pop("accepted", None)
    replayed = answered.pop("replayed", 0)
    return Counters(
        sum(shard.admitted for shard, _ in seen), replayed, sums.get("settled:confirmed", 0), sums.get("settled:failed", 0),
        dict(sorted(answered.items())), Spread(list(COMMIT_BOUNDS), spread_of(sums, "accept_to_commit")),
    )  # fmt: skip


def _shard(shard: ShardGlance, beats: Sequence[Beat]) -> ShardFigures:
    return ShardFigures(
        shard.shard, shard.gate, shard.backlog, shard.due_for_s, shard.holds, shard.parked, shard.drifted, len(beats)
    )


def _worker(beat: Beat) -> WorkerFigures:
    return WorkerFigures(beat.host, beat.pid, timestamp(beat.started_ms), timestamp(beat.at_ms))


async def _server(number: int, redis: Any) -> ServerFigures:
    try:
        async with asyncio.timeout(AWAY_S):
            info: Mapping[str, Any] = await redis.info()
    except (RedisError, OSError):
        return ServerFigures(number, None, None, None)
    words = [info[name] for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if name in info]
    return ServerFigures(
        number, info.get("used_memory") or None, info.get("maxmemory") or None,
        all(word == "ok" for word in words) if words else None,
    )  # fmt: skip
