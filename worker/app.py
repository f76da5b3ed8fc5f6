"""The worker process: arq hears the bell, a sweeper looks without being rung for, a pump moves the money.

Nothing depends on arq: it makes settlement fast, the sweeper makes it certain. arq's own loop dies on the first Redis
error, so it runs supervised, a new worker object each time.

Each of its loops outlives whatever its work raises. Should one end all the same, the process ends: a worker that lives
and does half of its work would be missed by nobody, and whoever supervises it starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from boxoffice.books.moves import apply_moves
from boxoffice.books.trim import trim
from boxoffice.errors import BoxOfficeError, CannotRun, GateClosed
from boxoffice.gateway.calls import within
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import durability, keys, postgres, redis
from boxoffice.stores.gate import wait_until_asked
from boxoffice.stores.jobs import deserialize, serialize
from boxoffice.stores.shard import Shards, open_shards
from boxoffice.telemetry.log import configure
from boxoffice.telemetry.seldom import seldom
from worker.jobs import functions

__all__ = ["WorkerApp", "run_worker"]

log = structlog.get_logger()

REDIS_RETRIES = 20
"""A restart of Redis takes seconds; the pause between tries grows to half a second."""

ARQ_PAUSE_S = 0.2
ARQ_PAUSE_MAX_S = 2.0
"""How long arq is left alone after it died, first and at most."""

END_S = 10.0
"""After one of its tasks has ended, a worker gives back what it has for so long, and then has as long to close."""

TASK_ENDED = 3
"""Exit code of a worker one of whose tasks has ended."""

HEARING = "hearing"
"""Name of the tasks that run arq."""

RING_S = 10.0
"""How long a worker that ends waits for the ring that arq has taken. One that is cut off keeps arq's mark, and stands in
the queue until the mark lapses, after more than a minute."""

LOAD_S = 30.0
"""How often a worker looks for events that PostgreSQL has and Redis lacks, unless somebody misses one."""

LOAD_AGAIN_S = 0.5
"""How soon it looks again for whoever misses one; doubles while it finds nothing to load."""

BOOKS_S = 3.0
"""How long a worker that starts waits for the gateway's name."""

WATCH_S = 15.0
"""How often a worker looks whether the stores still keep what they acknowledge. Each look that finds one weak is a line in
the log."""

GUARD_LATE_S = 1.0
"""An answer of Redis to the guard that comes so late does not come: it connects again."""

TRIM_S = 60.0
"""How often a worker deletes rows that have done their work."""

COUNT_AFTER_S = 30.0
"""When a worker counts drift for the first time. It reads every record of a sale, and a worker that has just started is
there for the bookings that waited for it."""


def run_worker(settings: Settings) -> None:
    """Settle bookings until SIGTERM or SIGINT; then finish the batches at hand and return.

    Raises `CannotRun` when the servers' settings are weaker than what we promise.
    """
    configure(settings)
    import uvloop

    uvloop.run(main(settings))


async def main(settings: Settings) -> None:
    async with open_box_office(settings, redis_retries=REDIS_RETRIES) as office:
        app = WorkerApp(office)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, app.stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            await app.run()
        except CannotRun:
            # Nothing that hangs while it is closed keeps us from ending.
            loop.call_later(END_S, os._exit, TASK_ENDED)
            raise


