"""CPU a booking of this checkout against another's, in alternating slices on one machine.

    python -m bench.against ../other-checkout [--pairs 12] [--seconds 4] [--rate 0]

Both stacks run all the time, one of them idle; slices alternate in the order A B B A, so that drift of the machine falls on
both alike. Ratios are of neighbours. Run it on a machine that does nothing else. The other checkout needs its `.venv`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, Final

__all__ = ["Side", "compared", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
COMPONENTS: Final = ("api", "redis", "worker", "postgres")


class Side:
    """A checkout with its stack running. `slice` asks it for load; `audit` ends it."""

    def __init__(self, checkout: Path) -> None:
        self.name = "ours" if checkout == ROOT else "other"
        environ = {**os.environ, "PYTHONPATH": str(checkout)}
        # -P: the folder of the script holds modules named like the standard library's.
        self._process = subprocess.Popen(
            [str(checkout / ".venv/bin/python"), "-P", str(ROOT / "bench/slices.py")],
            cwd=checkout, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

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
        return self._answer()

    def _answer(self) -> dict[str, Any]:
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


def _report(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    print("\n| ours to the other's, median of neighbours (lowest to highest) | |\n|---|--:|")
    rows: dict[str, Callable[[dict[str, Any]], float]] = {
        "CPU a booking": cpu_us,
        "bookings a second": itemgetter("rate"),
    }
    for component in COMPONENTS:
        rows[f"CPU a booking, {component}"] = partial(_cpu_of, component)
    for name, of in rows.items():
        middle, low, high = compared([of(figure) for figure in ours], [of(figure) for figure in theirs])
        print(f"| {name} | {middle:.3f} ({low:.2f} to {high:.2f}) |")


def main() -> None:
    """Alternate slices, print each and the ratios. Exit code 1: an audit found an invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4, help="of a slice")
    parser.add_argument("--rate", type=float, default=0, help="bookings a second; 0: as many as it takes")
    told = parser.parse_args()
    sides = (Side(ROOT), Side(told.other.resolve()))
    figures: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for side in sides:
        side.slice(told.seconds, told.rate)
    for pair in range(told.pairs):
        for at in (0, 1) if pair % 2 == 0 else (1, 0):
            figure = sides[at].slice(told.seconds, told.rate)
            figures[at].append(figure)
            cpu = ", ".join(f"{name} {us:.0f}" for name, us in figure["cpu_us"].items())
            print(f"{sides[at].name:6} {figure['rate']:8,.0f}/s, CPU µs {cpu_us(figure):.0f} ({cpu})")
    _report(*figures)
    broken = [f"{side.name}: {name} {'; '.join(seen)}" for side in sides for name, seen in side.audit().items()]
    if broken:
        sys.exit("bench: broken:\n" + "\n".join(broken))


if __name__ == "__main__":
    main()
