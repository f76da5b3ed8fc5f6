"""What becomes of each booking of a batch: decided in admission order, under the lock of the inventory rows. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from boxoffice.gateway.base import Authorization, Authorized, Declined, Done, RequiresAction, Unchargeable, Unknown
from boxoffice.states import KEY_REUSED, MISCONFIGURED
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Line, Outcome, Payload, Record, earlier_after, key_after

__all__ = ["Case", "Known", "PaymentRow", "Terms", "decide"]

ACTION_RETRY_MS: Final = 5_000
"""How often a payment that waits for its customer is looked up. A webhook rings sooner."""

UNKNOWN_RETRY_MS: Final = 500
"""How soon an unknown payment is asked again; doubles with the age of the question."""


@dataclass(slots=True)
class PaymentRow:
    """What PostgreSQL knows of this very payment."""

    status: str
    reference: str | None
    failure_code: str | None
    next_action: str | None
    age_ms: int


@dataclass(slots=True)
class Known:
    """What PostgreSQL knows of the booking, or of the one that used its key first."""

    id: str
    status: str
    failure_code: str | None
    was_sold: bool = False
    """It was confirmed once: its tickets come back as a stock move, not by a verdict."""
    fingerprint: str = ""
    payment: PaymentRow | None = None


@dataclass(slots=True)
class Terms:
    """The rules of one pass."""

    now_ms: int
    deadline_ms: int
    """Age at which an unknown payment is given up."""


@dataclass(slots=True)
class Case:
    """One claimed booking on its way to a verdict.

    `status`, `failure`, `payment_status` and `due` go to PostgreSQL; `verdict` (a letter of settle.lua) and `payload`
    to Redis.
    """

    record: Record
    raw: bytes
    lapses: int
    known: Known | None = None
    outcome: Authorization | Done | None = None
    """What the gateway said. `Done`: we asked it to let the payment go, and it did."""
    status: str = ""
    failure: str | None = None
    payment_status: str = ""
    payment_failure: str | None = None
    reference: str | None = None
    next_action: str | None = None
    due: str | None = None
    verdict: str = ""
    delay_ms: int = 0
    payload: Payload = field(default_factory=Payload)
    asked: bool = False
    """Whether the gateway was asked for this payment, in this claim."""
    done: bool = False
    """Whether Redis was told, or a task of its own goes on with it."""
    told: Sequence[Pair] = ()
    """What PostgreSQL must have before it decides: the commits that Redis had been told of when this was claimed."""

    @property
    def duplicate_of(self) -> str | None:
        """The booking that used this one's key first, while Redis had forgotten it."""
        return self.known.id if self.known and self.known.id != self.record.id else None

    @property
    def reuses_key(self) -> bool:
        """Whether that booking was another request: this one is no repeat of it, and may not be answered by it."""
        return (
            self.known is not None
            and self.duplicate_of is not None
            and (self.known.fingerprint != self.record.fingerprint)
        )

    @property
    def just_sold(self) -> bool:
        """Whether it was claimed pending and is sold, with nothing else to see to: confirm.lua tells Redis. A hold's
        tickets are counted as unpaid until then, and so are those of whoever was at the bank."""
        record = self.record
        return (
            self.verdict == "C"
            and record.state == "P"
            and not (record.deadline_ms or record.given_back or self.duplicate_of or record.at_bank)
        )

    @property
    def free(self) -> bool:
        """Whether it costs nothing. Then there is no payment, and no gateway hears of it."""
        return not self.record.body.amount_cents

    @property
    def never_asked(self) -> bool:
        """Whether the gateway cannot know of this payment: no worker ever asked for it. A claim that asked leaves a
        row, an outcome in the record (`unfinished`), or a lease that lapses."""
        return not (
            self.asked
            or self.lapses
            or self.record.payload.outcome
            or (self.known is not None and self.known.payment is not None)
        )

    def unfinished(self) -> Payload:
        """What to keep of a claim that ends without a verdict: the record as it is, or that somebody may have asked."""
        payload = self.record.payload
        if payload.outcome or payload.charge is None or not (self.asked or self.lapses):
            return Payload()
        charge = payload.charge
        outcome = Outcome("unknown", charge.method, charge.last4)
        return Payload(charge, outcome, None, payload.key, payload.asked, payload.earlier)

    @property
    def decided(self) -> bool:
        """Whether PostgreSQL has decided this payment before: then only Redis has to hear of it."""
        known = self.known
        if known is None or self.duplicate_of:
            return False
        undecided = known.payment is None or known.payment.status in ("unknown", "requires_action")
        if known.status == "expired" and self.record.revived:
            return not undecided
        return known.status not in ("pending", "held") or not undecided

    def overdue(self, terms: Terms) -> bool:
        """Whether its payment, once asked for, is to be let go rather than waited for: cancelled, or out of time."""
        row = self.known.payment if self.known else None
        if self.record.cancel_requested:
            return True
        if row is None or self.record.revived:
            return False
        return row.age_ms >= terms.deadline_ms or 0 < self.record.deadline_ms <= terms.now_ms


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
