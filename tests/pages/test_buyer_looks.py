"""The shop front on a phone, enlarged, in the dark, by keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import Axe, Picture
from tests.support.browser import Watched
from tests.support.buyer import a_buyer
from tests.support.demo import Demo

WINDOWS: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
    "dark": {"color_scheme": "dark"},
    # A browser that enlarges a window of 1,280 pixels to 200 % lays out 640.
    "enlarged": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
}


async def fits(page: Page) -> None:
    """Nobody has to scroll sideways."""
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("window", WINDOWS)
async def test_it_can_be_read_and_used(watched: Watched, demo: Demo, axe: Axe, picture: Picture, window: str) -> None:
    event = await demo.open_sale(f"Seen on a {window}", VIP=10, GA=100)
    page = await watched.page(**WINDOWS[window])
    buyer = await a_buyer(page, demo)
    await page.goto(buyer.front)
    await expect(page.locator(".card").first).to_be_visible()
    await fits(page)
    await axe(page)
    await buyer.look_at(event)
    await buyer.choose(VIP=1)
    await fits(page)
    await axe(page)
    await picture(page, f"shop-{window}")
    await page.get_by_role("button", name="Hold these tickets").click()
    await buyer.sees("held")
    await fits(page)
    await axe(page)
    await buyer.pay()
    await buyer.sees("confirmed")
    await fits(page)
    await axe(page)


async def test_everything_can_be_done_by_keyboard(watched: Watched, demo: Demo) -> None:
    """And the focus goes to each new step, so that a screen reader reads it."""
    event = await demo.open_sale("No mouse", GA=5)
    page = await watched.page()
    buyer = await a_buyer(page, demo)

    async def focused() -> str:
        return str(await page.evaluate("document.activeElement.textContent.trim()"))

    async def tab_to(name: str) -> None:
        for _ in range(40):
            await page.keyboard.press("Tab")
            if name in (await page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")):
                return
        raise AssertionError(f"{name} cannot be reached")

    await buyer.look_at(event)
    await page.keyboard.press("Tab")
    await tab_to("One more, GA")
    await page.keyboard.press("Enter")
    await tab_to("Hold these tickets")
    await page.keyboard.press("Enter")
    await buyer.sees("held")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await tab_to("Pay $10.00")
    await page.keyboard.press("Enter")
    await buyer.sees("confirmed")
    await expect(page.get_by_role("heading", level=2)).to_be_focused()
    assert re.match("Confirmed", await focused())
    await tab_to("Cancel the booking")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await buyer.sees("confirmed")
