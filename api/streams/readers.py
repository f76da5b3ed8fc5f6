"""All streams of one process: how many there may be, whether their API keys still allow them, that they are alive, and their
end."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import Final

from api.headers import Headers, api_key_of
from api.streams.frames import ALIVE
from api.streams.stream import Stream
from boxoffice.access.scopes import Caller
from boxoffice.errors import Forbidden, StreamsFull, TooManyStreams, Unauthorized, Unavailable
from boxoffice.office import BoxOffice
from boxoffice.stream_settings import StreamSettings
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import STREAMS

__all__ = ["Holder", "Readers"]

LOOK_S: Final = 0.25
"""Between two rounds: some of the readers get a heartbeat in each."""

KEYS_S: Final = 0.5
"""So often it is asked whether keys are still good: one that was revoked ends its streams within two seconds."""

CLOSED_EACH: Final = 50
"""Rounds of `CLOSE_S` in which all streams are closed when the process is told to stop: their readers come back elsewhere, and
not all at once."""

CLOSE_S: Final = 0.02

RETRY_S: Final = 5


class Holder:
    """What an API key is used for, by pages of one origin: its streams end together when it may be used for that no more."""

    __slots__ = ("authorization", "client", "key", "origin", "scope", "streams")

    def __init__(self, client: str, authorization: bytes | None, scope: str, origin: bytes | None) -> None:
        self.client = client
        self.authorization = authorization
        self.key = (api_key_of(authorization) or "").partition(".")[0]
        """Its prefix."""
        self.scope = scope
        self.origin = origin
        self.streams: set[Stream] = set()


class Readers:
    """A stream is let in (`admit`), begins or not, and is over in any case (`left`)."""

    def __init__(self, office: BoxOffice, settings: StreamSettings) -> None:
        self.office = office
        self.settings = settings
        self._streams: set[Stream] = set()
        self._holders: dict[tuple[bytes | None, str, bytes | None], Holder] = {}
        self._let_in = 0
        self._by_key: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._to_greet: list[Stream] = []
        self._greeted_each = 1
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    # Who may come

    def admit(self, caller: Caller, headers: Headers, scope: str, address: str) -> Holder:
        """Make room for one stream more. Raises `StreamsFull`, `TooManyStreams`."""
        settings, name = self.settings, (headers.authorization, scope, headers.origin)
        holder = self._holders.get(name) or Holder(caller.client, *name)
        if self._closing is not None or self._let_in >= settings.max:
            raise StreamsFull(retry_after_s=RETRY_S)
        for whose, count, most in (
            ("key", self._by_key[holder.key], settings.key_max),
            ("address", self._by_address[address], settings.address_max),
        ):
            if most and count >= most:
                raise TooManyStreams(whose=whose, limit=most, retry_after_s=RETRY_S)
        self._let_in += 1
        self._by_key[holder.key] += 1
        self._by_address[address] += 1
        return holder

    def began(self, stream: Stream) -> None:
        """One that was let in is here."""
        holder = stream.holder
        holder = self._holders.setdefault((holder.authorization, holder.scope, holder.origin), holder)
        stream.holder = holder
        holder.streams.add(stream)
        self._streams.add(stream)
        STREAMS.set(len(self._streams))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._look_after(), context=Context())
        if self._closing is not None:
            stream.end("drained")

    def left(self, stream: Stream) -> None:
        """One that was let in is over, whether it had begun or not."""
        holder = stream.holder
        self._let_in -= 1
        for counter, name in ((self._by_key, holder.key), (self._by_address, stream.address)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        self._streams.discard(stream)
        STREAMS.set(len(self._streams))
        holder.streams.discard(stream)
        whose = holder.authorization, holder.scope, holder.origin
        if not holder.streams and self._holders.get(whose) is holder:  # one that never began may have another beside it
            del self._holders[whose]

    def retry_ms(self) -> int:
        """After how long the next reader that loses us is to come back."""
        return int(self.settings.retry_ms * (1 + self.office.clock.chance()))

    # While they are here

    async def _look_after(self) -> None:
        now = asyncio.get_running_loop().time
        keys_at = now() + KEYS_S
        try:
            while self._streams:
                await asyncio.sleep(LOOK_S)
                try:
                    self._greet_some()
                    if now() >= keys_at:
                        keys_at = now() + KEYS_S
                        await self._look_at_keys()
                except Exception as error:
                    seldom.exception("streams.keys_failed", error)
        finally:
            self._task = None

    def _greet_some(self) -> None:
        """A heartbeat for those whose turn it is. In every `heartbeat_s` it is everybody's once."""
        if not self._to_greet:
            self._to_greet = list(self._streams)
            self._greeted_each = math.ceil(len(self._to_greet) * LOOK_S / self.settings.heartbeat_s)
        for _ in range(min(self._greeted_each, len(self._to_greet))):
            self._to_greet.pop().write(ALIVE)

    async def _look_at_keys(self) -> None:
        api_keys = self.office.catalogue.api_keys
        with suppress(Unavailable):
            await api_keys.renew()
        for holder in tuple(self._holders.values()):
            try:
                caller = await api_keys.caller_of(api_key_of(holder.authorization) or "")
                caller.check(holder.scope, holder.origin)
            except (Unauthorized, Forbidden):
                for stream in tuple(holder.streams):
                    stream.end("revoked")
            except Unavailable:
                pass  # nobody can say now whether it was revoked

    # The end

    def stop(self) -> None:
        """The process is told to stop: nobody comes any more, and whoever is here is sent elsewhere."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), context=Context())

    async def _close(self) -> None:
        each = len(self._streams) // CLOSED_EACH + 1
        while self._streams:
            for stream in tuple(islice(self._streams, each)):
                stream.end("drained")
            await asyncio.sleep(CLOSE_S)

    async def aclose(self) -> None:
        """All at once."""
        self.stop()
        for stream in tuple(self._streams):
            stream.end("drained")
        tasks = [task for task in (self._task, self._closing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
