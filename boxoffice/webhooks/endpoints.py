"""Endpoints, as shops and operators manage them, and the log of what was delivered to each.

A secret is told once, when it is made. It is kept as it is, for it has to sign: in a table of its own, which the API may add
to and not read, and reports may not see.

One file because each is a statement and what it is asked with, and they show the same endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, UnsetType

from boxoffice import ids
from boxoffice.clock import micros
from boxoffice.errors import CardDataRefused, Malformed, NotFound
from boxoffice.notices.reading import Notices
from boxoffice.notices.types import NOTICE_TYPES
from boxoffice.stores.database import Database, Reader
from boxoffice.stores.postgres import UNIQUE
from boxoffice.telemetry.redaction import has_card_number
from boxoffice.texts import fault_of
from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.addresses import Addresses
from boxoffice.webhooks.signing import new_secret

__all__ = ["Endpoints"]

OVERLAP_MAX_S: Final = 604_800
"""Longest time for which the secret before goes on signing: a week."""

REDELIVER_MAX: Final = 10_000
"""Deliveries that one request has sent anew."""

LABEL_MAX: Final = 100
"""Characters of a label."""

_SHOWN: Final = """
SELECT e.id, e.client_id, e.url, e.types, e.label, e.status, e.disabled_reason, e.disabled_at, e.failing_since, e.delivered_at,
  e.paused_until, e.created_at, (SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.status = 'waiting')
    AS waiting
FROM webhook_endpoints e
WHERE e.deleted_at IS NULL AND ($1::text IS NULL OR e.client_id = $1) AND ($2::text IS NULL OR e.id = $2)
ORDER BY e.created_at, e.id
"""

_IN_TURN: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0x686F6F6B))"
"""Whoever makes an endpoint of this shop: two would count the same endpoints, and make one too many."""

_CREATE: Final = """
INSERT INTO webhook_endpoints (id, client_id, url, types, label, position, step)
SELECT $1, c.id, $3, $4, $5, $6, $7 FROM clients c WHERE c.id = $2
  AND (SELECT count(*) FROM webhook_endpoints e WHERE e.client_id = c.id AND e.deleted_at IS NULL) < $8
ON CONFLICT DO NOTHING RETURNING id
"""

_SIGN_WITH: Final = """
INSERT INTO webhook_secrets (endpoint_id, secret, before_until) VALUES ($1, $2, $3)
"""
"""It returns nothing: who adds one need not have the right to read any."""

_UNTIL: Final = "SELECT CASE WHEN $1 > 0 THEN now() + $1 * interval '1 second' END"

_CHANGE: Final = """
WITH was AS MATERIALIZED (
  SELECT id, status = 'disabled' AND coalesce($7 = 'enabled', false) AS back FROM webhook_endpoints
  WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR client_id = $2) FOR UPDATE)
UPDATE webhook_endpoints e SET url = coalesce($3, url), types = coalesce($4, types),
  label = CASE WHEN $5 THEN $6 ELSE label END, status = coalesce($7, status),
  disabled_reason = CASE WHEN $7 IS NULL OR $7 = status THEN disabled_reason WHEN $7 = 'disabled' THEN 'asked' END,
  disabled_at = CASE WHEN $7 IS NULL OR $7 = status THEN disabled_at WHEN $7 = 'disabled' THEN now() END,
  failing_since = CASE WHEN was.back THEN NULL ELSE failing_since END,
  failures = CASE WHEN was.back THEN 0 ELSE failures END, paused_until = CASE WHEN was.back THEN NULL ELSE paused_until END,
  behind = behind OR was.back, updated_at = now()
FROM was WHERE e.id = was.id RETURNING was.back
"""
"""Whoever enables one that was disabled has mended it: it is tried at once. It stays among the slow until it has shown
that it is not, and of one that is enabled nothing is forgotten: a shop that asks again and again delays nobody else."""

_HURRY: Final = "UPDATE webhook_deliveries SET next_at = now() WHERE endpoint_id = $1 AND status = 'waiting'"

_DELETE: Final = """
UPDATE webhook_endpoints SET deleted_at = now(), status = 'disabled', disabled_at = coalesce(disabled_at, now()),
  disabled_reason = coalesce(disabled_reason, 'asked'), updated_at = now()
WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR client_id = $2) RETURNING id
"""

_DELIVERIES: Final = """
SELECT id, notice_id, type, status, tries, failure, answer, took_ms, since, tried_at, next_at FROM webhook_deliveries
WHERE endpoint_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
"""

_REDELIVER: Final = """
WITH chosen AS MATERIALIZED (
  SELECT id FROM webhook_deliveries
  WHERE endpoint_id = $1 AND ($2::text IS NULL OR notice_id = $2)
    AND ($3::timestamptz IS NULL OR created_at >= $3) AND ($4::timestamptz IS NULL OR created_at < $4)
    AND ($5::text IS NULL OR status = $5)
  ORDER BY id LIMIT $6)
UPDATE webhook_deliveries d SET status = 'waiting', next_at = now(), since = now(), tries = 0
FROM chosen WHERE d.id = chosen.id
"""


class Endpoints:
    """Where `client` is None, an operator asks, and any shop's will do. Of another shop's nobody hears that it exists."""

    def __init__(self, database: Database, notices: Notices, settings: WebhookSettings) -> None:
        self._database = database
        self._notices = notices
        self._settings = settings
        self._addresses = Addresses(settings.allowed_networks, allow_http=settings.allow_http)

    async def create(
        self, client: str, url: str, types: Sequence[str] = (), label: str | None = None, *, from_start: bool = False
    ) -> dict[str, Any]:
        """A new one, with its `secret`, which nobody sees again. It hears of what happens from now on, or of all that is kept
        of it. Raises `Malformed`, and `NotFound` for a shop that there is not."""
        self._check(url, types, label)
        async with self._database.answering():
            place = await (self._notices.start() if from_start else self._notices.head())
            endpoint, secret = ids.short_id(), new_secret()
            async with self._database.begin() as connection:
                await connection.execute(_IN_TURN, client)
                made = await connection.fetchval(
                    _CREATE, endpoint, client, url, list(dict.fromkeys(types)), label, place.position, place.within,
                    self._settings.endpoints_max,
                )  # fmt: skip
                if made is None:
                    raise await self._why_not(connection, client, url)
                await connection.execute(_SIGN_WITH, endpoint, secret, None)
        return {**await self.one(client, endpoint), "secret": secret}

    async def _why_not(self, reader: Reader, client: str, url: str) -> Exception:
        if not await reader.fetchval("SELECT EXISTS (SELECT FROM clients WHERE id = $1)", client):
            return NotFound("There is no such client.")
        same = "SELECT EXISTS (SELECT FROM webhook_endpoints WHERE client_id = $1 AND url = $2 AND deleted_at IS NULL)"
        if await reader.fetchval(same, client, url):
            return _same_url()
        return Malformed(f"A shop has up to {self._settings.endpoints_max} endpoints.", code="too_many")

    async def every(self, client: str | None) -> list[dict[str, Any]]:
        """All of a shop, or of all shops, oldest first."""
        async with self._database.answering():
            return [_endpoint(row) for row in await self._database.fetch(_SHOWN, client, None)]

    async def one(self, client: str | None, endpoint: str) -> dict[str, Any]:
        """Raises `NotFound`."""
        async with self._database.answering():
            row = await self._database.fetchrow(_SHOWN, client, endpoint)
        if row is None:
            raise NotFound
        return _endpoint(row)

    async def change(
        self,
        client: str | None,
        endpoint: str,
        *,
        url: str | UnsetType = UNSET,
        types: Sequence[str] | UnsetType = UNSET,
        label: str | UnsetType | None = UNSET,
        status: str | UnsetType = UNSET,
    ) -> dict[str, Any]:
        """It as it is now; what is not named stays. Raises `Malformed`, `NotFound`."""
        self._check(url, types, label)
        try:
            async with self._database.answering(), self._database.begin() as connection:
                back = await connection.fetchval(
                    _CHANGE, endpoint, client, _named(url), None if types is UNSET else list(dict.fromkeys(types)),
                    label is not UNSET, _named(label), _named(status),
                )  # fmt: skip
                if back:
                    await connection.execute(_HURRY, endpoint)
        except UNIQUE as error:
            raise _same_url() from error
        if back is None:
            raise NotFound
        return await self.one(client, endpoint)

    async def delete(self, client: str | None, endpoint: str) -> None:
        """It hears of nothing more. Its log goes with its age. Raises `NotFound`."""
        async with self._database.answering():
            if await self._database.fetchval(_DELETE, endpoint, client) is None:
                raise NotFound

    async def rotate(self, client: str | None, endpoint: str, overlap_s: int) -> dict[str, Any]:
        """A new secret, which nobody sees again. For so many seconds the one before signs as well; 0: no more from now on. One
        that was before that signs no more in any case. Raises `Malformed`, `NotFound`."""
        if not 0 <= overlap_s <= OVERLAP_MAX_S:
            raise Malformed(
                f"Two secrets sign for 0 to {OVERLAP_MAX_S:,} seconds.", pointer="/overlap_s", code="out_of_range"
            )
        await self.one(client, endpoint)
        secret = new_secret()
        async with self._database.answering():
            until = await self._database.fetchval(_UNTIL, float(overlap_s))
            await self._database.execute(_SIGN_WITH, endpoint, secret, until)
        return {"id": endpoint, "secret": secret, "before_until": _time(until)}

    async def deliveries(
        self, client: str | None, endpoint: str, status: str | None = None, before: int | None = None, most: int = 100
    ) -> list[dict[str, Any]]:
        """Of an endpoint, the latest first; those below a `number`. Raises `NotFound`."""
        await self.one(client, endpoint)
        async with self._database.answering():
            rows = await self._database.fetch(_DELIVERIES, endpoint, status, before, most)
        return [_delivery(row) for row in rows]

    async def redeliver(
        self,
        client: str | None,
        endpoint: str,
        *,
        notice: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        status: str | None = None,
    ) -> int:
        """Have deliveries sent anew, whatever came of them: one, or those first tried in a range of time. Returns how many, at
        most `REDELIVER_MAX`: the oldest. Raises `NotFound`."""
        await self.one(client, endpoint)
        async with self._database.answering():
            done = await self._database.execute(_REDELIVER, endpoint, notice, since, until, status, REDELIVER_MAX)
        count = int(done.rpartition(" ")[2])
        if notice is not None and not count:
            raise NotFound("The log of this endpoint has no such delivery.")
        return count

    def _check(
        self, url: str | UnsetType, types: Sequence[str] | UnsetType, label: str | UnsetType | None
    ) -> None:  # fmt: skip
        if url is not UNSET:
            self._addresses.check_url(url)
            if has_card_number(url):
                raise CardDataRefused(pointer="/url")
        for at, each in enumerate(() if types is UNSET else types):
            if each not in NOTICE_TYPES:
                raise Malformed("There is no such type of notice.", pointer=f"/types/{at}", code="unknown_type")
        if isinstance(label, str):
            if fault := fault_of(label, LABEL_MAX):
                raise Malformed(f"The label {fault.what}.", pointer="/label", code=fault.code)
            if has_card_number(label):
                raise CardDataRefused(pointer="/label")


def _same_url() -> Malformed:
    return Malformed("There is an endpoint with this URL.", pointer="/url", code="duplicate_url")


def _named(value: Any) -> Any:
    return None if value is UNSET else value


def _endpoint(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "shop": row["client_id"],
        "url": row["url"],
        "types": list(row["types"]),
        "label": row["label"],
        "status": row["status"],
        "disabled_reason": row["disabled_reason"],
        "disabled_at": _time(row["disabled_at"]),
        "failing_since": _time(row["failing_since"]),
        "paused_until": _time(row["paused_until"]),
        "delivered_at": _time(row["delivered_at"]),
        "waiting": row["waiting"],
        "created_at": _time(row["created_at"]),
    }


def _delivery(row: Any) -> dict[str, Any]:
    return {
        "number": row["id"],
        "notice_id": row["notice_id"],
        "type": row["type"],
        "status": row["status"],
        "tries": row["tries"],
        "failure": row["failure"],
        "answer": row["answer"],
        "took_ms": row["took_ms"],
        "since": _time(row["since"]),
        "tried_at": _time(row["tried_at"]),
        "next_at": _time(row["next_at"]),
    }


def _time(moment: datetime | None) -> str | None:
    return micros(moment) if moment else None
