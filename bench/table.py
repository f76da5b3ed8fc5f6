"""Results as people read them: one table, the ratios, and how far the targets are.

One file because it is one table: rows, ratios and the sentences under them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.figures import COMPONENTS, Figure, Growth, Results

__all__ = ["LINES", "Target", "markdown", "targets"]

LINES: Final = {
    "noop": "(a) no-op ceiling of the same server",
    "script": "(b) admit.lua alone, same Redis",
    "commit": "(c) batch commit alone, same PostgreSQL",
    "admission": "(d) admission through HTTP, worker stopped",
    "hot": "(e) end to end, one hot tier",
    "forty": "(e) end to end, forty tiers of one event",
    "half": "(e) end to end, half rate, open loop",
    "baseline": "(f) by hand: FastAPI, `SELECT … FOR UPDATE`",
    "refusals": "sold out: refusals",
    "poll": "status polling, booked seconds ago",
    "poll_old": "status polling, booked over 30 s ago",
    "availability": "availability of an event with one tier",
}
"""Lines of the table, in order."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure with what it must be and what we aim at."""

    title: str
    value: float | None
    must: float
    aim: float
    unit: str
    more_is_better: bool = True

    def met(self, limit: float) -> bool:
        """Whether the figure is on the right side of a limit."""
        if self.value is None:
            return False
        return self.value >= limit if self.more_is_better else self.value <= limit

    @property
    def grade(self) -> str:
        """How it went, in a word or two."""
        if self.value is None:
            return "not measured"
        if self.met(self.aim):
            return "aim met"
        return "must met" if self.met(self.must) else "**missed**"


def targets(results: Results) -> list[Target]:
    """Every target, with the best of all rounds."""
    found: list[Target] = []

    def add(title: str, value: float | None, must: float, aim: float, unit: str, *, more: bool = True) -> None:
        found.append(Target(title, value, must, aim, unit, more))

    admission, hot, half = results.best("admission"), results.best("hot"), results.best("half")
    add("admission through HTTP", admission.rate if admission else None, 12_000, 18_000, "/s")
    add("admission to no-op", results.best_of_noop("admission"), 0.3, 0.4, "")
    add("end to end, one hot tier", hot.rate if hot else None, 6_000, 10_000, "/s")
    add("end to end to no-op", results.best_of_noop("hot"), 0.14, 0.25, "")
    add("end to end to baseline", results.best_ratio("hot", "baseline"), 12, 20, "times")
    add("CPU a booking, full load", hot.cpu_sum_us if hot else None, 260, 160, "µs", more=False)
    add("CPU a booking, half rate", half.cpu_sum_us if half else None, 330, 200, "µs", more=False)
    add("half rate: p99 of POST", half.p99_ms if half else None, 15, 8, "ms", more=False)
    add("half rate: p99 of POST to committed", half.post_commit_p99_ms if half else None, 100, 40, "ms", more=False)
    add("full rate: p99 of POST", hot.p99_ms if hot else None, 50, 30, "ms", more=False)
    add("full rate: p99 of admitted to committed", hot.commit_p99_ms if hot else None, 250, 100, "ms", more=False)
    add("one hot tier and forty: the slower to the faster", _evenness(results), 0.8, 0.9, "")
    add("refusals to admissions", results.best_ratio("refusals", "admission"), 1.5, 2.5, "times")
    if growth := _growth(results):
        add(
            f"CPU at {growth[1].made:,} bookings to {growth[0].made:,}",
            _dearer(*growth),
            1.15,
            1.05,
            "times",
            more=False,
        )
    memory = next((each.memory for each in results.rounds if each.memory), None)
    add("Redis memory, pending", memory.pending if memory else None, 1_000, 700, "bytes", more=False)
    add("Redis memory, settled", memory.settled if memory else None, 550, 450, "bytes", more=False)
    return found


def _evenness(results: Results) -> float | None:
    return max((min(ratio, 1 / ratio) for ratio in results.ratios("forty", "hot") if ratio), default=None)


