"""What becomes of each booking of a batch. Pure: no store, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.books.decisions import Case, Known, PaymentRow, Terms
from boxoffice.gateway.base import Authorized, Declined, Done, RequiresAction, Unchargeable, Unknown
from boxoffice.settlement.deciding import decide
from boxoffice.states import LETTERS, MISCONFIGURED
from boxoffice.stores.record import Attempt, Body, Charge, Line, Outcome, Payload, Record, pack_items
from tests.conftest import SHARD

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
    record = Record(ids.booking_id(SHARD, 1), "P", sequence, NOW - age_ms, deadline_ms, scope, scope, "f", "e", "0" * 16,
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
    one.known = Known(ids.booking_id(SHARD, 2), "confirmed", None, fingerprint=one.record.fingerprint)

    assert decide([one], {"floor": 9}, TERMS) == {}
    assert (one.status, one.failure, one.verdict, one.due, one.payment_status) == ("failed", "duplicate", "F", None, "")


def test_who_used_the_key_for_another_request_is_told_so() -> None:
    """It is no repeat of the first, so the first is no answer to it. It pays nothing either."""
    one = case(outcome=None, known=Known(ids.booking_id(SHARD, 2), "confirmed", None, fingerprint="another"))

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
    one.known = Known(ids.booking_id(SHARD, 2), "confirmed", None, fingerprint=one.record.fingerprint)

    decide([one], {"floor": 9}, TERMS)

    assert (one.failure, one.due, one.payment_status) == ("duplicate", None, "")


# ------------------------------------------------------------------ what is written of the payment


@pytest.mark.parametrize(
    ("answer", "payment", "booking"),
    [
        (OK, ("authorized", "ref", None, None, "capture"), ("confirmed", None, "C")),
        (Authorized("r", 199, "USD"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", "F")),
        (Authorized("r", 201, "USD"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", "F")),
        (Authorized("r", 200, "EUR"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", "F")),
        (Declined("lost_card", "r"), ("declined", "r", "lost_card", None, None), ("failed", "payment_declined", "F")),
        (Unchargeable("amount_too_small"), ("failed", None, "amount_too_small", None, None), ("failed", MISCONFIGURED, "F")),
        (RequiresAction("https://bank", "r"), ("requires_action", "r", None, "https://bank", None), ("pending", None, "R")),
        (Done("r"), ("voided", "r", None, None, None), ("failed", "payment_unavailable", "F")),
        (Done(""), ("voided", None, None, None, None), ("failed", "payment_unavailable", "F")),
        (Unknown("timeout"), ("unknown", None, None, None, None), ("pending", None, "R")),
    ],
)  # fmt: skip
def test_what_each_answer_means(answer: Any, payment: tuple[Any, ...], booking: tuple[Any, ...]) -> None:
    """In the payment's row, in the booking's, and in the record that tells its shop."""
    one = case(outcome=answer)
    decide([one], {"floor": 9}, TERMS)
    assert (one.payment_status, one.reference, one.payment_failure, one.next_action, one.due) == payment
    assert (one.status, one.failure, one.verdict) == booking
    status, reference, code, action, _ = payment
    assert one.payload.outcome == Outcome(status, "card", "4242", reference, code, action)
    assert one.payload.failure == booking[1]
    assert (one.payload.charge is None) == (booking[2] != "R"), "a card is kept as long as it may be asked again"


@pytest.mark.parametrize(
    ("answer", "payment", "failure"),
    [
        (Unknown("timeout"), ("unknown", "r0", "unavailable"), "payment_unavailable"),
        (Unknown("status 401", "invalid_api_key"), ("unknown", "r0", "invalid_api_key"), MISCONFIGURED),
        (RequiresAction("https://bank", "r"), ("requires_action", "r", "action_abandoned"), "payment_unavailable"),
    ],
)
@pytest.mark.parametrize("age_ms", [TERMS.deadline_ms - 1, TERMS.deadline_ms, TERMS.deadline_ms + 1])
def test_what_is_given_up_is_to_be_let_go_and_says_why(
    answer: Any, payment: tuple[Any, ...], failure: str, age_ms: int
) -> None:
    """From its deadline on, to the millisecond. Nobody is sent to a bank any more."""
    one = case(outcome=answer)
    one.known = Known(one.record.id, "pending", None, payment=PaymentRow("unknown", "r0", None, None, age_ms))
    decide([one], {"floor": 9}, TERMS)
    if age_ms < TERMS.deadline_ms:
        assert (one.status, one.due, one.reference) == ("pending", None, payment[1])
        return
    assert (one.status, one.failure, one.due, one.next_action) == ("failed", failure, "void", None)
    assert (one.payment_status, one.reference, one.payment_failure) == payment
    assert one.payload.outcome == Outcome(payment[0], "card", "4242", payment[1], payment[2])


@pytest.mark.parametrize(
    ("age_ms", "pause_ms"), [(0, 500), (999, 500), (1_002, 501), (20_000, 10_000), (60_000, 30_000), (500_000, 30_000)]
)
def test_what_nobody_knows_is_asked_for_ever_more_slowly(age_ms: int, pause_ms: int) -> None:
    """Half its age, at least half a second and at most thirty; a payment with a row by the row's age, one without by the
    booking's. A hold's first payment is as old as its row, however long ago it was set aside."""
    posted = case(outcome=Unknown("timeout"), age_ms=age_ms)
    known = case(outcome=Unknown("timeout"), age_ms=1)
    known.known = Known(known.record.id, "pending", None, payment=PaymentRow("unknown", None, None, None, age_ms))
    hold = case(outcome=Unknown("timeout"), age_ms=age_ms, deadline_ms=NOW + 1)
    decide([posted, known, hold], {"floor": 9}, TERMS)
    assert (posted.delay_ms, known.delay_ms, hold.delay_ms) == (pause_ms, pause_ms, 500)


@pytest.mark.parametrize("age_ms", [TERMS.deadline_ms - 1, TERMS.deadline_ms])
def test_a_posted_booking_has_its_own_age_as_long_as_no_row_tells_another(age_ms: int) -> None:
    one = case(outcome=Unknown("timeout"), age_ms=age_ms)
    decide([one], {"floor": 9}, TERMS)
    assert one.due == ("void" if age_ms >= TERMS.deadline_ms else None)


# ------------------------------------------------------------------ holds, cancelled and overdue


def hold(tries: str = "1", *, left_ms: int = 1, outcome: Any = OK, row: PaymentRow | None = None) -> Case:
    """A hold whose payment is under way, with so much time left, and an attempt behind it."""
    one = case(outcome=outcome, deadline_ms=NOW + left_ms)
    earlier = (Attempt("p1", "a1", Outcome("declined", "card", "0002")),)
    one.record = replace(one.record, tries=tries, payload=replace(one.record.payload, asked="a2", earlier=earlier))
    if row is not None:
        one.known = Known(one.record.id, "pending", None, payment=row)
    return one


@pytest.mark.parametrize("answer", [Declined("x", "r"), Done("r"), Unchargeable("x"), Authorized("r", 1, "USD")])
@pytest.mark.parametrize(("left_ms", "status"), [(1, "held"), (0, "expired"), (-1, "expired")])
def test_a_hold_whose_payment_brought_nothing(answer: Any, left_ms: int, status: str) -> None:
    """It is held as long as its time lasts, and its attempts and what they asked for are remembered."""
    one = hold(left_ms=left_ms, outcome=answer)
    decide([one], {"floor": 9}, TERMS)
    assert (one.status, one.verdict) == (status, LETTERS[status])
    assert (one.payload.asked, one.payload.earlier) == ("a2", one.record.payload.earlier)
    assert one.payload.key == one.record.payload.key
    assert one.payload.charge is None
    assert (one.failure is None) == (status == "held")


def test_an_undecided_hold_remembers_its_attempts() -> None:
    one = hold(outcome=Unknown("timeout"))
    decide([one], {"floor": 9}, TERMS)
    assert one.payload == replace(one.record.payload, outcome=Outcome("unknown", "card", "4242"))


@pytest.mark.parametrize("deadline", [False, True])
def test_a_payment_let_go_for_a_cancellation_ends_cancelled(deadline: bool) -> None:
    """Though the hold has time left. Money that came before it could be let go buys the tickets, and other failures are
    what they are."""
    one = hold("1x", left_ms=1 if deadline else -NOW, outcome=Done("r"))
    decide([one], {"floor": 9}, TERMS)
    assert (one.status, one.failure, one.verdict) == ("cancelled", "cancelled", "X")
    bought = hold("1x", left_ms=1 if deadline else -NOW)
    decide([bought], {"floor": 9}, TERMS)
    assert (bought.status, bought.due) == ("confirmed", "capture")


@pytest.mark.parametrize(
    ("tries", "left_ms", "age_ms", "overdue"),
    [
        ("1", 1, 0, False),
        ("1", 0, 0, True),
        ("1", -1, 0, True),
        ("1", 1, TERMS.deadline_ms - 1, False),
        ("1", 1, TERMS.deadline_ms, True),
        ("1x", 1, 0, True),
        ("1r", -1, TERMS.deadline_ms, False),
        ("1rx", 1, 0, True),
        ("1", -NOW, 0, False),
        ("1", -NOW, TERMS.deadline_ms, True),
        ("1", -1, None, False),
        ("1x", -1, None, True),
    ],
)
def test_what_is_overdue_is_let_go(tries: str, left_ms: int, age_ms: int | None, overdue: bool) -> None:
    """Cancelled, past its deadline, or asked for too long ago; but not what late money revived, nor what was never asked
    for."""
    row = PaymentRow("unknown", "r", None, None, age_ms) if age_ms is not None else None
    one = hold(tries, left_ms=left_ms, row=row)
    assert one.overdue(TERMS) == overdue
    waits = hold(tries, left_ms=left_ms, outcome=Unknown("timeout"), row=row)
    decide([waits], {"floor": 9}, TERMS)
    if row is not None and "r" not in tries:
        assert waits.due == ("void" if overdue else None)


@pytest.mark.parametrize(
    ("asked", "lapses", "outcome", "row", "never"),
    [
        (False, 0, None, None, True),
        (True, 0, None, None, False),
        (False, 1, None, None, False),
        (False, 0, Outcome("unknown"), None, False),
        (False, 0, None, PaymentRow("unknown", None, None, None, 1), False),
    ],
)
def test_who_may_have_been_asked(
    asked: bool, lapses: int, outcome: Outcome | None, row: PaymentRow | None, never: bool
) -> None:
    """Only of what surely nobody asked for, nothing is to be let go."""
    one = case()
    one.record = replace(one.record, payload=replace(one.record.payload, outcome=outcome))
    one.asked, one.lapses = asked, lapses
    one.known = Known(one.record.id, "pending", None, payment=row) if row else None
    assert one.never_asked == never
    kept = one.unfinished()
    if (asked or lapses) and not outcome:
        assert kept == replace(one.record.payload, outcome=Outcome("unknown", "card", "4242"))
    else:
        assert kept == Payload()


@pytest.mark.parametrize(
    ("status", "payment", "tries", "decided"),
    [
        ("pending", None, "1", False),
        ("pending", "unknown", "1", False),
        ("pending", "requires_action", "1", False),
        ("pending", "declined", "1", True),
        ("pending", "voided", "1", True),
        ("held", "declined", "1", True),
        ("held", "unknown", "1", False),
        ("confirmed", "captured", "1", True),
        ("failed", "unknown", "1", True),
        ("expired", "unknown", "1", True),
        ("expired", None, "1", True),
        ("expired", "unknown", "1r", False),
        ("expired", "requires_action", "1r", False),
        ("expired", "voided", "1r", True),
        ("cancelled", "unknown", "1r", True),
    ],
)
def test_what_postgresql_has_decided(status: str, payment: str | None, tries: str, decided: bool) -> None:
    """A booking that has ended, or a payment of one that has not; but late money opens an expired one again."""
    one = hold(tries)
    row = PaymentRow(payment, "r", None, None, 1) if payment else None
    one.known = Known(one.record.id, status, None, payment=row)
    assert one.decided == decided
    one.known = Known(ids.booking_id(SHARD, 2), status, None, payment=row)
    assert not one.decided, "another booking used its key first"


@pytest.mark.parametrize("was_sold", [False, True])
def test_what_was_sold_and_cancelled_comes_back_as_a_stock_move(was_sold: bool) -> None:
    """And not by the verdict too. What its payment's row tells is told again."""
    one = case(outcome=None)
    row = PaymentRow("captured", "r", "paid_too_late", None, 1)
    one.known = Known(one.record.id, "cancelled", "refunded", was_sold, payment=row)
    decide([one], {"floor": 9}, TERMS)
    assert (one.verdict, one.status, one.failure, one.due) == ("B" if was_sold else "X", "cancelled", "refunded", None)
    assert one.payload.outcome == Outcome("captured", "card", "4242", "r", "paid_too_late")


