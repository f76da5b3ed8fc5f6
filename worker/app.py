"""The worker process: it hears the doorbell, goes its rounds (`worker/rounds.py`), and moves the money.

Each of its loops outlives whatever its work raises. Should one end all the same, the process ends: a worker that lives
and does half of its work would be missed by nobody, and whoever supervises it starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from redis.exceptions import RedisError

from boxoffice.errors import BoxOfficeError, CannotRun
from boxoffice.gateway.calls import within
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import durability, postgres, postgres_rights, redis, redis_rights
from boxoffice.stores.sessions import call_us
from boxoffice.stores.shard import Shards, open_shards
from boxoffice.stores.waits import EXPECTED, waits_for
from boxoffice.telemetry.log import configure
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.port import open_port
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.traces import tracing
from worker.doorbell import hear
from worker.port import routes
from worker.rounds import ROUNDS, Rounds
from worker.stop import Stop

__all__ = ["WorkerApp", "run_worker"]

log = structlog.get_logger()

REDIS_RETRIES = 20
"""A restart of Redis takes seconds; the pause between tries grows to half a second."""

END_S = 10.0
"""After one of its tasks has ended, a worker gives back what it has for so long, and then has as long to close."""

TASK_ENDED = 3
"""Exit code of a worker one of whose tasks has ended."""

HEARING = "hearing"
"""Name of the tasks that run arq."""

BOOKS_S = 3.0
"""How long a worker that starts waits for the gateway's name."""

GUARD_OVERDUE_S = 1.0
"""An answer of Redis to the guard that comes so late does not come: it connects again."""


def run_worker(settings: Settings) -> None:
    """Settle bookings until SIGTERM or SIGINT; then finish the batches at hand and return.

    Raises `CannotRun` when the servers' settings are weaker than what we promise.
    """
    configure(settings, expected=EXPECTED)
    call_us("worker")
    import uvloop

    uvloop.run(main(settings))


async def main(settings: Settings) -> None:
    REGISTRY.counts = settings.telemetry.count
    telemetry = settings.telemetry
    async with open_box_office(settings, redis_retries=REDIS_RETRIES) as office, contextlib.AsyncExitStack() as stack:
        app = WorkerApp(office)
        port = open_port(routes(office, app.idle_because), telemetry.host, telemetry.worker_port)
        await stack.enter_async_context(port)
        await stack.enter_async_context(tracing(telemetry, "worker"))
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
        self.stopping = Stop()
        self._started = False

    def idle_because(self) -> str:
        """Why it does not work now, in a sentence; empty when it does."""
        if self.stopping.begun:
            return "It is stopping."
        return "" if self._started else "It is starting."

    def stop(self) -> None:
        """Begin to end."""
        self.stopping.begin()

    async def run(self) -> None:
        """Work until `stop`. Raises `CannotRun` on servers that are weaker than promised, and when a task has ended."""
        await self.check_servers()
        if self.stopping.begun:
            log.info("worker.stopped")
            return
        settings = self._office.settings
        timeout_s = settings.worker.guard_ms / 1_000 + GUARD_OVERDUE_S
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

        start("money", office.pump.run())
        for shard in range(office.settings.shards):
            start(HEARING, hear(office, shard, self.stopping))
        rounds = Rounds(office, watchers, self.stopping)
        for each in ROUNDS:
            for work in each.works(rounds, office.settings.shards):
                start(each.name, self.supervise(each.name, work, each.pause_s(worker), each.after_s))
        self._started = True
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
        if self.stopping.begun:
            return ""
        stopping.cancel()
        self.stopping.begin()
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
        await self._office.couriers.stop()
        self._office.pump.stop()
        await asyncio.wait([pump], timeout=10)
        if not pump.done():
            raise TimeoutError("Captures that were given did not end.")
        if not pump.cancelled():
            pump.result()

    async def check_servers(self) -> None:
        """Wait for both stores, then see that we may do in them what we have to, and that they are as durable as we promise."""
        durability.say_what_is_stated(self._office.settings)
        while not self.stopping.begun:
            try:
                for client in self._office.shards.clients:
                    await redis_rights.check_rights(client, "worker")
                    await durability.check_redis(client, self._office.settings)
                    await redis.run_id(client)
                await postgres_rights.check_rights(self._office.database, "worker")
                await postgres.check_schema(self._office.database)
                await durability.check_postgresql(self._office.database, self._office.settings)
                await durability.check_shards(self._office.database, self._office.settings)
                # Whose books it keeps stands in every payment row; a gateway that is away says so later.
                await within(BOOKS_S, self._office.gateway.trouble())
                return
            except CannotRun:
                raise
            except (RedisError, *postgres.AWAY) as error:
                seldom.warning("worker.waiting", waits_for=waits_for(error), error=type(error).__name__)
                await self.stopping.pause(0.5)

    async def supervise(
        self, what: str, work: Callable[[], Awaitable[Any]], every_s: float, after_s: float = 0
    ) -> None:
        """Do it again and again, whatever happens."""
        await self.stopping.pause(after_s)
        while not self.stopping.begun:
            try:
                await work()
            except CannotRun as error:
                seldom.error(f"{what}.failed", error=type(error).__name__, reason=error.detail)
            except (RedisError, BoxOfficeError, *postgres.TRANSIENT) as error:
                seldom.warning(f"{what}.failed", waits_for=waits_for(error), error=type(error).__name__)
                await self._office.database.renew(error)
            except Exception as error:
                seldom.exception(f"{what}.failed", error)
            await self.stopping.pause(every_s)
