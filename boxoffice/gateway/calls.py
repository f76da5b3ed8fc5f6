"""How a gateway that is far away is called: with a deadline, and not all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from boxoffice.gateway.base import Unknown

__all__ = ["in_parallel", "within"]

_R = TypeVar("_R")
_A = TypeVar("_A")


async def within(seconds: float, call: Awaitable[_A]) -> _A | Unknown:
    """The call's outcome, or `Unknown` when the gateway takes longer or cannot be reached."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        return Unknown("timeout")
    except OSError as error:
        return Unknown(f"unreachable: {type(error).__name__}")


def in_parallel(
    call: Callable[[_R], Coroutine[Any, Any, _A]], requests: Iterable[_R], limit: asyncio.Semaphore
) -> list[asyncio.Task[_A]]:
    """Batches for a gateway that has none: one running task a request, so many at a time."""

    async def one(request: _R) -> _A:
        async with limit:
            return await call(request)

    return [asyncio.create_task(one(request)) for request in requests]
