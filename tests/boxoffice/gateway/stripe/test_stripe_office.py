"""A box office on Stripe: what happens there without us reaches our books, by its own webhooks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from boxoffice.office import open_box_office
from boxoffice.rate_settings import DeclineSettings
from boxoffice.sales.store import NewTier
from boxoffice.settings import GatewaySettings, Settings
from boxoffice.stores.installation import installation
from ops.stack.servers import Servers
from tests.conftest import CLIENT, eventually, load_all
from tests.support.gateways import World
from tests.support.shop.office import Till
from tests.support.stripe_stand_in import StripeStandIn

pytestmark = pytest.mark.parametrize("world", ["stripe"], indirect=True)


CARD_MAX = 3


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Settings:
    """On the test servers, and with a gateway that answers."""
    return Settings(
        redis_url=servers.redis_url,
        database_url=servers.database_url,
        data_dir=tmp_path,
        log_level="error",
        gateway=GatewaySettings(cutoff_s=0.2, timeout_s=5, webhook_secret="whsec_simulator"),
        declines=DeclineSettings(card_max=CARD_MAX, window_s=3_600),
    )


@pytest.fixture
async def till(clean: None, world: World, settings: Settings) -> AsyncIterator[Till]:
    async with open_box_office(settings, redis_retries=3, gateway=world.gateway) as office:
        await office.access.create_client("Shop", client_id=CLIENT)
        tiers = [NewTier("GA", 1_000, 10)]
        event = await office.store.create_event(CLIENT, "Opera", datetime.now(UTC) + timedelta(days=9), "USD", tiers)
        await load_all(office)
        yield Till(office, event)
        for settlement in office.settlements:
            await settlement.stop()


async def confirmed(till: Till, stand_in: StripeStandIn) -> tuple[str, str]:
    """A confirmed and captured booking of three tickets, and its payment key."""
    booking = await till.book("pm_ok", GA=3)
    await till.rest()
    assert await till.state(booking) == "C confirmed"
    ((key,),) = await till.fetch("SELECT payment_key FROM payments")
    return booking, key


async def hear(till: Till, world: World, *kinds: str) -> None:
    """Every webhook that Stripe sends of these kinds is taken in, twice; then the pump works."""

    async def come() -> list[Any]:
        events = [
            world.gateway.verify_webhook(headers, body, time.time())
            for headers, body in list(world.webhooks)
            if any(f'"{kind}"'.encode() in body for kind in kinds)
        ]
        return events if len(events) >= len(kinds) else []

    for event in 2 * await eventually(come):
        await till.office.webhooks.receive("stripe", event)
    world.webhooks.clear()
    await till.pump()


async def told(till: Till, booking: str) -> tuple[Any, ...]:
    view = await till.office.bookings.decided(CLIENT, booking)
    return view.refunded_cents, view.refund and view.refund.status, view.refund and view.refund.owed_cents


async def test_a_refund_of_the_dashboard_and_what_is_left(till: Till, world: World) -> None:
    stand_in = world.stand_in
    assert stand_in is not None
    booking, key = await confirmed(till, stand_in)
    stand_in.refund_in_dashboard(key, 1_200)
    await hear(till, world, "refund.created", "charge.refunded")
    assert await told(till, booking) == (1_200, "succeeded", 0)

    await till.cancel(booking)
    await till.pump()

    assert await told(till, booking) == (3_000, "succeeded", 0)
    assert [refund["amount"] for refund in stand_in.refunds.values()] == [1_200, 1_800]


async def test_charge_already_refunded_is_no_error(till: Till, world: World) -> None:
    """Nobody told of the dashboard's refund. The booking is cancelled, and all of its money went back."""
    stand_in = world.stand_in
    assert stand_in is not None
    booking, key = await confirmed(till, stand_in)
    stand_in.refund_in_dashboard(key, 3_000)

    await till.cancel(booking)
    await till.pump()

    assert await told(till, booking) == (3_000, "succeeded", 0)
    assert await till.office.owed.find() == []


async def test_a_refund_fails_days_later_and_is_paid_by_another_attempt(till: Till, world: World) -> None:
    stand_in = world.stand_in
    assert stand_in is not None
    booking, _ = await confirmed(till, stand_in)
    await till.cancel(booking)
    await till.pump()
    assert await told(till, booking) == (3_000, "succeeded", 0)
    (refund,) = stand_in.refunds.values()
    stand_in.end_refund(refund, "failed", "lost_or_stolen_card")
    await hear(till, world, "refund.failed")
    assert await told(till, booking) == (0, "owed", 3_000)

    await till.cancel(booking)
    await till.pump()

    assert await told(till, booking) == (3_000, "succeeded", 0)
    assert [each["status"] for each in stand_in.refunds.values()] == ["failed", "succeeded"]


