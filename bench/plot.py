"""The results as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.figures import COMPONENTS, Results

__all__ = ["plot"]

COLOURS: Final = {"api": "#4477aa", "redis": "#cc6677", "worker": "#ddaa33", "postgres": "#228833", "load": "#cccccc"}
RATES: Final = {
    "noop": "(a) no-op",
    "script": "(b) script alone",
    "commit": "(c) commit alone",
    "admission": "(d) admission",
    "hot": "(e) end to end",
    "forty": "(e) forty tiers",
    "baseline": "(f) by hand",
    "refusals": "refusals",
    "poll": "polling",
    "availability": "availability",
}
COSTS: Final = {
    "admission": "(d) admission",
    "hot": "(e) full rate",
    "forty": "(e) forty tiers",
    "half": "(e) half rate",
}


def plot(results: Results, path: Path) -> None:
    """Draw rates, CPU by component, and how both change as bookings pile up."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    _draw_rates(axes[0], results)
    _draw_costs(axes[1], results)
    _draw_growth(axes[2], results)
    if results.quick:
        figure.suptitle("quick run: too short for figures to mean anything", color="#aa0000")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_rates(axis: Any, results: Results) -> None:
    names = [name for name in RATES if results.best(name)]
    rates = [figure.rate for name in names if (figure := results.best(name))]
    bars = axis.barh([RATES[name] for name in names], rates, color="#4477aa")
    axis.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set_title("a second, best of all rounds")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_costs(axis: Any, results: Results) -> None:
    names = [name for name in COSTS if results.best(name)]
    bottom = [0.0] * len(names)
    for component in (*COMPONENTS, "load"):
        parts = [figure.cpu_us.get(component, 0.0) for name in names if (figure := results.best(name))]
        axis.bar([COSTS[name] for name in names], parts, bottom=bottom, color=COLOURS[component], label=component)
        bottom = [below + part for below, part in zip(bottom, parts, strict=True)]
    axis.legend(fontsize=8, frameon=False)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title("CPU µs a booking (load generator on top)")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_growth(axis: Any, results: Results) -> None:
    made = [level.made for level in results.growth]
    axis.plot(made, [level.open_loop.cpu_sum_us for level in results.growth], "o-", color="#4477aa", label="fixed rate")
    axis.plot(
        made, [level.closed_loop.cpu_sum_us for level in results.growth], "s--", color="#cc6677", label="full rate"
    )
    if made:
        axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8, frameon=False)
    axis.set_title("CPU µs a booking, by bookings already made")
    axis.spines[["top", "right"]].set_visible(False)
