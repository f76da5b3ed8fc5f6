"""What notices cost a booking: this checkout against a copy of it that writes none, in alternating slices.

    python -m bench.notices [--pairs 8] [--seconds 4] [--rate 0]

The product has no switch for them. So the copy has these places of its text changed: nothing of a batch is told, nothing
of its captures, and no notice is given a place. Its audit finds that, and may find nothing else. Run it on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

from bench.against import ROOT, Answer, Side, add_slices, alternate, cpu_us, report
from tests.support.tree import copy_tree

__all__ = ["BUDGET_US", "CHANGES", "Cost", "copy_without", "cost"]

BUDGET_US: Final = 4.0
"""CPU a booking over all components, in microseconds."""

MEANT_TO_BREAK: Final = "I15"
"""The invariant that shops were told what the tables say."""

CHANGES: Final = (
    (
        "boxoffice/books/rows.py",
        """\
                    # Nearly all of a batch: of one shop and event they have one group.
                    if record.event != event or record.body.client != client:
                        client, event = record.body.client, record.event
                        ids, keys = groups.setdefault(group_of(decision), ([], []))
                    ids.append(record.id)
                    keys.append(record.payment_key)
                    continue
""",
        """\
                    continue
""",
    ),
    (
        "boxoffice/books/rows.py",
        """\
            group_up(groups, group_of(decision), record.id, record.payment_key)
""",
        """\
            pass
""",
    ),
    (
        "boxoffice/books/rows.py",
        """\
            group_changed(groups, decision, known, paid, rewritten)
""",
        """\
            pass
""",
    ),
    (
        "boxoffice/books/notices.py",
        """\
    whose = {group[:2] for group in groups}
""",
        """\
    return await connection.fetchval(  # type: ignore[no-any-return]
        "INSERT INTO captures (payment_keys, leased_until) VALUES ($1::text[], now() + $2 * interval '1 millisecond')"
        " RETURNING id", due, lease_ms,
    )
    whose = {group[:2] for group in groups}
""",
    ),
    (
        "boxoffice/books/payments.py",
        """\
    await writer.execute(_MARK_CAPTURED, payment_keys, listed)
""",
        """\
    moved = _MARK_CAPTURED[_MARK_CAPTURED.index("UPDATE") : _MARK_CAPTURED.index("RETURNING booking_id")]
    over = "WITH over AS (DELETE FROM captures WHERE id = ANY($2::bigint[]) RETURNING id) "
    await writer.execute(over + moved, payment_keys, listed)
""",
    ),
    (
        "boxoffice/notices/reading.py",
        """\
        while await self._database.fetchval(_FRESH):
""",
        """\
        while False:
""",
    ),
)
"""File, what stands in it once, and what stands there in the copy."""


class Cost(NamedTuple):
    """Microseconds of CPU a booking: the middle of what each pair of neighbours says, and its two quarters."""

    middle: float
    low: float
    high: float


def copy_without(folder: Path) -> Path:
    """A checkout without notices, with our packages. Exits when the text is no longer what is to be changed."""
    copy = copy_tree(folder)
    for name, before, after in CHANGES:
        text = (copy / name).read_text()
        if text.count(before) != 1:
            sys.exit(f"bench: {name} has changed: write down anew how it writes no notices.\n{before}")
        (copy / name).write_text(text.replace(before, after))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


def cost(with_them: Sequence[Answer], without: Sequence[Answer]) -> Cost:
    """What each slice took more than its neighbour without them."""
    more = sorted(cpu_us(one) - cpu_us(other) for one, other in zip(with_them, without, strict=True))
    low, middle, high = quantiles(more, n=4, method="inclusive")
    return Cost(middle, low, high)


def _end(sides: tuple[Side, Side]) -> None:
    """Audit both. Exits with 1 when one is broken that is not meant to be."""
    broken = [f"{side.name}: {name} {'; '.join(seen)}" for side in sides for name, seen in side.audit().items()
              if (side.name, name) != ("without", MEANT_TO_BREAK)]  # fmt: skip
    if broken:
        sys.exit("bench: broken:\n" + "\n".join(broken))


def main() -> None:
    """Alternate slices; print each, the ratios, and what notices cost. Exit code 1: an audit found something."""
    parser = argparse.ArgumentParser(prog="python -m bench.notices", description=__doc__)
    add_slices(parser, pairs=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boxoffice-bench-") as folder:
        sides = (Side("with", ROOT), Side("without", copy_without(Path(folder) / "without")))
        figures = alternate(sides, options.pairs, options.seconds, options.rate)
        print("\n" + report("with notices to none", *figures))
        _end(sides)
    found = cost(*figures)
    word = "kept" if found.middle <= BUDGET_US else "missed"
    print(
        f"\nNotices cost {found.middle:.1f} µs of CPU a booking ({found.low:.1f} to {found.high:.1f}, half of the pairs); "
        f"the budget of {BUDGET_US:g} µs is {word}."
    )


if __name__ == "__main__":
    main()
