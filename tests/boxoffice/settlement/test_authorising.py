"""What settlement asks the gateway for a payment, how it reads what it finds there, and who is halved and let go."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError

from boxoffice.books import rows
from boxoffice.books.decisions import Claimed, Known, PaymentRow
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorized,
    AuthorizeRequest,
    Declined,
    Done,
    Found,
    NotFound,
    RequiresAction,
    Unknown,
)
from boxoffice.settlement.authorising import authorization, request_of
from boxoffice.settlement.batch import Batch, Ready
from boxoffice.settlement.outage import StoreRefuses
from boxoffice.stores.record import Charge, Payload
from tests.support.settling import (
    Room,
    batch_of,
    claimed,
    released,
)
from tests.support.shop.office import Till


@pytest.mark.parametrize(
    ("status", "means"),
    [
        ("authorized", Authorized("r", 500, "EUR")),
        ("captured", Authorized("r", 500, "EUR")),
        ("declined", Declined("lost_card", "r")),
        ("requires_action", RequiresAction("https://bank", "r")),
        ("voided", Declined("lost_card", "r")),
        ("processing", Unknown("processing")),
    ],
)
def test_what_is_found_in_the_words_of_an_authorisation(status: Any, means: Any) -> None:
    """The amount is what was set aside, taken or not."""
    found = Found(status, "r", 500, "EUR", 400, 300, "lost_card", "https://bank")
    assert authorization(found) == means


@pytest.mark.parametrize(("status", "code"), [("declined", "declined"), ("voided", "voided")])
def test_a_reason_that_nobody_told(status: Any, code: str) -> None:
    assert authorization(Found(status, "r", 500, "EUR")) == Declined(code, "r")


class Calls:
    """Which payments are asked for and looked up from now on."""

    def __init__(self, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
        self.authorized: list[AuthorizeRequest] = []
        self.looked_up: list[tuple[str, str | None]] = []
        authorize, lookup = till.gateway.authorize_batch, till.gateway.lookup

        async def authorize_batch(requests: list[AuthorizeRequest]) -> Any:
            self.authorized += requests
            return await authorize(requests)

        async def lookup_(payment_key: str, reference: str | None = None, since_ms: int | None = None) -> Any:
            self.looked_up.append((payment_key, reference))
            return await lookup(payment_key, reference, since_ms)

        monkeypatch.setattr(till.gateway, "authorize_batch", authorize_batch)
        monkeypatch.setattr(till.gateway, "lookup", lookup_)


async def test_an_unknown_payment_is_asked_for_again_and_one_at_the_bank_is_looked_up(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request with the same key is the best look-up there is; what waits for its customer is only read."""
    waits = await till.book("tok_3ds", GA=1)
    unknown = await till.book("tok_error", GA=1)
    await till.drain()
    assert await till.payments(waits) + await till.payments(unknown) == ["requires_action/-", "unknown/-"]
    keys = {booking: (await till.record(booking)).payment_key for booking in (waits, unknown)}  # type: ignore[union-attr]
    calls = Calls(till, monkeypatch)
    for booking in (waits, unknown):
        await till.claimable(booking)
    await till.drain()

    assert [(each.payment_key, each.booking_id) for each in calls.authorized] == [(keys[unknown], unknown)]
    assert calls.looked_up == [(keys[waits], f"sim_{keys[waits][:20]}")]
    await till.customer_acts(waits)
    await till.look_again(waits)
    await till.at_rest(waits, unknown)


