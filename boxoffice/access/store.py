"""Clients and their API keys, as they are written: into PostgreSQL, and from there into Redis for everyone who reads them.

One file because whatever changes of a client or a key goes the same way into both stores.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from boxoffice import ids
from boxoffice.access.api_keys import secret_digest
from boxoffice.access.key_mirror import KeyMirror
from boxoffice.access.rates import RATE_MAX
from boxoffice.access.return_urls import check_allowed, check_return_url
from boxoffice.access.scopes import BROWSE, USUAL, check_origin, scopes_of
from boxoffice.clock import CLOCK, Clock, iso
from boxoffice.errors import Malformed, NotFound
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.models import ApiKey, Client, KeyChange
from boxoffice.stores.shard import Shards
from boxoffice.texts import fault_of

__all__ = ["NOBODY", "AccessStore", "Grant"]

NOBODY: Final = "boxoffice"
"""Who changed something when no person is known: a program of ours."""

NAMES_LOCK: Final = 0x73686F70
"""Advisory lock: two shops that are created at once have two names."""

ORIGINS_MAX: Final = 20
"""Web pages of one key: every process keeps them all."""


class Grant(Struct, frozen=True):
    """What a new API key may be used for, and until when."""

    scopes: tuple[str, ...] = USUAL
    expires_at: datetime | None = None
    origins: tuple[str, ...] = ()
    rate_max: int | None = None
    """Bookings that it may ask for in a window and shard; None: as many as all keys."""

    def check(self, now: datetime) -> None:
        """Raises `Malformed`."""
        scopes_of(self.scopes)
        check_rate(self.rate_max)
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise Malformed("The end of a key needs a time zone, such as 2030-05-22T14:00:00Z.", pointer="/expires_at")
        if self.expires_at is not None and self.expires_at <= now:
            raise Malformed("A key that expires does so later than now.", pointer="/expires_at", code="out_of_range")
        if len(self.origins) > ORIGINS_MAX:
            raise Malformed(f"A key is for up to {ORIGINS_MAX} origins.", pointer="/origins", code="too_many")
        for at, origin in enumerate(self.origins):
            check_origin(origin, f"/origins/{at}")
        if self.origins and set(self.scopes) != {BROWSE}:
            raise Malformed(
                "A key for web pages has the scope browse alone: whoever opens the page can read the key.",
                pointer="/scopes",
            )


def check_rate(most: int | None) -> None:
    """A limit of one key. Raises `Malformed`."""
    if most is not None and not 1 <= most <= RATE_MAX:
        raise Malformed(f"A key's own limit is 1 to {RATE_MAX:,} bookings.", pointer="/rate", code="out_of_range")


class AccessStore:
    """Creates clients and their API keys, and revokes keys."""

    def __init__(self, database: Database, shards: Shards, settings: Settings, clock: Clock = CLOCK) -> None:
        self._database = database
        self._clock = clock
        self._mirror = KeyMirror(database, shards)
        self._text_max = settings.limits.text_max

    async def create_client(
        self, name: str, *, client_id: str | None = None, allow_same_name: bool = False
    ) -> str:  # fmt: skip
        """A shop's id: a new one, unless it is given and there is such a shop.

        Raises `Malformed`, also when another shop has the name, unless that is allowed.
        """
        if fault := fault_of(name, self._text_max):
            raise Malformed(f"The text at /name {fault.what}.", pointer="/name", code=fault.code)
        client_id = client_id or ids.short_id()
        async with self._database.engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": NAMES_LOCK})
            same = select(Client.id).where(Client.name == name, Client.id != client_id)
            if not allow_same_name and await connection.scalar(same) is not None:
                raise Malformed("There is a shop of this name.", pointer="/name", code="duplicate_name")
            await connection.execute(upsert(Client).values(id=client_id, name=name).on_conflict_do_nothing())
        return client_id

    async def create_api_key(self, client_id: str, grant: Grant | None = None, *, actor: str = NOBODY) -> str:
        """A new API key of a client, `prefix.secret`. This is the only time that anybody sees the secret.

        Raises `Malformed`, or `NotFound` when there is no such client.
        """
        key = f"{ids.short_id()}.{secrets.token_urlsafe(32)}"
        await self.add_api_key(client_id, key, grant, actor=actor)
        return key

    async def add_api_key(
        self, client_id: str, key: str, grant: Grant | None = None, *, actor: str = NOBODY
    ) -> None:  # fmt: skip
        """Insert this API key of the client, or make it valid again after it was revoked. Used by `boxoffice seed`.

        Raises as `create_api_key`.
        """
        grant = grant or Grant()
        grant.check(self._clock.now())
        prefix, _, secret = key.partition(".")
        values = {
            "prefix": prefix, "client": client_id, "digest": secret_digest(secret),
            "scopes": " ".join(scopes_of(grant.scopes)), "origins": list(grant.origins), "expires_at": grant.expires_at,
            "rate_max": grant.rate_max,
        }  # fmt: skip
        async with self._database.engine.begin() as connection:
            if await connection.scalar(select(Client.id).where(Client.id == client_id)) is None:
                raise NotFound("There is no such client.")
            row = (await connection.execute(_ADD, values)).mappings().one()
            await _remember(connection, "created", actor, row)
        await self._mirror.write(row)

    async def revoke_api_key(self, prefix: str, *, actor: str = NOBODY) -> dict[str, Any]:
        """Stop accepting a key, within two seconds. Returns it as `api_keys` does; who was revoked before stays so since then.
        One that PostgreSQL has forgotten, since it went back, is taken from Redis, and of it `prefix` is all that is known.

        Raises `NotFound`. When Redis is away, the key is revoked there later: `StoreAway`.
        """
        async with self._database.engine.begin() as connection:
            row = (await connection.execute(_REVOKE, {"prefix": prefix})).mappings().one_or_none()
            if row is not None:
                await _remember(connection, "revoked", actor, row)
        if row is None:
            if await self._mirror.withdraw(prefix):
                return {"prefix": prefix}
            raise NotFound("There is no such API key.")
        await self._mirror.write(row)
        return _described(row)

    async def set_rate(self, prefix: str, most: int | None, *, actor: str = NOBODY) -> dict[str, Any]:
        """Let a key ask for so many bookings in a window and shard, within two seconds; None: for as many as all keys. Returns
        it as `api_keys` does.

        Raises `Malformed`, `NotFound`; when Redis is away, `StoreAway`: a worker brings it in.
        """
        check_rate(most)
        async with self._database.engine.begin() as connection:
            row = (await connection.execute(_RATE, {"prefix": prefix, "most": most})).mappings().one_or_none()
            if row is None:
                raise NotFound("There is no such API key.")
            await _remember(connection, "rate", actor, row)
        await self._mirror.write(row)
        return _described(row)

    async def set_return_urls(
        self, client_id: str, allowed: list[str], usual: str | None = None, *, actor: str = NOBODY
    ) -> None:
        """Where the shop's customers may come back to from the bank: what is `allowed` to a booking, and the `usual` one
        of those that do not say. In force within two seconds. Written down beside every key of the shop, by which it is told;
        of a shop without keys, beside none.

        Raises `Malformed`, `NotFound`; when Redis is away, `StoreAway`: a worker brings it in.
        """
        check_allowed(allowed)
        if usual is not None:
            check_return_url(usual, allowed)
        values = {"client": client_id, "url": usual, "urls": allowed}
        async with self._database.engine.begin() as connection:
            if (await connection.execute(_RETURN_URLS, values)).rowcount == 0:
                raise NotFound("There is no such client.")
            rows = (await connection.execute(_TOUCH, {"client": client_id})).mappings().all()
            for row in rows:
                await _remember(connection, "return_urls", actor, row)
            if not rows:
                await connection.execute(insert(KeyChange).values(**_of_shop(client_id, actor, usual, allowed)))
        for row in rows:
            await self._mirror.write(row)

    async def clients(self) -> list[dict[str, Any]]:
        """All clients, oldest first."""
        async with self._database.engine.connect() as connection:
            rows = await connection.execute(select(*Client.__table__.c).order_by(Client.created_at, Client.id))
            return [
                {
                    "id": row.id, "name": row.name, "created_at": iso(row.created_at), "return_url": row.return_url,
                    "return_urls": list(row.return_urls),
                }
                for row in rows
            ]  # fmt: skip

    async def api_keys(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """API keys without their secrets, oldest first."""
        query = select(*ApiKey.__table__.c).order_by(ApiKey.created_at, ApiKey.prefix)
        if client_id is not None:
            query = query.where(ApiKey.client_id == client_id)
        async with self._database.engine.connect() as connection:
            return [_described(row) for row in (await connection.execute(query)).mappings()]

    async def history(self, prefix: str | None = None, client_id: str | None = None) -> list[dict[str, Any]]:
        """What was done to API keys, oldest first: when, by whom, and what they might do from then on."""
        query = select(*KeyChange.__table__.c).order_by(KeyChange.id)
        if prefix is not None:
            query = query.where(KeyChange.prefix == prefix)
        if client_id is not None:
            query = query.where(KeyChange.client_id == client_id)
        async with self._database.engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            {
                "at": iso(row["created_at"]), "by": row["actor"], "change": row["change"], "prefix": row["prefix"],
                "client": row["client_id"], "rate": None, **row["details"],
            }
            for row in rows
        ]  # fmt: skip


_NEXT: Final = "GREATEST(api_keys.revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
"""Later than the one before, and than any that PostgreSQL may have forgotten: it is asked under the row's lock."""

