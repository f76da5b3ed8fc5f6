"""pay, extend, cancel, expire, revive and wake: one test for each line of their Returns, on a real server and a fake one."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.record import Charge, Payload, pack_payload
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import Desk, Form, Verdict

KEY, OTHER_KEY = "a" * 32, "b" * 32
CHARGE = Charge("card", "tok_ok_4242", "Ann", "4242")
LONG_MS = 600_000


async def pay(
    desk: Desk,
    form: Form,
    key: str = KEY,
    *,
    attempts: int = 5,
    pending: int = 1_000,
    seen: bytes | None = None,
    until_closing: bool = False,
    as_expected: bool = True,
    terms: str = "",
) -> str:
    """The script's word; `seen` is the record as it is, unless something else is said."""
    shard = desk.shard
    if seen is None:
        seen = await desk.redis.get(keys.booking(shard, form.id)) or b""
    reply = await desk.scripts.pay(
        desk.redis,
        [keys.gate(shard), keys.booking(shard, form.id), keys.pending(shard), keys.deadlines(shard), keys.bell(shard),
         keys.rings(shard), keys.arq_queue(shard), keys.event(shard, form.event)],
        [key, pack_payload(Payload(CHARGE)), attempts, pending, BELL_TTL_MS, pack_ring(shard), job_prefix(shard), seen,
         int(until_closing), int(as_expected), terms, CLIENT],
    )  # fmt: skip
    return told(reply)


async def extend(desk: Desk, form: Form, extra_ms: int = 0) -> str:
    shard = desk.shard
    reply = await desk.scripts.extend(
        desk.redis, [keys.gate(shard), keys.booking(shard, form.id), keys.deadlines(shard)], [extra_ms]
    )
    return told(reply)


LIVES = (20, 2, 5)
"""Seconds for which a hold that ended unpaid is remembered, how many of a client, and seconds for those beyond."""


async def cancel(desk: Desk, form: Form, lives: tuple[int, int, int] = LIVES) -> str:
    shard = desk.shard
    reply = await desk.scripts.cancel(
        desk.redis,
        [keys.gate(shard), keys.booking(shard, form.id), keys.idempotency(shard, form.scope), keys.event(shard, form.event),
         keys.owners(shard, form.event), keys.pending(shard), keys.deadlines(shard), keys.bell(shard), keys.rings(shard),
         keys.arq_queue(shard)],
        [60, BELL_TTL_MS, pack_ring(shard), job_prefix(shard), *lives],
    )  # fmt: skip
    return told(reply)


async def expire(desk: Desk, limit: int = 100) -> tuple[int, int, list[str]]:
    seen, expired, attempted, _ = await desk.scripts.expire(
        desk.redis, [keys.gate(desk.shard), keys.deadlines(desk.shard)], [limit, 60, keys.shard_tag(desk.shard), *LIVES]
    )
    return int(seen), int(expired), [booking.decode() for booking in attempted]


async def revive(desk: Desk, form: Form, key: str = KEY) -> str:
    shard = desk.shard
    reply = await desk.scripts.revive(
        desk.redis,
        [keys.gate(shard), keys.booking(shard, form.id), keys.idempotency(shard, form.scope), keys.event(shard, form.event),
         keys.owners(shard, form.event), keys.pending(shard), keys.bell(shard), keys.rings(shard), keys.arq_queue(shard)],
        [key, pack_payload(Payload(CHARGE)), BELL_TTL_MS, pack_ring(shard), job_prefix(shard)],
    )  # fmt: skip
    assert isinstance(reply, bytes)
    return reply.decode()


async def wake(desk: Desk, form: Form) -> str:
    shard = desk.shard
    reply = await desk.scripts.wake(
        desk.redis,
        [keys.pending(shard), keys.bell(shard), keys.rings(shard), keys.arq_queue(shard)],
        [form.id, BELL_TTL_MS, pack_ring(shard), job_prefix(shard)],
    )
    assert isinstance(reply, bytes)
    return reply.decode()


def told(reply: Any) -> str:
    return str(reply[0].decode())


