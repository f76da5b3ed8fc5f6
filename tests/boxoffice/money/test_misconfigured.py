"""What is wrong with us at the gateway is never told as a card's decline: it waits, is logged, and has a code of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.backoffice.readiness import Readiness
from boxoffice.gateway.base import Declined, Done, Unchargeable, Unknown
from boxoffice.gateway.trouble import Trouble
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import GatewaySettings, Settings
from ops.stack.servers import Servers
from tests.conftest import CLIENT, KEY, SaleMaker, eventually, load_all
from tests.support.gateways import World, stripe_world
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER
from tests.support.stripe_stand_in import ApiError, StripeStandIn


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=servers.redis_url, database_url=servers.database_url, data_dir=tmp_path, log_level="error",
        gateway=GatewaySettings(cutoff_s=0.2, timeout_s=2),
    )  # fmt: skip


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with stripe_world(settings) as world:
        yield world


@pytest.fixture
def stand_in(world: World) -> StripeStandIn:
    assert world.stand_in is not None
    return world.stand_in


@pytest.fixture
async def office(clean: None, settings: Settings, world: World) -> AsyncIterator[BoxOffice]:
    async with open_box_office(settings, redis_retries=3, gateway=world.gateway) as office:
        for client, name in ((CLIENT, "Shop"), (OTHER, "Other shop")):
            await office.access.create_client(name, client_id=client)
        await office.access.add_api_key(CLIENT, KEY)
        yield office


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Till]:
    await load_all(office)
    yield Till(office, await open_sale(GA=10))
    for settlement in office.settlements:
        await settlement.stop()


def refuse(code: str, status: int = 400, **details: Any) -> ApiError:
    return ApiError(status, "invalid_request_error", code, **details)


OURS = [
    pytest.param(refuse("permission_error", 403), "permission", id="permission"),
    pytest.param(refuse("api_key_expired", 401), "invalid_api_key", id="expired key"),
    pytest.param(refuse("account_invalid"), "account_invalid", id="account"),
    pytest.param(refuse("url_invalid", param="return_url"), "url_invalid", id="return_url"),
    pytest.param(refuse("parameter_unknown", param="capture_method"), "parameter_unknown", id="parameter"),
    pytest.param(refuse("payment_method_unactivated"), "payment_method_unactivated", id="cards not activated"),
    pytest.param(refuse("testmode_charges_only"), "testmode_charges_only", id="not activated"),
    pytest.param(
        refuse(
            "resource_missing",
            param="payment_method",
            message="No such PaymentMethod: 'pm_x'; a similar object exists in live mode, but a test mode key was used.",
        ),
        "livemode_mismatch",
        id="other mode",
    ),
    pytest.param(refuse(""), "invalid_request", id="no code"),
]


@pytest.mark.parametrize(("refusal", "code"), OURS)
async def test_what_is_wrong_with_us_waits(world: World, stand_in: StripeStandIn, refusal: ApiError, code: str) -> None:
    """And goes on as soon as it is mended."""
    request = world.request("ok")
    stand_in.refusals = [refusal]
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Unknown)
    assert outcome.misconfigured == code
    stand_in.refusals = []
    assert not isinstance(await world.gateway.authorize(request), Unknown | Declined)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (refuse("amount_too_small"), "amount_too_small"),
        (refuse("amount_too_large"), "amount_too_large"),
        (refuse("invalid_charge_amount_no_decimal_compatible"), "invalid_charge_amount_no_decimal_compatible"),
        (refuse("parameter_invalid_integer", param="amount"), "parameter_invalid_integer"),
        (refuse("", param="currency"), "currency_not_supported"),
    ],
)
async def test_an_amount_that_cannot_be_charged(
    world: World, stand_in: StripeStandIn, refusal: ApiError, code: str
) -> None:
    stand_in.refusals = [refusal]
    assert await world.gateway.authorize(world.request("ok")) == Unchargeable(code)


@pytest.mark.parametrize(
    "refusal",
    [
        refuse("resource_missing", param="payment_method"),
        refuse("payment_method_unexpected_state"),
        refuse("token_already_used"),
        refuse("card_decline_rate_limit_exceeded"),
    ],
)
async def test_what_is_about_the_card_declines(world: World, stand_in: StripeStandIn, refusal: ApiError) -> None:
    stand_in.refusals = [refusal]
    assert isinstance(await world.gateway.authorize(world.request("ok")), Declined)


async def test_other_currencies_arrive_as_stripe_counts(world: World, stand_in: StripeStandIn) -> None:
    """Authorised, captured, refunded and read back: always in our units here, in Stripe's there."""
    from msgspec.structs import replace

    for currency, ours, theirs in (("ISK", 5_000, 500_000), ("MGA", 5_000, 50), ("KWD", 5_000, 5_000), ("JPY", 5, 5)):
        request = replace(world.request("ok", ours), currency=currency)
        outcome = await world.gateway.authorize(request)
        assert (outcome.amount_cents, outcome.currency) == (ours, currency)  # type: ignore[union-attr]
        reference = outcome.reference  # type: ignore[union-attr]
        assert stand_in.intents[reference]["amount"] == theirs
        assert isinstance(await world.gateway.capture(request.payment_key, reference, ours, currency), Done)
        assert stand_in.intents[reference]["amount_received"] == theirs
        assert isinstance(await world.gateway.refund(f"r-{currency}", request.payment_key, reference, ours), Done)
        found = await world.gateway.lookup(request.payment_key, reference)
        assert (found.captured_cents, found.refunded_cents) == (ours, ours)  # type: ignore[union-attr]
    assert await world.gateway.authorize(replace(world.request("ok", 5_001), currency="KWD")) == Unchargeable(
        "invalid_amount"
    )
    assert await world.gateway.authorize(replace(world.request("ok"), currency="LYD")) == Unchargeable(
        "currency_not_supported"
    )


