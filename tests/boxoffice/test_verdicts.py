"""What becomes of each booking of a batch. Pure: no store, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.gateway.base import Authorized, Declined, RequiresAction, Unknown
from boxoffice.record import Body, Charge, Line, Payload, Record, pack_items
from boxoffice.states import LETTERS
from boxoffice.verdicts import Case, Known, PaymentRow, Terms, decide

NOW = 1_700_000_000_000
TERMS = Terms(NOW, 600_000)
OK = Authorized("ref", 200, "USD")


def case(sequence: int = 1, *, outcome: Any = OK, known: Known | None = None, deadline_ms: int = 0, age_ms: int = 0,
         **tickets: int) -> Case:  # fmt: skip
    """A claimed booking of two tickets at 100, unless other tickets are named."""
    lines = tuple(Line(tier, quantity, 100) for tier, quantity in sorted((tickets or {"floor": 2}).items()))
    amount = sum(line.quantity * line.unit_price_cents for line in lines)
    scope = ids.digest(str(sequence))
    body = Body("c", "u", amount, "USD", lines)
    charge = Charge("card", "tok_ok_4242", "Ann", "4242")
    record = Record(ids.booking_id(0, 1), "P", sequence, NOW - age_ms, deadline_ms, scope, scope, "f", "e", "0" * 16,
                    pack_items(lines), "1", body, Payload(charge, key="k"))  # fmt: skip
    return Case(record, b"", 0, known, outcome)


def test_an_authorised_booking_that_fits_is_confirmed_and_captured() -> None:
    one = case()

    assert decide([one], {"floor": 2}, TERMS) == {"floor": 2}
    assert (one.status, one.verdict, one.due, one.payment_status) == ("confirmed", "C", "capture", "authorized")
    assert one.payload.charge is None and one.payload.outcome is not None


def test_only_what_was_claimed_pending_is_told_by_its_record_alone() -> None:
    """A record that says sold already is unchanged too: confirmed by comparing, its stock would move again."""
    one = case()
    decide([one], {"floor": 2}, TERMS)
    assert one.just_sold

    for change in ({"state": "C"}, {"state": "H"}, {"tries": "1b"}):
        again = Case(replace(one.record, **change), b"", 0, verdict="C")
        assert not again.just_sold
    assert not Case(one.record, b"", 0, Known("another", "confirmed", None, False, "f"), verdict="C").just_sold
    assert not Case(one.record, b"", 0, verdict="F").just_sold


def test_whoever_was_admitted_first_is_served_first() -> None:
    """Whatever the order of the batch. A later, smaller booking may still fit."""
    late, early, small = case(3), case(1), case(4, outcome=Authorized("r", 100, "USD"), floor=1)

    assert decide([late, small, early], {"floor": 3}, TERMS) == {"floor": 3}
    assert (early.status, small.status) == ("confirmed", "confirmed")
    assert (late.status, late.failure, late.due, late.verdict) == ("failed", "sold_out_at_commit", "void", "F")


def test_a_booking_that_does_not_fit_in_one_tier_takes_nothing_of_the_others() -> None:
    one = case(outcome=Authorized("r", 300, "USD"), floor=2, box=1)
    two = case(2)

    assert decide([one, two], {"floor": 2, "box": 0}, TERMS) == {"floor": 2}
    assert (one.failure, two.status) == ("sold_out_at_commit", "confirmed")


@pytest.mark.parametrize(
    "answer", [Authorized("r", 201, "USD"), Authorized("r", 200, "EUR"), Authorized("r", 0, "USD")]
)
def test_another_amount_or_currency_is_let_go(answer: Authorized) -> None:
    one = case(outcome=answer)

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.failure, one.due) == ("failed", "payment_amount_mismatch", "void")


def test_a_currency_in_lower_case_is_the_same_currency() -> None:
    one = case(outcome=Authorized("r", 200, "usd"))
    decide([one], {"floor": 9}, TERMS)
    assert one.status == "confirmed"


def test_a_declined_card_fails_and_owes_nothing() -> None:
    one = case(outcome=Declined("lost_card", "r"))

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.failure, one.due, one.payment_failure) == ("failed", "payment_declined", None, "lost_card")


def test_a_declined_card_leaves_a_hold_with_time_left_held() -> None:
    one, late = case(outcome=Declined("x"), deadline_ms=NOW + 1), case(2, outcome=Declined("x"), deadline_ms=NOW)
    decide([one, late], {"floor": 9}, TERMS)

    assert (one.status, one.verdict, one.payment_status) == ("held", "H", "declined")
    assert (late.status, late.verdict) == ("expired", "E")


@pytest.mark.parametrize("answer", [Unknown("timeout"), RequiresAction("https://bank", "r")])
def test_an_undecided_payment_keeps_its_card_and_waits(answer: Any) -> None:
    """Unknown is a state, not a failure. PostgreSQL knows the booking as pending from now on."""
    one = case(outcome=answer)

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.verdict, one.due) == ("pending", "R", None)
    assert one.delay_ms > 0
    assert one.payload.charge == one.record.payload.charge


@pytest.mark.parametrize("answer", [Unknown("timeout"), RequiresAction("https://bank", "r")])
def test_a_payment_undecided_for_too_long_is_given_up_and_voided(answer: Any) -> None:
    row = PaymentRow("unknown", "r", None, None, TERMS.deadline_ms)
    one = case(outcome=answer)
    one.known = Known(one.record.id, "pending", None, payment=row)

    decide([one], {"floor": 9}, TERMS)

    assert (one.status, one.failure, one.due, one.verdict) == ("failed", "payment_unavailable", "void", "F")


def test_who_used_the_key_first_is_the_booking() -> None:
    """The other is a duplicate: it pays nothing, owes nothing, and sells nothing."""
    one = case(outcome=None)
    one.known = Known(ids.booking_id(0, 2), "confirmed", None, fingerprint=one.record.fingerprint)

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.failure, one.verdict, one.due, one.payment_status) == ("failed", "duplicate", "F", None, "")


def test_who_used_the_key_for_another_request_is_told_so() -> None:
    """It is no repeat of the first, so the first is no answer to it. It pays nothing either."""
    one = case(outcome=None, known=Known(ids.booking_id(0, 2), "confirmed", None, fingerprint="another"))

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.failure, one.verdict, one.due) == ("failed", "idempotency_key_reused", "F", None)
    assert one.payload.failure == "idempotency_key_reused"


@pytest.mark.parametrize("status", ["confirmed", "failed", "expired", "cancelled"])
def test_what_postgresql_decided_is_mirrored_and_not_sold_again(status: str) -> None:
    """The gateway is not asked, and nothing new is due."""
    one = case(outcome=None)
    why = "why" if status != "confirmed" else None
    one.known = Known(one.record.id, status, why, payment=PaymentRow("captured", "r", None, None, 1))

    assert one.decided
    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.verdict, one.due) == (status, LETTERS[status], None)


def test_deciding_again_forgets_what_was_decided_before() -> None:
    """A round whose transaction failed leaves nothing behind: above all no capture for a booking that failed since."""
    one = case()
    decide([one], {"floor": 9}, TERMS)
    assert one.due == "capture"
    one.known = Known(one.record.id, "failed", "sold_out_at_commit", payment=PaymentRow("voided", "r", None, None, 1))

    assert decide([one], {"floor": 9}, TERMS) == {}

    assert (one.status, one.due, one.verdict) == ("failed", None, "F")


def test_deciding_again_as_a_duplicate_owes_nothing() -> None:
    one = case()
    decide([one], {"floor": 9}, TERMS)
    one.known = Known(ids.booking_id(0, 2), "confirmed", None, fingerprint=one.record.fingerprint)

    decide([one], {"floor": 9}, TERMS)

    assert (one.failure, one.due, one.payment_status) == ("duplicate", None, "")
