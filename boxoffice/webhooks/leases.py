"""SQL of the couriers: which endpoint is whose, what is sent to it next, and what came of it.

Each endpoint has a place of its own in the record of notices, and belongs to one worker at a time, by a lease that has a
number: what a worker writes that has lost it changes nothing. So no lock is held while an endpoint is asked.

One file because its statements are read against each other: what one leaves behind, another finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from boxoffice.stores.database import Connection, Database, Reader

__all__ = [
    "Claimed", "LeaseLost", "Marked", "Standing", "Tried", "Waiting", "any_enabled", "calm", "claim", "due", "mark", "release",
]  # fmt: skip


class LeaseLost(Exception):
    """Another worker has the endpoint by now."""


class Claimed(NamedTuple):
    """An endpoint that was claimed."""

    id: str
    client_id: str
    url: str
    types: tuple[str, ...]
    position: int
    step: int
    """Its place: the notice after which it goes on, and which part of it."""
    lease: int
    failures: int
    slow: bool
    secrets: tuple[str, ...]
    secret_id: int
    """Of the latest."""


class Waiting(NamedTuple):
    """A delivery that is to be tried again."""

    notice_id: str
    type: str
    body: str
    tries: int


class Tried(NamedTuple):
    """One delivery, as it is after a try."""

    notice_id: str
    type: str
    body: str
    tries: int
    delivered: bool
    retry_s: float
    """Until the next try."""
    failure: str | None
    answer: int | None
    took_ms: int


class Marked(NamedTuple):
    """What is written of an endpoint after a round."""

    position: int
    step: int
    well: bool
    failures: int
    pause_s: float | None
    slow: bool


class Standing(NamedTuple):
    """How an endpoint stands once a round was written down."""

    enabled: bool
    changed: bool
    """It has another URL, other types or another secret since it was claimed."""
    failing_s: float
    """For so long it has taken nothing."""


_ANY_ENABLED: Final = "SELECT EXISTS (SELECT FROM webhook_endpoints WHERE status = 'enabled')"

_CLAIM: Final = """
WITH free AS MATERIALIZED (
  SELECT e.id FROM webhook_endpoints e
  WHERE e.status = 'enabled' AND e.slow = $1 AND (e.leased_until IS NULL OR e.leased_until < now())
    AND (e.paused_until IS NULL OR e.paused_until <= now())
    AND (e.behind
      OR EXISTS (SELECT FROM notices n WHERE n.client_id = e.client_id AND n.position > e.position)
      OR EXISTS (SELECT FROM webhook_deliveries d
                 WHERE d.endpoint_id = e.id AND d.status = 'waiting' AND d.next_at <= now()))
  ORDER BY e.claimed_at NULLS FIRST LIMIT $2 FOR UPDATE OF e SKIP LOCKED)
UPDATE webhook_endpoints e
SET lease = e.lease + 1, leased_until = now() + $3 * interval '1 second', claimed_at = now(), behind = true
FROM free WHERE e.id = free.id
RETURNING e.id, e.client_id, e.url, e.types, e.position, e.step, e.lease, e.failures, e.slow
"""
"""`behind` until somebody has seen its end: whoever dies in between leaves it so."""

_SECRETS: Final = """
SELECT endpoint_id, id, secret, before_until > now() AS with_before FROM webhook_secrets
WHERE endpoint_id = ANY($1::text[]) ORDER BY endpoint_id, id DESC
"""

_DUE: Final = """
SELECT notice_id, type, body, tries FROM webhook_deliveries
WHERE endpoint_id = $1 AND status = 'waiting' AND next_at <= now() ORDER BY next_at LIMIT $2
"""

_MARK_ENDPOINT: Final = """
UPDATE webhook_endpoints SET position = $3, step = $4, failures = $5, slow = $6, updated_at = now(),
  paused_until = now() + $7 * interval '1 second', leased_until = now() + $8 * interval '1 second',
  failing_since = CASE WHEN $9 THEN NULL ELSE coalesce(failing_since, now()) END,
  delivered_at = CASE WHEN $9 THEN now() ELSE delivered_at END
WHERE id = $1 AND lease = $2
RETURNING status, url, types, (SELECT max(s.id) FROM webhook_secrets s WHERE s.endpoint_id = $1) AS secret_id,
  extract(epoch FROM now() - failing_since)::float8 AS failing_for_s
"""

_MARK_DELIVERIES: Final = """
INSERT INTO webhook_deliveries AS d
  (endpoint_id, notice_id, type, body, status, tries, next_at, failure, answer, took_ms, tried_at)
SELECT $1, t.notice_id, t.type, t.body,
  CASE WHEN t.delivered THEN 'delivered' ELSE 'waiting' END, t.tries,
  CASE WHEN NOT t.delivered THEN now() + t.retry_s * interval '1 second' END, t.failure, t.answer, t.took_ms, now()
