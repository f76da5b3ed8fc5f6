"""Whether idempotency keys were used before: what tells the repeat of a booking from a new one, for a fraction of a call of the
script. Only of bookings that are refused if they are new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from redis.exceptions import RedisError

from boxoffice.errors import GateClosed
from boxoffice.stores.scripts import Commands
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import ADMISSIONS

__all__ = ["AT_ONCE", "FirstUses"]

AT_ONCE: Final = 256
"""Keys in one command: Redis does nothing else meanwhile."""

Answer = Callable[[bool], None]

_refused = ADMISSIONS.cell("rate_limited")


class FirstUses:
    """Of one shard: one command for all who ask in a turn of the loop, or while the command before it is under way. So nobody
    is told what was read before it asked."""

    def __init__(self, redis: Commands, here: Shard) -> None:
        self._redis = redis
        self._here = here
        self._waiting: list[tuple[str, Answer]] = []
        self._task: asyncio.Task[None] | None = None
        self._context = Context()
        """A command is for many requests, and sent in the name of none."""

    def ask(self, name: str, answer: Answer) -> None:
        """`answer` is called once, from the loop: whether there is a booking under this name. Nobody knows while Redis does not
        answer, or may have forgotten some, as its gate is not open: then as if there were one, and the script has a word for
        it."""
        self._waiting.append((name, answer))
        if self._task is None:
            self._begin()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)

    async def drained(self) -> None:
        """Return once everybody was told."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._answer(waiting)
        finally:
            self._task = None
            if self._waiting:
                self._begin()

    async def _answer(self, waiting: list[tuple[str, Answer]]) -> None:
        found: list[Any] = [b"nobody knows"] * len(waiting)
        try:
            came = await self._here.call("read", records=[name for name, _ in waiting]).send(self._redis)
            found = [first for _, first in zip(waiting, came, strict=True)]
        except (RedisError, OSError, GateClosed):
            pass
        except Exception as error:
            seldom.exception("admission.failed", error, bookings=len(waiting))
        finally:
            # Also when it was cancelled: each of them waits for a word.
            self._answer_each(waiting, found)

    def _answer_each(self, waiting: list[tuple[str, Answer]], found: list[Any]) -> None:
        if REGISTRY.counts:
            _refused.add(found.count(None))
        for (_, answer), first in zip(waiting, found, strict=True):
            try:
                answer(first is not None)
            except Exception as error:
                # A client whose answer could not be sent asks again; the others still have to be answered.
                seldom.exception("admission.untold", error)
