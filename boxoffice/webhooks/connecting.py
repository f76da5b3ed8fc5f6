"""The way to an endpoint's server: its name is looked up once, and the address that was checked is the one connected to.

httpcore2 asks whatever stands here for a connection and keeps the URL's host for TLS (the name in the handshake, and the one
that the certificate has to bear) and for `Host`. So a name that gets another address after the look leads nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias

import httpcore2

from boxoffice.webhooks.addresses import Addresses

__all__ = ["AddressRefused", "AnswerTooLong", "Lookup", "NameUnknown", "Names", "Ways"]

LOOKUPS_MAX: Final = 32
"""Names that are looked up at once, in threads: a name server that does not answer holds one for some seconds, whatever we do.
One name of a shop takes one thread at most."""

SHOP_MAX: Final = 4
"""Names of one shop that are looked up at once: one that has names which nobody answers for delays its own notices."""

SLOW_S: Final = 2.0
"""A shop whose last lookup failed, or took longer, is slow: all slow ones share half of the threads."""

TRIED_MAX: Final = 3
"""Addresses of one name that are tried, in the order in which the resolver told them."""


class AddressRefused(Exception):
    """All addresses of the host are such as may not be connected to."""


class NameUnknown(Exception):
    """The host's name has no address, or nobody says."""


class AnswerTooLong(Exception):
    """More came than is read of an answer."""


Lookup: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to addresses. Raises `OSError` for a name without any."""


class Names:
    """Looks names up, each of a shop's once at a time, in threads of its own. Names that hang hold few threads of one shop, and
    half of all threads of shops whose names hung before. No process waits for these threads to end."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(LOOKUPS_MAX)
        self._of_slow = asyncio.Semaphore(LOOKUPS_MAX // 2)
        self._of_shop: dict[str, asyncio.Semaphore] = {}
        self._slow: set[str] = set()
        self._under_way: dict[tuple[str, str, int], asyncio.Task[list[str]]] = {}

    def of(self, shop: str) -> Lookup:
        """Lookups for this shop."""
        return partial(self._look, shop)

    async def _look(self, shop: str, host: str, port: int) -> list[str]:
        key = shop, host.lower(), port
        found = self._under_way.get(key)
        if found is None:
            found = self._under_way[key] = asyncio.create_task(self._in_turn(shop, host, port))
            found.add_done_callback(lambda done: self._over(key, done))
        # Whoever has no time left leaves; the thread goes on until the name server answers.
        return await asyncio.shield(found)

    async def _in_turn(self, shop: str, host: str, port: int) -> list[str]:
        async with (
            self._of_shop.setdefault(shop, asyncio.Semaphore(SHOP_MAX)),
            self._of_slow if shop in self._slow else contextlib.nullcontext(),
            self._all,
        ):
            began_s = time.monotonic()
            slow = True
            try:
                found = await _in_thread(host, port)
                slow = time.monotonic() - began_s > SLOW_S
            finally:
                (self._slow.add if slow else self._slow.discard)(shop)
            return found

    def _over(self, key: tuple[str, str, int], done: asyncio.Task[list[str]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()

    def close(self) -> None:
        """Look nothing up any more."""
        for task in self._under_way.values():
            task.cancel()


def _in_thread(host: str, port: int) -> asyncio.Future[list[str]]:
    """A daemon: the end of the process does not wait for it, as it would for those of an executor."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def fill(found: list[str] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def work() -> None:
        found: list[str] | Exception
        try:
            found = _addresses_of(host, port)
        except Exception as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(fill, found)

    threading.Thread(target=work, name="names", daemon=True).start()
    return answer


def _addresses_of(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class Ways(httpcore2.AsyncNetworkBackend):
    """Connections to addresses that `Addresses` allows, each of which reads no more than `answer_max` bytes of one answer."""

    def __init__(self, addresses: Addresses, lookup: Lookup, answer_max: int) -> None:
        self._addresses = addresses
        self._lookup = lookup
        self._answer_max = answer_max
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises `NameUnknown`, `AddressRefused`, and what httpcore2 does for servers that cannot be reached."""
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise NameUnknown from error
        allowed = [address for address in found if self._addresses.may_connect(address)]
        if not allowed:
            raise AddressRefused if found else NameUnknown
        last: Exception = NameUnknown()
        for address in allowed[:TRIED_MAX]:
            try:
                stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.ConnectError as error:
                last = error
            else:
                return _Measured(stream, self._answer_max)
        raise last

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Never: no endpoint is there."""
        raise AddressRefused

    async def sleep(self, seconds: float) -> None:
        """Of tries that httpcore2 makes again; it is told to make none."""
        await asyncio.sleep(seconds)


class _Measured(httpcore2.AsyncNetworkStream):
    """A connection that counts what comes since something was sent: an answer, with all that may stand before it. Of TLS it
    counts what is inside."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, most: int) -> None:
        self._stream = stream
        self._most = most
        self._read = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raises `AnswerTooLong`."""
        if self._read >= self._most:
            raise AnswerTooLong
        found = await self._stream.read(min(max_bytes, self._most - self._read), timeout)
        self._read += len(found)
        return found

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """What is sent begins another answer."""
        self._read = 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Without a word of farewell, for which a server might let us wait."""
        with contextlib.suppress(OSError, ssl.SSLError):
            await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The same, inside TLS."""
        return _Measured(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._most)

    def get_extra_info(self, info: str) -> Any:
        """What the connection itself knows."""
        return self._stream.get_extra_info(info)
