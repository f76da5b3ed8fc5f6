"""API keys as requests present them: `prefix.secret`, verified against the digest of the secret that Redis has."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

import msgspec

from boxoffice.errors import GateClosed, StoreAway, Unauthorized
from boxoffice.stores import keys
from boxoffice.stores.freshness import CHECK_S, Freshness
from boxoffice.stores.gate import ask_to_load
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["KEYS_SHARD", "VERSION", "ApiKeyView", "ApiKeys", "secret_digest"]

KEYS_SHARD: Final = 0
"""API keys belong to no event; they live with the first shard."""

VERSION: Final = "version"
"""Field of this hash, and of the catalogue, that changes with any of the others. Absent: not loaded."""

VERDICTS_MAX = 10_000
"""Good API keys remembered in one process. Beyond it they are forgotten, all at once, and verified anew."""


class ApiKeyView(msgspec.Struct, frozen=True):
    """What Redis knows of an API key: the digest of its secret, and whose it is."""

    sha256: str
    client: str


_decode = msgspec.json.Decoder(ApiKeyView).decode


def secret_digest(secret: str) -> str:
    """What is stored of a secret. One round of SHA-256 is enough: it has 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class ApiKeys:
    """Tells whose an API key is. Unknown ones cost Redis one small read a second at most."""

    def __init__(self, shards: Shards, cache_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.redis = shards[KEYS_SHARD].redis
        self._cache_s = cache_s
        self._clock = clock
        self.known: dict[str, ApiKeyView] = {}
        self._version: tuple[bytes | None, bytes] | None = None
        self._freshness = Freshness(self._read, clock)
        self._verdicts: dict[str, tuple[str, float]] = {}

    async def client_of(self, api_key: str) -> str:
        """The client that a presented API key belongs to.

        Raises `Unauthorized`; `GateClosed` while Redis has no API keys, for nobody may call a key unknown then;
        `StoreAway` when Redis was never reached.
        """
        if (client := self.known_client(api_key)) is not None:
            return client
        prefix, _, secret = api_key.partition(".")
        if self._freshness.age > CHECK_S or prefix not in self.known:
            await self._refresh()
        known = self.known.get(prefix)
        if known is None or not hmac.compare_digest(known.sha256, secret_digest(secret)):
            self._verdicts.pop(api_key, None)
            raise Unauthorized if self._version is not None else GateClosed
        if len(self._verdicts) >= VERDICTS_MAX:
            self._verdicts.clear()
        self._verdicts[api_key] = (known.client, self._clock() + self._cache_s)
        return known.client

    def known_client(self, api_key: str) -> str | None:
        """The client, when the key was found good not long ago. None says nothing: ask `client_of`."""
        verdict = self._verdicts.get(api_key)
        return verdict[0] if verdict is not None and verdict[1] > self._clock() else None

    async def _refresh(self) -> None:
        try:
            await self._freshness.refresh()
        except AWAY as error:
            if self._version is None:
                raise StoreAway from error

    async def _read(self) -> None:
        name = keys.api_keys(KEYS_SHARD)
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hget(name, VERSION)
            pipe.get(keys.gate(KEYS_SHARD))
            version, gate = await pipe.execute()
        if version is None:
            # Lost, not revoked. The keys we know stay good; of any other nobody can say.
            self._version = None
            if gate is not None:
                await ask_to_load(self.redis, KEYS_SHARD)
        elif (gate, version) != self._version:
            # The version of a Redis that went back comes again, for other keys: under another run's gate.
            found: dict[bytes, bytes] = await self.redis.hgetall(name)  # type: ignore[misc]
            if VERSION.encode() not in found:  # lost between the two reads
                self._version = None
                return
            self._version = gate, found.pop(VERSION.encode())
            self.known = {prefix.decode(): _decode(view) for prefix, view in found.items()}
