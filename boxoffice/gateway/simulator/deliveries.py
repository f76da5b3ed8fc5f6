"""Sends the simulator's webhooks, also twice and out of order where the card says so."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httpx2
from msgspec import Struct

from boxoffice.gateway.simulator import scenario, signing
from boxoffice.gateway.webhooks import GatewayEvent

__all__ = ["Deliveries", "Tally"]

_TRIES: Final = 6
"""Times a webhook is sent until somebody answers 2xx: half a second apart at first, 16 s at last."""

_AT_ONCE: Final = 16
"""Webhooks on their way at the same moment."""


class Tally(Struct):
    """How the sending goes."""

    events: int = 0
    """Things that happened and were to be told."""
    heard: int = 0
    """Of them, those that somebody has answered with 2xx."""
    repeats: int = 0
    """Further deliveries that were answered with 2xx, of events that had been heard."""
    given_up: int = 0
    waiting: int = 0
    """Deliveries on their way, or held back."""


class Deliveries:
    """Webhooks to one address. They are forgotten when the process ends: whoever waits for one looks up instead."""

    def __init__(self, url: str, secret: str, held_back_s: float) -> None:
        self._url = url
        self._secret = secret
        self._held_back_s = held_back_s
        """How much later a duplicate comes, and an authorisation that should come last."""
        self.client = httpx2.AsyncClient(timeout=5)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self.tasks: set[asyncio.Task[None]] = set()
        self._heard: set[str] = set()
        self._tally = Tally()

    @property
    def tally(self) -> Tally:
        """How the sending goes."""
        self._tally.heard, self._tally.waiting = len(self._heard), len(self.tasks)
        return self._tally

    def changed(self, lines: list[str]) -> None:
        """Tell of what the ledger just wrote."""
        for line in lines:
            payment_key, word, _, _ = line.split(" ")
            event = signing.event_of(payment_key, word)
            if event is None:
                continue
            behaviour = scenario.read(word).behaviour
            self._tally.events += 1
            last = behaviour == "reordered" and event.kind == "authorized"
            self._start(event, self._held_back_s if last else 0)
            if behaviour == "twice":
                self._start(event, self._held_back_s)

    async def close(self) -> None:
        """Stop sending."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.client.aclose()

    def _start(self, event: GatewayEvent, delay_s: float) -> None:
        task = asyncio.create_task(self._deliver(event, delay_s))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _deliver(self, event: GatewayEvent, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for attempt in range(_TRIES):
            async with self._limit:
                if await self._post(event):
                    self._tally.repeats += event.id in self._heard
                    self._heard.add(event.id)
                    return
            await asyncio.sleep(0.5 * 2**attempt)
        self._tally.given_up += 1

    async def _post(self, event: GatewayEvent) -> bool:
        body = signing.event_body(event)
        headers = signing.sign(self._secret, event.id, body, time.time())
        try:
            response = await self.client.post(self._url, content=body, headers=headers)
        except httpx2.HTTPError:
            return False
        return response.is_success
