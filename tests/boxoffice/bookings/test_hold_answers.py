"""What a shop is told of each answer of the scripts about a hold, and what the scripts are told."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.bookings.holds import Holds, Paid, fingerprint_before, fingerprint_of, refusal_of
from boxoffice.errors import (
    AlreadyExtended,
    BoxOfficeError,
    Busy,
    DeclinedTooOften,
    HoldEnded,
    KeyReused,
    Malformed,
    NotFound,
    PaymentInProgress,
    PriceChanged,
    TooManyAttempts,
)
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.record import Attempt, Body, Charge, Line, Outcome, Payload, Record, unpack
from tests.conftest import SHARD

CARD = Charge("card", "tok_ok_4242", "Ada", "4242")
BOOKING = ids.booking_id(SHARD, 1_764_000_000_000)
KEY = "ab" * 16
PAYMENT = ids.attempt_key("shop", BOOKING, KEY)
ASKED = ids.payment_fingerprint("card", "4242")
RECORD = Record(
    BOOKING, "H", 1, 1, 1_764_000_600_000, "", "scope", "print", "event", "owner", "t:1", "0",
    Body("shop", "ada", 1_000, "USD", (Line("t", 1, 1_000),)), Payload(key="cd" * 16),
)  # fmt: skip


@pytest.fixture
def holds(office: BoxOffice) -> Holds:
    return office.holds


def stub(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, reads: list[Any], replies: list[tuple[str, bytes]]
) -> list[Any]:
    """Reads and replies of scripts, each in its turn, the last of them again and again. What the scripts were told."""
    told: list[Any] = []

    async def read(client: str, booking: str) -> tuple[Any, bytes]:
        assert (client, booking) == ("shop", BOOKING)
        found = reads.pop(0) if len(reads) > 1 else reads[0]
        return found, found.pack() if found else b""

    async def call(name: str, shard: int, **slots: Any) -> list[Any]:
        told.append((name, shard, slots))
        word, *more = replies.pop(0) if len(replies) > 1 else replies[0]
        return [word.encode(), *more]

    monkeypatch.setattr(holds, "read", read)
    monkeypatch.setattr(holds, "call", call)
    return told


FIVE = replace(RECORD, tries="5")


@pytest.mark.parametrize(
    ("outcome", "record", "error", "details"),
    [
        ("in_progress", RECORD, PaymentInProgress, {"retry_after_s": 2}),
        ("too_many", FIVE, TooManyAttempts, {"attempts": 5}),
        ("price_changed", RECORD, PriceChanged, {"amount_cents": RECORD.body.amount_cents, "currency": "USD"}),
        ("busy", RECORD, Busy, {"retry_after_s": 2}),
        ("missing", RECORD, NotFound, {}),
        ("ended", RECORD, HoldEnded, {"booking_status": "expired"}),
        ("ended", replace(RECORD, state="C"), HoldEnded, {"booking_status": "confirmed"}),
        ("ended", replace(RECORD, state="X"), HoldEnded, {"booking_status": "cancelled"}),
    ],
)
async def test_why_a_hold_is_not_paid(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, outcome: str, record: Record, error: type[BoxOfficeError],
    details: dict[str, Any],
) -> None:  # fmt: skip
    stub(holds, monkeypatch, [RECORD], [(outcome, record.pack())])
    with pytest.raises(error) as refused:
        await holds.pay("shop", BOOKING, CARD, KEY)
    assert {name: refused.value.details[name] for name in details} == details
    if error is HoldEnded:
        assert str(details["booking_status"]) in refused.value.detail


@pytest.mark.parametrize("charge", [CARD, None])
@pytest.mark.parametrize(("expected", "fine"), [(None, True), (0, True), (-1, False), (1, False)])
async def test_whether_it_costs_what_is_expected(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, charge: Charge | None, expected: int | None, fine: bool
) -> None:
    """By the record that the script compares with what it has. Whoever says no card for what costs something is told of the
    card only if it costs what is expected."""
    told = stub(holds, monkeypatch, [RECORD], [("paid", RECORD.pack())])
    costs = RECORD.body.amount_cents
    assert costs
    expected = None if expected is None else costs + expected
    if charge is None and fine:
        with pytest.raises(Malformed):
            await holds.pay("shop", BOOKING, charge, KEY, expected)
        assert not told
        return
    await holds.pay("shop", BOOKING, charge, KEY, expected)
    assert [slots["as_expected"] for _, _, slots in told] == [int(fine)]


@pytest.mark.parametrize("whose", ["customer", "client", "event"])
async def test_after_too_many_declined_payments_none_is_tried(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    reply: Any = ("declined_too_often", RECORD.pack(), whose.encode(), b"7001")
    told = stub(holds, monkeypatch, [RECORD], [reply])
    with pytest.raises(DeclinedTooOften) as refused:
        await holds.pay("shop", BOOKING, CARD, KEY)
    assert refused.value.details == {"whose": whose, "retry_after_s": 8}
    assert [(slots["declines"], slots["client"]) for _, _, slots in told] == [("10:500:50:600000", "shop")]


@pytest.mark.parametrize(
    ("codes", "latest", "spared"),
    [
        ([], None, 0), (["do_not_honor"], "do_not_honor", 0), ([], "too_many_declined", 1),
        (["too_many_declined", "do_not_honor", "too_many_declined"], "do_not_honor", 2), (["too_many_declined"] * 9, None, 5),
    ],
)  # fmt: skip
async def test_an_attempt_that_no_gateway_heard_of_is_none(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, codes: list[str], latest: str | None, spared: int
) -> None:
    """Of a customer with too many declined payments. It is spared for the hold, as often again as a hold may be tried."""
    earlier = tuple(Attempt(f"{n:x}", "", Outcome("declined", failure_code=code)) for n, code in enumerate(codes))
    outcome = Outcome("declined", failure_code=latest) if latest else None
    tried = replace(RECORD, tries="7", payload=replace(RECORD.payload, outcome=outcome, earlier=earlier))
    told = stub(holds, monkeypatch, [tried], [("too_many", tried.pack())])
    with pytest.raises(TooManyAttempts) as refused:
        await holds.pay("shop", BOOKING, CARD, KEY)
    most = holds.settings.holds.attempts_max
    assert [slots["attempts_max"] for _, _, slots in told] == [most + spared]
    assert most == 5 and refused.value.details == {"attempts": 7 - spared}


async def test_what_costs_nothing_is_declined_by_nobody(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    free = replace(RECORD, body=replace(RECORD.body, amount_cents=0))
    told = stub(holds, monkeypatch, [free], [("paid", free.pack())])
    await holds.pay("shop", BOOKING, None, KEY)
    assert [slots["declines"] for _, _, slots in told] == [""]


async def test_what_the_script_is_told_of_a_payment(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    """This key, this card, the attempts before; the record that was seen, and no other."""
    told = stub(holds, monkeypatch, [RECORD], [("paid", replace(RECORD, state="P").pack())])
    paid = await holds.pay("shop", BOOKING, CARD, KEY)
    assert (paid.record.state, paid.replayed, paid.earlier) == ("P", False, None)
    ((name, shard, slots),) = told
    assert (name, shard, slots["record"], slots["payment_key"], slots["seen"]) == (
        "pay", SHARD, keys.booking(SHARD, BOOKING), PAYMENT, RECORD.pack(),
    )  # fmt: skip
    assert (slots["attempts_max"], slots["pending_max"]) == (
        holds.settings.holds.attempts_max, holds.settings.limits.pending_max,
    )  # fmt: skip
    payload = unpack(BOOKING, RECORD.pack().rsplit(b"\n", 1)[0] + b"\n" + slots["payload"]).payload
    assert payload == Payload(CARD, key="cd" * 16, fingerprint=ASKED)


@pytest.mark.parametrize(
    ("said", "earlier"),
    [
        (Payload(fingerprint="a", outcome=Outcome("declined")), Attempt("old", "a", Outcome("declined"))),
        (Payload(fingerprint="a"), Attempt("old", "a", Outcome("failed"))),
        (Payload(outcome=Outcome("declined", last4="4242")), Attempt("old", ASKED, Outcome("declined", last4="4242"))),
        (Payload(CARD), Attempt("old", ASKED, Outcome("failed"))),
        (Payload(), Attempt("old", "", Outcome("failed"))),
    ],
)
async def test_the_attempt_before_is_remembered(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, said: Payload, earlier: Attempt
) -> None:
    """Behind those before it, with what was asked and how it went, as far as the record tells."""
    first = Attempt("first", "x", Outcome("declined"))
    held = replace(RECORD, payment_key="old", tries="2", payload=replace(said, earlier=(first,)))
    told = stub(holds, monkeypatch, [held], [("paid", held.pack())])
    await holds.pay("shop", BOOKING, CARD, KEY)
    payload = unpack(BOOKING, held.pack().rsplit(b"\n", 1)[0] + b"\n" + told[0][2]["payload"]).payload
    assert payload.earlier == (first, earlier)


async def test_what_costs_nothing_keeps_no_card(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it need one; what costs something does."""
    free = replace(RECORD, body=Body("shop", "ada", 0, "USD", (Line("t", 1, 0),)))
    told = stub(holds, monkeypatch, [free], [("paid", free.pack())])
    for charge in (CARD, None):
        await holds.pay("shop", BOOKING, charge, KEY)
    assert all(b'"p"' not in slots["payload"] for _, _, slots in told)
    stub(holds, monkeypatch, [RECORD], [("paid", RECORD.pack())])
    with pytest.raises(Malformed) as refused:
        await holds.pay("shop", BOOKING, None, KEY)
    assert (refused.value.pointer, refused.value.code) == ("/method", "missing")
    stub(holds, monkeypatch, [None], [("paid", b"")])
    with pytest.raises(NotFound):
        await holds.pay("shop", BOOKING, CARD, KEY)


