"""API keys as requests present them: `prefix.secret`, verified against the digest of the secret that Redis has."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Callable
from typing import Final

import msgspec

from boxoffice.access.rates import allowance_of
from boxoffice.access.scopes import USUAL, Caller
from boxoffice.errors import GateClosed, StoreAway, Unauthorized
from boxoffice.rate_settings import DeclineSettings, RateSettings
from boxoffice.stores import keys
from boxoffice.stores.freshness import CHECK_S, Freshness
from boxoffice.stores.gate import ask_to_load
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["BELIEVED_S", "KEYS_SHARD", "VERSION", "ApiKeyView", "ApiKeys", "secret_digest"]

KEYS_SHARD: Final = 0
"""API keys belong to no event; they live with the first shard."""

VERSION: Final = "version"
"""Field of this hash, and of the catalogue, that changes with any of the others. Absent: not loaded."""

REMEMBERED_MAX = 10_000
"""Good API keys remembered in one process. Beyond it they are forgotten, all at once, and verified anew."""

BELIEVED_S: Final = 1.5
"""Without another look at Redis, a key is believed no longer: one that was revoked is refused within two seconds, which
leaves half a second for the mirror."""


class ApiKeyView(msgspec.Struct, frozen=True):
    """What Redis knows of an API key: the digest of its secret (empty: it was revoked), whose it is, what it may do.

    What a version before wrote has neither scopes nor revision, and may do what is usual.
    """

    sha256: str
    client: str
    scopes: tuple[str, ...] = USUAL
    origins: tuple[str, ...] = ()
    expires_ms: int | None = None
    """By the clock of whoever reads it."""
    revision: int = 0
    """Grows with every change of the key."""
    return_url: str | None = None
    return_urls: tuple[str, ...] = ()
    """Of its client, so that a change of these is a change of all of the client's keys."""
    rate_max: int | None = None
    """Bookings that it may ask for in a window; None: as all keys."""


_decode = msgspec.json.Decoder(ApiKeyView).decode


def secret_digest(secret: str) -> str:
    """What is stored of a secret. One round of SHA-256 is enough: it has 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class ApiKeys:
    """Tells whose an API key is. Unknown ones cost Redis one small read a second at most.

    `clock` counts seconds, `wall` is the time of day, which keys expire by.
    """

    def __init__(
        self, shards: Shards, cache_s: float, *, clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time, rates: RateSettings | None = None,
        declines: DeclineSettings | None = None,
    ) -> None:  # fmt: skip
        self.redis = shards[KEYS_SHARD].redis
        self.cache_s = cache_s
        self.clock = clock
        self._wall = wall
        self._rates, self._declines = rates or RateSettings(), declines or DeclineSettings()
        self.known: dict[str, ApiKeyView] = {}
        self.origins: frozenset[bytes] = frozenset()
        """Of all keys: pages that may ask whether they may ask."""
        self._version: tuple[bytes | None, bytes] | None = None
        self._freshness = Freshness(self._read, clock)
        self.look_at = self._believed_until = clock()
        """When Redis is asked again."""
        self._remembered: dict[str, tuple[Caller, float]] = {}

    async def caller_of(self, api_key: str) -> Caller:
        """Whom a presented API key belongs to.

        Raises `Unauthorized`; `GateClosed` while Redis has no API keys, for nobody may call a key unknown then;
        `StoreAway` when Redis was never reached.
        """
        if (caller := self.known_caller(api_key)) is not None:
            return caller
        prefix, _, secret = api_key.partition(".")
        try:
            caller, left_s = await self._look_up(prefix, secret_digest(secret))
        except (Unauthorized, GateClosed):
            self._remembered.pop(api_key, None)
            raise
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[api_key] = (caller, self.clock() + min(self.cache_s, left_s))
        return caller

    async def holder_of(self, prefix: str, sha256: str) -> Caller:
        """Whom an API key belongs to that was presented before: the prefix, and the digest that its secret had then. Raises as
        `caller_of`: a key that was revoked, has expired or has another secret now is none."""
        return (await self._look_up(prefix, sha256))[0]

    async def may(self, prefix: str, scope: str) -> bool:
        """Whether there is such a key with this scope, by what is in memory: no proof that anybody has its secret. Raises
        `GateClosed` and `StoreAway` as `caller_of`."""
        if prefix not in self.known:
            await self._refresh()
        known = self.known.get(prefix)
        if known is None and self._version is None:
            raise GateClosed
        return known is not None and known.sha256 != "" and scope in known.scopes

    async def _look_up(self, prefix: str, sha256: str) -> tuple[Caller, float]:
        """The caller, and for how many seconds the key is still good. Raises as `caller_of`."""
        if prefix not in self.known:
            await self._refresh()
        await self.renew()
        known = self.known.get(prefix)
        left_s = 0.0 if known is None else self._left_s(known)
        if known is None or not hmac.compare_digest(known.sha256, sha256) or left_s <= 0:
            raise Unauthorized if self._version is not None else GateClosed
        allowance = allowance_of(self._rates, self._declines, prefix, known.rate_max)
        caller = Caller(known.client, frozenset(known.scopes), frozenset(map(str.encode, known.origins)), known.return_url,
                        known.return_urls, allowance)  # fmt: skip
        return caller, left_s

    def _left_s(self, known: ApiKeyView) -> float:
        """Seconds until the key expires."""
        return math.inf if known.expires_ms is None else known.expires_ms / 1_000 - self._wall()

    def known_caller(self, api_key: str) -> Caller | None:
        """As `caller_of`, from memory, if the key was found good within `key_cache_s`; None: only `caller_of` can say."""
        now = self.clock()
        if now >= self.look_at:
            self._freshness.ask()
            if now >= self._believed_until:
                return None
        remembered = self._remembered.get(api_key)
        return remembered[0] if remembered is not None and remembered[1] > now else None

    async def renew(self) -> None:
        """Compare what is known with Redis, when the last look was a second ago. Raises `StoreAway` when nothing is known."""
        if self.clock() >= self.look_at:
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            await self._freshness.refresh()
        except AWAY as error:
            if self._version is None:
                raise StoreAway from error

    async def _read(self) -> None:
        name, began = keys.api_keys(KEYS_SHARD), self.clock()
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hget(name, VERSION)
            pipe.get(keys.gate(KEYS_SHARD))
            version, gate = await pipe.execute()
        if version is None:
            # Redis has lost its keys; none was revoked by that. Keys in memory stay good, unknown ones cannot be judged.
            self._version = None
            if gate is not None:
                await ask_to_load(self.redis, KEYS_SHARD)
        elif (gate, version) != self._version:
            # A Redis that went back in time repeats a version for other keys; its gate then names another run.
            found: dict[bytes, bytes] = await self.redis.hgetall(name)  # type: ignore[misc]
            if VERSION.encode() not in found:  # lost between the two reads
                self._version = None
                return
            self._version = gate, found.pop(VERSION.encode())
            self._know({prefix.decode(): _decode(view) for prefix, view in found.items()})
        self.look_at, self._believed_until = began + CHECK_S, began + BELIEVED_S

    def _know(self, known: dict[str, ApiKeyView]) -> None:
        self.known = known
        self.origins = frozenset(origin.encode() for view in known.values() if view.sha256 for origin in view.origins)
        self._remembered.clear()
