"""Stripe's package over httpx2: on its own it knows only httpx and aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import httpx2
import stripe

__all__ = ["Transport"]


class Transport(stripe.HTTPClient):
    """The few methods that the package's asynchronous calls need."""

    name = "httpx2"

    def __init__(self, timeout_s: float, connections: int) -> None:
        super().__init__()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=connections)
        self._client = httpx2.AsyncClient(timeout=timeout_s, limits=limits)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request. Raises `stripe.APIConnectionError` when nobody answers."""
        try:
            response = await self._client.request(method, url, headers=dict(headers), content=post_data or b"")
        except (httpx2.HTTPError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            raise stripe.APIConnectionError(type(error).__name__) from error  # type: ignore[no-untyped-call]
        return response.content, response.status_code, response.headers

    def sleep_async(self, secs: float) -> Coroutine[Any, Any, None]:
        """Between retries, which we do not let the package make."""
        return asyncio.sleep(secs)

    async def close_async(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
