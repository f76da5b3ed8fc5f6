"""Each deed changes just these counters, by just so much: done to real stores, and every other counter stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from boxoffice.errors import BoxOfficeError, GateClosed
from boxoffice.gateway.base import Authorized
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.telemetry.series import REGISTRY
from tests.support.shop.office import Till, book, book_many
from tests.support.telling import Changes, change

Deed = Callable[[Till], Awaitable[object]]

CALL = {"admission_call_members": 1, "admission_call_members.sum": 1, "admission_call_seconds": 1}
"""One admission call with one member."""

ACCEPTED = {**CALL, "admission_seconds": 1, "admissions accepted": 1}
BATCH = {"settlement_batch_bookings": 1, "settlement_batch_bookings.sum": 1, "settlement_batch_seconds": 1}
ENDED = {**BATCH, "accept_to_commit_seconds": 1}


def asked(call: str, outcome: str, answers: int = 1, calls: int = 1) -> Changes:
    """The gateway was."""
    return {f"gateway_answers {call} {outcome}": answers, f"gateway_seconds {call}": calls}


def refused(outcome: str) -> Changes:
    return {**CALL, "admission_seconds": 1, f"admissions {outcome}": 1}


async def book_five_at_once(till: Till) -> None:
    await book_many(till.office, till.event, 5, GA=1)


async def ask_for_too_many(till: Till) -> None:
    """For whoever had none, in one call: four of six get two, and two are refused alike."""
    await book_many(till.office, till.event, 6, GA=2, VIP=1)


async def do(till: Till, *deeds: Awaitable[object]) -> None:
    for deed in deeds:
        try:
            await deed
        except BoxOfficeError:
            pass


async def nothing(till: Till) -> None:
    pass


async def booked(till: Till) -> None:
    await till.book(key="k", GA=1)


async def booked_all(till: Till) -> None:
    await till.book(VIP=4, key="all")


async def paused(till: Till) -> None:
    await till.office.control.pause(till.event.id)
    await till.office.catalogue.refresh()


def again(**how: object) -> Deed:
    """With the key that was used before."""

    async def deed(till: Till) -> None:
        await do(till, till.book(key="k", **how))

    return deed


def wanting(**how: object) -> Deed:
    async def deed(till: Till) -> None:
        await do(till, till.book(**how))

    return deed


@pytest.mark.parametrize(
    ("before", "deed", "expected"),
    [
        (nothing, wanting(GA=1), ACCEPTED),
        (nothing, wanting(GA=3, VIP=2), ACCEPTED),
        (nothing, wanting(token=None, GA=1), ACCEPTED),
        (
            nothing,
            book_five_at_once,
            {
                "admission_call_members": 1, "admission_call_members.sum": 5, "admission_call_seconds": 1,
                "admission_seconds": 5, "admissions accepted": 5,
            },
        ),
        (
            nothing,
            ask_for_too_many,
            {
                "admission_call_members": 1, "admission_call_members.sum": 6, "admission_call_seconds": 1,
                "admission_seconds": 6, "admissions accepted": 4, "admissions sold_out": 2,
            },
        ),
        (booked, again(GA=1), {**CALL, "admission_seconds": 1, "admissions replayed": 1}),
        (booked, again(GA=2), refused("key_reused")),
        (booked_all, wanting(VIP=1), refused("sold_out")),
        (paused, wanting(GA=1), refused("sale_paused")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
async def test_admission(till: Till, before: Deed, deed: Deed, expected: Changes) -> None:
    await before(till)
    with change() as changes:
        await deed(till)
    assert changes == expected


async def test_a_question_is_one_more_member_and_its_booking_one_answer(till: Till) -> None:
    """A tier was short; when there is some again, the question is answered by sending the booking."""
    await till.hold(VIP=4)
    (hold,) = [key.decode() for key in await till.office.redis.zrange(keys.deadlines(till.event.shard), 0, -1)]
    await do(till, till.book(VIP=1))
    await till.cancel(hold)
    with change() as changes:
        await till.book(VIP=1)
    assert changes == {
        "admission_call_members": 2, "admission_call_members.sum": 2, "admission_call_seconds": 2,
        "admission_seconds": 1, "admissions accepted": 1,
    }  # fmt: skip


CARDS: dict[str, Changes] = {
    "tok_ok": {
        **ENDED, "settlements confirmed ": 1, **asked("authorize", "authorized"), **asked("capture", "done"),
    },
    "tok_card_declined": {
        **ENDED, "settlements failed payment_declined": 1, **asked("authorize", "declined"),
    },
    "tok_3ds": {**BATCH, "settlements pending ": 1, **asked("authorize", "requires_action")},
    "tok_wrong_amount": {
        **ENDED, "settlements failed payment_amount_mismatch": 1, **asked("authorize", "authorized"),
    },
    "tok_capture_refused": {
        **ENDED, "settlements confirmed ": 1, **asked("authorize", "authorized"), **asked("capture", "refused"),
    },
}  # fmt: skip
"""What a drain, and the captures that it gives, change for one booking with this card."""


@pytest.mark.parametrize("token", CARDS)
async def test_settling_one_booking(till: Till, token: str) -> None:
    await till.book(token, GA=2)
    with change() as changes:
        await till.drain()
        await till.office.pump.work_given()
    assert changes == CARDS[token]


async def test_settling_some_together(till: Till) -> None:
    """One batch, one call of each kind; each booking under its own outcome."""
    for token in ("tok_ok", "tok_ok", "tok_lost_card", "tok_ok"):
        await till.book(token, GA=1)
    with change() as changes:
        await till.drain()
        await till.office.pump.work_given()
    assert changes == {
        "settlement_batch_bookings": 1, "settlement_batch_bookings.sum": 4, "settlement_batch_seconds": 1,
        "accept_to_commit_seconds": 4, "settlements confirmed ": 3, "settlements failed payment_declined": 1,
        "gateway_answers authorize authorized": 3, "gateway_answers authorize declined": 1, "gateway_seconds authorize": 1,
        **asked("capture", "done", answers=3),
    }  # fmt: skip


async def test_a_hold_tells_nothing_of_how_long_its_customer_took(till: Till) -> None:
    hold = await till.hold(GA=1)
    await till.pay(hold, "tok_lost_card")
    with change() as changes:
        await till.drain()
    assert changes == {**BATCH, "settlements held ": 1, **asked("authorize", "declined")}
    await till.pay(hold)
    with change() as changes:
        await till.drain()
    assert changes == {**BATCH, "settlements confirmed ": 1, **asked("authorize", "authorized")}


async def test_a_slow_answer_counts_when_it_comes(till: Till) -> None:
    """In the batch is the whole claim, once; its call and its answer are two times."""
    await till.book("tok_late", GA=1)
    await till.book(GA=1)
    with change() as changes:
        await till.drain()
    assert changes == {
        "settlement_batch_bookings": 1, "settlement_batch_bookings.sum": 2, "settlement_batch_seconds": 1,
        "accept_to_commit_seconds": 2, "settlements confirmed ": 2,
        "gateway_answers authorize authorized": 2, "gateway_seconds authorize": 2,
    }  # fmt: skip


async def test_what_was_decided_before_is_not_counted_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed, and Redis was not told: whoever claims it next tells, and decides nothing. Its lease had lapsed."""
    (settlement,) = [each for each in till.office.settlements if each.shard == till.event.shard]
    booking = await till.book(GA=1)

    async def lost(*_: object) -> None:
        raise GateClosed

    with change() as changes, monkeypatch.context() as patch:
        patch.setattr(settlement.mirror, "tell", lost)
        await till.drain()
    assert changes == {**ENDED, "settlements confirmed ": 1, **asked("authorize", "authorized")}
    settlement.claims.closed_until = 0
    with change() as changes:
        await till.look_again(booking)
    assert {name: value for name, value in changes.items() if "lapses" not in name} == BATCH
    assert (await till.left("GA"))[2] == 1


