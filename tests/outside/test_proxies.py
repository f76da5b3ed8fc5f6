"""The proxies of `docs/operations.md`, as they stand there, before a real API: what goes through comes out the same, what is
ambiguous is nobody's request, and who is slow is slow alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from boxoffice.gateway.simulator.signing import sign
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import booking_of
from tests.api.transport.test_server import ROOT, Serving, connect
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.ports import free_port

pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("settings", ["lane"], indirect=True)]

WHO = b"Host: shop.example\r\nAuthorization: Bearer %b\r\n" % KEY.encode()


def snippet(name: str) -> str:
    """The one behind this name."""
    page = (ROOT / "docs/operations.md").read_text()
    found = re.search(rf"^{name}[^\n]*:\n\n```\w*\n(.*?)^```$", page, re.M | re.S)
    assert found is not None, name
    return found[1]


def with_changes(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return text


class Place(NamedTuple):
    """Where a proxy is to run."""

    folder: Path
    port: int
    api: int
    pem: Path
    envoy: Path


def haproxy(place: Place) -> list[str | Path]:
    text = with_changes(
        snippet("haproxy"),
        ("bind :443 ssl crt /etc/haproxy/boxoffice.pem", f"bind 127.0.0.1:{place.port} ssl crt {place.pem}"),
        ("127.0.0.1:8000", f"127.0.0.1:{place.api}"), ("timeout http-request 10s", "timeout http-request 2s"),
    )  # fmt: skip
    (place.folder / "proxy.cfg").write_text(text)
    return [_found("haproxy"), "-db", "-f", place.folder / "proxy.cfg"]


def nginx(place: Place) -> list[str | Path]:
    text = with_changes(
        snippet("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{place.port} ssl"), ("127.0.0.1:8000", f"127.0.0.1:{place.api}"),
        ("/etc/nginx/boxoffice.crt", str(place.pem)), ("/etc/nginx/boxoffice.key", str(place.pem)),
        ("client_header_timeout 10s", "client_header_timeout 2s"), ("client_body_timeout 10s", "client_body_timeout 2s"),
    )  # fmt: skip
    own = "".join(
        f"{name}_temp_path {place.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # whose folder this is
    head = f"{user}daemon off;\npid {place.folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
    (place.folder / "proxy.cfg").write_text(f"{head}{own}{text}}}\n")
    return [_found("nginx"), "-e", "stderr", "-c", place.folder / "proxy.cfg"]


def envoy(place: Place) -> list[str | Path]:
    text = with_changes(
        snippet("Envoy"),
        ("port_value: 443", f"port_value: {place.port}"), ("address: 0.0.0.0", "address: 127.0.0.1"),
        ("port_value: 8000", f"port_value: {place.api}"), ("/etc/envoy/boxoffice.crt", str(place.pem)),
        ("/etc/envoy/boxoffice.key", str(place.pem)), ("request_headers_timeout: 10s", "request_headers_timeout: 2s"),
        ("request_timeout: 30s", "request_timeout: 3s"),
    )  # fmt: skip
    (place.folder / "proxy.yaml").write_text(text)
    return [
        place.envoy,
        "-c",
        place.folder / "proxy.yaml",
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "-l",
        "warn",
    ]


def _found(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed here, so its part of docs/operations.md was not tried.")
    return path


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has to believe, and its key."""
    folder = tmp_path_factory.mktemp("pem")
    key, crt = folder / "key", folder / "crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop.example", "-days", "2"]
    subprocess.run([_found("openssl"), *command[1:], "-keyout", key, "-out", crt], check=True, capture_output=True)
    both = folder / "pem"
    both.write_bytes(key.read_bytes() + crt.read_bytes())
    both.chmod(0o644)
    return both


class Through:
    """Clients of the proxy."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """On a connection of its own."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await answer(reader)
        finally:
            writer.close()


