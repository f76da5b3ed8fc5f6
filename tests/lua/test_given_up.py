"""What a client held and let go unpaid: who has given up as much of a tier as is left of it leaves most of it to others."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.stores import keys
from tests.lua.test_holds import KEY, cancel, declined, ended, expire, expired_with_payment, held, pay, revive
from tests.lua.test_move import move
from tests.lua.test_reconcile import reconcile
from tests.lua.test_unpaid import FAR_MS, waiting
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form, Verdict

DAY_MS = 86_400_000
FREE = b"created"


def hold(desk: Desk, n: int = 0, least: int = 20, event: str = EVENT, **tiers: int) -> Form:
    """Of a customer who is made up; `least` tickets have to be given up before any limit."""
    form = desk.form(event, customer=f"customer-{n}", hold_ms=FAR_MS, **tiers)  # type: ignore[arg-type]
    form.unpaid_max = (500, 500, least)
    return form


async def gave_up(desk: Desk, tickets: int, tier: str = "floor", *, age_ms: int = 0, event: str = EVENT) -> None:
    """So many lately."""
    value = f"{tickets}:{await desk.now_ms() - age_ms}"
    await desk.redis.hset(keys.unpaid(desk.shard, event), f"g:{CLIENT}:{tier}", value)  # type: ignore[misc]


def limited(have: int, most: int) -> list[Any]:
    return [b"unpaid_limit", b"client", have, most]


async def test_who_lets_a_sale_expire_has_less_of_it_next_time(desk: Desk) -> None:
    """Whatever it calls its customers, in one call or several; each end of a hold makes room for another."""
    await desk.open_sale(floor=88)
    forms = [hold(desk, n, floor=8) for n in range(11)]
    assert await desk.book(*forms) == [FREE] * 11
    for form in forms:
        await ended(desk, form)
    await expire(desk)
    assert await desk.given_up() == 88

    again = [hold(desk, n, floor=8) for n in range(4)]
    assert await desk.book(*again) == [FREE, FREE, limited(16, 20), limited(16, 20)]
    assert await desk.book(hold(desk, 9, floor=5)) == [limited(16, 20)]
    assert await desk.book(hold(desk, 9, floor=4)) == [FREE]
    assert await cancel(desk, again[0]) == "cancelled"
    assert await desk.book(hold(desk, 8, floor=9)) == [limited(12, 20)]
    assert await desk.book(hold(desk, 8, floor=8), desk.form(floor=9)) == [FREE, FREE], (
        "with its payment: as many as any"
    )


@pytest.mark.parametrize(("letter", "tickets"), [("F", 2), ("E", 2), ("X", 2), ("C", -20), ("B", -20)])
async def test_what_ends_a_payment_of_a_hold_counts(desk: Desk, letter: str, tickets: int) -> None:
    """Once; each ticket that is paid for excuses ten."""
    form = await held(desk, floor=2)
    await declined(desk, form)
    assert await desk.given_up() == 0, "it may be paid yet"
    await pay(desk, form, "b" * 32)
    await desk.claim()
    for _ in range(2):
        await desk.settle(Verdict(form, letter, payment_key="b" * 32))
        assert await desk.given_up() == tickets
    if letter == "B":
        await desk.redis.hset(keys.event(desk.shard, form.event), mapping={"a:floor": 5, "c:floor": 0})


async def test_each_tier_has_its_own(desk: Desk) -> None:
    form = await held(desk, floor=2, box=1)
    for _ in range(2):
        await cancel(desk, form)
        assert (await desk.given_up("floor"), await desk.given_up("box")) == (2, 1)


async def test_who_is_at_the_bank_gives_up_or_pays(desk: Desk) -> None:
    """As a hold does. What was posted with its payment and decided at once is nobody's."""
    await desk.open_sale(floor=50)
    for form in (desk.form(floor=2), desk.form(floor=2)):
        await desk.book(form)
        await desk.settle(Verdict(form, "F"))
    sold = desk.form(floor=2)
    await desk.book(sold)
    await desk.settle_confirmed(sold)
    assert await desk.redis.exists(keys.unpaid(desk.shard, EVENT)) == 0
    await desk.settle(Verdict(await waiting(desk, floor=3), "F"))
    assert await desk.given_up() == 3
    await desk.settle(Verdict(await waiting(desk, floor=1), "C"))
    assert await desk.given_up() == -7


