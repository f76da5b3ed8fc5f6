"""admit.lua, one test for each line of its Returns."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import RedisError, ResponseError

from boxoffice.errors import GateClosed
from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.scripts import load_scripts
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form


async def refused_without_a_trace(desk: Desk, *forms: Form, pending_max: int = 1_000) -> list[list[object]]:
    """The refusals, when nothing at all was written."""
    before = await desk.snapshot()
    results = await desk.book(*forms, pending_max=pending_max)
    assert await desk.snapshot() == before, "a refusal writes nothing"
    return results


async def test_closed_gate_says_nothing_about_the_sale(desk: Desk) -> None:
    """Without its gate, a shard admits nobody and tells nobody what is left."""
    await desk.open_sale(floor=5)
    await desk.redis.delete(keys.gate(desk.shard))
    before = await desk.snapshot()

    with pytest.raises(GateClosed):
        await desk.admit(desk.form(floor=1))

    assert await desk.snapshot() == before


async def test_created_takes_tickets_and_binds_a_worker(desk: Desk) -> None:
    """A booking that is in has its tickets held, its record, its key, its place in the pending set, and a ring."""
    await desk.open_sale(floor=5, balcony=2)
    form = desk.form(floor=2, balcony=1, reference="order 7")

    now_ms, results, availability, behind, admissions, _ = await desk.admit(form)

    assert results == [b"created"]
    assert availability == [[1, 3]], "what is left, in the order the caller named its tiers"
    assert (behind, admissions) == (1, 1)
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.counts("balcony") == (1, 1, 0)
    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.sequence, record.admitted_ms, record.deadline_ms) == ("P", 1, now_ms, 0)
    assert (record.payment_key, record.scope, record.event) == (form.payment_key, form.scope, EVENT)
    assert (record.items, record.attempts, record.body.reference) == ("balcony:1,floor:2", 1, "order 7")
    assert await desk.redis.get(keys.idempotency(desk.shard, form.scope)) == form.id.encode()
    assert await desk.redis.zscore(keys.pending(desk.shard), form.id) == now_ms
    assert await desk.owned(form) == 3
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1, "no life span before it is final"
    assert await desk.redis.ttl(keys.idempotency(desk.shard, form.scope)) == -1


async def test_it_tells_how_many_are_due_and_claimed_by_nobody(desk: Desk) -> None:
    """A hold is not, nor what a worker has, nor what waits for its customer."""
    await desk.open_sale(floor=9)
    await desk.admit(desk.form(floor=1), desk.form(floor=1, hold_ms=60_000))
    assert (await desk.admit(desk.form(floor=1)))[3:5] == (2, 3)

    await desk.claim(limit=1)

    assert (await desk.admit(desk.form(floor=1, hold_ms=60_000)))[3:5] == (1, 4)
    assert (await desk.admit(desk.form(floor=1)))[3:5] == (2, 5)
    assert (await desk.admit(desk.form(floor=99)))[3:5] == (2, 5)


async def test_a_booking_without_payment_is_held_until_its_deadline(desk: Desk) -> None:
    """A hold waits for its customer, not for a worker: it rings nobody."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)

    now_ms, results, *_ = await desk.admit(form)

    assert results == [b"created"]
    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.deadline_ms, record.payment_key, record.attempts) == ("H", now_ms + 60_000, "", 0)
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == now_ms + 60_000
    assert await desk.pending() == []
    assert not await desk.redis.exists(keys.bell(desk.shard))
    assert await desk.counts("floor") == (3, 2, 0)


