"""What PostgreSQL remembers of the shards of Redis, and of this installation."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from boxoffice.stores.models.base import Base

__all__ = ["Batch", "Installation", "Shard"]


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
