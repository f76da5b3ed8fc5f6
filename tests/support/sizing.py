"""The sizing guide, from what was measured and from the settings."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from boxoffice.settings import Settings
from boxoffice.stores.postgres import open_engine

__all__ = ["connections", "dearest", "rows"]

ROOT = Path(__file__).parents[2]

COMPONENTS = ("api", "worker", "redis", "postgres")

POOLS_OF_REDIS = {"api": 1, "worker": 2}
"""A worker's guard has one of its own, whose answers may take longer."""


def connections(settings: Settings) -> dict[str, dict[str, int]]:
    """The most that a process opens, by store and process."""
    sessions = settings.worker.pool_max + inspect.signature(open_engine).parameters["pool_size"].default
    return {
        "postgresql": {process: sessions for process in POOLS_OF_REDIS},
        "redis": {process: pools * settings.redis_pool_max for process, pools in POOLS_OF_REDIS.items()},
    }


def dearest(results: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of each component for a thousand bookings, end to end at full rate, in the dearest round."""
    found = [each["figures"]["hot"]["cpu_us"] for each in results["rounds"]]
    most = max(found, key=lambda cpu: sum(cpu[name] for name in COMPONENTS))
    return {name: most[name] / 1_000 for name in COMPONENTS}


def rows(results: dict[str, Any], sizes: dict[str, Any], settings: Settings) -> list[tuple[str, str]]:
    """What, and how much."""
    cores, most = dearest(results), connections(settings)
    postgres, bookings = sizes["postgres"], sizes["bookings"]
    each = {"api": "an API process", "worker": "a worker"}

    def million(bytes_each: float) -> str:
        return f"{bytes_each / 1_000:.2f} GB"

    return [
        ("for", "how much"),
        ("cores for 1,000 bookings a second, admitted to captured",
         f"{sum(cores.values()):.2f}: API {cores['api']:.2f}, worker {cores['worker']:.2f}, Redis {cores['redis']:.2f}, "
         f"PostgreSQL {cores['postgres']:.2f}"),
        *((f"connections of {each[process]}",
           f"PostgreSQL {most['postgresql'][process]}, Redis {most['redis'][process]}") for process in each),
        ("memory of Redis, a million bookings",
         f"{million(sizes['redis_settled'])} settled, {million(sizes['redis_pending'])} while they are pending"),
        ("Redis's append-only file, a million bookings, before a rewrite", million(sizes["aof"])),
        ("PostgreSQL's disk, a million bookings",
         f"{million(postgres['disk'])}: tables {million(postgres['tables'])}, indexes {million(postgres['indexes'])}"),
        ("PostgreSQL's write-ahead log, a million bookings", million(postgres["wal"])),
        ("memory of a process after these",
         f"API {sizes['resident']['api'] / 1e6:.0f} MB, worker {sizes['resident']['worker'] / 1e6:.0f} MB"),
        ("measured with", f"{bookings:,} bookings for room; {sizes['machine']['machine']}, {sizes['measured']}"),
    ]  # fmt: skip
