"""A shard's gate: open for one generation of its data and one run of its server (see lua/lib/gate.lua).

A server that has just started is unchecked: nothing is decided there until a guard has compared it with PostgreSQL.
Whoever meets it asks for that, and tries again: an ordinary restart is checked within a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from boxoffice import keys
from boxoffice.errors import CannotRun, RunUnchecked
from boxoffice.redis import AWAY, run_of
from boxoffice.scripts import Commands, Scripts

__all__ = ["Gate", "GateSight", "ask", "look", "once_checked", "open_gate", "wait_until_asked"]

ASKED_TTL_S: Final = 10
"""How long a question stays for a guard to hear."""

PAUSE_S: Final = 0.02
PAUSE_MAX_S: Final = 0.25
"""How long whoever meets an unchecked server waits before he tries again, first and at most."""

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


async def look(redis: Redis, shard: int) -> GateSight:
    """The gate as the server has it now. Raises Redis's errors, and `CannotRun` when it does not say who it is."""
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.gate(shard))
            pipe.info("server")
            raw, info = await pipe.execute()
    except NoPermissionError as error:
        raise CannotRun("Redis does not tell its run_id. Allow our user INFO.") from error
    return GateSight(Gate.parse(raw), run_of(info))


async def open_gate(redis: Redis, scripts: Scripts, shard: int, gate: Gate) -> None:
    """Let the run that was looked at decide."""
    await scripts.open(redis, [keys.gate(shard), keys.bell(shard)], [gate.pack()])


async def ask(redis: Commands, shard: int) -> None:
    """Ask whoever guards the shard to look at its server now. If that fails, he looks within a second."""
    name = keys.asked(shard)
    try:
        await redis.execute_command("LPUSH", name, "1")
        await redis.execute_command("LTRIM", name, 0, 0)
        await redis.execute_command("EXPIRE", name, ASKED_TTL_S)
    except (RedisError, OSError):
        pass


async def once_checked(redis: Commands, shard: int, call: Callable[[], Awaitable[Answer]], patience_s: float) -> Answer:
    """What the call says once this run of the server is checked, asking for that. Raises `RunUnchecked` when that takes
    longer than the patience, and whatever the call raises."""
    give_up, pause_s = time.monotonic() + patience_s, PAUSE_S
    while True:
        try:
            return await call()
        except RunUnchecked:
            if time.monotonic() + pause_s > give_up:
                raise
        await ask(redis, shard)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


async def wait_until_asked(redis: Redis, shard: int, seconds: float) -> None:
    """Wait until somebody asks for a look at the shard, its server has gone and come back, or the time is up.

    `redis` is a client of its own, which tries nothing again: a server that goes away ends the wait on its connection,
    and is tried until it answers.
    """
    try:
        await redis.execute_command("BLPOP", keys.asked(shard), seconds)  # type: ignore[no-untyped-call]
        return
    except AWAY:
        pass
    except RedisError:
        await asyncio.sleep(seconds)  # full, or without the right to it: look as often as ever
        return
    while True:
        await asyncio.sleep(RECONNECT_S)
        try:
            await redis.ping()
            return
        except AWAY:
            continue
        except RedisError:
            return
