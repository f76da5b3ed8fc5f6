"""What becomes of each booking of a batch. Pure: no store, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.books.decisions import Claimed, Decision, Known, PaymentChange, PaymentRow, Standing, Terms, Verdict
from boxoffice.gateway.base import Authorized, Declined, Done, RequiresAction, Unchargeable, Unknown
from boxoffice.settlement.deciding import decide, is_overdue, never_tried, sold_by, standing_of, unfinished
from boxoffice.states import MISCONFIGURED, TOO_MANY_DECLINED
from boxoffice.stores.record import Attempt, Body, Charge, Line, Outcome, Payload, Record, pack_items
from tests.conftest import SHARD

NOW = 1_700_000_000_000
TERMS = Terms(NOW, 600_000)
OK = Authorized("ref", 200, "USD")
VERDICTS = {
    "confirmed": Verdict.CONFIRM, "failed": Verdict.FAIL, "expired": Verdict.EXPIRE, "cancelled": Verdict.CANCEL,
    "held": Verdict.HOLD,
}  # fmt: skip


@dataclass
class Case:
    """What is known of one booking when it is decided."""

    record: Record
    known: Known | None = None
    outcome: Any = None


def decided(*cases: Case, **left: int) -> list[Decision]:
    """What is decided of each; nine tickets are left on the floor unless it says otherwise."""
    facts = [Claimed(one.record, b"", 0) for one in cases]
    known = {one.record.id: one.known for one in cases if one.known is not None}
    outcomes = {one.record.id: one.outcome for one in cases if one.outcome is not None}
    before = dict(left or {"floor": 9})
    decisions = decide(facts, known, outcomes, left or {"floor": 9}, TERMS)
    assert (left or {"floor": 9}) == before, "facts are left as they are"
    assert [each.claim.record.sequence for each in decisions] == sorted(one.record.sequence for one in cases)
    by_booking = {each.claim.record.id: each for each in decisions}
    return [by_booking[one.record.id] for one in cases]


def case(sequence: int = 1, *, outcome: Any = OK, known: Known | None = None, deadline_ms: int = 0, age_ms: int = 0,
         **tickets: int) -> Case:  # fmt: skip
    """A claimed booking of two tickets at 100, unless other tickets are named."""
    lines = tuple(Line(tier, quantity, 100) for tier, quantity in sorted((tickets or {"floor": 2}).items()))
    amount = sum(line.quantity * line.unit_price_cents for line in lines)
    scope = ids.digest(str(sequence))
    body = Body("c", "u", amount, "USD", lines)
    charge = Charge("card", "tok_ok_4242", "Ann", "4242")
    record = Record(ids.booking_id(SHARD, sequence), "P", sequence, NOW - age_ms, deadline_ms, scope, scope, "f", "e", "0" * 16,
                    pack_items(lines), "1", body, Payload(charge, key="k"))  # fmt: skip
    return Case(record, known, outcome)


def test_an_authorised_booking_that_fits_is_confirmed_and_captured() -> None:
    (one,) = decided(case(), floor=2)

    assert (one.status, one.verdict, one.standing) == ("confirmed", Verdict.CONFIRM, Standing.NEW)
    assert one.payment == PaymentChange("authorized", "ref", due="capture")
    assert one.payload.charge is None and one.payload.outcome is not None
    assert sold_by([one]) == {"floor": 2}


def test_whoever_was_admitted_first_is_served_first() -> None:
    """Whatever the order of the batch. A later, smaller booking may still fit."""
    small = case(4, outcome=Authorized("r", 100, "USD"), floor=1)
    late, small_one, early = decided(case(3), small, case(1), floor=3)

    assert sold_by([late, small_one, early]) == {"floor": 3}
    assert (early.status, small_one.status) == ("confirmed", "confirmed")
    assert (late.status, late.failure, late.verdict) == ("failed", "sold_out_at_commit", Verdict.FAIL)
    assert late.payment == PaymentChange("authorized", "ref", due="void")


def test_a_booking_that_does_not_fit_in_one_tier_takes_nothing_of_the_others() -> None:
    one, two = decided(case(outcome=Authorized("r", 300, "USD"), floor=2, box=1), case(2), floor=2, box=0)

    assert sold_by([one, two]) == {"floor": 2}
    assert (one.failure, two.status) == ("sold_out_at_commit", "confirmed")


@pytest.mark.parametrize("free", [False, True])
def test_nothing_is_sold_of_an_event_that_is_called_off(free: bool) -> None:
    """Of which less than nothing is left; what was authorised is let go."""
    facts = case(outcome=None if free else OK)
    if free:
        body = replace(facts.record.body, amount_cents=0, lines=(Line("floor", 2, 0),))
        facts.record = replace(facts.record, body=body)
    (one,) = decided(facts, floor=-1)
    assert (one.status, one.failure, one.verdict) == ("failed", "event_called_off", Verdict.FAIL)
    assert (one.payment and one.payment.due) == (None if free else "void")
    assert sold_by([one]) == {}


def test_what_is_sold_is_summed_over_bookings_and_lines() -> None:
    """Of what these decisions confirm, and of nothing that was decided before."""
    both = case(2, outcome=Authorized("r", 500, "USD"), floor=2, box=3)
    before = case(3, known=Known(ids.booking_id(SHARD, 3), "confirmed", None))
    lost = case(4, outcome=Declined("x"))
    again = case(5, known=Known(ids.booking_id(SHARD, 5), "pending", None))
    before.known = Known(before.record.id, "confirmed", None, payment=PaymentRow("captured", "r", None, None, 1))
    again.known = Known(again.record.id, "pending", None, payment=PaymentRow("unknown", "r", None, None, 1))

    assert sold_by(decided(case(), both, before, lost, again, floor=9, box=9)) == {"floor": 6, "box": 3}


@pytest.mark.parametrize(
    "answer", [Authorized("r", 201, "USD"), Authorized("r", 200, "EUR"), Authorized("r", 0, "USD")]
)
def test_another_amount_or_currency_is_let_go(answer: Authorized) -> None:
    (one,) = decided(case(outcome=answer))

    assert sold_by([one]) == {}
    assert (one.status, one.failure) == ("failed", "payment_amount_mismatch")
    assert one.payment is not None and one.payment.due == "void"


def test_a_currency_in_lower_case_is_the_same_currency() -> None:
    (one,) = decided(case(outcome=Authorized("r", 200, "usd")))
    assert one.status == "confirmed"


def test_a_declined_card_fails_and_owes_nothing() -> None:
    (one,) = decided(case(outcome=Declined("lost_card", "r")))

    assert sold_by([one]) == {}
    assert (one.status, one.failure) == ("failed", "payment_declined")
    assert one.payment == PaymentChange("declined", "r", "lost_card")


@pytest.mark.parametrize(
    ("code", "shared", "due"),
    [(TOO_MANY_DECLINED, True, "void"), (TOO_MANY_DECLINED, False, None), ("lost_card", True, None)],
)
@pytest.mark.parametrize("deadline_ms", [0, NOW + 1])
def test_what_was_refused_unasked_is_let_go_where_another_may_have_asked(
    code: str, shared: bool, due: str | None, deadline_ms: int
) -> None:
    facts = case(outcome=Declined(code), deadline_ms=deadline_ms)
    claims, outcomes = [Claimed(facts.record, b"", 0)], {facts.record.id: Declined(code)}
    (one,) = decide(claims, {}, outcomes, {"floor": 9}, replace(TERMS, shared=shared))
    assert one.payment == PaymentChange("declined", None, code, None, due)


def test_a_declined_card_leaves_a_hold_with_time_left_held() -> None:
    one, late = decided(
        case(outcome=Declined("x"), deadline_ms=NOW + 1), case(2, outcome=Declined("x"), deadline_ms=NOW)
    )

    assert (one.status, one.verdict, one.payment) == ("held", Verdict.HOLD, PaymentChange("declined", None, "x"))
    assert (late.status, late.verdict) == ("expired", Verdict.EXPIRE)


@pytest.mark.parametrize("answer", [Unknown("timeout"), RequiresAction("https://bank", "r")])
def test_an_undecided_payment_keeps_its_card_and_waits(answer: Any) -> None:
    """Unknown is a state, not a failure. PostgreSQL knows the booking as pending from now on."""
    facts = case(outcome=answer)
    (one,) = decided(facts)

    assert sold_by([one]) == {}
    assert (one.status, one.verdict) == ("pending", Verdict.RELEASE)
    assert one.payment is not None and one.payment.due is None
    assert one.delay_ms > 0
    assert one.payload.charge == facts.record.payload.charge


@pytest.mark.parametrize("answer", [Unknown("timeout"), RequiresAction("https://bank", "r")])
def test_a_payment_undecided_for_too_long_is_given_up_and_voided(answer: Any) -> None:
    row = PaymentRow("unknown", "r", None, None, TERMS.deadline_ms)
    facts = case(outcome=answer)
    facts.known = Known(facts.record.id, "pending", None, payment=row)

    (one,) = decided(facts)

    assert (one.status, one.failure, one.verdict, one.standing) == (
        "failed", "payment_unavailable", Verdict.FAIL, Standing.OPEN,
    )  # fmt: skip
    assert one.payment is not None and one.payment.due == "void"


def test_who_used_the_key_first_is_the_booking() -> None:
    """The other is a duplicate: it pays nothing, owes nothing, and sells nothing."""
    facts, first = case(outcome=None), ids.booking_id(SHARD, 2)
    facts.known = Known(first, "confirmed", None, fingerprint=facts.record.fingerprint)
    (one,) = decided(facts)

    assert sold_by([one]) == {}
    assert (one.status, one.failure, one.verdict, one.payment) == ("failed", "duplicate", Verdict.FAIL, None)
    assert (one.standing, one.duplicate_of, one.delay_ms) == (Standing.DUPLICATE, first, 0)
    assert one.payload == Payload(failure=f"duplicate_of:{first}")


def test_who_used_the_key_for_another_request_is_told_so() -> None:
    """It is no repeat of the first, so the first is no answer to it. It pays nothing either."""
    first = ids.booking_id(SHARD, 2)
    (one,) = decided(case(outcome=None, known=Known(first, "confirmed", None, fingerprint="another")))

    assert sold_by([one]) == {}
    assert (one.status, one.failure, one.verdict, one.payment) == (
        "failed",
        "idempotency_key_reused",
        Verdict.FAIL,
        None,
    )
    assert (one.standing, one.duplicate_of) == (Standing.DUPLICATE, first)
    assert one.payload == Payload(failure="idempotency_key_reused")


@pytest.mark.parametrize("status", ["confirmed", "failed", "expired", "cancelled"])
def test_what_postgresql_decided_is_mirrored_and_not_sold_again(status: str) -> None:
    """The gateway is not asked, and nothing new is due."""
    facts = case(outcome=None)
    why = "why" if status != "confirmed" else None
    facts.known = Known(facts.record.id, status, why, payment=PaymentRow("captured", "r", None, None, 1))
    (one,) = decided(facts)

    assert one.standing is Standing.DECIDED
    assert sold_by([one]) == {}
    assert (one.status, one.failure, one.verdict) == (status, why, VERDICTS[status])
    assert one.payment == PaymentChange("captured", "r")


def test_an_undecided_booking_was_asked_for() -> None:
    """Nothing is guessed of a payment that nobody asked for."""
    with pytest.raises(AssertionError, match="undecided"):
        decided(case(outcome=None))


# ------------------------------------------------------------------ what is written of the payment


@pytest.mark.parametrize(
    ("answer", "payment", "booking"),
    [
        (OK, ("authorized", "ref", None, None, "capture"), ("confirmed", None, Verdict.CONFIRM)),
        (Authorized("r", 199, "USD"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", Verdict.FAIL)),
        (Authorized("r", 201, "USD"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", Verdict.FAIL)),
        (Authorized("r", 200, "EUR"), ("authorized", "r", "amount_mismatch", None, "void"),
         ("failed", "payment_amount_mismatch", Verdict.FAIL)),
        (Declined("lost_card", "r"), ("declined", "r", "lost_card", None, None), ("failed", "payment_declined", Verdict.FAIL)),
        (Unchargeable("amount_too_small"), ("failed", None, "amount_too_small", None, None),
         ("failed", MISCONFIGURED, Verdict.FAIL)),
        (RequiresAction("https://bank", "r"), ("requires_action", "r", None, "https://bank", None),
         ("pending", None, Verdict.RELEASE)),
        (Done("r"), ("voided", "r", None, None, None), ("failed", "payment_unavailable", Verdict.FAIL)),
        (Done(""), ("voided", None, None, None, None), ("failed", "payment_unavailable", Verdict.FAIL)),
        (Unknown("timeout"), ("unknown", None, None, None, None), ("pending", None, Verdict.RELEASE)),
    ],
)  # fmt: skip
def test_what_each_answer_means(answer: Any, payment: tuple[Any, ...], booking: tuple[Any, ...]) -> None:
    """In the payment's row, in the booking's, and in the record that tells its shop."""
    (one,) = decided(case(outcome=answer))
    assert one.payment == PaymentChange(*payment)
    assert (one.status, one.failure, one.verdict) == booking
    status, reference, code, action, _ = payment
    assert one.payload.outcome == Outcome(status, "card", "4242", reference, code, action)
    assert one.payload.failure == booking[1]
    assert (one.payload.charge is None) == (booking[2] is not Verdict.RELEASE), (
        "a card is kept as long as it may be asked again"
    )


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
    facts = case(outcome=answer)
    facts.known = Known(facts.record.id, "pending", None, payment=PaymentRow("unknown", "r0", None, None, age_ms))
    (one,) = decided(facts)
    assert one.payment is not None
    if age_ms < TERMS.deadline_ms:
        assert (one.status, one.payment.due, one.payment.reference) == ("pending", None, payment[1])
        return
    assert (one.status, one.failure) == ("failed", failure)
    assert one.payment == PaymentChange(*payment, None, "void")
    assert one.payload.outcome == Outcome(payment[0], "card", "4242", payment[1], payment[2])


@pytest.mark.parametrize(
    ("age_ms", "pause_ms"), [(0, 500), (999, 500), (1_002, 501), (20_000, 10_000), (60_000, 30_000), (500_000, 30_000)]
)
def test_what_nobody_knows_is_asked_for_ever_more_slowly(age_ms: int, pause_ms: int) -> None:
    """Half its age, at least half a second and at most thirty; a payment with a row by the row's age, one without by the
    booking's. A hold's first payment is as old as its row, however long ago it was set aside."""
    known = case(2, outcome=Unknown("timeout"), age_ms=1)
    known.known = Known(known.record.id, "pending", None, payment=PaymentRow("unknown", None, None, None, age_ms))
    posted = case(outcome=Unknown("timeout"), age_ms=age_ms)
    held = case(3, outcome=Unknown("timeout"), age_ms=age_ms, deadline_ms=NOW + 1)
    assert [one.delay_ms for one in decided(posted, known, held)] == [pause_ms, pause_ms, 500]


@pytest.mark.parametrize("age_ms", [TERMS.deadline_ms - 1, TERMS.deadline_ms])
def test_a_posted_booking_has_its_own_age_as_long_as_no_row_tells_another(age_ms: int) -> None:
    (one,) = decided(case(outcome=Unknown("timeout"), age_ms=age_ms))
    assert one.payment is not None and one.payment.due == ("void" if age_ms >= TERMS.deadline_ms else None)


# ------------------------------------------------------------------ holds, cancelled and overdue


def hold(tries: str = "1", *, left_ms: int = 1, outcome: Any = OK, row: PaymentRow | None = None) -> Case:
    """A hold whose payment is under way, with so much time left, and an attempt behind it."""
    one = case(outcome=outcome, deadline_ms=NOW + left_ms)
    earlier = (Attempt("p1", "a1", Outcome("declined", "card", "0002")),)
    one.record = replace(
        one.record, tries=tries, payload=replace(one.record.payload, fingerprint="a2", earlier=earlier)
    )
    if row is not None:
        one.known = Known(one.record.id, "pending", None, payment=row)
    return one


@pytest.mark.parametrize("answer", [Declined("x", "r"), Done("r"), Unchargeable("x"), Authorized("r", 1, "USD")])
@pytest.mark.parametrize(("left_ms", "status"), [(1, "held"), (0, "expired"), (-1, "expired")])
def test_a_hold_whose_payment_brought_nothing(answer: Any, left_ms: int, status: str) -> None:
    """It is held as long as its time lasts, and its attempts and what they asked for are remembered."""
    facts = hold(left_ms=left_ms, outcome=answer)
    (one,) = decided(facts)
    assert (one.status, one.verdict) == (status, VERDICTS[status])
    assert (one.payload.fingerprint, one.payload.earlier) == ("a2", facts.record.payload.earlier)
    assert one.payload.key == facts.record.payload.key
    assert one.payload.charge is None
    assert (one.failure is None) == (status == "held")


def test_an_undecided_hold_remembers_its_attempts() -> None:
    facts = hold(outcome=Unknown("timeout"))
    (one,) = decided(facts)
    assert one.payload == replace(facts.record.payload, outcome=Outcome("unknown", "card", "4242"))


@pytest.mark.parametrize("deadline", [False, True])
def test_a_payment_let_go_for_a_cancellation_ends_cancelled(deadline: bool) -> None:
    """Though the hold has time left. Money that came before it could be let go buys the tickets, and other failures are
    what they are."""
    (one,) = decided(hold("1x", left_ms=1 if deadline else -NOW, outcome=Done("r")))
    assert (one.status, one.failure, one.verdict) == ("cancelled", "cancelled", Verdict.CANCEL)
    (bought,) = decided(hold("1x", left_ms=1 if deadline else -NOW))
    assert bought.status == "confirmed"
    assert bought.payment is not None and bought.payment.due == "capture"


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
    assert is_overdue(one.record, one.known, TERMS) == overdue
    (waits,) = decided(hold(tries, left_ms=left_ms, outcome=Unknown("timeout"), row=row))
    if row is not None and "r" not in tries:
        assert waits.payment is not None and waits.payment.due == ("void" if overdue else None)


@pytest.mark.parametrize(
    ("tried", "lapses", "outcome", "row", "never"),
    [
        (False, 0, None, None, True),
        (True, 0, None, None, False),
        (False, 1, None, None, False),
        (False, 0, Outcome("unknown"), None, False),
        (False, 0, None, PaymentRow("unknown", None, None, None, 1), False),
    ],
)
def test_who_may_have_been_asked(
    tried: bool, lapses: int, outcome: Outcome | None, row: PaymentRow | None, never: bool
) -> None:
    """Only of what surely nobody asked for, nothing is to be let go."""
    one = case()
    one.record = replace(one.record, payload=replace(one.record.payload, outcome=outcome))
    claim = Claimed(one.record, b"", lapses)
    known = Known(one.record.id, "pending", None, payment=row) if row else None
    assert never_tried(claim, known, tried=tried) == never
    kept = unfinished(claim, tried=tried)
    if (tried or lapses) and not outcome:
        assert kept == replace(one.record.payload, outcome=Outcome("unknown", "card", "4242"))
    else:
        assert kept == Payload()


@pytest.mark.parametrize(
    ("status", "payment", "tries", "is_decided"),
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
def test_what_postgresql_has_decided(status: str, payment: str | None, tries: str, is_decided: bool) -> None:
    """A booking that has ended, or a payment of one that has not; but late money opens an expired one again."""
    one = hold(tries)
    row = PaymentRow(payment, "r", None, None, 1) if payment else None
    standing = standing_of(one.record, Known(one.record.id, status, None, payment=row))
    assert standing is (Standing.DECIDED if is_decided else Standing.OPEN)
    assert standing_of(one.record, None) is Standing.NEW
    other = Known(ids.booking_id(SHARD, 2), status, None, payment=row)
    assert standing_of(one.record, other) is Standing.DUPLICATE, "another booking used its key first"


@pytest.mark.parametrize("was_sold", [False, True])
def test_what_was_sold_and_cancelled_comes_back_as_a_stock_move(was_sold: bool) -> None:
    """And not by the verdict too. What its payment's row tells is told again."""
    facts = case(outcome=None)
    row = PaymentRow("captured", "r", "paid_too_late", "https://bank", 1)
    facts.known = Known(facts.record.id, "cancelled", "refunded", was_sold, payment=row)
    (one,) = decided(facts)
    assert one.verdict is (Verdict.GIVE_BACK if was_sold else Verdict.CANCEL)
    assert (one.status, one.failure, one.standing) == ("cancelled", "refunded", Standing.DECIDED)
    assert one.payment == PaymentChange("captured", "r", "paid_too_late"), (
        "nobody is sent to a bank, and nothing is due"
    )
    assert one.payload.outcome == Outcome("captured", "card", "4242", "r", "paid_too_late")