def _growth(results: Results) -> tuple[Growth, Growth] | None:
    return (results.growth[0], results.growth[-1]) if len(results.growth) > 1 else None


def _dearer(least: Growth, most: Growth) -> float:
    return median(most.dearer) if most.dearer else most.open_loop.cpu_sum_us / least.open_loop.cpu_sum_us


def markdown(results: Results) -> str:
    """The whole page."""
    return "\n".join(_page(results)) + "\n"


def _page(results: Results) -> Iterator[str]:
    yield "# Results"
    yield ""
    yield "Made by `make bench`; `bench/README.md` says how, and how to read it."
    yield ""
    for name, value in {**results.machine, **results.settings}.items():
        yield f"- {name}: {value}"
    yield f"- began {results.began}, took {results.took_s / 60:.1f} minutes; {_audited(results)}"
    if audits := _audits_took(results):
        yield f"- of that, audits of every booking: {audits} s"
    if results.quick:
        yield "- **quick run**: too short for figures to mean anything"
    yield ""
    yield from _table(results)
    yield ""
    yield from _ratios(results)
    yield ""
    yield "## Targets"
    yield ""
    yield "| figure | must | aim | here | |"
    yield "|---|---|---|---|---|"
    for target in targets(results):
        sign = "≥" if target.more_is_better else "≤"
        here = "-" if target.value is None else _number(target.value)
        yield (
            f"| {target.title} | {sign} {_number(target.must)} {target.unit} | {_number(target.aim)} "
            f"| {here} | {target.grade} |"
        )
    yield from _growth_table(results)
    yield from _everything_table(results)
    yield from _memory_table(results)
    yield from _rounds_table(results)


def _audited(results: Results) -> str:
    audits = {f"round {n}": each.audit for n, each in enumerate(results.rounds, 1)}
    if results.growth_audit:
        audits["growth"] = results.growth_audit
    broken = [
        f"{where}: {', '.join(name for name, word in audit.items() if word != 'held')}"
        for where, audit in audits.items()
        if any(word != "held" for word in audit.values())
    ]
    if broken:
        return f"**audit BROKEN in {'; '.join(broken)}**"
    return f"{len(audits)} audits, all invariants held"


def _audits_took(results: Results) -> str:
    stages = [each.took_s for each in results.rounds] + [results.growth_took_s]
    return ", ".join(f"{took['audit']:.0f}" for took in stages if "audit" in took)


def _table(results: Results) -> Iterator[str]:
    yield "Best of all rounds. Latency in ms; CPU in µs per booking or request."
    yield ""
    components = (*COMPONENTS, "load")
    yield (
        "| | rate /s | p50 | p99 | to commit p50 | p99 | API | Redis | worker | PostgreSQL | sum | load generator "
        "| no-op beside it /s |"
    )
    yield "|---|" + 12 * "--:|"
    for name, title in LINES.items():
        figure = results.best(name)
        if figure is None:
            continue
        if figure.clients:
            title += f", {figure.clients} clients"
        cpu = [_cpu(figure.cpu_us.get(component)) for component in components[:4]]
        cells = [
            title, f"{figure.rate:,.0f}", _ms(figure.p50_ms), _ms(figure.p99_ms), _ms(_to_commit(figure, 50)),
            _ms(_to_commit(figure, 99)), *cpu, _cpu(figure.cpu_sum_us), _cpu(figure.cpu_us.get("load")),
            f"{figure.noop_rate:,.0f}" if figure.noop_rate else "",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "p50 and p99 are of the request; of a script call in (b), of a transaction in (c). To commit: from admission "
        "(Redis's clock) to the commit record, in the open loop from the time the request was due. The no-op beside "
        "(d) and one hot tier is the mean of right before and right after."
    )
    hot = results.best("hot")
    if hot is not None and hot.backlog_grows is not None:
        yield ""
        yield (
            f"(e) one hot tier: at most {hot.backlog_max:,} waited, {hot.backlog_end:,} at the last request, "
            f"settled and captured {hot.tail_s:.2f} s later; the backlog {'**grew**' if hot.backlog_grows else 'did not grow'}."
        )
    strange = {name: figure.strange for name in LINES if (figure := results.best(name)) and figure.strange}
    if strange:
        yield ""
        yield f"Answers that nobody wanted, not counted: {strange}."


