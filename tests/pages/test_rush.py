"""A rush to watch: it sells, somebody dies, and at the end every invariant held."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import Axe, Picture, SignIn


@pytest.mark.timeout(300)
async def test_a_worker_dies_in_a_rush_and_every_invariant_holds(
    page: Page, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    await sign_in(page)
    panel = page.locator("#rush")
    await panel.get_by_label("Customers").fill("900")
    await panel.get_by_label("Seconds").fill("10")
    await panel.get_by_role("button", name="Start a rush").click()

    await expect(panel.get_by_role("button", name="Start a rush")).to_be_disabled()
    await expect(panel.get_by_text("the worker was killed")).to_be_visible(timeout=60_000)
    await picture(panel, "rush-selling")
    await expect(panel.get_by_text("its successor ran")).to_be_visible(timeout=60_000)
    await axe(page, "#rush")

    await expect(panel.get_by_role("status")).to_have_attribute("data-status", "held", timeout=180_000)
    await expect(panel.get_by_role("status")).to_contain_text("nothing was sold twice")
    await expect(panel.locator("li[data-held=true]")).to_have_count(15)
    sold = {row.split()[0]: row.split()[1] for row in await panel.locator("tbody tr").all_inner_texts()}
    assert int(sold["STAND"].replace(",", "")) > 100
    await expect(panel.get_by_role("button", name="Start a rush")).to_be_enabled()
    await axe(page, "#rush")
    assert (await picture(panel, "rush")).stat().st_size < 80_000


async def test_where_nobody_plays_the_panel_hides(page: Page, sign_in: SignIn) -> None:
    await page.route("**/v1/ops/rushes", lambda route: route.fulfill(status=404, json={"status": 404}))
    await sign_in(page)
    await expect(page.get_by_text("A rush to watch")).to_have_count(0)
    await expect(page.locator("#rush")).to_be_hidden()
