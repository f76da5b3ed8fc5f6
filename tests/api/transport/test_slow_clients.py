"""Clients that send too much, too little or too slowly, or do not listen: each has a limit and a deadline, and nobody else
pays for them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.hostile import HEALTH, HOSTILE, keyed
from tests.support.ports import free_port
from tests.support.unread import unread
from tests.support.waiting import true_soon
from tests.support.wire import WAYS, Door

ROOT = Path(__file__).parents[3]

PATIENCE = {"HEAD_S": "1", "BODY_S": "1.5", "FLUSH_S": "1.5", "KEEP_ALIVE_S": "3", "DRAIN_S": "0.5"}


pytestmark = pytest.mark.wire


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50_000)


class Serving:
    """An API process of our own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = psutil.Process(process.pid)
        self.wait = process.wait
        self.port = port
        self.log = log

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**24))

    def megabytes(self) -> float:
        return float(self.process.memory_info().rss) / 1e6

    def clients(self) -> int:
        """Connections that are open."""
        found = self.process.net_connections()
        return len([each for each in found if each.laddr.port == self.port and each.status == "ESTABLISHED"])

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> int:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> int:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await asyncio.wait_for(self.reader.readexactly(length), 20)
        return int(head.split()[1])

    async def rest(self, timeout_s: float = 10) -> bytes:
        """All that comes until the server hangs up."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), timeout_s)
        return b""


@asynccontextmanager
async def serving(
    servers: Servers, settings: Settings, log: Path, files: int = 0, **patience: str
) -> AsyncIterator[Serving]:
    port = free_port()
    environment = os.environ | {
        "REDIS_URL": servers.redis_url,
        "DATABASE_URL": servers.database_url,
        "DATA_DIR": str(settings.data_dir),
        "PYTHONPATH": str(ROOT),
    }
    environment |= {f"BOXOFFICE_API__{name}": value for name, value in (PATIENCE | patience).items()}
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); " if files else ""
    code = f"{limit}from api.server import serve; from boxoffice.settings import load_settings;"
    command = [sys.executable, "-c", f"{code} serve(load_settings(), '127.0.0.1', {port})"]
    with log.open("wb") as lines, subprocess.Popen(command, env=environment, stderr=lines, stdout=lines) as process:
        found = Serving(process, port, log)

        async def answers() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                client = await found.connect()
                status = await client.ask(HEALTH)
                client.writer.close()
                return status == 200
            return False

        try:
            await eventually(answers, timeout_s=30)
            yield found
        finally:
            process.kill()


KEYED, POST = keyed(KEY)


class Hostile:
    """A hundred hostile clients in a process of their own, which gives way to every other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, kind: str) -> None:
        """Returns when each of them is connected, and has sent something."""
        await self._tell(kind)

    async def end(self) -> None:
        """Returns when they have hung up."""
        await self._tell("")

    async def _tell(self, line: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        assert await asyncio.wait_for(self._process.stdout.readline(), 60) == b"done\n"


@asynccontextmanager
async def hostile(serving: Serving, clients: int = 100) -> AsyncIterator[Hostile]:
    command = [sys.executable, str(ROOT / "tests/support/hostile.py"), str(serving.port), KEY, str(clients)]
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield Hostile(process)
    finally:
        process.kill()
        await process.wait()


def queued_ms(*processes: int) -> float:
    """How long they were ready to run while the cores were others', in all (Linux's schedstat). 0 where nobody counts."""
    files = [Path(f"/proc/{each}/schedstat") for each in processes]
    return sum(int(file.read_text().split()[1]) for file in files if file.exists()) / 1e6


async def waits_ms(serving: Serving, event: EventView, count: int) -> list[float]:
    """An honest client's, who books: what the process makes it wait. That other processes had the cores meanwhile, more
    tests among them, is taken off: it is not what ours does to its clients."""
    client = await serving.connect()
    ours = (serving.process.pid, os.getpid())
    took = []
    for _ in range(count):
        name = str(uuid.uuid4())
        body = json.dumps(booking_of(event, customer_id=name)).encode()
        head = b"Content-Type: application/json\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n\r\n"
        request = POST + head % (name.encode(), len(body)) + body
        queued, began = queued_ms(*ours), time.perf_counter()
        assert await client.ask(request) == 202
        took.append(max(0.0, 1_000 * (time.perf_counter() - began) - (queued_ms(*ours) - queued)))
    client.writer.close()
    return took


def p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[98]


QUANTUM_MS = 10
"""Three slices of Linux's scheduler (3 ms each) and a bit. The hostile process and the kernel's part of what it sends take
turns on the cores with the stores that ours asks, and each turn adds to any wait."""


BUSY_MS = 30
"""The same beside other tests, which have processes and stores of their own on the same cores. The long test is run alone."""


def slow(alone: list[float], beside: list[float], quantum_ms: float) -> str | None:
    """How much slower the honest client is beside them, when it is."""
    before, after = p99(alone), p99(beside)
    if after <= max(2 * before, before + quantum_ms):
        return None
    return f"p99 {before:.1f} ms without them, {after:.1f} ms beside them ({len(alone)} bookings each)"


REST_S = 4
"""Longer than from the end of many connections to the second time that memory is given back (`api.transport.watch.LATER`)."""


async def size_of(serving: Serving, event: EventView) -> float:
    """Megabytes of a process that has served a hundred honest clients at once, once it has given back what it needed."""
    await asyncio.gather(*(waits_ms(serving, event, 5) for _ in range(100)))
    size, since = serving.megabytes(), time.monotonic()

    async def is_at_rest() -> bool:
        nonlocal size, since
        if abs(serving.megabytes() - size) > 0.5:
            size, since = serving.megabytes(), time.monotonic()
        return time.monotonic() - since > REST_S

    await eventually(is_at_rest, timeout_s=30)
    return size


KEPT_MB = 40
"""What a process may keep of hostile clients when they are gone: the holes between what lives on, and tables that grew. A
hundred clients whose buffers were never let go keep more at every visit, and come once a second."""


async def costs(
    serving: Serving, event: EventView, kinds: Iterable[str], slices: int, count: int, quantum_ms: float
) -> dict[str, str]:
    """Kinds that cost somebody else, and what. The honest client's waits are taken without and with them in turn, so that
    whatever else the machine does falls on both, `slices` times, and up to five times as often while their p99 says no; the
    process is about as small again when they are gone."""
    size = await size_of(serving, event)
    found: dict[str, str] = {}

    async def is_as_small() -> bool:
        return serving.megabytes() < size + KEPT_MB and not serving.clients()

    async with hostile(serving) as them:
        for kind in kinds:
            alone: list[float] = []
            beside: list[float] = []
            for turn in range(5 * slices):
                if turn >= slices and slow(alone, beside, quantum_ms) is None:
                    break
                alone += await waits_ms(serving, event, count)
                await them.begin(kind)
                beside += await waits_ms(serving, event, count)
                await them.end()
            if said := slow(alone, beside, quantum_ms):
                found[kind] = said
            try:
                await eventually(is_as_small, timeout_s=20)
            except TimeoutError:
                left = f"{size:.0f} MB before, {serving.megabytes():.0f} MB after, {serving.clients()} connections open"
                found[kind] = f"{found.get(kind, '')} {left}".strip()
    return found


SHORT = ("one header", "small chunks", "unread books", "offers", "half a body")


@pytest.mark.timeout(400)
async def test_hostile_clients_cost_nobody_else(
    servers: Servers, settings: Settings, office: BoxOffice, event: EventView, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log") as api:
        assert await costs(api, event, SHORT, slices=3, count=60, quantum_ms=BUSY_MS) == {}
        assert {"request.unreadable"} <= {line["event"] for line in api.events()}
        assert len([line for line in api.events() if not line.get("client")]) < 60


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_hostile_clients_of_every_kind_cost_nobody_else(
    servers: Servers, settings: Settings, office: BoxOffice, event: EventView, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log") as api:
        assert await costs(api, event, HOSTILE, slices=5, count=150, quantum_ms=QUANTUM_MS) == {}
        assert len([line for line in api.events() if not line.get("client")]) < 400


@pytest.mark.parametrize(
    ("first", "status", "most_s"),
    [
        (b"", None, 4), (b"GET /hea", 408, 4), (b"\r", 408, 4), (POST + b"Content-Length: 9\r\n\r\n1", 408, 5),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408, 5), (HEALTH, 200, 8), (HEALTH + b"GET /", 200, 5),
        (POST + b"Content-Length: 99999\r\n\r\n1", 400, 5),
        (POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", 100, 5),
    ],
)  # fmt: skip
async def test_each_wait_has_an_end(
    servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path,
    first: bytes, status: int | None, most_s: float,
) -> None:  # fmt: skip
    """For the first byte, the head, the body, the next request."""
    async with serving(servers, settings, tmp_path / "log") as api:
        client = await api.connect()
        client.writer.write(first)
        began = time.monotonic()
        told = await client.rest()
        assert time.monotonic() - began < most_s
        assert told.startswith(b"HTTP/1.1 %d " % status) if status else not told
        if status in (200, 100) and first != HEALTH:
            assert b"HTTP/1.1 408 " in told


async def test_a_head_that_never_ends_is_cut_off(
    servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path
) -> None:
    """By its size, and by its time."""
    async with serving(servers, settings, tmp_path / "log") as api:
        for fill in (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, b"GET /" + b"y" * 9_000, b"GET / HTTP/1.1\r\nHost: x\r\n"
                     + b"X: y\r\n" * 101 + b"\r\n"):  # fmt: skip
            client = await api.connect()
            client.writer.write(fill)
            told = await client.rest()
            assert told.startswith(b"HTTP/1.1 431 ") and b"/problems/head-too-large" in told
        dribbling = await api.connect()
        dribbling.writer.write(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        told = asyncio.create_task(dribbling.rest())
        while not told.done():
            dribbling.writer.write(b"X: y\r\n")
            await asyncio.wait([told], timeout=0.05)
        assert (await told).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 6


async def test_an_answer_that_is_not_read_is_not_kept_for_ever(
    servers: Servers, settings: Settings, office: BoxOffice, event: EventView, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log") as api:
        client = await api.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

        async def is_gone() -> bool:
            return not [
                each
                for each in api.process.net_connections()
                if each.status == "ESTABLISHED" and each.laddr.port == api.port
            ]

        await eventually(is_gone, timeout_s=15)
        client.writer.close()


async def test_only_so_many_connections_are_open(
    servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path
) -> None:
    """One more is told so, and hung up; when one ends there is room again."""
    async with serving(servers, settings, tmp_path / "log", CONNECTIONS_MAX="5", HEAD_S="30") as api:
        held = [await api.connect() for _ in range(5)]
        told = await (await api.connect()).rest()
        assert told.startswith(b"HTTP/1.1 503 ") and b"/problems/too-many-connections" in told
        assert await held[0].ask(HEALTH) == 200
        held[1].writer.close()

        async def has_room() -> bool:
            client = await api.connect()
            with contextlib.suppress(ConnectionError):
                client.writer.write(HEALTH)
                return b"200 OK" in await client.reader.read(100)
            return False

        await eventually(has_room)
        assert [line for line in api.events() if line["event"] == "connection.refused"]


async def test_it_lives_without_descriptors(
    servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path
) -> None:
    """It says so, takes as many as there are for, and more when there are."""
    async with serving(servers, settings, tmp_path / "log", files=140, HEAD_S="30") as api:
        (few,) = [line for line in api.events() if line["event"] == "api.few_descriptors"]
        assert few["connections_max"] == 12
    async with serving(servers, settings, tmp_path / "log", files=200, HEAD_S="30") as api:
        # As if something else in the process had opened them.
        count = api.process.num_fds()
        resource.prlimit(api.process.pid, resource.RLIMIT_NOFILE, (count + 3, 200))
        held = [await api.connect() for _ in range(10)]

        async def says_so() -> bool:
            return any(line["event"] == "api.no_descriptors" for line in api.events())

        await eventually(says_so)
        for client in held:
            client.writer.close()

        async def serves() -> bool:
            with contextlib.suppress(ConnectionError):
                client = await api.connect()
                client.writer.write(HEALTH)
                return b"200 OK" in await client.reader.read(100)
            return False

        await eventually(serves)


async def test_a_process_that_stops_does_not_wait_for_the_unfinished(
    servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log", HEAD_S="60", BODY_S="60", FLUSH_S="60", DRAIN_S="1") as api:
        clients = [await api.connect() for _ in range(5)]
        for client, begun in zip(
            clients, (b"", b"GET /", POST + b"Content-Length: 9\r\n\r\n1", HEALTH, KEYED * 20_000), strict=True
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(begun)

        async def all_are_begun() -> bool:
            """Read as far as it will be: of the last, only a part."""
            return (
                unread(clients[4].writer) != 0
                and api.clients() == 5
                and not any(unread(client.writer) for client in clients[:4])
            )

        await eventually(all_are_begun)
        began = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(api.wait, 20) == 0
        assert time.monotonic() - began < 6


async def test_nothing_leads_back_to_a_connection_that_is_gone(
    office: BoxOffice, settings: Settings, event: EventView
) -> None:
    """So its memory is free at once: the collector runs rarely here."""
    body = json.dumps(booking_of(event)).encode()
    head = b"Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n" % len(body)
    gc.collect()
    gc.disable()
    try:
        for way in WAYS:
            door = Door(way, settings, office)
            for sent in (
                b"",
                HEALTH,
                KEYED * 3,
                (POST + head + body) * 4,
                HEALTH[:9],
                b"\0",
                POST + head,
                HEALTH + b"G",
            ):
                wire = await door.connect().send(sent).quiet()
                gone = weakref.ref(wire.protocol)
                wire.hang_up()
                del wire
                await true_soon(lambda gone=gone: gone() is None)  # type: ignore[misc]
    finally:
        gc.enable()


async def test_whoever_hangs_up_keeps_nobody_waiting(office: BoxOffice, settings: Settings, event: EventView) -> None:
    """Their next request would have been due in its time; nobody waits for a time that is nobody's."""
    door = Door("lane", settings, office)
    wires = [door.connect().send(HEALTH * 3) for _ in range(300)]

    async def paced() -> bool:
        return sum(wire.protocol.paced for wire in wires) >= 200

    await eventually(paced)
    for wire in wires:
        wire.hang_up()

    now = asyncio.get_running_loop().time()
    assert door.kind.turns.pace(now) - now < 0.25
    assert len((await door.connect().send(HEALTH * 3).quiet()).answers()) == 3