async def test_cards_that_wait_are_limited_by_it(desk: Desk) -> None:
    """Beyond those at the bank; whoever pays while nobody is there has the first whatever they are."""
    await desk.open_sale(floor=40)
    await gave_up(desk, 40)

    def paid(tickets: int) -> Form:
        form = desk.form(floor=tickets)
        form.unpaid_max = (500, 500, 8)
        return form

    assert await desk.book(paid(9)) == [FREE]
    await waiting(desk, floor=3)
    assert await desk.book(paid(6)) == [limited(3, 8)]
    assert await desk.book(paid(5)) == [FREE]


@pytest.mark.parametrize(
    ("left", "least", "most"),
    [(88, 40, 40), (88, 44, 44), (88, 60, 44), (2_000, 40, 200), (800, 40, 80), (2_000, 300, 300), (30, 20, 15), (31, 20, 15),
     (3, 1, 1), (1, 1, 1)],
)  # fmt: skip
async def test_it_has_a_tenth_yet_so_many_and_half_at_most(desk: Desk, left: int, least: int, most: int) -> None:
    """So that the others always get the rest, and an honest shop with a large event goes on."""
    await desk.open_sale(floor=left)
    await gave_up(desk, max(left, least))
    assert await desk.book(hold(desk, least=least, floor=most + 1)) == [
        limited(0, most) if most < left else [b"sold_out", b"0", b"floor", b"1", b"0"]
    ]
    assert await desk.book(hold(desk, least=least, floor=most)) == [FREE]


@pytest.mark.parametrize(("tickets", "limit"), [(49, False), (50, True)])
async def test_it_is_compared_with_what_is_left(desk: Desk, tickets: int, limit: bool) -> None:
    """Available or held by anybody; not what is sold."""
    await desk.open_sale(floor=60)
    sold = desk.form(floor=10)
    await desk.book(sold, hold(desk, floor=5), desk.form(floor=5))
    await desk.settle_confirmed(sold)
    await gave_up(desk, tickets)
    assert (await desk.book(hold(desk, floor=16)))[0] == (limited(5, 20) if limit else FREE)


@pytest.mark.parametrize(("tickets", "limit"), [(19, False), (20, True)])
async def test_a_few_are_nothing(desk: Desk, tickets: int, limit: bool) -> None:
    """However few are left."""
    await desk.open_sale(floor=10)
    await gave_up(desk, tickets)
    assert (await desk.book(hold(desk, floor=6)))[0] == (limited(0, 5) if limit else FREE)


async def test_another_tier_and_another_event_are_not_limited(desk: Desk) -> None:
    """A booking of both tiers is: it is no way round."""
    await desk.open_sale(floor=30, box=300)
    await desk.open_sale(OTHER_EVENT, floor=30)
    await gave_up(desk, 30)
    assert await desk.book(hold(desk, floor=16, box=1), hold(desk, box=100)) == [limited(0, 15), FREE]
    assert await desk.book(hold(desk, floor=1)) == [limited(100, 15)]
    assert await desk.book(hold(desk, event=OTHER_EVENT, floor=30)) == [FREE]


async def test_another_client_is_not_limited(desk: Desk) -> None:
    await desk.open_sale(floor=30)
    await gave_up(desk, 30)
    form = desk.form(customer="customer-0", client="else00000000", hold_ms=FAR_MS, floor=30)
    form.unpaid_max = (500, 500, 20)
    assert await desk.book(form) == [FREE]


async def test_without_a_limit_there_is_none(desk: Desk) -> None:
    await desk.open_sale(floor=30)
    await gave_up(desk, 300)
    form = hold(desk, floor=30)
    form.unpaid_max = (500, 500)
    assert await desk.book(form) == [FREE]


# ------------------------------------------------------------------ how long, and how far


