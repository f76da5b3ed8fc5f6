"""The server as it runs: a process of its own, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.api.bad_bodies import BODIES
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.ports import free_port
from tests.support.waiting import pace

pytestmark = pytest.mark.parametrize("settings", ["lane", "fast", "plain"], indirect=True)

ROOT = Path(__file__).parents[3]
CARD = "4242424242424242"

DRAIN_S = 1.5


class Serving:
    """An API process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log


@contextlib.contextmanager
def serving_with(servers: Servers, settings: Settings, log: Path) -> Iterator[Serving]:
    """An API process with these settings."""
    port = free_port()
    environment = os.environ | {
        "REDIS_URL": servers.redis_url,
        "DATABASE_URL": servers.database_url,
        "DATA_DIR": str(settings.data_dir),
        "BOXOFFICE_API__FAST_PATH": str(settings.api.fast_path),
        "BOXOFFICE_API__LANE": str(settings.api.lane),
        "BOXOFFICE_API__DRAIN_S": str(DRAIN_S),
        "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": settings.gateway.webhook_secret,
        "PYTHONPATH": str(ROOT),
    }
    code = "from api.server import serve; from boxoffice.settings import load_settings; import sys;"
    command = [sys.executable, "-c", f"{code} serve(load_settings(), '127.0.0.1', {port})"]
    with log.open("wb") as lines, subprocess.Popen(command, env=environment, stderr=lines, stdout=lines) as process:
        try:
            yield Serving(process, port, log)
        finally:
            process.kill()  # a test that fails is told, and does not wait for the end of a server


@pytest.fixture
def serving(servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path) -> Iterator[Serving]:
    with serving_with(servers, settings, tmp_path / "api.log") as serving:
        yield serving


async def connect(serving: Serving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async def accepts() -> Any:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", serving.port)

    return await eventually(accepts, timeout_s=30)  # type: ignore[no-any-return]


async def stops_listening(serving: Serving) -> None:
    """Told to stop, it refuses whoever is new."""
    serving.process.send_signal(signal.SIGTERM)

    async def refuses() -> bool:
        try:
            # A knock that is let by unheard is repeated by the system a whole second later: that is too late for us.
            async with asyncio.timeout(0.05):
                _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        except ConnectionRefusedError:
            return True
        except (
            TimeoutError,
            ConnectionResetError,
        ):  # reset: it was in the queue of the listener that was closed just then
            return False
        writer.close()
        return False

    await eventually(refuses, timeout_s=20)


def request_of(body: bytes, key: str, *headers: str, length: bool = True) -> bytes:
    lines = [
        "POST /v1/bookings HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", "Content-Type: application/json",
        f"Idempotency-Key: {key}", *headers,
    ]  # fmt: skip
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_of(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
    status, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 20)
    return int(status.split()[1]), headers, json.loads(body)


async def test_it_serves_and_stops(serving: Serving, open_sale: SaleMaker) -> None:
    """One connection carries many requests. After SIGTERM its next answer is the last, and says so: a client that was
    just sending meets no closed door. Then the process ends with 0."""
    event = await open_sale(GA=100)
    reader, writer = await connect(serving)

    for number in range(3):
        writer.write(request_of(json.dumps(booking_of(event)).encode(), f"k{number}"))
        status, headers, booking = await answer_of(reader)
        assert (status, booking["status"]) == (202, "pending")
        assert "server" not in headers
    pipelined = [request_of(json.dumps(booking_of(event)).encode(), f"p{number}") for number in range(5)]
    writer.write(b"".join(pipelined))
    assert [(await answer_of(reader))[0] for _ in pipelined] == [202] * 5
    looking_reader, looking_writer = await connect(serving)
    looking_writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer_of(looking_reader))[0] == 200
    probing_reader, probing_writer = await connect(serving)
    probing_writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer_of(probing_reader))[0] == 200
    await stops_listening(serving)

    writer.write(request_of(json.dumps(booking_of(event)).encode(), "last"))
    status, headers, booking = await answer_of(reader)
    assert (status, booking["status"], headers["connection"]) == (202, "pending", "close")
    assert await reader.read() == b""
    looking_writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, _ = await answer_of(looking_reader)
    assert (status, headers["connection"]) == (200, "close")
    probing_writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, problem = await answer_of(probing_reader)
    assert (status, problem["reasons"], headers["connection"]) == (503, {"process": "It is stopping."}, "close")
    assert await asyncio.to_thread(serving.process.wait, 20) == 0
    for each in (looking_writer, probing_writer, writer):
        each.close()


