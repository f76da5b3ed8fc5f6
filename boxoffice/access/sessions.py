"""Operators who are signed in at `/ops`: a session stands for the API key that it was begun with.

The page keeps no key: its cookie has the key's prefix and a random token (`prefix.token`), and Redis the digest of both,
beside the prefix and the digest of the key's secret. So whoever reads Redis can sign in nowhere, and a key that is revoked,
expires or gets another secret ends its sessions as soon as it is refused itself. A Redis that was emptied has forgotten them:
one signs in again. Redis is asked for sessions of known operators' keys alone, so that a made-up cookie costs it nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from redis.exceptions import OutOfMemoryError

from boxoffice.access.api_keys import KEYS_SHARD, ApiKeys
from boxoffice.access.scopes import OPS, Caller
from boxoffice.errors import StoreAway, Unauthorized
from boxoffice.stores import keys
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["TOKEN_MAX", "Sessions"]

TOKEN_BYTES: Final = 32

TOKEN_MAX: Final = 128
"""Characters of a token: more is none of ours, and is not looked for."""


class _Session(msgspec.Struct, frozen=True):
    """What Redis has of one."""

    prefix: str
    sha256: str


class Sessions:
    """Begins, finds and ends them. `token` makes a new one."""

    def __init__(
        self, shards: Shards, api_keys: ApiKeys, ttl_s: int,
        token: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
    ) -> None:  # fmt: skip
        self._redis = shards[KEYS_SHARD].redis
        self._api_keys = api_keys
        self._ttl_s = ttl_s
        self._token = token

    async def begin(self, api_key: str) -> tuple[str, Caller]:
        """A new session's token, and whom it stands for. Raises `Unauthorized` for a key that is not good, `Forbidden` for one
        without the scope `ops`, and as `ApiKeys.caller_of`."""
        caller = await self._api_keys.caller_of(api_key)
        caller.check(OPS, None)
        prefix = caller.allowance.api_key
        token, session = f"{prefix}.{self._token()}", _Session(prefix, self._api_keys.known[prefix].sha256)
        try:
            await self._redis.set(_place_of(token), msgspec.json.encode(session), ex=self._ttl_s)
        except (*AWAY, OutOfMemoryError) as error:
            raise StoreAway from error
        return token, caller

    async def caller_of(self, token: str) -> Caller:
        """Whom a session stands for, as its key is now. Raises `Unauthorized` for one that has ended, and as
        `ApiKeys.caller_of`."""
        prefix, dot, _ = token.partition(".")
        if not dot or len(token) > TOKEN_MAX or not await self._api_keys.may(prefix, OPS):
            raise Unauthorized
        try:
            found = await self._redis.get(_place_of(token))
        except AWAY as error:
            raise StoreAway from error
        if found is None:
            raise Unauthorized
        session = msgspec.json.decode(found, type=_Session)
        return await self._api_keys.holder_of(session.prefix, session.sha256)

    async def end(self, token: str) -> None:
        """Sign out; nothing if it has ended. Raises `StoreAway`."""
        try:
            await self._redis.expire(_place_of(token), 0)
        except AWAY as error:
            raise StoreAway from error


def _place_of(token: str) -> str:
    return keys.session(KEYS_SHARD, hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest())
