"""A load client that leaves most of the machine to what is measured: raw HTTP/1.1 on kept connections, one process.

Requests come from a book of templates in which `NUMBER` stands for the number of the request, so that each has a key
and a customer of its own. Closed loop: every connection asks again when it was answered. Open loop: requests are due at
times drawn beforehand (Poisson), and a latency counts from then, however late a connection was free.

    python -m bench.load < spec.json > report.json

One file because it is one process of its own, which loads no more than it needs.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

from bench.histogram import Histogram

__all__ = ["NUMBER", "Book", "Client", "LoadReport", "LoadSpec", "drive"]

NUMBER: Final = b"@@@@@@@@@"
"""Nine characters in a template that are replaced by the nine digits of a request's number, so its length stays."""

TAIL_S: Final = 10.0
"""How long the last answers may take."""

TICK_S: Final = 0.001
"""Open loop: what is due within a tick is sent together, late by as much. uvloop counts in milliseconds: asked to wait for
less than half of one it does not wait at all, and a client that spins takes the core from what it measures."""


class LoadSpec(msgspec.Struct, kw_only=True):
    """What to ask, of whom, how often."""

    port: int
    book: str
    """File with the templates: one JSON list of strings."""
    connections: int = 128
    seconds: float = 5.0
    count: int = 0
    """End after so many requests; 0: after `seconds`."""
    rate: float = 0.0
    """Requests a second; 0: closed loop."""
    first: int = 0
    """Number of the first request."""
    late_max_s: float = 0.0
    """Open loop: a request that waited so long for a connection is not sent any more; 0: each is, however late."""
    seed: int = 1
    sent: str = ""
    """File to write when each request was due (open loop) or sent, in epoch seconds, as doubles."""


class LoadReport(msgspec.Struct, kw_only=True):
    """What came of it."""

    issued: int
    answers: dict[str, int]
    """Answers by status."""
    unanswered: int
    began: float
    """Epoch seconds of the first request."""
    took_s: float
    """Until the last request was sent."""
    cpu_s: float
    """Of the client itself."""
    late_p99_ms: float
    """Open loop: how long after its time a request was sent; what the client, not the server, adds at most."""
    latency: list[tuple[int, int]]
    """Buckets of a `Histogram`."""
    accepted: list[tuple[int, int]] = []
    """The same of those that were answered 202 alone."""
    accepted_sent: list[tuple[int, int]] = []
    """Of those since they were sent: without what the client was late, which may have no core or no connection left."""


class Book:
    """Makes requests from templates."""

    def __init__(self, templates: list[bytes]) -> None:
        self._patterns = []
        for template in templates:
            slots = template.count(NUMBER)
            pattern = template.replace(b"%", b"%%").replace(NUMBER, b"%09d") if slots else template
            self._patterns.append((pattern, slots))

    def request(self, number: int) -> bytes:
        """The request with this number."""
        pattern, slots = self._patterns[number % len(self._patterns)]
        return pattern % ((number,) * slots) if slots else pattern