async def test_a_lapsed_lease_is_counted_once_a_claim(till: Till) -> None:
    first, _ = await till.book(GA=1), await till.book(GA=1)
    pending = keys.pending(till.event.shard)
    await till.office.redis.zadd(pending, {first: 1 + 2 / 16}, xx=True)
    with change() as changes:
        await till.drain()
    assert changes["lease_lapses"] == 1
    assert changes["settlement_batch_bookings.sum"] == 2


async def test_a_booking_that_cannot_be_read_is_parked(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.office.redis.set(keys.booking(till.event.shard, booking), b"nonsense", keepttl=True)
    with change() as changes:
        await till.drain()
    assert changes == {"parked": 1}


async def test_money_that_goes_back(till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    await till.refund(booking)
    with change() as changes:
        await till.pump_once()
    assert changes == asked("refund", "done")


async def test_money_that_is_let_go(till: Till) -> None:
    booking = await till.book("tok_wrong_amount", GA=1)
    await till.drain()
    with change() as changes:
        await till.pump_once()
    assert changes == asked("void", "done")
    assert await till.payments(booking) == ["voided/-"]


async def test_a_gateway_that_raises(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every payment that it was asked about counts, and nothing was timed."""

    async def broken(_requests: object) -> list[Authorized]:
        raise LookupError("broken")

    for _ in range(2):
        await till.book(GA=1)
    with change() as changes, monkeypatch.context() as patch:
        patch.setattr(till.office.gateway, "authorize_batch", broken)
        await till.drain()
    assert changes["gateway_answers authorize error"] >= 2
    assert "gateway_seconds authorize" not in changes


async def test_nothing_is_counted_when_it_is_switched_off(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what happens seldom."""
    monkeypatch.setattr(REGISTRY, "counts", False)
    with change() as changes:
        await book_five_at_once(till)
        await till.drain()
        await till.office.pump.work_given()
    assert changes == {}
    assert (await till.left("GA"))[2] == 5


async def test_how_long_a_booking_took_is_in_its_bucket(office: BoxOffice, till: Till) -> None:
    """From the admission, by Redis's clock, to the commit: the pause between them is in it."""
    spread = REGISTRY.metrics["boxoffice_accept_to_commit_seconds"].cell()  # type: ignore[attr-defined]
    waits = REGISTRY.metrics["boxoffice_admission_seconds"].cell()  # type: ignore[attr-defined]
    before, waited = spread.total, waits.total
    await book(office, till.event, GA=1)
    assert 0 < waits.total - waited < 5
    await asyncio.sleep(0)
    record = await till.office.redis.zrange(keys.pending(till.event.shard), 0, 0)
    found = await till.record(record[0].decode())
    assert found is not None
    found.admitted_ms -= 7_000
    await office.redis.set(keys.booking(till.event.shard, found.id), found.pack(), keepttl=True)
    await till.drain()
    assert 7 <= spread.total - before < 12
