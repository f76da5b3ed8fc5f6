"""One checkout's side of a comparison: a stack of its own, and a slice of load whenever a line on standard input asks.

Run by `bench.against` with the interpreter and the packages of the checkout that it measures; so nothing here may need
more of `bench` than `open_stage`, `end_to_end` and `fixed_rate`, which older checkouts have too.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench import whole
from bench.stage import open_stage

__all__ = ["main"]


async def _serve() -> None:
    async with open_stage(None) as stage:
        sale = await stage.open_sale(1)
        print(json.dumps({"ready": True}), flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            seconds, rate = map(float, line.split())
            if rate:
                figure = await whole.fixed_rate(stage, seconds, rate, sale, "slice")
            else:
                figure = await whole.end_to_end(stage, seconds, sale, "slice")
            print(json.dumps({"rate": figure.rate, "cpu_us": figure.cpu_us, "p99_ms": figure.p99_ms}), flush=True)
        findings = await stage.audit()
        broken = {finding.name: finding.evidence[:3] for finding in findings if not finding.held}
        print(json.dumps({"broken": broken}), flush=True)


def main() -> None:
    """Start a stack, say `{"ready": true}`, then answer each line "seconds rate" (rate 0: as fast as it goes) with one
    line of JSON: bookings a second, CPU µs a booking by component, p99 of POST in ms. An empty line: audit, and end.
    """
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