@pytest.mark.parametrize(("status", "was_sold"), [("confirmed", False), ("cancelled", True), ("cancelled", False)])
@pytest.mark.parametrize("items", ["tier00000001:9", "the same", ""])
def test_what_was_sold_with_other_items_is_left_to_be_mended(status: str, was_sold: bool, items: str) -> None:
    """What was claimed is of an older copy of Redis, and by its verdict other tickets would move than were sold."""
    facts = hold(outcome=None)
    row = PaymentRow("captured", "r", None, None, 1)
    items = facts.record.items if items == "the same" else items
    facts.known = Known(facts.record.id, status, None, was_sold, payment=row, items=items)
    (one,) = decided(facts)
    assert one.standing is Standing.DECIDED
    if items.endswith(":9"):
        assert (one.verdict, one.payload, one.delay_ms) == (Verdict.RELEASE, Payload(), 30_000)
    else:
        assert one.verdict not in (Verdict.RELEASE, Verdict.HOLD)


@pytest.mark.parametrize("status", ["held", "pending"])
@pytest.mark.parametrize(("left_ms", "verdict"), [(1, Verdict.HOLD), (-1, Verdict.EXPIRE)])
def test_a_hold_whose_payment_was_decided_goes_back(status: str, left_ms: int, verdict: Verdict) -> None:
    """Somebody died before Redis heard that its card was declined; it is written already."""
    facts = hold(left_ms=left_ms, outcome=None)
    facts.known = Known(facts.record.id, status, None, payment=PaymentRow("declined", "r", "lost_card", None, 1))
    (one,) = decided(facts)
    assert (one.verdict, one.standing) == (verdict, Standing.DECIDED)
    assert one.payload.outcome == Outcome("declined", "card", "4242", "r", "lost_card")


