"""Outcomes that nobody knows: asked for ever more slowly, told once, counted, and measured from their beginning."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import structlog

from boxoffice.gateway.base import Unknown
from boxoffice.money.patience import Patience
from boxoffice.settings import GatewaySettings
from tests.support.shop.office import Till

CALLS = {"capture": "capture_batch", "void": "void", "refund": "refund"}


async def to_be_captured(till: Till) -> str:
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    return booking


async def to_be_voided(till: Till) -> str:
    booking = await to_be_captured(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'authorized', due = 'void', due_at = now(), leased_until = NULL")
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = $1", booking)
    await pool.execute("UPDATE inventory SET sold = 0")
    await pool.execute("DELETE FROM captures")
    return booking


async def to_be_refunded(till: Till) -> str:
    booking = await till.book(GA=1)
    await till.rest()
    await till.cancel(booking)
    return booking


BEGIN = {"capture": to_be_captured, "void": to_be_voided, "refund": to_be_refunded}
LATER = (
    "SELECT extract(epoch FROM due_at - now())::float, tries FROM payments WHERE due IS NOT NULL"
    " UNION ALL SELECT extract(epoch FROM due_at - now())::float, tries FROM refunds WHERE status = 'due'"
)


async def silent(*args: Any) -> Any:
    """The gateway does not answer, or repeats an error for ever."""
    unknown = Unknown("status 500")
    return [unknown] * len(args[0]) if args and isinstance(args[0], list) else unknown


@pytest.mark.parametrize("what", CALLS)
async def test_it_is_asked_ever_more_slowly_and_told_once(
    till: Till, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await BEGIN[what](till)
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(till.gateway, CALLS[what], silent)
        pauses = []
        for _ in range(6):
            await till.pump_once()
            ((pause_s, tries),) = await till.fetch(LATER)
            pauses.append(pause_s)
        assert tries == 6
        assert all(later > 1.4 * sooner for sooner, later in pairwise(pauses))
        assert 20 < pauses[-1] < 40
        told = [line for line in logs if line["event"] == "money.unknown"]
        assert [(line["what"], line["reason"]) for line in told] == [(what, "status 500")]
    await till.pump()


@pytest.mark.parametrize(
    ("what", "difference"),
    [("capture", "confirmed_not_captured"), ("void", "authorized_not_confirmed"), ("refund", "refund_overdue")],
)
async def test_overdue_is_measured_from_the_beginning(
    till: Till, monkeypatch: pytest.MonkeyPatch, what: str, difference: str
) -> None:
    """However often it was tried since: a try moves when it is due, not since when."""
    await BEGIN[what](till)

    async def audit() -> list[str]:
        return [found.what async for found in till.office.payments_audit.run(fix=False, grace_s=60)]

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, CALLS[what], silent)
        await till.pump_once()
        assert await audit() == []
        pool = await till.office.pool()
        aged = "- interval '61 seconds'"
        await pool.execute(f"UPDATE payments SET created_at = created_at {aged}, due_since = due_since {aged}")
        await pool.execute(f"UPDATE refunds SET created_at = created_at {aged}, due_since = due_since {aged}")
        await pool.execute(f"UPDATE payments SET updated_at = updated_at {aged} WHERE due IS NULL")
        await pool.execute(f"UPDATE bookings SET updated_at = updated_at {aged}")
        for _ in range(3):
            await till.pump_once()
            assert await audit() == [difference]
    await till.pump()
    assert await audit() == []


async def test_many_unknown_captures_are_one_line(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that is away tells of it itself."""
    for _ in range(5):
        await till.book(GA=1)
    await till.drain()
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(till.gateway, "capture_batch", silent)
        await till.office.pump.work_given()
        for _ in range(3):
            await till.pump_once()
    told = [line for line in logs if line["event"] == "money.unknown"]
    assert sum(line["payments"] for line in told) <= 10
    assert len(told) <= 2
    await till.pump()


def test_a_pause_has_an_end() -> None:
    patience = Patience(GatewaySettings(retry_s=2.0, retry_max_s=30.0))
    assert 1_600 <= patience.pause_ms(0) <= 2_000
    assert 24_000 <= patience.pause_ms(4) <= 30_000
    assert 24_000 <= patience.pause_ms(10_000) <= 30_000
