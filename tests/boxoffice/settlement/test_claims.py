"""Claims: what is leased to this worker, read, parked and given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from boxoffice.errors import GateClosed
from boxoffice.settlement import claims
from boxoffice.settlement.batch import Batch
from boxoffice.stores.fence import Pair
from tests.conftest import SHARD
from tests.support.settling import (
    NOW,
    TERMS,
    Room,
    batch_of,
    claimed,
    released,
)


def reply_of(*claimed: tuple[str, int, bytes]) -> list[Any]:
    return [NOW, 0, [b"7:8"], *(part for name, lapses, raw in claimed for part in (name.encode(), lapses, raw))]


async def claim(room: Room, reply: Any) -> Batch:
    async def run(script: str, /, **slots: Any) -> Any:
        room.calls.append((script, slots))
        if isinstance(reply, Exception):
            raise reply
        return reply

    room.settlement.claims.here = SimpleNamespace(run=run)  # type: ignore[assignment]
    return await room.settlement.claims.claim()


async def test_what_is_claimed_is_read(room: Room) -> None:
    """With the time, the commits that Redis was told of, and how often its lease lapsed."""
    one, two = claimed(1), claimed(2, lapses=13)
    batch = await claim(room, reply_of((one.record.id, 0, one.raw), (two.record.id, 13, two.raw)))
    assert (batch.claims, batch.terms, batch.told) == ([one, two], TERMS, [Pair(7, 8)])
    assert (batch.tried, batch.put_off, batch.done, batch.claimed_s, batch.leased_s) == (
        set(),
        set(),
        set(),
        room.now,
        room.now,
    )
    assert room.calls == [("claim", {"limit": 500, "lease_ms": 15_000, "ring_on": 1})]


@pytest.mark.parametrize("reply", [[], None, GateClosed()])
async def test_where_nothing_may_be_claimed_there_is_nothing(room: Room, reply: Any) -> None:
    assert (await claim(room, reply)).claims == []


async def test_what_cannot_be_read_or_kills_its_workers_is_parked(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its payment key, with the reason, and the others are settled."""
    monkeypatch.setattr(claims, "count_failure", room.noting("count"))
    good, torn, killer = claimed(1), claimed(2), claimed(3)
    raw = torn.raw.partition(b"\n")[0] + b"\n{\n{"
    with capture_logs() as lines:
        batch = await claim(
            room, reply_of((torn.record.id, 0, raw), (killer.record.id, 14, killer.raw), (good.record.id, 0, good.raw))
        )
    assert batch.claims == [good]
    reasons = ["unreadable record: ValidationError", "its lease lapsed again and again"]
    assert [call[2:] for call in room.calls if call[0] == "count"] == [
        (torn.record.id, raw, reasons[0], 0), (killer.record.id, killer.raw, reasons[1], 0),
    ]  # fmt: skip
    assert [call for call in room.calls if call[0] == "park"] == [
        ("park", torn.record.id, torn.record.payment_key), ("park", killer.record.id, killer.record.payment_key),
    ]  # fmt: skip
    assert [(line["event"], line["booking_id"], line["error"]) for line in lines] == [
        ("booking.parked", torn.record.id, reasons[0]), ("booking.parked", killer.record.id, reasons[1]),
    ]  # fmt: skip


async def test_leases_that_lapsed_during_an_outage_say_nothing(room: Room) -> None:
    """As long ago as so many leases last."""
    within: list[float] = []
    room.outage.within = lambda seconds: not within.append(seconds)  # type: ignore[func-returns-value]
    one = claimed(1, lapses=14)
    batch = await claim(room, reply_of((one.record.id, 14, one.raw)))
    assert (batch.claims, within) == ([one], [14 * 15.0])


async def test_who_cannot_park_gives_the_others_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    error = asyncpg.TooManyConnectionsError()
    monkeypatch.setattr(claims, "count_failure", room.noting("count", error=error))
    good = claimed(1)
    batch = await claim(room, reply_of((good.record.id, 0, good.raw), (claimed(2).record.id, 0, b"torn")))
    assert batch.claims == []
    assert ("begin", error) in room.calls
    assert [call[1] for call in room.calls if call[0] == "tell"] == [[released(good, 600)]]


async def test_a_gate_that_is_shut_leaves_leases_to_lapse(room: Room) -> None:
    room.mirror.tell = room.noting("tell", error=GateClosed())
    with capture_logs() as lines:
        await room.settlement.claims.release(batch_of(), [claimed(1)], 0.1)
    assert [(line["event"], line["shard"], line["bookings"]) for line in lines] == [("leases.kept", SHARD, 1)]
