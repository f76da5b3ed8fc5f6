"""Looking for bookings reads no more of PostgreSQL than it shows, and one to know whether there are more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from boxoffice.backoffice import finding
from boxoffice.backoffice.finding import Wanted
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book


class Counting:
    """A session that remembers how many rows each query gave."""

    def __init__(self, connection: Any, rows: list[int]) -> None:
        self._connection, self._rows = connection, rows

    async def fetch(self, *query: Any) -> list[Any]:
        found: list[Any] = await self._connection.fetch(*query)
        self._rows.append(len(found))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("limit", [1, 3, 5])
async def test_what_is_read_is_bounded(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """By card, by customer, and as a list: newest first, with the last one shown as the place to go on from."""
    event = await open_sale(GA=10)
    booked = [(await book(office, event, reference="r", GA=1)).booking_id for _ in range(5)]
    await settle_all(office)
    await office.redis.flushdb()
    real, rows = finding.snapshot, list[int]()

    @asynccontextmanager
    async def counted(settings: Any) -> AsyncIterator[Any]:
        async with real(settings) as connection:
            yield Counting(connection, rows)

    monkeypatch.setattr(finding, "snapshot", counted)
    newest = sorted(booked, reverse=True)[:limit]
    for found in (
        await office.finder.by_card("4242", datetime.now(UTC).date(), limit),
        await office.finder.find("ada", limit),
        await office.finder.find("r", limit),
        await office.finder.list(Wanted(), limit),
    ):
        assert [match.view.id for match in found.matches] == newest
        assert found.more == (newest[-1] if limit < 5 else None)
    assert max(rows) == min(limit + 1, 5)
