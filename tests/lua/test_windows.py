"""When admit.lua lets in: windows of the event and of its tiers, and pauses, by Redis's clock alone."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.stores import keys
from tests.lua.test_deadlines import stopped
from tests.lua.test_holds import pay
from tests.support.shop.script import EVENT, Desk

HOUR = 3_600_000


async def now_of(desk: Desk) -> int:
    """Redis's clock, in ms."""
    seconds, micros = await desk.redis.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


async def set_windows(desk: Desk, text: str, **at: int) -> None:
    """As load.lua writes them; names stand for times so many ms from now."""
    now = await now_of(desk)
    await desk.redis.hset(keys.event(desk.shard, EVENT), "win", text.format(**{k: now + v for k, v in at.items()}))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("windows", "word"),
    [
        ("", b"created"),
        ("0|0|", b"created"),
        ("{past}|{soon}|", b"created"),
        ("{past}|0|", b"created"),
        ("{soon}|0|", b"not_open"),
        ("0|{past}|", b"ended"),
        ("{soon}|0|floor:{past}:0", b"created"),
        ("{past}|0|floor:{soon}:0", b"not_open"),
        ("0|{past}|floor:0:{soon}", b"created"),
        ("0|{soon}|floor:0:{past}", b"ended"),
        ("{soon}|0|floor:0:0", b"created"),
        ("0|0|balcony:{soon}:0", b"created"),
        ("0|0|balcony:0:{past}", b"created"),
    ],
)
async def test_a_tier_is_sold_within_its_window(desk: Desk, windows: str, word: bytes) -> None:
    """Its own, where it has one; the event's otherwise."""
    await desk.open_sale(floor=5, balcony=5)
    await set_windows(desk, windows, past=-HOUR, soon=HOUR)

    (result,) = await desk.book(desk.form(floor=1))

    assert desk.word(result) == word
    assert await desk.counts("floor") == ((4, 1, 0) if word == b"created" else (5, 0, 0))


async def test_what_is_not_open_yet_says_when_all_of_it_is(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5, box=5)
    await set_windows(desk, "{a}|0|floor:{b}:0,balcony:{c}:0", a=HOUR, b=3 * HOUR, c=2 * HOUR)
    sale = await desk.redis.hget(keys.event(desk.shard, EVENT), "win")  # type: ignore[misc]
    floor, balcony = (int(part.split(b":")[1]) for part in sale.split(b"|")[2].split(b","))

    assert await desk.book(desk.form(floor=1, balcony=1)) == [[b"not_open", b"%d" % floor]]
    assert await desk.book(desk.form(balcony=1, box=1)) == [[b"not_open", b"%d" % balcony]]
    assert await desk.book(desk.question(balcony=1)) == [[b"not_open", b"%d" % balcony]]


async def test_an_ended_tier_is_named(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5)
    await set_windows(desk, "0|0|floor:0:{past}", past=-1)

    assert await desk.book(desk.form(balcony=1, floor=1)) == [[b"ended", b"floor"]]


async def test_a_window_ends_at_its_second(desk: Desk) -> None:
    """A millisecond that has passed is past: whatever opens by then is open, whatever closes by then is closed."""
    await desk.open_sale(floor=5)
    await set_windows(desk, "{now}|0|", now=0)
    assert desk.word((await desk.book(desk.form(floor=1)))[0]) == b"created"
    await set_windows(desk, "0|{now}|", now=0)
    assert desk.word((await desk.book(desk.form(floor=1)))[0]) == b"ended"


async def test_a_paused_sale_lets_nothing_in_and_replays_what_is_in(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    first = desk.form(key="k", floor=1, hold_ms=HOUR)
    await desk.book(first)
    await desk.redis.hset(keys.event(desk.shard, EVENT), "on", "p")  # type: ignore[misc]
    again = desk.form(key="k", floor=1, hold_ms=HOUR)

    results = await desk.book(desk.form(floor=1), again, desk.question(floor=1))

    assert [desk.word(result) for result in results] == [b"paused", b"replayed", b"paused"]
    assert await desk.counts("floor") == (4, 1, 0)
    assert await pay(desk, first) == "paid", "what is held may be paid during a pause"


@pytest.mark.parametrize(
    ("sale", "until_closing", "word"),
    [
        ({"on": "x"}, False, "called_off"),
        ({"on": "x"}, True, "called_off"),
        ({"on": "p"}, True, "paid"),
        ({"on": "0"}, False, "paid"),
        ({"on": "0"}, True, "over_event"),
        ({"starts": 1}, False, "paid"),
        ({"starts": 1}, True, "over_started"),
        ({"p:floor": "-100"}, False, "paid"),
        ({"p:floor": "-100"}, True, "over_tier"),
        ({"p:balcony": "-100"}, True, "paid"),
        ({"win": "0|5|"}, False, "paid"),
        ({"win": "0|5|"}, True, "over_ended"),
        ({"win": "0|0|floor:0:5"}, True, "over_ended"),
        ({"win": "0|5|floor:0:0"}, True, "paid"),
        ({"win": "0|0|balcony:0:5"}, True, "paid"),
        ({}, True, "paid"),
    ],
)
async def test_what_of_a_hold_may_be_paid(desk: Desk, sale: dict[str, Any], until_closing: bool, word: str) -> None:
    """Until its deadline, or no longer than its tickets are on sale."""
    await desk.open_sale(floor=5, balcony=5)
    hold = desk.form(floor=1, hold_ms=HOUR)
    await desk.book(hold)
    if sale:
        await desk.redis.hset(keys.event(desk.shard, EVENT), mapping=sale)  # type: ignore[misc]

    assert await pay(desk, hold, until_closing=until_closing) == word
    assert await desk.counts("floor") == (4, 1, 0)


@pytest.mark.parametrize("after_ms", [-1, 0, 1])
@pytest.mark.parametrize(
    ("field", "value", "word"), [("starts", "{at}", "over_started"), ("win", "0|{at}|", "over_ended")]
)
async def test_a_hold_may_be_paid_until_the_moment_at_which_its_sale_ends(
    desk: Desk, field: str, value: str, word: str, after_ms: int
) -> None:
    await desk.open_sale(floor=5)
    hold = desk.form(floor=1, hold_ms=HOUR)
    await desk.book(hold)
    at = await now_of(desk) + 1_000
    await desk.redis.hset(keys.event(desk.shard, EVENT), field, value.format(at=at))  # type: ignore[misc]

    assert await pay(stopped(desk, at + after_ms), hold, until_closing=True) == ("paid" if after_ms < 0 else word)
