"""What streams and waits cost: memory and CPU of each, what they leave of admissions, and how soon after its commit a wait is
answered.

    python -m bench.streams [--count 10000] [--seconds 4] [--rate 1000] [--record bench/results/streams.md]

One private stack. Streams follow an event of few tickets, of which one is taken four times a second: each is a message to all
of them, as far as there is time for it. Admissions are of another event, in closed loop, without streams, beside idle and
beside busy ones; what is compared is the CPU that the API needs for one, without and beside idle ones in turn. Waits are
posted while no worker runs, and then settled; and at a rate, where each answer is held against the time at which PostgreSQL
committed it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, cast

import uvloop

from bench.load import NUMBER
from bench.machine import resident_kb
from bench.stage import Sale, Stage, open_stage
from boxoffice import ids
from boxoffice.wire.requests import BookingRequest

__all__ = ["Crowd", "main", "percentile"]

AT_ONCE: Final = 200
"""Connections that are opened together."""

FEW: Final = 99
"""Tickets whose every change is a message."""

EACH_S: Final = 0.25

PAIRS: Final = 4
"""Slices without streams and as many beside idle ones, in turn: what else the machine does falls on both."""

FILES: Final = 300
"""Descriptors of an API from which on a crowd is still there."""

OPENED_S: Final = 120.0

MEMORY_MAX_MB: Final = 60
SLOWER_MAX: Final = 0.10
LATE_MAX_MS: Final = 50


class Crowd(asyncio.Protocol):
    """One client of many: counts what it reads, and hands on each answer that has come whole."""

    def __init__(self, request: bytes, answered: Callable[[bytes], None] | None = None) -> None:
        self._request = request
        self._answered = answered
        self._read = b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.messages = 0
        self.status = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count."""
        if not self.status:
            self.status = data[9:12]
        if not self.begun.done():
            self.begun.set_result(None)
        if self._answered is None:
            self.messages += data.count(b"\ndata: ")
            return
        self._read += data
        head, _, body = self._read.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(body) >= int(length):
            self._read = b""
            self._answered(body)

    def connection_lost(self, _error: Exception | None) -> None:
        """Whoever waits for it waits no more."""
        if not self.begun.done():
            self.begun.set_result(None)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _open(port: int, requests: Sequence[bytes], answered: Callable[[bytes], None] | None = None) -> list[Crowd]:
    loop, crowd = asyncio.get_running_loop(), []
    for at in range(0, len(requests), AT_ONCE):
        some = [Crowd(request, answered) for request in requests[at : at + AT_ONCE]]
        for each in some:
            await loop.create_connection(lambda each=each: each, "127.0.0.1", port)  # type: ignore[misc]
        if answered is None:
            async with asyncio.timeout(OPENED_S):
                await asyncio.gather(*(each.begun for each in some))
        crowd += some
    return crowd


async def _close(pid: int, crowd: Sequence[Crowd]) -> None:
    """Hang up, and wait until the API has noticed: of a stream, with its next heartbeat."""
    for each in crowd:
        if each.transport is not None:
            each.transport.abort()
    async with asyncio.timeout(OPENED_S):
        while len(list(Path(f"/proc/{pid}/fd").iterdir())) > FILES:
            await asyncio.sleep(0.1)


async def _taking(stage: Stage, sale: Sale, until: asyncio.Event) -> None:
    """One ticket after the other, each its own message."""
    (tier,) = sale.event.tiers
    number = 0
    while not until.is_set():
        number += 1
        order = BookingRequest(f"few-{number}", ((tier.id, 1),), None, None, None)
        await stage.office.admission.book(sale.client, order, ids.digest(f"few-{number}"))
        await asyncio.sleep(EACH_S)


