"""What a shop or an operator may still write of the future is told by the clock that is handed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from boxoffice.access.store import Grant
from boxoffice.clock import Clock
from boxoffice.errors import BoxOfficeError
from boxoffice.office import open_box_office
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from tests.support.shop.orders import CLIENT

YEAR = timedelta(days=365)


def at(moment: datetime) -> Clock:
    """A clock that stands at a moment."""
    return Clock(epoch_ns=lambda: int(moment.timestamp()) * 1_000_000_000)


def test_a_clock_tells_one_time_in_every_unit() -> None:
    clock = Clock(epoch_ns=lambda: 1_700_000_000_250_999_999)
    assert clock.epoch_ms() == 1_700_000_000_250
    assert clock.now() == datetime(2023, 11, 14, 22, 13, 20, 251_000, tzinfo=UTC)


async def test_stores_ask_the_offices_clock(clean: None, settings: Settings) -> None:
    """An event, and the end of a key, that lie behind it are refused."""
    now = datetime.now(UTC)
    async with open_box_office(settings, clock=at(now + 2 * YEAR)) as office:
        await office.access.create_client("Shop", client_id=CLIENT)
        with pytest.raises(BoxOfficeError):
            await office.access.create_api_key(CLIENT, Grant(expires_at=now + YEAR))
        assert await office.access.create_api_key(CLIENT, Grant(expires_at=now + 3 * YEAR))
        with pytest.raises(BoxOfficeError):
            await office.store.create_event(CLIENT, "Concert", now + YEAR, "USD", [NewTier("GA", 1_000, 10)])
        assert await office.store.create_event(CLIENT, "Concert", now + 3 * YEAR, "USD", [NewTier("GA", 1_000, 10)])