@pytest.mark.parametrize(("fingerprint", "fine"), [(ASKED, True), ("", True), ("other", False)])
@pytest.mark.parametrize("when", ["earlier", "latest"])
async def test_the_same_key_is_the_same_attempt(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, fingerprint: str, fine: bool, when: str
) -> None:
    """With the same card, as far as anybody remembers it; how an earlier one went is told."""
    went = Outcome("declined", failure_code="x")
    if when == "earlier":
        others = Attempt("other", "z", Outcome("unknown"))
        held = replace(RECORD, payload=Payload(earlier=(others, Attempt(PAYMENT, fingerprint, went))))
        told = stub(holds, monkeypatch, [held], [("paid", b"")])
    else:
        held = replace(RECORD, payload=Payload(fingerprint=fingerprint))
        told = stub(holds, monkeypatch, [RECORD], [("replayed", held.pack())])
    if not fine:
        with pytest.raises(KeyReused) as refused:
            await holds.pay("shop", BOOKING, CARD, KEY)
        assert refused.value.details == {"booking_id": BOOKING}
    else:
        paid = await holds.pay("shop", BOOKING, CARD, KEY)
        assert paid == Paid(unpack(BOOKING, held.pack()), True, went if when == "earlier" else None)
    assert len(told) == (0 if when == "earlier" else 1)


