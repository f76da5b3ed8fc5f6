"""What a worker does again and again: one row for each round, with its interval.

A round outlives whatever its work raises. Should it end all the same, the process ends (`worker/app.py`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import structlog
from redis.asyncio import Redis

from boxoffice.backoffice.sums import EVERY_S
from boxoffice.books.moves import apply_moves
from boxoffice.books.trim import trim
from boxoffice.errors import CannotRun, GateClosed
from boxoffice.office import BoxOffice
from boxoffice.setting_parts import WorkerSettings
from boxoffice.stores import durability, keys, postgres_rights, redis_rights
from boxoffice.stores.gate import wait_until_called
from boxoffice.stores.heartbeats import BEAT_S, Beat, beat
from boxoffice.stores.shard import Shards
from boxoffice.webhooks.trimming import trim as trim_webhooks
from worker.stop import Stop

__all__ = ["ROUNDS", "Round", "Rounds"]

log = structlog.get_logger()

LOAD_S: Final = 30.0
"""How often a worker looks for events that PostgreSQL has and Redis lacks, unless somebody misses one."""

LOAD_AGAIN_S: Final = 0.5
"""How soon it looks again for whoever misses one; doubles while it finds nothing to load."""

WATCH_S: Final = 15.0
"""How often a worker looks whether the stores still keep what they acknowledge. Each look that finds one weak is a line in
the log."""

TRIM_S: Final = 60.0
"""How often a worker deletes rows that have done their work."""

COUNT_AFTER_S: Final = 30.0
"""When a worker counts drift for the first time. It reads every record of a sale, and a worker that has just started is
there for the bookings that waited for it."""


class Rounds:
    """The work of each round, for one worker. `watchers`: connections of its own to each shard, which tell when a server went
    away and came back."""

    def __init__(self, office: BoxOffice, watchers: Shards, stop: Stop) -> None:
        self._office = office
        self._watchers = watchers
        self._stop = stop
        self.load_again_s: dict[int, float] = {}
        self._started_ms = office.clock.epoch_ms()
        self._counted: dict[int, tuple[int, int]] = {}

    async def guard(self, shard: int) -> None:
        """Look at the shard; then wait a while, or until somebody asks, or its server went away and came back."""
        try:
            await self._office.guards[shard].tick()
        finally:
            await wait_until_called(
                self._watcher(shard), keys.unchecked(shard), self._office.settings.worker.guard_ms / 1_000
            )

    async def load(self, shard: int) -> None:
        """Load what Redis lacks; then wait a while, or until somebody meets an event without its counters."""
        loaded = 0
        try:
            loaded = await self._office.guards[shard].load()
        finally:
            await self.until_load(shard, helped=bool(loaded))

    async def until_load(self, shard: int, *, helped: bool) -> None:
        """Whoever asks for something that no load brings back is heard ever more seldom."""
        now_s = self._office.clock.now_s
        again_s = LOAD_AGAIN_S if helped else min(2 * self.load_again_s.get(shard, LOAD_AGAIN_S / 2), LOAD_S)
        self.load_again_s[shard] = again_s
        end = now_s() + LOAD_S
        await self._stop.pause(again_s)
        step_s = self._office.settings.worker.guard_ms / 1_000
        while (left_s := end - now_s()) > 0 and not self._stop.begun:
            if await wait_until_called(self._watcher(shard), keys.lacking(shard), min(step_s, left_s)):
                return
        del self.load_again_s[shard]

    async def sweep(self, shard: int) -> None:
        """What no bell announced: late holds, lapsed leases, moved stock, changed events. Nothing while the gate is shut:
        whoever shut it says so."""
        office = self._office
        with contextlib.suppress(GateClosed):
            await office.holds.expire(shard)
            await office.settlements[shard].drain()
            await apply_moves(office.shards[shard], office.database)
            await office.loader.publish_unmirrored(shard)

    async def call_off(self, shard: int) -> None:
        """Go on with events that are called off."""
        await self._office.calling_off.work(shard)

    async def mend(self, shard: int) -> None:
        """What one store decided and the other never heard."""
        await self._office.menders[shard].mend()

    async def count_drift(self, shard: int) -> None:
        """A dry run: says what reconcile would mend."""
        reports = await self._office.guards[shard].reconciler.every_event(fix=False)
        drifted = [report.event for report in reports if report.word == "drift"]
        for event in drifted:
            log.error("drift.found", shard=shard, event_id=event)
        self._counted[shard] = self._office.clock.epoch_ms(), len(drifted)

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
        await self._look_at_rights()
        await office.pump.say_what_others_owe()

    async def _look_at_rights(self) -> None:
        """Each look that finds one missing says so in the log."""
        office = self._office
        with contextlib.suppress(CannotRun):
            for client in office.shards.clients:
                await redis_rights.check_rights(client, "worker")
        with contextlib.suppress(CannotRun):
            await postgres_rights.check_rights(office.database, "worker")

    async def beat(self, shard: int) -> None:
        """Say that this worker lives, and how much drift it counted last, for `boxoffice status`."""
        counted_ms, drifted = self._counted.get(shard, (0, 0))
        word = Beat(socket.gethostname(), os.getpid(), self._started_ms, counted_ms, drifted)
        await beat(self._office.shards[shard], word)

    async def sum_up(self) -> None:
        """Add what this worker has counted to the sums of all processes, for who watches them."""
        await self._office.sums.add()

    async def number(self) -> None:
        """Give notices their places in the feed. Who reads it may have done so before."""
        await self._office.notices.number()

    async def notify_shops(self) -> None:
        """Let couriers go to the endpoints that have something to be sent."""
        await self._office.couriers.look()

    async def trim_rows(self) -> None:
        """Rows that have done their work."""
        office = self._office
        trimmed = await trim(office.database, office.settings.worker.retention)
        trimmed |= await trim_webhooks(office.database, office.settings.webhooks.retention_days)
        if trimmed:
            log.info("tables.trimmed", **trimmed)

    def _watcher(self, shard: int) -> Redis:
        return self._watchers[shard].redis


OfShard: TypeAlias = Callable[[Rounds, int], Awaitable[None]]
OfProcess: TypeAlias = Callable[[Rounds], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Round:
    """One row. `every`: seconds, or a setting of the worker. Its work is either of each shard or of the whole process."""

    name: str
    does: str
    every: float | str
    of_shard: OfShard | None = None
    of_process: OfProcess | None = None
    times: int = 1
    """Of its setting: the interval is so many of them."""
    after_s: float = 0.0
    """For the first time, so long after the start."""
    on_demand: bool = False
    """It waits by itself, for its interval or until somebody asks."""

    @property
    def scope(self) -> str:
        """Of what there is one."""
        return "process" if self.of_shard is None else "shard"

    def every_s(self, worker: WorkerSettings) -> float:
        """The interval, in seconds."""
        if not isinstance(self.every, str):
            return self.every
        value: float = getattr(worker, self.every)
        return self.times * (value / 1_000 if self.every.endswith("_ms") else value)

    def pause_s(self, worker: WorkerSettings) -> float:
        """What it is let wait between two of its works, in seconds."""
        return 0.0 if self.on_demand else self.every_s(worker)

    def works(self, rounds: Rounds, shards: int) -> Iterator[Callable[[], Awaitable[Any]]]:
        """What is to be done again and again: once for each shard, or once."""
        if self.of_shard is not None:
            yield from (partial(self.of_shard, rounds, shard) for shard in range(shards))
        if self.of_process is not None:
            yield partial(self.of_process, rounds)


ROUNDS: Final = (
    Round("guarding", "compares a Redis that has started, or gone back in time, with PostgreSQL, and opens its gate",
          "guard_ms", Rounds.guard, on_demand=True),
    Round("loading", "brings into Redis the events that it lacks", LOAD_S, Rounds.load, on_demand=True),
    Round("sweeping", "settles what no bell announced: late holds, lapsed leases, stock that PostgreSQL moved",
          "sweep_ms", Rounds.sweep),
    Round("numbering", "gives notices their places in the feed", "sweep_ms", of_process=Rounds.number),
    Round("calling_off", "ends and refunds the bookings of events that are called off", "sweep_ms", Rounds.call_off),
    Round("mending", "finishes, booking by booking, what one store decided and the other never heard",
          "lease_ms", Rounds.mend, times=2),
    Round("reconciling", "counts drift and logs it; mends nothing", "reconcile_s", Rounds.count_drift,
          after_s=COUNT_AFTER_S),
    Round("watching", "looks whether the gateway takes our key, and both stores keep what they acknowledge and let us work",
          WATCH_S, of_process=Rounds.watch),
    Round("beating", "says that the worker lives, for `boxoffice status`", BEAT_S, Rounds.beat),
    Round("summing", "adds what the worker has counted to the sums of all processes, for the page of operators", EVERY_S,
          of_process=Rounds.sum_up),
    Round("notifying", "sends notices to the endpoints of shops, to each by itself", "webhooks_ms",
          of_process=Rounds.notify_shops),
    Round("trimming", "deletes rows that have done their work", TRIM_S, of_process=Rounds.trim_rows, after_s=TRIM_S),
)  # fmt: skip
"""All of them."""
