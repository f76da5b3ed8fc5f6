"""Bodies for operators, as the documentation shows them; see `api/schemas.py`, which has those for shops.

One file because each figure of `boxoffice/backoffice/watched.py` stands here once more, with its words for readers.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas import Body, Booking, Time

__all__ = [
    "Alerts",
    "DeskCancelRequest",
    "DeskRefundRequest",
    "Dossier",
    "FailedParked",
    "Figures",
    "FoundBookings",
    "OperatorsHistory",
    "ParkedList",
    "ReconcileRequest",
    "Reconciled",
    "RetriedParked",
    "SaleInFigures",
    "Session",
]


class Session(Body):
    """Who calls: an API key, or the key that a session stands for."""

    api_key: str = Field(description="The key's prefix; its secret is never shown.")
    client_id: str
    scopes: list[str]


class WatchedTier(Body):
    """One tier, in tickets: sold, held and available add up to total."""

    id: str
    code: str
    name: str
    price_cents: int
    is_active: bool
    total: int
    sold: int
    held: int | None = Field(description="Null while Redis does not answer.")
    pending: int | None = Field(description="Of those held: a payment is under way. Null: too many holds to say.")
    unpaid: int | None = Field(description="Of those held: a hold waits for its payment.")
    available: int | None


class WatchedSale(Body):
    """An event, with what of it is sold."""

    event_id: str
    name: str
    client_id: str
    status: Literal["active", "paused", "inactive", "called_off"]
    on_sale: bool = Field(description="A tier of it is in its time, also while it is paused.")
    starts_at: Time
    on_sale_at: Time | None
    off_sale_at: Time | None
    version: int
    currency: str
    tiers: list[WatchedTier]


class WatchedShard(Body):
    """One shard. `away`: its Redis does not answer."""

    shard: int
    gate: Literal["open", "closed", "unchecked", "away"]
    backlog: int = Field(description="Bookings that wait to be settled.")
    oldest_s: float = Field(description="Seconds for which the first of them has been due.")
    holds: int
    parked: int
    drifted: int | None = Field(description="Events whose counters differed at the last count; null: not counted yet.")
    workers: int


class WatchedWorker(Body):
    """A worker that lives."""

    host: str
    pid: int
    started_at: Time
    seen_at: Time


class WatchedServer(Body):
    """One Redis."""

    redis: int
    used_bytes: int | None
    max_bytes: int | None
    file_ok: bool | None = Field(description="Its append-only file is written.")


class WatchedMoney(Body):
    """What is due at the gateway. `owed`: refunds that it refused."""

    kind: Literal["capture", "void", "refund", "owed"]
    count: int
    oldest_s: float


class Spread(Body):
    """How often each bucket was met: one more count than bounds, for what is longer."""

    bounds: list[float] = Field(description="Seconds.")
    counts: list[int]


class Counters(Body):
    """Counts that only grow, of all processes together: two looks make a rate. They begin at 0 when Redis is emptied."""

    admitted: int
    replayed: int
    confirmed: int
    failed: int
    refused: dict[str, int] = Field(description="By kind.")
    accept_to_commit: Spread


class Figures(Body):
    """How it goes, at one moment of Redis's clock. What a store that is away would say is null."""

    at: Time
    at_ms: int
    counters: Counters
    shards: list[WatchedShard]
    workers: list[WatchedWorker] | None
    servers: list[WatchedServer]
    money: list[WatchedMoney] | None
    moves: int | None = Field(description="Tickets' moves that Redis has not heard of.")
    alerts: list[str] | None = Field(description="Shards that wait for an operator.")
    undelivered_s: float | None
    disabled: int | None
    sales: list[WatchedSale] | None
    sums: dict[str, int] = Field(description="Whatever processes count, by its name; names may come and go.")


class Alert(Body):
    """One alert rule. `pending`: true for less than `for_s`. `unknown`: it cannot be told here, or not yet."""

    name: str
    severity: Literal["page", "ticket"]
    state: Literal["quiet", "pending", "firing", "unknown"]
    for_s: int
    summary: str
    since_ms: int | None
    runbook: str = Field(description="What to do: the heading in the documentation.")


class Alerts(Body):
    """Every rule, those that fire first."""

    data: list[Alert]


class FoundBooking(Body):
    """A booking that was found: whose it is, and by what."""

    client_id: str
    found_by: str
    booking: Booking


class FoundBookings(Body):
    """Newest first. `redis_away`: holds that only Redis knows are not among them."""

    data: list[FoundBooking]
    redis_away: bool


class Dossier(Body):
    """What the two stores and the gateway know of one booking, each in its own words."""

    booking_id: str
    redis: dict[str, Any] | None
    postgres: dict[str, Any] | None
    gateway: dict[str, dict[str, Any]]


class DeskCancelRequest(Body):
    """Why, if anybody says."""

    reason: str | None = None


class DeskItem(Body):
    """Tickets of one tier."""

    tier_id: str
    quantity: int


class DeskRefundRequest(Body):
    """What to refund, at full price whatever the terms say."""

    items: list[DeskItem] | Literal["all"]
    reason: str | None = None


class ParkedBooking(Body):
    """A booking that could not be settled. Null is what cannot be read of it."""

    booking_id: str
    parked_at: Time
    error: str
    attempts: int
    event_id: str | None
    client_id: str | None
    tickets: int | None
    amount_cents: int | None
    currency: str | None


class ParkedList(Body):
    """The oldest first."""

    data: list[ParkedBooking]


class RetriedParked(Body):
    """A worker tries it again."""

    booking_id: str


class FailedParked(Body):
    """What became of it."""

    booking_id: str
    payment: str
    written: bool = Field(description="False when not even its event could be read.")
    stock: Literal["record", "recount"] = Field(description="How its tickets came back.")


class TicketCounts(Body):
    """Counters of a tier."""

    available: int
    held: int
    sold: int
    total: int


class ReconciledTier(Body):
    """Redis's counters as they were found, as they should be, and the difference."""

    tier_id: str
    code: str
    found: TicketCounts
    expected: TicketCounts
    drift: TicketCounts


class ReconcileRequest(Body):
    """Whether to mend, or only to compare."""

    fix: bool


class Reconciled(Body):
    """What was found of one event."""

    event_id: str
    result: Literal["same", "drift", "fixed"]
    settled: int = Field(description="Bookings of which Redis had not heard that PostgreSQL had decided them.")
    moved: int
    oversold: int
    tiers: list[ReconciledTier]


class SoldTier(Body):
    """One tier's sale. Money is in minor units."""

    tier_id: str
    code: str
    currency: str
    capacity: int
    sold: int
    held: int | None
    pending: int | None
    available: int | None
    returned: int
    revenue_cents: int
    refunded_cents: int


class SaleInFigures(Body):
    """One event in figures: what a change of it would touch."""

    event_id: str
    tiers: list[SoldTier]
    bookings: dict[str, int] = Field(description="By status.")
    customers: int
    busiest_minute: Time | None
    busiest_bookings: int


class Deed(Body):
    """Something that somebody did: at a booking, or a change of an event."""

    at: Time
    by: str = Field(description="`key:` and the prefix of an API key, or whoever typed a command.")
    verb: str
    booking_id: str | None
    event_id: str | None
    tier_id: str | None
    reason: str | None
    outcome: str | None = Field(description="Null: it is under way, or was cut off; the booking tells.")
    changes: dict[str, dict[str, Any]] = Field(description="Field to `from` and `to`.")


class OperatorsHistory(Body):
    """The newest first."""

    data: list[Deed]
