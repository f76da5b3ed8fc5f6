"""What a connection wakes when the client of a request has gone that waits for something to happen."""

from __future__ import annotations

import asyncio

from api.transport.sent_away import Nobody

__all__ = ["Gone"]


class Gone(Nobody):
    """Stands where uvicorn wakes a request that waits for its body: woken when its client has gone, it lets go of it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def set(self) -> None:
        """Nobody wants the answer."""
        self._task.cancel()
