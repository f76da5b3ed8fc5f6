"""Tickets that are held and not paid for: counted exactly through every move of a hold, limited, and soon forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.stores import keys
from boxoffice.stores.record import Outcome, Payload, pack_payload
from tests.lua.test_holds import (
    KEY,
    cancel,
    declined,
    ended,
    expire,
    expired_with_payment,
    held,
    pay,
    revive,
    untouched,
)
from tests.lua.test_reconcile import Final, reconcile
from tests.lua.test_restore import restore
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import Desk, Form, Verdict

FAR_MS = 600_000


def hold(desk: Desk, customer: str = "ann", most: tuple[int, ...] = (), **tiers: int) -> Form:
    form = desk.form(customer=customer, hold_ms=FAR_MS, **tiers)  # type: ignore[arg-type]
    form.unpaid_max = most
    return form


async def counted(desk: Desk, form: Form, tickets: int) -> None:
    """So many of the form's customer and of its client; nothing is written of none."""
    expected = {f"o:{form.owner}": tickets, f"c:{CLIENT}": tickets} if tickets else {}
    assert await desk.unpaid() == expected


async def test_a_customer_has_a_limit(desk: Desk) -> None:
    """Exactly so many, in one call or in several; another customer has as many, and paying at once is not limited."""
    await desk.open_sale(floor=50, box=50)
    forms = [
        hold(desk, most=(5, 100), floor=2, box=1),
        hold(desk, most=(5, 100), floor=2),
        hold(desk, most=(5, 100), floor=1),
    ]
    assert await desk.book(*forms) == [b"created", b"created", [b"unpaid_limit", b"customer", 5, 5]]
    assert (await desk.book(hold(desk, most=(5, 100), floor=1)))[0] == [b"unpaid_limit", b"customer", 5, 5]
    assert await desk.book(hold(desk, "bob", (5, 100), floor=5), desk.form(floor=3)) == [b"created", b"created"]
    assert await desk.book(hold(desk, "cat", (5, 100), floor=6)) == [[b"unpaid_limit", b"customer", 0, 5]]
    assert (await desk.unpaid())[f"c:{CLIENT}"] == 10


async def test_a_client_has_one_for_all_its_customers(desk: Desk) -> None:
    await desk.open_sale(floor=50)
    forms = [hold(desk, f"customer-{n}", (5, 7), floor=3) for n in range(4)]
    results = await desk.book(*forms)
    assert results == [b"created", b"created", [b"unpaid_limit", b"client", 6, 7], [b"unpaid_limit", b"client", 6, 7]]
    assert await cancel(desk, forms[0]) == "cancelled"
    assert await desk.book(hold(desk, "else", (5, 7), floor=4)) == [b"created"]


async def test_a_repeat_is_no_other_hold(desk: Desk) -> None:
    """Whoever is at the limit may still repeat what brought him there."""
    await desk.open_sale(floor=50)
    form = hold(desk, most=(2, 2), floor=2)
    again = hold(desk, most=(2, 2), floor=2)
    again.scope, again.packed = form.scope, form.packed
    assert [desk.word(result) for result in await desk.book(form, again)] == [b"created", b"replayed"]
    assert [desk.word(result) for result in await desk.book(again)] == [b"replayed"]
    await counted(desk, form, 2)