class Client:
    """Connections to one server, and what they learnt."""

    def __init__(self, spec: LoadSpec, book: Book) -> None:
        self.spec = spec
        self.book = book
        self.latency = Histogram()
        self.accepted, self.accepted_sent = Histogram(), Histogram()
        self.lateness = Histogram()
        self.answers: dict[bytes, int] = {}
        self.sent = array("d")
        self.issued = 0
        self.answered = 0
        self.broken = 0
        self.ended_at = 0.0
        self._until = 0.0
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._dues: list[float] = []
        self._at = 0
        self._done = asyncio.Event()
        self._all: list[_Connection] = []

    async def run(self) -> LoadReport:
        """Ask until it is time to stop, then wait for the last answers."""
        loop = asyncio.get_running_loop()
        for _ in range(self.spec.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.spec.port)
            self._all.append(connection)
        cpu = _cpu_s()
        began, wall = time.perf_counter(), time.time()
        self._until = began + self.spec.seconds if not self.spec.count else began + 3_600
        if self.spec.rate:
            self._idle = list(self._all)
            self._dues = self._draw(began)
            self._tick()
        else:
            for connection in self._all:
                self._next(connection)
        end = began + self.spec.seconds + TAIL_S + (600 if self.spec.count else 0)
        try:
            async with asyncio.timeout(end - time.perf_counter()):
                await self._done.wait()
        except TimeoutError:
            pass
        took = (self.ended_at or time.perf_counter()) - began
        cpu = _cpu_s() - cpu
        for connection in self._all:
            connection.abort()
        if self.spec.sent:
            shifted = array("d", [at - began + wall for at in self.sent])
            Path(self.spec.sent).write_bytes(shifted.tobytes())
        return LoadReport(
            issued=self.issued,
            answers={status.decode(): count for status, count in self.answers.items()},
            unanswered=self.issued - self.answered,
            began=wall,
            took_s=took,
            cpu_s=cpu,
            late_p99_ms=self.lateness.quantile_ms(0.99),
            latency=self.latency.sparse(),
            accepted=self.accepted.sparse(),
            accepted_sent=self.accepted_sent.sparse(),
        )

    def _draw(self, began: float) -> list[float]:
        dues: list[float] = []
        chance, at = random.Random(self.spec.seed), began + 0.01
        while at < self._until if not self.spec.count else len(dues) < self.spec.count:
            dues.append(at)
            at += chance.expovariate(self.spec.rate)
        return dues

    def _tick(self) -> None:
        """Send what is due. A request without a free connection waits, and its clock runs."""
        now = time.perf_counter()
        dues, at = self._dues, self._at
        while at < len(dues) and dues[at] <= now:
            if self._idle:
                self._send(self._idle.pop(), dues[at], now)
            else:
                self._waiting.append(dues[at])
            at += 1
        self._at = at
        if at < len(dues):
            asyncio.get_running_loop().call_later(max(TICK_S, dues[at] - now), self._tick)
        else:
            self.ended_at = now
            self._end_if_done()

    def _next(self, connection: _Connection) -> None:
        """Closed loop: the connection's next request."""
        now = time.perf_counter()
        if now >= self._until or (self.spec.count and self.issued >= self.spec.count):
            self.ended_at = self.ended_at or now
            self._end_if_done()
        else:
            self._send(connection, now, now)

    def _send(self, connection: _Connection, due: float, now: float) -> None:
        request = self.book.request(self.spec.first + self.issued)
        self.issued += 1
        self.sent.append(due)
        if due != now:
            self.lateness.record(now - due)
        connection.sent = now
        connection.ask(request, due)

    def answer(self, connection: _Connection, status: bytes, due: float) -> None:
        """A connection has its answer and is free."""
        self.answers[status] = self.answers.get(status, 0) + 1
        self.answered += 1
        now = time.perf_counter()
        self.latency.record(now - due)
        if status == b"202":
            self.accepted.record(now - due)
            self.accepted_sent.record(now - connection.sent)
        if not self.spec.rate:
            self._next(connection)
            return
        due_now = self._next_waiting(now)
        if due_now is not None:
            self._send(connection, due_now, now)
        else:
            self._idle.append(connection)
            if self.ended_at:
                self._end_if_done()

    def _next_waiting(self, now: float) -> float | None:
        most = self.spec.late_max_s
        while self._waiting:
            due = self._waiting.popleft()
            if not most or now - due <= most:
                return due
        return None

    def _end_if_done(self) -> None:
        if self.answered + self.broken >= self.issued and not self._waiting:
            self._done.set()

    def lost(self) -> None:
        """A connection broke with a request on its way. It is not replaced: that is for the report to say."""
        self.broken += 1
        if self.ended_at or self.broken >= len(self._all):
            self.ended_at = self.ended_at or time.perf_counter()
            self._end_if_done()


class _Connection(asyncio.Protocol):
    """One connection, at most one request on its way."""

    __slots__ = ("_busy", "_client", "_due", "_missing", "_received", "_status", "_transport", "sent")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received = b""
        self._missing = 0
        self._status = b""
        self._due = self.sent = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, due: float) -> None:
        """Send a request."""
        self._due = due
        self._busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count until the answer is whole; nothing of it is kept but the status."""
        if self._missing:
            self._missing -= len(data)
        else:
            if self._received:
                data = self._received + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._received = data
                return
            self._received = b""
            self._status = data[9:12]
            self._missing = end + 4 + _length(data, end) - len(data)
        if not self._missing:
            self._busy = False
            self._client.answer(self, self._status, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end hung up, or we did."""
        if self._busy:
            self._busy = False
            self._client.lost()

    def abort(self) -> None:
        """Hang up."""
        self._busy = False
        self._transport.abort()


def _length(data: bytes, end: int) -> int:
    at = data.find(b"content-length: ", 0, end)
    if at < 0:
        at = data[:end].lower().find(b"content-length: ")
        if at < 0:
            return 0
    return int(data[at + 16 : data.find(b"\r", at)])


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def drive(spec: LoadSpec) -> LoadReport:
    """Ask, from a loop of its own."""
    templates = [template.encode("latin-1") for template in msgspec.json.decode(Path(spec.book).read_bytes())]
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(spec, Book(templates)))


async def _drive(spec: LoadSpec, book: Book) -> LoadReport:
    return await Client(spec, book).run()


def main() -> None:
    """Read a spec from standard input, write the report to standard output."""
    report = drive(msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec))
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
