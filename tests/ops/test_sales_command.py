"""How sales stand: the same figures as table, CSV and JSON, and they add up."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice.errors import NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.store import NewTier
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50, VIP=5))


async def sales(*arguments: str) -> list[dict[str, Any]]:
    code, said = await run("sales", *arguments, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(said)
    return found


def tickets(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("code", "capacity", "sold", "held", "pending", "available", "returned"))


def money(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["revenue_cents"], row["refunded_cents"], row["net_cents"]


async def busy(till: Till) -> None:
    """Sold, given back in part, refunded and cancelled at half price, declined, held, pending."""
    await till.fetch("UPDATE events SET refund_percent = 50")
    both, cancelled, late = await till.book(GA=3, VIP=1), await till.book(GA=2, VIP=1), await till.book(GA=1)
    await till.book("tok_card_declined", GA=4)
    await till.rest()
    await till.refund(both, "a", GA=1)
    await till.cancel(cancelled)
    await till.refund(late, "b")
    await till.rest()
    await till.hold(GA=5)
    await till.book(GA=6, VIP=2)


async def test_tickets_and_money_by_tier(till: Till) -> None:
    """A cancellation at half price gives half of each tier's price back."""
    await busy(till)
    ga, vip = await sales(till.event.id)
    assert tickets(ga) == ("GA", 50, 2, 5, 6, 37, 4)
    assert tickets(vip) == ("VIP", 5, 1, 0, 2, 2, 1)
    assert money(ga) == (6_000, 1_000 + 1_000 + 1_000, 3_000)
    assert money(vip) == (4_000, 1_000, 3_000)


async def test_the_shares_of_a_refund_add_up_to_the_cent(office: BoxOffice, till: Till) -> None:
    tiers = [NewTier(code, price, 5) for code, price in (("A", 333), ("B", 334), ("C", 1))]
    event = await office.store.create_event(
        CLIENT, "Odd", datetime.now(UTC) + timedelta(days=30), "USD", tiers, refund_percent=50
    )
    odd = Till(office, event, till.numbers)
    booking = await odd.book(A=1, B=1, C=1)
    await odd.rest()
    await odd.cancel(booking)
    rows = await sales(event.id)
    ((refunded,),) = await odd.fetch("SELECT refunded_cents FROM payments WHERE booking_id = $1", booking)
    assert sum(row["refunded_cents"] for row in rows) == refunded == 334
    assert all(row["refunded_cents"] <= row["revenue_cents"] for row in rows)
    assert {row["sold"] for row in rows} == {0}


async def test_money_that_went_back_without_tickets_is_shared_by_all(till: Till) -> None:
    """A refund that somebody made at the gateway."""
    booking = await till.book(GA=2, VIP=1)
    await till.rest()
    await till.fetch("UPDATE payments SET refunded_cents = 1000 WHERE booking_id = $1", booking)
    ga, vip = await sales(till.event.id)
    assert (ga["refunded_cents"], vip["refunded_cents"], ga["returned"]) == (500, 500, 0)


async def test_what_was_never_sold_brings_nothing(till: Till) -> None:
    """Paid too late, refused at capture, cancelled while it was paid."""
    refused, late = await till.book(GA=1), await till.book("tok_card_declined", GA=1)
    await till.rest()
    await till.fetch("UPDATE payments SET status = 'failed' WHERE booking_id = $1", refused)
    await till.fetch("UPDATE bookings SET status = 'cancelled', failure_code = 'capture_failed' WHERE id = $1", refused)
    await till.fetch(
        "UPDATE payments SET status = 'captured', failure_code = 'paid_too_late' WHERE booking_id = $1", late
    )
    await till.fetch("UPDATE bookings SET status = 'cancelled' WHERE id = $1", late)
    assert [money(row) for row in await sales(till.event.id)] == [(0, 0, 0), (0, 0, 0)]


async def test_free_tickets_are_counted(office: BoxOffice, till: Till) -> None:
    event = await office.store.create_event(
        CLIENT, "Free", datetime.now(UTC) + timedelta(days=30), "USD", [NewTier("GA", 0, 5)]
    )
    free = Till(office, event, till.numbers)
    await free.book(GA=2)
    gone = await free.book(GA=1)
    await free.rest()
    await free.cancel(gone)
    (row,) = await sales(event.id)
    assert tickets(row) == ("GA", 5, 2, 0, 0, 3, 1)
    assert money(row) == (0, 0, 0)


