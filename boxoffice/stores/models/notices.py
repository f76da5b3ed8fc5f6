"""What shops are told of: one row a change, or a batch of changes of one kind."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, Identity, Index, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.stores.models.base import Base

__all__ = ["Notice", "NoticeHead"]


class Notice(Base):
    """Changes of one kind that one transaction made for one shop; written by the transaction that made them."""

    __tablename__ = "notices"
    __table_args__ = (
        CheckConstraint("(position IS NULL) = (nonce IS NULL)", name="position"),
        # Not that the arrays are so long: PostgreSQL would read them again when a place is given.
        CheckConstraint("size > 0", name="size"),
        Index("uq_notices_position", "position", unique=True),
        Index("ix_notices_client_id_position", "client_id", "position"),
        Index("ix_notices_fresh", "id", postgresql_where=text("position IS NULL")),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    """In the order of writing: of one booking in the order of its changes, as each is written under the row's lock."""
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Place in the feed, given behind the commit; NULL: none yet."""
    nonce: Mapped[int | None]
    """Random: another line of history comes to the same position, and never to the same nonce."""
    client_id: Mapped[str]
    """Whom it is told. No foreign key, for the reason of `Booking.client_id`."""
    event_id: Mapped[str | None]
    type: Mapped[str]
    """One of `boxoffice/notices/types.py`."""
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    size: Mapped[int] = mapped_column(server_default="1")
    """How many changes: the length of each array that is there."""
    bookings: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Of each change its payment, refund or dispute; only refunds' are told."""
    cents: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    """Of each change how much moves, in minor units."""
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    """What all of them have in common."""


class NoticeHead(Base):
    """Where the feed begins and ends, the only row. Who gives places holds its lock."""

    __tablename__ = "notice_head"
    __table_args__ = (CheckConstraint("one", name="one"), CheckConstraint("trimmed <= position", name="trimmed"))
    one: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=text("true"))
    position: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last place that was given; `nonce` is that notice's."""
    nonce: Mapped[int] = mapped_column(server_default="0")
    trimmed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last place whose notice retention has let go, with its nonce; 0: none yet."""
    trimmed_nonce: Mapped[int] = mapped_column(server_default="0")
    trimmed_at: Mapped[datetime | None]
    """No notice that was let go is of a later time."""
    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """What was changed before this has no notice."""
