"""The server of a shop that listens, on a real socket, told by the product's own sender."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import pytest

from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.sending import Sender
from boxoffice.webhooks.signing import new_secret
from ops.rush.shop_server import UNTAKEN, ShopServer
from tests.support.endpoint import ALLOWED
from tests.support.ports import free_port

TAKES, BREAKS_OFF, REFUSES, LOSES_ITS_ANSWER = 0.9, 0.5 * UNTAKEN, 1.5 * UNTAKEN, 2.5 * UNTAKEN


class Drawn(random.Random):
    """Draws these, one after another, and the last one for ever."""

    def __init__(self, shares: Iterable[float]) -> None:
        super().__init__(1)
        self.shares = list(shares)

    def random(self) -> float:
        return self.shares.pop(0) if len(self.shares) > 1 else self.shares[0]


@dataclass
class Desk:
    server: ShopServer
    sender: Sender
    secret: str
    drawn: Drawn

    async def send(self, notice: str = "n_1", body: str = '{"id":"n_1"}', secret: str = "") -> str:
        """Why it failed; empty when it was taken."""
        return (await self.sender.send(self.server.url, [secret or self.secret], notice, body)).failure


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    drawn = Drawn([TAKES])
    server, sender = ShopServer(free_port(), drawn), Sender(WebhookSettings(**ALLOWED))
    desk = Desk(server, sender, new_secret(), drawn)
    server.believe(desk.secret)
    await server.come()
    yield desk
    server.go()
    await sender.close()


async def test_what_is_signed_is_taken_once(desk: Desk) -> None:
    assert [await desk.send(), await desk.send(), await desk.send("n_2", "{}")] == ["", "", ""]
    server = desk.server
    assert (server.taken, server.again, server.lost) == ({"n_1": '{"id":"n_1"}', "n_2": "{}"}, 1, 0)
    assert server.faults == []


async def test_what_is_not_signed_or_says_otherwise_is_a_fault(desk: Desk) -> None:
    assert await desk.send(secret=new_secret()) == "status"
    assert await desk.send() == ""
    assert await desk.send(body='{"id":"n_2"}') == ""
    assert [fault.partition(":")[0] for fault in desk.server.faults] == ["webhook n_1", "webhook n_1"]
    assert desk.server.taken == {"n_1": '{"id":"n_1"}'}


@pytest.mark.parametrize(
    ("drawn", "failure", "taken"),
    [(BREAKS_OFF, "connection", False), (REFUSES, "status", False), (LOSES_ITS_ANSWER, "connection", True)],
)
async def test_now_and_then_it_is_no_good(desk: Desk, drawn: float, failure: str, taken: bool) -> None:
    desk.drawn.shares = [drawn, TAKES]
    assert await desk.send() == failure
    assert ("n_1" in desk.server.taken, desk.server.lost) == (taken, not taken)
    assert await desk.send() == ""
    assert desk.server.again == taken


async def test_while_it_is_away_nothing_reaches_it(desk: Desk) -> None:
    """Also a connection that stood before; it comes back at the same place with what it had."""
    assert await desk.send() == ""
    desk.server.go()
    assert await desk.send("n_2") == "connection"
    await desk.server.come()
    assert await desk.send("n_3") == ""
    assert [*desk.server.taken] == ["n_1", "n_3"]


async def test_what_is_no_request_is_a_fault(desk: Desk) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(desk.server.url.rpartition(":")[2].partition("/")[0])
    )
    writer.write(b"POST /hooks HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert desk.server.faults == ["a request that is none: KeyError"]
