"""An attempt to pay a hold is made once for its key, whatever was tried since, and whoever still remembers it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.bookings.hold_payments import HoldPayments
from boxoffice.bookings.holds import Paid
from boxoffice.bookings.reading import Found
from boxoffice.errors import HoldEnded, KeyReused, NotFound, PaymentInProgress, StoreAway, TooManyAttempts
from boxoffice.stores import keys
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record
from boxoffice.wire.render import BookingView, PaymentView
from tests.conftest import CLIENT, SHARD
from tests.support.shop.office import Till
from tests.support.shop.orders import card


async def ask(till: Till, booking: str, key: str, token: str = "tok_ok") -> tuple[BookingView, bool]:
    """The payment call as the API makes it."""
    return await till.office.hold_payments.pay(CLIENT, booking, card(token), ids.digest(key))


async def declined_twice(till: Till) -> str:
    """A hold with two attempts behind it: `first` had no money, `second` was declined."""
    booking = await till.hold(GA=1)
    for key, token in (("first", "tok_insufficient_funds"), ("second", "tok_card_declined")):
        await ask(till, booking, key, token)
        await till.rest()
    return booking


async def test_an_earlier_attempt_tells_how_it_went(till: Till) -> None:
    """It is called a replay, counts as no attempt, asks nobody, and leaves the booking as it is."""
    booking = await declined_twice(till)
    before = await till.office.redis.get(keys.booking(SHARD, booking))

    view, replayed = await ask(till, booking, "first", "tok_insufficient_funds")

    assert (view.status, replayed) == ("held", True)
    assert view.payment is not None
    assert (view.payment.status, view.payment.failure_code) == ("declined", "insufficient_funds")
    assert await till.office.redis.get(keys.booking(SHARD, booking)) == before
    assert len(await till.at_gateway(booking)) == 2
    with pytest.raises(KeyReused) as reused:
        await ask(till, booking, "first", "tok_ok")
    assert reused.value.details == {"booking_id": booking}
    await till.at_rest()


@pytest.mark.parametrize("end", ["under way", "confirmed", "cancelled", "expired", "forgotten", "rebuilt"])
async def test_it_is_remembered_whatever_became_of_the_booking(till: Till, end: str) -> None:
    """While another attempt is under way, once the booking has ended, and when Redis has lost it all."""
    booking = await declined_twice(till)
    status = {"under way": "pending", "cancelled": "cancelled", "expired": "expired", "rebuilt": "held"}.get(
        end, "confirmed"
    )
    match end:
        case "under way" | "confirmed" | "forgotten":
            await ask(till, booking, "third")
        case "cancelled":
            await till.cancel(booking)
        case "expired":
            await till.time_is_up(booking)
            await till.office.holds.expire(SHARD)
        case "rebuilt":
            await till.office.redis.flushall()
            await till.office.guards[SHARD].rebuilder.rebuild()
    if status == "confirmed":
        await till.rest()
    if end == "forgotten":
        await till.office.redis.delete(keys.booking(SHARD, booking))

    for key, token in (("first", "tok_insufficient_funds"), ("second", "tok_card_declined")):
        view, replayed = await ask(till, booking, key, token)
        assert (view.status, replayed, view.payment and view.payment.status) == (status, True, "declined")
        with pytest.raises(KeyReused) as reused:
            await ask(till, booking, key, "tok_ok" if key == "first" else "tok_lost_card")
        assert reused.value.details == {"booking_id": booking}
    if status == "confirmed":
        view, replayed = await ask(till, booking, "third")
        assert (view.status, replayed) == (status, True)
        assert view.payment and view.payment.status in ("authorized", "captured")
        with pytest.raises(KeyReused) as reused:
            await ask(till, booking, "third", "tok_card_declined")
        assert reused.value.details == {"booking_id": booking}
    if end in ("confirmed", "cancelled", "expired", "forgotten"):
        with pytest.raises(HoldEnded):
            await ask(till, booking, "fourth")
    await till.rest()
    assert len(await till.at_gateway(booking)) == (3 if status in ("confirmed", "pending") else 2)


async def test_repeats_use_up_no_attempts(till: Till) -> None:
    """Five attempts may be made, however often each is sent."""
    booking = await till.hold(GA=1)
    for attempt in range(5):
        for earlier in range(attempt + 1):
            await ask(till, booking, f"{earlier}", "tok_card_declined")
        await till.rest()
    with pytest.raises(TooManyAttempts):
        await ask(till, booking, "5", "tok_card_declined")
    for earlier in range(5):
        assert (await ask(till, booking, f"{earlier}", "tok_card_declined"))[1]
    assert len(await till.at_gateway(booking)) == 5


async def test_two_keys_at_once_in_any_order(till: Till) -> None:
    """A repeat of an attempt that ends while another begins is never taken for a new one: what was read is compared."""
    booking = await till.hold(GA=1)
    await ask(till, booking, "first", "tok_card_declined")
    await till.rest()
    holds = till.office.holds
    read = holds.read
    told = asyncio.Event()

    async def slow(*args: Any) -> Any:
        found = await read(*args)
        await told.wait()
        return found

    holds.read = slow  # type: ignore[method-assign]
    late = asyncio.create_task(ask(till, booking, "second", "tok_lost_card"))
    await asyncio.sleep(0)
    holds.read = read  # type: ignore[method-assign]
    for key in ("second", "third"):
        await ask(till, booking, key, "tok_lost_card")
        await till.rest()
    told.set()

    view, replayed = await late
    assert (view.status, replayed, view.payment and view.payment.failure_code) == ("held", True, "lost_card")
    record = await till.record(booking)
    assert record is not None
    assert record.attempts == 3


async def test_a_hold_that_redis_lacks_is_no_refusal(till: Till) -> None:
    """PostgreSQL has it as held, a worker will put it back: ask again."""
    booking = await declined_twice(till)
    await till.office.redis.delete(keys.booking(SHARD, booking))
    with pytest.raises(StoreAway):
        await ask(till, booking, "third")


async def test_a_token_without_digits_is_the_card(till: Till) -> None:
    """Some gateways tell no last four: then the token is what tells one card from another."""
    booking = await till.hold(GA=1)
    pay = till.office.hold_payments.pay
    one, other = (Charge("card", token, None, None) for token in ("tok_card_declined_0002", "tok_lost_card_0002"))
    await pay(CLIENT, booking, one, ids.digest("first"))
    with pytest.raises(PaymentInProgress):
        await pay(CLIENT, booking, other, ids.digest("second"))
    for _ in range(2):
        assert (await pay(CLIENT, booking, one, ids.digest("first")))[1]
        with pytest.raises(KeyReused) as reused:
            await pay(CLIENT, booking, other, ids.digest("first"))
        assert reused.value.details == {"booking_id": booking}
        await till.rest()
    assert await till.cancel(booking) == "cancelled"
    await till.office.redis.delete(keys.booking(SHARD, booking))
    assert (await pay(CLIENT, booking, one, ids.digest("first")))[1]
    with pytest.raises(KeyReused) as reused:
        await pay(CLIENT, booking, other, ids.digest("first"))
    assert reused.value.details == {"booking_id": booking}


@pytest.mark.parametrize("told", ["outcome", "charge"])
async def test_a_record_that_forgot_what_was_asked_tells_by_its_card(till: Till, told: str) -> None:
    """A repair may lack the fingerprint of the latest attempt: method and last four are as good."""
    booking = await till.hold(GA=1)
    await ask(till, booking, "first")
    if told == "outcome":
        await till.rest()
    record = await till.record(booking)
    assert record is not None
    assert (record.payload.charge is None) == (told == "outcome")
    record.payload = replace(record.payload, fingerprint="")
    await till.office.redis.set(keys.booking(ids.shard_of(booking), booking), record.pack(), keepttl=True)

    with pytest.raises(KeyReused):
        await till.pay(booking, "tok_card_declined", key="first")
    assert (await till.pay(booking, key="first"))[1]
    await till.rest()
    assert len(await till.at_gateway(booking)) == 1


# ------------------------------------------------------------------ who is asked what became of an attempt


class Stub:
    """Holds and bookings that say what a case wants."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.calls = answers, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def view(status: str) -> BookingView:
    return BookingView(
        "id",
        status,
        "event",
        "ada",
        None,
        {},
        None,
        [],
        1,
        "USD",
        0,
        None,
        "",
        None,
        None,
        PaymentView("captured", "card"),
        None,
    )