async def test_the_same_booking_sent_twice_counts_as_created_once(desk: Desk) -> None:
    """Whoever lost the reply sends the same booking again, and is told when it got in."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    admitted_ms = (await desk.admit(form)).now_ms
    before = await desk.snapshot()
    await desk.wait_ms(2)

    assert await desk.book(form) == [[b"created", b"%d" % admitted_ms]]

    assert await desk.snapshot() == before
    assert await desk.counts("floor") == (3, 2, 0)


async def test_replayed_key_answers_the_first_booking(desk: Desk) -> None:
    """The same key with the same request is the same booking, and its record says how it fares now."""
    await desk.open_sale(floor=5)
    first, again = desk.form(key="k", floor=2), desk.form(key="k", floor=2)
    await desk.book(first)

    (result,) = await refused_without_a_trace(desk, again)

    assert result == [b"replayed", first.id.encode(), await desk.redis.get(keys.booking(desk.shard, first.id))]


async def test_replayed_while_its_record_is_gone_still_names_the_booking(desk: Desk) -> None:
    """PostgreSQL has it then."""
    await desk.open_sale(floor=5)
    first = desk.form(key="k", floor=2)
    await desk.redis.set(keys.idempotency(desk.shard, first.scope), first.id)

    assert await refused_without_a_trace(desk, desk.form(key="k", floor=2)) == [[b"replayed", first.id.encode(), b""]]


async def test_two_first_uses_of_a_key_in_one_call_make_one_booking(desk: Desk) -> None:
    """The second is a replay of the first, with its record; another request under the key is a mismatch."""
    await desk.open_sale(floor=5)
    first, again, other = desk.form(key="k", floor=2), desk.form(key="k", floor=2), desk.form(key="k", floor=1)

    created, replayed, mismatch = await desk.book(first, again, other)

    assert created == b"created"
    assert replayed == [b"replayed", first.id.encode(), await desk.redis.get(keys.booking(desk.shard, first.id))]
    assert mismatch == [b"mismatch", first.id.encode()]
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.pending() == [first.id]


async def test_mismatch_when_a_key_comes_with_another_request(desk: Desk) -> None:
    """Whether the first booking is still pending or final makes no difference."""
    await desk.open_sale(floor=5)
    first = desk.form(key="k", floor=2)
    await desk.book(first)

    assert await refused_without_a_trace(desk, desk.form(key="k", floor=1)) == [[b"mismatch", first.id.encode()]]


async def test_a_key_is_valid_for_one_event(desk: Desk) -> None:
    """The same key in another event is another booking."""
    await desk.open_sale(floor=5)
    await desk.open_sale(OTHER_EVENT, stalls=5)

    results = await desk.book(desk.form(key="k", floor=1), desk.form(OTHER_EVENT, key="k", stalls=1))

    assert [desk.word(result) for result in results] == [b"created", b"created"]


async def test_unloaded_event_is_not_sold_out(desk: Desk) -> None:
    """Counters that are not there say nothing about what is left."""
    await desk.open_sale(floor=5)

    assert await refused_without_a_trace(desk, desk.form(OTHER_EVENT, stalls=1)) == [[b"unloaded"]]


@pytest.mark.parametrize(
    ("sale", "why"),
    [({"on": "0"}, b"event"), ({"starts_ms": 1}, b"started"), ({"inactive": "floor"}, b"floor")],
    ids=["event off", "event started", "tier inactive"],
)
async def test_sale_closed(desk: Desk, sale: dict[str, object], why: bytes) -> None:
    """An event that is off or has begun on Redis's clock, and a tier that is off, sell nothing."""
    await desk.open_sale(floor=5, **sale)  # type: ignore[arg-type]

    assert await refused_without_a_trace(desk, desk.form(floor=1)) == [[b"sale_closed", why]]


async def test_unknown_tier(desk: Desk) -> None:
    """A tier without counters sells nothing, and neither do its neighbours in the booking."""
    await desk.open_sale(floor=5)

    assert await refused_without_a_trace(desk, desk.form(floor=1, attic=1)) == [[b"unknown_tier", b"attic"]]


@pytest.mark.parametrize(
    "items",
    ["floor:0", "floor:-1", "floor:01", "floor:0x10", "floor:1e3", "floor:1.0", "floor: 1", "floor:", "floor:1234567",
     "floor:1,floor:1", "floor:nan"],
)  # fmt: skip
async def test_malformed_quantities_never_move_stock(desk: Desk, items: str) -> None:
    """A negative quantity would add stock, and a tier named twice would pass the check twice."""
    await desk.open_sale(floor=5)

    assert await refused_without_a_trace(desk, desk.form(items=items, prices=(100,))) == [[b"malformed"]]


async def test_sold_out_names_every_short_tier_and_takes_nothing(desk: Desk) -> None:
    """When tiers run short, no other tier of the booking is held."""
    await desk.open_sale(floor=5, balcony=1, box=0)

    (result,) = await refused_without_a_trace(desk, desk.form(floor=2, balcony=2, box=1))

    assert result == [b"sold_out", b"0", b"balcony", b"1", b"0", b"box", b"0", b"0"]