async def _during(stage: Stage, work: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    """What the work says, and CPU seconds of the API meanwhile."""
    meter = stage.meter()
    found = await work()
    return found, meter.used()["api"]


async def _run(options: argparse.Namespace) -> str:
    lines: list[str] = []

    def say(name: str, value: str, target: str = "") -> None:
        lines.append(f"| {name} | {value} | {target} |")
        print(f"{name}: {value} {target}", flush=True)

    async with open_stage(None) as stage:
        pid = stage.stack["api"].pid
        plenty, few = await stage.open_sale(1), await stage.open_sale(1, FEW)

        rates: list[float] = []

        async def admissions() -> float:
            load = await stage.load.closed(stage.port, plenty.bookings(stage.run_name()), options.seconds)
            rates.append(load.good / load.took_s)
            await stage.settled()
            return load.good

        async def admission_us() -> float:
            good, cpu_s = await _during(stage, admissions)
            return 1e6 * cpu_s / good

        streams = [few.reads([f"/v1/events/{few.event.id}/stream"])[0]] * options.count
        crowd: list[Crowd] = []
        alone_us, beside_us = [], []
        await admissions()
        for pair in range(PAIRS):
            await _close(pid, crowd)
            alone_us.append(await admission_us())
            before_kb, began = resident_kb(pid), time.monotonic()
            crowd = await _open(stage.port, streams)
            if not pair:
                took_s, more_kb = time.monotonic() - began, resident_kb(pid) - before_kb
                refused = sum(each.status != b"200" for each in crowd)
                say("streams opened", f"{len(crowd) - refused:,} in {took_s:.1f} s, {refused} refused")
                say("memory of all of them", f"{more_kb / 1024:.1f} MB", f"at most {MEMORY_MAX_MB}")
                say("memory of one", f"{more_kb / options.count:.2f} KiB")
            beside_us.append(await admission_us())
        say("CPU of an admission in the API, without streams", f"{statistics.median(alone_us):.1f} µs")
        ratios = [beside / alone for alone, beside in zip(alone_us, beside_us, strict=True)]
        say(
            "CPU of an admission, beside idle streams",
            f"{statistics.median(ratios):.3f} times",
            f"{1 + SLOWER_MAX:g}",
        )
        alone = statistics.median(rates[1::2])

        async def idle() -> float:
            await asyncio.sleep(options.seconds)
            return sum(each.messages for each in crowd)

        _, rest_s = await _during(stage, idle)
        over = asyncio.Event()
        taking = asyncio.create_task(_taking(stage, few, over))
        read = sum(each.messages for each in crowd)
        now, busy_s = await _during(stage, idle)
        say("messages a second, one every 250 ms to each", f"{(now - read) / options.seconds:,.0f}")
        say("CPU of a message", f"{1e6 * (busy_s - rest_s) / max(1, now - read):.1f} µs")
        say("share of a core for messages", f"{(busy_s - rest_s) / options.seconds:.1%}", f"{SLOWER_MAX:.0%}")
        await admissions()
        say(
            "admissions a second beside busy streams, whose readers share the machine", f"{rates[-1] / alone:.3f} times"
        )
        over.set()
        await taking
        await _close(pid, crowd)

        await _waits(stage, plenty, options, say)
        await _soon(stage, plenty, options, say)
    head = f"# Streams and waits\n\n`python -m bench.streams --count {options.count}`, {time.strftime('%Y-%m-%d')}.\n\n"
    return head + "| | measured | target |\n|---|--:|--:|\n" + "\n".join(lines) + "\n"


Say = Callable[..., None]


async def _waits(stage: Stage, sale: Sale, options: argparse.Namespace, say: Say) -> None:
    """So many at once, none of which is settled before all are there; then all are."""
    pid = stage.stack["api"].pid
    answers: list[bytes] = []
    stage.stop_worker()
    before_kb = resident_kb(pid)
    crowd = await _open(stage.port, _posts(stage, sale, options.count), answers.append)
    async with asyncio.timeout(OPENED_S):
        while await stage.pending() < options.count - len(answers):
            await asyncio.sleep(0.02)
    say("memory of all waits", f"{(resident_kb(pid) - before_kb) / 1024:.1f} MB")
    stage.start_worker()
    async with asyncio.timeout(OPENED_S):
        while len(answers) < options.count:
            await asyncio.sleep(0.02)
    final = sum(b'"status":"confirmed"' in body for body in answers)
    say("waits answered final, of all", f"{final:,} of {len(answers):,}")
    await _close(pid, crowd)
    await stage.settled()


async def _soon(stage: Stage, sale: Sale, options: argparse.Namespace, say: Say) -> None:
    """At a rate that is half of what the machine does: from the commit to the answer."""
    answered_at: dict[str, float] = {}

    def answered(body: bytes) -> None:
        answered_at[body[7:43].decode()] = time.time()

    crowd: list[Crowd] = []
    requests = _posts(stage, sale, int(options.rate * options.seconds))
    began = time.monotonic()
    for at, request in enumerate(requests):
        if (ahead := began + at / options.rate - time.monotonic()) > 0.002:
            await asyncio.sleep(ahead)
        crowd += await _open(stage.port, [request], answered)
    await asyncio.sleep(2)
    rows = await (await stage.office.pool()).fetch(
        "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) AS at FROM bookings WHERE id = ANY($1::uuid[])",
        list(answered_at),
    )
    late_ms = [
        1_000 * (answered_at[str(row["id"])] - float(row["at"])) for row in rows if str(row["id"]) in answered_at
    ]
    say(
        f"from commit to answer at {options.rate:g} bookings a second, median, 99 %",
        f"{statistics.median(late_ms):.1f}, {percentile(late_ms, 0.99):.1f} ms", f"{LATE_MAX_MS} ms",
    )  # fmt: skip
    await _close(stage.stack["api"].pid, crowd)


def _posts(stage: Stage, sale: Sale, count: int) -> list[bytes]:
    (template,) = sale.bookings(stage.run_name())
    template = template.replace(b"Idempotency-Key", b"Prefer: wait=10\r\nIdempotency-Key", 1)
    return [template.replace(NUMBER, b"%09d" % number) for number in range(count)]


def main() -> None:
    """Measure, print, and write down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="streams, and waits")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each slice")
    parser.add_argument("--rate", type=float, default=1_000.0, help="bookings a second that wait")
    parser.add_argument("--record", type=Path, help="file for the table")
    options = parser.parse_args()
    for name in ("STREAMS__MAX", "STREAMS__KEY_MAX", "STREAMS__WAITS_MAX", "API__CONNECTIONS_MAX"):
        os.environ[f"BOXOFFICE_{name}"] = str(2 * options.count + 1_000)
    table = uvloop.run(_run(options))
    if options.record:
        options.record.write_text(table)


if __name__ == "__main__":
    main()
