"""Whether the box office is at rest: everything accepted is settled, nothing is due, nothing is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from redis.asyncio import Redis

from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.office import BoxOffice
from boxoffice.stores import gate, keys
from boxoffice.stores.shard import Shard
from ops.rush.away import STORE_AWAY
from ops.rush.undecided import undecided

__all__ = ["rings_waiting", "wait_for_customers", "wait_for_rest"]

LOOK_S: Final = 0.1

ARQ_IN_PROGRESS: Final = "arq:in-progress:"
"""arq's own prefix; only an audit ever looks at these keys."""

STILL_S: Final = 0.5
"""It must have been at rest for so long: between two steps of a settlement nothing is pending for an instant."""

_DUE: Final = """
SELECT (SELECT count(*) FROM payments
        WHERE due_at IS NOT NULL AND NOT (due = 'void' AND status = 'unknown' AND tries > 1)
          AND booking_id <> ALL($1::uuid[])) AS payments,
       (SELECT count(*) FROM captures) AS captures,
       (SELECT count(*) FROM refunds WHERE status IN ('due', 'pending')) AS refunds,
       (SELECT count(*) FROM looks) AS looks,
       (SELECT count(*) FROM stock_moves WHERE applied_at IS NULL) AS moves,
       (SELECT count(*) FROM bookings b WHERE status = 'pending' AND id <> ALL($1::uuid[])
          AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.booking_id = b.id AND d.parked_at IS NOT NULL)) AS bookings
"""
"""A payment that ended unknown is looked at again for a day; that is no unrest."""

_OPEN: Final = "SELECT count(*) FROM bookings WHERE client_id = ANY($1::text[]) AND status IN ('held', 'pending')"


async def wait_for_rest(office: BoxOffice, timeout_s: float, *, holds_too: bool) -> list[str]:
    """Wait until it is at rest. Empty; or what still goes on after the timeout.

    `holds_too`: wait until no booking is held or undecided. Otherwise a hold that has time left, and a payment that waits
    for its customer or its gateway, are none of our business.
    """
    clock = asyncio.get_running_loop().time
    end, since = clock() + timeout_s, clock()
    while True:
        try:
            going_on = await _going_on(office, holds_too)
        except STORE_AWAY as error:
            going_on = [f"a store does not answer: {type(error).__name__}"]
        if going_on:
            since = clock()
            if clock() > end:
                return going_on
        elif clock() - since >= STILL_S:
            return []
        await asyncio.sleep(LOOK_S)


async def wait_for_customers(
    office: BoxOffice, clients: list[str], tiers: Mapping[str, tuple[int, int, int, int]], timeout_s: float
) -> None:
    """Wait until no booking of these shops is held or pending, in either store; not longer than that. `tiers`: what was
    available, held, sold and there at all of each of their tiers when last seen."""
    pool: asyncpg.Pool[Any] = await office.pool()
    for _ in range(round(timeout_s / LOOK_S)):
        if not any(held for _, held, _, _ in tiers.values()) and not await pool.fetchval(_OPEN, clients):
            return
        await asyncio.sleep(LOOK_S)


async def _going_on(office: BoxOffice, holds_too: bool) -> list[str]:
    found: list[str] = []
    pool: asyncpg.Pool[Any] = await office.pool()
    others = frozenset() if holds_too else await undecided(pool, office.settings.gateway.deadline_s)
    for shard in office.shards:
        found += await _waiting(shard, holds_too, others)
    row = await pool.fetchrow(_DUE, list(others))
    assert row is not None
    found += [f"{count} {what} undecided or due" for what, count in row.items() if count]
    if isinstance(office.gateway, Simulator) and (to_come := await office.gateway.ripen()):
        found.append(f"{to_come} payments to which something is still to happen at the gateway")
    return found


async def _waiting(here: Shard, holds_too: bool, others: frozenset[str]) -> list[str]:
    redis, shard = here.redis, here.number
    seconds, _ = await redis.time()
    latest = "+inf" if holds_too else str(seconds * 1_000)
    counts = {
        "pending": await _pending(redis, shard, others),
        "rings waiting": len(await rings_waiting(redis, shard)),
        "holds": await redis.zcount(keys.deadlines(shard), "-inf", latest),
    }
    found = [f"{count} {what} in shard {shard}" for what, count in counts.items() if count]
    if (await gate.look(here)).word != "open":
        found.append(f"the gate of shard {shard} is closed")
    return found


async def _pending(redis: Redis, shard: int, others: frozenset[str]) -> int:
    if not others:
        return int(await redis.zcard(keys.pending(shard)))
    return sum(member.decode() not in others for member in await redis.zrange(keys.pending(shard), 0, -1))


async def rings_waiting(redis: Redis, shard: int) -> list[str]:
    """Rings that a worker should have heard by now. One whose worker was killed stays with arq until its
    in-progress key runs out, a minute or so later, and is then heard for nothing: no unrest."""
    waiting = [job.decode() for job in await redis.zrange(keys.arq_queue(shard), 0, -1)]
    return [job for job in waiting if await redis.pttl(f"{ARQ_IN_PROGRESS}{job}") < 0]
