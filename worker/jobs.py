"""What a ring asks for. The job carries no booking: the pending set does."""

from __future__ import annotations

from typing import Any

from arq import Retry
from arq.worker import Function, func

from boxoffice.office import BoxOffice
from boxoffice.stores.jobs import RING

__all__ = ["functions"]

JOB_TIMEOUT_S = 60
"""arq ends a job after this long and forgets it, so a drain leaves well before (`worker.drain_s`)."""

TRIES = 1_000_000
"""arq drops a job at its last try, and every restart of a worker spends one."""


async def ring(ctx: dict[str, Any], shard: int) -> None:
    """Somebody rang for this shard: settle what is pending. Rings again when there is more than one drain can do."""
    office: BoxOffice = ctx["office"]
    if not await office.settlements[shard].drain():
        raise Retry(defer=0)


def functions() -> list[Function]:
    """The functions that arq may call."""
    return [func(ring, name=RING, timeout=JOB_TIMEOUT_S, max_tries=TRIES, keep_result=0)]
