"""What was changed of a sale: each event's own, from the newest, a page at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from boxoffice.office import BoxOffice
from boxoffice.sales.history import differences
from tests.conftest import SaleMaker, load_all

OPENS = datetime(2031, 1, 1, 12, 30, tzinfo=UTC)


def test_only_what_differs_is_a_change() -> None:
    """Also what was nothing before, or is nothing now."""
    before = {"a": 1, "b": None, "c": 3, "d": 4, "gone": 5}
    assert differences(before, {"a": 1, "b": 2, "c": None, "d": 5, "new": 6}) == {
        "b": [None, 2], "c": [3, None], "d": [4, 5], "new": [None, 6],
    }  # fmt: skip
    assert differences(before, {"a": 1, "e": None}) == {}


async def test_each_event_has_its_own(office: BoxOffice, open_sale: SaleMaker) -> None:
    """In a page stands what is older than the one named, of this event; times read as times do."""
    mine, other = await open_sale(GA=1), await open_sale(GA=1)
    await load_all(office)
    control = office.control
    await control.change_event(mine.id, on_sale_at=OPENS, off_sale_at=OPENS + timedelta(days=1))
    await control.change_event(other.id, name="Elsewhere")
    await control.change_event(mine.id, on_sale_at=None)
    closed, opened, made = await control.history(mine.id)
    assert [told["action"] for told in (closed, opened, made)] == ["edit", "edit", "create"]
    assert [told["version"] for told in (closed, opened, made)] == [3, 2, 1]
    assert opened["changes"] == {
        "on_sale_at": {"from": None, "to": "2031-01-01T12:30:00Z"},
        "off_sale_at": {"from": None, "to": "2031-01-02T12:30:00Z"},
    }
    assert closed["changes"] == {"on_sale_at": {"from": "2031-01-01T12:30:00Z", "to": None}}
    elsewhere, _ = await control.history(other.id)
    assert opened["id"] < elsewhere["id"] < closed["id"]
    assert await control.history(mine.id, before=elsewhere["id"]) == [opened, made]
    assert await control.history(mine.id, limit=1) == [closed]
    assert await control.history(mine.id, before=made["id"]) == []
