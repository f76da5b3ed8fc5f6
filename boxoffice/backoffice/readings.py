"""What `/metrics` tells that nobody counts: how the stores stand now, looked at when it is asked for.

A store that does not answer fails nothing and is not waited for: what it said last is told, and for how long it has been
silent (`boxoffice_look_age_seconds`). Whoever asks twice at once causes one look, and one a second at most.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from boxoffice.backoffice.overview import SALES, Sale, ShardGlance, look_at_shard, sale_of
from boxoffice.clock import CLOCK, Clock
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.redis import pool_use
from boxoffice.stores.shard import Shards
from boxoffice.telemetry import series
from boxoffice.telemetry.metrics import REGISTRY, Labels
from boxoffice.telemetry.port import Answer, Headers
from boxoffice.telemetry.seldom import seldom

__all__ = ["ENDPOINTS", "MONEY", "Readings", "money_due"]

FRESH_S: Final = 1.0
"""So long a look is good: several who watch cost no more than one."""

PATIENCE_S: Final = 2.0
"""Longest wait for a store; Prometheus waits ten seconds for all of it."""

GIVEN_UP_S: Final = 8.0
"""A look that takes longer is given up, and the next may begin."""

MONEY: Final = """
SELECT due AS kind, count(*) AS count, extract(epoch FROM now() - min(coalesce(due_since, updated_at))) AS age
  FROM payments WHERE due_at IS NOT NULL GROUP BY due
UNION ALL SELECT 'listed', coalesce(sum(cardinality(payment_keys)), 0), 0 FROM captures
UNION ALL SELECT 'refund', count(*), extract(epoch FROM now() - min(due_since)) FROM refunds WHERE status = 'due'
UNION ALL SELECT 'owed', count(*), extract(epoch FROM now() - min(owed_since)) FROM refunds WHERE status = 'owed'
UNION ALL SELECT 'alerts', count(*), 0 FROM shards WHERE alert IS NOT NULL
UNION ALL SELECT 'moves', count(*), 0 FROM stock_moves WHERE applied_at IS NULL
"""


ENDPOINTS: Final = """
SELECT CASE WHEN status = 'disabled' THEN 'disabled_by_us' WHEN failing_since IS NULL THEN 'well' ELSE 'failing' END AS state,
  count(*) AS count,
  extract(epoch FROM now() - min(CASE WHEN status = 'enabled' THEN least(
    (SELECT n.at FROM notices n WHERE n.client_id = e.client_id AND n.position > e.position
       AND (e.types = '{}' OR n.type = ANY(e.types)) ORDER BY n.position LIMIT 1),
    (SELECT min(d.since) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.status = 'waiting')) END)) AS age
FROM webhook_endpoints e WHERE deleted_at IS NULL AND coalesce(disabled_reason, '') <> 'asked' GROUP BY 1
"""
"""For each of few endpoints the first row of an index, or of few."""


class Source:
    """One store, and when it was looked at. `look` raises what it meets."""

    def __init__(self, name: str, look: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self.name = name
        self._look = look
        self._clock = clock
        self._begun = self._answered = clock.now_s()
        self._task: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Look, unless somebody has a moment ago; wait for it, but not for long."""
        now = self._clock.now_s()
        if self._task is None or (self._task.done() and now - self._begun >= FRESH_S):
            self._begun = now
            self._task = asyncio.create_task(self._try())
        await asyncio.wait([self._task], timeout=PATIENCE_S)
        series.LOOK_AGE.set(round(self._clock.now_s() - self._answered, 3), self.name)

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(GIVEN_UP_S):
                await self._look()
        except Exception as error:
            # Whatever it is: the numbers of the others are told all the same.
            series.LOOKS.cell(self.name, "failed").add()
            seldom.warning("telemetry.look_failed", source=self.name, error=type(error).__name__)
            return
        self._answered = self._clock.now_s()
        series.LOOKS.cell(self.name, "ok").add()

    async def close(self) -> None:
        """Let a look that is under way go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class Readings:
    """Of one process."""

    def __init__(self, shards: Shards, database: Database, settings: Settings, clock: Clock = CLOCK) -> None:
        self._shards = shards
        self._database = database
        self._settings = settings
        self._redis = Source("redis", self._look_at_redis, clock)
        self._postgresql = Source("postgresql", self._look_at_postgresql, clock)

    async def metrics(self, process: str, headers: Headers) -> Answer:
        """The answer to GET `/metrics` of an `api` or a `worker`. Of PostgreSQL workers alone tell: there are few of them."""
        await self.refresh(self._redis, *([self._postgresql] if process == "worker" else []))
        series.BUILD.show({(version("boxoffice"), process): 1})
        body, content_type = REGISTRY.exposition(headers.get("accept", ""))
        return Answer(200, body, content_type)

    async def refresh(self, *sources: Source) -> None:
        """Look at these, and at what is at hand."""
        await asyncio.gather(*(source.refresh() for source in sources))
        self._look_here()

    async def close(self) -> None:
        """Let looks that are under way go."""
        await asyncio.gather(self._redis.close(), self._postgresql.close())

    def _look_here(self) -> None:
        """At what asks nobody."""
        series.POSTGRES_POOL.show(_states(self._database.pool_use()))
        series.REDIS_POOL.show(_states([sum(each) for each in zip(*map(pool_use, self._shards.clients), strict=True)]))
        here = next(
            (path for path in (self._settings.data_dir, *self._settings.data_dir.parents) if path.exists()), None
        )
        if here is not None:
            series.DISK_FREE.set(shutil.disk_usage(here).free)

    async def _look_at_redis(self) -> None:
        seen = await asyncio.gather(*map(look_at_shard, self._shards))
        for glance, beats in seen:
            show_shard(glance, len(beats))
        if any(glance.gate == "away" for glance, _ in seen):
            raise ConnectionError("a shard does not answer")
        for number, client in enumerate(self._shards.clients):
            show_redis(str(number), await client.info())

    async def _look_at_postgresql(self) -> None:
        async with self._database.reader() as connection:
            money = await connection.fetch(MONEY)
            rows = await connection.fetch(SALES)
            endpoints = await connection.fetch(ENDPOINTS)
        show_endpoints({row["state"]: (int(row["count"]), float(row["age"] or 0)) for row in endpoints})
        show_money({row["kind"]: (int(row["count"]), float(row["age"] or 0)) for row in money})
        # The largest first, always the same: series do not come and go with the hour.
        rows.sort(key=lambda row: (-row["total"], row["id"]))
        most = self._settings.telemetry.events_max
        named = await asyncio.gather(*(sale_of(self._shards, row) for row in rows[:most]))
        show_sales(named, [(row["total"], row["sold"]) for row in rows[most:]])


def show_shard(glance: ShardGlance, workers: int) -> None:
    """What the shard's Redis says. One that is away is shown as it was."""
    if glance.gate == "away":
        return
    shard = str(glance.shard)
    series.GATE_OPEN.set(int(glance.gate == "open"), shard)
    series.BACKLOG.set(glance.backlog, shard)
    series.BACKLOG_AGE.set(glance.due_for_s, shard)
    series.HOLDS.set(glance.holds, shard)
    series.PARKED_NOW.set(glance.parked, shard)
    series.WORKERS.set(workers, shard)
    if glance.drifted is not None:
        series.DRIFT.set(glance.drifted, shard)


