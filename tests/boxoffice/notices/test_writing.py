"""What is told of an event, and to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.notices.types import BY_NAME, NOTICE_TYPES, TYPES
from boxoffice.notices.writing import notify_event, write
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.states import BOOKING_STATES, EVENT_STATUSES, PAYMENT_STATUSES, REFUND_STATUSES
from tests.conftest import SaleMaker
from tests.support.shop.orders import CLIENT, OTHER


async def told(pool: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Whom, of what type, and its data."""
    rows = await pool.fetch("SELECT client_id, type, details FROM notices ORDER BY id")
    return [(row["client_id"], row["type"], json.loads(row["details"])) for row in rows]


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    """Shared with another shop; nothing of it was told yet."""
    event = await open_sale(GA=10)
    pool = await office.pool()
    await pool.execute("DELETE FROM event_shares")
    await pool.execute("INSERT INTO event_shares (event_id, client_id) VALUES ($1, $2)", event.id, OTHER)
    await pool.execute("DELETE FROM notices")
    return event


@pytest.mark.parametrize(
    ("action", "changes", "type_"),
    [
        ("create", {"status": [None, "active"]}, "event.created"),
        ("edit", {"name": ["a", "b"]}, "event.changed"),
        ("edit", {"status": ["inactive", "active"]}, "event.opened"),
        ("edit", {"status": ["active", "inactive"]}, "event.closed"),
        ("edit", {"status": ["active", "paused"]}, "event.paused"),
        ("pause", {"status": ["active", "paused"]}, "event.paused"),
        ("resume", {"status": ["paused", "active"]}, "event.resumed"),
        ("postpone", {"starts_at": ["a", "b"]}, "event.postponed"),
        ("call_off", {"status": ["active", "called_off"], "reason": [None, "rain"]}, "event.called_off"),
        ("edit_tier", {"price_cents": [1, 2]}, "event.changed"),
    ],
)
async def test_whoever_sells_it_is_told(
    office: BoxOffice, event: EventView, action: str, changes: dict[str, Any], type_: str
) -> None:
    """Which fields changed, and not what they say: that is read where it stands."""
    pool = await office.pool()
    await notify_event(pool, event.id, action, "t1" if "tier" in action else None, changes)
    data = {"status": "active", "version": 1, "action": action, "fields": sorted(changes)}
    if "tier" in action:
        data["tier_id"] = "t1"
    assert await told(pool) == [(shop, type_, data) for shop in sorted((CLIENT, OTHER))]


@pytest.mark.parametrize("action", ["create_codes", "revoke_codes", "create_allocation", "release_allocation"])
async def test_what_is_the_owners_own_no_other_shop_is_told(office: BoxOffice, event: EventView, action: str) -> None:
    pool = await office.pool()
    await notify_event(pool, event.id, action, None, {"tickets": [None, 4]})
    data = {"status": "active", "version": 1, "action": action}
    assert await told(pool) == [(CLIENT, "event.changed", data)]


@pytest.mark.parametrize(("action", "shops"), [("share", [None, "third0000000"]), ("unshare", ["third0000000", None])])
async def test_the_shop_that_it_is_about_is_told(
    office: BoxOffice, event: EventView, action: str, shops: list[str | None]
) -> None:
    pool = await office.pool()
    await notify_event(pool, event.id, action, None, {"shop": shops})
    assert [each[:2] for each in await told(pool)] == [
        (shop, "event.created" if (action, shop) == ("share", "third0000000") else "event.changed")
        for shop in sorted((CLIENT, "third0000000"))
    ]


async def test_a_type_that_nobody_can_choose_is_a_bug(office: BoxOffice) -> None:
    with pytest.raises(AssertionError):
        await write(await office.pool(), CLIENT, "booking.gone", {})


def test_every_status_has_its_notice() -> None:
    """But for an authorised or declined payment, which its booking's notice tells."""
    assert len({*NOTICE_TYPES}) == len(TYPES) == len(BY_NAME)
    of = {subject: {kind.status for kind in TYPES if kind.subject == subject} - {None} for subject in
          ("booking", "payment", "refund", "event")}  # fmt: skip
    assert of["booking"] == {*BOOKING_STATES}
    assert of["refund"] == {*REFUND_STATUSES}
    assert of["payment"] == {*PAYMENT_STATUSES} - {"unknown", "requires_action", "authorized", "declined"}
    assert of["event"] == {*EVENT_STATUSES}
    assert all(kind.name.startswith(f"{kind.subject}.") for kind in TYPES)
