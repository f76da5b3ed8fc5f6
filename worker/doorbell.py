"""The doorbell, as a worker hears it: arq, and only here.

A ring says that a shard has work. The job carries no booking: the pending set does. Nothing depends on arq: it makes
settlement fast, the sweep makes it certain. arq's own loop dies on the first Redis error, so it runs supervised, a new worker
object each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from arq import Retry
from arq.connections import ArqRedis
from arq.worker import Function, Worker, func

from boxoffice.clock import Clock
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.jobs import RING, deserialize, serialize
from boxoffice.telemetry.seldom import seldom
from worker.stop import Stop

__all__ = ["functions", "hear", "ring"]

ARQ_PAUSE_S: Final = 0.2
ARQ_PAUSE_MAX_S: Final = 2.0
"""How long arq is left alone after it died, first and at most."""

RING_S: Final = 10.0
"""How long a worker that ends waits for the ring that arq has taken. One that is cut off keeps arq's mark, and stands in
the queue until the mark lapses, after more than a minute."""

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


async def hear(office: BoxOffice, shard: int, stop: Stop) -> None:
    """Run arq on the shard's queue, a new worker object after each of its deaths, ever more slowly while they follow
    one another: of a Redis that takes no writes it dies at once, and the sweep does its work."""
    pause_s = ARQ_PAUSE_S
    while not stop.begun:
        started = office.clock.now_s()
        worker = Worker(
            functions=functions(),
            queue_name=keys.arq_queue(shard),
            redis_pool=ArqRedis(pool_or_conn=office.shards[shard].redis.connection_pool, job_serializer=serialize,
                                job_deserializer=deserialize, default_queue_name=keys.arq_queue(shard)),
            ctx={"office": office},
            handle_signals=False,
            # One drain is enough, and arq does not look at the queue while it has all the jobs it may have.
            max_jobs=1,
            queue_read_limit=8,
            poll_delay=0.02,
            keep_result=0,
            health_check_interval=10,
            job_completion_wait=15,
            log_results=False,
            job_serializer=serialize,
            job_deserializer=deserialize,
        )  # fmt: skip
        arq: Coroutine[Any, Any, None] = worker.async_run()
        task = asyncio.create_task(arq)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await _finish_ring(worker, office.clock)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            seldom.warning("arq.restarted", shard=shard, error=type(error).__name__)
        pause_s = (
            ARQ_PAUSE_S if office.clock.now_s() - started > 10 * ARQ_PAUSE_S else min(2 * pause_s, ARQ_PAUSE_MAX_S)
        )
        await stop.pause(pause_s)


async def _finish_ring(worker: Worker, clock: Clock) -> None:
    """Take no more rings, and wait until the one at hand is answered. arq counts a job before it marks it as taken."""
    worker.allow_pick_jobs = False
    end = clock.now_s() + RING_S  # not asyncio.timeout: Python 3.11.2 tells it apart from no other cancellation
    while worker.job_counter and clock.now_s() < end:  # arq tells nobody
        await clock.sleep(0.005)
