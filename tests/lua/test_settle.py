"""settle.lua, one test for each line of its Returns. Stock moves once, however often it is told."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from boxoffice.stores import keys
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form, Verdict


async def claimed(desk: Desk, **tiers: int) -> Form:
    """A pending booking that a worker has."""
    form = desk.form(**tiers)  # type: ignore[arg-type]
    assert await desk.book(form) == [b"created"]
    await desk.claim()
    return form


async def test_confirmed_tickets_are_sold(desk: Desk) -> None:
    """The record and its key live on for a while; the booking waits for nobody any more."""
    await desk.open_sale(floor=5, balcony=5)
    form = await claimed(desk, floor=2, balcony=1)

    assert await desk.settle(Verdict(form, "C", payload=b'{"o":{"s":"authorized","m":"card"}}'), ttl_s=60) == ["C"]

    assert await desk.counts("floor") == (3, 0, 2)
    assert await desk.counts("balcony") == (4, 0, 1)
    record = await desk.record(form)
    assert record is not None and record.payload.outcome is not None
    assert (record.state, record.payload.charge, record.payload.outcome.status) == ("C", None, "authorized")
    assert (record.payment_key, record.items) == (form.payment_key, form.items)
    assert record.owner == "", "whoever gives tickets back later brings it"
    assert await desk.pending() == []
    assert await desk.owned(form) == 3, "bought tickets count in the customer's limit"
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 50 < await desk.redis.ttl(key) <= 60


@pytest.mark.parametrize("letter", ["F", "E", "X"])
async def test_tickets_of_a_booking_that_ended_without_a_sale_go_back(desk: Desk, letter: str) -> None:
    """Failed, expired or cancelled: all its tickets are on sale again, and off the customer's count."""
    await desk.open_sale(floor=5, balcony=5)
    form = await claimed(desk, floor=2, balcony=1)

    assert await desk.settle(Verdict(form, letter)) == [letter]

    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.counts("balcony") == (5, 0, 0)
    assert await desk.has(form, letter)
    assert await desk.pending() == []
    assert not await desk.redis.hexists(keys.owners(desk.shard, EVENT), form.owner)  # type: ignore[misc]
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) > 0


@pytest.mark.parametrize("first", ["C", "F", "E", "X"])
@pytest.mark.parametrize("second", ["C", "F", "H", "R", "D"])
async def test_stale_when_somebody_settled_it_before(desk: Desk, first: str, second: str) -> None:
    """Told twice, or told otherwise by a worker that woke up late: the first word stands."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.settle(Verdict(form, first))
    before = await desk.snapshot()

    assert await desk.settle(Verdict(form, second, payload=b"{}")) == ["stale"]

    assert await desk.snapshot() == before


async def test_stale_when_the_hold_is_paid_anew(desk: Desk) -> None:
    """A verdict about an earlier payment says nothing about this one, and the booking stays with its worker."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    before = await desk.snapshot()

    for letter in "CFEXHRD":
        assert await desk.settle(Verdict(form, letter, payment_key="0" * 32)) == ["stale"]

    assert await desk.snapshot() == before


async def test_gone_when_there_is_no_record(desk: Desk) -> None:
    """Nothing is known of its tickets, so none are moved, and its id stays where it is."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.redis.delete(keys.booking(desk.shard, form.id))
    before = await desk.snapshot()

    for letter in "CFEXHR":
        assert await desk.settle(Verdict(form, letter)) == ["gone"]

    assert await desk.snapshot() == before


@pytest.mark.parametrize("planted", [b"", b"garbage", b"P|1|2", b"P|x|2|0||aa|bb|e|cc|floor:1|1\n{}\n{}"])
async def test_gone_when_the_record_is_unreadable(desk: Desk, planted: bytes) -> None:
    """As if it were not there."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.redis.set(keys.booking(desk.shard, form.id), planted)
    before = await desk.snapshot()

    assert await desk.settle(Verdict(form, "C")) == ["gone"]

    assert await desk.snapshot() == before


async def test_a_declined_hold_with_time_left_is_held_again(desk: Desk) -> None:
    """It keeps its tickets and may be paid with another card."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    deadline = await desk.now_ms() + 60_000
    await set_deadline(desk, form, deadline)

    assert await desk.settle(Verdict(form, "H", payload=b'{"o":{"s":"declined","m":"card"}}')) == ["H"]

    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.deadline_ms, record.payment_key, record.scope) == (
        "H", deadline, form.payment_key, form.scope,
    )  # fmt: skip
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == deadline
    assert await desk.pending() == []
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1


async def test_a_declined_hold_without_time_left_expires(desk: Desk) -> None:
    """On Redis's clock, whatever its worker thought."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await set_deadline(desk, form, await desk.now_ms() - 1)

    assert await desk.settle(Verdict(form, "H")) == ["E"]

    assert await desk.has(form, "E")
    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.members(keys.deadlines(desk.shard)) == []


