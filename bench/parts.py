"""The parts by themselves: admit.lua on the same Redis, the settling transaction on the same PostgreSQL."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import hiredis
from sqlalchemy.engine import make_url

from bench.cpu import Meter, tree_cpu_s
from bench.figures import Figure
from bench.histogram import Histogram
from bench.stage import Sale, Stage, database_url
from boxoffice import ids
from boxoffice.admission.admission import Admission
from boxoffice.admission.forms import Admitted
from boxoffice.admission.outcomes import CREATED
from boxoffice.admission.protocol import Reply, sizes_of, written
from boxoffice.books import rows
from boxoffice.books.decisions import Claimed, Terms
from boxoffice.errors import BoxOfficeError, CannotRun
from boxoffice.gateway.base import Authorized
from boxoffice.sales.loading import Loader
from boxoffice.settlement.deciding import GatewayOutcome, decide, sold_by
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.postgres import open_pool
from boxoffice.stores.record import Body, Charge, Line, Payload, Record, pack_items
from boxoffice.stores.redis import open_redis, run_id
from boxoffice.stores.scripts import Commands
from boxoffice.stores.shard import Shards
from boxoffice.wire.requests import BookingRequest

__all__ = ["commit_alone", "script_alone"]

BATCH: Final = 500
DATABASE: Final = "bench_commit"

TABLES: Final = (
    "notices",
    "captures",
    "payments",
    "booking_items",
    "bookings",
    "inventory",
    "tiers",
    "events",
    "clients",
)
"""All that is written there. Foreign keys no longer lead from clients to bookings."""


class _Recorder:
    """Stands where Redis does, keeps the calls as the bytes that would have been sent, and says yes."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, int]] = []

    async def execute_command(self, *args: Any) -> Any:
        """Keep one call; a number of bookings goes with it."""
        sizes = sizes_of(args[3 + int(args[2]) :])
        self.calls.append((hiredis.pack_command(args), sizes.members))
        now_ms = time.time_ns() // 1_000_000
        return written(Reply(now_ms, [CREATED] * sizes.members, [[]] * sizes.events, 0, sizes.members, {}))


class _Recorded(Shards):
    """The shards of an office, whose calls somebody keeps."""

    def __init__(self, recorder: _Recorder, shards: Shards) -> None:
        super().__init__([shard.redis for shard in shards], shards.scripts)
        self._recorder = recorder

    def pinned(self, number: int) -> Commands:
        """Whoever keeps them."""
        return self._recorder


async def script_alone(stage: Stage, sale: Sale, count: int) -> Figure:
    """admit.lua as the API calls it, without the API: batches of `api.batch_max`, `api.calls_max` in flight.

    In a database of its own on the same server, so that the audit finds nothing of it.
    """
    settings = stage.office.settings
    calls = await _record_calls(stage, sale, count)
    url = make_url(settings.redis_url).set(database="1").render_as_string(hide_password=False)
    redis = open_redis(settings.model_copy(update={"redis_url": url}))
    try:
        await Loader(stage.office.database, Shards([redis], stage.office.shards.scripts)).publish(sale.event.id)
        await redis.set(keys.gate(0), Gate("bench", await run_id(redis)).pack())
        await redis.script_load(stage.office.scripts.admit.text)
        latency = Histogram()
        callers = settings.api.calls_max
        connections = [await redis.connection_pool.get_connection("EVALSHA") for _ in range(callers)]
        waiting = iter(calls)

        async def call_on(connection: Any) -> None:
            for packed, _ in waiting:
                began = time.perf_counter()
                await connection.send_packed_command([packed])
                await connection.read_response()
                latency.record(time.perf_counter() - began)

        meter = Meter({"redis": stage.stack["redis"].pid})
        mine, began = _own_cpu_s(), time.perf_counter()
        await asyncio.gather(*(call_on(connection) for connection in connections))
        took, used, mine = time.perf_counter() - began, meter.used(), _own_cpu_s() - mine
        for connection in connections:
            await redis.connection_pool.release(connection)
        admitted = int(await redis.get(keys.sequence(0)) or 0)
        if admitted != count or await redis.zcard(keys.pending(0)) != count:
            raise CannotRun(f"admit.lua alone admitted {admitted} of {count} bookings.")
    finally:
        await redis.flushdb()
        await redis.aclose()
    return Figure(
        name="script",
        rate=count / took,
        count=count,
        p50_ms=latency.quantile_ms(0.5),
        p99_ms=latency.quantile_ms(0.99),
        cpu_us={"redis": 1e6 * used["redis"] / count, "load": 1e6 * mine / count},
        generator=f"{callers} connections, calls of {settings.api.batch_max}",
    )


