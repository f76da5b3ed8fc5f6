"""Debian's Chromium, driven by Playwright: pages that are watched while a test uses them.

A page may not err, reject a promise that nobody catches, break its own policy or lack a file of its own: the test fails at its
end, unless it said before what is expected. What the API refuses is no fault of a page.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    async_playwright,
    expect,
)

from api.pages.npm import INSTALLED

__all__ = ["Watched", "a_browser", "browser_path", "look_with_axe", "take_picture"]

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "pages"

PATIENCE_MS: Final = 15_000
"""How long Playwright waits for what a test expects, on a machine that has other things to do."""

COLOURS: Final = 64
"""Of a picture: a page has few, and a file with few is small."""

WIDEST: Final = 1_280
"""Pixels."""

PARTS: Final = ("document", "script", "stylesheet", "image", "font")
"""Files of a page, which must be there."""

SERIOUS: Final = ("serious", "critical")


def browser_path() -> str | None:
    """Where this machine's Chromium is, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@asynccontextmanager
async def a_browser(path: str) -> AsyncIterator[Browser]:
    """One for all tests of a process: each page has a context of its own, as a new window without a past."""
    arguments = ["--disable-dev-shm-usage", "--disable-gpu", "--mute-audio"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which Chromium has for everybody but root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        await browser.close()


expect.set_options(timeout=PATIENCE_MS)


class Watched:
    """Pages of a test, and what went wrong in them."""

    def __init__(self, browser: Browser, base_url: str) -> None:
        self._browser = browser
        self._base_url = base_url
        self._contexts: list[BrowserContext] = []
        # Where npm's packages could not be had, a page does without them: see docs/pages.md.
        self._allowed: list[str] = [] if (INSTALLED / "uPlot.min.css").exists() else ["/ops/vendor/"]
        self._wrong: list[str] = []

    def allow(self, text: str) -> None:
        """Whatever goes wrong with these words in its message is expected."""
        self._allowed.append(text)

    @property
    def wrong(self) -> list[str]:
        """What went wrong that nobody expected."""
        return [line for line in self._wrong if not any(text in line for text in self._allowed)]

    async def page(self, **options: Any) -> Page:
        """A new window: `viewport`, `color_scheme`, `is_mobile`, `java_script_enabled` … as a context of Playwright."""
        wished = {"viewport": {"width": 1_280, "height": 800}, "reduced_motion": "reduce", "locale": "en-GB",
                  "timezone_id": "UTC", "base_url": self._base_url, **options}  # fmt: skip
        context = await self._browser.new_context(**wished)
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: self._wrong.append(f"error: {error.error}"))
        context.on("console", self._hear)
        context.on("response", self._see)
        self._contexts.append(context)
        return await context.new_page()

    async def close(self) -> None:
        """Close every window."""
        for context in self._contexts:
            await context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        # Of files that are not there, `_see` knows what they are.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self._wrong.append(f"console: {message.text}")

    def _see(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type in PARTS:
            self._wrong.append(f"{response.status}: {response.url}")


async def look_with_axe(page: Page, within: str = "body") -> list[str] | None:
    """What axe finds in a page that is serious, a line each; None where it is not installed."""
    source = INSTALLED / "axe.min.js"
    if not source.exists():
        return None
    await page.evaluate(source.read_text() + "; undefined")
    found: dict[str, Any] = await page.evaluate("within => axe.run(within, {resultTypes: ['violations']})", within)
    return [
        f"{each['impact']}: {each['id']}: {each['help']} ({', '.join(str(node['target']) for node in each['nodes'])})"
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


async def take_picture(page: Page | Locator, path: Path) -> Path:
    """A small picture of a page, or of a part of one, as it is now."""
    taken = Image.open(io.BytesIO(await page.screenshot(animations="disabled")))
    if taken.width > WIDEST:
        taken = taken.resize((WIDEST, taken.height * WIDEST // taken.width))
    path.parent.mkdir(parents=True, exist_ok=True)
    taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
