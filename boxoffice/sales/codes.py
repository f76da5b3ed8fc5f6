"""Access codes: who has one books before the others, or what the others cannot, and no more tickets than it is good for.

A code is text for a customer. Here only its digest is kept: codes are shown once, to whoever has them made. They change as
everything of an event does: one transaction under the lock of its row, then mirrored, in force from the next admission call.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from boxoffice import ids
from boxoffice.clock import iso
from boxoffice.errors import Malformed, NotFound
from boxoffice.sales import history
from boxoffice.sales.checks import COUNT_MAX, check_window
from boxoffice.sales.code_mirror import CODES_MAX
from boxoffice.sales.control import Actor, Control
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.redaction import has_card_number
from boxoffice.texts import fault_of

__all__ = ["MADE_MAX", "AccessCodes", "CodeTerms", "new_code"]

MADE_MAX: Final = 10_000
"""Codes made at once."""

LEAST: Final = 12
"""Characters of a code that an operator gives: of letters and digits drawn at random that is more than anybody tries."""

MOST: Final = 64

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: 5 bits a character, none of which looks like another."""

_INSERT: Final = """
INSERT INTO access_codes (id, event_id, digest, tier_id, tickets, valid_from, valid_until, label, version)
SELECT new.id, $1, new.digest, $4, $5, $6, $7, $8, $9 FROM unnest($2::text[], $3::text[]) AS new (id, digest)
ON CONFLICT (event_id, digest) DO NOTHING RETURNING id
"""

_COUNT: Final = """
UPDATE events SET version = version + 1, codes_version = version + 1, updated_at = now() WHERE id = $1 RETURNING version
"""

_REVOKE: Final = """
UPDATE access_codes SET revoked_at = now(), version = $3
WHERE event_id = $1 AND revoked_at IS NULL AND ($2::text[] IS NULL OR id = ANY($2)) AND ($4::text IS NULL OR label = $4)
RETURNING id
"""

_LIST: Final = """
SELECT id, digest, tier_id, tickets, valid_from, valid_until, label, created_at, revoked_at FROM access_codes
WHERE event_id = $1 AND ($2::text IS NULL OR label = $2) AND ($3::text IS NULL OR id > $3) ORDER BY id LIMIT $4
"""


class CodeTerms(NamedTuple):
    """What codes are good for."""

    tickets: int
    """Of each code: held and bought, at a time."""
    tier_id: str | None = None
    """Only of this tier; None: of any."""
    valid_from: datetime | None = None
    """None: at once, however late everybody else may book."""
    valid_until: datetime | None = None
    """None: as long as tickets are on sale."""
    label: str | None = None
    """What the operator calls them."""


def new_code() -> str:
    """80 random bits, in four groups that can be read out."""
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(16))
        code = "-".join(text[at : at + 4] for at in range(0, 16, 4))
        if not has_card_number(code):  # no booking could name it
            return code


