"""How a gateway that is far away is called: with a deadline, and not all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from boxoffice.gateway.base import Unknown
from boxoffice.telemetry.outages import outages

__all__ = ["in_parallel", "within"]

AWAY_AFTER: Final = 5
"""Calls one after another that had no answer in time."""

_R = TypeVar("_R")
_A = TypeVar("_A")


async def within(seconds: float, call: Awaitable[_A]) -> _A | Unknown:
    """The call's outcome, or `Unknown` when the gateway takes longer or cannot be reached."""
    outcome: _A | Unknown
    try:
        async with asyncio.timeout(seconds):
            outcome = await call
    except TimeoutError:
        outcome = Unknown("timeout")
    except OSError as error:
        outcome = Unknown(f"unreachable: {type(error).__name__}")
    _note(outcome)
    return outcome


def _note(outcome: object) -> None:
    """Whether the gateway answers, for the log. One that is slow with one card is not away: it has answered nobody for so many
    calls."""
    global _unanswered
    if not (isinstance(outcome, Unknown) and outcome.reason.startswith(("timeout", "unreachable"))):
        _unanswered = 0
        outages.met("gateway")
        return
    _unanswered += 1
    if _unanswered >= AWAY_AFTER or outcome.reason != "timeout":
        outages.missed("gateway", outcome.reason)


_unanswered = 0
"""Calls since the last that was answered."""


def in_parallel(
    call: Callable[[_R], Coroutine[Any, Any, _A]], requests: Iterable[_R], limit: asyncio.Semaphore
) -> list[asyncio.Task[_A]]:
    """Batches for a gateway that has none: one running task a request, so many at a time."""

    async def one(request: _R) -> _A:
        async with limit:
            return await call(request)

    return [asyncio.create_task(one(request)) for request in requests]