async def test_a_declined_hold_that_was_cancelled_meanwhile_is_cancelled(desk: Desk) -> None:
    """The shop cancelled while the payment was under way: with the payment gone, its tickets go back."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await set_deadline(desk, form, await desk.now_ms() + 60_000)
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))
    head, _, rest = raw.partition(b"\n")
    await desk.redis.set(keys.booking(desk.shard, form.id), head + b"x\n" + rest)

    assert await desk.settle(Verdict(form, "H")) == ["X"]

    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.members(keys.deadlines(desk.shard)) == []


async def set_deadline(desk: Desk, form: Form, deadline_ms: int) -> None:
    """Make a pending booking one that was a hold."""
    record = await desk.record(form)
    assert record is not None
    record.deadline_ms = deadline_ms
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())


async def test_released_bookings_are_claimed_again_after_the_delay(desk: Desk) -> None:
    """A lease given back on purpose is no lapse."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))

    assert await desk.settle(Verdict(form, "R", delay_ms=30, payload=b"")) == ["R"]

    assert await desk.claim() == []
    await desk.wait_ms(32)
    assert await desk.claim() == [(form.id, 0, raw)]
    assert await desk.counts("floor") == (3, 2, 0)


async def test_released_bookings_may_learn_how_their_payment_goes(desk: Desk) -> None:
    """Only the last line of the record changes."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))
    payload = b'{"p":{"m":"card","t":"tok_3ds"},"o":{"s":"requires_action","m":"card"}}'

    assert await desk.settle(Verdict(form, "R", payload=payload)) == ["R"]

    head, body, _ = raw.split(b"\n")
    assert await desk.redis.get(keys.booking(desk.shard, form.id)) == b"\n".join((head, body, payload))
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1


async def test_a_booking_nobody_claims_any_more_is_not_released_into_the_pending_set(desk: Desk) -> None:
    """Releasing never adds an id that was taken out."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.redis.zrem(keys.pending(desk.shard), form.id)

    assert await desk.settle(Verdict(form, "R", payload=b"")) == ["R"]

    assert await desk.pending() == []


async def test_parked_bookings_keep_their_tickets_and_their_record(desk: Desk) -> None:
    """Nobody claims them; an operator decides."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))

    assert await desk.settle(Verdict(form, "D", payload=b"")) == ["D"]

    assert await desk.pending() == []
    assert await desk.members(keys.dead(desk.shard)) == [form.id]
    assert await desk.redis.get(keys.booking(desk.shard, form.id)) == raw
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.settle(Verdict(form, "D", payload=b"")) == ["D"], "parking twice is parking"


async def test_a_parked_booking_can_still_be_settled_once(desk: Desk) -> None:
    """Failing it gives its tickets back, the second time nothing."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.settle(Verdict(form, "D", payload=b""))

    assert await desk.settle_failed(form) == ["F"]
    assert await desk.settle_failed(form) == ["stale"]

    assert await desk.members(keys.dead(desk.shard)) == []
    assert await desk.counts("floor") == (5, 0, 0)


async def test_an_unreadable_booking_can_be_parked(desk: Desk) -> None:
    """It would be claimed for ever otherwise. What is left of its record is kept."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.redis.set(keys.booking(desk.shard, form.id), b"garbage")

    assert await desk.settle(Verdict(form, "D", payload=b"")) == ["D"]

    assert await desk.members(keys.dead(desk.shard)) == [form.id]
    assert await desk.redis.get(keys.booking(desk.shard, form.id)) == b"garbage"
    assert await desk.pending() == []


async def test_one_call_settles_bookings_of_many_events_each_in_its_own_way(desk: Desk) -> None:
    """One word for each, in their order."""
    await desk.open_sale(floor=9)
    await desk.open_sale(OTHER_EVENT, stalls=9)
    forms = [desk.form(floor=1) for _ in range(4)] + [desk.form(OTHER_EVENT, stalls=3)]
    await desk.book(*forms)
    await desk.claim()
    await desk.settle_failed(forms[1])

    words = await desk.settle(
        Verdict(forms[0], "C"), Verdict(forms[1], "C"), Verdict(forms[2], "F"), Verdict(forms[3], "R", payload=b""),
        Verdict(forms[4], "C"),
    )  # fmt: skip

    assert words == ["C", "stale", "F", "R", "C"]
    assert await desk.counts("floor") == (7, 1, 1)
    assert await desk.counts("stalls", OTHER_EVENT) == (6, 0, 3)
    assert await desk.pending() == [forms[3].id]


async def test_a_replay_after_settling_tells_how_it_ended(desk: Desk) -> None:
    """Within the life of the record, the same key is answered with the final state."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await desk.settle_confirmed(form)

    again = desk.form(floor=2)
    again.scope, again.packed = form.scope, form.packed
    (result,) = await desk.book(again)

    assert result[:2] == [b"replayed", form.id.encode()]
    assert result[2].startswith(b"C|")


