"""A box office as `make run` starts it, and a browser that looks at it.

Where no Chromium is, or no Playwright, these tests are skipped, and say so. With `PICTURES=docs` in the environment, pictures
go to `docs/pages/`, which docs/pages.md shows; else to a folder of the test.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.demo import Demo, a_demo

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from tests.support.browser import Watched


@pytest.fixture(scope="session")
async def demo() -> AsyncIterator[Demo]:
    """Runs for all tests of this process: each puts its own event on sale."""
    async with a_demo() as demo:
        yield demo


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    pytest.importorskip("playwright", reason="Playwright is not installed here, so no page was looked at.")
    from tests.support.browser import a_browser, browser_path

    path = browser_path()
    if path is None:
        pytest.skip("No Chromium is installed here (Debian: apt install chromium), so no page was looked at.")
    async with a_browser(path) as browser:
        yield browser


@pytest.fixture
async def watched(browser: Browser, demo: Demo) -> AsyncIterator[Watched]:
    """Windows of this test: `await watched.page(color_scheme="dark")`. What goes wrong in any of them fails it at its end,
    unless it said `watched.allow("…")`."""
    from tests.support.browser import Watched

    watched = Watched(browser, demo.url)
    yield watched
    await watched.close()
    assert watched.wrong == []


@pytest.fixture
async def page(watched: Watched) -> Page:
    """A window as wide as a laptop's."""
    return await watched.page()


Axe = Callable[..., Awaitable[None]]


@pytest.fixture
def axe() -> Axe:
    """`await axe(page)` fails when axe finds something serious; of a part, `await axe(page, "main")`."""
    from tests.support.browser import look_with_axe

    async def look(page: Page, within: str = "body") -> None:
        assert await look_with_axe(page, within) in ([], None)

    return look


Picture = Callable[..., Awaitable[Path]]


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """`await picture(page, "ops-paused")` leaves a picture of what is seen now."""
    from tests.support.browser import PICTURES, take_picture

    folder = PICTURES if os.environ.get("PICTURES") == "docs" else tmp_path

    async def take(page: Any, name: str) -> Path:
        return await take_picture(page, folder / f"{name}.png")

    return take


SignIn = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def sign_in(demo: Demo) -> SignIn:
    """`await sign_in(page)` leaves an operator in the room, with the first figures there."""
    from playwright.async_api import expect

    async def work(page: Page) -> Page:
        await page.goto("/ops")
        await page.get_by_label("API key").fill(await demo.key("ops"))
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#room")).to_be_visible()
        await expect(page.locator("#lamp")).to_contain_text(re.compile("well|wrong|act|look"))
        return page

    return work
