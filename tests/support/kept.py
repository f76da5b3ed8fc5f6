"""Sessions of PostgreSQL that stay open from test to test.

Each office opens a pool and an engine of its own, and most tests ask them a dozen statements: to connect, to prepare and to
compile those took longer than the rest. An office of a test gets those of the office before it, which had the same settings.
Whoever leaves a session in use, or ends the pool, leaves none to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from boxoffice.settings import Settings
from boxoffice.stores import postgres

__all__ = ["Kept"]

KINDS, OF_A_KIND = 6, 2
"""Pools and engines of so many different settings are kept, and so many of each: a server takes 200 sessions."""


class _Pool:
    """A pool that is lent: closing it gives it back."""

    def __init__(self, pool: asyncpg.Pool[Any], back: Callable[[asyncpg.Pool[Any]], None]) -> None:
        self._pool, self._back = pool, back

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def close(self) -> None:
        if self._pool.get_idle_size() == self._pool.get_size():
            self._back(self._pool)
        else:
            await self._pool.close()


class _Engine(AsyncEngine):
    """The same of an engine."""

    __slots__ = ("back",)
    back: Callable[[AsyncEngine], None]

    async def dispose(self, close: bool = True) -> None:
        if self.sync_engine.pool.checkedout() == 0:  # type: ignore[attr-defined]
            self.back(AsyncEngine(self.sync_engine))
        else:
            await super().dispose(close)


class Kept:
    """Of one loop and one role: commands that run in a thread, and roles that a test makes, get pools of their own."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._loop = asyncio.get_running_loop()
        self._free: dict[Hashable, list[Any]] = {}

    async def open_pool(self, settings: Settings, **sizes: int) -> Any:
        """As `postgres.open_pool`."""
        key = ("pool", settings.worker, *sorted(sizes.items()))
        if not self._ours(settings):
            return await postgres.open_pool(settings, **sizes)
        pool = self._taken(key) or await postgres.open_pool(settings, **sizes)
        return _Pool(pool, lambda pool: self._put(key, pool, pool.terminate))

    def open_engine(self, settings: Settings, **sizes: int) -> Any:
        """As `postgres.open_engine`."""
        key = ("engine", settings.worker, *sorted(sizes.items()))
        if not self._ours(settings):
            return postgres.open_engine(settings, **sizes)
        kept = self._taken(key) or postgres.open_engine(settings, **sizes)
        engine = _Engine(kept.sync_engine)
        engine.back = lambda engine: self._put(key, engine, lambda: engine.sync_engine.dispose(close=False))
        return engine

    async def close(self) -> None:
        """End them all."""
        for free in self._free.values():
            for each in free:
                await (each.close() if isinstance(each, asyncpg.Pool) else each.dispose())

    def _ours(self, settings: Settings) -> bool:
        try:
            return settings.database_url == self._database_url and asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _taken(self, key: Hashable) -> Any:
        free = self._free.get(key)
        return free.pop() if free else None

    def _put(self, key: Hashable, each: Any, end: Callable[[], Any]) -> None:
        free = self._free.setdefault(key, []) if len(self._free) < KINDS else self._free.get(key)
        if free is None or len(free) == OF_A_KIND:
            end()
        else:
            free.append(each)
