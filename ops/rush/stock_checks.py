"""The audit's look at stock: I1, I2, I3 and I7."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from boxoffice.stores import keys
from boxoffice.stores.record import Record
from boxoffice.stores.shard import Shards
from ops.rush.findings import Findings

__all__ = ["OpenBookings", "Pool", "check_stock"]

Pool = Any
"""asyncpg's pool or connection."""

OWNERS: Final = 10_000
"""Customers read in one call: of a million at once the answer takes longer than Redis is given."""

_TIERS: Final = """
SELECT e.id AS event, e.shard, t.id AS tier, i.total, i.sold, coalesce(s.sold, 0) AS counted
FROM inventory i JOIN tiers t ON t.id = i.tier_id JOIN events e ON e.id = t.event_id
LEFT JOIN (SELECT bi.tier_id, sum(bi.quantity - bi.refunded) AS sold
           FROM booking_items bi JOIN bookings b ON b.id = bi.booking_id
           WHERE b.status = 'confirmed' GROUP BY bi.tier_id) AS s ON s.tier_id = t.id
ORDER BY e.id, t.display_order
"""

_BUYERS: Final = r"""
SELECT event, array_agg(owner) AS owners, array_agg(tier) AS tiers, array_agg(tickets) AS tickets FROM (
  SELECT event, coalesce(owner, left(encode(sha256(convert_to(client, 'UTF8') || '\x00'::bytea
         || convert_to(customer, 'UTF8')), 'hex'), 16)) AS owner, tier, sum(tickets)::int AS tickets
  FROM (SELECT b.event_id AS event, b.client_id AS client, b.customer_id AS customer, b.owner, bi.tier_id AS tier,
               sum(bi.quantity - bi.refunded)::int AS tickets
        FROM bookings b JOIN booking_items bi ON bi.booking_id = b.id
        WHERE b.status = 'confirmed' GROUP BY 1, 2, 3, 4, 5) AS bought
  GROUP BY 1, 2, 3) AS owned
WHERE tickets <> 0 GROUP BY event
UNION ALL
SELECT event, array_agg('k' || code), array_agg(tier), array_agg(tickets)
FROM (SELECT b.event_id AS event, b.access_code AS code, bi.tier_id AS tier, sum(bi.quantity - bi.refunded)::int AS tickets
      FROM bookings b JOIN booking_items bi ON bi.booking_id = b.id
      WHERE b.status = 'confirmed' AND b.access_code IS NOT NULL GROUP BY 1, 2, 3) AS bought
WHERE tickets <> 0 GROUP BY event
UNION ALL
SELECT event, array_agg('@' || client), array_agg(tier), array_agg(tickets)
FROM (SELECT b.event_id AS event, b.client_id AS client, bi.tier_id AS tier, sum(bi.quantity - bi.refunded)::int AS tickets
      FROM bookings b JOIN booking_items bi ON bi.booking_id = b.id WHERE b.status = 'confirmed' GROUP BY 1, 2, 3) AS bought
WHERE tickets <> 0 GROUP BY event
"""
"""Owners are named as in `ids.owner_digest`, access codes and shops as in `ids.owners_of`.
Arrays: a row for each customer takes ten times as long to read."""

_OPEN_MOVES: Final = "SELECT id, event_id, tier_id, sold_delta, total_delta FROM stock_moves WHERE applied_at IS NULL"


@dataclass(slots=True)
class OpenBookings:
    """Bookings that hold stock in Redis: pending, held and parked ones. Filled while records are read."""

    held: Counter[str] = field(default_factory=Counter)
    """Tickets per tier."""
    owned: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """Tickets per event, owner's digest (or `k` and an access code's, or `@` and a shop) and tier."""
    unpaid: dict[str, Counter[str]] = field(default_factory=dict)
    """Tickets not paid for, per event and as the scripts count them: see `keys.unpaid`."""

    def add(self, record: Record) -> None:
        """One more booking that holds stock."""
        for line in record.body.lines:
            self.held[line.tier] += line.quantity
            owned = self.owned.setdefault(record.event, Counter())
            owned[record.owner, line.tier] += line.quantity
            owned[f"@{record.body.client}", line.tier] += line.quantity
            if record.body.access_code:
                owned[f"k{record.body.access_code}", line.tier] += line.quantity
            if record.deadline_ms or record.at_bank:
                unpaid = self.unpaid.setdefault(record.event, Counter())
                unpaid[f"o:{record.owner}"] += line.quantity
                unpaid[f"c:{record.body.client}"] += line.quantity
                if not record.deadline_ms:
                    for who in ("w", f"wo:{record.owner}", f"wc:{record.body.client}"):
                        unpaid[who] += line.quantity