class AccessCodes:
    """Makes, lists and revokes codes."""

    def __init__(self, database: Database, shards: Shards, control: Control) -> None:
        self._database = database
        self._shards = shards
        self._control = control

    async def create(
        self, event_id: str, terms: CodeTerms, *, count: int = 1, given: Sequence[str] = (), by: Actor | None = None
    ) -> list[dict[str, Any]]:
        """So many new codes, or these: each with its `id` and its `code`, which nobody can tell again.

        Raises `Malformed`, also for a code that the event has already; and as `Control.change_event`.
        """
        by = by or Actor.operator()
        _check(terms, count, given)
        codes = list(given) or [new_code() for _ in range(count)]
        digests = [ids.code_digest(code) for code in codes]
        if len(set(digests)) < len(codes):
            raise Malformed("Two codes are the same.", pointer="/codes", code="duplicate_code")
        names = [ids.short_id() for _ in codes]

        async def work(connection: Connection) -> None:
            await self._control.lock(connection, event_id, by)
            if terms.tier_id is not None and not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM tiers WHERE id = $1 AND event_id = $2)", terms.tier_id, event_id
            ):
                raise NotFound("There is no such tier.")
            there = await connection.fetchval("SELECT count(*) FROM access_codes WHERE event_id = $1", event_id)
            if there + len(codes) > CODES_MAX:
                raise Malformed(f"An event has up to {CODES_MAX} codes.", pointer="/count", code="too_many")
            version = await connection.fetchval(_COUNT, event_id)
            made = await connection.fetch(
                _INSERT, event_id, names, digests, terms.tier_id, terms.tickets, terms.valid_from, terms.valid_until,
                terms.label, version,
            )  # fmt: skip
            if len(made) < len(codes):
                raise Malformed("The event has such a code already.", pointer="/codes", code="duplicate_code")
            changed = {"codes": [None, len(codes)], "tickets": [None, terms.tickets], "label": [None, terms.label]}
            await history.write(connection, event_id, terms.tier_id, by.name, "create_codes", changed)

        await self._control.committed(event_id, work)
        return [{"id": name, "code": code} for name, code in zip(names, codes, strict=True)]

    async def revoke(
        self, event_id: str, names: Sequence[str] | None = None, *, label: str | None = None, by: Actor | None = None
    ) -> int:
        """Let nothing more in with these codes (by id; None: with all of the label, or of the event), from the next admission
        call on. What was booked stays booked, and what is held may be paid. Returns how many were good before.

        Raises `NotFound` when ids are named and one of them is no code of the event; and as `Control.change_event`.
        """
        by = by or Actor.operator()
        revoked: list[str] = []

        async def work(connection: Connection) -> None:
            event = await self._control.lock(connection, event_id, by)
            if names is not None:
                known = await connection.fetchval(
                    "SELECT count(*) FROM access_codes WHERE event_id = $1 AND id = ANY($2)", event_id, list(set(names))
                )
                if known < len(set(names)):
                    raise NotFound("There is no such access code.")
            rows = await connection.fetch(_REVOKE, event_id, names, event["version"] + 1, label)
            revoked[:] = [row["id"] for row in rows]
            if revoked:
                await connection.execute(_COUNT, event_id)
                changed = {"codes": [len(revoked), None], "label": [label, None]}
                if len(revoked) == 1:
                    changed["id"] = [revoked[0], None]
                await history.write(connection, event_id, None, by.name, "revoke_codes", changed)

        await self._control.committed(event_id, work)
        return len(revoked)

    async def page(
        self, event_id: str, *, label: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Codes by id, from behind `after`, without what they read: what each is good for, and how many tickets are held or
        bought with it now (`used`; None while Redis does not say). Raises `NotFound` and `StoreAway`."""
        async with self._database.answering():
            shard = await self._database.fetchval("SELECT shard FROM events WHERE id = $1", event_id)
            if shard is None:
                raise NotFound("There is no such event.")
            rows = await self._database.fetch(_LIST, event_id, label, after, limit)
        used = await self._used(shard, event_id, [row["digest"] for row in rows]) if rows else []
        return [_shown(row, count) for row, count in zip(rows, used, strict=True)]

    async def _used(self, shard: int, event_id: str, digests: Sequence[str]) -> Sequence[int | None]:
        try:
            raws = await self._shards[shard].redis.hmget(  # type: ignore[misc]
                keys.owners(shard, event_id), [f"k{digest}" for digest in digests]
            )
        except AWAY:
            return [None] * len(digests)
        return [int(raw or 0) for raw in raws]


def _shown(code: Mapping[str, Any], used: int | None) -> dict[str, Any]:
    times = ("valid_from", "valid_until", "created_at", "revoked_at")
    return {
        "id": code["id"], "label": code["label"], "tier_id": code["tier_id"], "tickets": code["tickets"], "used": used,
        **{name: None if code[name] is None else iso(code[name]) for name in times},
    }  # fmt: skip


def _check(terms: CodeTerms, count: int, given: Sequence[str]) -> None:
    if not 1 <= terms.tickets <= COUNT_MAX:
        raise Malformed("A code is good for one ticket or more.", pointer="/tickets", code="out_of_range")
    if not 1 <= count <= MADE_MAX or len(given) > MADE_MAX:
        raise Malformed(f"Up to {MADE_MAX} codes are made at once.", pointer="/count", code="out_of_range")
    for moment, pointer in ((terms.valid_from, "/valid_from"), (terms.valid_until, "/valid_until")):
        if moment is not None and moment.tzinfo is None:
            raise Malformed("A time needs a time zone.", pointer=pointer, code="malformed")
    check_window(terms.valid_from, terms.valid_until, "/valid_until")
    if terms.label is not None and (fault := fault_of(terms.label, MOST)):
        raise Malformed(f"The text at /label {fault.what}.", pointer="/label", code=fault.code)
    for at, code in enumerate(given):
        if fault := fault_of(code, MOST):
            raise Malformed(f"The text at /codes/{at} {fault.what}.", pointer=f"/codes/{at}", code=fault.code)
        if sum(map(str.isalnum, code)) < LEAST or has_card_number(code):
            detail = f"A code has {LEAST} letters and digits or more, and is no card number."
            raise Malformed(detail, pointer=f"/codes/{at}", code="too_short")
