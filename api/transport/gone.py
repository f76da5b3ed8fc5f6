"""What a connection wakes when the client of a request has gone that waits for something to happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from api.transport.reply import Reply
from api.transport.sent_away import Nobody

__all__ = ["Gone"]

_Answer = Coroutine[Any, Any, Reply]


class _Read(Protocol):
    def __call__(self, *, waits: bool) -> _Answer: ...


class Gone(Nobody):
    """Stands where uvicorn wakes a request that waits for its body: woken when its client has gone, it lets go of it.

    `answer` begins a task that answers by what it is given.
    """

    def __init__(self, answer: Callable[[_Answer], asyncio.Task[None]], read: _Read, *, waits: bool) -> None:
        self._answer = answer
        self._read = read
        self._task = self._begin(waits)

    def _begin(self, waits: bool) -> asyncio.Task[None]:
        read = self._read(waits=waits)
        task = self._answer(read)
        task.add_done_callback(lambda _: read.close())  # cancelled before it began, nobody has awaited it
        return task

    def set(self) -> None:
        """Nobody wants the answer."""
        self._task.cancel()

    def end(self) -> None:
        """The client sends no more, which is all we learn when it goes. It may read: it is answered as who does not wait."""
        self._task.cancel()
        self._task = self._begin(False)
