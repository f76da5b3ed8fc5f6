"""A guard as a worker has one, and what it sees when all is well."""

from __future__ import annotations

from typing import Any

from boxoffice.office import BoxOffice
from boxoffice.repair.guard import Guard, Sight
from tests.conftest import SHARD

FINE = Sight(
    told=(), lost=False, known=True, generation="one", sequence=100, quiet_s=0.5, run_id="run", alert=None,
    gate="one", admitted=100, server_run_id="run",
)  # fmt: skip


def guard_of(office: BoxOffice, **options: Any) -> Guard:
    """The guard of the event's shard."""
    return Guard(
        office.shards[SHARD],
        office.database,
        office.loader,
        office.reconcilers[SHARD],
        office.rebuilders[SHARD],
        **options,
    )


async def row(office: BoxOffice) -> Any:
    """What PostgreSQL remembers of the shard."""
    return await (await office.pool()).fetchrow("SELECT * FROM shards WHERE shard = 1")
