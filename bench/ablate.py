"""CPU a booking without one shortcut against the same code with it, in alternating slices on one machine.

    python -m bench.ablate shapes [--pairs 6] [--seconds 4] [--rate 0]
    python -m bench.ablate all --record bench/results/ablation.md

The two stacks differ in nothing but the setting that turns the shortcut off. What brings under a tenth of a booking's CPU is
not worth its code. Run it on a machine that does
nothing else: all of them take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from bench.against import ROOT, Side, add_slices, alternate, compared, cpu_us, end, report

__all__ = ["KEEP_FROM", "SHORTCUTS", "main", "row"]

NO_LANE: Final = {"BOXOFFICE_API__LANE": "false"}

SHORTCUTS: Final[dict[str, dict[str, str]]] = {
    "shapes": {"BOXOFFICE_API__SHAPES": "false"},
    "lane": NO_LANE,
    "fast_path": {**NO_LANE, "BOXOFFICE_API__FAST_PATH": "false"},
}
"""Each with the settings that turn it off."""

BESIDE: Final = {"fast_path": NO_LANE}
"""What is off on both sides: the lane stands on the fast path, and would hide it."""

KEEP_FROM: Final = 0.10
"""The share of a booking's CPU that a shortcut has to save."""

HEAD: Final = """\
# What each shortcut saves

CPU a booking (API, Redis, worker and PostgreSQL) without it to that with it, in alternating slices on one machine: the median
of neighbours, and the lowest and highest. Saved is what of a booking's CPU without it is not spent with it; under {least:.0%}
it is not worth its code. Measured on {date}, {pairs} pairs each: `{command}`.

| shortcut | without to with it | lowest to highest | saved | |
|---|--:|--:|--:|---|
"""


def row(shortcut: str, without: list[float], with_it: list[float]) -> str:
    """The shortcut's line in the table, from the CPU a booking of neighbouring slices."""
    middle, low, high = compared(without, with_it)
    saved = 1 - 1 / middle
    judgement = "keep" if saved >= KEEP_FROM else "delete"
    return f"| `{shortcut}` | {middle:.3f} | {low:.2f} to {high:.2f} | {saved:.1%} | {judgement} |\n"


def main() -> None:
    """Alternate slices, print each and the ratios. Exit code 1: an audit found an invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablate", description=__doc__)
    parser.add_argument("shortcut", choices=[*SHORTCUTS, "all"])
    parser.add_argument("--record", type=Path, help="a file for the table")
    add_slices(parser, pairs=6)
    options = parser.parse_args()
    command = f"python -m bench.ablate {options.shortcut} --pairs {options.pairs} --seconds {options.seconds:g}"
    table = HEAD.format(least=KEEP_FROM, date=time.strftime("%Y-%m-%d"), pairs=options.pairs, command=command)
    for shortcut in SHORTCUTS if options.shortcut == "all" else [options.shortcut]:
        table += _measure(shortcut, options)
        if options.record is not None:
            options.record.parent.mkdir(parents=True, exist_ok=True)
            options.record.write_text(table)
    print("\n" + table)


def _measure(shortcut: str, options: argparse.Namespace) -> str:
    sides = (Side("without", ROOT, SHORTCUTS[shortcut]), Side("with", ROOT, BESIDE.get(shortcut)))
    without, with_it = alternate(sides, options.pairs, options.seconds, options.rate)
    print("\n" + report(f"without {shortcut} to with it", without, with_it))
    end(sides)
    return row(shortcut, [*map(cpu_us, without)], [*map(cpu_us, with_it)])


if __name__ == "__main__":
    main()
