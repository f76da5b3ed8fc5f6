"""How a gateway is called that may not answer, and what is said of it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from boxoffice.gateway import calls
from boxoffice.gateway.base import Done, Unknown
from boxoffice.gateway.calls import AWAY_AFTER, within


@pytest.fixture(autouse=True)
async def _answered() -> None:
    """Nobody was left without an answer."""
    await within(1, done())


async def done() -> Done:
    return Done("r")


async def never() -> Done:
    await asyncio.Event().wait()
    raise AssertionError


async def refused() -> Done:
    raise ConnectionRefusedError


async def unreachable() -> Unknown:
    return Unknown("unreachable")


async def puzzled() -> Unknown:
    return Unknown("status 500")


async def test_an_answer_comes_or_is_unknown() -> None:
    assert await within(1, done()) == Done("r")
    assert await within(0.001, never()) == Unknown("timeout")
    assert await within(1, refused()) == Unknown("unreachable: ConnectionRefusedError")


async def test_a_gateway_that_cannot_be_reached_is_away_at_once() -> None:
    """By its client's word or the system's; any answer ends it, also one that says that something is wrong there."""
    with capture_logs() as lines:
        await within(1, refused())
        await within(1, refused())
        await within(1, puzzled())
        await within(1, unreachable())
        await within(1, done())
    assert [(line["event"], line.get("error"), line.get("failures")) for line in lines] == [
        ("gateway.away", "unreachable: ConnectionRefusedError", None), ("gateway.recovered", None, 2),
        ("gateway.away", "unreachable", None), ("gateway.recovered", None, 1),
    ]  # fmt: skip


async def test_one_slow_card_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many calls one after another, with no answer to anybody between them, are."""
    with capture_logs() as lines:
        for answered in (AWAY_AFTER - 1, AWAY_AFTER - 1):
            for _ in range(answered):
                await within(0, never())
            await within(1, done())
        assert lines == []
        for _ in range(AWAY_AFTER):
            await within(0, never())
        assert [(line["event"], line["error"]) for line in lines] == [("gateway.away", "timeout")]
        await within(1, done())
    assert [line["event"] for line in lines] == ["gateway.away", "gateway.recovered"]
    assert calls.AWAY_AFTER == 5
