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
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from boxoffice.catalogue import EventView
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.servers import Servers
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.hostile import HEALTH, HOSTILE, keyed
from tests.support.ports import free_port
from tests.support.wire import WAYS, Door

ROOT = Path(__file__).parents[2]

PATIENCE = {"HEAD_S": "1", "BODY_S": "1.5", "FLUSH_S": "1.5", "KEEP_ALIVE_S": "3", "DRAIN_S": "0.5"}


@pytest.fixture(params=["lane"])
def settings(settings: Settings) -> Settings:
    return settings


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


async def misbehave(serving: Serving, kind: str, seconds: float, clients: int = 1) -> None:
    """Hostile clients in a process of their own."""
    command = [sys.executable, str(ROOT / "tests/support/hostile.py"), str(serving.port), KEY, kind]
    process = await asyncio.create_subprocess_exec(*command, str(seconds), str(clients))
    assert await process.wait() == 0


async def p99_ms(serving: Serving, event: EventView, count: int, key: str) -> float:
    """An honest client's: books and reads."""
    client = await serving.connect()
    took = []
    for number in range(count):
        body = json.dumps(booking_of(event)).encode()
        head = b"Content-Type: application/json\r\nIdempotency-Key: %b-%d\r\nContent-Length: %d\r\n\r\n"
        request = POST + head % (key.encode(), number, len(body)) + body
        began = time.perf_counter()
        assert await client.ask(request) == 202
        took.append(1_000 * (time.perf_counter() - began))
    client.writer.close()
    return statistics.quantiles(took, n=100)[98]


async def compare(
    serving: Serving, event: EventView, kinds: Iterable[str], seconds: float, clients: int, floor_ms: float
) -> None:
    """The process has its size again afterwards, and the honest client is served as fast as ever beside them: within
    twice its own time, or what a busy machine takes for a hundred new connections."""
    await p99_ms(serving, event, 100, "warm")
    size = serving.megabytes()
    slow: dict[str, tuple[float, float]] = {}
    for name in kinds:
        # On a machine where others work too: the best of three.
        for attempt in range(3):
            alone = await p99_ms(serving, event, 100, f"{name}-{attempt}-alone".replace(" ", ""))
            hostile = asyncio.create_task(misbehave(serving, name, seconds, clients))
            await asyncio.sleep(0.4)
            beside = await p99_ms(serving, event, 100, f"{name}-{attempt}-beside".replace(" ", ""))
            await hostile
            if beside <= max(2 * alone, floor_ms):
                break
        else:
            slow[name] = alone, beside
    assert not slow

    async def is_as_small() -> bool:
        return serving.megabytes() < 1.2 * size and not serving.clients()

    try:
        await eventually(is_as_small, timeout_s=10)
    except TimeoutError:
        pytest.fail(f"{size:.0f} MB before, {serving.megabytes():.0f} MB after, {serving.clients()} connections open")


SHORT = ("silent", "one header", "small chunks", "an endless body", "unread books", "offers", "half a body")


async def test_hostile_clients_cost_nobody_else(
    servers: Servers, settings: Settings, office: BoxOffice, event: EventView, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log") as api:
        await compare(api, event, SHORT, 1.5, 100, 500)
        assert {"request.unreadable"} <= {line["event"] for line in api.events()}
        assert len([line for line in api.events() if not line.get("client")]) < 60


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_hostile_clients_of_every_kind_cost_nobody_else(
    servers: Servers, settings: Settings, office: BoxOffice, event: EventView, tmp_path: Path
) -> None:
    async with serving(servers, settings, tmp_path / "log") as api:
        await compare(api, event, HOSTILE, 5.0, 100, 250)
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
        dribbling = asyncio.create_task(misbehave(api, "a slow head", 20))
        began = time.monotonic()
        await dribbling
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
        await asyncio.sleep(0.3)
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
                await asyncio.sleep(0.01)
                assert gone() is None, (way, sent)
    finally:
        gc.enable()
