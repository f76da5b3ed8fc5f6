"""CPU of an admission whose sale has times, limits, access codes or a key of few scopes, against one that has none.

    python -m bench.rules [--pairs 6] [--seconds 3] [--record bench/results/rules.md]

Nobody settles meanwhile: what is measured is API and Redis, from a request to its 202, in alternating slices. Between two
slices of a pair nothing but the event and the key differs. A code, and all of it, are then measured end to end as well, until
bookings are captured and settled: that is the CPU of a booking in every process. Run it on a machine that does nothing else: it
takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bench import whole
from bench.against import compared, cpu_us, print_table
from bench.stage import Sale, Stage, open_stage
from boxoffice.access.store import Grant
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.rules import NONE, Rules
from boxoffice.sales.store import NewTier

__all__ = ["MOST", "WAYS", "Way", "main", "open_sale", "row"]

MOST: Final = 1.05
"""An admission with any of it may cost so many times one without."""

PLENTY: Final = 50_000_000
"""Tickets: none of the bounds is met, for a refusal is no admission."""

CODES: Final = 40
"""Codes that bookings are made with in turn."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a sale has."""

    windows: bool = False
    limits: bool = False
    codes: bool = False
    """The event has access codes."""
    coded: bool = False
    """Bookings are made with one."""
    scopes: bool = False
    """The key may book, and nothing else."""


PLAIN: Final = Way()

WAYS: Final[Mapping[str, Way]] = {
    "times of event and tier": Way(windows=True),
    "limits of event and tier": Way(limits=True),
    "codes, booking without one": Way(codes=True),
    "a code": Way(codes=True, coded=True),
    "a key that may only book": Way(scopes=True),
    "all of it": Way(True, True, True, True, True),
}

WHOLE: Final = ("a code", "all of it")
"""Ways that are measured end to end, too."""

HEAD: Final = """\
# What times, limits, access codes and scopes cost

CPU of an admission (API and Redis, from the request to its 202; nobody settles) with them to without, in alternating slices
on one stack: the median of neighbours, and the lowest and highest. At most {most:g} is the target. Measured on {date},
{pairs} pairs each: `{command}`.

| with | to without | lowest to highest | API | Redis | |
|---|--:|--:|--:|--:|---|
"""

HEAD_OF_WHOLE: Final = """
End to end: from the request until the booking is captured and settled, with worker and PostgreSQL.

| with | to without | lowest to highest | API | Redis | |
|---|--:|--:|--:|--:|---|
"""


async def open_sale(stage: Stage, way: Way) -> Sale:
    """An event on sale with what the way says, and a key for it."""
    now, office = datetime.now(UTC), stage.office
    opens, closes = (now - timedelta(days=1), now + timedelta(days=20)) if way.windows else (None, None)
    rules = Rules(1, PLENTY, 1, PLENTY) if way.limits else NONE
    client = await office.access.create_client("Bench shop", allow_same_name=True)
    api_key = await office.access.create_api_key(client, Grant(scopes=("book",)) if way.scopes else None)
    stage.secrets.append(api_key.partition(".")[2])
    tier = NewTier("T00", 2_500, PLENTY, on_sale_at=opens, off_sale_at=closes, rules=rules)
    event = await office.store.create_event(
        client,
        "Bench, rules",
        now + timedelta(days=30),
        "USD",
        [tier],
        rules=rules,
        on_sale_at=opens,
        off_sale_at=closes,
    )
    codes = await office.codes.create(event.id, CodeTerms(PLENTY), count=CODES) if way.codes else []
    return Sale(client, api_key, event, tuple(code["code"] for code in codes) if way.coded else ())


def row(name: str, with_it: list[dict[str, Any]], without: list[dict[str, Any]]) -> str:
    """The line of a way in the table, from neighbouring slices."""
    middle, low, high = compared([*map(cpu_us, with_it)], [*map(cpu_us, without)])
    api, redis = (
        compared([one["cpu_us"][part] for one in with_it], [one["cpu_us"][part] for one in without])[0]
        for part in ("api", "redis")
    )
    word = "met" if middle <= MOST else "missed"
    return f"| {name} | {middle:.3f} | {low:.2f} to {high:.2f} | {api:.3f} | {redis:.3f} | {word} |\n"


async def _measure(
    stage: Stage, sales: tuple[Sale, Sale], pairs: int, seconds: float, *, settled: bool = False
) -> list[list[dict[str, Any]]]:
    """Slices in the order A B B A; what waits is settled between two pairs, or in each slice."""
    found: list[list[dict[str, Any]]] = [[], []]
    for pair in range(pairs):
        async with nullcontext() if settled else whole.nobody_settles(stage):
            for at in (0, 1) if pair % 2 == 0 else (1, 0):
                if settled:
                    figure = await whole.end_to_end(stage, seconds, sales[at], "end to end")
                else:
                    figure = await whole.admission(stage, seconds, sales[at])
                if figure.strange:
                    sys.exit(f"bench: answers that are no admission: {figure.strange}")
                found[at].append({"cpu_us": figure.cpu_us})
                print(
                    f"{('with', 'without')[at]:8} {figure.rate:8,.0f}/s, CPU µs {cpu_us(found[at][-1]):.1f}", flush=True
                )
    return found


async def _run(options: argparse.Namespace) -> str:
    command = f"python -m bench.rules --pairs {options.pairs} --seconds {options.seconds:g}"
    table = HEAD.format(most=MOST, date=time.strftime("%Y-%m-%d"), pairs=options.pairs, command=command)
    async with open_stage(None) as stage:
        plain, sales = await open_sale(stage, PLAIN), dict[str, Sale]()
        for name, way in WAYS.items():
            sale = sales[name] = await open_sale(stage, way)
            await asyncio.sleep(1.2)  # the API learns of it once a second
            for each in (sale, plain):
                await stage.warm_up(each)
            print(name, flush=True)
            table += row(name, *await _measure(stage, (sale, plain), options.pairs, options.seconds))
        table += HEAD_OF_WHOLE
        for name in WHOLE:
            print(f"{name}, end to end", flush=True)
            pair = sales[name], plain
            table += row(name, *await _measure(stage, pair, options.pairs, options.seconds, settled=True))
        findings = await stage.audit()
    if findings.broken:
        sys.exit(f"bench: broken: {findings.broken}")
    return table


def main() -> None:
    """Alternate slices, print the table. Exit code 1: the audit found an invariant broken, or a booking was refused."""
    print_table("bench.rules", __doc__, _run)


if __name__ == "__main__":
    main()
