"""Whether this process can keep its promises now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from boxoffice.errors import BoxOfficeError, StoreAway
from boxoffice.office import BoxOffice
from boxoffice.stores import durability, gate, keys
from boxoffice.stores import redis as redis_client
from boxoffice.stores.postgres import TRANSIENT, check_schema
from boxoffice.stores.redis import AWAY
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


WORDS: Final = {"closed": "closed", "unchecked": "closed until this run of Redis is checked"}


class Readiness:
    """Asks both stores. Remembers only that their durability was good."""

    def __init__(self, office: BoxOffice) -> None:
        self._office = office
        self._durable_until = 0.0
        self._writable_until = 0.0
        self._gateway_until, self._gateway_says = 0.0, ""

    async def reasons(self) -> dict[str, str]:
        """What is missing, by part; nothing when ready."""
        durable = time.monotonic() < self._durable_until
        checks = {
            "redis": self.redis,
            "postgresql": self._postgresql,
            "catalogue": self._catalogue,
            "gateway": self._gateway,
        }
        found = await asyncio.gather(*(_reason(check, durable) for check in checks.values()))
        missing = {name: reason for name, reason in zip(checks, found, strict=True) if reason}
        if not missing and not durable:
            self._durable_until = time.monotonic() + DURABILITY_S
        return missing

    async def redis(self, durable: bool) -> str:
        """What is wrong with Redis, in a sentence; empty when nothing is."""
        office = self._office
        words = {shard.number: (await gate.look(shard)).word for shard in office.shards}
        for redis in office.shards.clients:
            if not await redis_client.takes_writes(redis):
                return "It is a replica, and takes no writes."
            if not durable:
                await durability.check_redis(redis, office.settings)
        await self._try_to_write()
        shut = [f"The gate of shard {shard} is {WORDS[word]}." for shard, word in words.items() if word != "open"]
        return " ".join(shut)

    async def _try_to_write(self) -> None:
        """What an admission would meet: full memory, a disk that takes no more, missing replicas. Raises `StoreAway`."""
        if time.monotonic() < self._writable_until:
            return
        try:
            for shard in self._office.shards:
                await shard.redis.set(keys.probe(shard.number), "1", ex=PROBE_TTL_S)
        except AWAY:
            raise
        except RedisError as error:
            raise StoreAway(f"It takes no writes ({redis_client.refusal(error)}).") from error
        self._writable_until = time.monotonic() + WRITABLE_S

    async def _postgresql(self, durable: bool) -> str:
        database = self._office.database
        if durable:
            await database.fetchval("SELECT 1")
        else:
            await check_schema(database)
            await durability.check_postgresql(database, self._office.settings)
            await durability.check_shards(database, self._office.settings)
        return ""

    async def _gateway(self, _durable: bool) -> str:
        """Only what is wrong with us there: a gateway that does not answer is waited for by the workers, and bookings are
        taken meanwhile."""
        if time.monotonic() >= self._gateway_until:
            self._gateway_until = time.monotonic() + GATEWAY_S
            try:
                async with asyncio.timeout(TIMEOUT_S / 2):
                    self._gateway_says = await self._office.gateway.trouble()
            except TimeoutError:
                self._gateway_says = ""
        code = self._gateway_says
        return f"It refuses us, whatever the card ({code}): look at BOXOFFICE_GATEWAY__API_KEY." if code else ""

    async def _catalogue(self, _durable: bool) -> str:
        await self._office.catalogue.events()
        return ""


async def _reason(check: Callable[[bool], Awaitable[str]], durable: bool) -> str:
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