def record(state: str, attempts: int) -> Record:
    body = Body(CLIENT, "ada", 1_000, "USD", (Line("t", 1, 1_000),))
    return Record("id", state, 1, 1, 0, "", "scope", "print", "event", "owner", "t:1", str(attempts), body, Payload())


ENDED = HoldEnded("The booking is expired.", booking_status="expired")
WENT = PaymentView("declined", "card", "0002", "ref", "no_money")
ASKED = ids.payment_fingerprint("card", "4242")


@pytest.mark.parametrize(
    ("holds", "status", "attempt", "told"),
    [
        ({"pay": NotFound()}, "confirmed", (ASKED, WENT), WENT),
        ({"pay": NotFound()}, "confirmed", (None, WENT), WENT),
        ({"pay": NotFound()}, "confirmed", ("another", WENT), KeyReused),
        ({"pay": NotFound()}, "confirmed", None, HoldEnded),
        ({"pay": NotFound()}, "held", None, StoreAway),
        ({"pay": NotFound()}, "pending", None, StoreAway),
        ({"pay": NotFound()}, "pending", (ASKED, WENT), WENT),
        ({"pay": ENDED, "find": None}, "expired", (ASKED, WENT), WENT),
        ({"pay": ENDED, "find": record("E", 2)}, "expired", (ASKED, WENT), WENT),
        ({"pay": ENDED, "find": record("E", 2)}, "expired", None, HoldEnded),
        ({"pay": ENDED, "find": record("E", 1)}, "failed", (ASKED, WENT), ENDED),
        ({"pay": ENDED, "find": record("E", 0)}, "failed", (ASKED, WENT), ENDED),
    ],
)
async def test_postgresql_remembers_what_redis_may_have_forgotten(
    holds: dict[str, Any], status: str, attempt: Any, told: Any
) -> None:
    """Where Redis knows that its one attempt, if any, was another, nobody else is asked."""
    known = Stub(**holds)
    bookings = Stub(get=Found(view(status), True), attempt=attempt)
    pay = HoldPayments(known, bookings).pay(CLIENT, "id", card(), "key", 7)  # type: ignore[arg-type]
    if isinstance(told, PaymentView):
        shown, replayed = await pay
        assert (shown.status, shown.payment, replayed) == (status, told, True)
        assert bookings.calls == [("get", CLIENT, "id"), ("attempt", "id", ids.attempt_key(CLIENT, "id", "key"))]
    elif told is ENDED:
        with pytest.raises(HoldEnded) as refused:
            await pay
        assert refused.value is ENDED and bookings.calls == []
    else:
        with pytest.raises(told) as refused:
            await pay
        if told is HoldEnded:
            assert refused.value.details == {"booking_status": status} and status in refused.value.detail
    assert known.calls[0] == ("pay", CLIENT, "id", card(), "key", 7), "with what it is expected to cost"
    assert known.calls[1:] == ([("find", CLIENT, "id")] if "find" in holds else [])


@pytest.mark.parametrize(
    ("state", "replayed", "by"),
    [
        ("P", False, "show"),
        ("P", True, "show"),
        ("H", True, "show"),
        ("C", True, "get"),
        ("C", False, "show"),
        ("F", True, "get"),
    ],
)
@pytest.mark.parametrize("earlier", [None, Outcome("declined", "card", "0002", "ref", "no_money")])
async def test_an_attempt_is_shown_with_its_booking(
    state: str, replayed: bool, by: str, earlier: Outcome | None
) -> None:
    """What has ended is PostgreSQL's to tell; of an earlier attempt it is told how that went."""
    paid = Paid(record(state, 1), replayed, earlier)
    bookings = Stub(get=Found(view("confirmed"), True), show=view("confirmed"))
    shown, again = await HoldPayments(Stub(pay=paid), bookings).pay(CLIENT, "id", card(), "key")  # type: ignore[arg-type]
    assert (again, shown.payment) == (replayed, WENT if earlier else PaymentView("captured", "card"))
    assert bookings.calls == [("get", CLIENT, "id") if by == "get" else ("show", paid.record)]
