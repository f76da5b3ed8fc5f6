"""What a dead endpoint costs the others: the time from a commit to the arrival of its webhook, with 1 of 100 endpoints dead and
with none.

    python -m bench.webhooks [--endpoints 100] [--rate 200] [--seconds 15] [--pairs 3] [--record bench/results/webhooks.md]

A hundred shops with an endpoint each, on private servers; notices are committed at a fixed rate, and the couriers of one worker
deliver them to a process that notes when each arrives. The dead one takes connections and answers nothing. Slices alternate:
none dead, one, one, none. Exit code 1 when the p99 of the other 99 is a tenth higher with a dead one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Final

from bench.machine import describe_machine
from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores.postgres import migrate
from ops.stack.servers import temporary_servers

__all__ = ["main"]

MOST: Final = 1.1
"""The others' p99 with a dead endpoint may be so many times that without."""

BATCHES_S: Final = 20
"""Commits a second, whatever the rate."""

REST_S: Final = 1.5
"""After a slice: the last ones arrive."""


async def serve() -> None:
    """The shops' servers, in a process of their own: says its port; on standard input `dead N` (-1: none) begins a slice,
    `report` ends it."""
    heard: dict[str, list[int]] = {}
    dead = "-1"

    async def shop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode().removeprefix("/")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                body = await reader.readexactly(length)
                if path == dead:
                    await reader.read()  # until the courier has given up
                    break
                heard.setdefault(path, []).append(time.time_ns() - json.loads(body)["data"]["sent_ns"])
                writer.write(b"HTTP/1.1 204 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(shop, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, _, which = line.strip().partition(" ")
        if word == "dead":
            dead = which
            heard.clear()
        else:
            print(json.dumps(heard), flush=True)


class Shops:
    """Those servers, from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.webhooks", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def begin(self, dead: int) -> None:
        """A slice."""
        self._say(f"dead {dead}")

    def report(self) -> dict[str, list[int]]:
        """Endpoint to the delays of what it heard, in nanoseconds."""
        self._say("report")
        found: dict[str, list[int]] = json.loads(self._line())
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


async def deliver(office: BoxOffice) -> None:
    """What a worker does of it."""
    while True:
        await office.couriers.look()
        await asyncio.sleep(office.settings.worker.webhooks_ms / 1_000)


async def happen(office: BoxOffice, clients: list[str], rate: int, seconds: float) -> None:
    """Commit notices at this rate, of one shop after another."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        async with office.database.begin() as connection:
            while sent < rate * passed:
                await write(connection, clients[sent % len(clients)], "event.changed", {"sent_ns": time.time_ns()})
                sent += 1
        await asyncio.sleep(1 / BATCHES_S)


async def measure(office: BoxOffice, shops: Shops, wanted: argparse.Namespace) -> tuple[list[float], list[float]]:
    """The p99 in ms of the endpoints but the first, slice by slice: with none dead, and with the first."""
    clients, first = [], ""
    for number in range(wanted.endpoints):
        client = await office.access.create_client(f"Shop {number}")
        made = await office.endpoints.create(client, f"http://127.0.0.1:{shops.port}/{number}")
        clients.append(client)
        first = first or made["id"]
    delivering = asyncio.create_task(deliver(office))
    await happen(office, clients, wanted.rate, 2)
    found: tuple[list[float], list[float]] = [], []
    for pair in range(wanted.pairs):
        for with_dead in (False, True) if pair % 2 == 0 else (True, False):
            await office.endpoints.change(None, first, status="enabled")
            shops.begin(0 if with_dead else -1)
            await happen(office, clients, wanted.rate, wanted.seconds)
            await asyncio.sleep(REST_S)
            heard = shops.report()
            delays = sorted(delay / 1e6 for name, each in heard.items() if name != "0" for delay in each)
            p99 = delays[int(len(delays) * 0.99)]
            found[with_dead].append(p99)
            print(
                f"{'one dead' if with_dead else 'none dead':9}  {len(delays):6} heard  p50 {delays[len(delays) // 2]:7.1f} ms  "
                f"p99 {p99:7.1f} ms  the first: {len(heard.get('0', ()))}", flush=True,
            )  # fmt: skip
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    await office.couriers.stop()
    return found


async def run(wanted: argparse.Namespace) -> int:
    """Servers, shops, slices. Returns the exit code."""
    shops = Shops()
    try:
        with tempfile.TemporaryDirectory() as folder, temporary_servers() as servers:
            settings = Settings(redis_url=servers.redis_url, database_url=servers.database_url, data_dir=Path(folder))
            local = {"allow_http": True, "allowed_networks": ("127.0.0.0/8",), "rate_max": 10_000}
            settings = settings.model_copy(update={"webhooks": settings.webhooks.model_copy(update=local)})
            await asyncio.to_thread(migrate, settings)
            async with open_box_office(settings) as office:
                none, one = await measure(office, shops, wanted)
    finally:
        shops.close()
    ratio = median(one) / median(none)
    print(f"p99 of the others with a dead endpoint to without: {ratio:.3f} (at most {MOST:g})")
    if wanted.record is not None:
        wanted.record.write_text(table_of(none, one, wanted))
    return int(ratio > MOST)


def table_of(none: list[float], one: list[float], wanted: argparse.Namespace) -> str:
    """The p99 of the others in ms, slice by slice, as a page in Markdown; with the machine and the day."""
    slices = "".join(
        f"| {number} | {without:,.1f} | {with_one:,.1f} | {with_one / without:.2f} |\n"
        for number, (without, with_one) in enumerate(zip(none, one, strict=True), 1)
    )
    middle = f"| median | {median(none):,.1f} | {median(one):,.1f} | {median(one) / median(none):.2f} |\n"
    return (
        "# What a dead endpoint costs the others\n\n"
        f"{wanted.endpoints} shops with an endpoint each, {wanted.rate} notices a second in all, {wanted.seconds:g} s a slice: "
        f"p99 in ms from a commit to the arrival of its webhook at the other {wanted.endpoints - 1}. At most {MOST:g} is "
        f"right. Measured on {date.today()}, {describe_machine(None)['machine']}: `python -m bench.webhooks`.\n\n"
        f"| pair | none dead | one dead | one to none |\n|---|--:|--:|--:|\n{slices}{middle}"
    )


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--rate", type=int, default=200, help="notices a second, in all")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--record", type=Path, help="a file for the table")
    wanted = parser.parse_args()
    if wanted.serve:
        asyncio.run(serve())
        return
    sys.exit(asyncio.run(run(wanted)))


if __name__ == "__main__":
    main()
