"""How often a process compares what it remembers with Redis: shared by all who wait, and bounded for all who miss."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.stores import freshness
from boxoffice.stores.freshness import Freshness


class Comparing:
    """Comparisons that end when the test says so, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.began: list[float] = []
        self.error: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.fresh = Freshness(self.compare, lambda: self.now)

    async def compare(self) -> None:
        self.began.append(self.now)
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
async def comparing() -> Comparing:
    return Comparing()


async def test_who_has_compared_nothing_yet_is_stale(comparing: Comparing) -> None:
    """So that no synchronous look-up is answered before the first comparison; after that it is counted from its beginning."""
    assert comparing.fresh.age == 2 * freshness.STALE_S
    comparing.may_end.clear()
    refreshing = asyncio.create_task(comparing.fresh.refresh())
    await asyncio.sleep(0)
    comparing.now += 3
    comparing.may_end.set()
    await refreshing
    assert comparing.fresh.age == 3


async def test_all_who_wait_share_a_comparison(comparing: Comparing) -> None:
    comparing.may_end.clear()
    waiting = [asyncio.create_task(comparing.fresh.refresh()) for _ in range(3)]
    await asyncio.sleep(0)
    comparing.fresh.ask()
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    comparing.may_end.set()
    assert await asyncio.gather(*waiting[1:]) == [None, None], "who went away took it from nobody"
    assert len(comparing.began) == 1


async def test_misses_cause_five_at_once_and_then_one_a_second(comparing: Comparing) -> None:
    """However long it was quiet, never more; and a part of a second buys nothing."""
    comparing.now += 1_000
    for _ in range(9):
        await comparing.fresh.refresh()
    assert len(comparing.began) == freshness.BURST == 5
    for step_s, more in ((0.5, 0), (0.5, 1), (0.75, 0), (2.25, 3), (0.0, 0)):
        comparing.now += step_s
        before = len(comparing.began)
        for _ in range(5):
            await comparing.fresh.refresh()
        assert len(comparing.began) - before == more
    comparing.now += 100
    for _ in range(9):
        await comparing.fresh.refresh()
    assert len(comparing.began) == 5 + 4 + 5


async def test_what_went_wrong_is_for_whoever_waits_and_the_next_tries_anew(comparing: Comparing) -> None:
    """Who asks without waiting hears nothing, and no loop complains of an error that nobody took."""
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
    comparing.error = OSError("away")
    with pytest.raises(OSError, match="away"):
        await comparing.fresh.refresh()
    comparing.fresh.ask()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    comparing.error = None
    await comparing.fresh.refresh()
    assert len(comparing.began) == 3
    del comparing.fresh
    assert heard == []
