"""What the tests of pages rely on: a browser that opens ours, and notices what goes wrong in them."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from tests.pages.conftest import Axe, Picture
from tests.support.browser import Watched, look_with_axe
from tests.support.demo import Demo

PAGE = "<!doctype html><html lang=en><title>t</title><body><main><h1>A page</h1>{}</main>"


async def served(page: Page, body: str, policy: str = "default-src 'self'") -> None:
    """Open a page with this body, under this policy."""
    headers = {"content-type": "text/html", "content-security-policy": policy}
    await page.route("**/tried", lambda route: route.fulfill(body=PAGE.format(body), headers=headers))
    await page.goto("/tried")


async def test_the_description_of_the_api_is_shown(page: Page) -> None:
    await page.goto("/docs")
    await expect(page.get_by_text("Scope: book").or_(page.get_by_text("/v1/bookings").first).first).to_be_visible()


async def test_the_operators_page_is_shown(page: Page, axe: Axe, picture: Picture) -> None:
    await page.goto("/ops")
    await expect(page.locator("h1").first).to_be_visible()
    await axe(page)
    assert (await picture(page, "tried")).stat().st_size < 60_000


@pytest.mark.parametrize(
    ("body", "policy", "wrong"),
    [
        ("<img alt=none src=/nothing.png>", "default-src 'self'", "404: "),
        ("<script>throw new Error('thrown here')</script>", "script-src 'unsafe-inline'", "thrown here"),
        ("<script>Promise.reject(new Error('left alone'))</script>", "script-src 'unsafe-inline'", "left alone"),
        ("<script>console.error('said here')</script>", "script-src 'unsafe-inline'", "console: said here"),
        ("<script>never()</script>", "default-src 'self'", "Content Security Policy"),
        ("<p style='color: red'>Red</p>", "default-src 'self'", "Content Security Policy"),
    ],
)
async def test_what_goes_wrong_in_a_page_is_seen(
    browser: Browser, demo: Demo, body: str, policy: str, wrong: str
) -> None:
    watched = Watched(browser, demo.url)
    await served(await watched.page(), body, policy)
    await watched.close()

    assert any(wrong in line for line in watched.wrong), watched.wrong
    watched.allow(wrong)
    assert watched.wrong == []


async def test_what_the_api_refuses_is_no_fault_of_a_page(page: Page) -> None:
    await page.goto("/docs")
    assert await page.evaluate("fetch('/v1/events').then(answer => answer.status)") == 401


@pytest.mark.parametrize(("body", "found"), [("<p>Fine.</p>", 0), ("<img src=/docs/favicon.png><input>", 2)])
async def test_axe_finds_what_is_serious(page: Page, body: str, found: int) -> None:
    """Under a policy that lets no script in but the page's own."""
    await served(page, body)
    lines = await look_with_axe(page)
    if lines is None:
        pytest.skip("axe is not installed here (python -m ops.npm tests).")
    assert len(lines) == found, lines