def test_deciding_again_leaves_nothing_of_the_round_before() -> None:
    """Whatever was written of another answer is forgotten: reference, codes, pause, what is due."""
    one = case(outcome=Authorized("r", 1, "USD"))
    decide([one], {"floor": 9}, TERMS)
    one.outcome = Unknown("timeout")
    decide([one], {"floor": 9}, TERMS)
    assert (one.payment_status, one.reference, one.payment_failure, one.due, one.failure) == (
        "unknown",
        None,
        None,
        None,
        None,
    )
    one.outcome = RequiresAction("https://bank", "r2")
    decide([one], {"floor": 9}, TERMS)
    one.outcome = None
    one.known = Known(ids.booking_id(SHARD, 2), "confirmed", None, fingerprint=one.record.fingerprint)
    decide([one], {"floor": 9}, TERMS)
    assert (one.payment_status, one.reference, one.next_action, one.delay_ms) == ("", None, None, 0)


@pytest.mark.parametrize(("row", "due"), [(None, None), (PaymentRow("unknown", "r", None, None, 1), "void")])
@pytest.mark.parametrize(
    ("left", "tries", "status"),
    [(2, "1", "confirmed"), (1, "1", "failed"), (2, "1x", "cancelled"), (3, "1", "confirmed")],
)
def test_what_costs_nothing_is_sold_as_long_as_there_are_tickets(
    row: PaymentRow | None, due: str | None, left: int, tries: str, status: str
) -> None:
    """No payment is waited for; one that an earlier version asked for is let go by its reference."""
    one = case(outcome=None)
    lines = (Line("floor", 2, 0),)
    one.record = replace(one.record, tries=tries, body=replace(one.record.body, amount_cents=0, lines=lines))
    one.known = Known(one.record.id, "pending", None, payment=row) if row else None
    assert decide([one], {"floor": left}, TERMS) == ({"floor": 2} if status == "confirmed" else {})
    assert (one.status, one.due, one.reference) == (status, due, "r" if row else None)