async def overhear(reader: asyncio.StreamReader, told: bytearray) -> None:
    """All that comes back, whatever it is."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(65_536):
            told += piece


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    while True:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).lower()
        status = int(head.split()[1])
        if status != 100:
            break
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    if length is not None:
        return status, await asyncio.wait_for(reader.readexactly(int(length[1])), 20)
    body = b""
    while size := int(await asyncio.wait_for(reader.readline(), 20), 16):
        body += (await reader.readexactly(size + 2))[:size]
    await reader.readline()
    return status, body


@pytest.fixture(params=[haproxy, nginx, envoy], ids=lambda each: each.__name__)
async def through(
    request: pytest.FixtureRequest, serving: Serving, office: BoxOffice, pem: Path, tmp_path: Path
) -> AsyncIterator[Through]:
    """A proxy that has found the API to be ready."""
    _, writer = await connect(serving)
    writer.close()
    port = free_port()
    made: Callable[[Place], list[str | Path]] = request.param
    place = Place(tmp_path, port, serving.port, pem, tmp_path)
    if made is envoy:
        python: Path = request.getfixturevalue("outside_python")
        place = place._replace(envoy=python.parent / "envoy")
        if not place.envoy.exists():
            pytest.skip("Envoy is not to be had for this system, so its part of docs/operations.md was not tried.")
    command = made(place)
    with (tmp_path / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    proxy = Through(port)

    async def serves() -> bool:
        assert process.poll() is None, (tmp_path / "proxy.log").read_text()[-2_000:]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            return (await proxy.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        return False

    try:
        await eventually(serves, timeout_s=60)
        yield proxy
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(body: bytes, key: str, more: bytes = b"", chunked: bool = False) -> bytes:
    head = (
        b"POST /v1/bookings HTTP/1.1\r\n"
        + WHO
        + b"Content-Type: application/json\r\nIdempotency-Key: %b\r\n" % key.encode()
    )
    if chunked:
        half = len(body) // 2
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:], b""))
        return head + more + b"Transfer-Encoding: chunked\r\n\r\n" + pieces
    return head + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_a_shop_is_served_through_the_proxy(
    through: Through, office: BoxOffice, settings: Settings, open_sale: SaleMaker
) -> None:
    """Bookings, repeats, reads, refusals and webhooks, one after another on one connection; bodies in chunks, with an offer
    of another protocol, after a 100; and who is slow is sent away, while others are served."""
    event = await open_sale(GA=100)
    body = json.dumps(booking_of(event)).encode()
    reader, writer = await through.connect()
    read = b"GET /v1/events/%b HTTP/1.1\r\n%b\r\n" % (event.id.encode(), WHO)
    booked = {}
    for key, request in {
        "plain": post(body, "plain"),
        "chunked": post(body, "chunked", chunked=True),
        "offer": post(
            body, "offer", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        ),
        "expects": post(body, "expects", b"Expect: 100-continue\r\n"),
    }.items():
        writer.write(request)
        status, told = await answer(reader)
        assert status == 202, (key, told)
        booked[key] = json.loads(told)["id"]
        if reader.at_eof():  # a proxy may end a connection on which another protocol was offered
            reader, writer = await through.connect()
    assert len(set(booked.values())) == 4
    again = await through.ask(post(body, "plain"))
    assert (again[0], json.loads(again[1])["id"]) == (202, booked["plain"])
    for _ in range(20):
        writer.write(read)
        status, told = await answer(reader)
        assert (status, json.loads(told)["id"]) == (200, event.id)
    writer.close()
    assert (await through.ask(post(body, "plain", b"X: y\r\n", chunked=True)))[0] == 202
    assert (await through.ask(post(b"{}", "bad")))[0] == 400
    assert (await through.ask(read.replace(KEY.encode(), b"nobody.x")))[0] == 401
    assert (await through.ask(post(b" " * 20_000, "long")))[0] == 400

    message = json.dumps({"type": "payment.other", "data": {"more": "x" * 200_000}}).encode()
    signed = sign(settings.gateway.webhook_secret, "evt_1", message, time.time())
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    webhook = (
        f"POST /v1/webhooks/simulator HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(message)}\r\n\r\n".encode()
    )
    assert (await through.ask(webhook + message))[0] == 200

    slow = [await through.connect() for _ in range(20)]
    for number, (_, slow_writer) in enumerate(slow):
        slow_writer.write(read[:-2] if number % 2 else post(body, f"slow{number}")[:-10])
    assert (await through.ask(read))[0] == 200
    for slow_reader, slow_writer in slow[1::2]:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            told = await asyncio.wait_for(slow_reader.read(), 20)
            assert not told or b" 408 " in told.partition(b"\r\n")[0]
        slow_writer.close()


def ambiguous(inner: bytes, body: bytes) -> dict[str, bytes]:
    """Streams that somebody may take for one request and somebody else for two: then `inner` would be the second."""
    begin = b"POST /v1/bookings HTTP/1.1\r\n" + WHO + b"Content-Type: application/json\r\nIdempotency-Key: outer\r\n"
    size, whole = b"%d" % (len(body) + len(inner)), body + inner
    chunked = b"%x\r\n%b\r\n" % (len(body), body)
    both, ended = chunked + b"0\r\n\r\n" + inner, b"0\r\n\r\n" + inner
    coded, long, short = b"Transfer-Encoding: chunked\r\n", b"%d" % len(both), b"%d" % len(body)
    get = b"GET /v1/events HTTP/1.1\r\n" + WHO
    found = {
        "length and chunks": b"Content-Length: %b\r\n%b\r\n%b" % (long, coded, both),
        "chunks and length": b"%bContent-Length: %b\r\n\r\n%b" % (coded, short, both),
        "two lengths": b"Content-Length: %b\r\nContent-Length: %b\r\n\r\n%b" % (short, size, whole),
        "a list of lengths": b"Content-Length: %b, %b\r\n\r\n%b" % (short, size, whole),
        "a signed length": b"Content-Length: +%b\r\n\r\n%b" % (short, whole),
        "a length with a blank": b"Content-Length : %b\r\nContent-Length: %b\r\n\r\n%b" % (size, short, whole),
        "two codings": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + both,
        "a coding and another": coded + b"Transfer-Encoding: identity\r\n\r\n" + both,
        "a coding with a tab": b"Transfer-Encoding:\tchunked\r\nContent-Length: %b\r\n\r\n%b" % (long, both),
        "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\nContent-Length: %b\r\n\r\n%b" % (short, whole),
        "a coding folded": b"Transfer-Encoding:\r\n chunked\r\nContent-Length: %b\r\n\r\n%b" % (short, whole),
        "underscores": b"Transfer_Encoding: chunked\r\nContent-Length: %b\r\n\r\n%b" % (short, body),
        "a bare line feed": b"X: y\n%bContent-Length: %b\r\n\r\n%b" % (coded, short, whole),
        "a bare return": b"X: y\r%bContent-Length: %b\r\n\r\n%b" % (coded, short, whole),
        "an extension's line feed": coded + b"\r\n%x;a\nb\r\n%b\r\n%b" % (len(body), body, ended),
        "a huge chunk": coded + b"\r\n1%016x\r\n%b\r\n%b" % (len(body), body, ended),
        "a chunk without its end": coded + b"\r\n%x\r\n%bXX%b" % (len(body), body, ended),
        "a length in a trailer": coded + b"\r\n%b0\r\nContent-Length: %d\r\n\r\n" % (chunked, len(inner)) + inner,
        "named by Connection": b"Connection: Content-Length\r\nContent-Length: %b\r\n\r\n%b" % (short, body),
    }
    streams = {name: begin + rest for name, rest in found.items()}
    streams["a GET with a body"] = get + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    streams["an old version in chunks"] = begin.replace(b"1.1", b"1.0") + coded + b"\r\n" + both
    offer, length = b"Connection: Upgrade\r\nUpgrade: %b\r\n", b"Content-Length: %d\r\n\r\n" % len(inner)
    streams["an offer and a body"] = get + offer % b"h2c" + length + inner
    streams["websocket and a body"] = (
        (get + offer % b"websocket" + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
        + length
        + inner
    )
    streams["a tunnel"] = b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n" + inner
    return streams


async def test_what_is_ambiguous_is_no_second_request(
    through: Through, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Proxy and API agree on where each request ends: whatever was booked was answered to the client who sent it, and the
    connections that the proxy keeps to us give the next clients their own answers."""
    event, other = await open_sale(GA=1_000), await open_sale(GA=1_000)
    inner = post(json.dumps(booking_of(other)).encode(), "inner")
    read = b"GET /v1/events/%b HTTP/1.1\r\n%b\r\n" % (event.id.encode(), WHO)
    for name, stream in ambiguous(inner, json.dumps(booking_of(event)).encode()).items():
        reader, writer = await through.connect()
        told = bytearray()
        listening = asyncio.create_task(overhear(reader, told))
        writer.write(stream)
        # What nobody answers cannot be waited for; what is booked later is found with the next stream.
        await asyncio.wait([listening], timeout=0.5)

        async def is_answered(told: bytearray = told) -> list[bytes] | None:
            booked: list[bytes] = await office.redis.keys("{s00}:idem:*")
            answers = re.findall(rb"HTTP/1\.[01] 202 ", told)
            return booked or [b""] if len(booked) <= len(answers) else None

        try:
            booked = await eventually(is_answered)
        except TimeoutError:
            pytest.fail(f"{name}: booked, and not answered: {bytes(told)!r}")
        listening.cancel()
        writer.close()
        await office.redis.delete(*booked)
        for _ in range(3):
            status, body = await through.ask(read)
            assert (status, json.loads(body)["id"]) == (200, event.id), name
    assert not await office.redis.keys("{s00}:idem:*")