async def test_reads_are_answered_in_turn(serving: Serving, open_sale: SaleMaker) -> None:
    """Whatever comes before and after them on the connection, with a body or without, and at its end."""
    event = await open_sale(GA=100)
    reader, writer = await connect(serving)
    writer.write(request_of(json.dumps(booking_of(event)).encode(), "k"))
    booking = (await answer_of(reader))[2]

    paths = {f"/v1/bookings/{booking['id']}": 200, f"/v1/events/{event.id}": 200, f"/v1/events/{event.id}?x=1": 400,
             "/v1/bookings/nobody": 404, "/v1/events/%6eobody": 404, "/healthz": 200}  # fmt: skip
    for path in paths:
        writer.write(read_of(path))
        writer.write(request_of(json.dumps(booking_of(event)).encode(), path))
    for path, expected in paths.items():
        status, headers, body = await answer_of(reader)
        assert status == expected, path
        assert "connection" not in headers
        if path.endswith(booking["id"]):
            booking.pop("availability")
            assert (body | {"payment": None}, headers["retry-after"]) == (booking | {"payment": None}, "1")
        if path.endswith(event.id):
            assert body["tiers"][0]["available"] == 98
        assert (await answer_of(reader))[0] == 202

    writer.write(read_of(f"/v1/events/{event.id}", "Content-Length: 100000") + b"x" * 100_000)
    assert (await answer_of(reader))[0] == 200
    writer.write(read_of(f"/v1/events/{event.id}", "Origin: https://shop.example"))
    assert (await answer_of(reader))[0] == 200
    writer.write(b"GET /v1/events/x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer_of(reader))[0] == 401
    writer.write(read_of(f"/v1/events/{event.id}", "Connection: close"))
    status, headers, _ = await answer_of(reader)
    assert (status, headers["connection"]) == (200, "close")
    assert await reader.read() == b""
    writer.close()


async def test_a_request_in_flight_is_finished(serving: Serving, open_sale: SaleMaker) -> None:
    """Told to stop while a body is still arriving, or a head, the server waits for the rest, books and answers. An idle
    connection does not hold it up for long."""
    event = await open_sale(GA=100)
    reader, writer = await connect(serving)
    body = json.dumps(booking_of(event)).encode()
    whole = request_of(body, "k")
    writer.write(whole[:-10])
    await writer.drain()
    other_reader, other_writer = await connect(serving)
    other_writer.write(request_of(body, "other"))
    assert (await answer_of(other_reader))[0] == 202
    begun_reader, begun_writer = await connect(serving)
    begun = request_of(body, "begun")
    begun_writer.write(begun[:20])

    await stops_listening(serving)
    assert await other_reader.read() == b"", "an idle connection is closed when nothing came for a while"
    writer.write(whole[-10:])
    begun_writer.write(begun[20:])
    for answered in (reader, begun_reader):
        status, headers, _ = await answer_of(answered)
        assert (status, headers["connection"]) == (202, "close")
    assert await asyncio.to_thread(serving.process.wait, 20) == 0
    for each in (writer, other_writer, begun_writer):
        each.close()


async def test_what_is_too_long_is_refused_as_it_arrives(serving: Serving) -> None:
    """Announced or in chunks, on a connection that goes on to serve."""
    reader, writer = await connect(serving)
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"

    writer.write(request_of(b"", "k", "Transfer-Encoding: chunked", length=False) + chunk * 100 + b"0\r\n\r\n")
    status, _, problem = await answer_of(reader)
    assert (status, problem["errors"][0]["code"]) == (400, "body_too_large")

    writer.write(request_of(b" " * 20_000_000, "k", "Expect: 100-continue"))
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    await reader.readline()
    status, _, problem = await answer_of(reader)
    assert (status, problem["errors"][0]["code"]) == (400, "body_too_large")

    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await answer_of(reader))[0] == 200
    writer.close()


