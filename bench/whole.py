"""The whole thing through HTTP: admission, end to end, refusals, reads, memory, and the baseline.

One file because its measurements share one way to ask for load and to read what it cost.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from bench.cpu import Meter, busy_share, machine
from bench.figures import Figure, Memory
from bench.generators import Load
from bench.histogram import Histogram
from bench.stage import Sale, Stage
from boxoffice import ids
from boxoffice.errors import CannotRun
from boxoffice.stores import keys
from boxoffice.stores.models import ApiKey

__all__ = [
    "admission",
    "baseline",
    "end_to_end",
    "figure_of",
    "fixed_rate",
    "latest_bookings",
    "memory",
    "nobody_settles",
    "noop",
    "reads",
    "refusals",
    "sizes",
]

LOOK_S: Final = 0.25
"""How often the backlog is looked at."""

_COMMITTED: Final = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8 AS took,
       extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at, right(customer_id, 9)::int AS number
FROM bookings WHERE sequence > $1 AND sequence <= $2 AND status = 'confirmed'
"""


async def noop(stage: Stage, seconds: float, sale: Sale) -> Figure:
    """(a) The same server around nothing, asked the same requests."""
    helper = stage.helper("bench.noop")
    meter = Meter({"api": helper.pid})
    before = machine()
    load = await stage.load.closed(helper.port, sale.bookings(stage.run_name()), seconds)
    return figure_of("noop", load, load.issued, load.took_s, meter.used(), before)


@asynccontextmanager
async def nobody_settles(stage: Stage) -> AsyncIterator[None]:
    """Bookings wait meanwhile. Afterwards all of them are settled."""
    stage.stop_worker()
    try:
        yield
    finally:
        stage.start_worker()
        await stage.settled()


async def admission(stage: Stage, seconds: float, sale: Sale) -> Figure:
    """(d) Accepted and fsynced, while nobody settles."""
    first, meter, before = await stage.admitted(), stage.meter(), machine()
    load = await stage.load.closed(stage.port, sale.bookings(stage.run_name()), seconds)
    used = meter.used()
    return figure_of("admission", load, await stage.admitted() - first, load.took_s, used, before)


async def end_to_end(stage: Stage, seconds: float, sale: Sale, name: str) -> Figure:
    """(e) Closed loop, until the last booking is committed, captured, and settled in Redis."""
    first, meter, before = await stage.admitted(), stage.meter(), machine()
    watch = asyncio.create_task(_watch(stage))
    load = await stage.load.closed(stage.port, sale.bookings(stage.run_name()), seconds)
    return await _settled(stage, name, load, first, meter, before, watch)


async def fixed_rate(stage: Stage, seconds: float, rate: float, sale: Sale, name: str) -> Figure:
    """Open loop at a fixed rate, end to end."""
    first, meter, before = await stage.admitted(), stage.meter(), machine()
    watch = asyncio.create_task(_watch(stage))
    sent = stage.folder / "sent.bin"
    load = await stage.load.open(stage.port, sale.bookings(stage.run_name()), seconds, rate, sent)
    figure = await _settled(stage, name, load, first, meter, before, watch)
    figure.offered_rate = rate
    due = array("d")
    due.frombytes(sent.read_bytes())
    latency = Histogram()
    for row in await _committed(stage, first):
        latency.record(row["at"] - due[row["number"]])
    figure.post_commit_p50_ms, figure.post_commit_p99_ms = latency.quantile_ms(0.5), latency.quantile_ms(0.99)
    return figure


