"""What was paid, what is due at the gateway, and what went back."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.states import PAYMENT_DUES, PAYMENT_STATUSES, REFUND_ORIGINS, REFUND_STATUSES
from boxoffice.stores.models.base import Base, Dated, one_of

__all__ = ["Captures", "Dispute", "Look", "Payment", "Refund", "WebhookEvent"]


class Payment(Base):
    """One attempt to pay a booking, and what is still due at the gateway: the outbox of captures and voids."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint(one_of("status", PAYMENT_STATUSES), name="status"),
        CheckConstraint(f"due IS NULL OR {one_of('due', PAYMENT_DUES)}", name="due"),
        CheckConstraint("amount_cents >= 0", name="amount_cents"),
        CheckConstraint("refunded_cents BETWEEN 0 AND amount_cents", name="refunded_cents"),
        Index("ix_payments_booking_id", "booking_id"),
        Index("ix_payments_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        # Room on its page for the version that says "captured": no index changes then.
        {"postgresql_with": {"fillfactor": "50"}},
    )
    payment_key: Mapped[str] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(Uuid)
    """No foreign key, for the reason of `BookingItem.booking_id`."""
    gateway: Mapped[str]
    """Whose books it stands in (`boxoffice/gateway/accounts.py`). No other gateway is asked about it."""
    method: Mapped[str]
    card_name: Mapped[str | None]
    last4: Mapped[str | None]
    token: Mapped[str | None]
    """What the gateway takes instead of a card number; asks again for the same payment with the same key."""
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    refunded_cents: Mapped[int] = mapped_column(BigInteger, server_default="0")
    currency: Mapped[str]
    status: Mapped[str]
    reference: Mapped[str | None]
    """The gateway's own id of the payment."""
    failure_code: Mapped[str | None]
    next_action: Mapped[str | None]
    """Where the customer has to go before the payment can go on."""
    due: Mapped[str | None]
    due_at: Mapped[datetime | None]
    """When to claim this row; NULL while its capture is listed in `captures`."""
    due_since: Mapped[datetime | None]
    """Since when it is due, if it was put off: every try moves `due_at`, none moves this. NULL: since `updated_at`."""
    leased_until: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Captures(Base):
    """Payments of one settled batch, to be captured by the worker that settled it. When its lease ends before they are
    marked, each becomes due by itself."""

    __tablename__ = "captures"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    payment_keys: Mapped[list[str]] = mapped_column(ARRAY(Text))
    leased_until: Mapped[datetime]
    client_id: Mapped[str | None]
    """Whose payments they are, if all are of one shop and event; NULL: their bookings tell."""
    event_id: Mapped[str | None]


class Refund(Dated, Base):
    """Money on its way back, or owed: what a customer is to have again, until it is paid or a person writes it off."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint(one_of("status", REFUND_STATUSES), name="status"),
        CheckConstraint(one_of("origin", REFUND_ORIGINS), name="origin"),
        CheckConstraint("amount_cents >= 0", name="amount_cents"),
        CheckConstraint("status <> 'owed' OR (owed_since IS NOT NULL AND failure_code IS NOT NULL)", name="owed"),
        CheckConstraint(
            "(status = 'written_off') = (written_off_at IS NOT NULL AND coalesce(written_off_by, '') <> ''"
            " AND coalesce(written_off_reason, '') <> '')",
            name="written_off",
        ),
        Index("ix_refunds_booking_id", "booking_id"),
        Index("ix_refunds_payment_key", "payment_key"),
        Index("ix_refunds_due_at", "due_at", postgresql_where=text("status = 'due'")),
        Index("ix_refunds_owed_since", "owed_since", postgresql_where=text("status = 'owed'")),
    )
    refund_key: Mapped[str] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.id"))
    payment_key: Mapped[str | None] = mapped_column(ForeignKey("payments.payment_key"))
    """NULL for a booking that was free: it has no payment."""
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    fingerprint: Mapped[str | None]
    """What the refund's key was used for; NULL for refunds that no key asked for."""
    status: Mapped[str] = mapped_column(server_default="due")
    reason: Mapped[str]
    origin: Mapped[str] = mapped_column(server_default="shop")
    """Who began it."""
    attempt: Mapped[int] = mapped_column(server_default="0")
    """How often the gateway is known to have refused it. Each attempt has a key of its own at the gateway, and the next
    one begins only when the last is known to be refused: so no two of them pay."""
    reference: Mapped[str | None]
    """The gateway's own id of the refund."""
    failure_code: Mapped[str | None]
    """The gateway's last word on why it is not paid."""
    owed_since: Mapped[datetime | None]
    """When the gateway refused it first."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_since: Mapped[datetime] = mapped_column(server_default=func.now())
    """Since when it is due: every try moves `due_at`, none moves this."""
    leased_until: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    """How often this attempt was asked for."""
    written_off_at: Mapped[datetime | None]
    written_off_by: Mapped[str | None]
    written_off_reason: Mapped[str | None]
    items: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Tickets that came back with it, tier to quantity. NULL: none, or nobody remembers."""


class Dispute(Dated, Base):
    """A payment that a customer disputes at the bank, as the gateway tells of it."""

    __tablename__ = "disputes"
    gateway: Mapped[str] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(primary_key=True)
    """The gateway's own id of the dispute."""
    payment_key: Mapped[str] = mapped_column(ForeignKey("payments.payment_key"), index=True)
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str]
    """The gateway's word: `needs_response`, `under_review`, `won`, `lost`, …"""
    reason: Mapped[str]
    withdrawn: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether the gateway has taken the money from the shop for now, or for good."""


class Look(Base):
    """A payment whose refunds and disputes are to be read at the gateway: it told of some, or one is pending there."""

    __tablename__ = "looks"
    __table_args__ = (Index("ix_looks_due_at", "due_at"),)
    payment_key: Mapped[str] = mapped_column(ForeignKey("payments.payment_key"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    leased_until: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default="0")


class WebhookEvent(Base):
    """A gateway's message, kept in the transaction that acted on it: a second delivery finds it here."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index("ix_webhook_events_received_at", "received_at"),)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    payment_key: Mapped[str | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
