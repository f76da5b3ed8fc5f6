"""`boxoffice events`: what an operator types to change a sale, and what comes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice.errors import EventChanged, Malformed, NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.rules import RULES
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT, tier_of

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    await load_all(office)
    return await open_sale(GA=10, VIP=4)


async def told(*arguments: str) -> Any:
    """A command's JSON."""
    code, said = await run("events", *arguments, "--json")
    assert code == 0, said
    return json.loads(said)


async def row_of(office: BoxOffice, event: EventView) -> Any:
    return await (await office.pool()).fetchrow("SELECT * FROM events WHERE id = $1", event.id)


async def test_an_event_is_made_closed_or_scheduled(office: BoxOffice) -> None:
    options = ["--name", "E", "--starts-at", "2040-01-01T20:00:00Z", "--tier", "GA:1000:5", "--client", CLIENT]
    made = await told(
        "create", *options, "--on-sale-at", "2039-01-01T00:00:00Z", "--off-sale-at", "2039-02-01T00:00:00Z"
    )
    assert (made["on_sale_at"], made["off_sale_at"]) == ("2039-01-01T00:00:00Z", "2039-02-01T00:00:00Z")
    assert (await told("create", *options, "--closed"))["status"] == "inactive"
    past = ["--name", "E", "--starts-at", "2020-01-01T20:00:00Z", "--tier", "GA:1000:5", "--client", CLIENT]
    late = [*options, "--cancel-until", "2041-01-01T00:00:00Z"]
    for refused, meant in ((past, "--allow-past"), (late, "--allow-late-cancel")):
        with pytest.raises(Malformed):
            await run("events", "create", *refused)
        assert (await run("events", "create", *refused, meant))[0] == 0
    assert len(await told("list")) == 3
    assert len(await told("list", "--past")) == 4


async def test_an_event_is_edited(office: BoxOffice, event: EventView) -> None:
    """What is named, and nothing else; `none` takes away."""
    await told("edit", event.id, "--name", "New", "--customer-max", "3", "--refund-percent", "50",
               "--cancel-until", event.starts_at, "--if-version", "1")  # fmt: skip
    row = await row_of(office, event)
    assert (row["name"], row["customer_max"], row["refund_percent"], row["version"]) == ("New", 3, 50, 2)
    assert row["cancel_until"] == datetime.fromisoformat(event.starts_at)
    await told("edit", event.id, "--customer-max", "none", "--cancel-until", "none")
    row = await row_of(office, event)
    assert (row["name"], row["customer_max"], row["cancel_until"]) == ("New", None, None)
    with pytest.raises(EventChanged):
        await run("events", "edit", event.id, "--name", "Late", "--if-version", "1")
    assert (await run("events", "edit", event.id, "--customer-max", "many"))[0] == 2
    with pytest.raises(Malformed):
        await run("events", "edit", event.id, "--starts-at", "2020-01-01T00:00:00Z")
    await told("edit", event.id, "--starts-at", "2020-01-01T00:00:00Z", "--allow-past")


async def test_a_sale_is_scheduled_paused_resumed_and_postponed(office: BoxOffice, event: EventView) -> None:
    opens = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    scheduled = await told("schedule", event.id, "--on-sale-at", opens.isoformat(), "--off-sale-at", event.starts_at)
    assert (scheduled["on_sale_at"], scheduled["off_sale_at"]) == (
        opens.isoformat().replace("+00:00", "Z"),
        event.starts_at,
    )
    code, said = await run("events", "show", event.id)
    assert f"on sale from {scheduled['on_sale_at']} until {event.starts_at}" in said
    assert (await told("schedule", event.id, "--on-sale-at", "none"))["off_sale_at"] == event.starts_at
    assert (await told("pause", event.id))["status"] == "paused"
    assert (await told("resume", event.id))["status"] == "active"
    postponed = await told("postpone", event.id, "--starts-at", "2040-01-01T20:00:00Z", "--cancel-until", "none")
    assert postponed["starts_at"] == "2040-01-01T20:00:00Z"
    assert [each["action"] for each in await told("history", event.id)] == [
        "postpone", "resume", "pause", "schedule", "schedule", "create",
    ]  # fmt: skip
    assert len(await told("history", event.id, "--limit", "2")) == 2
    code, said = await run("events", "history", event.id)
    assert code == 0 and "pause: status active -> paused" in said
    with pytest.raises(NotFound):
        await run("events", "history", "nothing00000")


