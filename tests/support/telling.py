"""What of the counters a deed has changed, to the last one: what is not named has stayed as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boxoffice.telemetry.metrics import REGISTRY, Counter, Histogram

__all__ = ["Changes", "change", "gauge"]

Changes = dict[str, float]
"""By `name label label`, without `boxoffice_` and `_total`. A histogram has how many there are, and one that counts whole
things also `name.sum`."""

WHOLE = ("boxoffice_admission_call_members", "boxoffice_settlement_batch_bookings")


def _told() -> Changes:
    told: Changes = {}
    for metric in REGISTRY.metrics.values():
        name = metric.name.removeprefix("boxoffice_").removesuffix("_total")
        if isinstance(metric, Counter):
            told |= {" ".join((name, *values)): cell.value for values, cell in metric.cells.items()}
        elif isinstance(metric, Histogram):
            for values, spread in metric.spreads.items():
                told[" ".join((name, *values))] = sum(spread.counts)
                if metric.name in WHOLE:
                    told[f"{name}.sum"] = spread.total
    return told


@contextmanager
def change() -> Iterator[Changes]:
    """Filled when the block ends, with whatever is another number than before."""
    before, found = _told(), Changes()
    yield found
    found |= {name: value - before.get(name, 0) for name, value in _told().items() if value != before.get(name, 0)}


def gauge(name: str, *values: str) -> float | None:
    """What a gauge shows; None: nothing."""
    return REGISTRY.metrics[f"boxoffice_{name}"].values.get(values)  # type: ignore[attr-defined,no-any-return]