async def test_what_is_asked_for_is_what_was_booked(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(till, monkeypatch)
    booking = await till.book("tok_card_declined", GA=2, VIP=1)
    record = await till.record(booking)
    assert record is not None
    await till.drain()
    assert calls.authorized == [
        AuthorizeRequest(record.payment_key, booking, 4_000, "USD", "card", "tok_card_declined_0002")
    ]


@pytest.mark.parametrize("answer", [Unknown("timeout"), NotFound()])
async def test_a_payment_at_the_bank_that_cannot_be_read_waits_on(
    till: Till, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """Its customer is still sent where it was sent, and it is found under the same reference."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    before = [tuple(row) for row in await till.fetch("SELECT status, reference, next_action, due FROM payments")]

    async def silent(*_: object) -> Any:
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "lookup", silent)
        await till.look_again(booking)
    assert [
        tuple(row) for row in await till.fetch("SELECT status, reference, next_action, due FROM payments")
    ] == before
    record = await till.record(booking)
    assert record is not None and record.payload.outcome is not None
    assert (record.payload.outcome.reference, record.payload.outcome.next_action) == before[0][1:3]
    await till.customer_acts(booking)
    await till.look_again(booking)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_a_batch_is_halved_down_to_those_that_fail(room: Room) -> None:
    """The others are ready, in their order."""
    claims = [claimed(n) for n in range(5)]
    bad = {claims[1].record.id, claims[4].record.id}
    batch = batch_of(*claims)

    async def authorise(of: Batch, some: list[Claimed]) -> Ready:
        assert of is batch
        room.calls.append(("asked", len(some)))
        if any(each.record.id in bad for each in some):
            raise ValueError(len(some))
        facts = {each.record.id: each.record.sequence for each in some}
        return Ready(some, facts, facts)  # type: ignore[arg-type]

    room.settlement.authorising.authorise = authorise  # type: ignore[method-assign]
    failed: list[tuple[Claimed, Exception]] = []
    ready = await room.settlement.authorising.apart(batch, claims, failed, 1.0)
    assert [each.record.sequence for each in ready.claims] == [0, 2, 3]
    assert list(ready.known.values()) == list(ready.outcomes.values()) == [0, 2, 3]
    assert [(each.record.sequence, str(error)) for each, error in failed] == [(1, "1"), (4, "1")]
    assert [size for _, size in room.calls] == [5, 2, 1, 1, 3, 1, 2, 1, 1]


@pytest.mark.parametrize(("answered", "count"), [(False, 3), (True, 5)])
async def test_three_that_fail_alike_are_the_gateways_fault_unless_it_has_answered(
    room: Room, answered: bool, count: int
) -> None:
    """Somebody, since."""
    asked: list[float] = []

    def answered_after(since: float) -> bool:
        asked.append(since)
        return answered

    room.outage.answered_after = answered_after
    room.settlement.authorising.authorise = room.noting("asked", error=ValueError("planted"))  # type: ignore[method-assign]
    failed: list[tuple[Claimed, Exception]] = []
    claims = [claimed(n) for n in range(5)]
    if answered:
        assert (await room.settlement.authorising.apart(batch_of(), claims, failed, 1.5)).claims == []
    else:
        with pytest.raises(StoreRefuses) as caught:
            await room.settlement.authorising.apart(batch_of(), claims, failed, 1.5)
        assert str(caught.value.__cause__) == "planted"
    assert (len(failed), set(asked)) == (count, {1.5})


@pytest.mark.parametrize("error", [ConnectionError(), GateClosed(), StoreRefuses(), OSError()])
async def test_what_hits_everybody_halves_nothing(room: Room, error: Exception) -> None:
    room.settlement.authorising.authorise = room.noting("asked", error=error)  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        await room.settlement.authorising.apart(batch_of(), [claimed(1), claimed(2)], [], 1.0)
    assert len(room.calls) == 1


def found(status: Any) -> Found:
    return Found(status, "r", 200, "USD")


AT_BANK = PaymentRow("requires_action", "r", None, "https://bank", 0)


TRIED = PaymentRow("unknown", None, None, None, 0)


@pytest.mark.parametrize(
    ("row", "tries", "found_", "voided", "means", "asked"),
    [
        (None, "1", None, None, Done(""), []),
        (TRIED, "1", None, Done("r"), Done("r"), ["void None"]),
        (TRIED, "1", None, Unknown("timeout"), Unknown("timeout"), ["void None"]),
        (TRIED, "1", None, NotFound(), Unknown("void without an answer"), ["void None"]),
        (
            TRIED,
            "1",
            found("captured"),
            AlreadyCaptured(200),
            Authorized("r", 200, "USD"),
            ["void None", "lookup None"],
        ),
        (TRIED, "1", Unknown("x"), AlreadyCaptured(200), Unknown("captured"), ["void None", "lookup None"]),
        (AT_BANK, "1", found("authorized"), None, Authorized("r", 200, "USD"), ["lookup r"]),
        (AT_BANK, "1", found("captured"), None, Authorized("r", 200, "USD"), ["lookup r"]),
        (AT_BANK, "1", found("requires_action"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1", found("declined"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1", Unknown("x"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1x", found("authorized"), Done("r"), Done("r"), ["void r"]),
    ],
)
async def test_nobody_waits_for_this_payment_any_more(
    room: Room, row: PaymentRow | None, tries: str, found_: Any, voided: Any, means: Any, asked: list[str]
) -> None:
    """What a customer finished at the last moment counts, unless it was cancelled; what was captured always counts."""
    one = claimed(1, tries=tries)
    known = Known(one.record.id, "pending", None, payment=row) if row else None

    async def lookup(key: str, reference: str | None) -> Any:
        assert key == one.record.payment_key
        room.calls.append((f"lookup {reference}",))
        return found_

    async def void(key: str, reference: str | None) -> Any:
        assert key == one.record.payment_key
        room.calls.append((f"void {reference}",))
        return voided

    room.gateway.lookup, room.gateway.void = lookup, void
    assert await room.settlement.authorising.let_go(batch_of(one), known, one) == means
    assert room.names() == asked


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        (found("authorized"), Authorized("r", 200, "USD")), (Unknown("x"), RequiresAction("https://bank", "r")),
        (NotFound(), RequiresAction("https://bank", "r")),
    ],
)  # fmt: skip
async def test_a_payment_at_the_bank_is_looked_at(room: Room, answer: Any, means: Any) -> None:
    one = claimed(1)
    room.gateway.lookup = room.noting("lookup", answer)
    assert await room.settlement.authorising.look_closer(AT_BANK, one) == means
    assert room.calls == [("lookup", one.record.payment_key, "r")]


async def test_of_two_under_one_key_the_later_waits(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless PostgreSQL knows whose it is already."""
    later, first, known_one = claimed(2, scope="s"), claimed(1, scope="s"), claimed(3, scope="s")
    batch = batch_of(later, first, known_one)
    known = {known_one.record.id: Known(known_one.record.id, "pending", None, payment=TRIED)}

    async def known_by_key(_connection: Any, _records: Any) -> Any:
        return known

    monkeypatch.setattr(rows, "known_by_key", known_by_key)
    assert await room.settlement.authorising.look_up(batch, batch.claims) == ([first, known_one], known)
    assert room.calls == [("tell", [released(later, 150)], batch.done)]
    room.calls.clear()
    assert await room.settlement.authorising.look_up(batch, [later]) == ([], known), "nor when the batch is halved"


@pytest.mark.parametrize(
    ("charge", "method", "token"), [(Charge("wallet", "tok", "Ann", "4242"), "wallet", "tok"), (None, "card", "")]
)
def test_what_is_asked_of_a_gateway(charge: Charge | None, method: str, token: str) -> None:
    """Of a payment whose card nobody remembers, the same key: it is a look-up."""
    record = claimed(1, key="pay").record
    record.payload = Payload(charge)
    asked = AuthorizeRequest("pay", record.id, 200, "USD", method, token)
    assert request_of(record) == asked