FROM unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::bool[], $7::float8[], $8::text[], $9::int[], $10::int[])
  AS t (notice_id, type, body, tries, delivered, retry_s, failure, answer, took_ms)
ON CONFLICT (endpoint_id, notice_id) DO UPDATE SET
  status = CASE WHEN excluded.status = 'waiting' AND d.since < now() - $11 * interval '1 second' THEN 'given_up'
           ELSE excluded.status END,
  next_at = CASE WHEN d.since < now() - $11 * interval '1 second' THEN NULL ELSE excluded.next_at END,
  tries = excluded.tries, failure = excluded.failure, answer = excluded.answer, took_ms = excluded.took_ms, tried_at = now()
"""

_CALM: Final = """
UPDATE webhook_endpoints SET failing_since = NULL WHERE id = $1
  AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE endpoint_id = $1 AND status = 'waiting')
"""

_HURRY: Final = "UPDATE webhook_deliveries SET next_at = now() WHERE endpoint_id = $1 AND status = 'waiting'"

_RELEASE: Final = """
UPDATE webhook_endpoints SET leased_until = NULL, behind = $3, position = $4, step = $5 WHERE id = $1 AND lease = $2
"""

_DISABLE: Final = """
UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = $2, disabled_at = now(), updated_at = now()
WHERE id = $1 AND status = 'enabled' RETURNING client_id
"""


async def any_enabled(reader: Reader) -> bool:
    """Whether there is anybody to be told at all."""
    return bool(await reader.fetchval(_ANY_ENABLED))


async def claim(database: Database, *, slow: bool, most: int, lease_s: float) -> list[Claimed]:
    """Lease up to so many endpoints that have something to be sent, of the slow ones or of the others; those first that nobody
    has claimed for longest."""
    async with database.begin() as connection:
        rows = await connection.fetch(_CLAIM, slow, most, lease_s)
        secrets: dict[str, list[Any]] = {row["id"]: [] for row in rows}
        for row in await connection.fetch(_SECRETS, list(secrets)) if rows else ():
            secrets[row["endpoint_id"]].append(row)
    return [
        Claimed(
            **{**row, "types": tuple(row["types"])}, secrets=_active(secrets[row["id"]]),
            secret_id=max((each["id"] for each in secrets[row["id"]]), default=0),
        )
        for row in map(dict, rows)
    ]  # fmt: skip


def _active(rows: Sequence[Any]) -> tuple[str, ...]:
    """Of its secrets, the latest first, those that sign now."""
    return tuple(row["secret"] for row in rows[: 2 if rows and rows[0]["with_before"] else 1])


async def due(reader: Reader, endpoint: str, most: int) -> list[Waiting]:
    """Deliveries whose pause is over, the longest overdue first."""
    return [Waiting(*row) for row in await reader.fetch(_DUE, endpoint, most)]


async def mark(
    connection: Connection,
    endpoint: Claimed,
    marked: Marked,
    tried: Sequence[Tried],
    *,
    lease_s: float,
    give_up_s: float,
) -> Standing:
    """Write down what came of a round, in the caller's transaction. Returns how it stands. An endpoint that takes something
    again is told at once what waits for it.

    Raises `LeaseLost`.
    """
    row = await connection.fetchrow(
        _MARK_ENDPOINT, endpoint.id, endpoint.lease, marked.position, marked.step, marked.failures, marked.slow,
        marked.pause_s, lease_s, marked.well,
    )  # fmt: skip
    if row is None:
        raise LeaseLost
    columns = [list(column) for column in zip(*tried, strict=True)]
    await connection.execute(_MARK_DELIVERIES, endpoint.id, *columns, give_up_s)
    if marked.well and endpoint.failures:
        await connection.execute(_HURRY, endpoint.id)
    now = row["url"], tuple(row["types"]), row["secret_id"] or 0
    return Standing(
        row["status"] == "enabled",
        now != (endpoint.url, endpoint.types, endpoint.secret_id),
        row["failing_for_s"] or 0.0,
    )


async def calm(connection: Connection, endpoint: str) -> None:
    """It fails no more where nothing waits for it: what it did not take was given up, and days without a notice are none in
    which it took nothing."""
    await connection.execute(_CALM, endpoint)


async def disable(connection: Connection, endpoint: str, reason: str) -> str | None:
    """Send it nothing more. Returns whose it is; None, and nothing is changed, when it was disabled before."""
    client: str | None = await connection.fetchval(_DISABLE, endpoint, reason)
    return client


async def release(database: Database, endpoint: Claimed, *, behind: bool, position: int, step: int) -> None:
    """Let others have it. Nothing when it is another's by now."""
    await database.execute(_RELEASE, endpoint.id, endpoint.lease, behind, position, step)
