"""How sales stand: tickets and money, by event and tier, in all or by day and hour.

PostgreSQL has what was sold, taken and given back; what is held or pending Redis alone knows, now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice.backoffice.finding import records
from boxoffice.backoffice.snapshots import snapshot
from boxoffice.errors import NotFound
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards

__all__ = ["Figures", "Sold", "Stats"]

_TIERS: Final = """
SELECT e.id AS event, e.name, e.starts_at, e.currency, e.shard, e.client_id AS client, t.id AS tier, t.code, i.total, i.sold
FROM events e JOIN tiers t ON t.event_id = e.id JOIN inventory i ON i.tier_id = t.id
WHERE CASE WHEN $1::text[] IS NULL THEN $2 OR e.starts_at > now() - interval '1 day' ELSE e.id = ANY($1) END
ORDER BY e.starts_at, e.id, t.display_order, t.code
"""

_SALES: Final = """
WITH sales AS (
  SELECT b.id, b.event_id, b.status, coalesce(p.refunded_cents, 0) AS refunded_cents,
         {period} AS period
  FROM bookings b LEFT JOIN payments p ON p.booking_id = b.id AND p.status IN ('authorized', 'captured')
    AND p.failure_code IS DISTINCT FROM 'paid_too_late'
  WHERE b.event_id = ANY($1) AND b.status IN ('confirmed', 'cancelled')
    AND (p.payment_key IS NOT NULL OR b.amount_cents = 0 AND (b.status = 'confirmed' OR b.failure_code IS NOT NULL))
    AND ($2::timestamptz IS NULL OR b.created_at >= $2) AND ($3::timestamptz IS NULL OR b.created_at < $3)
), lines AS (
  SELECT s.event_id, s.period, s.refunded_cents, i.booking_id, i.tier_id, i.quantity, i.refunded, i.line_total_cents,
         CASE WHEN sum(i.refunded) OVER whole > 0 THEN i.refunded::bigint * i.unit_price_cents
              ELSE i.line_total_cents END AS part
  FROM sales s JOIN booking_items i ON i.booking_id = s.id WINDOW whole AS (PARTITION BY i.booking_id)
), shares AS (
  SELECT *, sum(part) OVER upto AS upto, greatest(sum(part) OVER whole, 1) AS whole FROM lines
  WINDOW whole AS (PARTITION BY booking_id), upto AS (PARTITION BY booking_id ORDER BY tier_id)
)
SELECT event_id AS event, tier_id AS tier, period, sum(quantity - refunded)::bigint AS sold,
       sum(refunded)::bigint AS returned, sum(line_total_cents)::bigint AS revenue_cents,
       sum(div(refunded_cents * upto, whole) - div(refunded_cents * (upto - part), whole))::bigint AS refunded_cents
FROM shares GROUP BY event_id, tier_id, period
"""
"""Money goes back for a booking, not for a tier: it is shared out by the price of the tickets that came back, or of all when
none did, and the shares of a booking add up to the cent."""

PERIODS: Final = {None: "NULL::timestamp", "day": "date_trunc('day', b.created_at AT TIME ZONE $4)",
                  "hour": "date_trunc('hour', b.created_at AT TIME ZONE $4)"}  # fmt: skip

_STATS: Final = """
SELECT status, count(*) AS bookings, count(DISTINCT (client_id, customer_id)) AS customers, min(created_at) AS first,
       max(created_at) AS last
