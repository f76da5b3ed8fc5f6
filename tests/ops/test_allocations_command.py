"""`boxoffice allocations`: set aside, listed, changed, released; the exit code tells what could not be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER, tier_of

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    await load_all(office)
    return await open_sale(GA=10)


async def told(*arguments: str, code: int = 0) -> Any:
    ended, said = await run("allocations", *arguments, "--json")
    assert ended == code, said
    return json.loads(said)


async def test_tickets_are_set_aside_and_released(office: BoxOffice, event: EventView) -> None:
    tier = tier_of(event, "GA")
    made = await told("create", event.id, tier, "--tickets", "4", "--shop", OTHER)
    assert (made["tickets"], made["reserved"]) == (4, 4)
    await book(office, event, GA=1, client=OTHER)
    (code,) = json.loads((await run("codes", "create", event.id, "--tickets", "9", "--json"))[1])
    asked = ("create", event.id, tier, "--tickets", "9", "--code", code["id"])
    assert (await told(*asked, code=1))["reserved"] == 6, "fewer are available"
    assert {each["shop"] for each in await told("list", event.id)} == {OTHER, None}
    shown = (await run("allocations", "list", event.id))[1]
    assert made["id"] in shown and OTHER in shown and "yes" in shown
    resized = await told("resize", event.id, made["id"], "--tickets", "0", code=1)
    assert resized["tickets"] == 1, "what is taken stays"
    assert (await told("resize", event.id, made["id"], "--tickets", "3"))["reserved"] == 2
    assert (await told("release", event.id, made["id"], "--tickets", "1"))["tickets"] == 2
    ended, said = await run("allocations", "release", event.id, made["id"])
    assert (ended, said) == (0, f"{made['id']}: released, 1 taken, 0 reserved\n")
    assert len(await told("list", event.id)) == 1
    assert len(await told("list", event.id, "--all")) == 2


@pytest.mark.parametrize("holder", [(), ("--shop", OTHER, "--code", "c")])
async def test_it_is_for_a_shop_or_for_a_code(event: EventView, holder: tuple[str, ...]) -> None:
    ended, _ = await run("allocations", "create", event.id, tier_of(event, "GA"), "--tickets", "1", *holder)
    assert ended == 2
