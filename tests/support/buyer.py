"""Somebody who buys at the shop front, with eyes and hands: what is on the page, and its controls by what they are called."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
from playwright.async_api import Page, Response, Route, expect

from boxoffice.sales.catalogue import EventView
from tests.support.demo import Demo
from tests.support.waiting import eventually

__all__ = ["Buyer", "a_buyer"]


class Buyer:
    """One window of the shop front."""

    def __init__(self, page: Page, demo: Demo, front: str) -> None:
        self.page = page
        self.demo = demo
        self.front = front

    async def look_at(self, event: EventView) -> None:
        """Open its page, once the API knows it."""
        key = await self.demo.key("browse")

        async def known() -> bool:
            async with httpx2.AsyncClient() as client:
                url = f"{self.demo.url}/v1/events/{event.id}"
                return (await client.get(url, headers={"Authorization": f"Bearer {key}"})).status_code == 200

        await eventually(known)
        await self.page.goto(f"{self.front}/#/event/{event.id}")
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(event.name)

    async def choose(self, **tickets: int) -> None:
        """So many of each tier, with its plus button."""
        for code, count in tickets.items():
            for _ in range(count):
                await self.page.get_by_role("button", name=f"One more, {code}", exact=True).click()

    async def hold(self, event: EventView, **tickets: int) -> str:
        """Tickets of an event, held. Returns the booking's id."""
        await self.look_at(event)
        await self.choose(**tickets)
        await self.page.get_by_role("button", name="Hold these tickets").click()
        await self.sees("held")
        return self.booking()

    async def pay(self, card: str = "Good card") -> None:
        """Press the button, with this card."""
        if card != "Good card":
            await self.page.get_by_role("radio", name=re.compile(f"^{card}")).check()
        await self.page.get_by_role("button", name=re.compile("^Pay ")).click()

    async def sees(self, status: str) -> None:
        """The booking that is looked at has come to this state."""
        await expect(self.page.locator(f"[data-status={status}]")).to_be_visible()

    async def reads(self, text: str | re.Pattern[str]) -> None:
        """This stands somewhere on the page."""
        await expect(self.page.get_by_text(text).first).to_be_visible()

    def booking(self) -> str:
        """The id of the booking that is looked at."""
        return self.page.url.rpartition("/")[2]

    async def holds_for(self, seconds: int) -> None:
        """What it holds from now on, it holds for so long."""

        async def shorter(route: Route) -> None:
            body = json.loads(route.request.post_data or "{}")
            await route.continue_(post_data=json.dumps(body | {"hold_s": seconds}))

        await self.page.route(re.compile(r"/shop/bookings$"), lambda route: _if_posted(route, shorter))

    async def answers_to(self, verb: str) -> Response:
        """The next answer to such a request of the page."""
        async with self.page.expect_response(re.compile(f"/shop/bookings.*{verb}$")) as response:
            pass
        return await response.value


async def _if_posted(route: Route, handle: Any) -> None:
    await (handle(route) if route.request.method == "POST" else route.continue_())


async def a_buyer(page: Page, demo: Demo) -> Buyer:
    """In this window, at the demo's shop front."""
    front = await demo.front_url()
    assert front, "the API sends buyers to the shop front"
    return Buyer(page, demo, front)
