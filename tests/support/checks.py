"""The invariants I1 to I10 (see docs/promises.md), asserted from PostgreSQL, Redis and the gateway's own books.

It is not the product's audit (`ops/rush/audit.py`, `boxoffice/repair/`): a fault that both shared would be seen by neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.states import FINAL, LETTERS
from boxoffice.stores import keys
from boxoffice.stores.record import Record, unpack
from tests.support.shop.script import counts_of_unpaid, known_keys, tickets_by_tier

__all__ = ["check_at_rest", "check_conservation"]


async def check_conservation(office: BoxOffice) -> None:
    """I1, at any moment: per tier available + held + sold = total, and none is negative. One read for each event."""
    for shard in range(office.settings.shards):
        async for key in office.redis.scan_iter(match=keys.event(shard, "*")):
            _conserved(await office.redis.hgetall(key))


def _conserved(sale: dict[bytes, bytes]) -> dict[str, tuple[int, int, int, int]]:
    tiers = [field[2:].decode() for field in sale if field.startswith(b"t:")]
    counts = {}
    for tier in tiers:
        a, h, c, t = (int(sale[f"{letter}:{tier}".encode()]) for letter in "ahct")
        assert a + h + c == t, f"I1: {tier} available {a} + held {h} + sold {c} != total {t}"
        assert min(a, h, c) >= 0, f"I1: {tier} has a negative count {a, h, c}"
        counts[tier] = (a, h, c, t)
    return counts


async def check_at_rest(
    office: BoxOffice, accepted: Iterable[str] = (), *, parked: Iterable[str] = (), heard: bool = False
) -> None:
    """All of them, when nothing is pending and no money is due any more.

    `accepted`: every booking that was told 202. `parked`: those that are expected to wait for an operator. `heard`: a
    worker's arq ran, so that no ring may be left over.
    """
    pool = await office.pool()
    bookings = {
        str(row["id"]): row
        for row in await pool.fetch("SELECT id, client_id, event_id, status, amount_cents, duplicate_of, idempotency_key, "
                                    "customer_id, owner, access_code FROM bookings")
    }  # fmt: skip
    items = await pool.fetch("SELECT booking_id, tier_id, quantity - refunded AS quantity FROM booking_items")
    inventory = {row["tier_id"]: row for row in await pool.fetch("SELECT tier_id, total, sold FROM inventory")}
    payments = {
        row["payment_key"]: row
        for row in await pool.fetch(
            "SELECT payment_key, booking_id, status, due, amount_cents, refunded_cents FROM payments"
        )
    }
    # I10: what is owed, or was written off, is kept apart from what went back.
    refunds = {
        row["payment_key"]: (row["open_cents"], row["given_back"])
        for row in await pool.fetch(
            "SELECT payment_key, coalesce(sum(amount_cents) FILTER (WHERE status IN ('owed', 'written_off')), 0) AS open_cents,"
            " coalesce(sum(amount_cents) FILTER (WHERE status IN ('due', 'pending', 'succeeded')), 0) AS given_back"
            " FROM refunds GROUP BY 1"
        )
    }
    dead = {
        member.decode()
        for shard in range(office.settings.shards)
        for member in await office.redis.zrange(keys.dead(shard), 0, -1)
    }

    # I2: PostgreSQL sold what it confirmed, and no more than there is.
    sold: Counter[str] = Counter()
    for item in items:
        if bookings[str(item["booking_id"])]["status"] == "confirmed":
            sold[item["tier_id"]] += item["quantity"]
    for tier, row in inventory.items():
        assert row["sold"] == sold[tier], f"I2: {tier} sold {row['sold']}, confirmed {sold[tier]}"
        assert 0 <= row["sold"] <= row["total"], f"I2: {tier}"

    # I1, I3, I7: Redis mirrors it, and holds exactly what still waits.
    records = await _records(office)
    held: Counter[str] = Counter()
    owned: Counter[tuple[str, str]] = Counter()
    by_tier: Counter[tuple[str, str, str]] = Counter()
    unpaid: Counter[tuple[str, str]] = Counter()
    for record in records.values():
        if record.state in "HP":
            for line in record.body.lines:
                held[line.tier] += line.quantity
                owned[record.event, record.owner] += line.quantity
                by_tier[record.event, record.owner, line.tier] += line.quantity
                by_tier[record.event, f"@{record.body.client}", line.tier] += line.quantity
                if record.body.access_code:
                    owned[record.event, f"k{record.body.access_code}"] += line.quantity
                    by_tier[record.event, f"k{record.body.access_code}", line.tier] += line.quantity
                if record.at_bank and not record.deadline_ms:
                    for who in ("w", f"wo:{record.owner}", f"wc:{record.body.client}"):
                        unpaid[record.event, who] += line.quantity
                if record.deadline_ms or record.at_bank:
                    unpaid[record.event, f"o:{record.owner}"] += line.quantity
                    unpaid[record.event, f"c:{record.body.client}"] += line.quantity
    for item in items:
        row = bookings[str(item["booking_id"])]
        if row["status"] == "confirmed":
            owner = row["owner"] or ids.owner_digest(row["client_id"], row["customer_id"])
            owned[row["event_id"], owner] += item["quantity"]
            by_tier[row["event_id"], owner, item["tier_id"]] += item["quantity"]
            by_tier[row["event_id"], f"@{row['client_id']}", item["tier_id"]] += item["quantity"]
            if row["access_code"]:
                owned[row["event_id"], f"k{row['access_code']}"] += item["quantity"]
                by_tier[row["event_id"], f"k{row['access_code']}", item["tier_id"]] += item["quantity"]
    for shard in range(office.settings.shards):
        async for key in office.redis.scan_iter(match=keys.event(shard, "*")):
            for tier, (a, h, c, t) in _conserved(await office.redis.hgetall(key)).items():
                row = inventory[tier]
                assert (t, c, h) == (row["total"], row["sold"], held[tier]), f"I3: {tier} {(t, c, h)}"
                assert a == row["total"] - row["sold"] - held[tier], f"I7: {tier}"
        async for key in office.redis.scan_iter(match=keys.owners(shard, "*")):
            event = key.decode().rpartition(":")[2]
            for owner, tickets in (await office.redis.hgetall(key)).items():
                assert int(tickets) == owned.pop((event, owner.decode()), 0), (
                    f"I7: {owner!r} has {int(tickets)} tickets"
                )
        async for key in office.redis.scan_iter(match=keys.owned_tiers(shard, "*")):
            event = key.decode().rpartition(":")[2]
            for owner, items in (await office.redis.hgetall(key)).items():
                for tier, tickets in tickets_by_tier(items).items():
                    assert tickets == by_tier.pop((event, owner.decode(), tier), 0), f"I7: {owner!r} has {items!r}"
        async for key in office.redis.scan_iter(match=keys.shops(shard, "*")):
            event = key.decode().rpartition(":")[2]
            for field, tickets in (await office.redis.hgetall(key)).items():
                shop, _, tier = field.decode().partition(":")
                assert int(tickets) == by_tier.pop((event, f"@{shop}", tier), 0), f"I7: {field!r} has {int(tickets)}"
        async for key in office.redis.scan_iter(match=keys.unpaid(shard, "*")):
            event = key.decode().rpartition(":")[2]
            for who, tickets in counts_of_unpaid(await office.redis.hgetall(key)).items():
                assert tickets == unpaid.pop((event, who), 0), f"I7: {who!r} has {tickets} unpaid"
    assert not +unpaid, f"I7: held, and not counted as unpaid: {unpaid}"
    assert not +owned, f"I7: not counted for their customers: {owned}"
    assert not +by_tier, f"I7: not counted for their customers by tier: {by_tier}"

    # I4: whoever was told 202 can read one final state, the same in both stores.
    for booking in accepted:
        if booking in dead:
            continue
        record = records.get(booking)
        assert booking in bookings or (record and record.state in "HEX"), f"I4: {booking} was accepted and is lost"
        if booking in bookings:
            assert LETTERS[bookings[booking]["status"]] in FINAL, f"I4: {booking} is {bookings[booking]['status']}"
    for booking, record in records.items():
        if booking in bookings and booking not in dead:
            row = bookings[booking]
            assert record.state == LETTERS[row["status"]], f"I4: {booking} is {record.state}, and {row['status']}"
    assert dead == set(parked), f"I4: parked {dead}"

    # I5: one use of a key, one booking, one payment.
    first_uses = Counter(
        (row["client_id"], row["event_id"], row["idempotency_key"])
        for row in bookings.values()
        if row["duplicate_of"] is None
    )
    assert all(count == 1 for count in first_uses.values()), "I5: a key made two bookings"

    # I6: the gateway's books and ours tell the same story.
    at_gateway: dict[str, int] = {}
    paid: set[str] = set()
    async for kept in office.gateway.records():
        payment, row = kept.payment, payments.get(kept.payment_key)
        assert row is not None, f"I6: {kept.payment_key} is known to the gateway alone ({payment.status})"
        status = bookings[str(row["booking_id"])]["status"]
        open_cents, given_back = refunds.get(kept.payment_key, (0, 0))
        at_gateway[kept.payment_key] = payment.captured_cents
        taken = payment.captured_cents - payment.refunded_cents
        # Of a hold that was paid with the second card the first one's attempt is there, too.
        if status == "confirmed" and row["status"] not in ("declined", "voided"):
            assert payment.captured_cents == row["amount_cents"], f"I6: confirmed, captured {payment.captured_cents}"
            paid.add(str(row["booking_id"]))
        else:
            assert taken == open_cents, f"I6: {status}, yet the gateway kept {taken}; owed or written off {open_cents}"
        assert payment.status != "authorized", f"I6: {kept.payment_key} of a {status} booking is open"
        assert (row["status"] == "captured") == (payment.status == "captured"), f"I6: {row['status']} {payment.status}"
        assert payment.refunded_cents == row["refunded_cents"] == given_back, "I10: refunds"
    unpaid = {id_ for id_, row in bookings.items() if row["status"] == "confirmed" and row["amount_cents"]} - paid
    for key, row in payments.items():
        assert row["amount_cents"], f"I6: {key} asked for nothing"
    assert not unpaid, f"I6: confirmed and never paid: {unpaid}"
    for key, row in payments.items():
        if row["status"] in ("authorized", "captured"):
            assert key in at_gateway, f"I6: the gateway never heard of {key}"
        assert row["due"] is None, f"I6: {row['due']} of {key} is still due"

    # I9: nothing leaks.
    for shard in range(office.settings.shards):
        left = await office.redis.zrange(keys.pending(shard), 0, -1)
        assert not left, f"I9: still pending {left}"
        if heard:
            assert await office.redis.zcard(keys.arq_queue(shard)) == 0, "I9: rings nobody heard"
    known = re.compile(known_keys(range(office.settings.shards)))
    async for key in office.redis.scan_iter():
        assert known.fullmatch(key.decode()), f"I9: {key!r} is no key of ours"
    for booking, record in records.items():
        ttl = await office.redis.ttl(keys.booking(ids.shard_of(booking), booking))
        # -1: none. Whatever was final may have left since we read it.
        assert (ttl != -1) == (record.state in FINAL), f"I9: {booking} is {record.state} with TTL {ttl}"


async def _records(office: BoxOffice) -> dict[str, Record]:
    """Every readable record."""
    found = {}
    for shard in range(office.settings.shards):
        async for key in office.redis.scan_iter(match=keys.booking(shard, "*"), count=1_000):
            booking = key.decode().rpartition(":")[2]
            raw = await office.redis.get(key)
            if raw is None:
                continue  # its life ended between the two
            try:
                found[booking] = unpack(booking, raw)
            except ValueError:
                continue
    return found
