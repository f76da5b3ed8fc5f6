"""The tables. PostgreSQL decides what became of a booking; these rows are that decision.

Money is in minor units (cents) beside an ISO 4217 currency; times carry their zone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from boxoffice.states import (
    BOOKING_STATES,
    EVENT_STATUSES,
    PAYMENT_DUES,
    PAYMENT_STATUSES,
    REFUND_ORIGINS,
    REFUND_STATUSES,
)

__all__ = [
    "ApiKey",
    "Base",
    "Batch",
    "Booking",
    "BookingItem",
    "CallOff",
    "Captures",
    "Client",
    "DeadLetter",
    "Dispute",
    "Event",
    "EventChange",
    "EventShare",
    "Installation",
    "Intervention",
    "Inventory",
    "KeyChange",
    "Look",
    "Payment",
    "Refund",
    "Shard",
    "StockMove",
    "Tier",
    "WebhookEvent",
]

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


_SCOPE: Final = "(browse|read|book|refund|manage|ops)"


class Base(DeclarativeBase):
    """Names of constraints follow one pattern, so that migrations can speak of them."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True), int: Integer}  # noqa: RUF012


class _Dated:
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Client(_Dated, Base):
    """A shop that sells through us."""

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class ApiKey(_Dated, Base):
    """A secret of a client. Bookings follow the client, so a key may be replaced at any time."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint(f"scopes ~ '^{_SCOPE}( {_SCOPE})*$'", name="scopes"),)
    prefix: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    secret_sha256: Mapped[str]
    scopes: Mapped[str] = mapped_column(server_default="browse read book refund manage")
    """What it may be used for, with blanks between."""
    origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Web pages that it is for; none: it is no page's."""
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(
        BigInteger, server_default=text("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    )
    """Later with every change, also after PostgreSQL lost some: Redis keeps the latest."""


class KeyChange(Base):
    """What was done to an API key, by whom. Written beside the change, never changed."""

    __tablename__ = "key_changes"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    prefix: Mapped[str] = mapped_column(index=True)
    client_id: Mapped[str]
    change: Mapped[str]
    actor: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Event(_Dated, Base):
    """Something people attend."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint(_one_of("status", EVENT_STATUSES), name="status"),
        CheckConstraint("off_sale_at > on_sale_at", name="off_sale_at"),
        Index("ix_events_unmirrored", "shard", postgresql_where=text("mirrored < version")),
        CheckConstraint("shard >= 0 AND shard < 4096", name="shard"),
        CheckConstraint("customer_max IS NULL OR customer_max > 0", name="customer_max"),
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
    """Tickets one customer may hold or buy; NULL for any number."""
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
    mirrored: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The version that Redis has. Below `version`: a worker's sweep brings the event there."""


class EventShare(Base):
    """Another shop that may sell an event."""

    __tablename__ = "event_shares"
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"), primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Tier(_Dated, Base):
    """A class of ticket with a price and a capacity."""

    __tablename__ = "tiers"
    __table_args__ = (
        Index("uq_tiers_event_id_code", "event_id", "code", unique=True),
        CheckConstraint("price_cents >= 0", name="price_cents"),
        CheckConstraint("off_sale_at > on_sale_at", name="off_sale_at"),
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


class Inventory(_Dated, Base):
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
        CheckConstraint(_one_of("status", BOOKING_STATES), name="status"),
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
        # Those that lists read (`bookings._LEADS`).
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
        Index("ix_bookings_undecided", "updated_at", postgresql_where=text("status IN ('pending', 'held')")),
    )
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    client_id: Mapped[str]
    event_id: Mapped[str]
    """No foreign keys: what settlement writes exists (`rows.vouch`), and looking it up for every row is dear."""
    customer_id: Mapped[str]
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
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


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


class Payment(Base):
    """One attempt to pay a booking, and what is still due at the gateway: the outbox of captures and voids."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint(_one_of("status", PAYMENT_STATUSES), name="status"),
        CheckConstraint(f"due IS NULL OR {_one_of('due', PAYMENT_DUES)}", name="due"),
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


class Refund(_Dated, Base):
    """Money on its way back, or owed: what a customer is to have again, until it is paid or a person writes it off."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint(_one_of("status", REFUND_STATUSES), name="status"),
        CheckConstraint(_one_of("origin", REFUND_ORIGINS), name="origin"),
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


class Dispute(_Dated, Base):
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
    """Whose tickets they were, as counted in the customer limit."""
    refund_key: Mapped[str | None]
    """The refund that came with it. No foreign key: both are written by one transaction."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    applied_at: Mapped[datetime | None]


class DeadLetter(_Dated, Base):
    """A booking that could not be settled, with the record as Redis had it. Parked once `parked_at` is set."""

    __tablename__ = "dead_letters"
    booking_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
    error: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    parked_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """A gateway's message, kept in the transaction that acted on it: a second delivery finds it here."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index("ix_webhook_events_received_at", "received_at"),)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    payment_key: Mapped[str | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Shard(Base):
    """What PostgreSQL remembers of a shard's Redis, to notice when either went back in time."""

    __tablename__ = "shards"
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    settled: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Kept for processes of the version before `batch`."""
    settled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    run_id: Mapped[str] = mapped_column(server_default="")
    alert: Mapped[str | None]
    """Why the shard stays closed until an operator decides."""
    server: Mapped[str] = mapped_column(server_default="")
    """Which server and line of history PostgreSQL was on when a guard last looked (`boxoffice/stores/lineage.py`)."""
    batch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Number of the shard's last batch. Whoever takes the next holds this row's lock until its commit."""


class Batch(Base):
    """One transaction that moved a shard's stock or money: who was told of its pair was told of all before it."""

    __tablename__ = "batches"
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    nonce: Mapped[int] = mapped_column(BigInteger)
    """Random: another line of history comes to the same number, and never to the same nonce."""


class Installation(Base):
    """The name of this installation, the only row: payments bear it at the gateway."""

    __tablename__ = "installations"
    __table_args__ = (CheckConstraint("one", name="one"),)
    one: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


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