_WITH_CLIENT: Final = (
    "WITH changed AS ({}) SELECT changed.*, c.return_url, c.return_urls "
    "FROM changed JOIN clients c ON c.id = changed.client_id"
)
"""Redis is told of a key with what its client says."""

_ADD: Final = text(_WITH_CLIENT.format(
    "INSERT INTO api_keys (prefix, client_id, secret_sha256, scopes, origins, expires_at, rate_max) "
    "VALUES (:prefix, :client, :digest, :scopes, :origins, :expires_at, :rate_max) "
    "ON CONFLICT (prefix) DO UPDATE SET client_id = excluded.client_id, secret_sha256 = excluded.secret_sha256, "
    "scopes = excluded.scopes, origins = excluded.origins, expires_at = excluded.expires_at, revoked_at = NULL, "
    "rate_max = excluded.rate_max, "
    f"revision = {_NEXT}, updated_at = now() RETURNING *"
))  # fmt: skip

_REVOKE: Final = text(_WITH_CLIENT.format(
    "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()), updated_at = now(), "
    f"revision = {_NEXT} WHERE prefix = :prefix RETURNING *"
))  # fmt: skip

_RATE: Final = text(_WITH_CLIENT.format(
    f"UPDATE api_keys SET rate_max = :most, updated_at = now(), revision = {_NEXT} WHERE prefix = :prefix RETURNING *"
))  # fmt: skip

