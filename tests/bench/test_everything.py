"""What telemetry and limits cost, on the same checkout."""

from __future__ import annotations

import io
import urllib.request
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bench import against, collector, everything
from bench.collector import Watchers, watching
from bench.everything import COMPARISONS
from bench.figures import Dearer, Results
from bench.saved import load, save
from boxoffice.settings import Settings, load_settings
from tests.bench.test_table import results
from tests.support.waiting import true_soon


def on(settings: Settings) -> tuple[bool, bool, float]:
    """Counting, limits, and the share of requests that is traced."""
    rates, declines = settings.rates.model_dump(exclude={"window_s"}), settings.declines
    limits = [*rates.values(), declines.customer_max, declines.least]
    assert all(limits) or not any(limits), "all of them or none"
    telemetry = settings.telemetry
    return telemetry.count, bool(limits[0]), (telemetry.otel_ratio or 0.0) if telemetry.otel else 0.0


@pytest.mark.parametrize(
    ("name", "with_it", "without"),
    [
        ("watched", (True, True, 0.0), (False, False, 0.0)),
        ("traces", (True, True, 0.01), (True, True, 0.0)),
        ("everything", (True, True, 0.01), (False, False, 0.0)),
    ],
)
def test_the_sides_differ_in_what_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, with_it: tuple[bool, bool, float], without: tuple[bool, bool, float]
) -> None:
    assert set(COMPARISONS) == {"watched", "traces", "everything"}
    for settings, expected in ((COMPARISONS[name].with_it, with_it), (COMPARISONS[name].without, without)):
        with monkeypatch.context() as patch:
            for variable, value in settings.items():
                patch.setenv(variable, value)
            assert on(load_settings()) == expected


class Side:
    """Answers as `bench.slices` does, and is watched or not."""

    made: list[Side]

    def __init__(self, name: str, _checkout: Path, settings: dict[str, str]) -> None:
        self.name, self.settings = name, settings
        Side.made.append(self)

    def slice(self, seconds: float, rate: float) -> dict[str, Any]:
        cpu_us = dict.fromkeys(against.COMPONENTS, 25.0)
        if self.name == "with":
            cpu_us["worker"] += 5.0
        return {"rate": 100.0, "cpu_us": cpu_us, "p99_ms": 1.0}

    def audit(self) -> dict[str, list[str]]:
        return {}


def compare(monkeypatch: pytest.MonkeyPatch, name: str, *, bodies: int, scrapes: int, pairs: int = 1) -> Dearer:
    watchers = Watchers()
    watchers.bodies, watchers.scrapes = bodies, scrapes
    monkeypatch.setattr(everything, "watching", lambda _: nullcontext(watchers))
    monkeypatch.setattr(everything, "Side", Side)
    Side.made = []
    return everything.measure(name, pairs, 0.1, 0)


@pytest.mark.parametrize(("name", "watched"), [("watched", [True, False]), ("traces", [True, True])])
def test_a_comparison(monkeypatch: pytest.MonkeyPatch, name: str, watched: list[bool]) -> None:
    """Six slices of each side; who is watched has two ports of its own."""
    found = compare(monkeypatch, name, bodies=1, scrapes=1, pairs=6)
    assert (found.pairs, found.cpu, found.lowest, found.highest) == (6, 1.05, 1.05, 1.05)
    ports = [
        (side.settings["BOXOFFICE_TELEMETRY__API_PORT"], side.settings["BOXOFFICE_TELEMETRY__WORKER_PORT"])
        for side in Side.made
    ]
    assert [port != ("0", "0") for port in ports] == watched and len({*ports}) == 2


@pytest.mark.parametrize(("name", "bodies", "scrapes"), [("everything", 0, 1), ("everything", 1, 0), ("watched", 0, 0)])
def test_what_was_not_on_is_not_measured(monkeypatch: pytest.MonkeyPatch, name: str, bodies: int, scrapes: int) -> None:
    with pytest.raises(SystemExit, match="not on"):
        compare(monkeypatch, name, bodies=bodies, scrapes=scrapes)
    compare(monkeypatch, "watched", bodies=0, scrapes=1)


def test_its_lines_stand_beside_the_others(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    dearer = Dearer(title="everything on", cpu=1.034, lowest=1, highest=1.06, pairs=6)
    found: Results = results(everything={"everything": dearer})
    page = save(found, tmp_path)
    assert "| everything on | 1.034 | 1.00 to 1.06, 6 pairs |" in page == (tmp_path / "results.md").read_text()
    assert load(tmp_path) == found
    assert "Everything on" not in save(results(), tmp_path)


def test_spans_are_taken() -> None:
    with watching([]) as watchers:
        urllib.request.urlopen(urllib.request.Request(watchers.endpoint + "/v1/traces", data=b"spans")).close()
        assert (watchers.bodies, watchers.scrapes) == (1, 0)


async def test_metrics_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of the ports does not answer yet."""
    monkeypatch.setattr(collector, "SCRAPE_S", 0.01)
    asked: list[str] = []

    def answer(url: str, **_: object) -> io.BytesIO:
        asked.append(url)
        if ":1/" in url:
            raise OSError
        return io.BytesIO()

    monkeypatch.setattr(collector.urllib.request, "urlopen", answer)
    with watching([1, 2]) as watchers:
        await true_soon(lambda: watchers.scrapes)
    assert asked[:2] == ["http://127.0.0.1:1/metrics", "http://127.0.0.1:2/metrics"]
