"""What is on sale: events and tiers, who else may sell them, and who changed them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.states import EVENT_STATUSES
from boxoffice.stores.models.base import Base, Dated, one_of

__all__ = ["AccessCode", "Allocation", "CallOff", "Event", "EventChange", "EventShare", "Tier"]


class Event(Dated, Base):
    """Something people attend."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint(one_of("status", EVENT_STATUSES), name="status"),
        CheckConstraint("off_sale_at > on_sale_at", name="off_sale_at"),
        Index("ix_events_unmirrored", "shard", postgresql_where=text("mirrored < version")),
        CheckConstraint("shard >= 0 AND shard < 4096", name="shard"),
        CheckConstraint("customer_max IS NULL OR customer_max > 0", name="customer_max"),
        CheckConstraint("booking_min > 0 AND booking_max > 0 AND customer_min > 0", name="rules"),
        CheckConstraint("char_length(currency) = 3", name="currency"),
        CheckConstraint("refund_percent BETWEEN 0 AND 100", name="refund_percent"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    shard: Mapped[int]
    name: Mapped[str]
    starts_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(server_default="active")
    currency: Mapped[str] = mapped_column(server_default="USD")
    customer_max: Mapped[int | None]
    """Most tickets one customer may hold or buy; NULL for any number."""
    cancel_until: Mapped[datetime | None]
    """Until when shops may cancel a confirmed booking; NULL: until the event starts."""
    refund_percent: Mapped[int] = mapped_column(server_default="100")
    """Share of the price that a cancellation gives back."""
    on_sale_at: Mapped[datetime | None]
    """From when it may be booked, by Redis's clock; NULL: at once."""
    off_sale_at: Mapped[datetime | None]
    """Until when; NULL: until it starts."""
    version: Mapped[int] = mapped_column(BigInteger, server_default="1")
    """Changes of the event and its tiers so far, the first of which made it. Shops name it in `If-Match`."""
    codes_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The version with which its access codes were last changed; 0: it has never had any."""
    mirrored: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The version that Redis has. Below `version`: a worker's sweep brings the event there."""
    booking_min: Mapped[int | None]
    """Least tickets of one booking; NULL for any number, as of all these rules."""
    booking_max: Mapped[int | None]
    customer_min: Mapped[int | None]
    """Least tickets that a customer has once a booking is in: held, bought and this one's."""


class EventShare(Base):
    """Another shop that may sell an event."""

    __tablename__ = "event_shares"
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"), primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Tier(Dated, Base):
    """A class of ticket with a price and a capacity."""

    __tablename__ = "tiers"
    __table_args__ = (
        Index("uq_tiers_event_id_code", "event_id", "code", unique=True),
        CheckConstraint("price_cents >= 0", name="price_cents"),
        CheckConstraint("off_sale_at > on_sale_at", name="off_sale_at"),
        CheckConstraint("booking_min > 0 AND booking_max > 0 AND customer_min > 0 AND customer_max > 0", name="rules"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    code: Mapped[str]
    name: Mapped[str]
    price_cents: Mapped[int]
    display_order: Mapped[int] = mapped_column(server_default="0")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    on_sale_at: Mapped[datetime | None]
    """In place of the event's; NULL: the event's."""
    off_sale_at: Mapped[datetime | None]
    booking_min: Mapped[int | None]
    """Tickets of this tier, beside the event's rules: a booking has to keep both."""
    booking_max: Mapped[int | None]
    customer_min: Mapped[int | None]
    customer_max: Mapped[int | None]
    code_only: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Sold to holders of an access code alone."""


class AccessCode(Base):
    """A code that lets its holder book. What it reads is nowhere."""

    __tablename__ = "access_codes"
    __table_args__ = (
        Index("uq_access_codes_event_id_digest", "event_id", "digest", unique=True),
        Index("ix_access_codes_event_id_id", "event_id", "id"),
        CheckConstraint("tickets > 0", name="tickets"),
        CheckConstraint("valid_until > valid_from", name="valid_until"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    digest: Mapped[str]
    """First 128 bits of its SHA-256, as hex: see `ids.code_digest`."""
    tier_id: Mapped[str | None] = mapped_column(ForeignKey("tiers.id"))
    """The only tier that it is for; NULL: any."""
    tickets: Mapped[int]
    """Held and bought with it at a time, at most."""
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    label: Mapped[str | None]
    version: Mapped[int] = mapped_column(BigInteger)
    """Of the event when it was made, or revoked."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class Allocation(Base):
    """Tickets of a tier that are set aside for one shop or one access code."""

    __tablename__ = "allocations"
    __table_args__ = (
        Index("ix_allocations_event_id_id", "event_id", "id"),
        Index(
            "uq_allocations_tier_id_client_id", "tier_id", "client_id", unique=True,
            postgresql_where=text("released_at IS NULL"),
        ),
        Index(
            "uq_allocations_tier_id_code_id", "tier_id", "code_id", unique=True,
            postgresql_where=text("released_at IS NULL"),
        ),
        CheckConstraint("tickets >= 0", name="tickets"),
        CheckConstraint("(client_id IS NULL) <> (code_id IS NULL)", name="holder"),
    )  # fmt: skip
    id: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    tier_id: Mapped[str] = mapped_column(ForeignKey("tiers.id"))
    client_id: Mapped[str | None] = mapped_column(ForeignKey("clients.id"))
    code_id: Mapped[str | None] = mapped_column(ForeignKey("access_codes.id"))
    tickets: Mapped[int]
    """What its holder has of the tier, held or bought, counts as taken from these."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]


class EventChange(Base):
    """Who changed what of an event, and when: written by the transaction that did."""

    __tablename__ = "event_changes"
    __table_args__ = (Index("ix_event_changes_event_id_id", "event_id", "id"),)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    tier_id: Mapped[str | None]
    """NULL for the event itself."""
    version: Mapped[int] = mapped_column(BigInteger)
    """Of the event, once it was changed."""
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[str]
    """`key:` and an API key's prefix, or `operator:` and a login name."""
    action: Mapped[str]
    changes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Field to [before, after]."""


class CallOff(Base):
    """An event that will not take place: a worker ends its holds and gives its money back, until `finished_at`."""

    __tablename__ = "call_offs"
    __table_args__ = (Index("ix_call_offs_unfinished", "event_id", postgresql_where=text("finished_at IS NULL")),)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"), primary_key=True)
    reason: Mapped[str]
    called_off_by: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
