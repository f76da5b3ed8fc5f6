"""What scripts publish of bookings (`lua/lib/news.lua`), for whoever waits for it in this process.

News is a hint, never a fact: whoever hears of a booking reads it. None is missed unseen. `listen` says whether the
subscription stands; if it does, the caller reads once now, else it is called once it stands; after a connection that was lost
so is everybody.

One connection per Redis, outside its pool, with a subscription for each of its shards: there while somebody listens, and a
little longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError

from boxoffice import ids
from boxoffice.stores import keys
from boxoffice.stores.refusals import lacks_right
from boxoffice.telemetry.seldom import seldom

__all__ = ["ANY", "Listener", "News"]

ANY: Final = ""
"""In place of a state: nobody knows what was missed."""

SILENT_S: Final = 5.0
"""A server that has said nothing for so long is asked whether it is there; after as long again the connection is given up."""

AGAIN_S: Final = 0.5
"""Seconds from a connection that was lost to the next."""

_ID: Final = 36
"""Characters of a booking's id."""


class Listener(Protocol):
    """Somebody who wants to know what becomes of one booking."""

    def heard(self, state: str) -> None:
        """The letter of its state, as its record has it, `R` when its payment has news, or `ANY`. Called from the loop, and
        must not wait."""


class News:
    """Of all shards."""

    def __init__(self, homes: Sequence[Redis]) -> None:
        by_redis: dict[Redis, _Line] = {}
        for shard, redis in enumerate(homes):
            by_redis.setdefault(redis, _Line(redis)).add_shard(shard)
        self._lines = tuple(by_redis[redis] for redis in homes)

    def listen(self, booking: str, listener: Listener) -> bool:
        """Call `listener` from now on. True: the subscription stands, so whoever reads the booking now misses nothing; False:
        it is called with `ANY` as soon as that is so. A booking of a shard that nobody here serves has no news."""
        shard = ids.shard_of(booking)
        return shard < len(self._lines) and self._lines[shard].listen(shard, booking, listener)

    def forget(self, booking: str, listener: Listener) -> None:
        """Call it no more."""
        shard = ids.shard_of(booking)
        if shard < len(self._lines):
            self._lines[shard].forget(shard, booking, listener)

    async def aclose(self) -> None:
        """Listen no more."""
        for line in set(self._lines):
            await line.aclose()


class _Line:
    """The connection to one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: dict[int, dict[str, list[Listener]]] = {}
        self._channels: dict[bytes, int] = {}
        self._standing: set[int] = set()
        """Shards whose subscription was confirmed on the connection that there is."""
        self._task: asyncio.Task[None] | None = None

    def add_shard(self, shard: int) -> None:
        self._listeners[shard] = {}
        self._channels[keys.news(shard).encode()] = shard

    def listen(self, shard: int, booking: str, listener: Listener) -> bool:
        self._listeners[shard].setdefault(booking, []).append(listener)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), context=Context())
        return shard in self._standing

    def forget(self, shard: int, booking: str, listener: Listener) -> None:
        listeners = self._listeners[shard]
        if listener in (of_one := listeners.get(booking, [])):
            of_one.remove(listener)
            if not of_one:
                del listeners[booking]

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def _wanted(self) -> bool:
        return any(self._listeners.values())

    async def _keep(self) -> None:
        try:
            while self._wanted:
                await self._follow()
        finally:
            self._task = None

    async def _follow(self) -> None:
        """One connection, from its begin to its end. Whatever ends it, the next one tells everybody."""
        # Of the pool are its kind and its settings: a connection that is never given back would be one fewer for calls.
        connection = self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", *self._channels)
            await self._hear(connection)
        except (RedisError, OSError) as error:
            seldom.warning("news.lost", error=type(error).__name__)
            self._standing.clear()
            if lacks_right(error):
                self._tell_all()  # we may not listen: then everybody looks, now and then
            await asyncio.sleep(AGAIN_S)
        except Exception as error:
            seldom.exception("news.line_failed", error)
            self._standing.clear()
            await asyncio.sleep(AGAIN_S)
        finally:
            self._standing.clear()
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _hear(self, connection: Any) -> None:
        """Until nobody listens any more. Raises Redis's errors."""
        now, pinged = asyncio.get_running_loop().time, False
        wanted_at = now()
        while True:
            message = await connection.read_response(disable_decoding=True, timeout=SILENT_S)
            if self._wanted:
                wanted_at = now()
            elif now() - wanted_at > SILENT_S:
                return
            if message is None:
                if pinged:
                    raise ConnectionError("Redis is silent.")
                pinged = True
                await connection.send_command("PING", check_health=False)
                continue
            pinged = False
            kind, channel, *rest = message
            if kind == b"subscribe":
                self._standing.add(shard := self._channels[channel])
                self._tell_all(shard)
            elif kind == b"message":
                self._tell(self._channels[channel], rest[0].decode("ascii", "replace"))

    def _tell(self, shard: int, news: str) -> None:
        listeners = self._listeners[shard]
        if news == "*":
            self._tell_all(shard)
        elif listeners:
            for state, booking in _each(news):
                if booking in listeners:
                    for listener in tuple(listeners[booking]):
                        _call(listener, state)

    def _tell_all(self, *shards: int) -> None:
        for shard in shards or self._listeners:
            for of_one in tuple(self._listeners[shard].values()):
                for listener in tuple(of_one):
                    _call(listener, ANY)


def _each(news: str) -> Iterator[tuple[str, str]]:
    """Letters and ids."""
    for group in news.split("|"):
        state = group[:1]
        for at in range(1, len(group), _ID):
            yield state, group[at : at + _ID]


def _call(listener: Listener, state: str) -> None:
    """A mistake of one keeps nobody else from hearing."""
    try:
        listener.heard(state)
    except Exception as error:
        seldom.exception("news.failed", error)
