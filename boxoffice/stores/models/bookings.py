"""What was sold: stock, bookings and their items, and what has become of those that could not be settled."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, LargeBinary, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.states import BOOKING_STATES
from boxoffice.stores.models.base import Base, Dated, one_of

__all__ = ["Booking", "BookingItem", "BookingTrace", "DeadLetter", "Intervention", "Inventory", "StockMove"]


class Inventory(Dated, Base):
    """What was sold of a tier. What is still available, or held, is Redis's to know."""

    __tablename__ = "inventory"
    __table_args__ = (
        CheckConstraint("total >= 0", name="total"),
        CheckConstraint("sold >= 0", name="sold"),
        CheckConstraint("sold <= total", name="sold_within_total"),
        {"postgresql_with": {"fillfactor": "50"}},
    )
    tier_id: Mapped[str] = mapped_column(ForeignKey("tiers.id"), primary_key=True)
    total: Mapped[int]
    sold: Mapped[int] = mapped_column(server_default="0")
    called_off: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Nothing more of it is sold, whatever was admitted. Here and not with the event: it is read under this row's lock."""
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")


class Booking(Base):
    """One customer's purchase, from its first payment attempt on."""

    __tablename__ = "bookings"
    __table_args__ = (
        CheckConstraint(one_of("status", BOOKING_STATES), name="status"),
        CheckConstraint("amount_cents >= 0", name="amount_cents"),
        Index(
            "uq_bookings_idempotency",
            # What tells rows apart comes first: in a rush all have client and event in common.
            "idempotency_key",
            "client_id",
            "event_id",
            unique=True,
            postgresql_where=text("duplicate_of IS NULL"),
        ),
        Index("ix_bookings_client_id_id", "client_id", "id"),
        # Those that lists read (`boxoffice/bookings/listing.py`).
        Index("ix_bookings_event_id_client_id_id", "event_id", "client_id", "id"),
        Index(
            # What is confirmed is most of all: it costs a sale nothing.
            "ix_bookings_client_id_status_id",
            "client_id",
            "status",
            "id",
            postgresql_where=text("status <> 'confirmed'"),
        ),
        Index("ix_bookings_customer_id_client_id_id", "customer_id", "client_id", "id"),
        Index(
            "ix_bookings_client_id_reference_id",
            "client_id",
            "reference",
            "id",
            postgresql_where=text("reference IS NOT NULL"),
        ),
        Index("ix_bookings_client_id_updated_at_id", "client_id", "updated_at", "id"),
        Index("ix_bookings_access_code", "event_id", "access_code", postgresql_where=text("access_code IS NOT NULL")),
        Index("ix_bookings_undecided", "updated_at", postgresql_where=text("status IN ('pending', 'held')")),
    )
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    client_id: Mapped[str]
    event_id: Mapped[str]
    """No foreign keys: what settlement writes exists (`rows.vouch`), and looking it up for every row is dear."""
    customer_id: Mapped[str]
    owner: Mapped[str | None]
    """Of a customer who was forgotten: by what its tickets count against its limit. NULL: by `ids.owner_digest`."""
    reference: Mapped[str | None]
    status: Mapped[str]
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    idempotency_key: Mapped[str]
    """First 128 bits of the key's SHA-256, as hex. The key itself is never stored."""
    fingerprint: Mapped[str]
    duplicate_of: Mapped[UUID | None] = mapped_column(Uuid)
    """The booking that used the same key first, while Redis had forgotten it."""
    failure_code: Mapped[str | None]
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Place in its shard's order of admission."""
    expires_at: Mapped[datetime | None]
    """Deadline of the hold; NULL for a booking posted with its payment."""
    access_code: Mapped[str | None]
    """Digest of the access code that it was made with. Never the code; and no foreign key, for the same reason."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When its status changed last, or tickets of it came back. The time of the transaction that did it."""
    described: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB(none_as_null=True))
    """The shop's own words, string to string. Nobody looks in them."""
    return_url: Mapped[str | None]
    """Where its customer comes back to from the bank; NULL: where all do."""


class BookingItem(Base):
    """One tier and a quantity in a booking."""

    __tablename__ = "booking_items"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("refunded BETWEEN 0 AND quantity", name="refunded"),
        CheckConstraint("line_total_cents >= 0", name="line_total_cents"),
    )
    booking_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    """No foreign key: the same transaction writes the booking, and none is ever deleted."""
    tier_id: Mapped[str] = mapped_column(primary_key=True)
    """No foreign key, for the reason of `Booking.client_id`."""
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]
    line_total_cents: Mapped[int] = mapped_column(BigInteger)
    refunded: Mapped[int] = mapped_column(server_default="0")
    """Tickets of this item that were cancelled or refunded, and so went back on sale."""


class BookingTrace(Base):
    """The trace of a sampled booking: what becomes of it later is shown there."""

    __tablename__ = "booking_traces"
    __table_args__ = (Index("ix_booking_traces_created_at", "created_at"),)
    booking_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    """No foreign key, for the reason of `BookingItem.booking_id`."""
    traceparent: Mapped[str]
    """Of the request that it came with (W3C Trace Context)."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StockMove(Base):
    """Stock that PostgreSQL moved outside a settlement, until Redis has moved it too."""

    __tablename__ = "stock_moves"
    __table_args__ = (
        Index("ix_stock_moves_open", "event_id", postgresql_where=text("applied_at IS NULL")),
        Index("ix_stock_moves_applied_at", "applied_at", postgresql_where=text("applied_at IS NOT NULL")),
        Index("ix_stock_moves_booking_id", "booking_id"),
    )
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    tier_id: Mapped[str] = mapped_column(ForeignKey("tiers.id"))
    nonce: Mapped[int] = mapped_column(BigInteger, server_default=text("(random() * 9007199254740991)::bigint"))
    """After a restore the id comes again, and Redis remembers those of a week: the nonce does not."""
    booking_id: Mapped[UUID | None] = mapped_column(Uuid)
    sold_delta: Mapped[int] = mapped_column(server_default="0")
    total_delta: Mapped[int] = mapped_column(server_default="0")
    owner: Mapped[str | None]
    """Whose tickets they were, as counted in the limits: see `ids.owners_of`."""
    refund_key: Mapped[str | None]
    """The refund that came with it. No foreign key: both are written by one transaction."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    applied_at: Mapped[datetime | None]


class DeadLetter(Dated, Base):
    """A booking that could not be settled, with the record as Redis had it. Parked once `parked_at` is set."""

    __tablename__ = "dead_letters"
    booking_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
    error: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    parked_at: Mapped[datetime | None]


class Intervention(Base):
    """What an operator did by hand, who, and how it ended: written before it is done. Without an outcome it was cut off."""

    __tablename__ = "interventions"
    __table_args__ = (Index("ix_interventions_booking_id", "booking_id"),)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    verb: Mapped[str]
    operator: Mapped[str]
    booking_id: Mapped[UUID | None] = mapped_column(Uuid)
    """No foreign key: of a hold that nobody tried to pay only Redis knows."""
    reason: Mapped[str | None]
    outcome: Mapped[str | None]
    refund_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