async def test_sold_out_tells_what_is_held_and_when_the_next_hold_ends(desk: Desk) -> None:
    """Held or pending: either may come back. The end is that of the shard's next hold, and is looked up only when some of a
    short tier are held; whatever the others have, none of theirs comes back for this one."""
    await desk.open_sale(floor=2, balcony=2, box=0)
    first, later = desk.form(floor=1, hold_ms=60_000), desk.form(balcony=1, hold_ms=90_000)
    await desk.book(first, later, desk.form(floor=1))
    record = await desk.record(first)
    assert record is not None
    ends = b"%d" % record.deadline_ms

    floor, balcony, box, both, question = await desk.book(
        desk.form(floor=1), desk.form(balcony=2), desk.form(box=1), desk.form(floor=3, box=2), desk.question(floor=1)
    )

    assert floor == question == [b"sold_out", ends, b"floor", b"0", b"2"]
    assert balcony == [b"sold_out", ends, b"balcony", b"1", b"1"]
    assert box == [b"sold_out", b"0", b"box", b"0", b"0"]
    assert both == [b"sold_out", ends, b"box", b"0", b"0", b"floor", b"0", b"2"]


async def test_who_is_refused_alike_is_told_once(desk: Desk) -> None:
    """Whoever comes after the first, of the same kind, in the same call. Once another has been let in it is said anew."""
    await desk.open_sale(floor=2)
    results = await desk.book(*[desk.form(floor=tickets) for tickets in (9, 9, 1, 9, 9)])
    said = [b"sold_out", b"0", b"floor", b"2", b"0"]
    assert results[0] == said and results[0] is results[1]
    assert results[2] == b"created" and results[3] == [b"sold_out", b"0", b"floor", b"1", b"1"]
    assert results[3] is results[4]


async def test_a_sold_out_answer_is_not_remembered(desk: Desk) -> None:
    """The same key may succeed later, when tickets come back."""
    await desk.open_sale(floor=2)
    first, second = desk.form(floor=2), desk.form(key="k", floor=1)
    assert (await desk.book(first, second))[1] == [b"sold_out", b"0", b"floor", b"0", b"2"]
    await desk.settle_failed(first)

    assert await desk.book(second) == [b"created"]


async def test_bookings_of_one_call_do_not_share_tickets(desk: Desk) -> None:
    """Each booking of a call sees what those before it took."""
    await desk.open_sale(floor=3)

    results = await desk.book(*(desk.form(floor=2) for _ in range(3)))

    assert [desk.word(result) for result in results] == [b"created", b"sold_out", b"sold_out"]
    assert await desk.counts("floor") == (1, 2, 0)


async def test_customer_limit_counts_all_tiers_and_all_bookings(desk: Desk) -> None:
    """Tickets held or bought count, whichever booking they are in; other customers are not concerned."""
    await desk.open_sale(floor=9, balcony=9, limit=4)
    await desk.book(desk.form(floor=2), desk.form(balcony=1))

    assert await refused_without_a_trace(desk, desk.form(floor=1, balcony=1)) == [[b"customer_limit", b"", 3, 0, 4, 1]]

    results = await desk.book(desk.form(floor=1), desk.form(floor=1), desk.form(customer="bob", floor=4))
    assert [desk.word(result) for result in results] == [b"created", b"customer_limit", b"created"]


async def test_price_changed_when_the_shop_saw_another_amount(desk: Desk) -> None:
    """Redis has the price of this moment; a booking priced from an older catalogue is refused."""
    await desk.open_sale(floor=5)

    assert await refused_without_a_trace(desk, desk.form(floor=1, prices=(99,))) == [[b"price_changed", b"100", 1]]


