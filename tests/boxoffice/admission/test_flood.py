"""More bookings than a window can admit: a burst waits, a flood is told so, and whoever waits is admitted in time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.access.rates import Allowance
from boxoffice.admission import flood as floods
from boxoffice.admission import over as module
from boxoffice.admission.flood import FLOOD, PAUSE_S, Waits
from boxoffice.admission.forms import Admitted, Form
from boxoffice.admission.window import Window
from boxoffice.errors import Overloaded, RateLimited, StoreAway
from boxoffice.settings import ApiSettings, Settings
from tests.boxoffice.admission.test_calls import Script, form, window

__all__ = ["window"]

MOST, BURST_S = 6, 0.5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    api = settings.api.model_copy(
        update={"waiting_max": MOST, "burst_s": BURST_S, "batch_max": 4, "calls_max": 1, "wait_ms": 0}
    )
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
        """The calls under way have ended, and the next begun."""
        for _, over in self.calls:
            over.set()
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


async def test_a_window_that_is_full_for_too_long_says_that_it_is_a_flood(flood: Flood) -> None:
    """Then twice as many calls are under way at once, and each takes twice as many. Of those who came before, the first have
    waited for too long already, and are told so. Whom the window refuses is one who was sent away."""
    api = flood.window.settings.api.model_copy(update={"wait_ms": 50, "linger_ms": 0})
    flood.window.settings = flood.window.settings.model_copy(update={"api": api})
    assert await flood.put(4) == 0 and await flood.put(24) == 0 and not FLOOD.is_on
    flood.time.now += BURST_S
    assert await flood.put(1) == 1 and FLOOD.is_on
    assert [size for size, _ in flood.calls] == [4]
    waiting = flood.window.queue[:]
    await flood.end()
    assert [size for size, _ in flood.calls] == [4, 8, 6] and not flood.window.queue
    assert [error for _, error in flood.told] == [flood.told[0][1]] * (1 + 10), "one newcomer, and those in between"
    assert len(waiting) == 24
    FLOOD.look()
    assert FLOOD.is_on


@pytest.mark.parametrize(
    ("wait_ms", "pace_s", "known"), [(50, 0, True), (0, 0, False), (101, 0, False), (50, 0.06, False)]
)
async def test_a_window_in_which_all_wait_for_too_long_says_so(
    window: Window, monkeypatch: pytest.MonkeyPatch, wait_ms: float, pace_s: float, known: bool
) -> None:
    """However few they are. That they wait as settlement is behind is no flood, and with 0 any wait will do."""
    time = Script(window, monkeypatch, StoreAway()).time
    api = window.settings.api.model_copy(update={"wait_ms": wait_ms, "burst_s": 0.5999})
    window.settings = window.settings.model_copy(update={"api": api})
    for _ in range(4):
        assert not FLOOD.is_on
        one = form("x", told=[])
        one.since = time.now
        time.now += 0.1
        window.pace_s = pace_s
        await window.call([one])
    assert FLOOD.is_on is known


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """With a loop that always has something to do, unless the test says that it had not."""
    clock = SimpleNamespace(now=50.0, nothing_to_do_s=0.0)
    monkeypatch.setattr(floods, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(floods, "core_time_s", lambda: clock.now - clock.nothing_to_do_s)
    return clock


@pytest.mark.parametrize(("came", "sent_away", "over"), [(0, 0, True), (100, 5, True), (100, 6, False)])
def test_a_flood_is_over_when_hardly_anybody_is_sent_away(
    clock: SimpleNamespace, came: int, sent_away: int, over: bool
) -> None:
    """One of twenty, for as long as a burst takes; whoever was sent away before does not count."""
    FLOOD.begin(0.5)
    for _ in range(3):
        FLOOD.count(sent_away=True)
    clock.now += 0.25
    FLOOD.look()
    assert FLOOD.is_on
    clock.now += 0.25
    FLOOD.look()
    assert FLOOD.is_on
    for n in range(came):
        FLOOD.count(sent_away=n < sent_away)
    clock.now += 0.5
    FLOOD.look()
    assert FLOOD.is_on is not over


@pytest.mark.parametrize(("nothing_to_do_s", "over"), [(0.24, False), (0.26, True)])
def test_a_flood_is_over_when_all_could_have_been_let_in(
    clock: SimpleNamespace, nothing_to_do_s: float, over: bool
) -> None:
    """Of a hundred sixty were sent away, in the time of fifteen: with that and for the other forty the loop was busy for half
    of the time, so the hundred take nine tenths of it. What it did before the last look does not count."""
    clock.nothing_to_do_s = 7
    FLOOD.begin(0.5)
    for n in range(100):
        FLOOD.count(sent_away=n < 60)
    clock.now += 0.5
    clock.nothing_to_do_s += nothing_to_do_s
    FLOOD.look()
    assert FLOOD.is_on is not over


def test_a_flood_is_said_when_it_begins_and_when_it_ends(clock: SimpleNamespace) -> None:
    """And shown; who sees that it goes on says nothing."""
    with capture_logs() as said:
        FLOOD.begin(0.5)
        FLOOD.begin(0.5)
        assert floods.series.FLOOD.values == {(): 1}
        clock.now += 0.5
        FLOOD.look()
        FLOOD.end()
    assert [line["event"] for line in said] == ["flood.began", "flood.ended"]
    assert floods.series.FLOOD.values == {(): 0}


@pytest.mark.parametrize(
    ("waits_ms", "pause_s", "known"),
    [
        ([51] * 6, 0.1, True), ([51] * 5, 0.1, False), ([51, 51, 50, 51, 51, 51], 0.1, False), ([99] * 2, 0.5, True),
        ([99] * 2, PAUSE_S, True), ([99] * 9, PAUSE_S + 0.1, False),
    ],
)  # fmt: skip
def test_all_have_to_wait_for_too_long_and_for_as_long_as_a_burst(
    waits_ms: list[int], pause_s: float, known: bool
) -> None:
    """One who did not is enough, and so is a pause: whoever waits after it has nothing to do with those before."""
    waits, patience = Waits(), ApiSettings(wait_ms=50, burst_s=0.9999)
    for n, wait_ms in enumerate(waits_ms):
        waits.note(wait_ms / 1_000, 9 + n * pause_s, patience)
    assert FLOOD.is_on is known
