"""What an operator sees and does at `/ops`, in a browser: how it goes, what is wrong, who waits; and each change asks first."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import pytest
from playwright.async_api import Page, expect

from boxoffice.access.store import Grant
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.pages.conftest import Axe, Picture, SignIn
from tests.support.browser import Watched
from tests.support.demo import Demo
from tests.support.shop import office
from tests.support.waiting import eventually

numbers = count()


async def book(demo: Demo, event: EventView, token: str | None = "tok_ok", **tickets: int) -> str:
    """A booking of the demo's shop, as its worker gets it."""
    customer = f"guest-{next(numbers)}"
    return (await office.book(demo.office, event, token, client=demo.client, customer=customer, **tickets)).booking_id


def sale_of(page: Page, event: EventView) -> Any:
    return page.locator(f'[data-event="{event.id}"]')


async def test_an_operator_signs_in_and_out(
    page: Page, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    await page.goto("/ops")
    await expect(page.get_by_role("heading", name="boxoffice operations")).to_be_visible()
    await axe(page)
    await picture(page, "ops-sign-in")
    await page.get_by_label("API key").fill("ops.wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("This is no key that is good now.")
    await sign_in(page)
    assert "httpOnly" in str((await page.context.cookies())[0])
    assert (
        await page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"
    )
    await page.reload()
    await expect(page.locator("#tiles")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("You are signed out.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_how_is_it_going_is_answered_without_a_scroll(
    page: Page, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    """At 1280 × 800: the lamp, the figures, the plots, the alerts and the sale; and the plots move."""
    event = await demo.open_sale("First night", GA=40, VIP=10)
    await sign_in(page)
    for _ in range(6):
        await book(demo, event, GA=2)
    await book(demo, event, None, VIP=3)
    sale = sale_of(page, event)
    await expect(sale.locator(".numbers").first).to_have_text("12 sold (30 %), 0 pending, 0 held, 28 available of 40")
    await expect(sale.locator(".numbers").last).to_contain_text("0 sold (0 %), 0 pending, 3 held, 7 available of 10")
    first = page.locator("#sales .sale").first  # other tests have sales on this demo, too
    for place in (
        page.locator("#lamp"),
        page.locator("#tiles"),
        page.locator("#plots"),
        page.locator("#alerts"),
        first,
    ):
        box = await place.bounding_box()
        assert box is not None and box["y"] + box["height"] <= 800, (await place.get_attribute("id"), box)
    if await page.evaluate("Boolean(globalThis.uPlot)"):
        await expect(page.locator("#plots canvas")).to_have_count(3)
        seen = await page.locator("#plots canvas").first.evaluate("canvas => canvas.toDataURL()")

        async def moved() -> bool:
            return bool(await page.locator("#plots canvas").first.evaluate("canvas => canvas.toDataURL()") != seen)

        await eventually(moved)
    await axe(page)
    await picture(page, "ops-now")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_pause_asks_first_and_is_written_down(
    page: Page, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    event = await demo.open_sale("Paused night", GA=20)
    await sign_in(page)
    await page.get_by_role("button", name="Pause Paused night").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("20 available tickets cannot be booked until you resume")
    await axe(page, "#ask")
    await picture(page, "ops-pause")
    await page.keyboard.press("Escape")
    await expect(dialog).not_to_be_visible()
    assert (await demo.office.store.event(event.id)).status == "active", "it was only asked"
    await page.get_by_role("button", name="Pause Paused night").press("Enter")
    await dialog.get_by_role("button", name="Pause").press("Enter")
    await expect(sale_of(page, event).get_by_text("paused", exact=True)).to_be_visible()
    assert (await demo.office.store.event(event.id)).status == "paused"
    await page.get_by_role("button", name="Resume Paused night").click()
    await dialog.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("button", name="Pause Paused night")).to_be_visible()
    await page.get_by_role("link", name="History").click()
    who = f"key:{(await demo.key('ops')).partition('.')[0]}"
    await expect(page.locator("#history tbody tr").first).to_contain_text(re.compile(f"{who}.*resume"))
    await axe(page)
    await picture(page, "ops-history")


async def test_capacity_says_what_it_comes_to(page: Page, demo: Demo, sign_in: SignIn, picture: Picture) -> None:
    event = await demo.open_sale("Hall", GA=20)
    await book(demo, event, None, GA=4)
    await sign_in(page)
    await expect(sale_of(page, event).locator(".numbers")).to_contain_text("4 held")
    await page.get_by_role("button", name="Capacity Hall").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Tickets in all").fill("2")
    await expect(dialog.get_by_role("status")).to_have_text(re.compile(r"^4 are sold or held now, and stay"))
    await dialog.get_by_label("Tickets in all").fill("30")
    await expect(dialog.get_by_role("status")).to_have_text("10 tickets more go on sale: 26 available then.")
    await picture(page, "ops-capacity")
    await dialog.get_by_role("button", name="Change it").click()
    await expect(page.locator("#said")).to_have_text("It was 20, and is 30 now.")
    await page.get_by_role("button", name="Reconcile Hall").click()
    await expect(dialog).to_contain_text("nothing differs")
    await dialog.get_by_role("button", name="Close").click()


async def test_a_capacity_that_another_changed_meanwhile_is_told(page: Page, demo: Demo, sign_in: SignIn) -> None:
    event = await demo.open_sale("Contested hall", GA=20)
    await sign_in(page)
    await page.goto("/ops#%")
    await page.reload()
    await expect(page.locator("#tiles")).to_be_visible()
    await page.get_by_role("button", name="Capacity Contested hall").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Tickets in all").fill("30")
    await demo.office.control.pause(event.id)
    await dialog.get_by_role("button", name="Change it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Somebody else changed it in the meantime")


async def test_calling_off_says_whom_it_costs_what(page: Page, demo: Demo, sign_in: SignIn, picture: Picture) -> None:
    event = await demo.open_sale("Ill singer", GA=20)
    for _ in range(2):
        await book(demo, event, GA=2)
    await sign_in(page)
    await expect(sale_of(page, event).locator(".numbers")).to_contain_text("4 sold")
    await page.get_by_role("button", name="Call off Ill singer").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(
        re.compile(r"2 bookings of 2 customers are refunded in full: 4 tickets, USD\s40.00")
    )
    await dialog.get_by_label("Why?").fill("The singer is ill.")
    await dialog.get_by_label("To be sure").fill("Ill")
    await dialog.get_by_role("button", name="Call it off").click()
    await expect(dialog.get_by_role("alert")).to_have_text("That is not its name.")
    await picture(page, "ops-call-off")
    await dialog.get_by_label("To be sure").fill("Ill singer")
    await dialog.get_by_role("button", name="Call it off").click()
    await expect(sale_of(page, event).get_by_text("called off", exact=True)).to_be_visible()


async def test_a_booking_is_found_its_truths_seen_and_refunded(
    page: Page, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    event = await demo.open_sale("Refunded night", GA=20)
    booking = await book(demo, event, GA=3)
    await sign_in(page)
    await expect(sale_of(page, event).locator(".numbers")).to_contain_text("3 sold")
    await page.get_by_role("link", name="Bookings").click()
    await page.get_by_label("Its id, reference").fill(booking)
    await page.get_by_role("button", name="Find").click()
    for title in ("Redis", "PostgreSQL", "The gateway"):
        await expect(page.locator("#dossier").get_by_role("heading", name=title, exact=True)).to_be_visible()
    await axe(page)
    await picture(page, "ops-booking")
    await page.get_by_role("button", name="Refund", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("GA: tickets of 3").fill("1")
    await expect(dialog.get_by_role("status")).to_have_text(
        re.compile(r"USD\s10.00 go back to the customer, and 1 ticket on sale again.")
    )
    await dialog.get_by_role("button", name="Refund").click()
    await expect(page.locator("#said")).to_have_text(re.compile(r"USD\s10.00 are on their way back."))
    await expect(page.locator("#dossier .head")).to_contain_text("10.00 refunded")


async def test_a_parked_booking_is_seen_and_failed(
    page: Page, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture
) -> None:
    """Set aside by hand, as a settlement that cannot write it does."""
    event = await demo.open_sale("Parked night", GA=20)
    booking = await book(demo, event, None, GA=2)
    shard = demo.office.shards[event.shard]
    name = keys.booking(event.shard, booking)
    await shard.redis.set(name, b"P" + (await shard.redis.get(name) or b"")[1:])
    await shard.redis.zrem(keys.deadlines(event.shard), booking)
    await shard.redis.zadd(keys.dead(event.shard), {booking: 1_000})
    await sign_in(page)
    await expect(page.get_by_role("link", name="Parked 1")).to_be_visible()
    await page.get_by_role("link", name="Parked 1").click()
    row = page.locator("#parked tbody tr")
    await expect(row).to_contain_text(booking)
    await axe(page)
    await picture(page, "ops-parked")
    await row.get_by_role("button", name="Fail").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("2 tickets go on sale again.")
    await dialog.get_by_role("button", name="Fail it").click()
    await expect(page.get_by_text("No booking is parked.")).to_be_visible()
    await expect(page.locator("#parked-count")).not_to_be_visible()


async def test_a_pause_is_said_to_buyers(watched: Watched, demo: Demo, sign_in: SignIn) -> None:
    """In the shop front, without a reload."""
    front = await demo.front_url()
    if not front:
        pytest.skip("This demo has no shop front.")
    event = await demo.open_sale("Both pages", GA=20)
    buyer, operator = await watched.page(base_url=front), await sign_in(await watched.page())
    await buyer.goto(f"/#/event/{event.id}")
    await operator.get_by_role("button", name="Pause Both pages").click()
    await operator.get_by_role("dialog").get_by_role("button", name="Pause").click()
    await expect(buyer.get_by_text(re.compile("paused", re.IGNORECASE)).first).to_be_visible()


async def test_a_session_whose_key_is_revoked_ends(page: Page, demo: Demo) -> None:
    key = await demo.office.access.create_api_key(demo.client, Grant(("ops",)))
    await page.goto("/ops")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#tiles")).to_be_visible()
    await demo.office.access.revoke_api_key(key.partition(".")[0])
    await expect(page.get_by_text("You are not signed in any more")).to_be_visible()


async def test_a_lost_network_is_said_and_forgotten(page: Page, demo: Demo, sign_in: SignIn) -> None:
    await sign_in(page)
    await page.context.set_offline(True)
    await expect(page.locator("#lamp")).to_contain_text("No answer for", timeout=20_000)
    await page.context.set_offline(False)
    await expect(page.locator("#lamp")).not_to_contain_text("No answer for", timeout=20_000)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("phone", {"viewport": {"width": 390, "height": 844}, "is_mobile": True}),
        ("dark", {"color_scheme": "dark"}),
        ("zoomed", {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}),
    ],
)
async def test_it_works_in_other_windows(
    watched: Watched, demo: Demo, sign_in: SignIn, axe: Axe, picture: Picture, name: str, options: dict[str, Any]
) -> None:
    """Of a phone, in the dark, and at 200 %: nothing is cut off, and axe finds nothing."""
    await demo.open_sale("Other window", GA=20, BALCONY=8)
    page = await sign_in(await watched.page(**options))
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await axe(page)
    await picture(page, f"ops-{name}")


async def test_without_scripts_the_page_says_so(watched: Watched, demo: Demo) -> None:
    page = await watched.page(java_script_enabled=False)
    await page.goto("/ops")
    await expect(page.get_by_text("This page needs its scripts")).to_be_visible()


async def test_without_plots_the_figures_are_a_table(watched: Watched, demo: Demo, sign_in: SignIn) -> None:
    watched.allow("uPlot")
    page = await watched.page()
    await page.route("**/ops/vendor/*", lambda route: route.fulfill(status=404))
    await sign_in(page)
    await expect(page.get_by_text("Plots are missing here")).to_be_visible()
    await expect(page.locator("#figures-table tbody tr").first).to_be_visible()