@pytest.mark.parametrize(
    ("price", "expected", "result"),
    [
        (100, None, b"created"), (100, 200, b"created"), (100, 199, [b"price_changed", b"200", 0]),
        (100, 201, [b"price_changed", b"200", 0]), (100, 0, [b"price_changed", b"200", 0]),
        (50, 200, [b"price_changed", b"200", 1]), (50, None, [b"price_changed", b"200", 1]),
        (50, 100, [b"price_changed", b"200", 1]),
    ],
)  # fmt: skip
async def test_what_its_shop_expects_it_to_cost(
    desk: Desk, price: int, expected: int | None, result: bytes | list[bytes | int]
) -> None:
    """It is compared with what the script sells at, and so is each price that stands in the record."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, prices=(price,))
    form.expected = expected
    before = await desk.snapshot()

    assert await desk.book(form) == [result]

    assert (await desk.snapshot() == before) is isinstance(result, list), "a refusal writes nothing"


@pytest.mark.parametrize("expected", [None, 300])
@pytest.mark.parametrize("hold_ms", [0, 60_000])
async def test_prices_that_moved_against_each_other_are_not_the_prices(
    desk: Desk, expected: int | None, hold_ms: int
) -> None:
    """Though their sum is what it was: each item is written, and refunded, at its own. Whoever asks with the right prices in
    the same call is let in."""
    await desk.open_sale(balcony=5, floor=5)
    forms = [
        desk.form(balcony=1, floor=1, hold_ms=hold_ms, prices=prices) for prices in ((150, 150), (100, 200), (100, 0))
    ]
    for form in forms:
        form.expected = expected
    changed = [b"price_changed", b"300", 1]
    assert await desk.book(*forms) == [changed, b"created", changed]


async def test_a_form_without_a_price_for_each_item_is_refused(desk: Desk) -> None:
    await desk.open_sale(balcony=5, floor=5)
    form = desk.form(balcony=1, floor=1, prices=(100,))
    assert await refused_without_a_trace(desk, form) == [[b"price_changed", b"300", 1]]


async def test_a_hold_is_refused_for_its_price_like_a_booking(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = desk.form(floor=1, hold_ms=60_000)
    form.expected = 99
    assert await refused_without_a_trace(desk, form) == [[b"price_changed", b"100", 0]]


async def test_busy_when_too_many_bookings_wait(desk: Desk) -> None:
    """The limit counts bookings that wait for a worker, those of the same call too. Holds wait for nobody."""
    await desk.open_sale(floor=9)

    results = await desk.book(*(desk.form(floor=1) for _ in range(3)), desk.form(floor=1, hold_ms=9_000), pending_max=2)

    assert [desk.word(result) for result in results] == [b"created", b"created", b"busy", b"created"]
    assert await refused_without_a_trace(desk, desk.form(floor=1), pending_max=2) == [[b"busy"]]


async def test_it_tells_how_many_bookings_wait(desk: Desk) -> None:
    """As many as the pending set has after the call, whatever became of its forms."""
    await desk.open_sale(floor=9)

    first = await desk.admit(desk.form(floor=1), desk.form(floor=1), desk.form(floor=1, hold_ms=9_000))
    refused = await desk.admit(desk.form(floor=10))

    assert (first.behind, refused.behind) == (2, 2)
    assert len(await desk.pending()) == 2


async def test_refusals_come_in_the_order_of_the_header(desk: Desk) -> None:
    """A replay is a replay even when the event is over and sold out."""
    await desk.open_sale(floor=1)
    first = desk.form(key="k", floor=1)
    await desk.book(first)
    await desk.open_sale(on="0", floor=1)
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"a:floor": 0, "h:floor": 1})  # type: ignore[misc]

    results = await refused_without_a_trace(
        desk, desk.form(key="k", floor=1), desk.form(key="k", floor=2), desk.form(floor=1), pending_max=1
    )

    assert [result[0] for result in results] == [b"replayed", b"mismatch", b"sale_closed"]


async def test_availability_is_told_where_somebody_was_let_in(desk: Desk) -> None:
    """One list for each event of the call; empty where everybody was refused."""
    await desk.open_sale(floor=5)
    await desk.open_sale(OTHER_EVENT, stalls=1)

    reply = await desk.admit(desk.form(floor=2), desk.form(OTHER_EVENT, stalls=2))

    assert reply.left == [[3], []]


async def test_sequences_follow_the_order_of_admission(desk: Desk) -> None:
    """Refused bookings take no place in it."""
    await desk.open_sale(floor=3)
    forms = [desk.form(floor=1), desk.form(floor=5), desk.form(floor=1), desk.form(floor=1)]
    await desk.book(*forms)

    records = [await desk.record(form) for form in forms]

    assert [record and record.sequence for record in records] == [1, None, 2, 3]
    assert await desk.redis.get(keys.sequence(desk.shard)) == b"3"


# ---------------------------------------------------------------------- the doorbell


async def test_one_ring_serves_a_rush(desk: Desk) -> None:
    """While a ring waits to be heard nobody rings again. The job is due on any clock and never expires."""
    await desk.open_sale(floor=9)
    for _ in range(3):
        await desk.book(desk.form(floor=1))

    assert await desk.redis.zrange(keys.arq_queue(desk.shard), 0, -1, withscores=True) == [
        (f"{job_prefix(desk.shard)}1".encode(), 1.0)
    ]
    job = keys.arq_job(f"{job_prefix(desk.shard)}1")
    assert await desk.redis.get(job) == pack_ring(desk.shard)
    assert await desk.redis.ttl(job) == -1
    assert 0 < await desk.redis.pttl(keys.bell(desk.shard)) <= BELL_TTL_MS


async def test_each_ring_has_an_id_of_its_own(desk: Desk) -> None:
    """Under a constant id, the end of a running job would delete the next ring."""
    await desk.open_sale(floor=9)
    await desk.book(desk.form(floor=1))
    await desk.redis.delete(keys.bell(desk.shard))
    await desk.book(desk.form(floor=1))

    assert await desk.members(keys.arq_queue(desk.shard)) == [f"{job_prefix(desk.shard)}{n}" for n in (1, 2)]


async def test_replays_and_refusals_do_not_ring(desk: Desk) -> None:
    """Nobody has anything to do for them."""
    await desk.open_sale(floor=1)
    form = desk.form(key="k", floor=1)
    await desk.book(form)
    await desk.redis.delete(keys.bell(desk.shard))

    await desk.book(form, desk.form(key="k", floor=1), desk.form(floor=1))

    assert await desk.redis.get(keys.rings(desk.shard)) == b"1"


# ---------------------------------------------------------------------- things that should not be


@pytest.mark.parametrize(
    "key", ["pending", "deadlines", "sequence", "rings", "arq_queue", "event", "owners", "first record"]
)
@pytest.mark.parametrize("hold_ms", [0, 9_000], ids=["paid", "held"])
async def test_a_key_of_a_wrong_type_leaves_no_half_admission(desk: Desk, key: str, hold_ms: int) -> None:
    """A script is not rolled back, so every key is looked at before the first write."""
    await desk.open_sale(floor=5)
    form = desk.form(key="k", floor=2, hold_ms=hold_ms)
    if key == "first record":
        await desk.redis.set(keys.idempotency(desk.shard, form.scope), desk.form(floor=1).id)
        name = keys.booking(desk.shard, (await desk.redis.get(keys.idempotency(desk.shard, form.scope))).decode())
    elif key in ("event", "owners"):
        name = getattr(keys, key)(desk.shard, EVENT)
    else:
        name = getattr(keys, key)(desk.shard)
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    await desk.redis.delete(name)
    await desk.redis.lpush(name, "planted")  # type: ignore[misc]
    before = await desk.snapshot()

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await desk.admit(form)

    assert await desk.snapshot() == before
    assert key == "event" or await desk.redis.hgetall(keys.event(desk.shard, EVENT)) == sale  # type: ignore[misc]


@pytest.mark.parametrize("key", ["sequence", "rings"])
async def test_a_counter_that_is_no_number_leaves_no_half_admission(desk: Desk, key: str) -> None:
    """Nothing is taken for a booking that would get no place in the order, or no ring."""
    await desk.open_sale(floor=5)
    await desk.redis.set(getattr(keys, key)(desk.shard), "planted")
    before = await desk.snapshot()

    with pytest.raises(ResponseError):
        await desk.admit(desk.form(floor=2))

    assert await desk.snapshot() == before


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_full_memory_refuses_the_whole_booking(desk: Desk) -> None:
    """Redis refuses the first write, and with it the rest. What was admitted before can still be settled."""
    await desk.open_sale(floor=5)
    earlier = desk.form(floor=1)
    await desk.book(earlier)
    before = await desk.snapshot()
    await desk.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisError, match="maxmemory"):
            await desk.admit(desk.form(floor=2))
        assert await desk.snapshot() == before

        assert [id for id, _, _ in await desk.claim()] == [earlier.id]
        assert await desk.settle_confirmed(earlier) == ["C"]
    finally:
        await desk.redis.config_set("maxmemory", 0)
    assert await desk.counts("floor") == (4, 0, 1)


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_a_server_that_forgot_its_scripts_is_sent_the_text(desk: Desk) -> None:
    """A restart or a failover empties the script cache."""
    await desk.open_sale(floor=5)
    await desk.redis.script_flush()

    assert await desk.book(desk.form(floor=1)) == [b"created"]


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_one_seat_for_two_hundred_customers_at_once(desk: Desk) -> None:
    """Exactly one is let in, and tiers that were not short are not touched by the others."""
    await desk.open_sale(floor=500, balcony=1)

    results = await asyncio.gather(*(desk.book(desk.form(floor=2, balcony=1)) for _ in range(200)))

    assert sorted(desk.word(result[0]) for result in results) == [b"created"] + 199 * [b"sold_out"]
    assert await desk.counts("balcony") == (0, 1, 0)
    assert await desk.counts("floor") == (498, 2, 0)


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_one_key_sent_a_hundred_times_at_once_is_one_booking(desk: Desk) -> None:
    """One is created, the others are replays of it."""
    await desk.open_sale(floor=500)

    results = await asyncio.gather(*(desk.book(desk.form(key="k", floor=2)) for _ in range(100)))

    assert sorted(desk.word(result[0]) for result in results) == [b"created"] + 99 * [b"replayed"]
    assert len({result[0][1] for result in results if desk.word(result[0]) == b"replayed"}) == 1
    assert await desk.counts("floor") == (498, 2, 0)


def test_admissions_respect_full_memory_and_repairs_do_not() -> None:
    """Claim, settle and reconcile may run when memory is full: they make room. Admission may not."""
    flagged = {script.name for script in load_scripts() if script.text.startswith("#!lua flags=allow-oom")}

    assert {"claim", "settle"} <= flagged
    assert "admit" not in flagged


async def test_left_answers_a_question_and_takes_nothing(desk: Desk) -> None:
    """It goes through the checks in their order; only what concerns the customer and the price is left to the booking."""
    await desk.open_sale(floor=2, limit=1)

    assert await refused_without_a_trace(desk, desk.question(floor=2)) == [[b"left"]]
    assert await refused_without_a_trace(desk, desk.question(floor=3)) == [[b"sold_out", b"0", b"floor", b"2", b"0"]]
    assert await refused_without_a_trace(desk, desk.question(stalls=1)) == [[b"unknown_tier", b"stalls"]]


async def test_a_question_under_a_used_key_is_answered_by_its_booking(desk: Desk) -> None:
    """Whoever lost the answer asks again; that nothing is left does not matter."""
    await desk.open_sale(floor=1)
    form = desk.form(key="one", floor=1)
    await desk.book(form)
    record = await desk.redis.get(keys.booking(desk.shard, form.id))

    assert await refused_without_a_trace(desk, desk.question(key="one", floor=1)) == [
        [b"replayed", form.id.encode(), record]
    ]
    assert await refused_without_a_trace(desk, desk.question(key="one", customer="bob", floor=1)) == [
        [b"mismatch", form.id.encode()]
    ]


@pytest.mark.parametrize(
    "order", [("replay", "refused"), ("refused", "replay"), ("new", "refused"), ("refused", "new")]
)
async def test_what_is_left_is_told_whoever_comes_last(desk: Desk, order: tuple[str, str]) -> None:
    """A refusal in the same call takes nothing from those who are told; where all are refused nobody is."""
    await desk.open_sale(floor=5)
    await desk.book(desk.form(key="k", floor=1))
    forms = {
        "replay": desk.form(key="k", floor=1), "refused": desk.form(floor=9), "new": desk.form(key="n", floor=2),
    }  # fmt: skip
    reply = await desk.admit(*(forms[word] for word in order))
    assert reply.left == [[2 if "new" in order else 4]]
    assert (await desk.admit(desk.form(floor=9))).left == [[]]