async def check_stock(shards: Shards, pool: Pool, opened: OpenBookings, findings: Findings) -> None:
    """Count again what the counters say."""
    rows = await pool.fetch(_TIERS)
    events: dict[str, int] = {}
    for row in rows:
        events[row["event"]] = row["shard"]
        _check_sold(row, findings)
    for event, shard in events.items():
        counters = await shards[shard].redis.hgetall(keys.event(shard, event))  # type: ignore[misc]
        for row in rows:
            if row["event"] == event:
                _check_counters(row, counters, opened, findings)
    findings["I2"].looked_at.append(f"{len(rows)} tiers, {sum(row['sold'] for row in rows)} tickets sold")
    findings["I3"].looked_at.append(f"{len(rows)} tiers of {len(events)} events")
    for move in await pool.fetch(_OPEN_MOVES):
        findings["I7"].blame(f"stock move {move['id']} of tier {move['tier_id']} was never applied to Redis")
    await _check_owners(shards, pool, events, opened, findings)


def _check_sold(row: Any, findings: Findings) -> None:
    if row["sold"] != row["counted"]:
        findings["I2"].blame(f"tier {row['tier']}: sold={row['sold']}, confirmed items add up to {row['counted']}")
    if not 0 <= row["sold"] <= row["total"]:
        findings["I2"].blame(f"tier {row['tier']}: sold={row['sold']} of {row['total']}")


def _check_counters(row: Any, counters: dict[bytes, bytes], opened: OpenBookings, findings: Findings) -> None:
    tier = row["tier"]
    found = {letter: counters.get(f"{letter}:{tier}".encode()) for letter in "ahct"}
    if None in found.values():
        findings["I3"].blame(f"tier {tier}: Redis has no counters")
        return
    a, h, c, t = (int(value or 0) for value in found.values())
    if a + h + c != t or min(a, h, c) < 0:
        findings["I1"].blame(f"tier {tier} at rest: a={a} h={h} c={c} t={t}")
    held = opened.held[tier]
    expected = {"a": row["total"] - row["sold"] - held, "h": held, "c": row["sold"], "t": row["total"]}
    for letter, is_there in zip("ahct", (a, h, c, t), strict=True):
        if expected[letter] != is_there:
            findings["I3"].blame(f"tier {tier}: {letter}={is_there}, expected {expected[letter]}")


async def _check_owners(
    shards: Shards, pool: Pool, events: dict[str, int], opened: OpenBookings, findings: Findings
) -> None:
    """Tickets counted per customer, and of those per tier, are a second count of everything taken and given back."""
    expected = {event: Counter(opened.owned.get(event, {})) for event in events}
    for row in await pool.fetch(_BUYERS):
        whose = zip(row["owners"], row["tiers"], strict=True)
        expected[row["event"]].update(dict(zip(whose, row["tickets"], strict=True)))
    customers = 0
    for event, shard in events.items():
        redis = shards[shard].redis
        found = redis.hscan_iter(keys.owners(shard, event), count=OWNERS)
        counted = {owner.decode(): int(tickets) async for owner, tickets in found if int(tickets)}
        customers += len(counted)
        found_unpaid = await redis.hgetall(keys.unpaid(shard, event))  # type: ignore[misc]
        # What clients gave up does not add up to anything that is there.
        unpaid = {who.decode(): int(n) for who, n in found_unpaid.items() if not who.startswith(b"g:")}
        if unpaid != dict(opened.unpaid.get(event, {})):
            findings["I7"].blame(
                f"event {event}: unpaid {unpaid}, holds add up to {dict(opened.unpaid.get(event, {}))}"
            )
        in_all: Counter[str] = Counter()
        for (owner, _), tickets in expected[event].items():
            in_all[owner] += tickets * (owner[:1] != "@")  # a shop is counted by tier alone
        _compare(event, counted, +in_all, findings)
        by_tier: dict[tuple[str, str], int] = {}
        async for owner, items in redis.hscan_iter(keys.owned_tiers(shard, event), count=OWNERS):
            for tier, _, tickets in (item.partition(":") for item in items.decode().split(",")):
                by_tier[owner.decode(), tier] = int(tickets)
        for name, tickets in (await redis.hgetall(keys.shops(shard, event))).items():  # type: ignore[misc]
            shop, _, tier = name.decode().partition(":")
            by_tier[f"@{shop}", tier] = int(tickets)
        _compare(event, by_tier, expected[event], findings)
    findings["I7"].looked_at.append(f"tickets of {customers} customers and access codes, and of shops")


def _compare(event: str, counted: Mapping[Any, int], expected: Mapping[Any, int], findings: Findings) -> None:
    """What Redis counts of customers, or of customers and tiers, with what is held or bought."""
    if dict(counted) == dict(expected):
        return
    for whose in counted.keys() | expected.keys():
        found, right = counted.get(whose, 0), expected.get(whose, 0)
        if found != right:
            who = whose if isinstance(whose, str) else f"{whose[0]}, tier {whose[1]}"
            findings["I7"].blame(f"event {event}, customer {who}: {found} tickets counted, {right} held or bought")
