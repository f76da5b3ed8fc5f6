"""Who may sell: clients, their keys, and what was done to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.stores.models.base import Base, Dated

__all__ = ["ApiKey", "Client", "KeyChange"]

_SCOPE: Final = "(browse|read|book|refund|manage|ops)"


class Client(Dated, Base):
    """A shop that sells through us."""

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    return_url: Mapped[str | None]
    """Where customers come back to from the bank when their booking does not say; NULL: where all do."""
    return_urls: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """What a booking may say: each an origin, or the beginning of a path there."""


class ApiKey(Dated, Base):
    """A secret of a client. Bookings follow the client, so a key may be replaced at any time."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"scopes ~ '^{_SCOPE}( {_SCOPE})*$'", name="scopes"),
        CheckConstraint("rate_max > 0", name="rate_max"),
    )
    prefix: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    secret_sha256: Mapped[str]
    scopes: Mapped[str] = mapped_column(server_default="browse read book refund manage")
    """What it may be used for, with blanks between."""
    origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Web pages that it is for; none: it is no page's."""
    rate_max: Mapped[int | None]
    """Bookings that it may ask for in a window and shard; NULL: as many as all keys (`rates.key_max`)."""
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