async def held(desk: Desk, hold_ms: int = LONG_MS, **tiers: int) -> Form:
    """A hold; all tiers have five tickets."""
    await desk.open_sale(**dict.fromkeys(tiers, 5))
    form = desk.form(hold_ms=hold_ms, **tiers)  # type: ignore[arg-type]
    assert await desk.book(form) == [b"created"]
    return form


async def ended(desk: Desk, form: Form) -> None:
    """Its deadline has passed."""
    record = await desk.record(form)
    assert record is not None
    record.deadline_ms = 1
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    await desk.redis.zadd(keys.deadlines(desk.shard), {form.id: 1}, xx=True)


async def declined(desk: Desk, form: Form, key: str = KEY) -> None:
    """A payment was tried and brought nothing."""
    assert await pay(desk, form, key) == "paid"
    await desk.claim()
    assert await desk.settle(Verdict(form, "H", payment_key=key, payload=b'{"o":{"s":"declined","m":"card"}}')) == ["H"]


async def untouched(desk: Desk, work: Any) -> str:
    """The word of a call that wrote nothing."""
    before = await desk.snapshot()
    word = await work
    assert await desk.snapshot() == before
    return str(word)


# ------------------------------------------------------------------ pay


async def test_a_hold_is_paid(desk: Desk) -> None:
    """Its deadline no longer ends it, a worker is rung for, and the tickets stay held."""
    form = await held(desk, floor=2)
    assert await pay(desk, form) == "paid"
    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.payment_key, record.attempts) == ("P", KEY, 1)
    assert record.payload.charge == CHARGE
    assert await desk.pending() == [form.id]
    assert await desk.members(keys.deadlines(desk.shard)) == []
    assert len(await desk.members(keys.arq_queue(desk.shard))) == 1
    assert await desk.counts("floor") == (3, 2, 0)


async def test_pay_pays_what_was_seen(desk: Desk) -> None:
    """A record that was written meanwhile may have this very attempt behind it: its caller looks again."""
    form = await held(desk, floor=2)
    seen = await desk.redis.get(keys.booking(desk.shard, form.id))
    await declined(desk, form)
    await declined(desk, form, OTHER_KEY)
    assert await untouched(desk, pay(desk, form, KEY, seen=seen)) == "changed"
    assert await pay(desk, form, KEY) == "paid"


async def test_pay_writes_nothing_when_it_refuses(desk: Desk) -> None:
    form = await held(desk, floor=2)
    unknown = desk.form(floor=1)
    assert await untouched(desk, pay(desk, unknown)) == "missing"
    assert await untouched(desk, pay(desk, form, as_expected=False, attempts=0)) == "price_changed"
    assert await untouched(desk, pay(desk, form, attempts=0)) == "too_many"
    assert await untouched(desk, pay(desk, form, pending=0)) == "busy"
    await pay(desk, form)
    assert await untouched(desk, pay(desk, form, as_expected=False)) == "replayed", "whatever it expects now"
    assert await untouched(desk, pay(desk, form)) == "replayed"
    assert await untouched(desk, pay(desk, form, OTHER_KEY)) == "in_progress"
    await desk.claim()
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    assert await untouched(desk, pay(desk, form)) == "replayed"
    assert await untouched(desk, pay(desk, form, OTHER_KEY)) == "ended"


async def test_a_hold_past_its_deadline_cannot_be_paid(desk: Desk) -> None:
    """Although no sweeper has been there yet."""
    form = await held(desk, floor=2)
    await ended(desk, form)
    assert await untouched(desk, pay(desk, form)) == "ended"