def test_an_ended_booking_whose_payment_was_never_written_says_nothing_of_it() -> None:
    facts = case(outcome=None)
    facts.known = Known(facts.record.id, "expired", None)
    (one,) = decided(facts)
    assert (one.verdict, one.payment, one.payload.outcome) == (Verdict.EXPIRE, None, Outcome("", "card", "4242"))


@pytest.mark.parametrize(("row", "due"), [(None, None), (PaymentRow("unknown", "r", None, None, 1), "void")])
@pytest.mark.parametrize(
    ("left", "tries", "status"),
    [(2, "1", "confirmed"), (1, "1", "failed"), (2, "1x", "cancelled"), (3, "1", "confirmed")],
)
def test_what_costs_nothing_is_sold_as_long_as_there_are_tickets(
    row: PaymentRow | None, due: str | None, left: int, tries: str, status: str
) -> None:
    """No payment is waited for; one that an earlier version asked for is let go by its reference."""
    facts = case(outcome=None)
    lines = (Line("floor", 2, 0),)
    facts.record = replace(facts.record, tries=tries, body=replace(facts.record.body, amount_cents=0, lines=lines))
    facts.known = Known(facts.record.id, "pending", None, payment=row) if row else None
    (one,) = decided(facts, floor=left)
    assert sold_by([one]) == ({"floor": 2} if status == "confirmed" else {})
    assert (one.status, one.failure) == (status, {"failed": "sold_out_at_commit", "cancelled": "cancelled"}.get(status))
    assert one.payment == (PaymentChange("unknown", "r", due=due) if row else None)


