"""How amounts are shown, which currencies there are, and which of them Stripe charges how."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from boxoffice.books.moves import apply_moves
from boxoffice.currencies import decimal, exponent, is_currency, shown
from boxoffice.errors import Malformed
from boxoffice.gateway.stripe.currencies import CURRENCIES, from_stripe, to_stripe, why_not
from boxoffice.office import BoxOffice
from boxoffice.sales.control import Control
from boxoffice.sales.store import CatalogueStore, NewTier
from boxoffice.settings import Settings
from tests.conftest import CLIENT
from tests.support.gateways import with_gateway

SOON = datetime.now(UTC) + timedelta(days=30)


@pytest.mark.parametrize(
    ("amount", "code", "text"),
    [
        (1500, "JPY", "1500 JPY"),
        (1500, "USD", "15.00 USD"),
        (1250, "KWD", "1.250 KWD"),
        (5, "BHD", "0.005 BHD"),
        (5, "EUR", "0.05 EUR"),
        (0, "ISK", "0 ISK"),
        (-150, "EUR", "-1.50 EUR"),
        (3, "CLF", "0.0003 CLF"),
        (1500, "ABC", "1500 minor units of ABC"),
    ],
)
def test_an_amount_for_people(amount: int, code: str, text: str) -> None:
    assert shown(amount, code) == text
    assert f"{decimal(amount, code)} {code}" == text.replace("minor units of ", "")


@pytest.mark.parametrize(
    ("code", "least"),
    [
        ("AED", 200), ("AUD", 50), ("BRL", 50), ("CAD", 50), ("CHF", 50), ("CZK", 1_500), ("DKK", 250), ("EUR", 50),
        ("GBP", 30), ("HKD", 400), ("HUF", 17_500), ("INR", 50), ("JPY", 50), ("MXN", 1_000), ("MYR", 200), ("NOK", 300),
        ("NZD", 50), ("PLN", 200), ("RON", 200), ("SEK", 300), ("SGD", 50), ("THB", 1_000), ("USD", 50),
        # Of a currency that no account settles in, Stripe tells.
        ("ARS", 1), ("ZMW", 1),
    ],
)  # fmt: skip
def test_the_least_that_stripe_charges(code: str, least: int) -> None:
    assert why_not(least, code) == ""
    if least > 1:
        assert why_not(least - 1, code) == f"Stripe charges {shown(least, code)} or more."


@pytest.mark.parametrize(
    "code", ["", "usd", "Usd", "US", "USDT", "ABC", "ZZZ", "XXX", "XTS", "XAU", "BTC", "ＵＳＤ", "U D"]
)
def test_what_is_no_currency(code: str) -> None:
    """Three capital letters are not enough; and nobody pays in gold, tests or nothing."""
    assert not is_currency(code)


def test_nothing_divides_by_a_hundred() -> None:
    """Amounts are shown by `shown` alone, in every package."""
    root = Path(__file__).parents[2]
    found = [
        f"{path.name}: {line.strip()}"
        for package in ("api", "boxoffice", "worker", "ops", "bench")
        for path in (root / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"(cents|amount|price|total)\w*(\[\S+\])?\s*/\s*100\b", line)
    ]
    assert not found


# ---------------------------------------------------------------- Stripe


@pytest.mark.parametrize(
    ("ours", "code", "theirs"),
    [
        (1000, "USD", 1000),
        (1000, "JPY", 1000),
        (1000, "HUF", 1000),
        (1000, "TWD", 1000),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (1000, "MGA", 10),
        (1001, "MGA", None),
        (5120, "KWD", 5120),
        (5124, "KWD", None),
        (1000, "TND", 1000),
    ],
)
def test_how_stripe_counts(ours: int, code: str, theirs: int | None) -> None:
    """docs.stripe.com/currencies: zero-decimal, three-decimal, special cases."""
    assert to_stripe(ours, code) == theirs
    if theirs is not None:
        assert from_stripe(theirs, code) == ours


def test_all_of_stripes_currencies_there_and_back() -> None:
    for code in sorted(filter(is_currency, CURRENCIES)):
        for amount in (10 ** exponent(code) * 100, 10 ** exponent(code) * 123_450):
            told = to_stripe(amount, code)
            assert told is not None
            assert from_stripe(told, code) == amount


def test_a_fraction_that_we_cannot_say_is_none_of_ours() -> None:
    """5.50 ISK is neither 5 nor 6, and must look like no amount that we asked for."""
    assert from_stripe(550, "ISK") < 0
    assert from_stripe(1000, "XYZ") == 1000


@pytest.mark.parametrize(
    ("amount", "code", "why"),
    [
        (50, "USD", ""),
        (0, "USD", ""),
        (49, "USD", "0.50 USD or more"),
        (49, "JPY", "50 JPY or more"),
        (17_499, "HUF", "175.00 HUF or more"),
        (99_999_999, "USD", ""),
        (100_000_000, "USD", "up to 999999.99 USD"),
        (1_000_000, "ISK", "up to 999999 ISK"),
        (999_999_999, "IDR", ""),
        (1_001, "KWD", "steps of 0.010 KWD"),
        (1_050, "MGA", "steps of 1.00 MGA"),
        (1_000, "LYD", "cannot charge LYD"),
        (1_000, "IQD", "cannot charge IQD"),
        (1_000, "CLF", "cannot charge CLF"),
        (1_000, "STD", "cannot charge STD"),
    ],
)
def test_what_stripe_cannot_charge(amount: int, code: str, why: str) -> None:
    found = why_not(amount, code)
    assert why in found
    assert bool(found) == bool(why)


# ---------------------------------------------------------------- what is refused when an event is made


def store_with(office: BoxOffice, settings: Settings, kind: str) -> CatalogueStore:
    return CatalogueStore(office.database, office.shards, with_gateway(settings, kind=kind))


def control_with(office: BoxOffice, settings: Settings, kind: str) -> Control:
    with_it = with_gateway(settings, kind=kind)
    return Control(office.database, office.shards, with_it, lambda here: apply_moves(here, office.database))


async def create(store: CatalogueStore, currency: str, price: int) -> Any:
    return await store.create_event(CLIENT, "Opera", SOON, currency, [NewTier("GA", price, 5)])


@pytest.mark.parametrize("currency", ["ABC", "usd", "XXX", "EURO", "E€R"])
async def test_an_event_has_a_currency_that_exists(office: BoxOffice, currency: str) -> None:
    with pytest.raises(Malformed) as refused:
        await create(office.store, currency, 1_000)
    assert refused.value.pointer == "/currency"


@pytest.mark.parametrize(
    ("currency", "price", "pointer"),
    [
        ("LYD", 1_000, "/currency"),
        ("LYD", 0, "/currency"),
        ("USD", 49, "/tiers/0/price_cents"),
        ("KWD", 1_001, "/tiers/0/price_cents"),
        ("USD", 100_000_000, "/tiers/0/price_cents"),
    ],
)
async def test_an_event_that_the_gateway_cannot_charge(
    office: BoxOffice, settings: Settings, currency: str, price: int, pointer: str
) -> None:
    """The simulator charges all; Stripe says so before anybody buys."""
    await create(office.store, currency, price)
    with pytest.raises(Malformed) as refused:
        await create(store_with(office, settings, "stripe"), currency, price)
    assert (refused.value.pointer, refused.value.code) == (pointer, "not_chargeable")


async def test_a_price_or_a_sale_that_the_gateway_cannot_charge(office: BoxOffice, settings: Settings) -> None:
    """Also a price that changes later, and an event that was made for another gateway."""
    stripe, control = store_with(office, settings, "stripe"), control_with(office, settings, "stripe")
    event = await create(stripe, "KWD", 1_000)
    with pytest.raises(Malformed, match=r"0\.010 KWD"):
        await control.change_tier(event.tiers[0].id, price_cents=1_005)
    assert (await stripe.event(event.id)).tiers[0].price_cents == 1_000
    other = await create(office.store, "LYD", 1_000)
    await office.control.change_event(other.id, status="inactive")
    with pytest.raises(Malformed, match="LYD"):
        await control.change_event(other.id, status="active")
    await office.control.change_event(other.id, status="active")


async def test_what_cannot_be_charged_keeps_no_other_event_off_sale(office: BoxOffice, settings: Settings) -> None:
    """Of two events, and of two tiers, each answers for its own price."""
    stripe, control = store_with(office, settings, "stripe"), control_with(office, settings, "stripe")
    one, _ = await create(stripe, "USD", 1_000), await create(office.store, "LYD", 1_000)
    assert (await control.change_event(one.id, status="active")).status == "active"
    assert (await control.change_tier(one.tiers[0].id, price_cents=2_000)).event.tiers[0].price_cents == 2_000
