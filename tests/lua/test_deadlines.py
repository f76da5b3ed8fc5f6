"""To the millisecond: with a clock that stands still, what is decided just before a moment, at it and just after it. A hold
that may not be paid any more is one that ends, and the other way round: no moment has both, or neither."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from boxoffice.stores import keys
from boxoffice.stores.scripts import Scripts
from tests.lua.test_holds import KEY, OTHER_KEY, declined, expire, extend, held, pay, revive
from tests.lua.test_move import move
from tests.support.shop.script import EVENT, Desk, Form, Verdict

HOLD_MS = 600_000


def stopped(desk: Desk, now_ms: int) -> Desk:
    """The same desk at this time by Redis's clock."""
    time = f'{{ "{now_ms // 1_000}", "{now_ms % 1_000 * 1_000 + 999}" }}'
    scripts = {}
    for script in desk.scripts:
        text = script.text.replace('redis.call("TIME")', time)
        assert 'call("TIME")' not in text
        scripts[script.name] = dataclasses.replace(script, text=text)
    return dataclasses.replace(desk, scripts=Scripts(scripts))


async def deadline_of(desk: Desk, form: Form) -> int:
    record = await desk.record(form)
    assert record is not None
    return record.deadline_ms


BEFORE_AT_AFTER = pytest.mark.parametrize("after_ms", [-1, 0, 1])


@BEFORE_AT_AFTER
@pytest.mark.parametrize("act", [pay, extend])
async def test_a_hold_is_paid_or_extended_before_its_deadline(desk: Desk, act: Any, after_ms: int) -> None:
    form = await held(desk, HOLD_MS, floor=1)
    at = stopped(desk, await deadline_of(desk, form) + after_ms)
    assert await act(at, form) == ({pay: "paid", extend: "extended"}[act] if after_ms < 0 else "ended")


@BEFORE_AT_AFTER
async def test_a_hold_ends_at_its_deadline(desk: Desk, after_ms: int) -> None:
    form = await held(desk, HOLD_MS, floor=1)
    _, expired, _ = await expire(stopped(desk, await deadline_of(desk, form) + after_ms))
    assert expired == (after_ms >= 0)


@BEFORE_AT_AFTER
async def test_a_declined_payment_leaves_a_hold_until_its_deadline(desk: Desk, after_ms: int) -> None:
    form = await held(desk, HOLD_MS, floor=1)
    deadline_ms = await deadline_of(desk, form)
    assert await pay(desk, form) == "paid"
    await desk.claim()
    at = stopped(desk, deadline_ms + after_ms)

    word = await at.settle(Verdict(form, "H", payment_key=KEY, payload=b'{"o":{"s":"declined","m":"card"}}'))

    assert word == ["H" if after_ms < 0 else "E"]
    assert await desk.counts("floor", EVENT) == ((4, 1, 0) if after_ms < 0 else (5, 0, 0))


@BEFORE_AT_AFTER
async def test_an_event_is_sold_until_it_starts(desk: Desk, after_ms: int) -> None:
    starts_ms = 2_000_000_000_000
    await desk.open_sale(starts_ms=starts_ms, floor=5)
    (result,) = await stopped(desk, starts_ms + after_ms).book(desk.form(floor=1))
    assert desk.word(result) == (b"created" if after_ms < 0 else b"sale_closed")


@BEFORE_AT_AFTER
async def test_a_booking_is_claimed_from_the_moment_that_it_is_due(desk: Desk, after_ms: int) -> None:
    """Admitted, released for later, or leased to somebody who is gone."""
    await desk.open_sale(floor=5)
    form, now_ms = desk.form(floor=1), 2_000_000_000_000
    await stopped(desk, now_ms).book(form)
    assert len(await stopped(desk, now_ms + after_ms).claim(lease_ms=5_000)) == (after_ms >= 0)
    await stopped(desk, now_ms).settle(Verdict(form, "R", delay_ms=700, payload=b"{}"))
    assert len(await stopped(desk, now_ms + 700 + after_ms).claim(lease_ms=5_000)) == (after_ms >= 0)


@pytest.mark.parametrize("beyond_ms", [0, 1])
async def test_who_waits_beyond_every_lease_is_due_now(desk: Desk, beyond_ms: int) -> None:
    """Two minutes more than a lease: no pause is as long."""
    await desk.open_sale(floor=5)
    form, now_ms = desk.form(floor=1), 2_000_000_000_000
    await stopped(desk, now_ms).book(form)
    await desk.redis.zadd(keys.pending(desk.shard), {form.id: now_ms + 5_000 + 120_000 + beyond_ms})
    assert len(await stopped(desk, now_ms).claim(lease_ms=5_000)) == beyond_ms


@pytest.mark.parametrize(("extra_ms", "added_ms"), [(0, HOLD_MS), (1, 1), (HOLD_MS, HOLD_MS), (HOLD_MS + 1, HOLD_MS)])
async def test_a_hold_is_extended_by_its_first_length_at_most(desk: Desk, extra_ms: int, added_ms: int) -> None:
    form = await held(desk, HOLD_MS, floor=1)
    before = await deadline_of(desk, form)
    assert await extend(desk, form, extra_ms) == "extended"
    assert await deadline_of(desk, form) == before + added_ms
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == before + added_ms


# ------------------------------------------------------------------ to the ticket


async def test_a_hold_is_tried_as_often_as_it_may_be(desk: Desk) -> None:
    form = await held(desk, floor=1)
    await declined(desk, form)
    assert await pay(desk, form, OTHER_KEY, attempts=1) == "too_many"
    assert await pay(desk, form, OTHER_KEY, attempts=2) == "paid"


async def test_a_payment_is_taken_while_fewer_wait_than_may(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    waiting, form = desk.form(floor=1), desk.form(hold_ms=HOLD_MS, floor=1)
    await desk.book(waiting, form)
    assert await pay(desk, form, pending=1) == "busy"
    assert await pay(desk, form, pending=2) == "paid"


@pytest.mark.parametrize("left", [1, 2, 3])
async def test_late_money_buys_the_last_tickets(desk: Desk, left: int) -> None:
    """Two are wanted."""
    form = await held(desk, HOLD_MS, floor=2)
    deadline_ms = await deadline_of(desk, form)
    await pay(desk, form)
    await desk.claim()
    await stopped(desk, deadline_ms).settle(Verdict(form, "H", payment_key=KEY))
    sold = desk.form(floor=5 - left)
    await desk.book(sold)

    assert await revive(desk, form) == ("revived" if left >= 2 else "sold_out")


@pytest.mark.parametrize(("taken", "word"), [(4, b"moved"), (5, b"moved"), (6, b"short")])
async def test_a_tier_may_be_made_as_small_as_what_is_sold(desk: Desk, taken: int, word: bytes) -> None:
    await desk.open_sale(floor=8)
    assert await desk.book(desk.form(floor=3)) == [b"created"]
    assert (await move(desk, "floor", total=-taken))[0] == word