async def _settled(
    stage: Stage, name: str, load: Load, first: int, meter: Meter, before: tuple[float, float],
    watch: asyncio.Task[list[int]],
) -> Figure:  # fmt: skip
    """Wait for the last booking, then add up. Counted in PostgreSQL; the load generator is not believed."""
    left = await stage.pending()
    await stage.settled()
    took = time.time() - load.began
    used = meter.used()
    watch.cancel()
    backlog = await watch
    latency = Histogram()
    for row in await _committed(stage, first):
        latency.record(row["took"])
    admitted = await stage.admitted() - first
    if latency.total != admitted:
        raise CannotRun(f"{admitted} bookings were admitted and {latency.total} confirmed in {name}.")
    figure = figure_of(name, load, latency.total, took, used, before)
    figure.commit_p50_ms, figure.commit_p99_ms = latency.quantile_ms(0.5), latency.quantile_ms(0.99)
    figure.backlog_max, figure.backlog_end = max(backlog, default=0), left
    figure.backlog_grows = grows(backlog, figure.rate)
    figure.tail_s = took - load.took_s
    return figure


async def _watch(stage: Stage) -> list[int]:
    """Look at the backlog until cancelled."""
    seen: list[int] = []
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(LOOK_S)
            seen.append(await stage.pending())
    return seen


def grows(backlog: Sequence[int], rate: float) -> bool:
    """Whether the last third of the looks saw more waiting than the second, by more than a tenth of a second's work."""
    third = len(backlog) // 3
    if not third:
        return False
    middle, last = backlog[third : 2 * third], backlog[2 * third : 3 * third]
    return sum(last) / third > sum(middle) / third + rate / 10


async def _committed(stage: Stage, first: int) -> list[Any]:
    connection = await stage.connect()
    try:
        return list(await connection.fetch(_COMMITTED, first, await stage.admitted()))
    finally:
        await connection.close()


def figure_of(
    name: str, load: Load, count: int, took_s: float, used: dict[str, float], before: tuple[float, float]
) -> Figure:
    """What so many cost, and how long they took."""
    count = max(1, count)
    cpu = {component: 1e6 * seconds / count for component, seconds in used.items()}
    good = {"202", "2xx"} if name not in ("refusals", "poll", "poll_old", "availability") else {"200", "2xx", "409"}
    if name == "refusals":
        good = {"409", "4xx/5xx", "202", "2xx"}
    return Figure(
        name=name,
        rate=count / took_s,
        count=count,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        cpu_us={**cpu, "load": 1e6 * load.cpu_s / count},
        busy=busy_share(before, machine()),
        generator=load.generator,
        strange={status: number for status, number in load.answers.items() if status not in good},
    )


async def refusals(stage: Stage, seconds: float, sale: Sale) -> Figure:
    """A sale of a hundred tickets, long gone."""
    meter, before = stage.meter(), machine()
    load = await stage.load.closed(stage.port, sale.bookings(stage.run_name()), seconds, wanted=409)
    return figure_of("refusals", load, load.good, load.took_s, meter.used(), before)


async def latest_bookings(stage: Stage, sale: Sale, *, older_s: int, count: int = 2_000) -> list[str]:
    """Ids of the sale's bookings made last, at least so long ago."""
    connection = await stage.connect()
    try:
        found = await connection.fetch(
            "SELECT id::text FROM bookings WHERE client_id = $1 AND created_at < now() - $2::int * interval '1 second' "
            "ORDER BY id DESC LIMIT $3",
            sale.client, older_s, count,
        )  # fmt: skip
    finally:
        await connection.close()
    return [row["id"] for row in found]


async def sizes(stage: Stage) -> tuple[float, float]:
    """Megabytes that Redis and PostgreSQL take."""
    connection = await stage.connect()
    try:
        size = await connection.fetchval("SELECT pg_database_size('boxoffice')")
    finally:
        await connection.close()
    return await _used(stage) / 1e6, size / 1e6


async def reads(stage: Stage, seconds: float, sale: Sale, name: str, paths: Sequence[str]) -> Figure:
    """GETs, one path after the other."""
    meter, before = stage.meter(), machine()
    load = await stage.load.closed(stage.port, sale.reads(paths), seconds, wanted=200)
    return figure_of(name, load, load.good, load.took_s, meter.used(), before)


