"""Whether this process can keep its promises now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Final

from redis.exceptions import RedisError

from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import BoxOfficeError, StoreAway
from boxoffice.gateway.base import PaymentGateway
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.stores import durability, gate, keys, postgres_rights, redis_rights
from boxoffice.stores import redis as redis_client
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT, check_schema
from boxoffice.stores.redis import AWAY
from boxoffice.stores.redis_rights import Role
from boxoffice.stores.refusals import refusal
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["Readiness"]


TIMEOUT_S: Final = 2.0
"""A store that takes longer is not ready."""

GATEWAY_S: Final = 15.0
"""How long it is remembered whether the gateway takes our key."""

WRITABLE_S: Final = 0.5
"""How long it is remembered that Redis took a write: each is an fsync, and probes are many."""

PROBE_TTL_S: Final = 60

DURABILITY_S: Final = 5.0
"""How long the stores' durability settings are remembered: they seldom change, and probes are many."""


FULL: Final = {
    "OOM": ": its memory is full, see its maxmemory",
    "MISCONF": ": it cannot write to its disk",
    "NOREPLICAS": ": too few of its replicas are connected",
}
"""Why it refuses every write, by the word with which it does."""

Check = Callable[[bool], Awaitable[str]]
"""What is wrong with a part, in a sentence; empty when nothing is. Is told whether durability was found good a moment ago."""

WORDS: Final = {"closed": "closed", "unchecked": "closed until this run of Redis is checked"}


class Readiness:
    """Asks both stores, once for all who ask at the same time. Remembers only that their durability was good."""

    def __init__(
        self, shards: Shards, database: Database, catalogue: Catalogue, gateway: PaymentGateway, settings: Settings,
        clock: Clock = CLOCK,
    ) -> None:  # fmt: skip
        self._shards = shards
        self._database = database
        self._events = catalogue
        self._bank = gateway
        self._settings = settings
        self._now_s = clock.now_s
        self._durable_until = 0.0
        self._writable_until = 0.0
        self._gateway_until, self._gateway_says = 0.0, ""
        self._looks: dict[str, asyncio.Task[dict[str, str]]] = {}
        """The last of each kind: who asks while it is under way waits for it."""

    async def reasons(self) -> dict[str, str]:
        """What a process that takes bookings lacks, by part; nothing when ready."""
        return await self._look(
            "api",
            {
                "redis": self.redis,
                "postgresql": self._postgresql,
                "catalogue": self._catalogue,
                "gateway": self._gateway,
            },
        )

    async def of_worker(self) -> dict[str, str]:
        """What one that settles them lacks. Gates are not asked for: it is workers who open them."""
        postgresql = partial(self._postgresql, role="worker")
        checks: dict[str, Check] = {"redis": self._workers_redis, "postgresql": postgresql, "gateway": self._gateway}
        return await self._look("worker", checks)

    async def _look(self, kind: str, checks: dict[str, Check]) -> dict[str, str]:
        """Probes need no key, and a look costs an fsync. It goes on when whoever began it hangs up."""
        look = self._looks.get(kind)
        if look is None or look.done():
            look = self._looks[kind] = asyncio.create_task(self._missing(checks), context=Context())
        return await asyncio.shield(look)

    async def _missing(self, checks: dict[str, Check]) -> dict[str, str]:
        durable = self._now_s() < self._durable_until
        found = await asyncio.gather(*(_reason(check, durable) for check in checks.values()))
        missing = {name: reason for name, reason in zip(checks, found, strict=True) if reason}
        if not missing and not durable:
            self._durable_until = self._now_s() + DURABILITY_S
        return missing

    async def redis(self, durable: bool) -> str:
        """What is wrong with Redis, in a sentence; empty when nothing is."""
        await self._redis_rights(durable, "api")
        words = {shard.number: (await gate.look(shard)).word for shard in self._shards}
        if wrong := await self._servers(durable):
            return wrong
        shut = [f"The gate of shard {shard} is {WORDS[word]}." for shard, word in words.items() if word != "open"]
        return " ".join(shut)

    async def _workers_redis(self, durable: bool) -> str:
        """The same of a worker, whatever stands at its gates."""
        await self._redis_rights(durable, "worker")
        return await self._servers(durable)

    async def _redis_rights(self, durable: bool, role: Role) -> None:
        """First of all: whoever lacks a right is told which, and not what came of it."""
        for redis in () if durable else self._shards.clients:
            await redis_rights.check_rights(redis, role)

    async def _servers(self, durable: bool) -> str:
        for redis in self._shards.clients:
            if not await redis_client.takes_writes(redis):
                return "It is a replica, and takes no writes."
            if not durable:
                await durability.check_redis(redis, self._settings)
        await self._try_to_write()
        return ""

    async def _try_to_write(self) -> None:
        """What an admission would meet: full memory, a disk that takes no more, missing replicas. Raises `StoreAway`."""
        if self._now_s() < self._writable_until:
            return
        try:
            for shard in self._shards:
                await shard.redis.set(keys.probe(shard.number), "1", ex=PROBE_TTL_S)
        except AWAY:
            raise
        except RedisError as error:
            code = refusal(error)
            raise StoreAway(f"It takes no writes ({code}){FULL.get(code, '')}.") from error
        self._writable_until = self._now_s() + WRITABLE_S

    async def _postgresql(self, durable: bool, role: Role = "api") -> str:
        database = self._database
        if durable:
            await database.fetchval("SELECT 1")
        else:
            await postgres_rights.check_rights(database, role)
            await check_schema(database)
            await durability.check_postgresql(database, self._settings)
            await durability.check_shards(database, self._settings)
        return ""

    async def _gateway(self, _durable: bool) -> str:
        """Only what is wrong with us there: a gateway that does not answer is waited for by the workers, and bookings are
        taken meanwhile."""
        if self._now_s() >= self._gateway_until:
            self._gateway_until = self._now_s() + GATEWAY_S
            try:
                async with asyncio.timeout(TIMEOUT_S / 2):
                    self._gateway_says = await self._bank.trouble()
            except TimeoutError:
                self._gateway_says = ""
        code = self._gateway_says
        return f"It refuses us, whatever the card ({code}): look at BOXOFFICE_GATEWAY__API_KEY." if code else ""

    async def _catalogue(self, _durable: bool) -> str:
        await self._events.events()
        return ""


async def _reason(check: Check, durable: bool) -> str:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await check(durable)
    except BoxOfficeError as error:
        return error.detail
    except (RedisError, *TRANSIENT) as error:
        return f"It does not answer ({type(error).__name__})."
    except Exception as error:
        seldom.exception("readiness.failed", error)
        return f"It could not be asked ({type(error).__name__})."
