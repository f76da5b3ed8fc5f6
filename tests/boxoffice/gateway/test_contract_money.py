"""How much, of which payment and under which key: what every gateway promises, asked of each, with two payments there."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorized,
    CaptureRequest,
    DisputeSeen,
    Done,
    Found,
    NotFound,
    RefundSeen,
    Refused,
    Reversals,
    Unknown,
)
from boxoffice.gateway.factory import open_simulator
from boxoffice.gateway.simulator import simulator
from boxoffice.settings import Settings
from tests.support.gateways import World, simulated_token

Payment = tuple[str, str]


async def held(world: World, amount: int = 5_000, currency: str = "USD", behaviour: str = "ok") -> Payment:
    """Payment key and reference of so much that is set aside."""
    request = replace(world.request(behaviour, amount), currency=currency)
    outcome = await world.gateway.authorize(request)
    assert outcome == Authorized(outcome.reference, amount, currency)  # type: ignore[union-attr]
    assert isinstance(outcome, Authorized)
    return request.payment_key, outcome.reference


async def taken(world: World, amount: int = 5_000, currency: str = "USD") -> Payment:
    """The same of so much that was taken."""
    key, reference = await held(world, amount, currency)
    assert await world.gateway.capture(key, reference, amount, currency) == Done(reference)
    return key, reference


async def standing(world: World, payment: Payment) -> tuple[Any, ...]:
    """Status, set aside, currency, taken, given back: found by its reference as by its key."""
    by_key = await world.gateway.lookup(payment[0], None)
    found = await world.gateway.lookup(*payment)
    assert isinstance(found, Found)
    assert found == by_key
    assert found.reference == payment[1]
    return found.status, found.amount_cents, found.currency, found.captured_cents, found.refunded_cents


async def test_what_is_done_to_one_payment_is_not_done_to_another(world: World) -> None:
    """Three alike: one is captured, one let go, one stays. Each is found under its own key."""
    one, two, three = [await held(world) for _ in range(3)]
    assert len({one, two, three}) == 3
    assert await world.gateway.capture(*one, 5_000) == Done(one[1])
    assert await world.gateway.void(*two) == Done(two[1])
    assert [(await standing(world, payment))[0] for payment in (one, two, three)] == [
        "captured",
        "voided",
        "authorized",
    ]
    assert await world.gateway.void(three[0], None) == Done(three[1])
    assert (await standing(world, one))[3] == 5_000


async def test_a_refund_is_of_its_own_payment(world: World) -> None:
    """Two payments, three refunds; each payment tells its own, and so do the books."""
    one, two = await taken(world), await taken(world, 3_000)
    first = await world.gateway.refund("a", *one, 1_200)
    second = await world.gateway.refund("b", *two, 3_000)
    third = await world.gateway.refund("c", *one, 700)
    assert all(isinstance(each, Done) for each in (first, second, third))

    assert (await standing(world, one))[3:] == (5_000, 1_900)
    assert (await standing(world, two))[3:] == (3_000, 3_000)
    seen = {payment: await world.gateway.reversals(*payment) for payment in (one, two)}
    assert seen[one] == Reversals(
        (RefundSeen("a", first.reference, 1_200, "succeeded"), RefundSeen("c", third.reference, 700, "succeeded"))  # type: ignore[union-attr]
    )
    assert seen[two] == Reversals((RefundSeen("b", second.reference, 3_000, "succeeded"),))  # type: ignore[union-attr]
    records = {record.payment_key: record async for record in world.gateway.records()}
    assert {key: record.reversals for key, record in records.items()} == {one[0]: seen[one], two[0]: seen[two]}
    assert [records[payment[0]].payment for payment in (one, two)] == [
        await world.gateway.lookup(*payment) for payment in (one, two)
    ]


async def test_the_same_refund_key_gives_back_once_whatever_amount_it_comes_with(world: World) -> None:
    """Asked for another amount it is refused, and nothing more goes back."""
    payment = await taken(world)
    first = await world.gateway.refund("r1", *payment, 2_000)
    for amount in (1_999, 2_001, 5_000):
        assert isinstance(await world.gateway.refund("r1", *payment, amount), Refused)
    assert await world.gateway.refund("r1", *payment, 2_000) == first
    assert (await standing(world, payment))[4] == 2_000


async def test_what_was_taken_in_part_is_given_back_in_part(world: World) -> None:
    """No more comes back than was taken, though more had been set aside."""
    payment = await held(world)
    assert await world.gateway.capture(*payment, 4_000) == Done(payment[1])
    assert await world.gateway.void(*payment) == AlreadyCaptured(4_000)
    assert isinstance(await world.gateway.refund("r1", *payment, 4_001), Refused)
    assert isinstance(await world.gateway.refund("r2", *payment, 3_999), Done)
    assert isinstance(await world.gateway.refund("r3", *payment, 2), Refused)
    assert isinstance(await world.gateway.refund("r4", *payment, 1), Done)
    assert await standing(world, payment) == ("captured", 5_000, "USD", 4_000, 4_000)


@pytest.mark.parametrize("amount", [0, -1])
async def test_nothing_is_no_refund(world: World, amount: int) -> None:
    payment = await taken(world)
    assert not isinstance(await world.gateway.refund("r1", *payment, amount), Done)
    assert (await standing(world, payment))[4] == 0


@pytest.mark.parametrize(
    ("currency", "amount", "part"), [("USD", 12_345, 2_301), ("JPY", 1_501, 700), ("KWD", 5_120, 1_010), ("ISK", 55, 7)]
)
@pytest.mark.parametrize("told", [True, False])
async def test_amounts_are_in_the_minor_unit_of_their_currency(
    world: World, currency: str, amount: int, part: int, told: bool
) -> None:
    """Set aside, taken, given back, found, listed: always our numbers, however the gateway counts, and whether or not it
    is told the currency when it captures."""
    payment = await held(world, amount, currency)
    assert await standing(world, payment) == ("authorized", amount, currency, 0, 0)
    assert await world.gateway.capture(*payment, amount, currency if told else "") == Done(payment[1])
    assert await world.gateway.capture(*payment, amount, currency if told else "") == Done(payment[1])
    assert await world.gateway.void(*payment) == AlreadyCaptured(amount)
    refund = await world.gateway.refund("r1", *payment, part)
    assert isinstance(refund, Done)
    await world.refund_there(payment[0], _theirs(world, amount - part - 1 if currency != "KWD" else 10, currency))
    back = part + (amount - part - 1 if currency != "KWD" else 10)

    assert await standing(world, payment) == ("captured", amount, currency, amount, back)
    seen = await world.gateway.reversals(*payment)
    assert isinstance(seen, Reversals)
    assert [each.amount_cents for each in seen.refunds] == [part, back - part]
    (record,) = [record async for record in world.gateway.records()]
    assert (record.payment.refunded_cents, record.reversals) == (back, seen)


def _theirs(world: World, amount: int, currency: str) -> int:
    """The amount as this world's dashboard counts."""
    return amount * 100 if world.gateway.name == "stripe" and currency == "ISK" else amount


