"""CPU a booking with metrics, limits and traces on, against the same checkout with all of them off, in alternating slices.

    python -m bench.everything [--pairs 6] [--seconds 4] [--rate 0] [--only everything]

Writes its lines into `results.json` and `results.md` beside whatever `make bench` has put there, which measures the last of
them itself. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bench.against import ROOT, Answer, Side, add_slices, alternate, compared, cpu_us, end, report
from bench.collector import watching
from bench.figures import Dearer
from bench.saved import FOLDER, load, save
from ops.stack.ports import Ports

__all__ = ["COMPARISONS", "measure"]

Settings = Mapping[str, str]

LIMITS_OFF: Final[Settings] = {
    "BOXOFFICE_RATES__KEY_MAX": "0", "BOXOFFICE_RATES__CUSTOMER_MAX": "0", "BOXOFFICE_RATES__CHANGES_MAX": "0",
    "BOXOFFICE_RATES__READS_MAX": "0", "BOXOFFICE_DECLINES__CUSTOMER_MAX": "0", "BOXOFFICE_DECLINES__LEAST": "0",
}  # fmt: skip
"""Nobody is counted against anything."""

PLAIN: Final[Settings] = {**LIMITS_OFF, "BOXOFFICE_TELEMETRY__COUNT": "false", "BOXOFFICE_TELEMETRY__OTEL": "false"}

TRACED: Final[Settings] = {"BOXOFFICE_TELEMETRY__OTEL": "true", "BOXOFFICE_TELEMETRY__OTEL_RATIO": "0.01"}


class Comparison(NamedTuple):
    """Two sides that differ in these settings alone."""

    title: str
    with_it: Settings
    without: Settings
    watched: tuple[bool, bool]
    """Whether somebody reads the metrics of either."""


COMPARISONS: Final[dict[str, Comparison]] = {
    "watched": Comparison("metrics and limits, to neither", {}, PLAIN, (True, False)),
    "traces": Comparison("traces of 1 % of requests, to none", TRACED, {}, (True, True)),
    "everything": Comparison(
        "everything on (metrics, limits, traces of 1 %), to all off", TRACED, PLAIN, (True, False)
    ),
}
"""What is on in the product unless it is turned off, metrics and limits, is on where a side says nothing of it."""


def measure(name: str, pairs: int, seconds: float, rate: float) -> Dearer:
    """Compare these two sides. Exits with 1 when an audit found an invariant broken, or nothing was watched."""
    comparison = COMPARISONS[name]
    taken = Ports()
    ports = [taken.draw() for _ in range(4)]
    scraped = [port for pair, on in zip((ports[:2], ports[2:]), comparison.watched, strict=True) if on for port in pair]
    with watching(scraped) as watchers:
        sides = (
            Side("with", ROOT, _environ(comparison.with_it, ports[:2], comparison.watched[0], watchers.endpoint)),
            Side("without", ROOT, _environ(comparison.without, ports[2:], comparison.watched[1], watchers.endpoint)),
        )
        figures = alternate(sides, pairs, seconds, rate)
        print("\n" + report(comparison.title, *figures))
        end(sides)
        if not watchers.scrapes or (comparison.with_it == TRACED and not watchers.bodies):
            sys.exit(f"bench: {watchers.scrapes} looks at /metrics and {watchers.bodies} batches of spans: not on.")
    taken.close()
    return _dearer(comparison.title, *figures)


def _environ(settings: Settings, ports: list[int], watched: bool, endpoint: str) -> Settings:
    api, worker = ports if watched else (0, 0)
    return {
        **settings,
        "BOXOFFICE_TELEMETRY__API_PORT": str(api),
        "BOXOFFICE_TELEMETRY__WORKER_PORT": str(worker),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


def _dearer(title: str, with_it: list[Answer], without: list[Answer]) -> Dearer:
    middle, low, high = compared([*map(cpu_us, with_it)], [*map(cpu_us, without)])
    return Dearer(title=title, cpu=middle, lowest=low, highest=high, pairs=len(with_it))


def main() -> None:
    """Measure, and write the lines beside the others."""
    parser = argparse.ArgumentParser(prog="python -m bench.everything", description=__doc__)
    parser.add_argument("--only", choices=COMPARISONS, help="one of them")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    add_slices(parser, pairs=6)
    options = parser.parse_args()
    found = {
        name: measure(name, options.pairs, options.seconds, options.rate)
        for name in ([options.only] if options.only else COMPARISONS)
    }
    for each in found.values():
        print(f"{each.title}: {each.cpu:.3f} ({each.lowest:.2f} to {each.highest:.2f})")
    results = load(options.out)
    if results is None:
        print("bench: there are no results of `make bench` to stand beside, so nothing was written.", file=sys.stderr)
        return
    results.everything.update(found)
    save(results, options.out)


if __name__ == "__main__":
    main()
