"""The switch turns counting off."""

from __future__ import annotations

from bench.counting import measure
from boxoffice.telemetry.metrics import REGISTRY


def test_switched_off_counting_costs_next_to_nothing() -> None:
    """Of a call and of a batch: a look at the switch."""
    costs = measure(times=20)
    assert REGISTRY.counts, "as it was"
    for cost in costs:
        assert cost.off_ns < cost.on_ns
    by_part = {cost.part: cost for cost in costs}
    for part in ("an admission call", "a settled batch"):
        assert by_part[part].off_ns < by_part[part].on_ns / 10
