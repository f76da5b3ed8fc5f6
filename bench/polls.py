"""Thousands of long polls at once on one API process: memory, CPU, and how long a notice takes from its commit to its shop.

    python -m bench.polls [--polls 10000] [--shops 100] [--seconds 30] [--catch-up 100000] [--record bench/results/polls.md]

On a private stack. Each poll is a connection of its own that asks `GET /v1/feed?after=…&wait=30`, and asks again behind the
cursor of each answer, as a shop does; whoever is told 503 `overloaded` comes back after `Retry-After`. They begin one after
another within ten seconds: all in one moment are a flood, of which the API sends most away. The shops share the polls evenly.
First nobody is told anything: memory and CPU of waiting. Then one shop at a time is told something, which is answered to all
its polls; then all are told something in one transaction. At last one shop that was away reads so many notices. Times are
from the return of the COMMIT to the answer's arrival, in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from api.transport.watch import room_for
from bench.cpu import Meter
from bench.machine import describe_machine, resident_kb
from bench.stage import Stage, open_stage
from boxoffice.errors import CannotRun
from boxoffice.notices.writing import write

__all__ = ["Crowd", "Poll", "main"]

WAIT_S: Final = 30

TYPE: Final = "webhook_endpoint.disabled"
"""A notice about no booking: it is written by itself."""

ROUNDS: Final = 100
"""Shops that are told something, one after another."""

BEGIN_S: Final = 10.0
"""In which all polls begin."""

ANSWER_S: Final = 60.0


_WRITE_MANY: Final = """
INSERT INTO notices (client_id, type, details)
SELECT $1, $2, jsonb_build_object('endpoint_id', n::text, 'reason', 'failing') FROM generate_series(1, $3) AS n
"""


class Poll(asyncio.Protocol):
    """One connection: it asks, and asks again behind the cursor of each answer."""

    def __init__(self, crowd: Crowd, shop: int) -> None:
        self.crowd = crowd
        self.shop = shop
        self.cursor = crowd.begin
        self.transport: Any = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait to be told to ask."""
        self.transport = transport

    def ask(self, wait_s: int = WAIT_S) -> None:
        """Once, if it is still there."""
        if self.transport.is_closing():
            return
        key = self.crowd.keys[self.shop]
        head = (
            f"GET /v1/feed?after={self.cursor}&wait={wait_s} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        self.transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        """An answer, or some of it."""
        self._read += data
        head, _, body = self._read.partition(b"\r\n\r\n")
        at = head.find(b"content-length: ")
        if at < 0 or len(body) < int(head[at + 16 :].partition(b"\r\n")[0]):
            return
        self._read = b""
        self.crowd.answered(self, head, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """It should not be."""
        self.crowd.lost += 1


class Page(msgspec.Struct):
    """What matters of an answer."""

    cursor: str
    data: list[msgspec.Raw]


class Refusal(msgspec.Struct):
    """The same of a problem."""

    status: int
    retry_after: float = 1.0


_page: Final = msgspec.json.Decoder(Page).decode
_refusal: Final = msgspec.json.Decoder(Refusal).decode


class Crowd:
    """All polls, and when they were answered."""

    def __init__(self, keys: list[str], begin: str) -> None:
        self.keys = keys
        self.begin = begin
        """The cursor that all begin with."""
        self.polls: list[Poll] = []
        self.lost = self.empty = self.sent_away = 0
        self.strange = ""
        """The last answer that no shop can do anything about."""
        self.committed_at = 0.0
        self.took_s: list[float] = []
        self.missing = 0
        self.all_there = asyncio.Event()

    def answered(self, poll: Poll, head: bytes, body: bytes) -> None:
        """Note it, and let it ask again."""
        if not head.startswith(b"HTTP/1.1 200"):
            self._come_back(poll, body)
            return
        page = _page(body)
        poll.cursor = page.cursor
        if page.data:
            self.took_s.append(time.perf_counter() - self.committed_at)
            self._one_less()
        else:
            self.empty += 1
        poll.ask()

    def _come_back(self, poll: Poll, body: bytes) -> None:
        """As a shop does that was told to. After another answer it does not, and is missed."""
        problem = _refusal(body)
        if problem.status != 503:
            self.strange = body.decode()
            return
        self.sent_away += 1
        asyncio.get_running_loop().call_later(problem.retry_after, poll.ask)

    def _one_less(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.all_there.set()

    async def expect(self, answers: int) -> None:
        """So many, from now on."""
        self.missing = answers
        self.all_there.clear()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.all_there.wait()
        except TimeoutError as error:
            raise CannotRun(
                f"{self.missing} of {answers} polls were not answered in {ANSWER_S:.0f} s; {self.sent_away} answers 503; "
                f"{self.lost} connections lost. {self.strange}"
            ) from error

    async def connect(self, port: int, polls: int) -> None:
        """Open the connections, and let none ask."""
        loop = asyncio.get_running_loop()
        for at in range(polls):
            _, poll = await loop.create_connection(lambda at=at: Poll(self, at % len(self.keys)), "127.0.0.1", port)  # type: ignore[misc]
            self.polls.append(poll)

    async def begin_all(self) -> None:
        """Let all ask, evenly over `BEGIN_S`."""
        began = time.perf_counter()
        for at, poll in enumerate(self.polls):
            poll.ask()
            ahead_s = at / len(self.polls) * BEGIN_S - (time.perf_counter() - began)
            if ahead_s > 0.001:
                await asyncio.sleep(ahead_s)

    async def notify(self, stage: Stage, clients: list[str]) -> list[float]:
        """Tell these shops something in one transaction. Returns how long it took until each of their polls knew, in s."""
        self.took_s = []
        pool = await stage.office.pool()
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            for client in clients:
                await write(connection, client, TYPE, {"endpoint_id": "bench", "reason": "failing"})
            expected = asyncio.ensure_future(self.expect(len(self.polls) * len(clients) // len(self.keys)))
            await asyncio.sleep(0)
            self.committed_at = time.perf_counter()
            await transaction.commit()
            self.committed_at = time.perf_counter()
        await expected
        return self.took_s


def with_share(size: int, before: int, polls: int) -> str:
    """A size, and what each poll has added to it."""
    return f"{size / 2**20:,.1f} MiB, {(size - before) / polls:,.0f} bytes each more"


def shown(took_s: list[float]) -> str:
    """p50, p99 and the last, in ms."""
    ordered = sorted(took_s)
    at = [ordered[int(share * (len(ordered) - 1))] * 1_000 for share in (0.5, 0.99, 1.0)]
    return " / ".join(f"{ms:,.0f}" for ms in at)


async def measure(stage: Stage, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The rows of the table."""
    access, pid = stage.office.access, stage.stack["api"].pid
    clients = [await access.create_client(f"Bench shop {n}", allow_same_name=True) for n in range(options.shops)]
    head = await stage.office.notices.head()
    crowd = Crowd([await access.create_api_key(client) for client in clients], str(head))
    await crowd.connect(stage.port, len(clients))
    first, crowd.polls = crowd.polls, []
    for poll in first:  # every key is looked up once, and the API has learnt what it imports late
        poll.ask(0)
    await asyncio.sleep(3)
    for poll in first:
        poll.transport.close()
    await asyncio.sleep(2)
    crowd.lost = 0
    rows: list[tuple[str, str]] = []
    empty = resident_kb(pid) * 1_024
    await crowd.connect(stage.port, options.polls)
    await asyncio.sleep(2)
    connected = resident_kb(pid) * 1_024
    meter = Meter({"api": pid})
    await crowd.begin_all()
    await asyncio.sleep(4)  # those who were sent away have come back
    begin_us = meter.used()["api"] / options.polls * 1e6
    waiting = resident_kb(pid) * 1_024
    rows += [
        ("CPU of the API to begin them, with their first read", f"{begin_us:,.0f} µs each"),
        ("memory of the API without them", f"{empty / 2**20:,.1f} MiB"),
        ("with their connections, which ask nothing", with_share(connected, empty, options.polls)),
        ("while all wait", with_share(waiting, connected, options.polls)),
    ]
    meter, began, answers = stage.meter(), time.perf_counter(), crowd.empty
    await asyncio.sleep(options.seconds)
    took = time.perf_counter() - began
    used = meter.used()
    again = (crowd.empty - answers) / took
    rows.append((
        f"CPU while nothing happens, {again:,.0f} polls a second ending empty and beginning again",
        f"API {used['api'] / took:.1%} of a core, PostgreSQL {used['postgres'] / took:.1%}",
    ))  # fmt: skip
    one: list[float] = []
    for at in range(ROUNDS):
        one += await crowd.notify(stage, [clients[at % len(clients)]])
        await asyncio.sleep(0.017 * (at % 7))
    each = options.polls // options.shops
    times = "ms to p50 / p99 / last"
    rows += [
        (f"one shop is told something, {each} polls; {ROUNDS} times: {times}", shown(one)),
        (
            f"all {options.shops} shops in one transaction, {options.polls:,} polls: {times}",
            shown(await crowd.notify(stage, clients)),
        ),
        (
            "connections lost; answers 503 `overloaded`, after which they came back",
            f"{crowd.lost}; {crowd.sent_away:,}",
        ),
    ]
    for poll in crowd.polls:
        poll.transport.abort()
    rows.append(await caught_up(stage, options.catch_up))
    return rows


async def caught_up(stage: Stage, notices: int) -> tuple[str, str]:
    """A shop was away meanwhile, and reads all it was told, a thousand a page, as a client does."""
    client = await stage.office.access.create_client("Away", allow_same_name=True)
    key = await stage.office.access.create_api_key(client)
    pool = await stage.office.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_WRITE_MANY, client, TYPE, notices)
    await stage.office.notices.number()
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    cursor, read, began = "", 0, time.perf_counter()
    while True:
        after = f"&after={cursor}" if cursor else ""
        writer.write(
            f"GET /v1/feed?limit=1000{after} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        page = _page(await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])))
        cursor, read = page.cursor, read + len(page.data)
        if not page.data:
            break
    took = time.perf_counter() - began
    writer.close()
    if read != notices:
        sys.exit(f"bench: {read} of {notices} notices came")
    return f"a shop that was away reads {notices:,} notices", f"{took:.1f} s"


async def _run(options: argparse.Namespace) -> str:
    async with open_stage(None) as stage:
        rows = await measure(stage, options)
    machine = ", ".join(describe_machine(None).values())
    lines = [
        f"# {options.polls:,} long polls on one API process", "",
        f"`python -m bench.polls --polls {options.polls} --shops {options.shops}`, {time.strftime('%Y-%m-%d')}, {machine}.", "",
        "| | |", "|---|--:|", *(f"| {what} | {figure} |" for what, figure in rows), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write it down if told to."""
    parser = argparse.ArgumentParser(prog="python -m bench.polls", description=__doc__)
    parser.add_argument("--polls", type=int, default=10_000)
    parser.add_argument("--shops", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--catch-up", type=int, default=100_000)
    parser.add_argument("--record", type=Path, help="a file for the table")
    options = parser.parse_args()
    most = str(options.polls + 200)
    os.environ |= {
        "BOXOFFICE_API__CONNECTIONS_MAX": most, "BOXOFFICE_API__WAITS_MAX": most, "BOXOFFICE_API__WAITS_CLIENT_MAX": most,
        # Connections that ask nothing are measured, too.
        "BOXOFFICE_API__HEAD_S": "120",
    }  # fmt: skip
    if room_for(options.polls + 200) < options.polls:
        sys.exit("bench: there are too few descriptors: raise `ulimit -n`")
    try:
        table = uvloop.run(_run(options))
    except CannotRun as error:
        sys.exit(f"bench: {error}")
    print(table)
    if options.record is not None:
        options.record.write_text(table)


if __name__ == "__main__":
    main()
