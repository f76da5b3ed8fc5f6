"""What arq calls, how often it may, what a ring does, and how arq itself is kept alive. No server is asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from arq import Retry
from redis.exceptions import ConnectionError as RedisAway
from structlog.testing import capture_logs

from boxoffice.clock import Clock
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.jobs import RING
from tests.conftest import eventually
from tests.support.clocks import Passing
from tests.support.worker_parts import SHARDS, homes
from worker import doorbell
from worker.stop import Stop


def test_arq_may_call_one_function_and_keeps_nothing_of_it() -> None:
    """A drain ends long before arq would end it, and every restart of a worker spends a try."""
    (function,) = doorbell.functions()
    assert (function.name, function.coroutine) == (RING, doorbell.ring)
    assert (function.timeout_s, function.max_tries, function.keep_result_s) == (60, 1_000_000, 0)
    bounds = Settings.model_fields["worker"].annotation.model_fields["drain_s"].metadata  # type: ignore[union-attr]
    assert max(getattr(bound, "le", 0) for bound in bounds) <= 60


@pytest.mark.parametrize("done", [True, False])
async def test_a_ring_drains_its_shard_and_rings_again_when_there_is_more(done: bool) -> None:
    """At once."""
    drained: list[int] = []

    def settlement(shard: int) -> Any:
        async def drain() -> bool:
            drained.append(shard)
            return done

        return SimpleNamespace(drain=drain)

    ctx = {"office": SimpleNamespace(settlements=[settlement(shard) for shard in range(3)])}
    if done:
        await doorbell.ring(ctx, 2)
    else:
        with pytest.raises(Retry) as again:
            await doorbell.ring(ctx, 2)
        assert again.value.defer_score == 0
    assert drained == [2]


async def test_arq_is_started_again_ever_more_slowly(
    office: Any, stop: Stop, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fast again after it has lived a while. It hears its own shard, and takes one job at a time."""
    made: list[dict[str, Any]] = []
    now = 0.0

    class Arq:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        async def async_run(self) -> None:
            nonlocal now
            now += 3.0 if len(made) == 6 else 0.0
            if len(made) == 7:
                stop.begin()
            raise RedisAway

    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(doorbell, "Worker", Arq)
    monkeypatch.setattr(doorbell, "ArqRedis", lambda **options: options)
    office.clock = Clock(now_s=lambda: now)
    await doorbell.hear(office, 2, stop)

    assert pauses == [0.4, 0.8, 1.6, 2.0, 2.0, 0.2, 0.4]
    assert {options["queue_name"] for options in made} == {keys.arq_queue(2)}
    assert {options["redis_pool"]["default_queue_name"] for options in made} == {keys.arq_queue(2)}
    assert made[0]["ctx"] == {"office": office}
    options = {"max_jobs": 1, "handle_signals": False, "keep_result": 0, "poll_delay": 0.02, "queue_read_limit": 8}
    assert made[0] | options == made[0]
    for serializer in ("job_serializer", "job_deserializer"):
        assert made[0][serializer] is made[0]["redis_pool"][serializer]


@pytest.fixture
def arq(office: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An arq that has taken a ring and hears until it is cancelled."""
    arq = SimpleNamespace(allow_pick_jobs=True, job_counter=1, started=asyncio.Event(), ended=asyncio.Event())

    async def async_run() -> None:
        arq.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            arq.ended.set()

    arq.async_run = async_run
    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(doorbell, "Worker", lambda **_: arq)
    monkeypatch.setattr(doorbell, "ArqRedis", lambda **options: options)
    return arq


async def test_who_stops_a_worker_stops_arq_when_it_has_answered_its_ring(office: Any, stop: Stop, arq: Any) -> None:
    """One that is cut off is marked as taken for over a minute."""
    hearing = asyncio.create_task(doorbell.hear(office, 0, stop))
    await arq.started.wait()
    hearing.cancel()

    async def takes_no_more() -> bool:
        return not arq.allow_pick_jobs

    await eventually(takes_no_more)
    assert not hearing.done()
    assert not arq.ended.is_set()
    arq.job_counter = 0
    with capture_logs() as said, pytest.raises(asyncio.CancelledError):
        await hearing
    assert arq.ended.is_set()
    assert said == [], "it is not started again"


async def test_a_ring_that_is_never_answered_keeps_no_worker(office: Any, stop: Stop, arq: Any) -> None:
    time = Passing()
    office.clock = time.clock
    hearing = asyncio.create_task(doorbell.hear(office, 0, stop))
    await arq.started.wait()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert arq.ended.is_set()
    assert sum(time.slept) == pytest.approx(10, abs=0.01)


async def test_an_arq_that_cancels_itself_is_started_again(
    office: Any, stop: Stop, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Arq:
        def __init__(self, **_: Any) -> None: ...

        async def async_run(self) -> None:
            if len(pauses) == 2:
                stop.begin()
            raise asyncio.CancelledError

    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(doorbell, "Worker", Arq)
    monkeypatch.setattr(doorbell, "ArqRedis", lambda **options: options)
    with capture_logs() as said:
        await doorbell.hear(office, 2, stop)
    assert [(line["event"], line["shard"], line["error"]) for line in said][:1] == [
        ("arq.restarted", 2, "CancelledError")
    ]
    assert len(pauses) == 3
