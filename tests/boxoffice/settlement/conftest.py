"""A settlement without stores, and a second process on the same ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from tests.support.settling import Room


@pytest.fixture
def room() -> Room:
    """One shard's, whose clock only the test moves."""
    return Room()


@pytest.fixture
async def second(office: BoxOffice, settings: Settings) -> AsyncIterator[BoxOffice]:
    """Another process's office on the same stores and the same gateway's ledger."""
    async with open_box_office(settings, redis_retries=3) as second:
        yield second
