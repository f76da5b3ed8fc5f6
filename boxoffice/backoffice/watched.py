"""What is shown of a sale to those who watch it: one struct for each thing, as `watching.py` fills it in."""

from __future__ import annotations

from msgspec import Struct

__all__ = [
    "Counters",
    "Figures",
    "MoneyDue",
    "SaleFigures",
    "ServerFigures",
    "ShardFigures",
    "Spread",
    "TierFigures",
    "WorkerFigures",
]


class TierFigures(Struct, frozen=True):
    """One tier in tickets. Redis's word, by which sold, held and available add up to total; while it is away PostgreSQL's, and
    the others are None. `pending` and `unpaid` are parts of `held`: a payment is under way, or a hold waits for one; None while
    there are more holds than are read for it."""

    id: str
    code: str
    name: str
    price_cents: int
    is_active: bool
    total: int
    sold: int
    held: int | None
    pending: int | None
    unpaid: int | None
    available: int | None


class SaleFigures(Struct, frozen=True):
    """An event. `on_sale`: a tier of it is in its time, also while it is paused."""

    event_id: str
    name: str
    client_id: str
    status: str
    on_sale: bool
    starts_at: str
    on_sale_at: str | None
    off_sale_at: str | None
    version: int
    currency: str
    tiers: list[TierFigures]


class ShardFigures(Struct, frozen=True):
    """As `ShardGlance`."""

    shard: int
    gate: str
    backlog: int
    oldest_s: float
    holds: int
    parked: int
    drifted: int | None
    workers: int


class WorkerFigures(Struct, frozen=True):
    """A worker that lives."""

    host: str
    pid: int
    started_at: str
    seen_at: str


class MoneyDue(Struct, frozen=True):
    """What is due at the gateway of one kind: capture, void, refund; owed: refunds that it refused."""

    kind: str
    count: int
    oldest_s: float


class ServerFigures(Struct, frozen=True):
    """One Redis: memory in bytes, and whether its append-only file is written; None where it does not say."""

    redis: int
    used_bytes: int | None
    max_bytes: int | None
    file_ok: bool | None


class Spread(Struct, frozen=True):
    """How often each bucket was met: `counts` has one more than `bounds`, seconds, for what is longer."""

    bounds: list[float]
    counts: list[int]


class Counters(Struct, frozen=True):
    """Counts that only grow, until Redis is emptied. `admitted`: bookings let in; `refused`: by kind; `confirmed` and `failed`:
    bookings that workers decided so."""

    admitted: int
    replayed: int
    confirmed: int
    failed: int
    refused: dict[str, int]
    accept_to_commit: Spread


class Figures(Struct, frozen=True):
    """All of it at one moment. `workers`: None while no Redis answers; `money`, `sales`, `alerts` and `moves`: while PostgreSQL
    does not. `alerts`: sentences of shards that wait for an operator. `moves`: tickets' moves that Redis has not heard of.
    `undelivered_s`: age of the oldest notice for an endpoint that takes what it is sent. `disabled`: endpoints that we gave
    up. `sums`: what processes have counted, by its name."""

    at: str
    at_ms: int
    counters: Counters
    shards: list[ShardFigures]
    workers: list[WorkerFigures] | None
    servers: list[ServerFigures]
    money: list[MoneyDue] | None
    moves: int | None
    alerts: list[str] | None
    undelivered_s: float | None
    disabled: int | None
    sales: list[SaleFigures] | None
    sums: dict[str, int]
