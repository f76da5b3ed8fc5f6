"""How it is going and whether anything is wrong, at a glance: some reads of each store, none of which grows with a sale."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice.backoffice.snapshots import snapshot
from boxoffice.settings import Settings
from boxoffice.stores import gate, keys
from boxoffice.stores.heartbeats import Beat, living
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.refusals import lacks_right
from boxoffice.stores.shard import Shard, Shards

__all__ = [
    "DUE_FOR_S",
    "OVERDUE_S",
    "SALES",
    "Glance",
    "Money",
    "Overview",
    "Sale",
    "ShardGlance",
    "look_at_shard",
    "sale_of",
]

DUE_FOR_S: Final = 10.0
"""A booking that nobody has taken up for so long, though it is due, means that nobody works, or not fast enough."""

OVERDUE_S: Final = 300
"""Money that is due for so long does not move."""

AWAY_S: Final = 4.0
"""A store that answers later is away, whether it refuses or hangs."""

SALES: Final = """
SELECT e.id, e.name, e.shard, e.status, sum(i.total)::bigint AS total, sum(i.sold)::bigint AS sold
FROM events e JOIN tiers t ON t.event_id = e.id JOIN inventory i ON i.tier_id = t.id
WHERE e.status IN ('active', 'paused') AND e.starts_at > now() - interval '1 day'
GROUP BY e.id HAVING bool_or(t.is_active AND coalesce(coalesce(t.on_sale_at, e.on_sale_at) <= now(), true)
                             AND coalesce(coalesce(t.off_sale_at, e.off_sale_at) > now(), true))
ORDER BY e.starts_at, e.id
"""
"""Of which a tier is in its time."""

_MONEY: Final = """
SELECT (SELECT count(*) FROM refunds WHERE status = 'owed') AS owed,
       (SELECT count(*) FROM payments WHERE due_at IS NOT NULL
          AND coalesce(due_since, updated_at) < now() - $1 * interval '1 second')
       + (SELECT count(*) FROM refunds WHERE status = 'due' AND due_since < now() - $1 * interval '1 second') AS overdue,
       (SELECT count(*) FROM stock_moves WHERE applied_at IS NULL) AS moves
"""

_ALERTS: Final = "SELECT shard, alert FROM shards WHERE alert IS NOT NULL ORDER BY shard"


class ShardGlance(NamedTuple):
    """One shard. `gate`: `open`, `closed`, `unchecked`, or `away` when its Redis does not answer. `backlog`: bookings that wait
    to be settled; `due_for_s`: for how long the first of them has been due. `drifted`: events whose counters differed when a
    worker last counted them, None when none has. `admitted`: bookings let in ever. `at_ms`: when, by its Redis."""

    shard: int
    gate: str
    backlog: int = 0
    due_for_s: float = 0.0
    holds: int = 0
    parked: int = 0
    drifted: int | None = None
    admitted: int = 0
    at_ms: int = 0


class Sale(NamedTuple):
    """An event on sale now, in tickets. `status`: `active` or `paused`. `held` and `available`: None while Redis does not
    answer."""

    event: str
    name: str
    status: str
    total: int
    sold: int
    held: int | None
    available: int | None


class Money(NamedTuple):
    """What is due. `owed`: refunds that the gateway refused. `overdue`: captures, voids and refunds that the gateway was to be
    asked for `OVERDUE_S` ago. `moves`: tickets' moves that Redis has not heard of."""

    owed: int
    overdue: int
    moves: int


class Glance(NamedTuple):
    """All of it. `troubles`: a sentence for each that somebody has to look at; none when all is well. `workers`: None while no
    Redis answers, `sales` and `money`: while PostgreSQL does not. Rates are a second, since the glance before: None in the
    first, and while a store is away."""

    troubles: list[str]
    shards: list[ShardGlance]
    workers: list[Beat] | None
    sales: list[Sale] | None
    money: Money | None
    admitted_rate: float | None = None
    sold_rate: float | None = None


class Overview:
    """Looks at both stores; remembers the last glance, for rates."""

    def __init__(self, shards: Shards, settings: Settings) -> None:
        self._shards = shards
        self._settings = settings
        self._before: Glance | None = None

    async def glance(self) -> Glance:
        """How it is now. A store that is away is one of the troubles. Raises `CannotRun` when Redis does not say who it is."""
        seen = await asyncio.gather(*map(look_at_shard, self._shards))
        shards = [shard for shard, _ in seen]
        answered = [beats for shard, beats in seen if shard.gate != "away"]
        workers = {each.name: each for beats in answered for each in beats}
        alerts, sales, money = await self._of_postgres()
        glance = Glance([], shards, [*workers.values()] if answered else None, sales, money)
        glance = glance._replace(troubles=[*alerts, *troubles_of(glance)])
        glance, self._before = with_rates(glance, self._before), glance
        return glance

    async def _of_postgres(self) -> tuple[list[str], list[Sale] | None, Money | None]:
        try:
            async with snapshot(self._settings, AWAY_S) as connection:
                alerts = await connection.fetch(_ALERTS)
                money: Any = await connection.fetchrow(_MONEY, OVERDUE_S)
                rows = await connection.fetch(SALES)
        except (*TRANSIENT, OSError) as error:
            return [f"PostgreSQL does not answer ({type(error).__name__})."], None, None
        troubles = [f"Shard {row['shard']} waits for an operator: {row['alert']}." for row in alerts]
        return troubles, list(await asyncio.gather(*(sale_of(self._shards, row) for row in rows))), Money(*money)