async def test_a_declined_hold_is_paid_with_another_key(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await declined(desk, form)
    assert await untouched(desk, pay(desk, form)) == "replayed"
    assert await pay(desk, form, OTHER_KEY) == "paid"
    record = await desk.record(form)
    assert record is not None and record.attempts == 2
    assert await desk.settle(Verdict(form, "C", payment_key=KEY)) == ["stale"], "an old worker's word"
    assert await desk.settle(Verdict(form, "C", payment_key=OTHER_KEY)) == ["C"]


# ------------------------------------------------------------------ extend


@pytest.mark.parametrize(("extra_ms", "longer_ms"), [(1_000, 1_000), (0, LONG_MS), (9 * LONG_MS, LONG_MS)])
async def test_a_hold_is_extended_by_its_first_length_at_most(desk: Desk, extra_ms: int, longer_ms: int) -> None:
    form = await held(desk, floor=2)
    assert await extend(desk, form, extra_ms) == "extended"
    record = await desk.record(form)
    assert record is not None
    assert record.extended
    assert record.deadline_ms == record.admitted_ms + LONG_MS + longer_ms
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == record.deadline_ms
    assert await untouched(desk, extend(desk, form)) == "extended_before"


async def test_extend_writes_nothing_when_it_refuses(desk: Desk) -> None:
    form = await held(desk, floor=2)
    assert await untouched(desk, extend(desk, desk.form(floor=1))) == "missing"
    await pay(desk, form)
    assert await untouched(desk, extend(desk, form)) == "in_progress"
    await desk.claim()
    await desk.settle(Verdict(form, "H", payment_key=KEY))
    await ended(desk, form)
    assert await untouched(desk, extend(desk, form)) == "ended"
    await cancel(desk, form)
    assert await untouched(desk, extend(desk, form)) == "ended"


# ------------------------------------------------------------------ cancel


async def test_a_cancelled_hold_gives_back_once(desk: Desk) -> None:
    form = await held(desk, floor=2, balcony=1)
    assert await cancel(desk, form) == "cancelled"
    assert await untouched(desk, cancel(desk, form)) == "ended"
    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.counts("balcony") == (5, 0, 0)
    assert await desk.has(form, "X")
    assert await desk.owned(form) == 0
    assert await desk.members(keys.deadlines(desk.shard)) == []
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 15 < await desk.redis.ttl(key) <= 20


async def test_a_payment_under_way_is_asked_to_be_let_go(desk: Desk) -> None:
    """Its tickets stay held until the worker has done so; it is claimable at once, and rung for."""
    form = await held(desk, floor=2)
    await pay(desk, form)
    await desk.redis.zadd(keys.pending(desk.shard), {form.id: await desk.now_ms() + 60_000})
    assert await cancel(desk, form) == "requested"
    record = await desk.record(form)
    assert record is not None and record.cancel_requested
    assert await desk.counts("floor") == (3, 2, 0)
    assert [booking for booking, _, _ in await desk.claim()] == [form.id]


async def test_a_leased_booking_keeps_its_lease(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await pay(desk, form)
    await desk.claim()
    lease = await desk.redis.zscore(keys.pending(desk.shard), form.id)
    assert await cancel(desk, form) == "requested"
    assert await desk.redis.zscore(keys.pending(desk.shard), form.id) == lease


async def test_cancel_writes_nothing_when_it_refuses(desk: Desk) -> None:
    form = await held(desk, floor=2)
    assert await untouched(desk, cancel(desk, desk.form(floor=1))) == "missing"
    await pay(desk, form)
    await desk.claim()
    await desk.settle(Verdict(form, "C", payment_key=KEY))
    assert await untouched(desk, cancel(desk, form)) == "ended"


async def test_a_key_of_a_wrong_type_moves_no_stock(desk: Desk) -> None:
    """A script is not rolled back: it looks before it writes."""
    form = await held(desk, floor=2)
    await desk.redis.set(keys.owners(desk.shard, form.event), "planted")
    for work in (cancel(desk, form), expire(desk)):
        await ended(desk, form)
        before = await desk.snapshot()
        with pytest.raises(Exception, match=r"(?i)wrong|type"):
            await work
        assert await desk.snapshot() == before
    await desk.redis.delete(keys.owners(desk.shard, form.event))


# ------------------------------------------------------------------ expire


async def test_what_is_past_its_deadline_ends_once(desk: Desk) -> None:
    form = await held(desk, floor=2)
    assert await expire(desk) == (0, 0, [])
    await ended(desk, form)
    assert await expire(desk) == (1, 1, [])
    assert await expire(desk) == (0, 0, [])
    assert await desk.has(form, "E")
    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.owned(form) == 0
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 15 < await desk.redis.ttl(key) <= 20


async def test_those_that_were_tried_are_named(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await declined(desk, form)
    await ended(desk, form)
    assert await expire(desk) == (1, 1, [form.id])


async def test_a_sweep_has_a_limit(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    forms = [desk.form(hold_ms=LONG_MS, floor=1) for _ in range(5)]
    await desk.book(*forms)
    for form in forms:
        await ended(desk, form)
    assert [(await expire(desk, 2))[:2] for _ in range(4)] == [(2, 2), (2, 2), (1, 1), (0, 0)]
    assert await desk.counts("floor") == (5, 0, 0)


async def test_a_deadline_that_moved_on_is_put_right(desk: Desk) -> None:
    """The record is the truth; an entry that comes too early neither ends the hold nor forgets it."""
    form = await held(desk, floor=2)
    await desk.redis.zadd(keys.deadlines(desk.shard), {form.id: 1})
    assert await expire(desk) == (1, 0, [])
    record = await desk.record(form)
    assert record is not None and record.state == "H"
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == record.deadline_ms


async def test_entries_of_what_is_no_hold_are_dropped(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await pay(desk, form)
    await desk.redis.zadd(keys.deadlines(desk.shard), {form.id: 1, ids.booking_id(desk.shard, 1): 1})
    assert await expire(desk) == (2, 0, [])
    assert await desk.has(form, "P")
    assert await desk.members(keys.deadlines(desk.shard)) == []


# ------------------------------------------------------------------ revive


async def expired_with_payment(desk: Desk) -> Form:
    """A hold that ended while its payment was unknown."""
    form = await held(desk, floor=2)
    await pay(desk, form)
    await desk.claim()
    assert await desk.settle(Verdict(form, "E", payment_key=KEY)) == ["E"]
    return form


async def test_late_money_of_a_called_off_event_takes_nothing(desk: Desk) -> None:
    """There are tickets, and none of them is for sale any more: the money goes back."""
    form = await expired_with_payment(desk)
    await desk.redis.hset(keys.event(desk.shard, form.event), "on", "x")  # type: ignore[misc]
    assert await untouched(desk, revive(desk, form)) == "sold_out"


async def test_late_money_takes_the_tickets_again(desk: Desk) -> None:
    """Once; the record lives on without a TTL, and a worker is rung for."""
    form = await expired_with_payment(desk)
    assert await revive(desk, form) == "revived"
    assert await untouched(desk, revive(desk, form)) == "pending"
    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.revived, record.payload.charge) == ("P", True, CHARGE)
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.owned(form) == 2
    assert await desk.pending() == [form.id]
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert await desk.redis.ttl(key) == -1
    await desk.claim()
    assert await desk.settle(Verdict(form, "C", payment_key=KEY)) == ["C"]


async def test_late_money_for_what_is_sold_out(desk: Desk) -> None:
    """All tiers or none."""
    form = await expired_with_payment(desk)
    await desk.book(desk.form(floor=4))
    assert await untouched(desk, revive(desk, form)) == "sold_out"


async def test_late_money_for_nothing(desk: Desk) -> None:
    form = await expired_with_payment(desk)
    assert await untouched(desk, revive(desk, form, OTHER_KEY)) == "gone"
    assert await untouched(desk, revive(desk, desk.form(floor=1))) == "gone"
    other = desk.form(hold_ms=LONG_MS, floor=1)
    await desk.book(other)
    assert await untouched(desk, revive(desk, other)) == "gone"
    await pay(desk, other, OTHER_KEY)
    assert await untouched(desk, revive(desk, other)) == "gone", "it is being paid with something else"


# ------------------------------------------------------------------ wake


async def test_news_make_a_booking_due(desk: Desk) -> None:
    form = await held(desk, floor=1)
    assert await untouched(desk, wake(desk, form)) == "absent"
    await pay(desk, form)
    await desk.redis.zadd(keys.pending(desk.shard), {form.id: await desk.now_ms() + 60_000})
    assert await desk.claim() == []
    assert await wake(desk, form) == "woken"
    assert len(await desk.claim()) == 1
    assert await untouched(desk, wake(desk, form)) == "leased"


# ------------------------------------------------------------------ settle's B


async def test_sold_and_cancelled_before_redis_heard_of_it(desk: Desk) -> None:
    """Its tickets count as sold, whoever brings them back; the record says cancelled."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    await desk.book(form)
    await desk.claim()
    assert await desk.settle(Verdict(form, "B")) == ["X"]
    assert await desk.settle(Verdict(form, "B")) == ["stale"]
    assert await desk.counts("floor") == (3, 0, 2)
    assert await desk.has(form, "X")
    assert await desk.owned(form) == 2, "the stock move takes them off the customer's count"


# ------------------------------------------------------------------ whose, how many, when


@pytest.mark.parametrize("state", ["F", "X", "H", "C"])
async def test_late_money_revives_nothing_but_an_expired_hold(desk: Desk, state: str) -> None:
    """Whatever else became of it under this payment."""
    form = await expired_with_payment(desk)
    record = await desk.record(form)
    assert record is not None
    record.state = state
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    assert await untouched(desk, revive(desk, form)) == "gone"


async def test_late_money_takes_the_last_tickets_of_all_tiers(desk: Desk) -> None:
    """Exactly as many as are left; all of them are its customer's again, and a worker is rung for at once."""
    await desk.open_sale(floor=2, balcony=1)
    form = desk.form(hold_ms=LONG_MS, floor=2, balcony=1)
    await desk.book(form)
    await pay(desk, form)
    await desk.claim()
    assert await desk.settle(Verdict(form, "E", payment_key=KEY)) == ["E"]
    await desk.redis.delete(keys.bell(desk.shard), keys.arq_queue(desk.shard))

    assert await revive(desk, form) == "revived"

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((0, 2, 0), (0, 1, 0))
    assert await desk.owned(form) == 3
    assert await desk.redis.exists(keys.bell(desk.shard)) == 1
    assert await desk.redis.zcard(keys.arq_queue(desk.shard)) == 1
    assert [booking for booking, _, _ in await desk.claim()] == [form.id]


@pytest.mark.parametrize("left_ms", [2_000, 30_000, 120_000])
async def test_an_entry_before_its_deadline_ends_nothing(desk: Desk, left_ms: int) -> None:
    """However soon the deadline comes: the record is the truth, and the entry is put right."""
    form = await held(desk, hold_ms=left_ms, floor=2)
    record = await desk.record(form)
    assert record is not None
    await desk.redis.zadd(keys.deadlines(desk.shard), {form.id: 1})
    assert await expire(desk) == (1, 0, [])
    assert await desk.has(form, "H")
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == record.deadline_ms


async def test_asking_twice_to_cancel_is_noted_once_and_rings(desk: Desk) -> None:
    form = await held(desk, floor=2)
    await pay(desk, form)
    for _ in range(2):
        await desk.redis.delete(keys.bell(desk.shard), keys.arq_queue(desk.shard))
        assert await cancel(desk, form) == "requested"
        record = await desk.record(form)
        assert record is not None and record.tries.count("x") == 1
        assert await desk.redis.exists(keys.bell(desk.shard)) == 1
        assert await desk.redis.zcard(keys.arq_queue(desk.shard)) == 1


@pytest.mark.parametrize("how", ["cancel", "expire"])
async def test_who_gave_all_back_has_no_count(desk: Desk, how: str) -> None:
    """And the others keep theirs. Holds that ended are counted from the first one on: later ones make it no longer."""
    form = await held(desk, floor=2)
    other = desk.form(hold_ms=LONG_MS, floor=1, customer="bob")
    await desk.book(other)
    await desk.redis.set(keys.ended(desk.shard, CLIENT), 1, ex=3)
    if how == "cancel":
        await cancel(desk, form)
    else:
        await ended(desk, form)
        await expire(desk)
    assert await desk.redis.hgetall(keys.owners(desk.shard, form.event)) == {other.owner.encode(): b"1"}  # type: ignore[misc]
    assert await desk.redis.ttl(keys.ended(desk.shard, CLIENT)) <= 3
