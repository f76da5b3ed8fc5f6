"""What is on sale, as it is written into PostgreSQL: every value where it belongs, and nothing of another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice.errors import Malformed, NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.rules import Rules
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker

STARTS = datetime(2031, 5, 22, 14, tzinfo=UTC)


async def test_every_value_of_a_new_event_is_written(office: BoxOffice) -> None:
    until = STARTS - timedelta(days=7)
    tiers = [NewTier("VIP", 2_000, 5, "Front"), NewTier("GA", 1_000, 100)]
    event = await office.store.create_event(
        CLIENT, "Concert", STARTS, "EUR", tiers, rules=Rules(customer_max=4), cancel_until=until, refund_percent=35
    )
    pool = await office.pool()
    row = await pool.fetchrow(
        "SELECT id, client_id, shard, name, starts_at, status, currency, customer_max, cancel_until, refund_percent FROM events"
    )
    assert tuple(row) == (event.id, CLIENT, SHARD, "Concert", STARTS, "active", "EUR", 4, until, 35)
    rows = await pool.fetch(
        "SELECT event_id, code, name, price_cents, display_order, is_active, total, sold"
        " FROM tiers JOIN inventory ON tier_id = id ORDER BY display_order"
    )
    assert [tuple(each) for each in rows] == [
        (event.id, "VIP", "Front", 2_000, 0, True, 5, 0), (event.id, "GA", "GA", 1_000, 1, True, 100, 0),
    ]  # fmt: skip
    await office.store.create_event(CLIENT, "Bare", STARTS, "EUR", tiers)
    row = await pool.fetchrow("SELECT customer_max, cancel_until, refund_percent FROM events WHERE name = 'Bare'")
    assert tuple(row) == (None, None, 100)


@pytest.mark.parametrize(
    ("change", "column"),
    [({"name": "New"}, "name"), ({"starts_at": STARTS}, "starts_at"), ({"status": "inactive"}, "status"),
     ({"customer_max": 3}, "customer_max")],
)  # fmt: skip
async def test_a_changed_event_is_written_and_published(
    office: BoxOffice, open_sale: SaleMaker, change: dict[str, Any], column: str
) -> None:
    event, other = await open_sale(GA=1), await open_sale(GA=1)
    pool = await office.pool()
    before = dict(await pool.fetchrow("SELECT * FROM events WHERE id = $1", other.id))
    raw = await office.redis.hget(keys.catalogue(SHARD), event.id)  # type: ignore[misc]
    await pool.execute("UPDATE events SET updated_at = to_timestamp(1) WHERE id = $1", event.id)
    view = await office.control.change_event(event.id, **change)
    row = await pool.fetchrow("SELECT * FROM events WHERE id = $1", event.id)
    assert row[column] == change[column] and row["updated_at"].year > 2000
    assert await office.store.event(event.id) == view != event
    assert await office.redis.hget(keys.catalogue(SHARD), event.id) != raw  # type: ignore[misc]
    assert dict(await pool.fetchrow("SELECT * FROM events WHERE id = $1", other.id)) == before


@pytest.mark.parametrize(
    "change", [{"name": "New"}, {"price_cents": 7}, {"display_order": 9}, {"is_active": False}]
)  # fmt: skip
async def test_a_changed_tier_is_written_and_published(
    office: BoxOffice, open_sale: SaleMaker, change: dict[str, Any]
) -> None:
    event = await open_sale(GA=1, VIP=2)
    tier, other = event.tiers
    pool = await office.pool()
    before = dict(await pool.fetchrow("SELECT * FROM tiers WHERE id = $1", other.id))
    await pool.execute("UPDATE tiers SET updated_at = to_timestamp(1) WHERE id = $1", tier.id)
    view = (await office.control.change_tier(tier.id, **change)).event
    row = await pool.fetchrow("SELECT * FROM tiers WHERE id = $1", tier.id)
    assert {name: row[name] for name in change} == change and row["updated_at"].year > 2000
    assert dict(await pool.fetchrow("SELECT * FROM tiers WHERE id = $1", other.id)) == before
    assert view == await office.store.event(event.id) and view.id == event.id
    assert [each.id for each in view.tiers] == (
        [other.id, tier.id] if "display_order" in change else [tier.id, other.id]
    )


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 300])
async def test_a_name_that_cannot_be_changes_nothing(office: BoxOffice, open_sale: SaleMaker, name: str) -> None:
    event = await open_sale(GA=1)
    for call in (office.control.change_event(event.id, name=name), office.control.change_tier(event.tiers[0].id, name=name),
                 office.access.create_client(name)):  # fmt: skip
        with pytest.raises(Malformed) as refused:
            await call
        assert refused.value.pointer == "/name"
    assert await office.store.event(event.id) == event


async def test_what_is_not_there_cannot_be_changed(office: BoxOffice, open_sale: SaleMaker) -> None:
    """And it is said what is not there."""
    store, control, new = office.store, office.control, [NewTier("A", 1, 1)]
    await open_sale(GA=1)
    for call, what in (
        (control.change_event("nothing00000", name="x"), "event"), (control.change_tier("nothing00000", name="x"), "tier"),
        (store.event("nothing00000"), "event"), (office.access.revoke_api_key("nothing"), "API key"),
        (office.access.create_api_key("nothing00000"), "client"), (office.access.add_api_key("nothing00000", "a.b"), "client"),
        (store.create_event("nothing00000", "E", STARTS, "EUR", new), "client"),
    ):  # fmt: skip
        with pytest.raises(NotFound) as refused:
            await call
        assert refused.value.detail == f"There is no such {what}."


@pytest.mark.parametrize(
    ("change", "pointer", "code", "detail"),
    [
        ({"starts_at": datetime(2031, 1, 1)}, "/starts_at", "malformed",
         "The start needs a time zone, such as 2030-05-22T14:00:00Z."),
        ({"starts_at": datetime(9000, 1, 1, tzinfo=UTC)}, "/starts_at", "out_of_range", "A time is in the years 1971 to 8999."),
        ({"cancel_until": datetime(2031, 1, 1)}, "/cancel_until", "malformed",
         "The end of cancelling needs a time zone, such as 2030-05-22T14:00:00Z."),
        ({"cancel_until": datetime(1970, 12, 31, tzinfo=UTC)}, "/cancel_until", "out_of_range",
         "A time is in the years 1971 to 8999."),
        ({"refund_percent": 101}, "/refund_percent", "malformed", "A cancellation gives back 0 to 100 percent."),
        ({"refund_percent": -1}, "/refund_percent", "malformed", "A cancellation gives back 0 to 100 percent."),
        ({"currency": "eur"}, "/currency", "currency",
         "The currency is a code of ISO 4217, three capital letters, such as EUR."),
        ({"rules": Rules(customer_max=0)}, "/customer_max", "malformed", "Rules count tickets: 1 to 2147483647."),
        ({"rules": Rules(booking_min=3, customer_max=2)}, "/booking_min", "least_above_most",
         "Nobody could book: no more than 2 tickets are let in at once."),
        ({"tiers": [NewTier("A", 1, 1), NewTier("B", 1, 1, rules=Rules(customer_min=0))]}, "/tiers/1/customer_min",
         "malformed", "Rules count tickets: 1 to 2147483647."),
        ({"rules": Rules(booking_max=2), "tiers": [NewTier("A", 1, 1, rules=Rules(customer_min=3))]},
         "/tiers/0/customer_min", "least_above_most", "Nobody could book: no more than 2 tickets are let in at once."),
        ({"tiers": []}, "/tiers", "malformed", "An event has 1 to 100 tiers."),
        ({"tiers": [NewTier("A", 1, 1), NewTier("B", -1, 1)]}, "/tiers/1", "malformed",
         "Prices and capacities are whole numbers from 0 to 2147483647."),
        ({"tiers": [NewTier("A", 1, 1), NewTier("A", 1, 1)]}, "/tiers", "malformed", "Two tiers have the same code."),
        ({"tiers": [NewTier("A", 1, 1), NewTier("", 1, 1)]}, "/tiers/1/code", "empty",
         "The text at /tiers/1/code must not be empty."),
        ({"tiers": [NewTier("A", 1, 1, " ")]}, "/tiers/0/name", "empty", "The text at /tiers/0/name must not be empty."),
        ({"name": "n" * 201}, "/name", "too_long", "The text at /name has more than 200 characters."),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_an_event_is_said(
    office: BoxOffice, change: dict[str, Any], pointer: str, code: str, detail: str
) -> None:
    """Where, why and in words; nothing of it is written."""
    good: dict[str, Any] = {"name": "E", "starts_at": STARTS, "currency": "EUR", "tiers": [NewTier("A", 1, 1)]}
    with pytest.raises(Malformed) as refused:
        await office.store.create_event(CLIENT, **good | change)
    assert (refused.value.pointer, refused.value.code, refused.value.detail) == (pointer, code, detail)
    assert await office.store.events() == []


@pytest.mark.parametrize("percent", [0, 100])
async def test_a_cancellation_may_give_back_nothing_or_all(office: BoxOffice, percent: int) -> None:
    await office.store.create_event(CLIENT, "E", STARTS, "EUR", [NewTier("A", 1, 1)], refund_percent=percent)
    assert await (await office.pool()).fetchval("SELECT refund_percent FROM events") == percent


async def test_events_are_listed_by_their_start(office: BoxOffice, open_sale: SaleMaker) -> None:
    late, soon = await open_sale(GA=1), await open_sale(GA=1, starts_in=timedelta(days=2), shard=0)
    assert await office.store.events() == [soon, late]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        (None, None),
        ((0, "EUR"), "/currency"),
        ((2_000, "EUR"), "/tiers/0/price_cents"),
        ((7, "EUR"), "/tiers/1/price_cents"),
    ],
)
async def test_a_new_event_costs_what_can_be_charged(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, str] | None, pointer: str | None
) -> None:
    """Its currency, and each price in it, as the gateway takes them."""
    asked: list[tuple[int, str]] = []

    def why_not(_: object, price_cents: int, currency: str) -> str:
        asked.append((price_cents, currency))
        return "The gateway says no." if (price_cents, currency) == wrong else ""

    monkeypatch.setattr("boxoffice.sales.checks.why_not_chargeable", why_not)
    create = office.store.create_event(CLIENT, "Name", STARTS, "EUR", [NewTier("A", 2_000, 5), NewTier("B", 7, 5)])
    if wrong is None:
        await create
        assert asked == [(0, "EUR"), (2_000, "EUR"), (7, "EUR")]
    else:
        with pytest.raises(Malformed, match="The gateway says no") as refused:
            await create
        assert (refused.value.pointer, refused.value.code) == (pointer, "not_chargeable")
        assert await office.store.events() == []


async def test_a_changed_price_can_be_charged(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this tier; and of an event that is put on sale, of each of its own."""
    event = await open_sale(GA=1, VIP=2)
    await open_sale(GA=3)
    asked: list[tuple[int, str]] = []

    def why_not(_: object, price_cents: int, currency: str) -> str:
        asked.append((price_cents, currency))
        return "no" if price_cents == 7 else ""

    monkeypatch.setattr("boxoffice.sales.checks.why_not_chargeable", why_not)
    await office.control.change_tier(event.tiers[0].id, price_cents=500)
    with pytest.raises(Malformed) as refused:
        await office.control.change_tier(event.tiers[1].id, price_cents=7)
    assert refused.value.pointer == "/price_cents"
    await office.control.change_tier(event.tiers[0].id, name="New")
    await office.control.change_event(event.id, name="New")
    await office.control.change_event(event.id, status="inactive")
    assert asked == [(500, "USD"), (7, "USD")]
    await office.control.change_event(event.id, status="active")
    assert sorted(asked[2:]) == [(500, "USD"), (2_000, "USD")]
    assert [tier.price_cents for tier in (await office.store.event(event.id)).tiers] == [500, 2_000]