FROM bookings WHERE event_id = $1 AND duplicate_of IS NULL GROUP BY status
"""

_BUSIEST: Final = """
SELECT date_trunc('minute', created_at) AS minute, count(*) AS bookings FROM bookings
WHERE event_id = $1 AND status IN ('confirmed', 'cancelled') GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1
"""


class Sold(NamedTuple):
    """One tier's sale, in all or in one period. Money is in minor units of the currency.

    `sold`: tickets that are valid now; `returned`: sold once, and given back. `revenue_cents`: the price of both;
    `refunded_cents`: given back of it, or on its way. In a period stands what was booked in it, whenever it was refunded.
    `held`, `pending` and `available` are as of now: None in a row of a period, and while Redis does not answer.
    """

    event: str
    name: str
    tier: str
    code: str
    currency: str
    period: str | None
    capacity: int
    sold: int
    held: int | None
    pending: int | None
    available: int | None
    returned: int
    revenue_cents: int
    refunded_cents: int


class Stats(NamedTuple):
    """One event in figures: bookings by status, customers who have tickets, and its busiest minute."""

    tiers: list[Sold]
    bookings: dict[str, int]
    customers: int
    first_at: str | None
    last_at: str | None
    busiest_minute: str | None
    busiest_bookings: int


class _Waiting(NamedTuple):
    held: int
    pending: int
    available: int


class Figures:
    """Adds up sales for operators."""

    def __init__(self, shards: Shards, settings: Settings) -> None:
        self._shards = shards
        self._settings = settings

    async def sales(
        self, events: Sequence[str] = (), *, by: str | None = None, zone: str = "UTC", past: bool = False,
        since: datetime | None = None, until: datetime | None = None,
    ) -> list[Sold]:  # fmt: skip
        """By event and tier, and with `by` (`day` or `hour`) by when they were booked in that time zone, in which periods
        without a sale are left out. `past`: also events that started more than a day ago, unless events are named.
        `since` and `until` bound when bookings were made.

        Raises `NotFound` for an event that is none, PostgreSQL's errors.
        """
        values: list[Any] = [since, until, *([zone] if by else [])]
        async with snapshot(self._settings) as connection:
            tiers = await connection.fetch(_TIERS, list(events) or None, past)
            named = list(dict.fromkeys(row["event"] for row in tiers))
            if missing := set(events) - set(named):
                raise NotFound(f"There is no event {min(missing)}: `boxoffice events list` has the ids.")
            rows = await connection.fetch(_SALES.format(period=PERIODS[by]), named, *values)
        found: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for row in rows:
            found[row["event"], row["tier"]].append(row)
        waiting = {} if by else await self._waiting({row["event"]: row["shard"] for row in tiers})
        return [
            _sold(tier, sale, waiting.get((tier["event"], tier["tier"])))
            for tier in tiers
            for sale in sorted(found[tier["event"], tier["tier"]], key=lambda sale: sale["period"])
            or ([] if by else [None])
        ]  # fmt: skip

    async def stats(self, event: str) -> Stats:
        """One event. Raises as `sales`."""
        tiers = await self.sales([event])
        async with snapshot(self._settings) as connection:
            rows = await connection.fetch(_STATS, event)
            busiest = await connection.fetchrow(_BUSIEST, event)
        sold = [row for row in rows if row["status"] in ("confirmed", "cancelled")]
        return Stats(
            tiers,
            {row["status"]: row["bookings"] for row in sorted(rows, key=lambda row: row["status"])},
            sum(row["customers"] for row in rows if row["status"] == "confirmed"),
            _iso(min((row["first"] for row in sold), default=None)),
            _iso(max((row["last"] for row in sold), default=None)),
            _iso(busiest["minute"] if busiest else None),
            busiest["bookings"] if busiest else 0,
        )

    async def _waiting(self, shard_of: Mapping[str, int]) -> dict[tuple[str, str], _Waiting]:
        """Tickets of each tier that nobody has decided about, and those that are left; nothing while Redis is away."""
        held: dict[tuple[str, str], int] = defaultdict(int)
        found: dict[tuple[str, str], _Waiting] = {}
        try:
            for shard in {number for number in shard_of.values() if number < len(self._shards)}:
                async for record in records(self._shards[shard], ended=False):
                    if record.state == "H":
                        for line in record.body.lines:
                            held[record.event, line.tier] += line.quantity
            for event, shard in shard_of.items():
                counters: dict[bytes, bytes] = await self._shards[shard].redis.hgetall(keys.event(shard, event))  # type: ignore[misc]
                for name, count in counters.items():
                    letter, _, tier = name.decode().partition(":")
                    if letter == "h":
                        unpaid = min(held[event, tier], int(count))
                        left = int(counters.get(f"a:{tier}".encode(), 0))
                        found[event, tier] = _Waiting(unpaid, int(count) - unpaid, left)
        except (RedisError, OSError):
            return {}
        return found


def _sold(tier: Any, sale: Any, waiting: _Waiting | None) -> Sold:
    nothing: dict[str, Any] = dict.fromkeys(("sold", "returned", "revenue_cents", "refunded_cents"), 0)
    figures = dict(sale) if sale else nothing
    period = figures.get("period")
    return Sold(
        tier["event"], tier["name"], tier["tier"], tier["code"], tier["currency"],
        period.isoformat(timespec="minutes") if period else None, tier["total"], figures["sold"],
        waiting.held if waiting else None, waiting.pending if waiting else None, waiting.available if waiting else None,
        figures["returned"], figures["revenue_cents"], figures["refunded_cents"],
    )  # fmt: skip


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