async def _record_calls(stage: Stage, sale: Sale, count: int) -> list[tuple[bytes, int]]:
    """The calls that the API's own admission makes for so many bookings."""
    recorder: Any = _Recorder()
    settings = stage.office.settings
    admission = Admission(_Recorded(recorder, stage.office.shards), stage.office.catalogue, settings)
    failures: list[BoxOfficeError] = []

    def answer(result: Admitted | BoxOfficeError) -> None:
        if isinstance(result, BoxOfficeError):
            failures.append(result)

    tiers = sale.event.tiers
    for start in range(0, count, settings.api.batch_max):
        await stage.office.catalogue.event_of_tier(tiers[0].id)
        for n in range(start, min(count, start + settings.api.batch_max)):
            order = BookingRequest(
                f"alone-{n:09d}",
                ((tiers[n % len(tiers)].id, 1),),
                None,
                Charge("card", "tok_ok_4242", "Ada", "4242"),
                None,
            )
            admission.submit(sale.client, order, ids.digest(f"alone-{n}"), answer)
        await admission.close()
    if failures:
        raise failures[0]
    return list(recorder.calls)


async def commit_alone(stage: Stage, count: int) -> Figure:
    """The settling transaction as the worker runs it, without the worker: batches of 500, `worker.batches_at_once` at once.

    In a database of its own on the same server.
    """
    settings = stage.office.settings
    url = database_url(stage.stack, DATABASE)
    pool = await open_pool(settings.model_copy(update={"database_url": url}), size=settings.worker.batches_at_once)
    try:
        tier = await _make_event(pool)
        batches = iter(list(_batches(tier, count)))
        latency = Histogram()
        known: set[rows.Triple] = set()
        terms = Terms(time.time_ns() // 1_000_000, 600_000)

        async def settle_on() -> None:
            for claims, paid in batches:
                began = time.perf_counter()
                async with pool.acquire() as connection, connection.transaction():
                    left = await rows.lock_inventory(connection, {tier})
                    await rows.vouch(connection, {("bench", "bench", tier)}, known)
                    await rows.recheck(connection, [claim.record for claim in claims], {})
                    decisions = decide(claims, {}, paid, left, terms)
                    await rows.write(connection, decisions, "simulator", settings.worker.lease_ms)
                    await rows.sell(connection, sold_by(decisions))
                latency.record(time.perf_counter() - began)

        before = tree_cpu_s(stage.stack["postgres"].pid)
        mine, began = _own_cpu_s(), time.perf_counter()
        await asyncio.gather(*(settle_on() for _ in range(settings.worker.batches_at_once)))
        took, mine = time.perf_counter() - began, _own_cpu_s() - mine
        used = tree_cpu_s(stage.stack["postgres"].pid) - before
        sold = await pool.fetchval("SELECT sum(sold) FROM inventory")
        if sold != count or await pool.fetchval("SELECT count(*) FROM payments") != count:
            raise CannotRun(f"The transaction alone sold {sold} of {count} tickets.")
    finally:
        await pool.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        await pool.close()
    return Figure(
        name="commit",
        rate=count / took,
        count=count,
        p50_ms=latency.quantile_ms(0.5),
        p99_ms=latency.quantile_ms(0.99),
        cpu_us={"postgres": 1e6 * used / count, "load": 1e6 * mine / count},
        generator=f"{settings.worker.batches_at_once} connections, batches of {BATCH}",
    )


async def _make_event(pool: asyncpg.Pool[Any]) -> str:
    await pool.execute("INSERT INTO clients (id, name) VALUES ('bench', 'bench')")
    await pool.execute(
        "INSERT INTO events (id, client_id, shard, name, starts_at) VALUES ('bench', 'bench', 0, 'bench', now() + '1 day')"
    )
    await pool.execute(
        "INSERT INTO tiers (id, event_id, code, name, price_cents) VALUES ('tier', 'bench', 'A', 'A', 2500)"
    )
    await pool.execute("INSERT INTO inventory (tier_id, total) VALUES ('tier', 50000000)")
    return "tier"


def _batches(tier: str, count: int) -> Iterator[tuple[list[Claimed], dict[str, GatewayOutcome]]]:
    now_ms = time.time_ns() // 1_000_000
    lines = (Line(tier, 1, 2_500),)
    charge = Charge("card", "tok_ok_4242", "Ada Lovelace", "4242")
    for start in range(0, count, BATCH):
        claims, paid = list[Claimed](), dict[str, GatewayOutcome]()
        for n in range(start, min(count, start + BATCH)):
            key = ids.digest(f"alone-{n}")
            scope = ids.scope("bench", "bench", key)
            customer = f"alone-{n:09d}"
            body = Body("bench", customer, 2_500, "USD", lines)
            record = Record(
                ids.booking_id(0, now_ms), "P", n + 1, now_ms, 0, scope, scope, scope[:16], "bench",
                ids.owner_digest("bench", customer), pack_items(lines), "1", body, Payload(charge, key=key),
            )  # fmt: skip
            claims.append(Claimed(record, b"", 0))
            paid[record.id] = Authorized(f"sim_{scope}", 2_500, "USD")
        yield claims, paid


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