@pytest.mark.parametrize("after_ms", [-1, 0, 1])
@pytest.mark.parametrize("asked", [False, True], ids=["never written", "written"])
def test_an_unknown_payment_is_waited_for_to_the_millisecond(asked: bool, after_ms: int) -> None:
    """Ten minutes from the admission, or from the payment's row where there is one."""
    age_ms = TERMS.deadline_ms + after_ms
    one = case(outcome=Unknown("timeout"), age_ms=0 if asked else age_ms)
    if asked:
        one.known = Known(one.record.id, "pending", None, payment=PaymentRow("unknown", "r", None, None, age_ms))
    decide([one], {"floor": 9}, TERMS)
    assert (one.status, one.due) == (("pending", None) if after_ms < 0 else ("failed", "void"))


@pytest.mark.parametrize("after_ms", [-1, 0, 1])
def test_a_hold_whose_payment_is_undecided_is_let_go_at_its_deadline(after_ms: int) -> None:
    """Not before, and then at once: its row is written, so somebody may have been asked."""
    one = case(outcome=Unknown("timeout"), deadline_ms=NOW - after_ms)
    one.known = Known(one.record.id, "pending", None, payment=PaymentRow("unknown", "r", None, None, 5))
    assert one.overdue(TERMS) == (after_ms >= 0)
    decide([one], {"floor": 9}, TERMS)
    assert (one.status, one.due) == (("pending", None) if after_ms < 0 else ("expired", "void"))


@pytest.mark.parametrize(("left", "status"), [(1, "failed"), (2, "confirmed"), (3, "confirmed")])
def test_the_last_tickets_are_sold(left: int, status: str) -> None:
    one = case()
    decide([one], {"floor": left}, TERMS)
    assert one.status == status
