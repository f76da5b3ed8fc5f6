"""More bookings than a window can admit: a burst waits, a flood is told so, and whoever waits is admitted in time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from boxoffice.access.rates import Allowance
from boxoffice.admission import over as module
from boxoffice.admission.forms import Admitted, Form
from boxoffice.admission.window import Window
from boxoffice.errors import Overloaded, RateLimited
from boxoffice.settings import Settings
from tests.boxoffice.admission.test_calls import Script, form, window

__all__ = ["window"]

MOST, BURST_S = 6, 0.5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    api = settings.api.model_copy(update={"waiting_max": MOST, "burst_s": BURST_S, "batch_max": 4, "calls_max": 1})
    return settings.model_copy(update={"api": api})


class Flood:
    """A window whose calls end when the test says so."""

    def __init__(self, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
        self.window = window
        self.time = Script(window, monkeypatch, b"").time
        self.told: list[Any] = []
        self.calls: list[tuple[int, asyncio.Event]] = []
        monkeypatch.setattr(window, "call", self.call)

    async def call(self, forms: list[Form]) -> None:
        self.calls.append((len(forms), asyncio.Event()))
        await self.calls[-1][1].wait()

    async def put(self, count: int) -> int:
        """How many of so many are refused."""
        before = len(self.told)
        for _ in range(count):
            self.window.put(form("x", told=self.told))
        await settle()
        return len(self.told) - before

    async def end(self) -> None:
        """The call under way has ended, and the next begun."""
        self.calls[-1][1].set()
        await settle()


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


@pytest.fixture
async def flood(window: Window, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Flood]:
    found = Flood(window, monkeypatch)
    yield found
    while window.queue or window.calls:
        await found.end()


async def test_a_burst_waits_and_a_flood_is_told_so(flood: Flood) -> None:
    """As many as may wait do, and more for as long as a burst takes. Beyond it newcomers are told to come again; those who
    wait are admitted. Once nobody waits, a new burst may come."""
    assert await flood.put(4) == 0 and await flood.put(MOST) == 0
    assert [size for size, _ in flood.calls] == [4]
    assert await flood.put(20) == 0, "a burst"
    flood.time.now += BURST_S - 0.01
    assert await flood.put(1) == 0
    flood.time.now += 0.01
    assert await flood.put(3) == 3
    assert {type(error) for _, error in flood.told} == {Overloaded}
    assert {error.details["retry_after_s"] for _, error in flood.told} == {1}
    assert len({id(error) for _, error in flood.told}) == 1, "who is refused alike shares an answer"
    while len(flood.window.queue) > MOST - 1:
        await flood.end()
    room = MOST - len(flood.window.queue)
    assert await flood.put(room + 2) == 2, "there was room for so many; the flood is not over"
    assert len({id(error) for _, error in flood.told}) == 2, "though not for ever"
    while flood.window.queue:
        await flood.end()
    flood.time.now += 9
    assert await flood.put(MOST + 5) == 0
    assert sum(size for size, _ in flood.calls) + len(flood.window.queue) == 4 + MOST + 21 + room + MOST + 5


async def test_a_queue_that_is_long_for_a_moment_is_no_flood(flood: Flood) -> None:
    """Each time it was empty in between."""
    for _ in range(3):
        assert await flood.put(4 + MOST + 4) == 0
        flood.time.now += 0.9 * BURST_S
        assert await flood.put(1) == 0
        while flood.window.queue or flood.window.calls:
            await flood.end()


class Limited:
    """Forms of two API keys on a window whose script says that one of them is over its limit."""

    def __init__(self, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
        self.window = window
        self.time = Script(window, monkeypatch, b"").time
        self.told: dict[str, list[Any]] = defaultdict(list)
        self.over = True
        monkeypatch.setattr(window, "send", self.send)

    async def send(self, forms: list[Form], _views: Any) -> Any:
        now_ms = int(1_000 * self.time.now)
        refused = [b"rate_limited", b"key", 9, b"%d" % (now_ms + 7_000)]
        over = [self.over and each.template.allowance.api_key != "other" for each in forms]
        results = [refused if each else [b"replayed", b"first", b"nonsense"] for each in over]
        return [b"open", b"%d" % now_ms, results, [[b"5", b"5"]], 0, 0, []]

    async def put(self, key: str, count: int = 1, key_max: int = 9) -> list[type[Any]]:
        """What its bookings were told so far."""
        for _ in range(count):
            one = form("x")
            one.template.allowance = Allowance(key, key_max, None, 60)
            one.answer = self.told[key].append
            self.window.put(one)
        return self.answers(key)

    def answers(self, key: str) -> list[type[Any]]:
        return [type(answer) for answer in self.told[key]]

    async def rest(self) -> None:
        while self.window.queue or self.window.calls:
            await settle()


async def test_a_key_over_its_limit_crowds_nobody_out(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a part of the room once the script has said so of it; what is beyond is told 503 at once, a repeat, too, which
    may be in. Others are admitted, and so is its own again in the next window, or with another limit."""
    api = window.settings.api.model_copy(update={"waiting_max": 40})
    window.settings = window.settings.model_copy(update={"api": api})
    both = Limited(window, monkeypatch)
    await both.put("greedy")
    await both.rest()
    assert both.answers("greedy") == [RateLimited]
    assert (await both.put("greedy", 1_000))[1:] == [Overloaded] * 990, "a quarter of the room"
    assert await both.put("other", 10) == []
    assert (await both.put("greedy"))[-1] is Overloaded
    await both.rest()
    assert both.answers("other") == [Admitted] * 10
    assert both.answers("greedy").count(RateLimited) == 11
    both.over = False
    both.told["greedy"].clear()
    assert await both.put("greedy", 12, key_max=99) == [], "its limit was raised"
    await both.rest()
    both.told["greedy"].clear()
    both.time.now += 6.9
    assert await both.put("greedy", 12) == [Overloaded] * 2
    await both.rest()
    both.told["greedy"].clear()
    both.time.now += 0.2
    assert await both.put("greedy", 12) == []
    await both.rest()
    assert both.answers("greedy") == [Admitted] * 12


async def test_keys_over_their_limits_are_bounded(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are forgotten at once; the script says it again of who comes again."""
    monkeypatch.setattr(module, "OVER_MAX", 2)
    api = window.settings.api.model_copy(update={"waiting_max": 40})
    window.settings = window.settings.model_copy(update={"api": api})
    both = Limited(window, monkeypatch)
    for key in ("first", "second", "third"):
        await both.put(key)
        await both.rest()
    assert await both.put("first", 12) == [RateLimited]
    assert await both.put("third") == [RateLimited, Overloaded]
    await both.rest()
