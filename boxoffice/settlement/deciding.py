"""What becomes of each booking of a batch: decided in admission order, under the lock of the inventory rows. No I/O."""

from __future__ import annotations

from typing import Final

from boxoffice.books.decisions import Case, Terms
from boxoffice.gateway.base import Authorized, Declined, Done, RequiresAction, Unchargeable, Unknown
from boxoffice.states import KEY_REUSED, MISCONFIGURED
from boxoffice.stores.record import Line, Outcome, Payload, earlier_after, key_after

__all__ = ["decide"]

ACTION_RETRY_MS: Final = 5_000
"""How often a payment that waits for its customer is looked up. A webhook rings sooner."""

UNKNOWN_RETRY_MS: Final = 500
"""How soon an unknown payment is asked again; doubles with the age of the question."""


def decide(cases: list[Case], left: dict[str, int], terms: Terms) -> dict[str, int]:
    """Give every case its verdict; `left` is what each locked tier can still sell.

    Returns tickets sold per tier.
    """
    sold: dict[str, int] = {}
    for case in sorted(cases, key=_by_sequence):
        if case.verdict:
            # An earlier round may have decided otherwise: above all, nothing may be due that is not written.
            case.payment_status, case.delay_ms = "", 0
            case.failure = case.payment_failure = case.reference = case.next_action = case.due = None
        if case.known is None:
            _weigh(case, left, sold, terms)
            continue
        if case.duplicate_of:
            _end(case, "failed", KEY_REUSED if case.reuses_key else "duplicate")
            case.payload = Payload(failure=KEY_REUSED if case.reuses_key else f"duplicate_of:{case.duplicate_of}")
        elif case.decided:
            _adopt(case, terms)
        else:
            _weigh(case, left, sold, terms)
    return sold


def _by_sequence(case: Case) -> int:
    return case.record.sequence


