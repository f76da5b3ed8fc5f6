"""A shop's program that follows the feed, in a rush: it keeps each page together with the cursor behind it, ends at any moment,
and goes on from what it has kept."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, Final

from ops.rush.http_client import HttpClient, NoAnswer, NotSent

__all__ = ["Follower"]

WAIT_S: Final = 2
"""It asks for the next notice to be waited for so long: less than its connections wait for an answer."""

PAGE: Final = 200

DIES: Final = 0.05
"""Share of pages with which it ends before they are kept."""

PAUSE_S: Final = 0.1
"""Where nobody answers, before it asks the next API process."""


class Follower:
    """Of one shop. What it has kept is a list of notices, and the cursor behind the last of them."""

    def __init__(self, apis: Sequence[HttpClient], api_key: str, chance: random.Random) -> None:
        self._apis = apis
        self._authorization = f"Authorization: Bearer {api_key}\r\n".encode()
        self._chance = chance
        self._turn = 0
        self._may = asyncio.Event()
        self._may.set()
        self._cursor: str | None = None
        self.copy: list[dict[str, Any]] = []
        """Notices in the order of the feed, each with its cursor."""
        self.ends = 0
        """How often it ended with a page in its hands."""
        self.anew = 0
        """How often its cursor was gone, so that it read from the oldest notice again."""
        self.faults: list[str] = []
        """Answers that should never have been."""

    def stop(self) -> None:
        """It runs no more."""
        self._may.clear()

    def resume(self) -> None:
        """It runs, from what it has kept."""
        self._may.set()

    async def follow(self) -> None:
        """For ever."""
        while True:
            await self._may.wait()
            page = await self._page(WAIT_S)
            if page is None:
                await asyncio.sleep(PAUSE_S)
            elif not self._may.is_set() or (page["data"] and self._chance.random() < DIES):
                self.ends += 1
            else:
                self._keep(page)

    async def catch_up(self) -> bool:
        """Read to the end. Returns whether it got there."""
        while (page := await self._page(0)) is not None:
            self._keep(page)
            if not page["more"] and not page["data"]:
                return True
        return False

    def _keep(self, page: dict[str, Any]) -> None:
        """In one transaction of the shop's."""
        self.copy += page["data"]
        self._cursor = page["cursor"]

    async def _page(self, wait_s: int) -> dict[str, Any] | None:
        """Behind the cursor. None: nobody answered, or there was no page."""
        after = "" if self._cursor is None else f"&after={self._cursor}"
        self._turn += 1
        api = self._apis[self._turn % len(self._apis)]
        try:
            answer = await api.request("GET", f"/v1/feed?limit={PAGE}&wait={wait_s}{after}", self._authorization)
        except (NotSent, NoAnswer):
            return None
        if answer.status == 200:
            page: dict[str, Any] = json.loads(answer.body)
            return page
        if answer.status == 410:
            self._cursor, self.copy = None, []
            self.anew += 1
        elif answer.status not in (429, 503):
            self.faults.append(f"feed: {answer.status} {answer.body[:200].decode(errors='replace')}")
        return None
