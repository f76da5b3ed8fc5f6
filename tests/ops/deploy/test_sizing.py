"""The sizing guide adds up, and what it says of connections is what a process opens."""

from __future__ import annotations

import inspect
from typing import Any

import worker.app
from boxoffice import office
from boxoffice.settings import Settings, WorkerSettings
from boxoffice.stores.database import Database
from boxoffice.stores.redis import open_redis
from tests.support.sizing import connections, dearest, rows

SETTINGS = Settings(redis_pool_max=20, worker=WorkerSettings(pool_max=7))


def a_round(api: float, worker: float, redis: float, postgres: float) -> dict[str, Any]:
    cpu = {"api": api, "worker": worker, "redis": redis, "postgres": postgres, "load": 900.0}
    return {"figures": {"hot": {"cpu_us": cpu}}}


RESULTS = {"rounds": [a_round(90, 60, 70, 60), a_round(110, 80, 100, 74), a_round(120, 60, 70, 60)]}


async def test_connections_are_those_of_the_pools() -> None:
    most = connections(SETTINGS)
    engine = Database(SETTINGS).engine
    assert engine.pool.size() + SETTINGS.worker.pool_max == 12  # type: ignore[attr-defined]
    assert most["postgresql"] == {"api": 12, "worker": 12}
    client = open_redis(SETTINGS)
    assert client.connection_pool.max_connections == 20
    await client.aclose()
    assert [inspect.getsource(each).count("open_shards(settings, ") for each in (office, worker.app)] == [1, 1]
    assert most["redis"] == {"api": 20, "worker": 40}


def test_cores_are_those_of_the_dearest_round() -> None:
    """Whole rounds are compared, and the load generator is nobody's."""
    assert dearest(RESULTS) == {"api": 0.11, "worker": 0.08, "redis": 0.1, "postgres": 0.074}


def test_a_million_is_what_was_measured_multiplied() -> None:
    sizes = {
        "measured": "2030-05-01", "machine": {"machine": "2 CPUs"}, "bookings": 20_000, "redis_pending": 650.0,
        "redis_settled": 510.0, "postgres": {"disk": 1_250.0, "tables": 900.0, "indexes": 350.0, "wal": 2_400.0},
        "aof": 1_820.0, "resident": {"api": 95_400_000, "worker": 88_600_000},
    }  # fmt: skip
    told = dict(rows(RESULTS, sizes, SETTINGS))
    assert told["cores for 1,000 bookings a second, admitted to captured"] == (
        "0.36: API 0.11, worker 0.08, Redis 0.10, PostgreSQL 0.07"
    )
    assert told["connections of an API process"] == "PostgreSQL 12, Redis 20"
    assert told["connections of a worker"] == "PostgreSQL 12, Redis 40"
    assert told["memory of Redis, a million bookings"] == "0.51 GB settled, 0.65 GB while they are pending"
    assert told["PostgreSQL's disk, a million bookings"] == "1.25 GB: tables 0.90 GB, indexes 0.35 GB"
    assert told["PostgreSQL's write-ahead log, a million bookings"] == "2.40 GB"
    assert told["Redis's append-only file, a million bookings, before a rewrite"] == "1.82 GB"
    assert told["memory of a process after these"] == "API 95 MB, worker 89 MB"
    assert told["measured with"] == "20,000 bookings for room; 2 CPUs, 2030-05-01"
