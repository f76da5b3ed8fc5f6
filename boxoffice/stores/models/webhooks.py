"""Where shops want to be told what happens, with which secrets it is signed, and what was delivered."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.states import DELIVERY_STATUSES
from boxoffice.stores.models.base import Base, Dated, one_of

__all__ = ["WebhookDelivery", "WebhookEndpoint", "WebhookSecret"]


class WebhookEndpoint(Dated, Base):
    """A URL of a shop that notices are sent to, and how far it is."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("status IN ('enabled', 'disabled')", name="status"),
        CheckConstraint("(status = 'disabled') = (disabled_reason IS NOT NULL)", name="disabled_reason"),
        Index(
            "uq_webhook_endpoints_client_id_url", "client_id", "url", unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # Its place moves with every round: no index changes then, and there is room on its page.
        {"postgresql_with": {"fillfactor": "50"}},
    )  # fmt: skip
    id: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"))
    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Of notices; none: all."""
    label: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="enabled")
    disabled_reason: Mapped[str | None]
    """`asked`, `gone` (it answered 410) or `failing`."""
    disabled_at: Mapped[datetime | None]
    position: Mapped[int] = mapped_column(BigInteger)
    """With `step` its place in the record: the last notice that was sent or passed over."""
    step: Mapped[int] = mapped_column(BigInteger)
    behind: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Nobody has seen that there is nothing after its place."""
    failures: Mapped[int] = mapped_column(server_default="0")
    """Rounds in a row in which it took nothing."""
    failing_since: Mapped[datetime | None]
    """Its first failure after the last delivery."""
    paused_until: Mapped[datetime | None]
    slow: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """It failed, or took its time, in the last round."""
    delivered_at: Mapped[datetime | None]
    lease: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Claims so far: the number of the last one."""
    leased_until: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class WebhookSecret(Base):
    """What notices to an endpoint are signed with: the latest, and the one before it while that says so."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index("ix_webhook_secrets_endpoint_id_id", "endpoint_id", "id"),)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    secret: Mapped[str]
    before_until: Mapped[datetime | None]
    """Until when the one before signs as well; NULL: there is none."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """One notice and one endpoint that it was sent to: the log, and what is to be tried again."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("status", DELIVERY_STATUSES), name="status"),
        CheckConstraint("(status = 'waiting') = (next_at IS NOT NULL)", name="next_at"),
        Index("uq_webhook_deliveries_endpoint_id_notice_id", "endpoint_id", "notice_id", unique=True),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_endpoint_id_next_at", "endpoint_id", "next_at",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index("ix_webhook_deliveries_since", "since"),
    )  # fmt: skip
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    endpoint_id: Mapped[str]
    """No foreign key: it would be looked at for every delivery."""
    notice_id: Mapped[str]
    type: Mapped[str]
    body: Mapped[str]
    """As it was sent, and is sent again."""
    status: Mapped[str]
    tries: Mapped[int]
    next_at: Mapped[datetime | None]
    failure: Mapped[str | None]
    """Why the last try failed; NULL: it did not."""
    answer: Mapped[int | None]
    """HTTP status of the last try."""
    took_ms: Mapped[int]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    """Of its first try, or of the request that it be sent anew."""
    tried_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
