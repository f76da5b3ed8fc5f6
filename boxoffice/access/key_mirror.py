"""API keys in Redis, as PostgreSQL has them: whoever reads them there asks PostgreSQL nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select

from boxoffice.access.api_keys import KEYS_SHARD, VERSION, ApiKeyView
from boxoffice.errors import StoreAway
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.models import ApiKey, Client
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["KeyMirror", "view_of"]

_encode = msgspec.json.Encoder().encode


def view_of(row: Mapping[Any, Any]) -> ApiKeyView:
    """A row of `api_keys`, and what its client says, as readers see it.

    Of a revoked key nothing is left that a secret could match."""
    expires_at = row["expires_at"]
    return ApiKeyView(
        sha256="" if row["revoked_at"] else row["secret_sha256"],
        client=row["client_id"],
        scopes=tuple(row["scopes"].split()),
        origins=tuple(row["origins"]),
        expires_ms=int(expires_at.timestamp() * 1_000) if expires_at else None,
        revision=row["revision"],
        return_url=row["return_url"],
        return_urls=tuple(row["return_urls"]),
        rate_max=row["rate_max"],
    )


class KeyMirror:
    """Brings API keys into Redis."""

    def __init__(self, database: Database, shards: Shards) -> None:
        self._database = database
        self._here = shards[KEYS_SHARD]

    async def load(self) -> int:
        """Bring in all that PostgreSQL has, and Redis lacks or has otherwise. Returns how many those were.

        Those that PostgreSQL was not asked for stay: another process may have just made them.
        """
        async with self._database.engine.connect() as connection:
            query = select(*ApiKey.__table__.c, Client.return_url, Client.return_urls).join(
                Client, Client.id == ApiKey.client_id
            )
            rows = (await connection.execute(query)).mappings().all()
        views = {row["prefix"]: _encode(view_of(row)) for row in rows}
        there = await self._here.redis.hgetall(keys.api_keys(KEYS_SHARD))  # type: ignore[misc]
        if VERSION.encode() in there:
            word, *changed = await self._grant(_differing(views.items(), there), all_of_them=False)
            if word == b"granted":
                return int(changed[0])
        # Redis had no keys, or lost them after they were compared: then all of PostgreSQL's have to be written.
        return int((await self._grant(_differing(views.items(), {}), all_of_them=True))[1])

    async def withdraw(self, prefix: str) -> bool:
        """Leave nothing of a key that PostgreSQL has forgotten, since it went back, which a secret could match. Returns False
        when Redis has none.

        Raises `StoreAway` when Redis is.
        """
        try:
            found = await self._here.redis.hget(keys.api_keys(KEYS_SHARD), prefix)  # type: ignore[misc]
            if found is None or prefix == VERSION:
                return False
            view = msgspec.json.decode(found, type=ApiKeyView)
            gone = msgspec.structs.replace(view, sha256="", revision=view.revision + 1)
            await self._grant([prefix, _encode(gone)], all_of_them=False)
        except AWAY as error:
            raise StoreAway("Redis does not answer. PostgreSQL knows no such key; ask again.") from error
        return True

    async def withdraw_unknown(self) -> int:
        """The same for every key that PostgreSQL does not have: an operator says that it shall be forgotten. Returns how many
        those were. Raises `StoreAway` when Redis is."""
        # First what is in Redis: a key is written there after PostgreSQL has it, so none that is made meanwhile is meant.
        there = await self._here.redis.hgetall(keys.api_keys(KEYS_SHARD))  # type: ignore[misc]
        async with self._database.engine.connect() as connection:
            known = {VERSION, *(await connection.execute(select(ApiKey.prefix))).scalars()}
        unknown = [
            prefix
            for prefix, view in ((name.decode(), view) for name, view in there.items())
            if prefix not in known and msgspec.json.decode(view, type=ApiKeyView).sha256
        ]
        return sum([await self.withdraw(prefix) for prefix in unknown])

    async def write(self, row: Mapping[Any, Any]) -> None:
        """Bring in this key, which PostgreSQL has so; with all others while Redis has none.

        Raises `StoreAway` when Redis is.
        """
        try:
            word, *_ = await self._grant([row["prefix"], _encode(view_of(row))], all_of_them=False)
            if word == b"missing":
                await self.load()
        except AWAY as error:
            raise StoreAway("Redis does not answer. The change is in PostgreSQL; a worker will load it.") from error

    async def _grant(self, grants: list[str | bytes], *, all_of_them: bool) -> Any:
        call = self._here.call("grant", api_keys=keys.api_keys(KEYS_SHARD), all=int(all_of_them), grants=grants)
        return await call.send(self._here.redis)


def _differing(views: Iterable[tuple[str, bytes]], there: Mapping[bytes, bytes]) -> list[str | bytes]:
    """Prefix and view, alternating, of keys that Redis lacks or has with another value; grant.lua is given only these."""
    return [part for prefix, view in views if there.get(prefix.encode()) != view for part in (prefix, view)]