async def test_a_booking_with_its_payment_is_not_counted(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    await desk.book(form)
    assert await desk.unpaid() == {}
    await desk.settle(Verdict(form, "F"))
    assert await desk.unpaid() == {}


@pytest.mark.parametrize("letter", ["C", "B", "F", "E", "X"])
async def test_it_counts_until_it_is_final(desk: Desk, letter: str) -> None:
    """Also while a payment is under way: tickets that wait for a bank are no less locked up."""
    form = await held(desk, floor=2)
    await counted(desk, form, 2)
    await pay(desk, form)
    await counted(desk, form, 2)
    await desk.claim()
    await desk.settle(Verdict(form, "R", payment_key=KEY), Verdict(form, "D", payment_key=KEY))
    await counted(desk, form, 2)
    await desk.settle(Verdict(form, letter, payment_key=KEY))
    await counted(desk, form, 0)
    assert await desk.settle(Verdict(form, letter, payment_key=KEY)) == ["stale"]
    await counted(desk, form, 0)
    if letter == "B":
        await desk.redis.hset(keys.event(desk.shard, form.event), mapping={"a:floor": 5, "c:floor": 0})


AT_BANK = pack_payload(Payload(None, Outcome(status="requires_action", next_action="https://bank")))
UNKNOWN = pack_payload(Payload(None, Outcome(status="unknown")))


def everywhere(form: Form, tickets: int) -> dict[str, int]:
    """How those of a booking whose customer is at the bank are counted."""
    return dict.fromkeys((f"o:{form.owner}", f"c:{CLIENT}", f"wo:{form.owner}", f"wc:{CLIENT}", "w"), tickets)


async def waiting(desk: Desk, customer: str = "ann", most: tuple[int, ...] = (), **tiers: int) -> Form:
    """Posted with its payment; its customer is at the bank."""
    form = desk.form(customer=customer, **tiers)  # type: ignore[arg-type]
    form.unpaid_max = most
    assert await desk.book(form) == [b"created"]
    assert await desk.settle(Verdict(form, "R", payload=AT_BANK)) == ["R"]
    return form


@pytest.mark.parametrize("letter", ["C", "F", "X"])
async def test_a_booking_whose_customer_is_at_the_bank_is_counted(desk: Desk, letter: str) -> None:
    """Its tickets are locked up as a hold's are; however often it is looked at, once; until it is final."""
    await desk.open_sale(floor=9)
    form = await waiting(desk, floor=2)
    at_bank = everywhere(form, 2)
    assert await desk.unpaid() == at_bank
    await desk.settle(Verdict(form, "R", payload=AT_BANK))
    await desk.settle(Verdict(form, "R", payload=b""), Verdict(form, "D"))
    assert await desk.unpaid() == at_bank
    for _ in range(2):
        await desk.settle(Verdict(form, letter))
        assert await desk.unpaid() == {}


async def test_it_is_counted_no_more_when_the_bank_has_let_it_go(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    form = await waiting(desk, floor=2)
    await desk.settle(Verdict(form, "R", payload=UNKNOWN))
    assert await desk.unpaid() == {}
    await desk.settle(Verdict(form, "F"))
    assert await desk.unpaid() == {}


async def test_who_is_at_the_bank_has_a_limit(desk: Desk) -> None:
    """Holds are limited with those tickets. Whoever pays at once is limited by them alone, and has the first whatever they
    are: nothing changes for the others while somebody is at the bank."""
    await desk.open_sale(floor=90)
    assert await desk.book(*(_paid(desk, (3, 5), floor=3) for _ in range(3))) == [b"created"] * 3
    first = await waiting(desk, most=(3, 5), floor=2)
    assert await desk.book(_paid(desk, (3, 5), floor=2)) == [[b"unpaid_limit", b"customer", 2, 3]]
    assert await desk.book(hold(desk, most=(3, 5), floor=2)) == [[b"unpaid_limit", b"customer", 2, 3]]
    assert await desk.book(hold(desk, "bob", (3, 5), floor=3)) == [b"created"]
    assert await desk.book(_paid(desk, (3, 5), floor=1), _paid(desk, (3, 5), "bob", floor=3)) == [
        b"created",
        b"created",
    ]
    assert await desk.book(_paid(desk, (3, 4), "bob", floor=3)) == [[b"unpaid_limit", b"client", 2, 4]]
    assert await desk.book(_paid(desk, (3, 99), "cat", floor=7), _paid(desk, (), floor=9)) == [b"created", b"created"]
    await desk.settle(Verdict(first, "C"))
    assert await desk.book(_paid(desk, (3, 5), floor=3)) == [b"created"]


def _paid(desk: Desk, most: tuple[int, ...], customer: str = "ann", **tiers: int) -> Form:
    form = desk.form(customer=customer, **tiers)  # type: ignore[arg-type]
    form.unpaid_max = most
    return form


async def test_repairs_count_who_is_at_the_bank(desk: Desk) -> None:
    """Recounted, concluded, and put back."""
    await desk.open_sale(floor=9)
    form, other = await waiting(desk, floor=2), await waiting(desk, "bob", floor=1)
    alone = everywhere(form, 2)
    counted = everywhere(other, 1) | alone | {name: 3 for name in (f"c:{CLIENT}", f"wc:{CLIENT}", "w")}
    await desk.redis.hset(keys.unpaid(desk.shard, form.event), mapping={"w": 9, "o:nobody": 3})
    await reconcile(desk, {"floor": (9, 0)}, deep=True)
    assert await desk.unpaid() == counted
    record = await desk.record(other)
    assert record is not None
    await reconcile(desk, {"floor": (9, 0)}, Final(other, "F"), deep=False)
    assert await desk.unpaid() == alone
    await desk.redis.delete(keys.booking(desk.shard, other.id), keys.idempotency(desk.shard, other.scope))
    assert await restore(desk, record) == 1
    assert await desk.unpaid() == counted


async def test_a_decline_leaves_it_counted(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await declined(desk, form)
    await counted(desk, form, 2)
    await ended(desk, form)
    await expire(desk)
    await counted(desk, form, 0)
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) > 50, "PostgreSQL knows it: it lives like any other"
    assert await desk.redis.exists(keys.ended(desk.shard, CLIENT)) == 0


@pytest.mark.parametrize("how", [cancel, None])
async def test_its_end_gives_back_once(desk: Desk, how: Any) -> None:
    form, other = await held(desk, floor=2), desk.form(hold_ms=FAR_MS, floor=1)
    await desk.book(other)
    if how is None:
        await ended(desk, form)
    for _ in range(2):
        await (how(desk, form) if how else expire(desk))
        await counted(desk, other, 1)


async def test_late_money_counts_again(desk: Desk) -> None:
    form = await expired_with_payment(desk)
    await counted(desk, form, 0)
    assert await revive(desk, form) == "revived"
    await counted(desk, form, 2)
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    await counted(desk, form, 0)


async def test_what_is_restored_is_counted(desk: Desk) -> None:
    form = await held(desk, floor=2)
    record = await desk.record(form)
    assert record is not None
    await desk.redis.delete(keys.booking(desk.shard, form.id), keys.unpaid(desk.shard, form.event))
    assert await restore(desk, record) == 1
    await counted(desk, form, 2)
    await desk.redis.hset(keys.event(desk.shard, form.event), mapping={"a:floor": 3, "h:floor": 2})


async def test_a_repair_counts_anew(desk: Desk) -> None:
    """Whatever the count said before; and what PostgreSQL has ended is counted no more."""
    form, over = await held(desk, floor=2), hold(desk, "bob", floor=1)
    await desk.book(over)
    await pay(desk, over)
    await desk.redis.hset(keys.unpaid(desk.shard, form.event), mapping={f"o:{form.owner}": 9, "o:nobody": 3})
    await untouched(desk, _word(reconcile(desk, {"floor": (5, 0)}, fix=False, deep=True)))
    await reconcile(desk, {"floor": (5, 0)}, deep=True)
    assert await desk.unpaid() == {f"o:{form.owner}": 2, f"o:{over.owner}": 1, f"c:{CLIENT}": 3}
    await reconcile(desk, {"floor": (5, 1)}, Final(over, "C"), deep=False)
    await counted(desk, form, 2)


async def _word(work: Any) -> str:
    return str((await work)[0])


async def test_a_key_of_a_wrong_type_moves_no_stock(desk: Desk) -> None:
    form = await held(desk, floor=2)
    for key in (keys.unpaid(desk.shard, form.event), keys.ended(desk.shard, CLIENT)):
        was = await desk.redis.hgetall(key)  # type: ignore[misc]
        await desk.redis.delete(key)
        await desk.redis.zadd(key, {"planted": 1})
        before = await desk.snapshot()
        with pytest.raises(Exception, match=r"(?i)wrong|type"):
            await cancel(desk, form)
        assert await desk.snapshot() == before
        await desk.redis.delete(key)
        if was:
            await desk.redis.hset(key, mapping=was)
    assert await cancel(desk, form) == "cancelled"


# ------------------------------------------------------------------ short memory


async def test_beyond_so_many_a_hold_is_remembered_briefly(desk: Desk) -> None:
    """Of one client within its window; its key lives as long as its record."""
    await desk.open_sale(floor=50)
    forms = [hold(desk, floor=1) for _ in range(4)]
    await desk.book(*forms)
    await cancel(desk, forms[0])
    for form in forms[1:]:
        await ended(desk, form)
    await expire(desk)
    lives = []
    for form in forms:
        life_s = await desk.redis.ttl(keys.booking(desk.shard, form.id))
        assert life_s == await desk.redis.ttl(keys.idempotency(desk.shard, form.scope))
        lives.append(life_s)
    assert sorted(life_s > 5 for life_s in lives) == [False, False, True, True]
    assert min(lives) > 0
    assert 0 < await desk.redis.ttl(keys.ended(desk.shard, CLIENT)) <= 20
