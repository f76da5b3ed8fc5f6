"""CPU a booking without one shortcut against the same code with it, in alternating slices on one machine.

    python -m bench.ablate shapes [--pairs 6] [--seconds 4] [--rate 0]

The two stacks differ in nothing but the setting that turns the shortcut off. What brings under a tenth of a booking's CPU is
not worth its code. `turn_away` costs and saves nothing while a sale runs: it drops new connections at shutdown, which
`tests/api/transport/test_listener.py` pins; how many resets that spares is counted nowhere. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
from typing import Final

from bench.against import ROOT, Side, add_slices, alternate, end, report

__all__ = ["SHORTCUTS", "main"]

SHORTCUTS: Final[dict[str, dict[str, str]]] = {
    "shapes": {"BOXOFFICE_API__SHAPES": "false"},
    "arrays": {"BOXOFFICE_POSTGRES_FAST_ARRAYS": "false"},
    "turn_away": {"BOXOFFICE_API__TURN_AWAY": "false"},
    "lane": {"BOXOFFICE_API__LANE": "false"},
    "fast_path": {"BOXOFFICE_API__LANE": "false", "BOXOFFICE_API__FAST_PATH": "false"},
}
"""Each with the settings that turn it off. The lane stands on the fast path, so without that there is no lane."""


def main() -> None:
    """Alternate slices, print each and the ratios. Exit code 1: an audit found an invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablate", description=__doc__)
    parser.add_argument("shortcut", choices=SHORTCUTS)
    add_slices(parser, pairs=6)
    options = parser.parse_args()
    sides = (Side("without", ROOT, SHORTCUTS[options.shortcut]), Side("with", ROOT))
    figures = alternate(sides, options.pairs, options.seconds, options.rate)
    print("\n" + report(f"without {options.shortcut} to with it", *figures))
    end(sides)


if __name__ == "__main__":
    main()
