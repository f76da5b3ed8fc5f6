"""What the gateway says went back of a payment, written into our rows: refunds of ours, refunds that somebody made at the
gateway itself, disputes.

The gateway's list is the truth about what it has taken on, whoever read it and why: a webhook, a refusal, a pending
refund, an audit. One transaction holds the payment's row while it is written, and writing it twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from boxoffice import ids
from boxoffice.books import looks, payments, refunds
from boxoffice.gateway.base import DisputeSeen, RefundSeen, Reversals
from boxoffice.stores.database import Connection

__all__ = ["RefusedAttempt", "take_in"]

log = structlog.get_logger()

_PAYMENT: Final = """
SELECT booking_id::text AS booking, amount_cents, currency, status, gateway FROM payments WHERE payment_key = $1 FOR UPDATE
"""

_REFUNDS: Final = """
SELECT refund_key, attempt, status, amount_cents, origin, reference, failure_code FROM refunds
WHERE payment_key = $1 ORDER BY created_at, refund_key
"""


class RefusedAttempt(NamedTuple):
    """An attempt to refund that the gateway has just refused, and its code."""

    refund_key: str
    attempt: int
    code: str


@dataclass(slots=True)
class Row:
    refund_key: str
    attempt: int
    status: str
    amount_cents: int
    origin: str
    reference: str | None
    failure_code: str | None
    before: tuple[Any, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self.before = self.now

    @property
    def now(self) -> tuple[Any, ...]:
        return self.status, self.attempt, self.amount_cents, self.reference, self.failure_code

    def refuse(self, attempt: int, code: str) -> None:
        """This attempt is over; the next one has another key."""
        self.status, self.attempt, self.failure_code = "owed", attempt + 1, code


async def take_in(
    connection: Connection, payment_key: str, seen: Reversals, refused: RefusedAttempt | None = None
) -> bool | None:
    """Write what the gateway has into the payment's rows. Returns whether to read it again later: a refund is pending
    at the gateway, or the payment's capture is not marked yet; None for a payment that is not captured.

    In the caller's transaction; locks the payment's row. Raises PostgreSQL's errors.
    """
    payment = await connection.fetchrow(_PAYMENT, payment_key)
    if payment is None or payment["status"] != "captured":
        # The gateway has captured it and our row does not say so yet: a refund may only follow the capture.
        return True if payment is not None and payment["status"] == "authorized" else None
    rows = {row["refund_key"]: Row(*row) for row in await connection.fetch(_REFUNDS, payment_key)}
    met: set[str] = set()
    foreign = [refund for refund in seen.refunds if not is_ours(refund, rows, met)]
    refused_row = rows.get(refused.refund_key) if refused else None
    if refused and refused_row and (refused_row.status, refused_row.attempt) == ("due", refused.attempt):
        refused_row.refuse(refused.attempt, refused.code)
    found = [refund for refund in foreign if not is_known(refund, rows, payment_key)]
    await _write_foreign(connection, payment_key, payment, found, rows)
    fit(rows, payment["amount_cents"] - seen.given_back_cents, refused_row)
    for row in rows.values():
        if row.now != row.before:
            await refunds.take_over(connection, row.refund_key, *row.now)
            _say(row, payment["booking"])
    await payments.recount_refunded(connection, payment_key)
    for dispute in seen.disputes:
        await _write_dispute(connection, payment_key, payment, dispute)
    return any(refund.status == "pending" for refund in seen.refunds)


def is_ours(seen: RefundSeen, rows: dict[str, Row], met: set[str]) -> bool:
    """Take over what became of an attempt of ours, also at what somebody else had begun at the gateway itself and failed
    there. False when we asked for no such refund, or for one like it only once: a gateway that made it twice gave back
    twice, and that has to be told as it is."""
    base, _, number = (seen.refund_key or "").partition("-")
    row = rows.get(base)
    if row is None or not (number == "" or number.isdecimal()):
        return False
    attempt = int(number or 0)
    if seen.status == "failed":
        if attempt >= row.attempt and row.status in ("due", "pending", "succeeded"):
            row.refuse(attempt, seen.code or "refund_failed")
            row.reference = seen.reference
        return True
    if base in met:
        return row.reference == seen.reference
    met.add(base)
    if row.status not in ("written_off", "dropped") or attempt >= row.attempt:
        row.status, row.attempt, row.amount_cents = seen.status, attempt, seen.amount_cents
        row.reference, row.failure_code = seen.reference, seen.code
    return True


def is_known(seen: RefundSeen, rows: dict[str, Row], payment_key: str) -> bool:
    """Take over what became of a refund made at the gateway, if we have heard of it."""
    row = rows.get(foreign_key(seen, payment_key))
    if row is None:
        # One that failed before anybody here knew of it has changed nothing.
        return seen.status == "failed"
    if row.attempt:
        return True  # it failed, and stays in the gateway's list; what the row tells of since is an attempt of ours
    if seen.status == "failed":
        if row.status in ("pending", "succeeded"):
            row.refuse(row.attempt, seen.code or "refund_failed")
    elif row.status in ("pending", "succeeded"):
        row.status, row.amount_cents, row.failure_code = seen.status, seen.amount_cents, seen.code
    return True


def foreign_key(seen: RefundSeen, payment_key: str) -> str:
    return ids.digest(payment_key, "gateway", seen.reference)


async def _write_foreign(
    connection: Connection, payment_key: str, payment: Any, found: list[RefundSeen], rows: dict[str, Row]
) -> None:
    """Insert refunds that were made at the gateway itself. They reduce what is owed first: the customer has that money."""
    for seen in found:
        await refunds.add_foreign(
            connection, foreign_key(seen, payment_key), payment["booking"], payment_key, seen.amount_cents,
            payment["currency"], seen.status, seen.reference, seen.code,
        )  # fmt: skip
        log.warning("refund.found", booking_id=payment["booking"], payment_key=payment_key,
                    amount_cents=seen.amount_cents, status=seen.status)  # fmt: skip
        left = seen.amount_cents
        for row in rows.values():
            if row.status == "owed" and row.before[0] == "owed":
                left -= lessen(row, max(0, row.amount_cents - left))


def fit(rows: dict[str, Row], left_cents: int, refused: Row | None) -> None:
    """Ask for no more than is left. What the gateway refused because too little was left is asked for again, if that is
    why; a request for more than is left that is still on its way will be refused, too."""
    open_rows = [row for row in rows.values() if row.status == "due"]
    for row in open_rows + [row for row in rows.values() if row.status == "owed"]:
        wanted = row.amount_cents
        if wanted > max(0, left_cents):
            lessen(row, max(0, left_cents))
            if row is refused and row.status == "owed":
                row.status, row.failure_code = "due", None
        left_cents -= row.amount_cents


def lessen(row: Row, cents: int) -> int:
    """Ask for `cents` only; for 0 it counts as paid. Returns by how much its amount fell."""
    less, row.amount_cents = row.amount_cents - cents, cents
    if cents == 0:
        row.status, row.failure_code = "succeeded", None
    return less


async def _write_dispute(connection: Connection, payment_key: str, payment: Any, dispute: DisputeSeen) -> None:
    changed = await looks.record_dispute(
        connection, payment["gateway"], dispute.reference, payment_key, dispute.amount_cents, dispute.status,
        dispute.reason, dispute.withdrawn,
    )  # fmt: skip
    if changed:
        log.error("dispute.told", booking_id=payment["booking"], payment_key=payment_key, status=dispute.status,
                  reason=dispute.reason, amount_cents=dispute.amount_cents)  # fmt: skip


def _say(row: Row, booking: str) -> None:
    if row.status == "owed" and row.before[0] != "owed":
        log.error("refund.refused", refund_key=row.refund_key, booking_id=booking, code=row.failure_code,
                  amount_cents=row.amount_cents, before=row.before[0])  # fmt: skip
