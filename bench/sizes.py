"""How much room bookings take, and processes: Redis's memory and file, PostgreSQL's disk and write-ahead log, resident memory.

    python -m bench.sizes [--bookings 20000] [--record bench/sizes.json]

On a private stack, through everything: so many bookings of one ticket, each of a new customer, paid with a test card. What is
said of a million is these, multiplied. Half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import whole
from bench.machine import describe_machine
from bench.stage import Stage, open_stage

__all__ = ["Room", "Sizes", "each", "main", "measure"]

_POSTGRES: Final = """
SELECT pg_database_size('boxoffice') AS disk, pg_current_wal_lsn() - '0/0'::pg_lsn AS wal,
       (SELECT sum(pg_relation_size(relid)) FROM pg_stat_user_tables) AS tables,
       (SELECT sum(pg_indexes_size(relid)) FROM pg_stat_user_tables) AS indexes
"""


class Room(msgspec.Struct, kw_only=True, frozen=True):
    """Bytes at one moment."""

    disk: int
    """Of PostgreSQL's database."""
    tables: int
    indexes: int
    wal: int
    """That PostgreSQL has ever written."""
    aof: int
    """Of Redis's append-only file, which is not rewritten meanwhile."""


class Sizes(msgspec.Struct, kw_only=True):
    """What was measured, in bytes: a booking's, and of whole processes."""

    measured: str
    machine: dict[str, str]
    bookings: int
    redis_pending: float
    redis_settled: float
    postgres: dict[str, float]
    """`disk`, `tables`, `indexes`, `wal`: a booking's share of each."""
    aof: float
    resident: dict[str, int]
    """Of one API process and one worker, after these bookings."""


def each(before: Room, after: Room, bookings: int) -> dict[str, float]:
    """What a booking added to each."""
    return {name: (getattr(after, name) - getattr(before, name)) / bookings for name in Room.__struct_fields__}


async def measure(stage: Stage, bookings: int) -> Sizes:
    """Make so many bookings, and see what they have added. Raises CannotRun when one was not admitted."""
    sale = await stage.open_sale(1)
    before = await _room(stage)
    memory = await whole.memory(stage, bookings, sale)
    added = each(before, await _room(stage), bookings)
    aof = added.pop("aof")
    resident = {name: _resident(stage.stack[name].pid) for name in ("api", "worker")}
    return Sizes(
        measured=time.strftime("%Y-%m-%d"), machine=describe_machine(None), bookings=bookings, redis_pending=memory.pending,
        redis_settled=memory.settled, postgres=added, aof=aof, resident=resident,
    )  # fmt: skip


async def _room(stage: Stage) -> Room:
    connection = await stage.connect()
    try:
        row: Any = await connection.fetchrow(_POSTGRES)
    finally:
        await connection.close()
    info = await stage.office.redis.info("persistence")
    return Room(aof=int(info["aof_current_size"]), **{name: int(value) for name, value in row.items()})


def _resident(pid: int) -> int:
    """Bytes of memory that are a process's own, and its share of what it has in common with others."""
    (line,) = (line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1_024


async def _run(bookings: int) -> Sizes:
    async with open_stage(None) as stage:
        sizes = await measure(stage, bookings)
        findings = await stage.audit()
    if findings.broken:
        sys.exit(f"bench: broken: {findings.broken}")
    return sizes


def main() -> None:
    """Measure, print, and write it down if told to. Exit code 1: the audit found an invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizes", description=__doc__)
    parser.add_argument("--bookings", type=int, default=20_000)
    parser.add_argument("--record", type=Path, help="a file for the figures")
    options = parser.parse_args()
    sizes = asyncio.run(_run(options.bookings))
    text = msgspec.json.format(msgspec.json.encode(sizes), indent=2) + b"\n"
    if options.record is not None:
        options.record.write_bytes(text)
    print(text.decode())


if __name__ == "__main__":
    main()