async def test_a_dispute(till: Till, world: World) -> None:
    """From its beginning to its end."""
    stand_in = world.stand_in
    assert stand_in is not None
    _, key = await confirmed(till, stand_in)
    dispute = stand_in.dispute(key, 3_000)
    await hear(till, world, "charge.dispute.created")
    assert [tuple(row) for row in await till.fetch("SELECT status, withdrawn FROM disputes")] == [
        ("needs_response", True)
    ]
    stand_in.end_dispute(dispute, "won")
    await hear(till, world, "charge.dispute.closed")
    assert [tuple(row) for row in await till.fetch("SELECT status, withdrawn FROM disputes")] == [("won", False)]


# ------------------------------------------------------------------ an account that others use, too


async def audited(till: Till) -> list[tuple[str, bool | None]]:
    return [(found.what, found.mended) async for found in till.office.payments_audit.run(fix=True, grace_s=0)]


async def forgotten(till: Till, stand_in: StripeStandIn) -> None:
    """Two payments, captured and authorised, that no row of ours knows, as long as they bear our name."""
    for token in ("pm_ok", "pm_ok"):
        await till.book(token, GA=1)
    await till.rest()
    second = list(stand_in.intents.values())[1]
    second.update(status="requires_capture", amount_received=0)
    for table in ("captures", "refunds", "payments", "booking_items", "bookings"):
        await (await till.office.pool()).execute(f"DELETE FROM {table}")
    await till.office.redis.flushall()


async def test_payments_bear_the_name_of_their_installation(till: Till, world: World) -> None:
    """The same for ever, for whoever opens this database."""
    stand_in = world.stand_in
    assert stand_in is not None
    await confirmed(till, stand_in)
    name = await installation(await till.office.pool())
    assert [intent["metadata"]["installation"] for intent in stand_in.intents.values()] == [name]
    assert await installation(await till.office.pool()) == name


async def test_strays_of_our_own_are_let_go(till: Till, world: World) -> None:
    assert world.stand_in is not None
    await forgotten(till, world.stand_in)
    assert sorted(await audited(till)) == [("authorized_without_booking", True), ("captured_without_booking", True)]
    assert till.office.payments_audit.strangers == 0


async def test_strays_of_other_installations_are_not_touched(till: Till, world: World) -> None:
    """Another box office sells on the same account; to us its payments look as if nobody had made them."""
    assert world.stand_in is not None
    await forgotten(till, world.stand_in)
    for intent in world.stand_in.intents.values():
        intent["metadata"]["installation"] = "somebody else"
    assert await audited(till) == []
    assert till.office.payments_audit.strangers == 2
    assert not world.stand_in.refunds
    assert sorted(intent["status"] for intent in world.stand_in.intents.values()) == ["requires_capture", "succeeded"]


async def test_a_stray_that_bears_no_name_is_told_and_left(till: Till, world: World) -> None:
    """Of before names were written: a person decides."""
    assert world.stand_in is not None
    await forgotten(till, world.stand_in)
    for intent in world.stand_in.intents.values():
        del intent["metadata"]["installation"]
    assert sorted(await audited(till), key=str) == [
        ("authorized_without_booking", None), ("captured_without_booking", None),
    ]  # fmt: skip
    assert not world.stand_in.refunds


def charged(stand_in: StripeStandIn, card: str) -> int:
    return sum(f"__{card}" in intent["payment_method"] for intent in stand_in.intents.values())


async def test_a_card_that_was_declined_too_often_is_charged_no_more(till: Till, world: World) -> None:
    """Under whatever payment method and customer it comes. Other cards are, and their names are asked for only meanwhile."""
    stand_in = world.stand_in
    assert stand_in is not None
    for n in range(CARD_MAX):
        await till.book("pm_card_declined__stolen", customer=f"c{n}", GA=1)
        await till.rest_bookings()
    assert charged(stand_in, "stolen") == CARD_MAX
    assert not [path for path in stand_in.requests if "payment_methods" in path]
    bad = [await till.book(f"pm_{kind}__stolen", customer=kind, GA=1) for kind in ("lost_card", "ok")]
    other = await till.book("pm_expired_card__mine", customer="eve", GA=1)
    good = [await till.book(token, customer="ada", GA=1) for token in ("pm_ok__good", "pm_ok")]
    await till.rest()
    assert [await till.state(booking) for booking in (*bad, other)] == ["F failed"] * 3
    assert [await till.state(booking) for booking in good] == ["C confirmed"] * 2
    assert [charged(stand_in, card) for card in ("stolen", "mine", "good")] == [CARD_MAX, 1, 1]
    codes = await till.fetch("SELECT failure_code, count(*) FROM payments WHERE status = 'declined' GROUP BY 1")
    assert dict(codes) == {"card_declined": CARD_MAX, "too_many_declined": 2, "expired_card": 1}
    await till.at_rest(*good)


async def test_a_card_that_stripe_does_not_name_is_charged(till: Till, world: World) -> None:
    """A restricted key that may read no payment methods is no trouble: it is told when the account is looked at."""
    stand_in = world.stand_in
    assert stand_in is not None
    for n in range(CARD_MAX):
        await till.book("pm_card_declined__stolen", customer=f"c{n}", GA=1)
        await till.rest_bookings()
    stand_in.restricted = True
    booking = await till.book("pm_ok__stolen", GA=1)
    await till.rest()
    assert await till.state(booking) == "C confirmed"