@pytest.mark.parametrize(
    ("by", "zone", "periods"),
    [
        ("day", "UTC", {"2030-05-21T00:00": 1, "2030-05-22T00:00": 5}),
        ("day", "Europe/Berlin", {"2030-05-22T00:00": 6}),
        ("hour", "UTC", {"2030-05-21T22:00": 1, "2030-05-22T00:00": 2, "2030-05-22T01:00": 3}),
        ("hour", "Asia/Kolkata", {"2030-05-22T04:00": 1, "2030-05-22T05:00": 2, "2030-05-22T06:00": 3}),
    ],
)
async def test_by_day_and_hour(till: Till, by: str, zone: str, periods: dict[str, int]) -> None:
    """Days and hours of the zone; what adds up over them is what was sold."""
    for at, quantity in (("2030-05-21T22:40Z", 1), ("2030-05-22T00:10Z", 2), ("2030-05-22T01:00Z", 3)):
        booking = await till.book(GA=quantity)
        await till.rest()
        await till.fetch("UPDATE bookings SET created_at = $2 WHERE id = $1", booking, datetime.fromisoformat(at))
    rows = await sales(till.event.id, "--by", by, "--zone", zone)
    found: Counter[str] = Counter()
    for row in rows:
        found[row["period"]] += row["sold"]
        assert (row["code"], row["held"], row["revenue_cents"]) == ("GA", None, 1_000 * row["sold"])
    assert dict(found) == periods
    assert [row["period"] for row in rows] == sorted(periods)
    within = await sales(till.event.id, "--since", "2030-05-22T00:10", "--until", "2030-05-22T01:00Z")
    assert [row["sold"] for row in within] == [2, 0]


async def test_as_csv_and_table_amounts_are_in_whole_units(office: BoxOffice, till: Till) -> None:
    starts = datetime.now(UTC) + timedelta(days=30)
    for currency, price in (("JPY", 1_500), ("KWD", 1_250)):
        event = await office.store.create_event(CLIENT, "=1+1", starts, currency, [NewTier("GA", price, 5)])
        there = Till(office, event, till.numbers)
        await there.book(GA=2)
        await there.rest()
    code, said = await run("sales", "--format", "csv")
    rows = {row["currency"]: row for row in csv.DictReader(io.StringIO(said)) if row["sold"] != "0"}
    assert code == 0
    assert {row["name"] for row in rows.values()} == {"'=1+1"}
    assert [(rows[each]["revenue"], rows[each]["refunded"], rows[each]["net"]) for each in ("JPY", "KWD")] == [
        ("3000", "0", "3000"),
        ("2.500", "0.000", "2.500"),
    ]
    code, said = await run("sales")
    assert (code, said.count("in all"), "2.500" in said, "3000" in said) == (0, 3, True, True)


async def test_past_events_are_listed_when_asked_for(till: Till) -> None:
    assert len(await sales()) == 2
    await till.fetch("UPDATE events SET starts_at = now() - interval '25 hours'")
    assert await sales() == []
    assert (await run("sales")) == (0, "Nothing was sold.\n")
    assert len(await sales("--past")) == len(await sales(till.event.id)) == 2
    with pytest.raises(NotFound, match="elsewhere000"):
        await sales(till.event.id, "elsewhere000")
    assert (await run("sales", "--zone", "Moon/Base"))[0] == 2


async def test_without_redis_what_is_held_is_unknown(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await busy(till)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    ga, _ = await sales(till.event.id)
    assert tickets(ga) == ("GA", 50, 2, None, None, None, 4)
    assert "?" in (await run("sales"))[1]


async def test_an_event_in_figures(till: Till) -> None:
    assert "Bookings: none." in (await run("events", "stats", till.event.id))[1]
    await busy(till)
    await till.fetch("UPDATE bookings SET created_at = '2030-05-22T14:00:05Z' WHERE status <> 'failed'")
    code, said = await run("events", "stats", till.event.id, "--json")
    stats = json.loads(said)
    assert (code, stats["bookings"]) == (0, {"cancelled": 2, "confirmed": 1, "failed": 1})
    assert (stats["customers"], stats["first_at"], stats["last_at"]) == (1, *2 * ["2030-05-22T14:00:05Z"])
    assert (stats["busiest_minute"], stats["busiest_bookings"]) == ("2030-05-22T14:00:00Z", 3)
    assert [row["sold"] for row in stats["tiers"]] == [2, 1]
    code, said = await run("events", "stats", till.event.id)
    assert "Bookings: 2 cancelled, 1 confirmed, 1 failed." in said
    assert "Busiest minute: 2030-05-22T14:00:00Z, 3 bookings." in said