@pytest.mark.parametrize("key", ["event", "owners", "deadlines", "dead", "pending"])
@pytest.mark.parametrize("letter", ["F", "H", "D"])
async def test_a_key_of_a_wrong_type_moves_no_stock_by_halves(desk: Desk, key: str, letter: str) -> None:
    """A verdict that could not be carried out whole is told again later, and must not move tickets twice."""
    await desk.open_sale(floor=5)
    form = await claimed(desk, floor=2)
    await set_deadline(desk, form, await desk.now_ms() + 60_000)
    name = getattr(keys, key)(desk.shard, EVENT) if key in ("event", "owners") else getattr(keys, key)(desk.shard)
    await desk.redis.delete(name)
    await desk.redis.lpush(name, "planted")  # type: ignore[misc]
    before = await desk.snapshot()

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await desk.settle(Verdict(form, letter))

    assert await desk.snapshot() == before


# ------------------------------------------------------------------ what is told, and of whom


@pytest.mark.parametrize(("letter", "told"), [("C", True), ("F", True), ("H", True), ("R", False), ("D", False)])
async def test_a_commit_is_told_with_whatever_it_decided(desk: Desk, letter: str, told: bool) -> None:
    """Also of a hold that it gave back; not of what it left undecided."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=1)
    await desk.book(form)
    record = await desk.record(form)
    assert record is not None
    record.deadline_ms = await desk.now_ms() + 60_000
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    await desk.redis.delete(keys.told(desk.shard))
    assert await desk.settle(Verdict(form, letter), pair="8:9") == [letter]
    assert await desk.redis.smembers(keys.told(desk.shard)) == ({b"8:9"} if told else set())  # type: ignore[misc]


async def test_bookings_of_one_tier_and_of_one_customer_are_summed(desk: Desk) -> None:
    """Sold and given back in one call; several tiers, two events. What was posted with its payment is not unpaid."""
    await desk.open_sale(floor=20, balcony=20)
    await desk.open_sale("theatre00000", floor=20)
    sold = [desk.form(floor=2, balcony=1), desk.form(floor=3)]
    back = [desk.form(floor=1, balcony=2), desk.form(floor=4)]
    elsewhere = [desk.form("theatre00000", floor=5), desk.form("theatre00000", floor=1)]
    hold = desk.form(floor=2, hold_ms=60_000)
    await desk.book(*sold, *back, *elsewhere, hold)
    unpaid = await desk.unpaid()

    await desk.settle(
        *(Verdict(form, "C") for form in (sold[0], elsewhere[0], sold[1])),
        *(Verdict(form, "F") for form in (back[0], elsewhere[1], back[1])),
    )

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((13, 2, 5), (19, 0, 1))
    assert await desk.counts("floor", "theatre00000") == (15, 0, 5)
    assert (await desk.owned(hold), await desk.owned(elsewhere[0])) == (2 + 1 + 3 + 2, 5)
    assert await desk.unpaid() == unpaid


async def test_what_somebody_settled_leaves_the_sets_it_still_stood_in(desk: Desk) -> None:
    """A worker died between two writes of ours, or a set came back: nobody claims it for ever."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=1)
    await desk.book(form)
    await desk.settle(Verdict(form, "C"))
    await desk.redis.zadd(keys.pending(desk.shard), {form.id: 1})
    await desk.redis.zadd(keys.dead(desk.shard), {form.id: 1})
    assert await desk.settle(Verdict(form, "C")) == ["stale"]
    assert (await desk.pending(), await desk.members(keys.dead(desk.shard))) == ([], [])