def show_redis(number: str, info: Mapping[str, Any]) -> None:
    """What one server's INFO says. What it does not say is not shown."""
    for state, name in (("used", "used_memory"), ("max", "maxmemory")):
        if info.get(name):
            series.REDIS_MEMORY.set(info[name], number, state)
    if "aof_current_size" in info:
        series.REDIS_AOF.set(info["aof_current_size"], number)
    words = [info[name] for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if name in info]
    if words:
        series.REDIS_AOF_OK.set(int(all(word == "ok" for word in words)), number)
    if "connected_clients" in info:
        series.REDIS_CLIENTS.set(info["connected_clients"], number)


def money_due(found: Mapping[str, tuple[int, float]]) -> dict[str, tuple[int, float]]:
    """Count and age in seconds of what is due, by kind, from the rows of `MONEY`. A batch's list of captures is no older than
    its lease: then each is due by itself."""
    due = {kind: found.get(kind, (0, 0.0)) for kind in ("capture", "void", "refund", "owed")}
    due["capture"] = due["capture"][0] + found["listed"][0], due["capture"][1]
    return {kind: (count, max(0.0, age)) for kind, (count, age) in due.items()}


def show_money(found: Mapping[str, tuple[int, float]]) -> None:
    """Count and age in seconds by kind."""
    for kind, (count, age) in money_due(found).items():
        series.MONEY_DUE.set(count, kind)
        series.MONEY_AGE.set(age, kind)
    series.ALERTS.set(found["alerts"][0])
    series.MOVES.set(found["moves"][0])


def show_endpoints(found: Mapping[str, tuple[int, float]]) -> None:
    """Count and age in seconds of the oldest notice that was not taken, by state."""
    for state in ("well", "failing", "disabled_by_us"):
        count, age = found.get(state, (0, 0.0))
        series.ENDPOINTS.set(count, state)
        if state != "disabled_by_us":
            series.UNDELIVERED_AGE.set(max(0.0, age), state)


def show_sales(named: Sequence[Sale], others: Sequence[tuple[int, int]]) -> None:
    """Some by their ids, and the others' total and sold in all."""
    found: dict[Labels, float] = {}
    for sale in named:
        by_state = {"total": sale.total, "sold": sale.sold, "held": sale.held, "available": sale.available}
        found |= {(sale.event, state): count for state, count in by_state.items() if count is not None}
    if others:
        for state, counts in zip(("total", "sold"), zip(*others, strict=True), strict=True):
            found["other", state] = sum(counts)
    series.SALE.show(found)


def _states(counts: Sequence[int]) -> dict[Labels, float]:
    return {(state,): count for state, count in zip(("in_use", "idle", "max"), counts, strict=True)}