async def test_it_refuses_what_is_bad(serving: Serving) -> None:
    """Every way into the server reads bodies alike."""
    reader, writer = await connect(serving)
    for name, (body, pointer, code) in BODIES.items():
        writer.write(request_of(body, "k"))
        status, _, problem = await answer_of(reader)
        assert (status, problem["errors"]) == (400, [{"pointer": pointer, "code": code}]), name
    bare = b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    for headers, expected in (
        (b"", 401),
        (f"Authorization: Bearer {KEY}x\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n".encode(), 401),
        (f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n".encode(), 400),
        (f"Authorization: Bearer {KEY}\r\nIdempotency-Key: k\r\n".encode(), 400),
        (f"Authorization: Bearer {KEY}\r\nIdempotency-Key: k\r\nIdempotency-Key: k\r\n".encode(), 400),
    ):
        writer.write(bare + headers + b"\r\n{}")
        assert (await answer_of(reader))[0] == expected
    writer.close()


async def test_each_refusal_says_what_was_asked(serving: Serving, open_sale: SaleMaker) -> None:
    """Many at once, refused by one call: those that asked alike share an answer and a line in the log, which says how
    many they are; the others do not."""
    event = await open_sale(GA=1, VIP=1)
    connections = [await connect(serving) for _ in range(12)]
    connections[0][1].write(read_of(f"/v1/events/{event.id}"))
    assert (await answer_of(connections[0][0]))[0] == 200, "the shop and its event are known from here on"
    asked = [(event.tiers[number % 2], 2 + number % 3) for number in range(12)]
    for number, ((_, writer), (tier, quantity)) in enumerate(zip(connections, asked, strict=True)):
        body = booking_of(event, items=[{"tier_id": tier.id, "quantity": quantity}])
        writer.write(request_of(json.dumps(body).encode(), f"k{number}"))

    for (reader, writer), (tier, quantity) in zip(connections, asked, strict=True):
        status, headers, problem = await answer_of(reader)
        assert (status, headers["content-type"]) == (409, "application/problem+json")
        assert problem["shortfall"] == [
            {"tier_id": tier.id, "code": tier.code, "requested": quantity, "available": 1, "may_return": False}
        ]  # fmt: skip
        assert problem["may_return"] is False and "retry-after" not in headers
        writer.close()

    async def all_said() -> bool:
        lines = (json.loads(line) for line in serving.log.read_text().splitlines())
        return sum(line.get("requests", 1) for line in lines if line["event"] == "request.refused") == 12

    await eventually(all_said)


async def test_its_log_is_json_without_secrets(serving: Serving, open_sale: SaleMaker) -> None:
    """One line per refusal, none per booking, and neither key nor card number in any."""
    event = await open_sale(GA=1)
    reader, writer = await connect(serving)
    for number, body in enumerate((booking_of(event), booking_of(event), booking_of(event, customer_id=CARD))):
        writer.write(request_of(json.dumps(body).encode(), f"k{number}"))
        await answer_of(reader)
    writer.write(b"GET /%zz" + CARD.encode() + b" HTTP/9\r\n\r\n")
    await reader.read()
    writer.close()
    serving.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(serving.process.wait, 20)

    lines = [json.loads(line) for line in serving.log.read_text().splitlines()]

    refused = [line["type"] for line in lines if line["event"] == "request.refused"]
    assert sorted(refused) == ["card-data-not-accepted", "sold-out"]
    assert all({"at", "level", "event"} <= set(line) for line in lines)
    assert CARD not in serving.log.read_text()
    assert KEY not in serving.log.read_text()
    writer.close()


async def test_a_port_in_use_is_an_error(serving: Serving) -> None:
    _, writer = await connect(serving)
    command = serving.process.args
    assert isinstance(command, list)

    second = await asyncio.to_thread(
        subprocess.run,
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert second.returncode != 0
    assert b"in use" in second.stderr
    writer.close()


async def test_a_connection_may_be_used_in_any_way(serving: Serving, open_sale: SaleMaker, office: BoxOffice) -> None:
    """Bookings written alike, in pieces, several at once, bad ones between them: each is answered, in turn, once."""
    event = await open_sale(GA=100)
    reader, writer = await connect(serving)
    booked: list[str] = []

    async def told(status: int, *pieces: bytes) -> Any:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await pace(0.01)
        found, _, body = await answer_of(reader)
        assert found == status, body
        if status == 202:
            booked.append(body["id"])
        return body

    def booking(key: str, *headers: str, **more: Any) -> bytes:
        return request_of(json.dumps(booking_of(event) | more).encode(), key, *headers)

    for number in range(4):
        await told(202, booking(f"alike-{number}"))
    for at in (1, 40, 200, -30, -1):
        whole = booking(f"piece{at}")
        await told(202, whole[:at], whole[at:])
    again = await told(202, booking("alike-0"))
    assert again["id"] == booked[0] and booked.pop() == booked[0]
    bad = await told(400, booking("bad", customer_id=""))
    assert bad["errors"][0]["pointer"] == "/customer_id"
    await told(400, request_of(b"[", "worse"))
    await told(202, booking("alike-4"))
    two = booking("first") + booking("second")
    await told(202, two)
    await told(202)
    whole, rest = booking("third"), booking("fourth")
    await told(202, whole + rest[:30])
    await told(202, rest[30:])
    await told(401, booking("stranger").replace(KEY.encode(), b"abcdefgh.nobody"))
    await told(400, booking("long", reference="x" * 20_000))
    await told(202, booking("alike-5"))
    assert (await told(200, read_of(f"/v1/bookings/{booked[0]}")))["id"] == booked[0]
    await told(202, booking("traced", "X-Trace: 1"))
    await told(202, booking("traced-2", "X-Trace: 2"))
    writer.close()

    assert len(set(booked)) == len(booked) == 17
    assert await office.redis.zcard("{s01}:pend") == 17
