"""One delivery: POST a notice to an endpoint, and say what came of it. No redirect is followed, no cookie is kept, no proxy of
the environment is used, and of the answer only its status and `Retry-After` are looked at."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final, NamedTuple

import httpcore2

from boxoffice.clock import CLOCK, Clock
from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.addresses import Addresses
from boxoffice.webhooks.connecting import AddressRefused, AnswerTooLong, Lookup, Names, NameUnknown, Ways
from boxoffice.webhooks.signing import signed

__all__ = ["FAILURES", "Outcome", "Sender"]

REST_S: Final = 2.0
"""For so long the body of an answer is read, so that the connection can be used again; its status is known by then."""

IDLE_S: Final = 4.0
"""For so long a connection is kept for the next notice: less than what many servers allow, which is five seconds."""

BURST_S: Final = 0.25
"""For so long turns that nobody took may be taken later."""

GONE: Final = 410
"""The endpoint wants no more."""

FAILURES: Final = {
    "status": "it answered another status than 2xx",
    "redirect": "it answered 3xx: redirects are not followed",
    "gone": "it answered 410: it wants no more, and is disabled",
    "timeout": "it did not answer in time",
    "name": "its host has no address",
    "address": "its host has no address that may be connected to",
    "connection": "it cannot be reached, or ended the connection",
    "tls": "it does not speak TLS, or has no valid certificate for its host",
    "protocol": "its answer is no HTTP/1.1",
    "too_long": "its answer has no end",
}
"""Why a delivery failed, by its code."""


class Outcome(NamedTuple):
    """What came of one try."""

    failure: str
    """Empty when the notice was delivered, else one of `FAILURES`."""
    status: int | None
    """Of the answer, if there was one."""
    retry_after_s: float | None
    took_s: float

    @property
    def delivered(self) -> bool:
        """Whether the endpoint has it."""
        return not self.failure


class Sender:
    """Of one process: its connections to endpoints."""

    def __init__(
        self,
        settings: WebhookSettings,
        clock: Clock = CLOCK,
        *,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        """`tls`: whose certificates are believed; by default those of the machine."""
        self._settings = settings
        self._clock = clock
        self._names = Names()
        self._tls = tls or ssl.create_default_context()
        self._addresses = Addresses(settings.allowed_networks, allow_http=settings.allow_http)
        self._lookup = lookup
        self._pools: dict[tuple[str, str], httpcore2.AsyncConnectionPool] = {}
        self._used_s: dict[tuple[str, str], float] = {}
        self._next_s = 0.0

    def _pool(self, url: str, shop: str) -> httpcore2.AsyncConnectionPool:
        """Connections to one endpoint: a pool looks at all that it has for every request, so one for all would make each
        endpoint the dearer the more of them there are. There are as many as notices may be on their way."""
        self._used_s[url, shop] = self._clock.now_s()
        pool = self._pools.get((url, shop))
        if pool is None:
            lookup = self._lookup or self._names.of(shop)
            pool = self._pools[url, shop] = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=self._settings.in_flight_max, keepalive_expiry=IDLE_S,
                network_backend=Ways(self._addresses, lookup, self._settings.answer_max_bytes),
            )  # fmt: skip
        return pool

    async def tidy(self) -> None:
        """Close the connections to endpoints that nothing has been sent to for longer than a delivery takes."""
        until_s = self._clock.now_s() - self._settings.timeout_s - REST_S - IDLE_S
        for key in [key for key, used_s in self._used_s.items() if used_s < until_s]:
            del self._used_s[key]
            with contextlib.suppress(Exception):
                await self._pools.pop(key).aclose()

    async def turn(self, most_s: float) -> bool:
        """Wait for a turn: `rate_max` deliveries of this process begin in a second, in the order of asking, to whomever.
        False, at once, when it would take longer than that."""
        now_s = self._clock.now_s()
        turn_s = max(self._next_s, now_s - BURST_S)
        if turn_s - now_s > most_s:
            return False
        self._next_s = turn_s + 1 / self._settings.rate_max
        if turn_s > now_s:
            await self._clock.sleep(turn_s - now_s)
        return True

    async def send(self, url: str, secrets: Sequence[str], notice_id: str, body: str, shop: str = "") -> Outcome:
        """One try, in bounded time. `shop`: whose endpoint it is; connections and lookups of names are its own."""
        began_s = self._clock.now_s()
        if not self._addresses.may_ask(url):
            return Outcome("address", None, None, 0.0)
        headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", USER_AGENT),
            *signed(secrets, notice_id, self._clock.now(), body),
        ]
        status, retry_after, failure = None, None, ""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._pool(url, shop).handle_async_request(_request(url, headers, body.encode()))
            try:
                status = response.status
                failure = _failure_of(status)
                retry_after = _retry_after_s(response.headers, self._clock)
                await _read_rest(response)
            finally:
                with contextlib.suppress(Exception):
                    await response.aclose()
        except Exception as error:
            if status is None:
                failure = _reason(error)
        return Outcome(failure, status, retry_after, self._clock.now_s() - began_s)

    async def close(self) -> None:
        """Close every connection."""
        self._names.close()
        for pool in self._pools.values():
            await pool.aclose()


USER_AGENT: Final = f"boxoffice/{version('boxoffice')}".encode()


def _request(url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> httpcore2.Request:
    parsed = httpcore2.URL(url)
    host = parsed.host if parsed.port is None else b"%b:%d" % (_bracketed(parsed.host), parsed.port)
    every = [(b"host", host), (b"content-length", b"%d" % len(body)), *headers]
    return httpcore2.Request(b"POST", parsed, headers=every, content=body)


def _bracketed(host: bytes) -> bytes:
    return b"[%b]" % host if b":" in host and not host.startswith(b"[") else host


async def _read_rest(response: httpcore2.Response) -> None:
    """To its end, so that the connection can be used again, or until there is no more time: then it is closed."""
    async with asyncio.timeout(REST_S):
        async for _ in response.aiter_stream():
            pass


def _failure_of(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if status == GONE:
        return "gone"
    return "redirect" if 300 <= status < 400 else "status"


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError() | httpcore2.TimeoutException():
            return "timeout"
        case NameUnknown():
            return "name"
        case AddressRefused():
            return "address"
        case AnswerTooLong():
            return "too_long"
        case httpcore2.ProtocolError():
            return "connection" if "disconnected" in str(error) else "protocol"
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            return "tls"
        found = found.__cause__ or found.__context__
    return "connection"


def _retry_after_s(headers: Sequence[tuple[bytes, bytes]], clock: Clock) -> float | None:
    """In how many seconds the endpoint wants to be asked again; None when it does not say, or nobody understands."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isascii() and text.isdecimal():
                return float(text[:9])
            try:
                until = parsedate_to_datetime(text)
                until = until if until.tzinfo else until.replace(tzinfo=UTC)
                return max(0.0, until.timestamp() - clock.epoch_ns() / 1e9)
            except Exception:
                # What is no date raises ValueError; numbers that no date has, OverflowError, and others by Python's version.
                return None
    return None
