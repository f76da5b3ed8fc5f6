"""Which bookings a repair is told of: by what became of them, by shard, by age, and never a repeat of another."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books import bought, queries
from boxoffice.office import BoxOffice
from tests.conftest import SHARD, SaleMaker, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT

UNDECIDED, FINAL = ("pending", "held"), ("confirmed", "failed", "expired", "cancelled")

SEQUENCES = {"repeat": 40, "far held": 90, "far confirmed": 91}


@pytest.fixture
async def booked(office: BoxOffice, open_sale: SaleMaker) -> dict[str, str]:
    """One booking of each status, a repeat of one, and two in another shard; all as they became ten minutes ago."""
    near, far, made = await open_sale(GA=20), await open_sale(shard=0, GA=20), {}
    for name in (*UNDECIDED, *FINAL, "repeat", "far held", "far confirmed"):
        event = far if name.startswith("far") else near
        made[name] = (await book(office, event, customer=name, GA=2)).booking_id
    await settle_all(office)
    pool = await office.pool()
    for name, booking in made.items():
        status = "failed" if name == "repeat" else name.removeprefix("far ")
        await pool.execute(
            "UPDATE bookings SET status = $2, sequence = $3, updated_at = now() - interval '10 minutes' WHERE id = $1",
            booking, status, SEQUENCES.get(name, 30),
        )  # fmt: skip
    await pool.execute("UPDATE bookings SET duplicate_of = $2 WHERE id = $1", made["repeat"], made["confirmed"])
    made["event"], made["far event"] = near.id, far.id
    return made


@pytest.fixture
async def session(office: BoxOffice) -> Any:
    async with (await office.pool()).acquire() as session:
        yield session


async def test_what_is_undecided(session: Any, booked: dict[str, str]) -> None:
    wanted = sorted(booked[name] for name in UNDECIDED)
    for shard, older_ms, found in (
        (SHARD, 0, wanted), (SHARD, 9 * 60_000, wanted), (SHARD, 12 * 60_000, []), (0, 0, [booked["far held"]]),
    ):  # fmt: skip
        assert [each.id async for some in queries.undecided(session, shard, older_ms) for each in some] == found


async def test_what_is_final(session: Any, booked: dict[str, str]) -> None:
    """With the seconds that its record has left."""
    wanted = sorted(booked[name] for name in FINAL)
    told = [each async for some in queries.finals(session, SHARD, 3_600) for each in some]
    assert [record.id for _, record in told] == wanted
    assert all(2_900 < left_s <= 3_000 for left_s, _ in told)
    assert [each async for some in queries.finals(session, SHARD, 590) for each in some] == []
    assert [record.id async for some in queries.finals(session, 0, 3_600) for _, record in some] == [
        booked["far confirmed"]
    ]


async def test_which_of_some_bookings_are_final(session: Any, booked: dict[str, str]) -> None:
    every = [booked[name] for name in (*UNDECIDED, *FINAL, "repeat", "far held", "far confirmed")]
    final = {booked[name]: name.removeprefix("far ") for name in (*FINAL, "far confirmed")}
    assert {record.id for record in await queries.finals_of(session, every)} == {*final}
    ends = await queries.final_ends(session, every)
    assert {booking: status for booking, (status, _) in ends.items()} == final | {booked["repeat"]: "failed"}
    endings = await queries.final_endings(session, every)
    assert {booking: ending.state for booking, ending in endings.items()} == {
        booking: {"confirmed": "C", "failed": "F", "expired": "E", "cancelled": "X"}[status]
        for booking, status in (final | {booked["repeat"]: "failed"}).items()
    }
    for ask in (queries.finals_of, queries.final_ends, queries.final_endings, queries.events_of_final):
        assert not await ask(session, [booked[name] for name in UNDECIDED]), ask
        assert not await ask(session, []), ask


async def test_of_which_events_something_is_final(session: Any, booked: dict[str, str]) -> None:
    """Each once."""
    for names, events in (
        (("failed", "confirmed", "held"), {"event"}), (("held", "far confirmed"), {"far event"}),
        ((*FINAL, "far confirmed"), {"event", "far event"}),
    ):  # fmt: skip
        found = await queries.events_of_final(session, [booked[name] for name in names])
        assert sorted(found) == sorted(booked[event] for event in events)


async def test_the_highest_sequence_is_the_shards(session: Any, booked: dict[str, str]) -> None:
    assert await queries.highest_sequence(session, SHARD) == 40
    assert await queries.highest_sequence(session, 0) == 91
    assert await queries.highest_sequence(session, SHARD + 1) == 0


async def test_what_was_bought_is_what_is_confirmed(session: Any, booked: dict[str, str]) -> None:
    """And has not come back."""
    event = booked["event"]
    owner = ids.owner_digest(CLIENT, "confirmed")
    (tier,) = await session.fetch("SELECT DISTINCT tier_id FROM booking_items WHERE booking_id = $1", booked["held"])
    assert await bought.of_everybody(session, event) == {owner: f"{tier[0]}:2", f"@{CLIENT}": f"{tier[0]}:2"}
    assert await bought.of_shops(session, event) == {f"@{CLIENT}": f"{tier[0]}:2"}
    await session.execute("UPDATE booking_items SET refunded = 1 WHERE booking_id = $1", booked["confirmed"])
    assert await bought.of_everybody(session, event) == {owner: f"{tier[0]}:1", f"@{CLIENT}": f"{tier[0]}:1"}
    assert await bought.of_shops(session, event) == {f"@{CLIENT}": f"{tier[0]}:1"}
    await session.execute("UPDATE booking_items SET refunded = 2 WHERE booking_id = $1", booked["confirmed"])
    assert await bought.of_everybody(session, event) == await bought.of_shops(session, event) == {}
