"""Numbers that Prometheus reads: counted as plain numbers where something happens, and put into its words when it asks.

A room declares nothing itself: every metric stands in `series.py`, one line each. Who counts looks its cell up once, adds to
it once for a call or a batch, and asks `REGISTRY.counts` before it works out what to add. Everything happens in the loop's
thread, so no lock is needed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

__all__ = [
    "CELLS_MAX",
    "OTHER",
    "REGISTRY",
    "Cell",
    "Counter",
    "Gauge",
    "Histogram",
    "Labels",
    "Metric",
    "Registry",
    "Spread",
    "word_of",
]

CELLS_MAX: Final = 500
"""Different label values of one metric. Whatever comes beyond is counted together, as `other`: no label grows without end."""

OTHER: Final = "other"

Labels = tuple[str, ...]


@lru_cache(500)
def word_of(kind: type) -> str:
    """A class as the value of a label: `SoldOut` is `sold_out`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class Cell:
    """One number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, count: float = 1) -> None:
        """So many more."""
        self.value += count


class Spread:
    """How numbers are spread over buckets; each bucket has what is no larger than its bound, and than no bound before it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def add(self, value: float, times: int = 1) -> None:
        """One more, or as many as were alike."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add_all(self, values: list[float]) -> None:
        """Many at once, at less than each alone. Sorts them."""
        values.sort()
        before = 0
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound, before)
            self.counts[index] += upto - before
            before = upto
        self.counts[-1] += len(values) - before
        self.total += sum(values)


class Metric(ABC):
    """One name with its help, which says the unit. `labels`: name to the values that are known beforehand; where all labels
    have some, every combination is there from the start, as 0: a rate sees the first that happens."""

    kind: str
    """As Prometheus calls it."""

    def __init__(self, name: str, help_text: str, labels: Mapping[str, Iterable[str]]) -> None:
        self.name = name
        self.help = help_text
        self.labels = tuple(labels)
        for values in product(*map(tuple, labels.values())):
            self.make(values)

    @abstractmethod
    def make(self, values: Labels) -> object:
        """What counts for these label values, new."""

    @abstractmethod
    def family(self) -> Family:
        """As Prometheus's library has it."""

    def known(self, values: Labels, made: Mapping[Labels, object]) -> Labels:
        """These label values, or `other` for all when there are too many. Raises `TypeError` when some are missing."""
        if len(values) != len(self.labels):
            raise TypeError(f"{self.name} has the labels {', '.join(self.labels) or 'none'}")
        return values if len(made) < CELLS_MAX else (OTHER,) * len(values)


class Counter(Metric):
    """What only grows."""

    kind = "counter"

    def __init__(self, name: str, help_text: str, labels: Mapping[str, Iterable[str]]) -> None:
        self.cells: dict[Labels, Cell] = {}
        super().__init__(name, help_text, labels)

    def make(self, values: Labels) -> Cell:
        """At 0."""
        return self.cells.setdefault(values, Cell())

    def cell(self, *values: str) -> Cell:
        """What counts for these label values."""
        return self.cells.get(values) or self.make(self.known(values, self.cells))

    def family(self) -> Family:
        """With all its cells."""
        family = CounterMetricFamily(self.name.removesuffix("_total"), self.help, labels=self.labels)
        for values, cell in self.cells.items():
            family.add_metric(values, cell.value)
        return family


class Histogram(Metric):
    """How something is spread: so many up to each bound."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, bounds: Sequence[float], labels: Mapping[str, Iterable[str]]) -> None:
        self.bounds = tuple(bounds)
        self.spreads: dict[Labels, Spread] = {}
        super().__init__(name, help_text, labels)

    def make(self, values: Labels) -> Spread:
        """Without anything."""
        return self.spreads.setdefault(values, Spread(self.bounds))

    def cell(self, *values: str) -> Spread:
        """What counts for these label values."""
        return self.spreads.get(values) or self.make(self.known(values, self.spreads))

    def family(self) -> Family:
        """With all its buckets, each with those before it."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, spread in self.spreads.items():
            upto, buckets = 0, []
            for bound, count in zip((*map(str, self.bounds), "+Inf"), spread.counts, strict=True):
                upto += count
                buckets.append((bound, float(upto)))
            family.add_metric(values, buckets, spread.total)
        return family


class Gauge(Metric):
    """What goes up and down, as it was seen last."""

    kind = "gauge"

    def __init__(self, name: str, help_text: str, labels: Mapping[str, Iterable[str]]) -> None:
        self.values: dict[Labels, float] = {}
        super().__init__(name, help_text, labels)

    def make(self, values: Labels) -> None:
        """Nothing: a gauge that nobody has read has no value."""

    def set(self, value: float, *values: str) -> None:
        """As it is now."""
        self.values[self.known(values, {} if values in self.values else self.values)] = value

    def show(self, found: Mapping[Labels, float]) -> None:
        """All of them as they are now: whatever is not named is gone."""
        self.values.clear()
        for values, value in found.items():
            self.set(value, *values)

    def family(self) -> Family:
        """With all its values."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, value in self.values.items():
            family.add_metric(values, value)
        return family


_M = TypeVar("_M", bound=Metric)


class Registry(Collector):
    """All metrics of one process."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.counts = True
        """Whether anything is counted: `telemetry.count`."""
        self._process = ProcessCollector(registry=None)

    def counter(self, name: str, help_text: str, **labels: Iterable[str]) -> Counter:
        """Declare one. Raises `ValueError` for a name that is taken."""
        return self._declare(Counter(name, help_text, labels))

    def gauge(self, name: str, help_text: str, **labels: Iterable[str]) -> Gauge:
        """As `counter`."""
        return self._declare(Gauge(name, help_text, labels))

    def histogram(self, name: str, help_text: str, bounds: Sequence[float], **labels: Iterable[str]) -> Histogram:
        """As `counter`. `bounds`: of the buckets, rising."""
        return self._declare(Histogram(name, help_text, bounds, labels))

    def _declare(self, metric: _M) -> _M:
        if metric.name in self.metrics:
            raise ValueError(f"{metric.name} is there already")
        self.metrics[metric.name] = metric
        return metric

    def collect(self) -> Iterator[Family]:
        """All of them, and what the system says of this process."""
        for metric in self.metrics.values():
            yield metric.family()
        yield from self._process.collect()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of them as Prometheus reads them, and the type of that text, by the request's `Accept`."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type


REGISTRY: Final = Registry()
"""This process's."""