@pytest.mark.parametrize(("age_ms", "limit"), [(DAY_MS - 60_000, True), (DAY_MS, False), (-60_000, False)])
async def test_it_is_forgotten_after_a_day(desk: Desk, age_ms: int, limit: bool) -> None:
    """And what a clock that went back has dated ahead."""
    await desk.open_sale(floor=30)
    await gave_up(desk, 30, age_ms=age_ms)
    forms = [hold(desk, n, floor=2) for n in range(9)]
    results = await desk.book(*forms)
    assert results == ([FREE] * 7 + [limited(14, 15)] * 2 if limit else [FREE] * 9)
    await cancel(desk, forms[0])
    assert await desk.given_up() == (32 if limit else 2)
    raw = await desk.redis.hget(keys.unpaid(desk.shard, EVENT), f"g:{CLIENT}:floor")  # type: ignore[misc]
    began_ago_ms = await desk.now_ms() - int(raw.split(b":")[1])
    assert began_ago_ms >= DAY_MS - 60_000 if limit else 0 <= began_ago_ms < 60_000


@pytest.mark.parametrize(("tickets", "then"), [(9, -90), (10, -100), (11, -100)])
async def test_an_old_credit_is_no_leave_to_lock_up_a_sale(desk: Desk, tickets: int, then: int) -> None:
    await desk.open_sale(floor=50)
    form = hold(desk, floor=tickets)
    await desk.book(form)
    await pay(desk, form)
    await desk.claim()
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    assert await desk.given_up() == then


async def test_whoever_pays_gets_out_of_it(desk: Desk) -> None:
    await desk.open_sale(floor=30)
    await gave_up(desk, 38)
    form = hold(desk, floor=1)
    await desk.book(form)
    assert await desk.book(hold(desk, 1, floor=15)) == [limited(1, 15)]
    await pay(desk, form)
    await desk.claim()
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    assert await desk.given_up() == 28
    assert await desk.book(hold(desk, 1, floor=29)) == [FREE]


async def test_late_money_is_paid_for(desk: Desk) -> None:
    form = await expired_with_payment(desk)
    assert await desk.given_up() == 2
    assert await revive(desk, form) == "revived"
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    assert await desk.given_up() == -18


@pytest.mark.parametrize("cancels", [True, False])
async def test_what_is_refunded_was_not_paid_for(desk: Desk, cancels: bool) -> None:
    """Or paying and cancelling would hold for nothing. Of a booking that was no hold nothing is known."""
    form = await held(desk, floor=3)
    await pay(desk, form)
    await desk.claim()
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    direct = desk.form(floor=1)
    await desk.book(direct)
    await desk.settle_confirmed(direct)
    await gave_up(desk, 4, age_ms=500)
    await move(desk, "floor", sold=-1, owner=direct.owner, of=direct, move_id=1)
    assert await desk.given_up() == 4
    for _ in range(2):
        await move(desk, "floor", sold=-2, owner=form.owner, of=form, cancels=cancels, move_id=3)
        assert await desk.given_up() == 24
    await desk.redis.delete(keys.unpaid(desk.shard, EVENT))
    await move(desk, "floor", sold=-1, owner=form.owner, of=form, cancels=cancels, move_id=4)
    assert await desk.redis.exists(keys.unpaid(desk.shard, EVENT)) == 0, "nothing was excused by it any more"


# ------------------------------------------------------------------ repairs


async def test_a_repair_leaves_it(desk: Desk) -> None:
    """And is no drift; what is counted beside it is counted anew."""
    form = await held(desk, floor=2)
    await gave_up(desk, 7, age_ms=900)
    await gave_up(desk, -30, "box")
    name = keys.unpaid(desk.shard, EVENT)
    before = await desk.redis.hgetall(name)  # type: ignore[misc]
    await desk.redis.hset(name, mapping={f"o:{form.owner}": 9, "o:nobody": 3})  # type: ignore[misc]
    assert (await reconcile(desk, {"floor": (5, 0)}, fix=False, deep=True))[0] == b"same"
    for _ in range(2):
        assert (await reconcile(desk, {"floor": (5, 0)}, deep=True))[0] == b"same"
        assert await desk.redis.hgetall(name) == before  # type: ignore[misc]
    await desk.redis.delete(name)
    await desk.redis.set(name, "planted")
    await reconcile(desk, {"floor": (5, 0)}, deep=True)
    assert await desk.unpaid() == {f"o:{form.owner}": 2, f"c:{CLIENT}": 2}
