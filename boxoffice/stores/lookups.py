"""Look-ups of one turn of the event loop, made in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

__all__ = ["BatchedReads"]

V = TypeVar("V")


class BatchedReads(Generic[V]):
    """Collects what is asked for until the loop has nothing else to do, then reads all of it at once.

    A caller never gets a value that was read before it asked: who asks during a read joins the next one.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Mapping[str, V]]], *, most: int) -> None:
        self.read = read
        self._most = most
        self._waiting: dict[str, list[asyncio.Future[V | None]]] = {}
        self.calls: set[asyncio.Task[None]] = set()

    async def ask(self, name: str) -> V | None:
        """What `read` finds under the name. Raises what `read` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.setdefault(name, []).append(future)
        return await future

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        names = list(waiting)
        for at in range(0, len(names), self._most):
            chunk = {name: waiting[name] for name in names[at : at + self._most]}
            task = asyncio.get_running_loop().create_task(self._answer(chunk))
            self.calls.add(task)
            task.add_done_callback(self.calls.discard)

    async def _answer(self, chunk: dict[str, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self.read(list(chunk))
        except Exception as error:
            for futures in chunk.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for name, futures in chunk.items():
            value = found.get(name)
            for future in futures:
                if not future.done():
                    future.set_result(value)
