"""A TCP proxy that breaks connections on purpose, between us and Redis or PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

__all__ = ["Proxy", "proxied"]


class Proxy:
    """Passes bytes on, until it is told to do something else.

    `delay_s` slows answers down. `when` is a word in a request: the first request that holds it is passed on, its answer
    is swallowed, and then the connection is reset (`then="reset"`) or left silent (`then="black-hole"`). `refuse` turns
    new connections away. `words` has more words like `when`, each for one request. `instead` has words and answers: the first
    request that holds such a word is not passed on, but answered so.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.port = 0
        self.delay_s = 0.0
        self.when: bytes | None = None
        self.words: list[bytes] = []
        self.then = "reset"
        self.refuse = False
        self.instead: list[tuple[bytes, bytes]] = []
        self.swallowed = 0
        """Answers that were lost so far."""
        self.waiting = 0
        """Answers that are being delayed."""
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> asyncio.Server:
        """Listen on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def reset_all(self) -> None:
        """Cut every connection now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream_writer}
        silent = asyncio.Event()
        try:
            await asyncio.gather(
                self._requests(reader, upstream_writer, writer, silent), self._answers(upstream_reader, writer, silent)
            )
        except OSError:
            pass
        finally:
            self._writers -= {writer, upstream_writer}
            for each in (writer, upstream_writer):
                with contextlib.suppress(OSError):
                    each.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            if answer := next((each for each in self.instead if each[0] in data), None):
                self.instead.remove(answer)
                writer.write(answer[1])
                writer.write_eof()
                while await reader.read(65_536):
                    pass
                raise ConnectionResetError
            if self.when is not None and self.when in data:
                self.when = None
                silent.set()
            for word in [each for each in self.words if each in data]:
                self.words.remove(word)
                silent.set()
            upstream.write(data)
            await upstream.drain()
        upstream.write_eof()

    async def _answers(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        while data := await upstream.read(65_536):
            if self.delay_s:
                self.waiting += 1
                await asyncio.sleep(self.delay_s)
                self.waiting -= 1
            if silent.is_set():
                self.swallowed += 1
                if self.then == "reset":
                    writer.transport.abort()
                    raise ConnectionResetError
                continue
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of this URL, and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 0)
    server = await proxy.start()
    where = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"
    try:
        yield proxy, urlunsplit(parts._replace(netloc=where.lstrip("@") if "@" not in parts.netloc else where))
    finally:
        server.close()
        proxy.reset_all()
