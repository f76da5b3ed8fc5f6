"""The bytes that our scripts enqueue are a job that arq takes."""

from __future__ import annotations

import asyncio
import pickle

import arq.jobs
import pytest
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool

from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.jobs import RING, deserialize, job_prefix, pack_ring, serialize
from boxoffice.stores.scripts import load_scripts
from tests.support.shop.script import Desk
from worker.doorbell import functions


def test_the_job_has_the_fields_that_arq_writes() -> None:
    """Compared with arq's own bytes, so that another arq is noticed here."""
    theirs = deserialize(arq.jobs.serialize_job(RING, (7,), {}, None, 1, serializer=serialize))

    assert deserialize(pack_ring(7)) == theirs


def test_arq_reads_the_job() -> None:
    """With our deserialiser: never pickle, which would run whatever a writer to Redis likes."""
    assert arq.jobs.deserialize_job_raw(pack_ring(3), deserializer=deserialize) == (RING, [3], {}, None, 1)
    with pytest.raises(ValueError):
        deserialize(pickle.dumps({"f": "ring"}))


def test_the_worker_offers_the_function_that_is_rung_for() -> None:
    """arq drops a job whose function it does not know, at its last try, and keeps results that block the same id."""
    (function,) = functions()

    assert function.name == RING
    assert function.max_tries is not None and function.max_tries > 100_000
    assert function.keep_result_s == 0


@pytest.mark.parametrize("shard", [0, 3])
async def test_a_real_arq_worker_runs_what_admissions_ring(clean: None, settings: Settings, shard: int) -> None:
    """A ring for a shard ends in a call with that shard, and leaves nothing behind."""
    heard: list[int] = []

    async def ring(ctx: object, shard: int) -> None:
        heard.append(shard)

    queue = keys.arq_queue(shard)
    redis = ArqRedis(
        ConnectionPool.from_url(settings.redis_url), job_serializer=serialize, job_deserializer=deserialize,
        default_queue_name=queue,
    )  # fmt: skip
    desk = Desk(redis, load_scripts(), shard)
    await desk.open_gate()
    await desk.open_sale(floor=5)
    await desk.book(desk.form(floor=1))
    worker = Worker(
        functions=[func(ring, name=RING)], queue_name=queue, redis_pool=redis, handle_signals=False, burst=True,
        poll_delay=0.01, keep_result=0, job_serializer=serialize, job_deserializer=deserialize,
    )  # fmt: skip

    async with asyncio.timeout(10):
        await worker.async_run()

    assert heard == [shard]
    left = {key.decode() for key in await redis.keys("*arq*")}
    assert left <= {f"{queue}:health-check"}
    assert job_prefix(shard).startswith(f"{{s{shard:02d}}}:")
    await worker.close()
