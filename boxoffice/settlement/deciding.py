"""What becomes of each booking of a batch: decided in admission order, under the lock of the inventory rows. No I/O.

A pure function of facts: deciding again, in a transaction that is tried again, starts from nothing.

One file because what a fact means and what follows from it are read together: a rule that is changed is changed in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final, TypeAlias

from msgspec.structs import replace

from boxoffice.books.decisions import (
    DECIDED,
    DUPLICATE,
    NEW,
    OPEN,
    Claimed,
    Decision,
    Known,
    PaymentChange,
    Standing,
    Terms,
    Verdict,
)
from boxoffice.gateway.base import Authorization, Authorized, Declined, Done, RequiresAction, Unchargeable, Unknown
from boxoffice.states import CALLED_OFF, DUPLICATE_OF, KEY_REUSED, MISCONFIGURED, TOO_MANY_DECLINED
from boxoffice.stores.record import Charge, Line, Outcome, Payload, Record, ended

__all__ = [
    "GatewayOutcome",
    "by_sequence",
    "decide",
    "is_overdue",
    "never_tried",
    "sold_by",
    "standing_of",
    "unfinished",
]

GatewayOutcome: TypeAlias = Authorization | Done
"""What the gateway said of a payment. `Done`: we asked it to let the payment go, and it did."""

ACTION_RETRY_MS: Final = 5_000
"""How often a payment that waits for its customer is looked up. A webhook rings sooner."""

UNKNOWN_RETRY_MS: Final = 500
"""How soon an unknown payment is asked again; doubles with the age of the question."""

CHANGED_RETRY_MS: Final = 30_000
"""How soon a booking that was sold with other items than it has here is claimed again, unless it was mended meanwhile."""

by_sequence: Final = attrgetter("record.sequence")
"""Of a claim: its place in the order of admission."""


def decide(
    claims: Iterable[Claimed],
    known: Mapping[str, Known],
    outcomes: Mapping[str, GatewayOutcome],
    left: Mapping[str, int],
    terms: Terms,
) -> list[Decision]:
    """In the order of admission: who comes first is served first. `known` and `outcomes` are by booking id; `left` is
    what each locked tier can still sell."""
    rest = dict(left)
    decisions = []
    for claim in sorted(claims, key=by_sequence):
        booking = claim.record.id
        met = known.get(booking)
        if met is None:
            decisions.append(_weigh(claim, None, NEW, outcomes.get(booking), rest, terms))
            continue
        standing = standing_of(claim.record, met)
        if standing is OPEN:
            decisions.append(_weigh(claim, met, standing, outcomes.get(booking), rest, terms))
        elif standing is DUPLICATE:
            decisions.append(_duplicate(claim, met))
        else:
            decisions.append(_adopt(claim, met, terms))
    return decisions


def sold_by(decisions: Iterable[Decision]) -> dict[str, int]:
    """Tickets that these decisions sell, per tier."""
    sold: dict[str, int] = {}
    for decision in decisions:
        if decision.status == "confirmed" and decision.standing is not DECIDED:
            for line in decision.claim.record.body.lines:
                sold[line.tier] = sold.get(line.tier, 0) + line.quantity
    return sold


# ---------------------------------------------------------------- what the facts mean


def standing_of(record: Record, known: Known | None) -> Standing:
    """Where the booking stands in PostgreSQL. `DECIDED` is said of its payment, too: a hold may be pending under another
    payment by now, and late money opens an expired booking again."""
    if known is None:
        return NEW
    if known.id != record.id:
        return DUPLICATE
    undecided = known.payment is None or known.payment.status in ("unknown", "requires_action")
    if undecided and (known.status in ("pending", "held") or (known.status == "expired" and record.revived)):
        return OPEN
    return DECIDED


def is_overdue(record: Record, known: Known | None, terms: Terms) -> bool:
    """Whether its payment, once asked for, is to be let go rather than waited for: cancelled, or out of time."""
    row = known.payment if known else None
    if record.cancel_requested:
        return True
    if row is None or record.revived:
        return False
    return row.age_ms >= terms.deadline_ms or 0 < record.deadline_ms <= terms.now_ms


def never_tried(claim: Claimed, known: Known | None, *, tried: bool) -> bool:
    """Whether the gateway cannot know of this payment: no worker ever asked for it. A claim that asked leaves a row, an
    outcome in the record (`unfinished`), or a lease that lapses. `tried`: in this claim."""
    return not (
        tried or claim.lapses or claim.record.payload.outcome or (known is not None and known.payment is not None)
    )


def unfinished(claim: Claimed, *, tried: bool) -> Payload:
    """What to keep of a claim that ends without a verdict: the record as it is, or that somebody may have asked the
    gateway. `tried`: in this claim."""
    payload = claim.record.payload
    if payload.outcome or payload.charge is None or not (tried or claim.lapses):
        return Payload()
    charge = payload.charge
    outcome = Outcome("unknown", charge.method, charge.last4)
    return Payload(charge, outcome, None, payload.key, payload.fingerprint, payload.earlier, trace=payload.trace)


# ---------------------------------------------------------------- one booking


def _weigh(
    claim: Claimed,
    known: Known | None,
    standing: Standing,
    outcome: GatewayOutcome | None,
    rest: dict[str, int],
    terms: Terms,
) -> Decision:
    body = claim.record.body
    if not body.amount_cents:
        return _weigh_free(claim, known, standing, rest)
    assert outcome is not None, "an undecided booking was authorised"
    match outcome:
        case Authorized(reference, amount_cents, currency):
            if (amount_cents, currency.upper()) != (body.amount_cents, body.currency):
                mismatch = PaymentChange("authorized", reference, "amount_mismatch", None, "void")
                return _lose(claim, standing, mismatch, "payment_amount_mismatch", terms)
            if _short(body.lines, rest):
                unsold = PaymentChange("authorized", reference, None, None, "void")
                return _end(claim, standing, "failed", _why_unsold(body.lines, rest), unsold)
            _sell(body.lines, rest)
            return _end(
                claim, standing, "confirmed", None, PaymentChange("authorized", reference, None, None, "capture")
            )
        case Declined(code, reference, card):
            # Refused unasked: another worker that had the booking meanwhile may have been told yes.
            due = "void" if terms.shared and code == TOO_MANY_DECLINED else None
            declined = PaymentChange("declined", reference, code, due=due, card=card)
            return _lose(claim, standing, declined, "payment_declined", terms)
        case Unchargeable(code):
            return _lose(claim, standing, PaymentChange("failed", None, code), MISCONFIGURED, terms)
        case RequiresAction(url, reference):
            waits = PaymentChange("requires_action", reference, None, url)
            return _wait(claim, known, standing, waits, "", ACTION_RETRY_MS, terms)
        case Done(reference):
            return _let_go(claim, standing, PaymentChange("voided", reference or None), "payment_unavailable", terms)
        case Unknown(_, misconfigured):
            unknown = PaymentChange("unknown", known.payment.reference if known and known.payment else None)
            retry_ms = max(UNKNOWN_RETRY_MS, min(_age_ms(claim.record, known, terms) // 2, 30_000))
            return _wait(claim, known, standing, unknown, misconfigured, retry_ms, terms)


def _weigh_free(claim: Claimed, known: Known | None, standing: Standing, rest: dict[str, int]) -> Decision:
    """No payment to wait for: there are tickets, or there are none."""
    record, payment = claim.record, None
    if known is not None and known.payment is not None:
        # Earlier versions asked for nothing at the gateway, too.
        payment = PaymentChange("unknown", known.payment.reference, None, None, "void")
    if record.cancel_requested:
        return _end(claim, standing, "cancelled", "cancelled", payment)
    if _short(record.body.lines, rest):
        return _end(claim, standing, "failed", _why_unsold(record.body.lines, rest), payment)
    _sell(record.body.lines, rest)
    return _end(claim, standing, "confirmed", None, payment)


def _sell(lines: tuple[Line, ...], rest: dict[str, int]) -> None:
    for line in lines:
        rest[line.tier] -= line.quantity


def _short(lines: tuple[Line, ...], rest: dict[str, int]) -> bool:
    for line in lines:  # noqa: SIM110 - most bookings have one, and a generator costs more than looking at it
        if rest.get(line.tier, 0) < line.quantity:
            return True
    return False


def _why_unsold(lines: tuple[Line, ...], rest: dict[str, int]) -> str:
    return CALLED_OFF if any(rest.get(line.tier, 0) < 0 for line in lines) else "sold_out_at_commit"


def _age_ms(record: Record, known: Known | None, terms: Terms) -> int:
    if known and known.payment:
        return known.payment.age_ms
    return 0 if record.deadline_ms else terms.now_ms - record.admitted_ms


def _wait(
    claim: Claimed,
    known: Known | None,
    standing: Standing,
    payment: PaymentChange,
    misconfigured: str,
    retry_ms: int,
    terms: Terms,
) -> Decision:
    """Undecided: the booking stays pending until it is too old. Then the money is let go, however late it shows up."""
    record = claim.record
    if _age_ms(record, known, terms) >= terms.deadline_ms or is_overdue(record, known, terms):
        why = "action_abandoned" if payment.status == "requires_action" else misconfigured or "unavailable"
        given_up = PaymentChange(payment.status, payment.reference, why, None, "void")
        return _let_go(claim, standing, given_up, MISCONFIGURED if misconfigured else "payment_unavailable", terms)
    payload = _as_it_was(record.payload, record.payload.charge, payment)
    return Decision(claim, Verdict.RELEASE, payload, retry_ms, standing, "pending", None, payment)


def _let_go(claim: Claimed, standing: Standing, payment: PaymentChange, failure: str, terms: Terms) -> Decision:
    """No payment, because nobody waits for it any more."""
    if claim.record.cancel_requested:
        return _end(claim, standing, "cancelled", "cancelled", payment)
    return _lose(claim, standing, payment, failure, terms)


def _lose(claim: Claimed, standing: Standing, payment: PaymentChange | None, failure: str, terms: Terms) -> Decision:
    """The payment brought nothing. A hold that has time left may be paid with another card."""
    record = claim.record
    if record.deadline_ms > terms.now_ms:
        payload = _as_it_was(record.payload, None, payment)
        return Decision(claim, Verdict.HOLD, payload, 0, standing, "held", None, payment)
    return _end(claim, standing, "expired" if record.deadline_ms else "failed", failure, payment)


def _end(
    claim: Claimed, standing: Standing, status: str, failure: str | None, payment: PaymentChange | None
) -> Decision:
    payload = claim.record.payload
    payload = ended(payload, status, _outcome(payload, payment), failure)
    return Decision(claim, _VERDICTS[status], payload, 0, standing, status, failure, payment)


def _as_it_was(payload: Payload, charge: Charge | None, payment: PaymentChange | None) -> Payload:
    """What a record says of a booking that has not ended. Its card is kept as long as it may be asked again."""
    outcome = _outcome(payload, payment)
    return Payload(charge, outcome, None, payload.key, payload.fingerprint, payload.earlier, trace=payload.trace)


def _outcome(payload: Payload, payment: PaymentChange | None) -> Outcome | None:
    charge = payload.charge
    if charge is None:
        return payload.outcome
    if payment is None:
        return Outcome("", charge.method, charge.last4)
    return Outcome(
        payment.status, charge.method, charge.last4, payment.reference, payment.failure_code, payment.next_action
    )


def _duplicate(claim: Claimed, first: Known) -> Decision:
    """Its key was used before, by a request that was the same, or by another, whose answer this one may not be given."""
    reused = first.fingerprint != claim.record.fingerprint
    payload = Payload(failure=KEY_REUSED if reused else DUPLICATE_OF + first.id)
    failure = KEY_REUSED if reused else "duplicate"
    return Decision(claim, Verdict.FAIL, payload, 0, DUPLICATE, "failed", failure, None, first.id)


def _adopt(claim: Claimed, known: Known, terms: Terms) -> Decision:
    """PostgreSQL decided earlier; somebody died before Redis heard of it."""
    row = known.payment
    payment = None if row is None else PaymentChange(row.status, row.reference, row.failure_code)
    if known.status in ("held", "pending"):
        # Pending: under another payment by now. settle.lua will find that it is not this one's to move.
        return _lose(claim, DECIDED, payment, "payment_declined", terms)
    if known.items not in ("", claim.record.items):
        # What is claimed is of an older copy of Redis, and what it would move is not what was sold: `mend` tells Redis.
        return Decision(claim, Verdict.RELEASE, Payload(), CHANGED_RETRY_MS, DECIDED, known.status)
    decision = _end(claim, DECIDED, known.status, known.failure_code, payment)
    return replace(decision, verdict=Verdict.GIVE_BACK) if known.was_sold else decision


_VERDICTS: Final = {
    "confirmed": Verdict.CONFIRM, "failed": Verdict.FAIL, "expired": Verdict.EXPIRE, "cancelled": Verdict.CANCEL,
}  # fmt: skip
