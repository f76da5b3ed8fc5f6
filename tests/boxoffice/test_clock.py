"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from boxoffice.clock import iso


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2030, 5, 22, 14, tzinfo=UTC), "2030-05-22T14:00:00Z"),
        (datetime(2030, 5, 22, 14, 0, 0, 250_000, tzinfo=UTC), "2030-05-22T14:00:00.250000Z"),
        (datetime(2030, 5, 22, 1, tzinfo=timezone(timedelta(hours=2))), "2030-05-21T23:00:00Z"),
    ],
)
def test_times_are_written_in_utc(moment: datetime, text: str) -> None:
    assert iso(moment) == text
