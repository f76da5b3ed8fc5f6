"""A database whose pool is what a test says: a pool of its own, one that answers from a list, or none at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from boxoffice.settings import Settings
from boxoffice.stores.database import Database


class DatabaseOf(Database):
    """The product's own, over another pool."""

    def __init__(self, pool: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(Settings())
        self._get = pool

    async def pool(self) -> Any:
        return await self._get()