async def sale_of(shards: Shards, row: Any) -> Sale:
    """A row of `SALES`, with what Redis says of it."""
    counters: dict[bytes, bytes] = {}
    shard = shards[row["shard"]] if row["shard"] < len(shards) else None
    if shard is not None:
        try:
            async with asyncio.timeout(AWAY_S):
                counters = await shard.redis.hgetall(keys.event(shard.number, row["id"]))  # type: ignore[misc]
        except (RedisError, OSError):
            pass
    held, available = (
        sum(int(count) for name, count in counters.items() if name.startswith(letter)) if counters else None
        for letter in (b"h:", b"a:")
    )
    return Sale(row["id"], row["name"], row["status"], row["total"], row["sold"], held, available)


async def look_at_shard(shard: Shard) -> tuple[ShardGlance, list[Beat]]:
    """How it stands, and the workers that live there. One whose Redis does not answer is `away`. Raises `NoPermissionError`."""
    number, redis = shard.number, shard.redis
    try:
        async with asyncio.timeout(AWAY_S):
            word = (await gate.look(shard)).word
            async with redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.zrange(keys.pending(number), 0, 0, withscores=True)
                for name in (keys.pending(number), keys.deadlines(number), keys.dead(number)):
                    pipe.zcard(name)
                pipe.get(keys.sequence(number))
                pipe.hgetall(keys.workers(number))
                (seconds, micros), first, backlog, holds, parked, admitted, fields = await pipe.execute()
    except (RedisError, OSError) as error:
        if lacks_right(error):
            raise
        return ShardGlance(number, "away"), []
    now_ms = 1_000 * seconds + micros // 1_000
    due_for_s = round(max(0.0, now_ms - first[0][1]) / 1_000, 1) if first else 0.0
    beats = living(fields, now_ms)
    counted = max((each for each in beats if each.counted_ms), key=lambda each: each.counted_ms, default=None)
    drifted = counted.drifted if counted else None
    return ShardGlance(number, word, backlog, due_for_s, holds, parked, drifted, int(admitted or 0), now_ms), beats


def with_rates(glance: Glance, before: Glance | None) -> Glance:
    """The glance with what was admitted and sold a second since the one before, by the clock of the first shard."""
    if before is None or any(shard.gate == "away" for shard in (*glance.shards, *before.shards)):
        return glance
    seconds = (glance.shards[0].at_ms - before.shards[0].at_ms) / 1_000
    if seconds <= 0:
        return glance
    admitted = sum(shard.admitted for shard in glance.shards) - sum(shard.admitted for shard in before.shards)
    glance = glance._replace(admitted_rate=round(admitted / seconds, 1))
    if glance.sales is None or before.sales is None:
        return glance
    sold = {sale.event: sale.sold for sale in before.sales}
    tickets = sum(sale.sold - sold.get(sale.event, sale.sold) for sale in glance.sales)
    return glance._replace(sold_rate=round(tickets / seconds, 1))


def troubles_of(glance: Glance) -> list[str]:
    """What of it somebody has to look at, and with what."""
    found = [trouble for shard in glance.shards for trouble in _troubles_of_shard(shard)]
    if glance.workers == []:
        found.append("No worker lives: nothing is settled. Start one with `boxoffice worker`.")
    if glance.money and glance.money.owed:
        found.append(f"{glance.money.owed} refunds are owed. See `boxoffice payments owed`.")
    if glance.money and glance.money.overdue:
        found.append(
            f"{glance.money.overdue} captures, voids or refunds have been due at the gateway for more than"
            f" {OVERDUE_S // 60} minutes. See `boxoffice payments audit`."
        )
    return found


def _troubles_of_shard(shard: ShardGlance) -> list[str]:
    if shard.gate == "away":
        return [f"Shard {shard.shard}: Redis does not answer."]
    found = []
    if shard.gate != "open":
        found.append(
            f"Shard {shard.shard}: its gate is {shard.gate}; nothing is sold there. See `boxoffice reconcile`."
        )
    if shard.due_for_s > DUE_FOR_S:
        found.append(f"Shard {shard.shard}: a booking has been due for {shard.due_for_s:.0f} s, and nobody settles it.")
    if shard.parked:
        found.append(f"Shard {shard.shard}: {shard.parked} bookings are parked. See `boxoffice dead list`.")
    if shard.drifted:
        found.append(f"Shard {shard.shard}: counters of {shard.drifted} events drifted. See `boxoffice reconcile`.")
    return found
