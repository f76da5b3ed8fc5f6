"""CPU of a booking that is refused, against one that is accepted and settled.

    python -m bench.refusals [--pairs 6] [--seconds 3] [--record bench/results/refusals.md]

All components are measured, in alternating slices on one stack: of a refusal that is API and Redis, of a booking worker and
PostgreSQL, too, until the last is captured. The ratios of API and of Redis alone stand beside it: what a refusal spares is
mostly what comes after its answer. In a slice of refusals nearly all answers are the refusal; the few that are not (a limit's
own bookings of a window) are paid for by the others. Run it on a machine that does nothing else: it takes ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench import whole
from bench.against import compared, cpu_us, print_table
from bench.cpu import machine
from bench.figures import Figure
from bench.stage import Sale, Stage, open_stage
from boxoffice import ids
from boxoffice.stores import keys

__all__ = ["MOST", "REFUSALS", "Refusal", "main", "requests_of", "row"]

MOST: Final = 0.5
"""A refused call may cost so many times an accepted one."""

LEAST: Final = 0.9
"""Share of a slice's answers that must be the refusal, or it measures something else."""

LEARNS_S: Final = 2.5
"""In which the API has learnt of a key's limit."""

ONE: Final = "the-same-customer"

FEW: Final = 100
"""Bookings of a key in a window, and tickets of a sale, that are soon gone."""


async def _nothing(_stage: Stage, _sale: Sale) -> None:
    """What the settings have is enough."""


async def _slow_key(stage: Stage, sale: Sale) -> None:
    await stage.office.access.set_rate(sale.api_key.partition(".")[0], FEW)


async def _bad_cards(stage: Stage, sale: Sale) -> None:
    """As if all payments of one customer had been declined; for as long as the window lasts."""
    here, settings = stage.office.shards[sale.event.shard], stage.office.settings.declines
    counts: list[str | int] = [f"o:{ids.owner_digest(sale.client, ONE)}", 1_000_000]
    name, window_ms = keys.declines(here.number), 1_000 * settings.window_s
    await here.run("decline", declines=name, window_ms=window_ms, card_max=settings.card_max, good="", counts=counts)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a booking is refused: how the sale and its customers are for it."""

    status: int
    prepare: Callable[[Stage, Sale], Awaitable[None]] = _nothing
    one_customer: bool = False
    capacity: int = 50_000_000
    api_key: str = ""
    """In place of the sale's."""


REFUSALS: Final[Mapping[str, Refusal]] = {
    "429, the key is over its limit": Refusal(429, _slow_key),
    "429, the customer is over the limit": Refusal(429, one_customer=True),
    "429, too many declined payments": Refusal(429, _bad_cards, one_customer=True),
    "409, sold out": Refusal(409, capacity=FEW),
    "401, no such key": Refusal(401, api_key="nobody00.knows-this-key"),
}

HEAD: Final = """\
# What a refusal costs

CPU of a booking that is refused to one that is accepted, settled and captured, in alternating slices on one stack: the median
of neighbours, and the lowest and highest; then API and Redis alone. At most {most:g} is the target. Measured on {date},
{pairs} pairs each: `{command}`.

| refused with | to accepted | lowest to highest | API | Redis | |
|---|--:|--:|--:|--:|---|
"""


def requests_of(refusal: Refusal, sale: Sale, run: str) -> list[bytes]:
    """Bookings that are refused so."""
    requests = sale.bookings(run)
    if refusal.api_key:
        requests = [request.replace(sale.api_key.encode(), refusal.api_key.encode()) for request in requests]
    return [_of_one(request) for request in requests] if refusal.one_customer else requests


def _of_one(request: bytes) -> bytes:
    """The same request of one customer, whoever it was of."""
    head, _, body = request.partition(b"\r\n\r\n")
    changed = json.dumps(json.loads(body) | {"customer_id": ONE}, separators=(",", ":")).encode()
    length = b"Content-Length: %d"
    return head.replace(length % len(body), length % len(changed)) + b"\r\n\r\n" + changed


def row(name: str, refused: list[dict[str, Any]], accepted: list[dict[str, Any]]) -> str:
    """The line of a refusal in the table, from neighbouring slices."""
    middle, low, high = compared([*map(cpu_us, refused)], [*map(cpu_us, accepted)])
    api, redis = (
        compared([one["cpu_us"][part] for one in refused], [one["cpu_us"][part] for one in accepted])[0]
        for part in ("api", "redis")
    )
    word = "met" if middle <= MOST else "missed"
    return f"| {name} | {middle:.3f} | {low:.2f} to {high:.2f} | {api:.3f} | {redis:.3f} | {word} |\n"


async def _refused(stage: Stage, refusal: Refusal, sale: Sale, seconds: float) -> Figure:
    await refusal.prepare(stage, sale)
    meter, before = stage.meter(), machine()
    requests = requests_of(refusal, sale, stage.run_name())
    load = await stage.load.closed(stage.port, requests, seconds, wanted=refusal.status)
    count = load.good
    if count < LEAST * load.issued:
        sys.exit(f"bench: other answers than {refusal.status}: {load.answers}")
    return whole.figure_of("refusals", load, count, load.took_s, meter.used(), before)


async def _measure(
    stage: Stage, name: str, sales: tuple[Sale, Sale], pairs: int, seconds: float
) -> list[list[dict[str, Any]]]:
    """Slices in the order A B B A."""
    found: list[list[dict[str, Any]]] = [[], []]
    for pair in range(pairs):
        for at in (0, 1) if pair % 2 == 0 else (1, 0):
            if at:
                figure = await whole.end_to_end(stage, seconds, sales[1], "accepted")
            else:
                figure = await _refused(stage, REFUSALS[name], sales[0], seconds)
            found[at].append({"cpu_us": figure.cpu_us})
            word = ("refused", "accepted")[at]
            parts = ", ".join(f"{name} {us:.1f}" for name, us in figure.cpu_us.items() if us)
            print(f"{word:8} {figure.rate:8,.0f}/s, CPU µs {cpu_us(found[at][-1]):.1f} ({parts})", flush=True)
    return found


async def _run(options: argparse.Namespace) -> str:
    command = f"python -m bench.refusals --pairs {options.pairs} --seconds {options.seconds:g}"
    table = HEAD.format(most=MOST, date=time.strftime("%Y-%m-%d"), pairs=options.pairs, command=command)
    async with open_stage(None) as stage:
        plain = await stage.open_sale(1)
        for name, refusal in REFUSALS.items():
            sale = await stage.open_sale(1, refusal.capacity)
            await refusal.prepare(stage, sale)
            await asyncio.sleep(LEARNS_S)
            print(name, flush=True)
            table += row(name, *await _measure(stage, name, (sale, plain), options.pairs, options.seconds))
        findings = await stage.audit()
    if findings.broken:
        sys.exit(f"bench: broken: {findings.broken}")
    return table


def main() -> None:
    """Alternate slices, print the table. Exit code 1: the audit found an invariant broken, or other answers came."""
    print_table("bench.refusals", __doc__, _run)


if __name__ == "__main__":
    main()
