"""How long until a wiped Redis sells again: python -m bench.repair [--bookings N] [--rate R]

Forges so many confirmed bookings, books on at a fixed rate, empties Redis under it, and waits until bookings are
accepted again: nobody lends a hand. Then the same by hand, with `boxoffice rebuild`. Both end with the audit.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from typing import Final

from bench.forge import forge
from bench.load import NUMBER
from bench.stage import Sale, Stage, open_stage
from boxoffice.errors import CannotRun

__all__ = ["main"]

LIMIT_S: Final = 600.0
"""Bookings are refused for no longer than this."""


class _Customer:
    """Books one ticket after the other, and notes when bookings were accepted and when they were not."""

    def __init__(self, port: int, sale: Sale, rate: float) -> None:
        self._port = port
        self._request = sale.bookings("again")[0]
        self._pause_s = 1 / rate
        self.answers: Counter[int] = Counter()
        self.refused_at = self.accepted_at = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        number = 0
        try:
            while True:
                number += 1
                writer.write(self._request.replace(NUMBER, b"%09d" % number))
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                self.answers[status] += 1
                if status == 202:
                    self.accepted_at = time.monotonic()
                else:
                    self.refused_at = time.monotonic()
                await asyncio.sleep(self._pause_s)
        finally:
            writer.close()


async def _wiped(stage: Stage, sale: Sale, rate: float) -> float:
    """Seconds from the wipe until the first booking accepted after the last refusal."""
    customer = _Customer(stage.port, sale, rate)
    booking = asyncio.create_task(customer.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            while not customer.accepted_at:
                await asyncio.sleep(0.01)
            await asyncio.sleep(2)
            if set(customer.answers) != {202}:
                raise CannotRun(f"Before the wipe the answers were {dict(customer.answers)}.")
            began = time.monotonic()
            await stage.office.redis.flushall()
            while not customer.refused_at or customer.accepted_at < customer.refused_at:
                await asyncio.sleep(0.005)
            back = customer.accepted_at
            # Nothing may be refused again once it sells.
            await asyncio.sleep(2)
    finally:
        booking.cancel()
        await asyncio.wait([booking])
    if customer.refused_at > back or set(customer.answers) != {202, 503}:
        raise CannotRun(
            f"After the wipe the answers were {dict(customer.answers)}, refused again: {customer.refused_at > back}."
        )
    return back - began


async def _by_hand(stage: Stage) -> float:
    """Seconds of `boxoffice rebuild` with the worker stopped, so that nobody else does it."""
    stage.stop_worker()
    await stage.office.redis.flushall()
    began = time.monotonic()
    await asyncio.to_thread(stage.stack.run, "rebuild", timeout_s=LIMIT_S)
    took = time.monotonic() - began
    stage.start_worker()
    return took


async def _run(bookings: int, rate: float) -> int:
    async with open_stage(None) as stage:
        sale = await stage.open_sale(1)
        await forge(stage, sale, 1, bookings)
        wiped = await _wiped(stage, sale, rate)
        await stage.settled()
        print(f"{bookings:,} bookings, {rate:.0f}/s on top: Redis wiped, selling again after {wiped:.1f} s", flush=True)
        took = await _by_hand(stage)
        print(f"boxoffice rebuild of them: {took:.1f} s, {bookings / took:,.0f} bookings/s", flush=True)
        broken = [finding.name for finding in await stage.audit() if not finding.held]
        print(f"audit: {', '.join(broken) + ' broken' if broken else 'all invariants held'}")
        return 1 if broken else 0


def main() -> None:
    """1: an audit was broken, or it never sold again."""
    parser = argparse.ArgumentParser(prog="python -m bench.repair", description=__doc__)
    parser.add_argument("--bookings", type=int, default=100_000, help="confirmed before the wipe")
    parser.add_argument("--rate", type=float, default=50.0, help="bookings a second meanwhile")
    options = parser.parse_args()
    try:
        sys.exit(asyncio.run(_run(options.bookings, options.rate)))
    except (CannotRun, TimeoutError) as error:
        sys.exit(f"repair: {error or 'it did not sell again.'}")


if __name__ == "__main__":
    main()