async def test_a_capture_without_its_currency_asks_first(world: World) -> None:
    from msgspec.structs import replace

    request = replace(world.request("ok", 5), currency="ISK")
    outcome = await world.gateway.authorize(request)
    assert isinstance(await world.gateway.capture(request.payment_key, outcome.reference, 5), Done)  # type: ignore[union-attr]


# ---------------------------------------------------------------- bookings


async def why(till: Till, booking: str) -> str:
    """Its failure code."""
    (row,) = await till.fetch("SELECT failure_code FROM bookings WHERE id = $1", booking)
    return str(row["failure_code"])


async def test_a_wrong_key_delays_bookings_and_ends_none(till: Till, stand_in: StripeStandIn) -> None:
    good, stand_in.api_key = stand_in.api_key, "sk_test_other"
    booking = await till.book("pm_ok", GA=1)
    with capture_logs() as said:
        for _ in range(3):
            await till.sooner()
            await till.drain()
    assert (await till.state(booking))[0] == "P", "it waits"
    assert [line for line in said if line["event"].startswith("gateway")] == [
        {"event": "gateway.misconfigured", "code": "invalid_api_key", "log_level": "error"}
    ]
    stand_in.api_key = good

    async def confirmed() -> bool:
        await till.sooner()
        await till.drain()
        return await till.state(booking) == "C confirmed"

    await eventually(confirmed, timeout_s=20)


async def test_what_waited_too_long_says_why(office: BoxOffice, till: Till, stand_in: StripeStandIn) -> None:
    """Its own failure code, with the gateway's reason: no decline, and no outage."""
    stand_in.refusals = [refuse("account_invalid")]
    booking = await till.book("pm_ok", GA=1)
    await till.drain()
    await eventually(lambda: till.fetch("SELECT FROM payments WHERE booking_id = $1 AND status = 'unknown'", booking))
    await (await office.pool()).execute("UPDATE payments SET created_at = created_at - interval '1 hour'")
    stand_in.api_key = "sk_test_other"

    async def failed() -> bool:
        await till.sooner()
        await till.drain()
        return (await till.state(booking))[0] == "F"

    await eventually(failed, timeout_s=20)
    assert await why(till, booking) == "payment_misconfigured"
    (row,) = await till.fetch("SELECT failure_code FROM payments WHERE booking_id = $1", booking)
    assert row["failure_code"] == "invalid_api_key"


async def test_an_amount_that_the_gateway_never_takes_ends_at_once(till: Till, stand_in: StripeStandIn) -> None:
    stand_in.refusals = [refuse("amount_too_small")]
    booking = await till.book("pm_ok", GA=1)
    hold = await till.hold(GA=1)
    await till.pay(hold, "pm_ok")
    await till.rest_bookings()
    assert await why(till, booking) == "payment_misconfigured"
    assert (await till.state(hold))[0] == "H", "a hold may still be paid, once the price is right"
    rows = await till.fetch("SELECT status, failure_code FROM payments")
    assert {tuple(row) for row in rows} == {("failed", "amount_too_small")}


# ---------------------------------------------------------------- readiness


async def ready(office: BoxOffice) -> dict[str, str]:
    """As a process says that has asked nobody yet: what the gateway says of our key is remembered for a while."""
    return await Readiness(office.shards, office.database, office.catalogue, office.gateway, office.settings).reasons()


async def test_a_wrong_key_is_not_ready(office: BoxOffice, till: Till, stand_in: StripeStandIn) -> None:
    assert await ready(office) == {}
    good, stand_in.api_key = stand_in.api_key, "sk_test_other"
    assert "invalid_api_key" in (await ready(office))["gateway"]
    stand_in.api_key = good
    assert await ready(office) == {}
    stand_in.restricted = True
    assert await ready(office) == {}, "a restricted key need not be allowed to read the account"
    stand_in.restricted = False
    stand_in.charges_enabled = False
    assert await ready(office) == {}, "test payments need no activated account"


async def test_a_gateway_that_does_not_answer_is_no_reason(office: BoxOffice, till: Till, monkeypatch: Any) -> None:
    """Bookings are taken meanwhile, and wait."""
    import asyncio

    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    monkeypatch.setattr(office.gateway, "trouble", hang)
    assert await ready(office) == {}


def test_the_same_trouble_is_logged_once_a_minute() -> None:
    now = 0.0
    trouble = Trouble(lambda: now)
    with capture_logs() as said:
        for _ in range(30):
            trouble.note("invalid_api_key", of_all=True)
            now += 4
        trouble.note("amount_too_small", of_all=False)
        assert trouble.code == "invalid_api_key"
        trouble.clear()
        trouble.clear()
    assert trouble.code == ""
    assert [line["event"] for line in said] == ["gateway.misconfigured"] * 3 + ["gateway.mended"]
