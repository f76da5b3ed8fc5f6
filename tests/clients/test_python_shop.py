"""The client in Python, packed and installed, buys tickets of a running server through a network that loses answers."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from tests.clients.conftest import CLIENTS
from tests.conftest import KEY, SaleMaker
from tests.support.programs import a_worker, run
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parent

SOLD = {
    "bought": "confirmed",
    "answer lost": "confirmed",
    "refused twice": "confirmed",
    "declined": "payment_declined",
    "still held": "held",
    "paid": "confirmed",
    "cancelled": "cancelled",
    "short of": 10,
    "same": True,
    "bookings": 1,
    "watched": [["booking", "cancelled"]],
    "noticed": ["booking.held", "booking.confirmed", "booking.cancelled"],
    "left": True,
    "at once": [*["confirmed"] * 3, "cancelled"],
}


def problem(status: str, slug: str) -> bytes:
    """As boxoffice refuses, from a proxy."""
    body = b'{"type":"/problems/%b","title":"","status":%b,"detail":"","retry_after":1}' % (
        slug.encode(),
        status[:3].encode(),
    )
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def break_connections(proxy: Proxy) -> None:
    """The first answer to two customers is lost, and the first stream; and one is refused twice before it is let in."""
    proxy.words = [b"lost-answer", b"lost-async", b"/stream HTTP"]
    proxy.instead = [
        (b"busy-twice", problem("503 Service Unavailable", "busy")),
        (b"busy-twice", problem("429 Too Many Requests", "rate-limited")),
    ]


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
async def test_it_sells(
    shops_python: Path, breaking: tuple[Proxy, str], office: BoxOffice, open_sale: SaleMaker, tmp_path: Path
) -> None:
    proxy, url = breaking
    break_connections(proxy)
    await open_sale(GA=9)
    shutil.copy(HERE / "shop.py", tmp_path)
    async with a_worker(office):
        said = json.loads(await run(shops_python, "-W", "error", "shop.py", url, KEY, cwd=tmp_path))
    assert said == SOLD
    assert (proxy.swallowed, proxy.instead) == (3, [])


async def test_its_program_is_typed_for_whoever_uses_it(shops_python: Path, tmp_path: Path) -> None:
    """mypy finds the types in the installed package (`py.typed`), and the shop keeps to them."""
    shutil.copy(HERE / "shop.py", tmp_path)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", shops_python, "shop.py"]
    await run(*command, cwd=tmp_path)


def test_the_wheel_has_the_package_and_its_licence(shops_python: Path) -> None:
    (wheel,) = shops_python.parents[2].glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    sources = {
        f"boxoffice_client/{path.name}"
        for path in (CLIENTS / "python/src/boxoffice_client").iterdir()
        if path.is_file()
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    for client in ("python", "typescript"):
        assert (CLIENTS / client / "LICENSE").read_text() == (CLIENTS.parent / "LICENSE").read_text()