async def test_a_batch_takes_of_each_payment_its_own_amount(world: World) -> None:
    """In three currencies, some in part, one twice."""
    wanted = [(4_000, "USD"), (1_501, "JPY"), (55, "ISK"), (2_999, "USD")]
    payments = [await held(world, amount, currency) for amount, currency in wanted]
    requests = [CaptureRequest(*payment, *want) for payment, want in zip(payments, wanted, strict=True)]
    for _ in range(2):
        outcomes = await world.gateway.capture_batch([*requests, requests[0]])
        assert outcomes == [Done(reference) for _, reference in [*payments, payments[0]]]
    assert [(await standing(world, payment))[1:4] for payment in payments] == [
        (amount, currency, amount) for amount, currency in wanted
    ]


async def test_another_currency_is_told_as_it_is(world: World) -> None:
    """The same payment key with another request: the answer is the first one's, which the caller compares."""
    request = world.request("ok", 5_000)
    first = await world.gateway.authorize(request)
    assert await world.gateway.authorize(replace(request, currency="EUR")) == first
    assert isinstance(first, Authorized)
    assert (first.amount_cents, first.currency) == (5_000, "USD")


async def test_a_void_names_its_payment_by_its_key(world: World) -> None:
    """Without a reference, among others that are alike, and never one of another key."""
    payments = [await held(world) for _ in range(3)]
    assert await world.gateway.void(world.request("ok").payment_key, None) == NotFound()
    assert await world.gateway.void(payments[1][0], None) == Done(payments[1][1])
    assert [(await standing(world, payment))[0] for payment in payments] == ["authorized", "voided", "authorized"]


def test_what_failed_did_not_go_back() -> None:
    """Pending counts: it is on its way."""
    kinds = (("succeeded", 100), ("pending", 20), ("failed", 3))
    refunds = tuple(RefundSeen(None, f"re_{kind}", cents, kind) for kind, cents in kinds)  # type: ignore[arg-type]
    assert Reversals(refunds, (DisputeSeen("dp", 1_000, "lost", "fraudulent", True),)).given_back_cents == 120


async def test_a_batch_of_several_turns_answers_everyone_in_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn at the ledger decides a few."""
    monkeypatch.setattr(simulator, "TURN_MAX", 2)
    gateway = open_simulator(settings)
    world = World(gateway, simulated_token, gateway.complete_action)
    requests = [world.request("ok", 100 + n) for n in range(5)]
    amounts = [outcome.amount_cents for outcome in await gateway.authorize_batch(requests)]  # type: ignore[union-attr]
    assert amounts == [100, 101, 102, 103, 104]
    captures = [CaptureRequest(request.payment_key, "", request.amount_cents) for request in requests]
    captures[3] = CaptureRequest(requests[3].payment_key, "", 1_000)
    assert [type(outcome).__name__ for outcome in await gateway.capture_batch(captures)] == [
        "Done", "Done", "Done", "Refused", "Done",
    ]  # fmt: skip

    async def busy(_patience_s: float) -> None:
        raise TimeoutError

    monkeypatch.setattr(gateway.ledger, "begin", busy)
    assert await gateway.authorize_batch(requests) == [Unknown("ledger_busy")] * 5
    assert await gateway.capture_batch(captures) == [Unknown("ledger_busy")] * 5
    await gateway.close()