async def test_rules_are_given_edited_and_taken_away(office: BoxOffice, event: EventView) -> None:
    """Of an event and of its tiers; one that is no rule, or no number, is refused before anything is done."""
    options = ["--name", "E", "--starts-at", "2040-01-01T20:00:00Z", "--client", CLIENT, "--booking-min", "1",
               "--booking-max", "4", "--customer-min", "2", "--customer-max", "8"]  # fmt: skip
    made = await told("create", *options, "--tier", "GA:1000:5:booking_max=3:customer_min=2", "--tier", "BOX:1:5")
    assert [made[rule] for rule in RULES] == [1, 4, 2, 8]
    assert [[tier[rule] for rule in RULES] for tier in made["tiers"]] == [[None, 3, 2, None], 4 * [None]]
    code, said = await run("events", "show", made["id"])
    assert code == 0 and "tickets let in: booking_min 1, booking_max 4, customer_min 2, customer_max 8" in said
    for bad in ("GA:1000:5:booking_max=x", "GA:1000:5:booking_max", "GA:1000:5:limit=3", "GA:1000"):
        assert (await run("events", "create", *options, "--tier", bad))[0] == 2
    edited = await told("edit", made["id"], "--booking-max", "6", "--booking-min", "none", "--customer-min", "none")
    assert [edited[rule] for rule in RULES] == [None, 6, None, 8]
    added = await told("add-tier", made["id"], "NEW:1:5:booking_min=2:booking_max=3", "--booking-max", "4",
                       "--customer-max", "5")  # fmt: skip
    assert [added["tiers"][2][rule] for rule in RULES] == [2, 4, None, 5]
    tier = await told("edit-tier", added["tiers"][2]["id"], "--booking-min", "none", "--customer-min", "3")
    assert [tier["tiers"][2][rule] for rule in RULES] == [None, 4, 3, 5]
    assert (await run("events", "edit-tier", event.tiers[0].id, "--customer-max", "-1"))[0] == 2


async def test_tiers_are_added_and_edited(office: BoxOffice, event: EventView) -> None:
    ga = tier_of(event, "GA")
    await book(office, event, GA=3)
    added = await told("add-tier", event.id, "BOX:9000:2", "--name", "Box", "--on-sale-at", "2039-01-01T00:00:00Z")
    assert [(tier["code"], tier["name"], tier["capacity"]) for tier in added["tiers"]][2] == ("BOX", "Box", 2)
    assert added["tiers"][2]["on_sale_at"] == "2039-01-01T00:00:00Z"
    changed = await told(
        "edit-tier", ga, "--capacity", "1", "--price-cents", "7", "--name", "Standing", "--display-order", "5"
    )
    assert changed["capacity_change"] == {"before": 10, "asked": 1, "after": 3}
    assert (
        changed["tiers"][-1] | {"id": ga, "price_cents": 7, "name": "Standing", "capacity": 3} == changed["tiers"][-1]
    )
    code, said = await run("events", "edit-tier", ga, "--capacity", "2")
    assert code == 0 and "Of 3 tickets 3 remain: so many are held or sold." in said
    assert len((await told("edit-tier", ga, "--off-sale"))["tiers"]) == 2
    assert len((await told("edit-tier", ga, "--on-sale", "--if-version", "4"))["tiers"]) == 3


async def test_an_event_is_called_off_when_it_is_meant(office: BoxOffice, event: EventView) -> None:
    assert (await run("events", "call-off", event.id))[0] == 2
    code, _ = await run("events", "call-off", event.id, "--reason", "Rain")
    assert code == 1, "nobody said yes"
    assert (await row_of(office, event))["status"] == "active"
    report = await told("call-off", event.id, "--reason", "Rain", "--yes")
    assert (report["status"], report["reason"]) == ("running", "Rain")
    assert await told("call-off", event.id, "--show") == report
    code, said = await run("events", "call-off", event.id, "--show")
    assert code == 0 and f"{event.id}: called off, running" in said


async def test_a_second_shop_of_a_name_is_meant(office: BoxOffice) -> None:
    with pytest.raises(Malformed):
        await run("clients", "create", "Shop")
    assert (await run("clients", "create", "Shop", "--same-name"))[0] == 0
