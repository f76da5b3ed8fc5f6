"""The state machine of `states.py` against the scripts: every move that is drawn happens, and no other ever does.

reconcile.lua and restore.lua are left out: they repeat in Redis what PostgreSQL has already decided.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from boxoffice.books.moves import MOVED_TTL_S
from boxoffice.states import TRANSITIONS, WORDS
from boxoffice.stores import keys
from tests.lua.test_change import change
from tests.lua.test_holds import KEY, OTHER_KEY, cancel, expire, extend, pay, revive, wake
from tests.support.shop.script import Desk, Form, Verdict


async def move(desk: Desk, form: Form) -> Any:
    shard = desk.shard
    return await desk.scripts.move(
        desk.redis,
        [
            keys.gate(shard),
            keys.moved(shard, "1-7"),
            keys.event(shard, form.event),
            keys.owners(shard, form.event),
            keys.booking(shard, form.id),
            keys.told(shard),
        ],
        ["floor", -1, 0, form.owner, 1, b"{}", MOVED_TTL_S, "a note", "7:7"],
    )


def settle(letter: str, key: str = KEY) -> Callable[[Desk, Form], Awaitable[Any]]:
    async def settle(desk: Desk, form: Form) -> Any:
        return await desk.settle(Verdict(form, letter, payment_key=key))

    return settle


async def claim(desk: Desk, _form: Form) -> Any:
    return await desk.claim()


async def admit_again(desk: Desk, form: Form) -> Any:
    return await desk.book(form)


VERBS: list[tuple[str, Callable[[Desk, Form], Awaitable[Any]]]] = [
    ("admit", admit_again),
    ("claim", claim),
    ("pay", lambda desk, form: pay(desk, form, OTHER_KEY)),
    ("pay", lambda desk, form: pay(desk, form, KEY)),
    ("extend", extend),
    ("change", lambda desk, form: change(desk, form, floor=2)),
    ("cancel", cancel),
    ("expire", lambda desk, _form: expire(desk)),
    ("revive", lambda desk, form: revive(desk, form, KEY)),
    ("revive", lambda desk, form: revive(desk, form, OTHER_KEY)),
    ("wake", wake),
    ("move", move),
    *((("settle"), settle(letter, key)) for letter in "CFEXHRDB" for key in (KEY, OTHER_KEY)),
]


async def put(desk: Desk, form: Form, state: str, tries: str, deadline_ms: int) -> None:
    """The booking is in this state, wherever a booking in it stands, and its stock is counted so."""
    record = await desk.record(form)
    assert record is not None
    record.state, record.payment_key, record.tries, record.deadline_ms = state, KEY, tries, deadline_ms
    shard = desk.shard
    await desk.redis.set(keys.booking(shard, form.id), record.pack())
    await desk.redis.zrem(keys.pending(shard), form.id)
    await desk.redis.zrem(keys.deadlines(shard), form.id)
    if state == "P":
        await desk.redis.zadd(keys.pending(shard), {form.id: 1})
    if state == "H":
        await desk.redis.zadd(keys.deadlines(shard), {form.id: deadline_ms})
    sale = keys.event(shard, form.event)
    held, sold = (1, 1) if state in "HP" else (0, 2) if state == "C" else (0, 1)  # one of them somebody else's
    await desk.redis.hset(sale, mapping={"a:floor": 5 - held - sold, "h:floor": held, "c:floor": sold})


async def observed(desk: Desk) -> set[tuple[str, str, str]]:
    """Every change of state that any verb makes of a booking in any state."""
    seen = set()
    far = await desk.now_ms() + 600_000
    for state in WORDS:
        for tries in ("1", "1e", "1x", "1r"):
            for deadline_ms in (0, 1, far):
                if state == "H" and not deadline_ms:
                    continue
                for verb, work in VERBS:
                    await desk.redis.flushall()
                    await desk.open_gate()
                    await desk.open_sale(floor=5)
                    form = desk.form(hold_ms=1_000, floor=1)
                    await desk.book(form)
                    await put(desk, form, state, tries, deadline_ms)
                    await work(desk, form)
                    await desk.counts("floor")
                    record = await desk.record(form)
                    assert record is not None, "no script deletes a booking"
                    if record.state != state:
                        seen.add((state, record.state, verb))
    return seen


@pytest.fixture(params=[0])
def shard(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
async def hasty(desk: Desk) -> AsyncIterator[None]:
    """Nothing of this outlives the server, and to have it on disk takes most of the time."""
    try:
        await desk.redis.config_set("appendfsync", "no")
    except (ResponseError, NotImplementedError):
        yield  # the fake one has no disk
        return
    yield
    await desk.redis.config_set("appendfsync", "always")


@pytest.mark.usefixtures("hasty")
async def test_every_move_that_is_drawn_happens_and_no_other(desk: Desk) -> None:
    """Also for bookings that were extended, asked to be cancelled, revived; before, at and without a deadline."""
    drawn = {(move.source, move.target, move.verb) for move in TRANSITIONS if move.source}
    assert await observed(desk) == drawn


async def test_bookings_begin_held_or_pending(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    began = set()
    for hold_ms in (0, 1_000):
        form = desk.form(hold_ms=hold_ms, floor=1)
        await desk.book(form)
        record = await desk.record(form)
        assert record is not None
        began.add(record.state)
    assert began == {move.target for move in TRANSITIONS if not move.source}
