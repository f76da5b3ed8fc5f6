"""Stock that moved in PostgreSQL outside a settlement (a cancelled booking, another capacity), mirrored in Redis once.

The row in `stock_moves` is written by the transaction that moved the stock. Whoever applies it marks it afterwards; a
crash in between lets somebody apply it again, which move.lua notices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from boxoffice.books.queries import Ending, final_endings
from boxoffice.crashpoint import crashpoint
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.fence import Pair, last_batch
from boxoffice.stores.scripts import Call
from boxoffice.stores.shard import Shard

__all__ = ["MOVED_TTL_S", "Move", "Note", "apply_moves", "came_back", "mark_applied", "open_moves", "remember_applied"]

MOVED_TTL_S: Final = 7 * 86_400
"""How long Redis remembers a move. PostgreSQL marks it as applied within seconds."""

MOVES_MAX: Final = 1_000
"""Moves read at once."""

SENT_MAX: Final = 100
"""Moves sent in one round trip: some milliseconds in which Redis serves nobody else."""

_MOVES = """
SELECT m.id, m.nonce, m.event_id, e.shard, m.tier_id, m.sold_delta, m.total_delta, m.owner, m.booking_id,
       coalesce(b.status = 'cancelled', false) AS cancelled, b.failure_code, m.refund_key,
       r.amount_cents, r.reason, r.fingerprint,
       (SELECT string_agg(s.tier_id || ':' || -s.sold_delta, ',' ORDER BY s.tier_id) FROM stock_moves s
        WHERE s.booking_id = m.booking_id AND s.refund_key IS NOT DISTINCT FROM m.refund_key) AS all_items
FROM stock_moves m JOIN events e ON e.id = m.event_id LEFT JOIN bookings b ON b.id = m.booking_id
LEFT JOIN refunds r ON r.refund_key = m.refund_key
"""

_OPEN = f"""{_MOVES}
WHERE m.applied_at IS NULL AND ($1::text IS NULL OR m.event_id = $1) AND ($2::int IS NULL OR e.shard = $2)
ORDER BY m.id LIMIT $3
"""

_APPLIED = f"""{_MOVES}
WHERE m.applied_at >= $2 AND m.booking_id IS NOT NULL AND e.shard = $1 AND m.id > $3
ORDER BY m.id LIMIT {MOVES_MAX}
"""


class Note(msgspec.Struct, array_like=True, frozen=True):
    """What Redis remembers of a booking's move: enough to give back the same tickets and the same money once more."""

    booking: str
    tier: str
    quantity: int
    refund_key: str
    """Empty when no money came back with it."""
    amount_cents: int
    """Of the whole refund, which may have given back tickets of several tiers."""
    reason: str
    code: str
    """Why the booking is cancelled with it; empty when it is not."""
    fingerprint: str = ""
    """Fingerprint of the request that asked for the refund; empty when none did."""
    all_items: str = ""
    """`tier:tickets,...` of all that came back with it: Redis may have heard of some tiers only. Empty in earlier versions."""


def came_back(notes: Iterable[Note]) -> dict[str, tuple[Note, Counter[str]]]:
    """By refund key: one of its notes, and tier to tickets of everything that came back with it."""
    found: dict[str, tuple[Note, Counter[str]]] = {}
    for note in notes:
        _, tickets = found.setdefault(note.refund_key, (note, Counter()))
        if not note.all_items:
            tickets[note.tier] += note.quantity
        for item in filter(None, note.all_items.split(",")):
            tier, _, quantity = item.partition(":")
            tickets[tier] = int(quantity)
    return found


class Move(NamedTuple):
    """One movement of one tier's stock."""

    id: int
    event: str
    shard: int
    tier: str
    sold_delta: int
    total_delta: int
    owner: str
    booking: str | None
    ending: Ending | None
    """Of the booking, when it is cancelled with this."""
    note: bytes
    """A `Note` as JSON; `1` for a move that is about no booking."""
    nonce: int

    @property
    def name(self) -> str:
        """What Redis remembers it by. The id alone may come again after a restore of PostgreSQL."""
        return f"{self.id}-{self.nonce}"

    @property
    def payload(self) -> bytes:
        """The last line of the cancelled booking's record."""
        return self.ending.payload if self.ending else b"{}"

    @property
    def fact(self) -> bytes:
        """As reconcile.lua takes it."""
        head = f"{self.tier}|{self.sold_delta}|{self.total_delta}|{self.owner}|{int(self.ending is not None)}|"
        return head.encode() + self.payload