def _weigh(case: Case, left: dict[str, int], sold: dict[str, int], terms: Terms) -> None:
    record, outcome = case.record, case.outcome
    if not record.body.amount_cents:
        _weigh_free(case, left, sold)
        return
    assert outcome is not None, "an undecided case was authorised"
    match outcome:
        case Authorized(reference, amount_cents, currency):
            case.reference, case.payment_status = reference, "authorized"
            lines = record.body.lines
            if (amount_cents, currency.upper()) != (record.body.amount_cents, record.body.currency):
                case.due, case.payment_failure = "void", "amount_mismatch"
                _lose(case, "payment_amount_mismatch", terms)
            elif _short(lines, left):
                case.due = "void"
                _end(case, "failed", "sold_out_at_commit")
            else:
                _sell(lines, left, sold)
                case.due = "capture"
                _end(case, "confirmed", None)
        case Declined(code, reference):
            case.reference, case.payment_status, case.payment_failure = reference, "declined", code
            _lose(case, "payment_declined", terms)
        case Unchargeable(code):
            case.payment_status, case.payment_failure = "failed", code
            _lose(case, MISCONFIGURED, terms)
        case RequiresAction(url, reference):
            case.reference, case.payment_status, case.next_action = reference, "requires_action", url
            _wait(case, ACTION_RETRY_MS, terms)
        case Done(reference):
            case.reference, case.payment_status = reference or None, "voided"
            _let_go(case, terms)
        case Unknown():
            case.payment_status = "unknown"
            case.reference = case.known.payment.reference if case.known and case.known.payment else None
            _wait(case, max(UNKNOWN_RETRY_MS, min(_age_ms(case, terms) // 2, 30_000)), terms)


def _weigh_free(case: Case, left: dict[str, int], sold: dict[str, int]) -> None:
    """No payment to wait for: there are tickets, or there are none."""
    lines = case.record.body.lines
    if case.known is not None and case.known.payment is not None:
        # Earlier versions asked for nothing at the gateway, too.
        case.payment_status, case.reference, case.due = "unknown", case.known.payment.reference, "void"
    if case.record.cancel_requested:
        _end(case, "cancelled", "cancelled")
    elif _short(lines, left):
        _end(case, "failed", "sold_out_at_commit")
    else:
        _sell(lines, left, sold)
        _end(case, "confirmed", None)


def _sell(lines: tuple[Line, ...], left: dict[str, int], sold: dict[str, int]) -> None:
    for line in lines:
        left[line.tier] -= line.quantity
        sold[line.tier] = sold.get(line.tier, 0) + line.quantity


def _short(lines: tuple[Line, ...], left: dict[str, int]) -> bool:
    for line in lines:  # noqa: SIM110 - most bookings have one, and a generator costs more than looking at it
        if left.get(line.tier, 0) < line.quantity:
            return True
    return False


def _age_ms(case: Case, terms: Terms) -> int:
    if case.known and case.known.payment:
        return case.known.payment.age_ms
    return 0 if case.record.deadline_ms else terms.now_ms - case.record.admitted_ms


def _wait(case: Case, retry_ms: int, terms: Terms) -> None:
    """Undecided: the booking stays pending until it is too old. Then the money is let go, however late it shows up."""
    if _age_ms(case, terms) >= terms.deadline_ms or case.overdue(terms):
        misconfigured = case.outcome.misconfigured if isinstance(case.outcome, Unknown) else ""
        case.payment_failure = (
            "action_abandoned" if case.payment_status == "requires_action" else misconfigured or "unavailable"
        )
        case.due, case.next_action = "void", None
        _let_go(case, terms, MISCONFIGURED if misconfigured else "payment_unavailable")
        return
    case.status, case.verdict, case.delay_ms = "pending", "R", retry_ms
    payload = case.record.payload
    case.payload = Payload(payload.charge, _outcome(case), None, payload.key, payload.asked, payload.earlier)


def _let_go(case: Case, terms: Terms, failure: str = "payment_unavailable") -> None:
    """No payment, because nobody waits for it any more."""
    if case.record.cancel_requested:
        _end(case, "cancelled", "cancelled")
    else:
        _lose(case, failure, terms)


def _lose(case: Case, failure: str, terms: Terms) -> None:
    """The payment brought nothing. A hold that has time left may be paid with another card."""
    if case.record.deadline_ms > terms.now_ms:
        case.status, case.failure, case.verdict = "held", None, "H"
        payload = case.record.payload
        case.payload = Payload(None, _outcome(case), None, payload.key, payload.asked, payload.earlier)
    elif case.record.deadline_ms:
        _end(case, "expired", failure)
    else:
        _end(case, "failed", failure)


def _end(case: Case, status: str, failure: str | None) -> None:
    case.status, case.failure = status, failure
    verdict = case.verdict = _LETTER[status]
    payload = case.record.payload
    case.payload = Payload(
        None,
        _outcome(case),
        failure,
        key_after(verdict, payload.key),
        payload.asked,
        earlier_after(verdict, payload.earlier),
    )


def _outcome(case: Case) -> Outcome | None:
    charge = case.record.payload.charge
    if charge is None:
        return case.record.payload.outcome
    return Outcome(
        case.payment_status, charge.method, charge.last4, case.reference, case.payment_failure, case.next_action
    )


def _adopt(case: Case, terms: Terms) -> None:
    """PostgreSQL decided earlier; somebody died before Redis heard of it."""
    known = case.known
    assert known is not None
    row = known.payment
    if row is not None:
        case.payment_status, case.reference, case.payment_failure = row.status, row.reference, row.failure_code
    if known.status in ("held", "pending"):
        # Pending: under another payment by now. settle.lua will find that it is not this one's to move.
        _lose(case, "payment_declined", terms)
    else:
        _end(case, known.status, known.failure_code)
        if known.was_sold:
            case.verdict = "B"


_LETTER: Final = {"confirmed": "C", "failed": "F", "expired": "E", "cancelled": "X"}
