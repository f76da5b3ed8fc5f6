"""Sends the simulator's webhooks, also twice and out of order where the card says so."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httpx2

from . import scenario, webhooks
from .base import GatewayEvent

__all__ = ["Deliveries"]

_TRIES: Final = 6
"""Times a webhook is sent until somebody answers 2xx: half a second apart at first, 16 s at last."""

_AT_ONCE: Final = 16
"""Webhooks on their way at the same moment."""


class Deliveries:
    """Webhooks to one address. They are forgotten when the process ends: whoever waits for one looks up instead."""

    def __init__(self, url: str, secret: str, held_back_s: float) -> None:
        self._url = url
        self._secret = secret
        self._held_back_s = held_back_s
        """How much later a duplicate comes, and an authorisation that should come last."""
        self._client = httpx2.AsyncClient(timeout=5)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, lines: list[str]) -> None:
        """Tell of what the ledger just wrote."""
        for line in lines:
            payment_key, word, _, _ = line.split(" ")
            event = webhooks.event_of(payment_key, word)
            if event is None:
                continue
            behaviour = scenario.read(word).behaviour
            last = behaviour == "reordered" and event.kind == "authorized"
            self._start(event, self._held_back_s if last else 0)
            if behaviour == "twice":
                self._start(event, self._held_back_s)

    async def close(self) -> None:
        """Stop sending."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.aclose()

    def _start(self, event: GatewayEvent, delay_s: float) -> None:
        task = asyncio.create_task(self._deliver(event, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, event: GatewayEvent, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for attempt in range(_TRIES):
            async with self._limit:
                if await self._post(event):
                    return
            await asyncio.sleep(0.5 * 2**attempt)

    async def _post(self, event: GatewayEvent) -> bool:
        body = webhooks.event_body(event)
        headers = webhooks.sign(self._secret, event.id, body, time.time())
        try:
            response = await self._client.post(self._url, content=body, headers=headers)
        except httpx2.HTTPError:
            return False
        return response.is_success
