"""Plain numbers, and how Prometheus reads them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as families

from boxoffice.errors import SoldOut
from boxoffice.telemetry import metrics
from boxoffice.telemetry.metrics import Registry, Spread, word_of
from boxoffice.telemetry.series import REGISTRY


@pytest.fixture
def registry() -> Registry:
    return Registry()


def told(registry: Registry, accept: str = "") -> list[str]:
    """The lines, without those of the process itself."""
    body, _ = registry.exposition(accept)
    return [line for line in body.decode().splitlines() if "process_" not in line]


def test_a_counter_is_there_before_anything_happens(registry: Registry) -> None:
    """As 0, for every value that is known: a rate sees the first one."""
    counter = registry.counter("boxoffice_x_total", "Things.", kind=("a", "b"))
    counter.cell("b").add()
    counter.cell("b").add(2)
    assert told(registry) == [
        "# HELP boxoffice_x_total Things.",
        "# TYPE boxoffice_x_total counter",
        'boxoffice_x_total{kind="a"} 0.0',
        'boxoffice_x_total{kind="b"} 3.0',
    ]


def test_a_histogram_has_in_each_bucket_those_before_it(registry: Registry) -> None:
    spread = registry.histogram("boxoffice_x_seconds", "Seconds.", (0.5, 1)).cell()
    for value in (0.25, 0.5, 0.75, 1, 4):
        spread.add(value)
    assert told(registry) == [
        "# HELP boxoffice_x_seconds Seconds.",
        "# TYPE boxoffice_x_seconds histogram",
        'boxoffice_x_seconds_bucket{le="0.5"} 2.0',
        'boxoffice_x_seconds_bucket{le="1"} 4.0',
        'boxoffice_x_seconds_bucket{le="+Inf"} 5.0',
        "boxoffice_x_seconds_count 5.0",
        "boxoffice_x_seconds_sum 6.5",
    ]


def test_a_gauge_is_there_once_it_was_read_and_goes_when_it_is_not_named(registry: Registry) -> None:
    gauge = registry.gauge("boxoffice_x", "Things.", event=())
    assert told(registry)[2:] == []
    gauge.set(1, "one")
    gauge.set(2, "one")
    assert told(registry)[2:] == ['boxoffice_x{event="one"} 2.0']
    gauge.show({("two",): 3, ("three",): 4})
    assert told(registry)[2:] == ['boxoffice_x{event="two"} 3.0', 'boxoffice_x{event="three"} 4.0']


@given(st.lists(st.integers(0, 12)))
def test_many_at_once_count_as_each_alone(values: list[int]) -> None:
    """Those that are just as large as a bound among them."""
    alone, together, alike = Spread((1, 2, 5, 10)), Spread((1, 2, 5, 10)), Spread((1, 2, 5, 10))
    for value in values:
        alone.add(value)
    together.add_all([float(value) for value in values])
    assert (together.counts, together.total) == (alone.counts, alone.total)
    for value, times in Counter(values).items():
        alike.add(value, times)
    assert (alike.counts, alike.total) == (alone.counts, alone.total)
    assert sum(together.counts) == len(values)


def test_no_label_grows_without_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CELLS_MAX", 2)
    counter = registry.counter("boxoffice_x_total", "Things.", of=(), kind=())
    gauge = registry.gauge("boxoffice_y", "Things.", of=())
    spread = registry.histogram("boxoffice_z", "Things.", (1,), of=())
    for name in ("a", "b", "c", "d", "a"):
        counter.cell(name, "k").add()
        gauge.set(1, name)
        spread.cell(name).add(1)
    assert {values: cell.value for values, cell in counter.cells.items()} == {
        ("a", "k"): 2, ("b", "k"): 1, ("other", "other"): 2,
    }  # fmt: skip
    assert set(gauge.values) == {("a",), ("b",), ("other",)}
    assert {values: sum(each.counts) for values, each in spread.spreads.items()} == {
        ("a",): 2,
        ("b",): 1,
        ("other",): 2,
    }


def test_a_label_that_is_left_out_is_a_mistake_of_ours(registry: Registry) -> None:
    counter = registry.counter("boxoffice_x_total", "Things.", of=())
    with pytest.raises(TypeError, match="boxoffice_x_total has the labels of"):
        counter.cell()


def test_a_name_is_taken_once(registry: Registry) -> None:
    registry.counter("boxoffice_x_total", "Things.")
    with pytest.raises(ValueError, match="boxoffice_x_total is there already"):
        registry.gauge("boxoffice_x_total", "Things.")


def test_open_metrics_is_spoken_to_who_asks_for_it(registry: Registry) -> None:
    registry.counter("boxoffice_x_total", "Things.").cell().add()
    body, kind = registry.exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n") and b"boxoffice_x_total 1.0" in body
    assert registry.exposition("")[1].startswith("text/plain")


def test_the_system_says_of_the_process_what_it_uses() -> None:
    body, _ = REGISTRY.exposition("")
    found = {family.name for family in families(body.decode())}
    assert {"process_cpu_seconds", "process_open_fds", "process_resident_memory_bytes"} <= found


def test_a_class_is_a_word() -> None:
    assert word_of(SoldOut) == "sold_out"


# ---------------------------------------------------------------------- series.py


@pytest.mark.parametrize("name", REGISTRY.metrics)
def test_a_metric_is_named_and_explained_as_prometheus_has_it(name: str) -> None:
    metric = REGISTRY.metrics[name]
    assert re.fullmatch(r"boxoffice(_[a-z]+)+", name)
    assert name.endswith("_total") == (metric.kind == "counter")
    assert metric.help[0].isupper() or metric.help[0] == "1"
    assert metric.help.endswith(".")
    for unit, word in (("_seconds", "Seconds"), ("_bytes", "ytes")):
        assert (unit in name) <= (word in metric.help), f"the help of {name} says its unit"
    assert not set(metric.labels) & {"le", "instance", "job", "booking", "customer", "client"}
