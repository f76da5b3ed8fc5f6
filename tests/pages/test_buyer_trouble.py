"""The shop front when things go wrong: what is missing is said to be missing, nothing is lost, and nothing is bought twice."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.pages.conftest import Picture
from tests.pages.test_buyer import payments_of
from tests.support.browser import Watched
from tests.support.buyer import Buyer, a_buyer
from tests.support.demo import Demo

DO_NOT = "We do not know yet whether you have paid: do not pay again."


@pytest.fixture
async def buyer(page: Page, demo: Demo) -> Buyer:
    """Somebody who has not been here before."""
    return await a_buyer(page, demo)


async def arrives_and_is_not_answered(route: Route) -> None:
    """The request comes in; its answer is lost."""
    await route.fetch()
    await route.abort("connectionreset")


@pytest.mark.parametrize("reload", [False, True])
async def test_a_network_that_is_lost_in_mid_payment_charges_once(
    buyer: Buyer, demo: Demo, picture: Picture, reload: bool
) -> None:
    event = await demo.open_sale("On a train", GA=5)
    booking = await buyer.hold(event, GA=1)
    await buyer.page.route("**/payment", arrives_and_is_not_answered)
    keys: set[str] = set()
    buyer.page.on(
        "request", lambda asked: asked.url.endswith("/payment") and keys.add(asked.headers["idempotency-key"])
    )
    await buyer.pay()
    await buyer.reads(re.compile(DO_NOT))
    await expect(buyer.page.get_by_role("button", name=re.compile("^Pay "))).to_have_count(0)
    if not reload:
        await buyer.page.context.set_offline(True)
        await buyer.reads(
            "You are not connected. We go on by ourselves when the network is back; nothing happens twice."
        )
        await picture(buyer.page, "shop-unknown")
        await buyer.page.unroute("**/payment")
        await buyer.page.context.set_offline(False)
    else:
        await buyer.page.unroute("**/payment")
        await buyer.page.reload()
    await buyer.sees("confirmed")
    await expect(buyer.page.get_by_text(re.compile(DO_NOT))).to_have_count(0)
    assert len(await payments_of(demo, booking)) == 1
    assert len(keys) == 1, "every try has the same key"


async def test_an_order_whose_answer_is_lost_is_booked_once(buyer: Buyer, demo: Demo) -> None:
    event = await demo.open_sale("Lost answer", GA=5)
    await buyer.page.route(re.compile("/shop/bookings$"), arrives_and_is_not_answered)
    await buyer.look_at(event)
    await buyer.choose(GA=2)
    await buyer.page.get_by_role("button", name="Hold these tickets").click()
    await buyer.reads(re.compile("^We do not know yet whether this went through: do not order again."))
    await buyer.page.unroute(re.compile("/shop/bookings$"))
    await buyer.page.reload()
    await buyer.sees("held")
    await buyer.look_at(event)
    await buyer.reads("3 left")


async def test_a_box_office_that_is_busy_is_asked_again_when_it_says(buyer: Buyer, demo: Demo) -> None:
    """503 with its Retry-After, and then it is booked, under the same key."""
    event = await demo.open_sale("Busy", GA=5)
    keys: list[str] = []

    async def busy_once(route: Route) -> None:
        if route.request.method == "POST":
            keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            body = '{"type": "/problems/overloaded", "status": 503, "title": "busy", "detail": "busy"}'
            await route.fulfill(
                status=503, body=body, headers={"Retry-After": "2", "Content-Type": "application/problem+json"}
            )
        else:
            await route.continue_()

    await buyer.page.route(re.compile("/shop/bookings$"), busy_once)
    await buyer.look_at(event)
    await buyer.choose(GA=1)
    await buyer.page.get_by_role("button", name="Hold these tickets").click()
    await buyer.reads(re.compile("The box office is busy."))
    await buyer.sees("held")
    assert len(keys) == 2 and len({*keys}) == 1


async def test_held_and_sold_out_are_told_apart(
    buyer: Buyer, watched: Watched, demo: Demo, picture: Picture
) -> None:  # fmt: skip
    event = await demo.open_sale("The last one", VIP=1, GA=10)
    other = await a_buyer(await watched.page(), demo)
    await other.hold(event, VIP=1)
    await buyer.look_at(event)
    await buyer.page.get_by_role("button", name="Ask for one: some may come back").click()
    await buyer.reads("VIP: all held at the moment: some may come back.")
    await picture(buyer.page, "shop-held-by-others")
    await other.pay()
    await other.sees("confirmed")
    await buyer.page.get_by_role("button", name="Ask for one: some may come back").click()
    await buyer.reads("VIP: sold out.")
    await expect(buyer.page.locator("[data-tier=VIP]")).to_have_text("sold out")
    await picture(buyer.page, "shop-sold-out")


async def test_a_pause_is_said_while_it_lasts(buyer: Buyer, demo: Demo, picture: Picture) -> None:
    event = await demo.open_sale("Paused", GA=5)
    await buyer.look_at(event)
    await buyer.choose(GA=1)
    hold = buyer.page.get_by_role("button", name="Hold these tickets")
    await expect(hold).to_be_enabled()
    await demo.office.control.pause(event.id)
    await buyer.reads("The sale is paused: it goes on in a while. What you hold, you can pay.")
    await expect(hold).to_be_disabled()
    await picture(buyer.page, "shop-paused")
    await demo.office.control.resume(event.id)
    await expect(hold).to_be_enabled()


async def test_a_price_that_has_changed_is_shown_before_it_is_paid(buyer: Buyer, demo: Demo) -> None:
    event = await demo.open_sale("Dearer", GA=5)
    await buyer.look_at(event)
    await buyer.choose(GA=2)
    await demo.office.control.change_tier(event.tiers[0].id, price_cents=1_500)
    await buyer.page.get_by_role("button", name="Hold these tickets").click()
    await buyer.reads(re.compile(r"^The price has changed: it is \$30\.00 now\."))
    await buyer.reads("2 tickets: $30.00")
    await buyer.page.get_by_role("button", name="Hold these tickets").click()
    await buyer.sees("held")


async def test_a_lost_session_does_not_say_that_nothing_was_bought(buyer: Buyer, demo: Demo) -> None:
    event = await demo.open_sale("Cookies gone", GA=5)
    await buyer.hold(event, GA=1)
    await buyer.pay()
    await buyer.sees("confirmed")
    await buyer.page.context.clear_cookies()
    await buyer.page.reload()
    await buyer.reads(re.compile("^The shop does not know you any more"))
    await buyer.sees("confirmed")


async def test_without_streams_the_page_looks_by_itself(buyer: Buyer, demo: Demo) -> None:
    event = await demo.open_sale("No streams", GA=5)
    await buyer.page.route("**/stream", lambda route: route.abort())
    await buyer.look_at(event)
    await buyer.reads("What is left is looked at every two seconds.")
    other = Buyer(await buyer.page.context.new_page(), demo, buyer.front)
    await other.hold(event, GA=2)
    await buyer.page.bring_to_front()
    await buyer.reads("3 left")


async def test_a_page_whose_program_does_not_come_says_so(buyer: Buyer, watched: Watched) -> None:
    watched.allow("main.js")
    await buyer.page.route("**/main.js", lambda route: route.abort())
    await buyer.page.goto(buyer.front)
    await buyer.reads("This page does not start.")


async def test_without_javascript_the_page_says_so(watched: Watched, demo: Demo) -> None:
    page = await watched.page(java_script_enabled=False)
    await page.goto((await a_buyer(page, demo)).front)
    await expect(page.get_by_text("This page does not start.")).to_be_visible()
    assert "This page needs JavaScript." in await page.content()
