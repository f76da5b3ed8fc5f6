"""Bookings that were never made, in all three books at once: confirmed, captured, settled, as if a sale had run.

Everything follows from a booking's number, so that PostgreSQL can make its rows by itself while Redis is told the same
from here, and the audit finds no difference.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final

import hiredis

from bench.stage import Sale, Stage
from boxoffice import ids
from boxoffice.gateway.simulator.scenario import State, reference_of
from boxoffice.stores import keys
from boxoffice.stores.record import Body, Line, Outcome, Payload, Record, pack_items

__all__ = ["forge"]

CHUNK: Final = 2_000

_KEEP: Final = "for at, key in ipairs(KEYS) do redis.call('SET', key, ARGV[at + 1], 'EX', ARGV[1]) end"
"""One answer for all: to read one for each key took longer than to make it."""

_KEY: Final = "left(encode(sha256(convert_to('forged-' || n, 'UTF8')), 'hex'), 32)"
_SCOPE: Final = r"""left(encode(sha256(convert_to($1::text, 'UTF8') || '\x00'::bytea
  || convert_to($2::text, 'UTF8') || '\x00'::bytea
  || convert_to(left(encode(sha256(convert_to('forged-' || n, 'UTF8')), 'hex'), 32), 'UTF8')), 'hex'), 32)"""
_ID: Final = "(lpad(to_hex($3::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid"

_BOOKINGS: Final = f"""
INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key, fingerprint,
                      sequence, created_at)
SELECT {_ID}, $1::text, $2::text, 'forged-' || n, 'confirmed', $4, 'USD', {_KEY}, left({_SCOPE}, 16), $5::bigint + n,
       to_timestamp($3::bigint / 1000.0)
FROM generate_series($6::bigint, $7::bigint) AS n
"""

_ITEMS: Final = f"""
INSERT INTO booking_items (booking_id, tier_id, quantity, unit_price_cents, line_total_cents)
SELECT {_ID}, $2::text, 1, $1::int, $1::int FROM generate_series($4::bigint, $5::bigint) AS n
"""

_PAYMENTS: Final = f"""
INSERT INTO payments (payment_key, booking_id, gateway, method, card_name, last4, token, amount_cents, currency, status,
                      reference)
SELECT {_SCOPE}, {_ID}, 'simulator', 'card', 'Ada Lovelace', '4242', 'tok_ok_4242', $4, 'USD', 'captured',
       'sim_' || left({_SCOPE}, 20)
FROM generate_series($5::bigint, $6::bigint) AS n
"""


async def forge(stage: Stage, sale: Sale, first: int, last: int) -> None:
    """Make bookings number `first` to `last` of the sale's first tier. The worker is stopped meanwhile."""
    stage.stop_worker()
    try:
        sequence = await stage.admitted()
        now_ms = time.time_ns() // 1_000_000
        await asyncio.gather(
            _fill_postgres(stage, sale, first, last, now_ms, sequence - first + 1),
            _fill_redis(stage, sale, first, last, now_ms, sequence - first + 1),
        )
    finally:
        stage.start_worker()


async def _fill_postgres(stage: Stage, sale: Sale, first: int, last: int, now_ms: int, offset: int) -> None:
    tier = sale.event.tiers[0]
    client, event, price = sale.client, sale.event.id, tier.price_cents
    connection = await stage.connect()
    try:
        # Foreign keys hold by construction; to check a million of them is not what is measured.
        await connection.execute("SET session_replication_role = replica")
        async with connection.transaction():
            await connection.execute(_BOOKINGS, client, event, now_ms, price, offset, first, last)
            await connection.execute(_ITEMS, price, tier.id, now_ms, first, last)
            await connection.execute(_PAYMENTS, client, event, now_ms, price, first, last)
            await connection.execute(
                "UPDATE inventory SET sold = sold + $2 WHERE tier_id = $1", tier.id, last - first + 1
            )
        for table in ("bookings", "booking_items", "payments"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _fill_redis(stage: Stage, sale: Sale, first: int, last: int, now_ms: int, offset: int) -> None:
    """Records and keys as settle.lua leaves them, and the gateway's ledger."""
    redis = stage.office.redis
    tier, event = sale.event.tiers[0], sale.event.id
    client, ttl_s = sale.client, stage.office.settings.worker.settled_ttl_s
    lines = (Line(tier.id, 1, tier.price_cents),)
    items = pack_items(lines)
    pack: Any = hiredis.pack_command
    money = State("A", tier.price_cents, "USD", 0, 0, "", "tok_ok_4242")
    authorized, captured = money.word, money._replace(status="C", captured_cents=tier.price_cents).word
    connection: Any = await redis.connection_pool.get_connection("SET")
    ledger = (stage.folder / "gateway.ledger").open("a")
    try:
        for start in range(first, last + 1, CHUNK):
            numbers = range(start, min(last + 1, start + CHUNK))
            names: list[str] = []
            values: list[bytes | str] = []
            owners, book = [keys.owners(0, event)], []
            for n in numbers:
                key = hashlib.sha256(b"forged-%d" % n).hexdigest()[:32]
                scope = ids.scope(client, event, key)
                owner = ids.owner_digest(client, f"forged-{n}")
                booking = f"{now_ms:012x}70008{n:015x}"
                booking = f"{booking[:8]}-{booking[8:12]}-{booking[12:16]}-{booking[16:20]}-{booking[20:]}"
                record = Record(
                    booking, "C", offset + n, now_ms, 0, scope, scope, scope[:16], event, owner, items, "1",
                    Body(client, f"forged-{n}", tier.price_cents, "USD", lines),
                    Payload(None, Outcome("authorized", "card", "4242", reference_of(scope))),
                )  # fmt: skip
                names += [keys.booking(0, booking), keys.idempotency(0, scope)]
                values += [record.pack(), booking]
                owners += [owner, "1"]
                book.append(f"{scope} {authorized} {booking} {now_ms}\n{scope} {captured} - {now_ms}\n")
            ledger.write("".join(book))
            written = pack(("EVAL", _KEEP, len(names), *names, ttl_s, *values))
            await connection.send_packed_command([written + pack(("HSET", *owners))])
            for _ in range(2):
                await connection.read_response()
    finally:
        ledger.close()
        await redis.connection_pool.release(connection)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hincrby(keys.event(0, event), f"a:{tier.id}", first - last - 1)
        pipe.hincrby(keys.event(0, event), f"c:{tier.id}", last - first + 1)
        pipe.incrby(keys.sequence(0), last - first + 1)
        await pipe.execute()