async def open_moves(
    connection: Connection, *, event: str | None = None, shard: int | None = None, most: int | None = None
) -> list[Move]:
    """Moves that nobody has marked as applied, oldest first: all of them, or so many."""
    rows = await connection.fetch(_OPEN, event, shard, most)
    cancelled = [str(row["booking_id"]) for row in rows if row["cancelled"]]
    endings = await final_endings(connection, cancelled) if cancelled else {}
    return [
        Move(
            row["id"], row["event_id"], row["shard"], row["tier_id"], row["sold_delta"], row["total_delta"],
            row["owner"] or "", str(row["booking_id"]) if row["booking_id"] else None,
            endings.get(str(row["booking_id"])), note_of(row), row["nonce"],
        )
        for row in rows
    ]  # fmt: skip


def note_of(row: asyncpg.Record) -> bytes:
    if row["booking_id"] is None:
        return b"1"
    return msgspec.json.encode(
        Note(
            str(row["booking_id"]), row["tier_id"], -row["sold_delta"], row["refund_key"] or "", row["amount_cents"] or 0,
            row["reason"] or "", row["failure_code"] or "" if row["cancelled"] else "",
            row["fingerprint"] or "", row["all_items"] or "",
        )
    )  # fmt: skip


async def mark_applied(connection: Connection, moves: Sequence[Move]) -> None:
    """Remember that Redis has these."""
    if moves:
        await connection.execute(
            "UPDATE stock_moves SET applied_at = now() WHERE id = ANY($1::bigint[])", [move.id for move in moves]
        )


async def apply_moves(here: Shard, database: Database) -> int:
    """Apply a shard's open moves. Returns how many Redis has now. Raises `GateClosed`, and Redis's errors: once those that it
    took are marked, so that one it cannot take keeps no other waiting.

    A move that Redis cannot take yet (its counters are not loaded, or too few tickets are left) stays open: reconcile
    applies it.
    """
    async with database.writer() as connection:
        moves = await open_moves(connection, shard=here.number, most=MOVES_MAX)
        pair = await last_batch(connection, here.number) if moves else None
        taken, failed = 0, list[Exception]()
        for first in range(0, len(moves), SENT_MAX):
            sent = moves[first : first + SENT_MAX]
            replies = await here.run_all([_call(here, move, pair) for move in sent])
            crashpoint("moved")
            failed += [reply for reply in replies if isinstance(reply, Exception)]
            applied = [move for move, reply in zip(sent, replies, strict=True) if _is_applied(reply)]
            await mark_applied(connection, applied)
            taken += len(applied)
        if failed:
            raise failed[0]
    return taken


def _is_applied(reply: Any) -> bool:
    return not isinstance(reply, Exception) and reply[0] in (b"moved", b"repeated")


def _call(here: Shard, move: Move, pair: Pair | None) -> Call:
    shard = here.number
    return here.call(
        "move", moved=keys.moved(shard, move.name), sale=keys.event(shard, move.event),
        owners=keys.owners(shard, move.event), record=keys.booking(shard, move.booking or ""), tier=move.tier,
        sold_delta=move.sold_delta, total_delta=move.total_delta, owner=move.owner,
        cancelled=int(move.ending is not None), payload=move.payload, moved_ttl_s=MOVED_TTL_S, note=move.note,
        pair=str(pair or ""),
    )  # fmt: skip


async def remember_applied(here: Shard, connection: Connection, since: datetime) -> int:
    """Put back what Redis remembered of bookings' moves that were applied since then: should PostgreSQL go back next, nobody
    else knows of a refund that took some of a booking's tickets. Stock is left alone. Returns how many it had forgotten.
    """
    shard, redis = here.number, here.redis
    last = forgotten = 0
    while rows := await connection.fetch(_APPLIED, shard, since, last):
        last = rows[-1]["id"]
        names = [keys.moved(shard, f"{row['id']}-{row['nonce']}") for row in rows]
        there = await redis.mget(names)
        lacking = {name: note_of(row) for name, row, raw in zip(names, rows, there, strict=True) if raw is None}
        if lacking:  # a full Redis that has them all is not asked to write
            async with redis.pipeline(transaction=False) as pipe:
                for name, note in lacking.items():
                    pipe.set(name, note, nx=True, ex=MOVED_TTL_S)
                await pipe.execute()
        forgotten += len(lacking)
    return forgotten
