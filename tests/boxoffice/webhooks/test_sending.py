"""One delivery, to servers that mean no good: it ends in bounded time, reads a bounded answer, and goes nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from boxoffice.clock import Clock
from boxoffice.telemetry import series
from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.sending import FAILURES, IDLE_S, REST_S, Outcome, Sender
from boxoffice.webhooks.signing import new_secret
from tests.support.endpoint import ALLOWED, Endpoint, Heard, answer, at_endpoint
from tests.support.tls import Authority
from tests.support.waiting import pace, true_soon

SECRET = new_secret()
BODY = '{"id":"n_1_a_0","type":"booking.confirmed"}'

TIMEOUT_S = 0.6
LONGEST_S = TIMEOUT_S + 5
"""A busy machine has some seconds more; a delivery without an end would take all of them."""


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with at_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, **ALLOWED))
    yield sender
    await sender.close()


async def send(sender: Sender, url: str) -> Outcome:
    began_s = time.monotonic()
    outcome = await sender.send(url, [SECRET], "n_1_a_0", BODY)
    assert time.monotonic() - began_s < LONGEST_S
    assert outcome.failure in ("", *FAILURES)
    return outcome


async def test_a_shop_gets_a_signed_post(sender: Sender, endpoint: Endpoint) -> None:
    outcome = await send(sender, endpoint.url)
    assert outcome.delivered and outcome.status == 204
    (heard,) = endpoint.heard
    assert heard.line == "POST /hooks?shop=1 HTTP/1.1"
    assert heard.headers.keys() == {
        "host", "content-length", "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
    }  # fmt: skip
    assert heard.headers["host"] == f"127.0.0.1:{endpoint.port}"
    assert heard.headers["content-type"] == "application/json"
    assert Webhook(SECRET).verify(heard.body, heard.headers)["type"] == "booking.confirmed"


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, ""), (202, ""), (299, ""), (300, "redirect"), (304, "redirect"), (400, "status"), (404, "status"),
        (410, "gone"), (429, "status"), (500, "status"), (503, "status"),
    ],
)  # fmt: skip
async def test_only_2xx_is_a_delivery(sender: Sender, endpoint: Endpoint, status: int, failure: str) -> None:
    endpoint.behave = answer(status)
    outcome = await send(sender, endpoint.url)
    assert (outcome.failure, outcome.status) == (failure, status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 120", 120), ("retry-after:7", 7), ("Retry-After: 999999999999", 999_999_999),
        ("Retry-After: Wed, 01 Jan 2020 00:00:00 GMT", 0), ("Retry-After: soon", None), ("Retry-After: -5", None),
        ("Retry-After: ²", None), ("X-Other: 5", None),
    ],
)  # fmt: skip
async def test_when_it_wants_to_be_asked_again(
    sender: Sender, endpoint: Endpoint, header: str, seconds: float | None
) -> None:
    endpoint.behave = answer(503, header)
    assert (await send(sender, endpoint.url)).retry_after_s == seconds


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +9999",
        "Mon, 01 Jan 2024 99:99:99 GMT", "Mon, 01 Jan 0000 00:00:00", "(" * 2_000, "",
    ],
)  # fmt: skip
async def test_a_date_that_there_is_not_is_no_date_and_holds_no_connection(
    sender: Sender, endpoint: Endpoint, date: str
) -> None:
    """More of them than connections to it are kept: one that was not given back would be missed."""
    endpoint.behave = answer(503, f"Retry-After: {date}")
    for _ in range(WebhookSettings().in_flight_max + 2):
        outcome = await send(sender, endpoint.url)
        assert (outcome.failure, outcome.status) == ("status", 503)
        assert not outcome.retry_after_s
    assert endpoint.connections == 1


async def test_http_that_is_allowed_no_more_is_not_asked(endpoint: Endpoint) -> None:
    """Though the endpoint was made while it was."""
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, allowed_networks=ALLOWED["allowed_networks"]))
    assert (await send(sender, endpoint.url)).failure == "address"
    assert (await send(sender, endpoint.url.replace("http", "HTTP", 1))).failure == "address"
    assert endpoint.connections == 0
    await sender.close()


async def test_no_redirect_is_followed(sender: Sender, endpoint: Endpoint) -> None:
    """An endless one is one request."""
    async with at_endpoint() as other:
        for target in (other.url, endpoint.url):
            endpoint.behave = answer(307, f"Location: {target}")
            assert (await send(sender, endpoint.url)).failure == "redirect"
        assert other.heard == [] and len(endpoint.heard) == 2


async def test_no_cookie_is_kept_and_no_proxy_asked(
    sender: Sender, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    endpoint.behave = answer(200, "Set-Cookie: a=b; Path=/")
    for _ in range(2):
        assert (await send(sender, endpoint.url)).delivered
    assert all("cookie" not in heard.headers for heard in endpoint.heard)
    assert endpoint.connections == 1, "one connection does for both"


async def test_connections_that_nobody_needs_are_closed(endpoint: Endpoint) -> None:
    now_s = 100.0
    settings = WebhookSettings(timeout_s=TIMEOUT_S, **ALLOWED)
    sender = Sender(settings, Clock(now_s=lambda: now_s))
    assert (await send(sender, endpoint.url)).delivered
    await sender.tidy()
    assert endpoint.open_now == 1, "the next notice may come"
    now_s += TIMEOUT_S + REST_S + IDLE_S + 1
    await sender.tidy()
    await true_soon(lambda: endpoint.open_now == 0)
    assert (await send(sender, endpoint.url)).delivered
    await sender.close()


async def test_no_more_begin_in_a_second_than_may() -> None:
    """So a worker that sells goes on selling, however much there is to be sent."""
    now_s, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        slept.append(seconds)
        now_s += seconds

    sender = Sender(WebhookSettings(rate_max=10), Clock(now_s=lambda: now_s, sleep=sleep))
    for _ in range(20):
        assert await sender.turn(5)
    assert 1.5 < sum(slept) < 2.0
    asked = [asyncio.ensure_future(sender.turn(0.0)) for _ in range(3)]
    assert False in await asyncio.gather(*asked), "who cannot wait goes without"
    await sender.close()


# ------------------------------------------------------------------ servers that mean no good


async def silent(_writer: asyncio.StreamWriter, heard: Heard) -> None:
    while not heard.reader.at_eof():
        await pace(0.02)


async def dripping_head(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await pace(0.02)


async def endless_head(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"a" * 500 + b"\r\n")
        await writer.drain()


async def flood_of_1xx(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20)
        await writer.drain()


async def garbage(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"\x00\xff" * 200 + b"\r\n\r\n")


async def half_a_head(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    writer.close()


async def closes(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.close()


async def resets(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.transport.abort()


async def switches(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


async def two_lengths(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")


@pytest.mark.parametrize(
    ("behave", "failures"),
    [
        (silent, {"timeout"}),
        (dripping_head, {"timeout"}),
        (endless_head, {"too_long", "protocol"}),
        (flood_of_1xx, {"too_long"}),
        (garbage, {"protocol"}),
        (half_a_head, {"connection", "protocol"}),
        (closes, {"connection"}),
        (resets, {"connection"}),
        (switches, {"protocol"}),
        (two_lengths, {"protocol"}),
    ],
)
async def test_a_hostile_answer_is_a_failure_in_bounded_time(
    sender: Sender, endpoint: Endpoint, behave: Any, failures: set[str]
) -> None:
    endpoint.behave = behave
    assert (await send(sender, endpoint.url)).failure in failures
    await true_soon(lambda: endpoint.open_now == 0)
    endpoint.behave = answer()
    assert (await send(sender, endpoint.url)).delivered, "the next one is not the worse for it"


async def huge_body(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def endless_chunks(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n" * 1_000)
        await writer.drain()


async def lying_length(writer: asyncio.StreamWriter, _heard: Heard) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("behave", [huge_body, endless_chunks, lying_length])
async def test_whoever_said_yes_has_it_whatever_comes_behind(sender: Sender, endpoint: Endpoint, behave: Any) -> None:
    """Its body is thrown away, and where it has no end the connection, too."""
    endpoint.behave = behave
    assert (await send(sender, endpoint.url)).delivered
    await true_soon(lambda: endpoint.open_now == 0)


async def test_of_an_answer_no_more_is_read_than_there_may_be(endpoint: Endpoint) -> None:
    sent = 0

    async def counted(writer: asyncio.StreamWriter, _heard: Heard) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    endpoint.behave = counted
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, answer_max_bytes=4_096, **ALLOWED))
    assert (await send(sender, endpoint.url)).delivered
    await true_soon(lambda: endpoint.open_now == 0)
    assert sent < 50_000_000, "what the system's buffers hold, and not what a second brings"
    await sender.close()


# ------------------------------------------------------------------ TLS


@contextlib.asynccontextmanager
async def speaking_tls(tmp_path: Path, named: str = "localhost") -> AsyncIterator[tuple[Endpoint, ssl.SSLContext]]:
    authority = Authority(tmp_path)
    certificate, key = authority.vouch(named)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    async with at_endpoint(server, "localhost") as endpoint:
        endpoint.names = names  # type: ignore[attr-defined]
        yield endpoint, ssl.create_default_context(cafile=authority.certificate)


async def test_its_name_is_the_one_in_the_handshake_and_in_the_certificate(tmp_path: Path) -> None:
    """Though the address that was checked is the one connected to."""
    async with speaking_tls(tmp_path) as (endpoint, believed):
        sender = Sender(WebhookSettings(timeout_s=5, **ALLOWED), tls=believed)
        assert (await sender.send(endpoint.url, [SECRET], "n", BODY)).delivered
        assert endpoint.heard[0].headers["host"] == f"localhost:{endpoint.port}"
        assert endpoint.names == ["localhost"]  # type: ignore[attr-defined]
        await sender.close()


async def test_a_certificate_of_nobody_or_of_another_host_is_refused(tmp_path: Path) -> None:
    async with speaking_tls(tmp_path, "other.example") as (endpoint, believed):
        for tls in (None, believed):
            sender = Sender(WebhookSettings(timeout_s=5, **ALLOWED), tls=tls)
            assert (await sender.send(endpoint.url, [SECRET], "n", BODY)).failure == "tls"
            await sender.close()
        assert endpoint.heard == []


async def test_what_speaks_no_tls_is_refused(tmp_path: Path) -> None:
    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    sender = Sender(WebhookSettings(timeout_s=5, **ALLOWED))
    port = server.sockets[0].getsockname()[1]
    assert (await sender.send(f"https://127.0.0.1:{port}/", [SECRET], "n", BODY)).failure in ("tls", "connection")
    await sender.close()
    server.close()


# ------------------------------------------------------------------ addresses


def resolving(*answers: list[str]) -> tuple[list[str], Callable[[str, int], Awaitable[list[str]]]]:
    """A name server that gives these answers one after another, and whom it was asked for."""
    asked: list[str] = []

    async def lookup(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return asked, lookup


async def test_a_name_that_leads_to_us_is_not_connected_to(endpoint: Endpoint) -> None:
    """Whatever it led to when the endpoint was made."""
    asked, lookup = resolving(["127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"])
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, allow_http=True), lookup=lookup)
    for _ in range(3):
        assert (await send(sender, f"http://shop.example:{endpoint.port}/")).failure == "address"
    assert asked == ["shop.example"] * 3
    assert endpoint.connections == 0
    await sender.close()


async def test_a_name_is_looked_up_once_a_connection_and_what_was_checked_is_connected_to(endpoint: Endpoint) -> None:
    """A name server that gives a good address to whoever checks, and a bad one to whoever connects, is asked once."""
    networks = ("127.0.0.2/32",)
    asked, lookup = resolving(["127.0.0.2"], ["127.0.0.1"])
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, allow_http=True, allowed_networks=networks), lookup=lookup)
    outcome = await send(sender, f"http://shop.example:{endpoint.port}/")
    assert outcome.failure == "connection", "nobody listens at the address that was checked"
    assert asked == ["shop.example"] and endpoint.connections == 0
    assert (await send(sender, f"http://shop.example:{endpoint.port}/")).failure == "address"
    assert endpoint.connections == 0
    await sender.close()


async def test_of_several_addresses_only_good_ones_are_tried(endpoint: Endpoint) -> None:
    _, lookup = resolving(["10.0.0.1", "127.0.0.3", "127.0.0.1"])
    networks = ("127.0.0.1/32",)
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, allow_http=True, allowed_networks=networks), lookup=lookup)
    assert (await send(sender, f"http://shop.example:{endpoint.port}/x")).delivered
    assert endpoint.heard[0].headers["host"] == f"shop.example:{endpoint.port}"
    await sender.close()


@pytest.mark.parametrize(
    "url", ["http://127.1:{}/", "http://0x7f000001:{}/", "http://2130706433:{}/", "http://localhost:{}/"]
)
async def test_numbers_that_only_a_resolver_understands_are_checked_behind_it(endpoint: Endpoint, url: str) -> None:
    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S, allow_http=True))
    assert (await send(sender, url.format(endpoint.port))).failure in ("address", "name")
    assert endpoint.connections == 0
    await sender.close()


async def test_a_name_without_an_address() -> None:
    async def lookup(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S), lookup=lookup)
    assert (await send(sender, "https://nowhere.invalid/")).failure == "name"
    await sender.close()


async def test_a_name_server_that_hangs_is_not_waited_for() -> None:
    async def lookup(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    sender = Sender(WebhookSettings(timeout_s=TIMEOUT_S), lookup=lookup)
    assert (await send(sender, "https://slow.example/")).failure == "timeout"
    await sender.close()


def test_every_failure_is_counted_by_its_name() -> None:
    assert {*FAILURES, "delivered"} == {outcome for (outcome,) in series.DELIVERIES.cells}
