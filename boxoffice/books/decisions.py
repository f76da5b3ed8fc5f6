"""A claimed booking on its way to a verdict, and what PostgreSQL knows of it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boxoffice.gateway.base import Authorization, Done
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Outcome, Payload, Record

__all__ = ["Case", "Known", "PaymentRow", "Terms"]


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