async def test_a_record_that_changed_is_read_again(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of times; then somebody else's payment is in progress."""
    newer = replace(RECORD, tries="1")
    told = stub(holds, monkeypatch, [RECORD, newer], [("changed", b""), ("paid", newer.pack())])
    assert not (await holds.pay("shop", BOOKING, CARD, KEY)).replayed
    assert [slots["seen"] for _, _, slots in told] == [RECORD.pack(), newer.pack()]
    told = stub(holds, monkeypatch, [RECORD], [("changed", b"")])
    with pytest.raises(PaymentInProgress) as refused:
        await holds.pay("shop", BOOKING, CARD, KEY)
    assert (len(told), refused.value.details) == (20, {"retry_after_s": 2})


@pytest.mark.parametrize(
    ("outcome", "record", "error", "details"),
    [
        ("extended_before", RECORD, AlreadyExtended, {"expires_at": "2025-11-24T16:10:00.000Z"}),
        ("in_progress", RECORD, PaymentInProgress, {"retry_after_s": 2}),
        ("missing", RECORD, NotFound, {}),
        ("ended", replace(RECORD, state="C"), HoldEnded, {"booking_status": "confirmed"}),
    ],
)
async def test_why_a_hold_is_not_extended(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, outcome: str, record: Record, error: type[BoxOfficeError],
    details: dict[str, Any],
) -> None:  # fmt: skip
    stub(holds, monkeypatch, [RECORD], [(outcome, record.pack())])
    with pytest.raises(error) as refused:
        await holds.extend("shop", BOOKING, 5)
    assert {name: refused.value.details[name] for name in details} == details


@pytest.mark.parametrize(("tries", "tells"), [("0e", []), ("1e", [(BOOKING, 1_764_000_600_000)])])
@pytest.mark.parametrize(("extra_s", "extra_ms"), [(5, 5_000), (None, 0)])
async def test_postgresql_is_told_how_long_a_hold_lasts_that_it_knows(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, tries: str, tells: list[Any], extra_s: int | None, extra_ms: int
) -> None:
    """It has a row of those that a payment was tried for."""
    deadlines: list[Any] = []

    async def tell(*args: Any) -> None:
        deadlines.append(args)

    monkeypatch.setattr(holds, "write_deadline", tell)
    longer = replace(RECORD, tries=tries)
    told = stub(holds, monkeypatch, [RECORD], [("extended", longer.pack())])
    assert await holds.extend("shop", BOOKING, extra_s) == unpack(BOOKING, longer.pack())
    assert told == [("extend", SHARD, {"record": keys.booking(SHARD, BOOKING), "extra_ms": extra_ms})]
    assert deadlines == tells
    stub(holds, monkeypatch, [None], [("extended", b"")])
    with pytest.raises(NotFound):
        await holds.extend("shop", BOOKING, extra_s)


@pytest.mark.parametrize(
    ("outcome", "tries", "tells"),
    [("cancelled", "0", []), ("cancelled", "1", [([BOOKING], "X")]), ("requested", "1x", []), ("ended", "1", [])],
)
async def test_postgresql_is_told_of_a_cancelled_hold_that_it_knows(
    holds: Holds, monkeypatch: pytest.MonkeyPatch, outcome: str, tries: str, tells: list[Any]
) -> None:
    ended: list[Any] = []

    async def tell(*args: Any) -> None:
        ended.append(args)

    monkeypatch.setattr(holds, "write_state", tell)
    now = replace(RECORD, state="X", tries=tries)
    told = stub(holds, monkeypatch, [RECORD], [(outcome, now.pack())])
    assert await holds.cancel(RECORD) == (outcome, unpack(BOOKING, now.pack()))
    ((name, shard, slots),) = told
    assert (name, shard) == ("cancel", SHARD)
    assert {slot: slots[slot] for slot in ("record", "idempotency", "sale", "owners", "ttl_s")} == {
        "record": keys.booking(SHARD, BOOKING), "idempotency": keys.idempotency(SHARD, "scope"),
        "sale": keys.event(SHARD, "event"), "owners": keys.owners(SHARD, "event"),
        "ttl_s": holds.settings.worker.settled_ttl_s,
    }  # fmt: skip
    assert ended == tells
    stub(holds, monkeypatch, [RECORD], [("missing", b"")])
    with pytest.raises(NotFound):
        await holds.cancel(RECORD)


@pytest.mark.parametrize(
    ("charge", "fingerprint"),
    [
        (CARD, ids.payment_fingerprint("card", "4242")),
        (Charge("card", "tok", None, None), ids.payment_fingerprint("card", "tok")),
        (None, ids.payment_fingerprint("", "")),
    ],
)
def test_the_fingerprint_of_a_payment(charge: Charge | None, fingerprint: str) -> None:
    assert fingerprint_of(charge) == fingerprint


@pytest.mark.parametrize(
    ("payload", "fingerprint"),
    [
        (Payload(CARD, Outcome(last4="1111")), ASKED),
        (Payload(None, Outcome("declined", last4="4242")), ASKED),
        (Payload(Charge("card", "tok")), ""),
        (Payload(), ""),
    ],
)
def test_what_a_record_tells_of_what_was_asked(payload: Payload, fingerprint: str) -> None:
    assert fingerprint_before(replace(RECORD, payload=payload)) == fingerprint


def test_a_hold_whose_time_is_up_has_expired() -> None:
    for letter, status in (("H", "expired"), ("P", "pending"), ("C", "confirmed"), ("F", "failed"), ("X", "cancelled")):
        refused = refusal_of("ended", replace(RECORD, state=letter))
        assert isinstance(refused, HoldEnded) and refused.details == {"booking_status": status}
    assert isinstance(refusal_of("missing", RECORD), NotFound)


@pytest.mark.parametrize(("ended_s", "brief_s"), [(10, 10), (30, 30), (600, 30)])
def test_how_long_an_ended_hold_is_remembered(office: BoxOffice, ended_s: int, brief_s: int) -> None:
    """Never longer for who has ended very many."""
    own = office.settings.holds.model_copy(update={"ended_ttl_s": ended_s, "ended_max": 7})
    holds = Holds(office.shards, office.database, office.settings.model_copy(update={"holds": own}))
    assert list(holds.unpaid_lives.values()) == [ended_s, 7, brief_s]
