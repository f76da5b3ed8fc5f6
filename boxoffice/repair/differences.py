"""What the gateway and our rows may disagree about, one payment at a time. Pure functions of its record and our row."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from boxoffice.currencies import shown
from boxoffice.gateway.base import Record

__all__ = ["DIFFERENCES", "Difference", "amount_differs", "difference_of", "money_differs"]

DIFFERENCES: Final = {
    "authorized_without_booking": "money is set aside for a booking that we do not know; mended by letting it go",
    "authorized_not_confirmed": "money is set aside for a booking that is not confirmed; mended by letting it go",
    "captured_without_booking": "money was taken for a booking that we do not know; mended by a refund",
    "captured_not_confirmed": "money was taken for a booking that is not confirmed; mended by a refund",
    "confirmed_not_captured": "a confirmed booking was never paid; mended by capturing now",
    "capture_not_marked": "money was taken and our row does not say so; mended by capturing again, which does nothing",
    "unknown_to_gateway": "our row says that money moved, the gateway knows of none",
    "amount_differs": "the gateway has another amount than our row",
    "refunded_differs": "the gateway's refunds and disputes are others than our rows say; mended by writing them down",
    "refund_overdue": "a refund has been due for longer than it should, and nobody can say what became of it",
    "refund_pending": "a refund is pending at the gateway",
    "refund_owed": "the gateway refused a refund; `payments retry` tries it again, `payments write-off` ends it",
    "disputed": "a customer disputes the payment; answer at the gateway",
}
"""What the audit finds, and what `--fix` does about it. The last three are known: the books agree on them."""


class Difference(NamedTuple):
    """One payment on which the gateway and we disagree."""

    what: str
    payment_key: str
    booking: str | None
    at_gateway: str
    ours: str
    mended: bool | None
    """None: nobody tried."""
    known: bool = False
    """Both books tell it alike, and a person has to do something about it, or to wait."""


def money_differs(record: Record, row: Any) -> str | None:
    """The difference that money makes, if any. What is due and not overdue, or claimed by a worker, is on its way."""
    payment, on_its_way = record.payment, row["leased"] or (row["due"] is not None and not row["overdue"])
    undecided = row["booking_status"] in ("pending", "held") and row["status"] in ("unknown", "requires_action")
    if on_its_way or undecided or not row["settled"]:
        return None
    # A booking that was cancelled before its capture is captured all the same, and then refunded by its terms.
    sold = row["booking_status"] in ("confirmed", "cancelled") and row["status"] in ("authorized", "captured")
    if payment.status == "authorized":
        return "confirmed_not_captured" if sold else "authorized_not_confirmed"
    if payment.status == "captured":
        if row["status"] == "captured":
            return None
        return "capture_not_marked" if sold else "captured_not_confirmed"
    return None


def amount_differs(record: Record, row: Any) -> bool:
    """Whether the gateway has set aside, or taken, another amount than our row says."""
    payment = record.payment
    if (payment.amount_cents, payment.currency.upper()) != (row["amount_cents"], row["currency"]):
        return True
    return bool(row["status"] == "captured" and payment.captured_cents != row["amount_cents"])


def difference_of(what: str, record: Record, row: Any, mended: bool | None) -> Difference:
    """As it is told: what the gateway says, and what our row says, if there is one."""
    payment = record.payment
    theirs = f"{payment.status} {shown(payment.amount_cents, payment.currency)}"
    if payment.captured_cents:
        captured, refunded = (shown(n, payment.currency) for n in (payment.captured_cents, payment.refunded_cents))
        theirs += f", captured {captured}, refunded {refunded}"
    ours = "nothing"
    if row is not None:
        ours = f"{row['status']} {shown(row['amount_cents'], row['currency'])}, booking {row['booking_status']}"
        if row["refunded_cents"]:
            ours += f", refunded {shown(row['refunded_cents'], row['currency'])}"
    return Difference(what, record.payment_key, row["booking"] if row else record.booking_id, theirs, ours, mended)
