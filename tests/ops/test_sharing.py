"""`boxoffice events share` and `unshare`."""

from __future__ import annotations

import json

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker
from tests.ops.terminal import run
from tests.support.shop.orders import OTHER

pytestmark = pytest.mark.usefixtures("terminal")


async def test_an_event_is_taken_from_a_shop_and_given_back(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=1)
    for verb, shops in (("unshare", ()), ("share", (OTHER,))):
        code, said = await run("events", verb, event.id, OTHER, "--json")
        assert (code, json.loads(said)["id"]) == (0, event.id)
        assert (await office.store.event(event.id)).shops == shops
    assert [row["action"] for row in await office.control.history(event.id, limit=2)] == ["share", "unshare"]
