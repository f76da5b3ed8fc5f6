"""The server of a shop that listens, in a rush: it takes notices by webhook, verifies each by the rules of Standard Webhooks,
and is away for a while. Written on sockets: it breaks connections off where a library would answer."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

__all__ = ["ShopServer"]

PATH: Final = "/hooks"

UNTAKEN: Final = 0.01
"""Share of notices whose connection ends before they are kept, of those that are refused, and of those that are kept and whose
answer is lost."""

HEAD_MAX: Final = 16_384

_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class ShopServer:
    """Of one shop, on a port of its own. What it has kept it never forgets: it is the shop's database."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._verifier: Webhook | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.taken: dict[str, str] = {}
        """The body of each notice, by its id."""
        self.again = 0
        """Notices that came once more."""
        self.lost = 0
        """Notices that it did not keep when they came."""
        self.faults: list[str] = []
        """What should never have come."""

    @property
    def url(self) -> str:
        """Where the shop wants to be told."""
        return f"http://127.0.0.1:{self._port}{PATH}"

    def believe(self, secret: str) -> None:
        """From now on only what is signed with this is taken."""
        self._verifier = Webhook(secret)

    async def come(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._hear, "127.0.0.1", self._port, limit=HEAD_MAX)

    def go(self) -> None:
        """Be away: nobody listens, and every connection breaks off, whatever is on its way."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in [*self._open]:
            writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while self._server is not None:
                headers, body = await _request(reader)
                answer = self._take(headers, body) if self._server is not None else b""
                if not answer:
                    writer.transport.abort()
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (ValueError, KeyError, asyncio.LimitOverrunError) as error:
            self.faults.append(f"a request that is none: {type(error).__name__}")
        finally:
            self._open.discard(writer)
            writer.close()

    def _take(self, headers: dict[str, str], body: str) -> bytes:
        """Keep a notice, if it is ours. Returns the answer; nothing: the connection ends without one."""
        try:
            assert self._verifier is not None, "it listens before it has a secret"
            self._verifier.verify(body, headers)
        except WebhookVerificationError as error:
            self.faults.append(f"webhook {headers.get('webhook-id')}: {error}")
            return _REFUSED
        drawn = self._chance.random() / UNTAKEN
        if drawn < 2:
            self.lost += 1
            return b"" if drawn < 1 else _REFUSED
        notice = headers["webhook-id"]
        before = self.taken.setdefault(notice, body)
        if before is not body:
            self.again += 1
            if before != body:
                self.faults.append(f"webhook {notice}: it says {body[:200]}, and said {before[:200]}")
        return b"" if drawn < 3 else _TAKEN


async def _request(reader: asyncio.StreamReader) -> tuple[dict[str, str], str]:
    """Headers, by their names in small letters, and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return headers, (await reader.readexactly(int(headers["content-length"]))).decode()
