"""What is measured, as values: one figure for each line of the table."""

from __future__ import annotations

import msgspec

__all__ = ["COMPONENTS", "Dearer", "Figure", "Growth", "Memory", "Results", "Round", "between"]

COMPONENTS = ("api", "redis", "worker", "postgres")
"""Whose CPU a booking costs. The load generator's is told apart."""


class Figure(msgspec.Struct, kw_only=True):
    """One measurement."""

    name: str
    rate: float
    """Bookings, or requests, a second."""
    count: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    commit_p50_ms: float | None = None
    """From admission (Redis's clock) to the commit (PostgreSQL's)."""
    commit_p99_ms: float | None = None
    post_commit_p50_ms: float | None = None
    """Open loop: from the time the request was due to the commit."""
    post_commit_p99_ms: float | None = None
    cpu_us: dict[str, float] = {}
    """CPU microseconds per booking or request, by component; `load` is the generator."""
    busy: float = 0.0
    """Share of the machine's CPU that was busy, whoever used it."""
    noop_rate: float = 0.0
    """The no-op ceiling measured next to it; of admission and one hot tier the mean of right before and right after."""
    ratios: dict[str, float] = {}
    """To other lines, where one was measured between two slices of the other. The machine is not the same for a minute:
    what was measured apart is not compared."""
    generator: str = ""
    backlog_max: int | None = None
    backlog_end: int | None = None
    backlog_grows: bool | None = None
    tail_s: float | None = None
    """From the last request until everything was settled and captured."""
    offered_rate: float | None = None
    clients: int | None = None
    strange: dict[str, int] = {}
    """Answers that were not wanted, by status; nobody asked for them, and they are not in the rate."""

    @property
    def cpu_sum_us(self) -> float:
        """CPU per booking of all components but the load generator."""
        return sum(us for name, us in self.cpu_us.items() if name != "load")


def between(before: Figure, figure: Figure, after: Figure) -> float:
    """Ratio of a rate to the mean of the rates right before and right after."""
    return 2 * figure.rate / (before.rate + after.rate)


class Memory(msgspec.Struct, kw_only=True):
    """Bytes of Redis's memory per booking."""

    bookings: int
    pending: float
    settled: float
    parts: dict[str, float]


class Growth(msgspec.Struct, kw_only=True):
    """The same load with so many bookings already made."""

    made: int
    open_loop: Figure
    closed_loop: Figure
    redis_mb: float
    postgres_mb: float
    dearer: list[float] = []
    """CPU a booking to that on a stack with the fewest, in slices side by side; of the most bookings only."""


class Dearer(msgspec.Struct, kw_only=True):
    """CPU a booking with something on to that with it off, of neighbouring slices."""

    title: str
    cpu: float
    """The median of so many pairs."""
    lowest: float
    highest: float
    pairs: int


class Round(msgspec.Struct, kw_only=True):
    """Everything once, on a fresh stack."""

    figures: dict[str, Figure]
    audit: dict[str, str]
    seconds: float
    took_s: dict[str, float] = {}
    """What each part took, with its preparations."""
    memory: Memory | None = None


class Results(msgspec.Struct, kw_only=True):
    """One run of the suite."""

    began: str
    took_s: float
    quick: bool
    machine: dict[str, str]
    settings: dict[str, str]
    rounds: list[Round]
    growth: list[Growth]
    growth_audit: dict[str, str]
    growth_took_s: dict[str, float] = {}
    everything: dict[str, Dearer] = {}
    """What telemetry and limits cost a booking: see `bench.everything`."""

    def best(self, name: str) -> Figure | None:
        """The best of all rounds: the highest rate; at a fixed rate, the least CPU."""
        found = [each.figures[name] for each in self.rounds if name in each.figures]
        if not found:
            return None
        if name == "half":
            return min(found, key=lambda figure: figure.cpu_sum_us)
        return max(found, key=lambda figure: figure.rate)

    def ratios(self, name: str, by: str) -> list[float]:
        """Of one line to another in each round: of neighbouring slices where there are some."""
        found = []
        for each in self.rounds:
            one, other = each.figures.get(name), each.figures.get(by)
            if one and by in one.ratios:
                found.append(one.ratios[by])
            elif one and other and other.rate:
                found.append(one.rate / other.rate)
        return found

    def best_ratio(self, name: str, by: str) -> float | None:
        """The best of them."""
        return max(self.ratios(name, by), default=None)

    def best_of_noop(self, name: str) -> float | None:
        """The best ratio of a figure to the no-op rate measured beside it."""
        found = [each.figures[name] for each in self.rounds if name in each.figures]
        return max((figure.rate / figure.noop_rate for figure in found if figure.noop_rate), default=None)

    @property
    def sound(self) -> bool:
        """Whether every audit held."""
        audits = [each.audit for each in self.rounds] + [self.growth_audit]
        return all(word == "held" for audit in audits for word in audit.values())