def _to_commit(figure: Figure, share: int) -> float | None:
    if share == 50:
        return figure.post_commit_p50_ms or figure.commit_p50_ms
    return figure.post_commit_p99_ms or figure.commit_p99_ms


def _ratios(results: Results) -> Iterator[str]:
    yield "| ratio, within a round, neighbours where it matters | best |"
    yield "|---|--:|"
    for title, ratio in (
        ("d/a admission to no-op", results.best_of_noop("admission")),
        ("e/a end to end to no-op", results.best_of_noop("hot")),
        ("e/b end to end to the script alone", results.best_ratio("hot", "script")),
        ("e/c end to end to the commit alone", results.best_ratio("hot", "commit")),
        ("e/f end to end to the baseline", results.best_ratio("hot", "baseline")),
        ("forty tiers to one", results.best_ratio("forty", "hot")),
        ("refusals to admissions", results.best_ratio("refusals", "admission")),
    ):
        if ratio is not None:
            yield f"| {title} | {ratio:.2f} |"


def _everything_table(results: Results) -> Iterator[str]:
    if not results.everything:
        return
    yield ""
    yield "## Everything on"
    yield ""
    yield "| CPU a booking, alternating slices of this checkout with and without | median of neighbours | lowest to highest |"
    yield "|---|--:|--:|"
    for each in results.everything.values():
        yield f"| {each.title} | {each.cpu:.3f} | {each.lowest:.2f} to {each.highest:.2f}, {each.pairs} pairs |"


def _growth_table(results: Results) -> Iterator[str]:
    if not results.growth:
        return
    yield ""
    yield "## As it grows"
    yield ""
    yield (
        "| bookings already made | fixed rate /s | CPU µs | p99 POST | p99 to commit | full rate /s | CPU µs "
        "| Redis MB | PostgreSQL MB |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for level in results.growth:
        fixed, full = level.open_loop, level.closed_loop
        yield (
            f"| {level.made:,} | {fixed.offered_rate or 0:,.0f} | {fixed.cpu_sum_us:.0f} | {_ms(fixed.p99_ms)} "
            f"| {_ms(fixed.post_commit_p99_ms)} | {full.rate:,.0f} | {full.cpu_sum_us:.0f} "
            f"| {level.redis_mb:,.0f} | {level.postgres_mb:,.0f} |"
        )


def _memory_table(results: Results) -> Iterator[str]:
    memory = next((each.memory for each in results.rounds if each.memory), None)
    if memory is None:
        return
    yield ""
    yield "## Redis memory"
    yield ""
    yield (
        f"Over {memory.bookings:,} bookings, each of a new customer: **{memory.pending:.0f} bytes pending, "
        f"{memory.settled:.0f} settled**, with everything that a booking adds. Key by key (`MEMORY USAGE`):"
    )
    yield ""
    yield "| | bytes |"
    yield "|---|--:|"
    for name, size in memory.parts.items():
        yield f"| {name} | {size:.0f} |"


def _rounds_table(results: Results) -> Iterator[str]:
    yield ""
    yield "## Every round"
    yield ""
    yield "| | " + " | ".join(f"round {n} | no-op" for n in range(1, len(results.rounds) + 1)) + " |"
    yield "|---|" + 2 * len(results.rounds) * "--:|"
    for name, title in LINES.items():
        cells = []
        for each in results.rounds:
            figure = each.figures.get(name)
            cells += (
                [f"{figure.rate:,.0f}", f"{figure.noop_rate:,.0f}" if figure.noop_rate else ""] if figure else ["", ""]
            )
        if any(cells):
            yield f"| {title} | {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    if not value:
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _cpu(value: float | None) -> str:
    return f"{value:.0f}" if value else ""


def _number(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")