async def memory(stage: Stage, count: int, sale: Sale) -> Memory:
    """What a booking takes in Redis: all memory before and after so many, and key by key."""
    redis = stage.office.redis
    async with nobody_settles(stage):
        empty = await _used(stage)
        owners, pending = keys.owners(0, sale.event.id), keys.pending(0)
        owners_before = int(await redis.memory_usage(owners, samples=0) or 0)
        first, run = await stage.admitted(), stage.run_name()
        load = await stage.load.count(stage.port, sale.bookings(run), count)
        admitted = await stage.admitted() - first
        if admitted != count:
            raise CannotRun(f"{admitted} of {count} bookings were admitted: {load.answers}.")
        full = await _used(stage)
        parts = {
            "record, pending": await _each(stage, pending, keys.booking(0, "")),
            "place in the pending set": int(await redis.memory_usage(pending, samples=0) or 0) / count,
            "customer's count": (int(await redis.memory_usage(owners, samples=0) or 0) - owners_before) / count,
        }
        booking = (await redis.zrange(pending, 0, 0))[0].decode()
    settled = await _used(stage)
    parts["record, settled"] = int(await redis.memory_usage(keys.booking(0, booking)) or 0)
    name = keys.idempotency(0, ids.scope(sale.client, sale.event.id, ids.digest(f"{run}-{0:09d}")))
    parts["idempotency key"] = int(await redis.memory_usage(name) or 0)
    return Memory(bookings=count, pending=(full - empty) / count, settled=(settled - empty) / count, parts=parts)


async def _each(stage: Stage, pending: str, prefix: str) -> float:
    some = await stage.office.redis.zrange(pending, 0, 99)
    sizes = [int(await stage.office.redis.memory_usage(prefix + one.decode()) or 0) for one in some]
    return sum(sizes) / max(1, len(sizes))


async def _used(stage: Stage) -> int:
    """Redis's memory but for what its clients and the append-only file have in flight."""
    info = await stage.office.redis.info("memory")
    return int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info["mem_aof_buffer"])


async def baseline(stage: Stage, seconds: float, clients: int, sale: Sale) -> Figure:
    """(f) The route that people write by hand, with so many clients."""
    database = "bench_baseline"
    connection = await stage.connect(database)
    try:
        await _copy_sale(stage, connection, sale)
        helper = stage.helper("bench.baseline", database)
        first = await connection.fetchval("SELECT count(*) FROM bookings")
        meter = Meter({"api": helper.pid, "postgres": stage.stack["postgres"].pid})
        before = machine()
        load = await stage.load.closed(helper.port, sale.bookings(stage.run_name()), seconds, connections=clients)
        used = meter.used()
        # wrk leaves with requests under way: what the last of them wrote counts.
        await asyncio.sleep(0.2)
        made = await connection.fetchval("SELECT count(*) FROM bookings") - first
        sold = await connection.fetchval("SELECT sum(sold) FROM inventory")
        items = await connection.fetchval("SELECT sum(quantity) FROM booking_items")
        if sold != items:
            raise CannotRun(f"The baseline sold {sold} tickets and wrote {items}.")
    finally:
        await connection.close()
    figure = figure_of("baseline", load, made, load.took_s, used, before)
    figure.clients = clients
    return figure


async def _copy_sale(stage: Stage, connection: Any, sale: Sale) -> None:
    """The same event, in the baseline's own tables."""
    if await connection.fetchval("SELECT count(*) FROM events WHERE id = $1", sale.event.id):
        return
    source = await stage.connect()
    try:
        for table, column, value in (
            ("clients", "id", sale.client),
            (ApiKey.__tablename__, "client_id", sale.client),
            ("events", "id", sale.event.id),
            ("tiers", "event_id", sale.event.id),
        ):
            for row in await source.fetch(f"SELECT * FROM {table} WHERE {column} = $1", value):
                await connection.copy_records_to_table(table, records=[tuple(row)], columns=list(row.keys()))
        for tier in sale.event.tiers:
            await connection.execute("INSERT INTO inventory (tier_id, total) VALUES ($1, $2)", tier.id, tier.capacity)
    finally:
        await source.close()