class WorkerApp:
    """Everything that one worker does at once."""

    def __init__(self, office: BoxOffice) -> None:
        self._office = office
        self.stopping = asyncio.Event()
        self.load_again_s: dict[int, float] = {}

    def stop(self) -> None:
        """Begin to end."""
        self.stopping.set()

    async def run(self) -> None:
        """Work until `stop`. Raises `CannotRun` on servers that are weaker than promised, and when a task has ended."""
        await self.check_servers()
        if self.stopping.is_set():
            log.info("worker.stopped")
            return
        settings = self._office.settings
        timeout_s = settings.worker.guard_ms / 1_000 + GUARD_LATE_S
        async with contextlib.aclosing(
            open_shards(settings, self._office.shards.scripts, timeout_s=timeout_s)
        ) as watchers:
            await self.work(watchers)

    async def work(self, watchers: Shards) -> None:
        """Start the rounds of every shard, and end when one of them does or the worker is to stop."""
        office, worker = self._office, self._office.settings.worker
        tasks: list[asyncio.Task[None]] = []

        def start(name: str, loop: Coroutine[Any, Any, None]) -> None:
            tasks.append(asyncio.create_task(loop, name=name))

        def keep(what: str, work: Callable[[], Awaitable[Any]], every_s: float, after_s: float = 0) -> None:
            start(what, self.supervise(what, work, every_s, after_s))

        start("money", office.pump.run())
        for shard in range(office.settings.shards):
            start(HEARING, self.hear(shard))
            keep("guarding", partial(self.guard, shard, watchers[shard].redis), 0)
            keep("loading", partial(self.load, shard, watchers[shard].redis), 0)
            keep("sweeping", partial(self.sweep, shard), worker.sweep_ms / 1_000)
            keep("mending", office.menders[shard].mend, 2 * worker.lease_ms / 1_000)
            keep("reconciling", partial(self.count_drift, shard), worker.reconcile_s, COUNT_AFTER_S)
        keep("watching", self.watch, WATCH_S)
        keep("trimming", self.trim_rows, TRIM_S, TRIM_S)
        log.info("worker.ready", shards=office.settings.shards)
        if ended := await self._until_stopped(tasks):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(END_S):
                    await self.wind_up(tasks)
            raise CannotRun(f"The worker's task '{ended}' has ended; its log says why. Start another worker.")
        await self.wind_up(tasks)
        log.info("worker.stopped")

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> str:
        """Wait for `stop`. Returns at once the name of a task that ended before, for whatever reason."""
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if self.stopping.is_set():
            return ""
        stopping.cancel()
        self.stopping.set()
        (ended, *_) = (task for task in tasks if task.done())
        error = None if ended.cancelled() else ended.exception()
        log.error("worker.task_ended", task=ended.get_name(), cancelled=ended.cancelled(), exc_info=error)
        return ended.get_name()

    async def wind_up(self, tasks: list[asyncio.Task[None]]) -> None:
        """Finish the batches at hand and the captures that were given, and end every loop. No ring is taken any more from
        now on: whoever else hears it settles what it announces."""
        pump, *others = tasks
        hearing = [task for task in others if task.get_name() == HEARING]
        for task in hearing:
            task.cancel()
        await asyncio.gather(*(settlement.stop() for settlement in self._office.settlements))
        for task in others:
            if task not in hearing:
                task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._office.pump.stop()
        await asyncio.wait([pump], timeout=10)
        if not pump.done():
            raise TimeoutError("Captures that were given did not end.")
        if not pump.cancelled():
            pump.result()

    async def check_servers(self) -> None:
        """Wait for both stores, then see that their settings are as durable as we promise."""
        durability.tell_what_is_stated(self._office.settings)
        while not self.stopping.is_set():
            try:
                for client in self._office.shards.clients:
                    await durability.check_redis(client, self._office.settings)
                    await redis.run_id(client)
                await postgres.check_schema(self._office.database)
                await durability.check_postgresql(self._office.database, self._office.settings)
                await durability.check_shards(self._office.database, self._office.settings)
                # Whose books it keeps stands in every payment row; a gateway that is away says so later.
                await within(BOOKS_S, self._office.gateway.trouble())
                return
            except CannotRun:
                raise
            except (RedisError, *postgres.AWAY) as error:
                seldom.warning("worker.waiting", error=type(error).__name__)
                await self.pause(0.5)

    async def watch(self) -> None:
        """Whether the gateway takes our key, which logs what it finds, and whether the stores still keep what they acknowledge:
        settings change while a server runs. What was accepted is settled all the same, as PostgreSQL may be the safer place
        for it. No API that looks is ready meanwhile."""
        office = self._office
        await office.gateway.trouble()
        try:
            for client in office.shards.clients:
                await durability.check_redis(client, office.settings)
            await durability.check_postgresql(office.database, office.settings)
        except CannotRun as error:
            log.error("durability.weak", reason=error.detail)
        await office.pump.tell_of_others()

    async def sweep(self, shard: int) -> None:
        """What no bell announced: late holds, lapsed leases, stock that moved in PostgreSQL. Nothing while the gate is shut:
        whoever shut it says so."""
        office = self._office
        with contextlib.suppress(GateClosed):
            await office.holds.expire(shard)
            await office.settlements[shard].drain()
            await apply_moves(office.shards[shard], office.database)

    async def trim_rows(self) -> None:
        """Rows that have done their work."""
        trimmed = await trim(self._office.database, self._office.settings.worker.retention_days)
        if trimmed:
            log.info("tables.trimmed", **trimmed)

    async def count_drift(self, shard: int) -> None:
        """A dry run: says what reconcile would mend."""
        for report in await self._office.guards[shard].reconciler.every_event(fix=False):
            if report.word == "drift":
                log.error("drift.found", shard=shard, event_id=report.event)

    async def guard(self, shard: int, watcher: Redis) -> None:
        """Look at the shard; then wait a while, or until somebody asks, or its server went away and came back."""
        try:
            await self._office.guards[shard].tick()
        finally:
            await wait_until_asked(watcher, keys.asked(shard), self._office.settings.worker.guard_ms / 1_000)

    async def load(self, shard: int, watcher: Redis) -> None:
        """Load what Redis lacks; then wait a while, or until somebody meets an event without its counters."""
        loaded = 0
        try:
            loaded = await self._office.guards[shard].load()
        finally:
            await self.until_load(shard, watcher, bool(loaded))

    async def until_load(self, shard: int, watcher: Redis, helped: bool) -> None:
        """Whoever asks for something that no load brings back is heard ever more seldom."""
        again_s = LOAD_AGAIN_S if helped else min(2 * self.load_again_s.get(shard, LOAD_AGAIN_S / 2), LOAD_S)
        self.load_again_s[shard] = again_s
        end = time.monotonic() + LOAD_S
        await self.pause(again_s)
        step_s = self._office.settings.worker.guard_ms / 1_000
        while (left_s := end - time.monotonic()) > 0 and not self.stopping.is_set():
            if await wait_until_asked(watcher, keys.lacking(shard), min(step_s, left_s)):
                return
        del self.load_again_s[shard]

    async def supervise(
        self, what: str, work: Callable[[], Awaitable[Any]], every_s: float, after_s: float = 0
    ) -> None:
        """Do it again and again, whatever happens."""
        await self.pause(after_s)
        while not self.stopping.is_set():
            try:
                await work()
            except CannotRun as error:
                seldom.error(f"{what}.failed", error=type(error).__name__, reason=error.detail)
            except (RedisError, BoxOfficeError, *postgres.TRANSIENT) as error:
                seldom.warning(f"{what}.failed", error=type(error).__name__)
                await self._office.database.renew(error)
            except Exception as error:
                seldom.exception(f"{what}.failed", error)
            await self.pause(every_s)

    async def hear(self, shard: int) -> None:
        """Run arq on the shard's queue, a new worker object after each of its deaths, ever more slowly while they follow
        one another: of a Redis that takes no writes it dies at once, and the sweep does its work."""
        pause_s = ARQ_PAUSE_S
        while not self.stopping.is_set():
            started = time.monotonic()
            worker = Worker(
                functions=functions(),
                queue_name=keys.arq_queue(shard),
                redis_pool=ArqRedis(pool_or_conn=self._office.shards[shard].redis.connection_pool, job_serializer=serialize,
                                    job_deserializer=deserialize, default_queue_name=keys.arq_queue(shard)),
                ctx={"office": self._office},
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
                await _finish_ring(worker)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                seldom.warning("arq.restarted", shard=shard, error=type(error).__name__)
            pause_s = (
                ARQ_PAUSE_S if time.monotonic() - started > 10 * ARQ_PAUSE_S else min(2 * pause_s, ARQ_PAUSE_MAX_S)
            )
            await self.pause(pause_s)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the worker is to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            pass


async def _finish_ring(worker: Worker) -> None:
    """Take no more rings, and wait until the one at hand is answered. arq counts a job before it marks it as taken."""
    worker.allow_pick_jobs = False
    end = time.monotonic() + RING_S  # not asyncio.timeout: Python 3.11.2 tells it apart from no other cancellation
    while worker.job_counter and time.monotonic() < end:  # noqa: ASYNC110 - arq tells nobody
        await asyncio.sleep(0.005)
