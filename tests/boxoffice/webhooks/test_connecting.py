"""Names whose servers say nothing hold up those of one shop, and no process that ends. Whole deliveries try the rest."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from boxoffice.webhooks.connecting import LOOKUPS_MAX, SHOP_MAX, Names
from tests.support.waiting import true_soon

ENDS = """
import asyncio, socket, threading
from boxoffice.webhooks.connecting import Names
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def look():
    names = Names()
    try:
        await asyncio.wait_for(names.of("shop")("silent.example", 443), 0.2)
    except TimeoutError:
        names.close()
        print("left")
asyncio.run(look())
"""


class NameServer:
    """It says nothing of names that begin with `silent`, until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.go.wait(60)
            raise OSError("no answer")
        return [(None, None, None, "", ("192.0.2.1", port))]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.go.set()


def silent(names: Names, shop: str, count: int) -> list[asyncio.Future[list[str]]]:
    return [asyncio.ensure_future(names.of(shop)(f"silent{n}.{shop}.example", 443)) for n in range(count)]


async def answered(names: Names, shop: str) -> bool:
    return await asyncio.wait_for(names.of(shop)("shop.example", 443), 20) == ["192.0.2.1"]


async def test_a_shop_with_names_that_hang_delays_itself_alone(server: NameServer) -> None:
    names = Names()
    hanging = silent(names, "bad", 2 * LOOKUPS_MAX)
    await true_soon(lambda: len(server.asked) == SHOP_MAX)
    assert await answered(names, "good")
    assert len(server.asked) == SHOP_MAX + 1, "not one more of the other shop's"
    server.go.set()
    assert len(await asyncio.gather(*hanging, return_exceptions=True)) == 2 * LOOKUPS_MAX
    assert await answered(names, "bad")


async def test_shops_whose_names_failed_leave_half_of_the_threads(server: NameServer) -> None:
    names = Names()
    shops = [f"bad{number}" for number in range(LOOKUPS_MAX)]
    server.go.set()
    await asyncio.gather(*(each for shop in shops for each in silent(names, shop, 1)), return_exceptions=True)
    server.go.clear()
    server.asked.clear()
    hanging = [each for shop in shops for each in silent(names, shop, SHOP_MAX)]
    await true_soon(lambda: len(server.asked) == LOOKUPS_MAX // 2)
    assert await answered(names, "good")
    assert len(server.asked) == LOOKUPS_MAX // 2 + 1
    server.go.set()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_name_of_one_shop_is_looked_up_once_at_a_time(server: NameServer) -> None:
    names = Names()
    hanging = [each for _ in range(3) for each in silent(names, "shop", 1)]
    await true_soon(lambda: bool(server.asked))
    server.go.set()
    assert all(isinstance(each, OSError) for each in await asyncio.gather(*hanging, return_exceptions=True))
    assert len(server.asked) == 1


def test_a_process_ends_while_a_name_is_looked_up() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "left\n"