_RETURN_URLS: Final = text(
    "UPDATE clients SET return_url = :url, return_urls = :urls, updated_at = now() WHERE id = :client"
)

_TOUCH: Final = text(
    f"UPDATE api_keys SET updated_at = now(), revision = {_NEXT} FROM clients c "
    "WHERE api_keys.client_id = :client AND c.id = api_keys.client_id RETURNING api_keys.*, c.return_url, c.return_urls"
)


async def _remember(connection: AsyncConnection, change: str, actor: str, row: Mapping[Any, Any]) -> None:
    """Write who did what to a key, in the transaction that does it."""
    described = _described(row)
    details = {name: described[name] for name in ("scopes", "expires_at", "origins", "rate")}
    if change == "return_urls":
        details |= {"return_url": row["return_url"], "return_urls": list(row["return_urls"])}
    values = {"prefix": row["prefix"], "client_id": row["client_id"], "change": change, "actor": actor}
    await connection.execute(insert(KeyChange).values(**values, details=details))


def _of_shop(client_id: str, actor: str, usual: str | None, allowed: list[str]) -> dict[str, Any]:
    """A row of the history of a shop that has no key yet."""
    details = {"scopes": [], "expires_at": None, "origins": [], "return_url": usual, "return_urls": allowed}
    return {"prefix": "", "client_id": client_id, "change": "return_urls", "actor": actor, "details": details}


def _described(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "prefix": row["prefix"],
        "client": row["client_id"],
        "scopes": row["scopes"].split(),
        "origins": list(row["origins"]),
        "created_at": iso(row["created_at"]),
        "expires_at": _iso(row["expires_at"]),
        "revoked_at": _iso(row["revoked_at"]),
        "rate": row["rate_max"],
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None
