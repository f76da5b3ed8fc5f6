"""The example: made once, kept, and moved ahead when its time has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from boxoffice.access.api_keys import ApiKeys
from boxoffice.errors import Unauthorized
from boxoffice.office import BoxOffice
from ops.seed import DEMO_CLIENT, DEMO_KEY, seed
from tests.conftest import counters
from tests.support.shop.office import book


async def test_the_seed_may_be_run_again(office: BoxOffice) -> None:
    first = await seed(office.settings, demo_key=False)
    assert (first.created, first.moved, first.api_key) == (True, False, None)
    assert [(tier.code, tier.capacity, tier.price_cents) for tier in first.event.tiers] == [
        ("VIP", 50, 10_000), ("FRONT_ROW", 200, 5_000), ("GA", 1_000, 1_000),
    ]  # fmt: skip
    with pytest.raises(Unauthorized):
        await office.catalogue.api_keys.caller_of(DEMO_KEY)
    await book(office, first.event, client=DEMO_CLIENT, GA=2)

    again = await seed(office.settings, demo_key=True)

    assert (again.created, again.moved, again.event, again.api_key) == (False, False, first.event, DEMO_KEY)
    assert (await counters(office, first.event, "GA")).held == 2, "sales are kept"
    assert (await ApiKeys(office.shards, 30).caller_of(DEMO_KEY)).client == DEMO_CLIENT


async def test_the_example_moves_ahead_when_its_time_has_come(office: BoxOffice) -> None:
    first = await seed(office.settings, demo_key=False)
    await office.control.change_event(first.event.id, starts_at=datetime.now(UTC) - timedelta(days=1), allow=["past"])

    again = await seed(office.settings, demo_key=False)

    assert (again.created, again.moved, again.event.id) == (False, True, first.event.id)
    assert again.event.starts_ms > datetime.now(UTC).timestamp() * 1_000
