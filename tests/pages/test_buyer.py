"""Buying at the shop front, in a browser: from the first look to the refund, and all that the page says on the way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page, expect

from boxoffice.sales.codes import CodeTerms
from tests.pages.conftest import Axe, Picture
from tests.support.browser import Watched
from tests.support.buyer import Buyer, a_buyer
from tests.support.demo import Demo


@pytest.fixture
async def buyer(page: Page, demo: Demo) -> Buyer:
    """Somebody who has not been here before."""
    return await a_buyer(page, demo)


async def payments_of(demo: Demo, booking: str) -> list[str]:
    """How the payments of a booking stand, as PostgreSQL has them."""
    rows = await (await demo.office.pool()).fetch("SELECT status FROM payments WHERE booking_id = $1::uuid", booking)
    return sorted(row["status"] for row in rows)


async def test_tickets_are_bought_and_given_back(buyer: Buyer, demo: Demo, axe: Axe, picture: Picture) -> None:
    """Two tiers in one basket; a reload at each step loses nothing."""
    event = await demo.open_sale("An evening of songs", VIP=10, GA=100)
    page = buyer.page
    await page.goto(f"{demo.url}/")
    # The list is looked at every five seconds.
    await expect(page.get_by_role("link", name="An evening of songs")).to_be_visible(timeout=20_000)
    await axe(page)
    await picture(page, "shop-events")

    await buyer.look_at(event)
    await buyer.choose(VIP=1, GA=2)
    await page.reload()
    await buyer.reads("3 tickets: $50.00")
    await buyer.reads("What is left is shown as it changes.")
    await axe(page)
    await picture(page, "shop-basket")
    await page.get_by_role("button", name="Hold these tickets").click()

    await buyer.sees("held")
    await expect(page.locator(".countdown")).to_have_text(re.compile(r"^(9:5|10:0)\d left to pay$"))
    await axe(page)
    await picture(page, "shop-held")
    await page.reload()
    await page.get_by_role("button", name="Five more minutes").click()
    await expect(page.locator(".countdown")).to_have_text(re.compile(r"^1[45]:\d\d left to pay$"))
    await buyer.pay()
    await buyer.sees("confirmed")
    await expect(page.locator(".ticket")).to_have_count(3)
    await axe(page)
    await picture(page, "shop-confirmed")

    await page.get_by_role("button", name="Refund one GA").click()
    await page.get_by_role("button", name="Refund it").click()
    await buyer.reads("2, 1 given back")
    await buyer.reads(re.compile(r"\$20\.00 (went|are on their way) back to you"))
    await page.get_by_role("button", name="Cancel the booking").click()
    await page.get_by_role("button", name="Cancel it").click()
    await buyer.sees("cancelled")
    assert await payments_of(demo, buyer.booking()) in (["captured"], ["refunded"], ["authorized"])


async def test_what_is_left_falls_in_a_second_window_within_half_a_second(
    buyer: Buyer, watched: Watched, demo: Demo
) -> None:
    """From the answer to who holds them. The best of some tries, for the machine has other things to do."""
    event = await demo.open_sale("Two windows", VIP=50)
    other = await a_buyer(await watched.page(), demo)
    await other.look_at(event)
    await other.reads("What is left is shown as it changes.")
    took: list[float] = []
    for left in range(49, 44, -1):
        seen = other.page.evaluate(
            """left => new Promise(resolve => {
                const place = document.querySelector(".left");
                const look = () => place.textContent === `${left} left` && resolve(Date.now());
                new MutationObserver(look).observe(place, {childList: true, characterData: true, subtree: true});
                look();
            })""",
            left,
        )
        await buyer.look_at(event)
        await buyer.choose(VIP=1)
        async with buyer.page.expect_response(re.compile(r"/shop/bookings$")) as response:
            await buyer.page.get_by_role("button", name="Hold these tickets").click()
        answer = await response.value
        timing = answer.request.timing
        took.append(await seen - timing["startTime"] - timing["responseStart"])
        await buyer.sees("held")
        if took[-1] < 500:
            break
    assert min(took) < 500, took


async def test_a_hold_that_nobody_pays_runs_out(buyer: Buyer, demo: Demo, picture: Picture) -> None:
    event = await demo.open_sale("Too slow", GA=5)
    await buyer.holds_for(2)
    await buyer.hold(event, GA=2)
    await expect(buyer.page.locator(".countdown.hurry")).to_be_visible()
    await buyer.sees("expired")
    await buyer.reads("Nothing was charged, and the tickets are on sale again.")
    await picture(buyer.page, "shop-expired")
    await buyer.look_at(event)
    await buyer.reads("5 left")


async def test_a_declined_card_is_said_and_another_one_pays(buyer: Buyer, demo: Demo, picture: Picture) -> None:
    event = await demo.open_sale("The wrong card", GA=5)
    booking = await buyer.hold(event, GA=1)
    await buyer.pay("No money")
    await buyer.reads("The card has not enough money. Nothing was charged. Try another card.")
    await buyer.sees("held")
    await picture(buyer.page, "shop-declined")
    await buyer.page.get_by_role("radio", name=re.compile("^Good card")).check()
    await buyer.pay()
    await buyer.sees("confirmed")
    assert "declined" in await payments_of(demo, booking) and len(await payments_of(demo, booking)) == 2


@pytest.mark.parametrize(
    ("card", "status", "text"),
    [
        ("3-D Secure •", "confirmed", "Confirmed: the tickets are yours"),
        ("3-D Secure fails", "held", "The bank did not recognise you."),
    ],
)
async def test_the_bank_wants_to_see_the_customer(
    buyer: Buyer, demo: Demo, picture: Picture, card: str, status: str, text: str
) -> None:
    event = await demo.open_sale("The bank asks", GA=5)
    await buyer.hold(event, GA=1)
    await buyer.pay(card)
    await expect(buyer.page.get_by_role("link", name="Go to your bank")).to_be_visible()
    await picture(buyer.page, "shop-bank")
    await buyer.page.get_by_role("link", name="Go to your bank").click()
    await buyer.page.get_by_role("button", name="Yes, that is me").click()
    await buyer.sees(status)
    await buyer.reads(text)
    assert "?" not in buyer.page.url, "the hint of the bank is not believed, and not kept"


async def test_a_booking_of_another_tab_shows_up(buyer: Buyer, demo: Demo) -> None:
    """And what becomes of it."""
    event = await demo.open_sale("Two tabs", GA=5)
    await buyer.page.goto(f"{buyer.front}/#/tickets")
    await buyer.reads("You have no tickets yet.")
    tab = Buyer(await buyer.page.context.new_page(), demo, buyer.front)
    await tab.hold(event, GA=1)
    await buyer.page.bring_to_front()
    await buyer.reads("Two tabs")
    await expect(buyer.page.locator("#count")).to_have_text("1")
    await buyer.page.get_by_role("link", name="Two tabs").click()
    await buyer.sees("held")
    await tab.page.bring_to_front()
    await tab.pay()
    await tab.sees("confirmed")
    await buyer.page.bring_to_front()
    await buyer.sees("confirmed")


async def test_a_presale_opens_with_its_code_and_counts_down_by_the_servers_clock(
    watched: Watched, demo: Demo, picture: Picture
) -> None:
    """Whatever the computer's own clock says: this one is five hours behind."""
    page = await watched.page()
    await page.add_init_script(
        "const was = performance.timeOrigin; Object.defineProperty(performance, 'timeOrigin', {value: was - 18e6});"
        "const now = Date.now; Date.now = () => now() - 18e6;"
    )
    buyer = await a_buyer(page, demo)
    event = await demo.open_sale("For members", GA=5)
    opens = datetime.now(UTC) + timedelta(minutes=30)
    await demo.office.control.change_event(event.id, on_sale_at=opens)
    await demo.office.codes.create(event.id, CodeTerms(2), given=["MEMBERS-2026-A"])
    await buyer.look_at(event)
    shown = page.locator(".countdown")
    await expect(shown).to_have_text(re.compile(r"^\d+:\d\d$"))
    minutes, seconds = map(int, (await shown.inner_text()).split(":"))
    left = (opens - datetime.now(UTC)).total_seconds()
    assert abs(60 * minutes + seconds - left) < 3
    await picture(page, "shop-opens")

    hold = page.get_by_role("button", name="Hold these tickets")
    await buyer.choose(GA=1)
    await expect(hold).to_be_disabled()
    await page.get_by_text("I have an access code").click()
    await page.get_by_label("Access code", exact=True).fill("no-such-code-here")
    await hold.click()
    await buyer.reads("This event has no such access code.")
    await page.get_by_label("Access code", exact=True).fill("members 2026 a")
    await hold.click()
    await buyer.sees("held")


async def test_what_costs_nothing_needs_no_card(buyer: Buyer, demo: Demo) -> None:
    event = await demo.open_sale("Open air", GA=5)
    await demo.office.control.change_tier(event.tiers[0].id, price_cents=0)
    await buyer.look_at(event)
    await buyer.choose(GA=1)
    await buyer.page.get_by_role("button", name="Book for free").click()
    await buyer.sees("confirmed")
