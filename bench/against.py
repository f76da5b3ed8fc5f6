"""CPU a booking of this checkout against another's, in alternating slices on one machine.

    python -m bench.against ../other-checkout [--pairs 12] [--seconds 4] [--rate 0]

Both stacks run all the time, one of them idle; slices alternate in the order A B B A, so that drift of the machine falls on
both alike. Ratios are of neighbours. Run it on a machine that does nothing else. The other checkout needs its `.venv`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

__all__ = ["ROOT", "Side", "add_slices", "alternate", "compared", "end", "main", "print_table", "report"]

ROOT: Final = Path(__file__).resolve().parent.parent
Answer = dict[str, Any]
"""What a side says of a slice: see `bench.slices`."""

T = TypeVar("T")
Pair = tuple[T, T]

COMPONENTS: Final = ("api", "redis", "worker", "postgres")


class Side:
    """A checkout with its stack running. `slice` asks it for load; `audit` ends it."""

    def __init__(self, name: str, checkout: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are added to the environment of the whole stack."""
        self.name = name
        environ = {**os.environ, "PYTHONPATH": str(checkout), **(settings or {})}
        # -P: the folder of the script holds modules named like the standard library's.
        self._process = subprocess.Popen(
            [str(checkout / ".venv/bin/python"), "-P", str(ROOT / "bench/slices.py")],
            cwd=checkout, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.answer()

    def slice(self, seconds: float, rate: float) -> dict[str, Any]:
        """Load for so long; `rate` bookings a second, or 0 for as many as it takes."""
        return self._ask(f"{seconds} {rate}")

    def audit(self) -> dict[str, list[str]]:
        """End it. Returns the invariants that were broken, with some of the evidence."""
        broken: dict[str, list[str]] = self._ask("")["broken"]
        self._process.wait(60)
        return broken

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What its process says of its part, a line of JSON."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"bench: a side ended with exit code {self._process.wait(60)}.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def cpu_us(figure: dict[str, Any]) -> float:
    """CPU microseconds a booking of all components but the load generator."""
    return sum(_cpu_of(name, figure) for name in COMPONENTS)


def _cpu_of(component: str, figure: dict[str, Any]) -> float:
    return float(figure["cpu_us"].get(component, 0.0))


def compared(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Median, lowest and highest ratio of neighbours."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def alternate(sides: Pair[Side], pairs: int, seconds: float, rate: float) -> Pair[list[Answer]]:
    """Slices in the order A B B A, after one of each that counts for nothing. What each side measured."""
    figures: Pair[list[Answer]] = ([], [])
    for side in sides:
        side.slice(seconds, rate)
    for pair in range(pairs):
        for at in (0, 1) if pair % 2 == 0 else (1, 0):
            figure = sides[at].slice(seconds, rate)
            figures[at].append(figure)
            cpu = ", ".join(f"{name} {us:.0f}" for name, us in figure["cpu_us"].items())
            print(f"{sides[at].name:7} {figure['rate']:8,.0f}/s, CPU µs {cpu_us(figure):.0f} ({cpu})")
    return figures


def report(title: str, ours: list[Answer], theirs: list[Answer]) -> str:
    """A table of ratios, ours to theirs."""
    rows: dict[str, Callable[[Answer], float]] = {"CPU a booking": cpu_us, "bookings a second": itemgetter("rate")}
    for component in COMPONENTS:
        rows[f"CPU a booking, {component}"] = partial(_cpu_of, component)
    lines = [f"| {title}, median of neighbours (lowest to highest) | |", "|---|--:|"]
    for name, of in rows.items():
        middle, low, high = compared([of(figure) for figure in ours], [of(figure) for figure in theirs])
        lines.append(f"| {name} | {middle:.3f} ({low:.2f} to {high:.2f}) |")
    return "\n".join(lines)


def end(sides: Pair[Side]) -> None:
    """Audit both. Exits with 1 when an invariant was broken."""
    broken = [f"{side.name}: {name} {'; '.join(seen)}" for side in sides for name, seen in side.audit().items()]
    if broken:
        sys.exit("bench: broken:\n" + "\n".join(broken))


def add_slices(parser: argparse.ArgumentParser, *, pairs: int) -> None:
    """The options of every comparison."""
    parser.add_argument("--pairs", type=int, default=pairs)
    parser.add_argument("--seconds", type=float, default=4, help="of a slice")
    parser.add_argument("--rate", type=float, default=0, help="bookings a second; 0: as many as it takes")


def main() -> None:
    """Alternate slices, print each and the ratios. Exit code 1: an audit found an invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    add_slices(parser, pairs=12)
    options = parser.parse_args()
    sides = (Side("ours", ROOT), Side("other", options.other.resolve()))
    figures = alternate(sides, options.pairs, options.seconds, options.rate)
    print("\n" + report("ours to the other's", *figures))
    end(sides)


def print_table(
    module: str, about: str | None, measured: Callable[[argparse.Namespace], Coroutine[Any, Any, str]]
) -> None:
    """The command line of a benchmark whose ways of one stack are held against each other: print its table, and record it."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3, help="of a slice")
    parser.add_argument("--record", type=Path, help="a file for the table")
    options = parser.parse_args()
    table = asyncio.run(measured(options))
    if options.record is not None:
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(table)
    print("\n" + table)


if __name__ == "__main__":
    main()
