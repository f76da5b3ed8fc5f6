"""A shard's gate: open for one generation of its data and one run of its server (see lua/lib/gate.lua).

A server that has just started is unchecked: nothing is decided there until a guard has compared it with PostgreSQL.
Whoever meets it asks for that, and tries again: an ordinary restart is checked within a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import CannotRun, RunUnchecked
from boxoffice.stores import keys
from boxoffice.stores.redis import AWAY, run_of
from boxoffice.stores.refusals import refused_command
from boxoffice.stores.scripts import Commands
from boxoffice.stores.shard import Shard

__all__ = [
    "Gate",
    "GateSight",
    "Lacking",
    "ask",
    "ask_to_load",
    "look",
    "once_checked",
    "open_gate",
    "wait_until_called",
]

CALL_TTL_S: Final = 10
"""How long a call stays for a guard to hear."""

PAUSE_S: Final = 0.02
PAUSE_MAX_S: Final = 0.25
"""How long whoever meets an unchecked server waits before he tries again, first and at most."""

ASK_EVERY_S: Final = 1.0
"""How often one process asks for a load of a shard, however many miss something there."""

RECONNECT_S: Final = 0.02
"""How often a server that is away is tried by whoever waits to be asked."""

Answer = TypeVar("Answer")


class Gate(NamedTuple):
    """What the gate's key says."""

    generation: str
    run: str

    @classmethod
    def parse(cls, raw: bytes | None) -> Self | None:
        """None: closed."""
        if raw is None:
            return None
        generation, _, run = raw.decode(errors="replace").rpartition(":")
        return cls(generation or run, run if generation else "")

    def pack(self) -> str:
        """The key's value."""
        return f"{self.generation}:{self.run}"


class GateSight(NamedTuple):
    """A gate, and the run of the server that holds it."""

    gate: Gate | None
    run: str

    @property
    def word(self) -> str:
        """`open`, `closed` or `unchecked`."""
        if self.gate is None:
            return "closed"
        return "open" if self.gate.run == self.run else "unchecked"


async def look(shard: Shard) -> GateSight:
    """The gate as the server has it now. Raises Redis's errors, and `CannotRun` when it does not say who it is."""
    try:
        async with shard.redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.gate(shard.number))
            pipe.info("server")
            raw, info = await pipe.execute()
    except NoPermissionError as error:
        if refused_command(error) != "info":
            raise
        raise CannotRun("Redis does not tell its run_id. Allow our user INFO.") from error
    return GateSight(Gate.parse(raw), run_of(info))


async def open_gate(shard: Shard, gate: Gate) -> None:
    """Let the run that was looked at decide."""
    await shard.run("open", opened=keys.gate(shard.number), value=gate.pack())


async def ask(redis: Commands, shard: int) -> None:
    """Ask whoever guards the shard to look at its server now. If that fails, he looks within a second."""
    await _ask(redis, keys.unchecked(shard))


async def ask_to_load(redis: Commands, shard: int) -> None:
    """Ask whoever loads the shard's events to do it now: something is not there. If that fails, he loads in his time."""
    await _ask(redis, keys.lacking(shard))


class Lacking:
    """Asks for loads on behalf of all who meet an event without its counters. One per process is enough. `redis_of`: of which
    Redis a shard's workers hear."""

    def __init__(self, redis_of: Callable[[int], Commands], clock: Clock = CLOCK) -> None:
        self._redis_of = redis_of
        self._now_s = clock.now_s
        self._ask_at: dict[int, float] = {}
        self.asks: set[asyncio.Task[None]] = set()

    def met(self, shard: int) -> None:
        """Somebody has met one. Does not wait."""
        now_s = self._now_s()
        if now_s < self._ask_at.get(shard, now_s):
            return
        self._ask_at[shard] = now_s + ASK_EVERY_S
        task = asyncio.create_task(ask_to_load(self._redis_of(shard), shard))
        self.asks.add(task)
        task.add_done_callback(self.asks.discard)


async def _ask(redis: Commands, name: str) -> None:
    """However many ask, it is one question."""
    try:
        await redis.execute_command("LPUSH", name, "1")
        await redis.execute_command("LTRIM", name, 0, 0)
        await redis.execute_command("EXPIRE", name, CALL_TTL_S)
    except (RedisError, OSError):
        pass


async def once_checked(
    shard: Shard, call: Callable[[], Awaitable[Answer]], patience_s: float, clock: Clock = CLOCK
) -> Answer:
    """What the call says once this run of the server is checked, asking for that. Raises `RunUnchecked` when that takes
    longer than the patience, and whatever the call raises."""
    give_up, pause_s = clock.now_s() + patience_s, PAUSE_S
    while True:
        try:
            return await call()
        except RunUnchecked:
            if clock.now_s() + pause_s > give_up:
                raise
        await ask(shard.redis, shard.number)
        await clock.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


async def wait_until_called(redis: Redis, name: str, seconds: float, clock: Clock = CLOCK) -> bool:
    """Wait until somebody asks under this key, the server has gone and come back, or the time is up: then False.

    `redis` is a client of its own, which tries nothing again: a server that goes away ends the wait on its connection,
    and is tried until it answers.
    """
    try:
        return await redis.execute_command("BLPOP", name, seconds) is not None  # type: ignore[no-untyped-call]
    except AWAY:
        pass
    except RedisError:
        await clock.sleep(seconds)  # full, or without the right to it: look as often as ever
        return False
    while True:
        await clock.sleep(RECONNECT_S)
        try:
            await redis.ping()
            return True
        except AWAY:
            continue
        except RedisError:
            return True