@pytest.mark.parametrize("after_ms", [-1, 0, 1])
@pytest.mark.parametrize("tried", [False, True], ids=["never written", "written"])
def test_an_unknown_payment_is_waited_for_to_the_millisecond(tried: bool, after_ms: int) -> None:
    """Ten minutes from the admission, or from the payment's row where there is one."""
    age_ms = TERMS.deadline_ms + after_ms
    facts = case(outcome=Unknown("timeout"), age_ms=0 if tried else age_ms)
    if tried:
        facts.known = Known(facts.record.id, "pending", None, payment=PaymentRow("unknown", "r", None, None, age_ms))
    (one,) = decided(facts)
    assert one.payment is not None
    assert (one.status, one.payment.due) == (("pending", None) if after_ms < 0 else ("failed", "void"))


@pytest.mark.parametrize("after_ms", [-1, 0, 1])
def test_a_hold_whose_payment_is_undecided_is_let_go_at_its_deadline(after_ms: int) -> None:
    """Not before, and then at once: its row is written, so somebody may have been asked."""
    facts = case(outcome=Unknown("timeout"), deadline_ms=NOW - after_ms)
    facts.known = Known(facts.record.id, "pending", None, payment=PaymentRow("unknown", "r", None, None, 5))
    assert is_overdue(facts.record, facts.known, TERMS) == (after_ms >= 0)
    (one,) = decided(facts)
    assert one.payment is not None
    assert (one.status, one.payment.due) == (("pending", None) if after_ms < 0 else ("expired", "void"))


@pytest.mark.parametrize(("left", "status"), [(1, "failed"), (2, "confirmed"), (3, "confirmed")])
def test_the_last_tickets_are_sold(left: int, status: str) -> None:
    (one,) = decided(case(), floor=left)
    assert one.status == status
