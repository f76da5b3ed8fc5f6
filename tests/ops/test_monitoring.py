"""The dashboard and the alert rules ask for what there is, and somebody who is woken finds what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxoffice.telemetry.metrics import Counter, Histogram, Metric
from boxoffice.telemetry.series import REGISTRY

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops" / "monitoring"

RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule for rule in RULES}
TRIED: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]

OTHERS = {"up", "ALERTS"}
"""Of Prometheus itself. `process_…` is of its library, and tests/boxoffice/telemetry/test_metrics.py sees that it is there."""

WORDS = {
    "by", "on", "sum", "max", "min", "rate", "increase", "count", "histogram_quantile", "vector", "or", "le", "instance", "job",
    "absent",
}  # fmt: skip

OF_PROMETHEUS = {"le", "instance", "job", "alertname", "alertstate", "severity"}
"""Labels that it adds."""


def queries() -> Iterator[tuple[str, str]]:
    """Where each stands, and what it asks."""
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def metric_of(name: str) -> Metric | None:
    """A series' metric: of a histogram there are three, by their endings."""
    if (found := REGISTRY.metrics.get(name)) is not None:
        return None if isinstance(found, Histogram) else found
    found = REGISTRY.metrics.get(re.sub(r"_(bucket|count|sum)$", "", name))
    return found if isinstance(found, Histogram) else None


def named(query: str) -> set[str]:
    """Every series in a query."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(?:by|on) \([^)]*\)", "", query)
    return set(re.findall(r"\b[a-zA-Z_][a-zA-Z0-9_:]*\b(?![\d.])", bare)) - WORDS - {"e9"}


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_query_asks_for_what_there_is(where: str, query: str) -> None:
    """Metrics, their labels, and the values that are known beforehand."""
    assert named(query)
    for name in named(query) - OTHERS:
        if name.startswith("process_"):
            continue
        assert metric_of(name), f"{where} asks for {name}"
    metrics = [metric for name in named(query) if (metric := metric_of(name))]
    labels = {label for metric in metrics for label in metric.labels} | OF_PROMETHEUS
    grouped = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    assert grouped <= labels, where
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        metric = metric_of(name)
        for label, operator, value in re.findall(r"(\w+)\s*(=~|!=|!~|=)\s*\"([^\"]*)\"", matchers):
            assert metric is None or label in (*metric.labels, *OF_PROMETHEUS), f"{where}: {name} has no {label}"
            if metric is not None and isinstance(metric, Counter | Histogram) and label in ("reason", "source"):
                known = {labels[metric.labels.index(label)] for labels in cells_of(metric)}
                assert set(value.split("|") if operator == "=~" else [value]) <= known, where


def cells_of(metric: Counter | Histogram) -> list[tuple[str, ...]]:
    return list(metric.cells if isinstance(metric, Counter) else metric.spreads)


def test_only_what_grows_is_asked_for_its_rate() -> None:
    for where, query in queries():
        for name in re.findall(r"(?:rate|increase)\((\w+)", query):
            assert name.endswith(("_total", "_bucket", "_count", "_sum")), where


def test_every_metric_is_looked_at_somewhere() -> None:
    """One that nobody looks at costs, and helps nobody."""
    asked = {metric.name for _, query in queries() for name in named(query) if (metric := metric_of(name))}
    assert set(REGISTRY.metrics) - asked == set()


# ---------------------------------------------------------------------- alerts


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"Boxoffice[A-Z]\w+", name)
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    alerts = (ROOT / "docs" / "operations.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    (paragraph,) = re.findall(rf"^### {name}\n(.*?)(?=^### |\Z)", alerts, re.M | re.S)
    for word in ("*Means:*", "*Do:*", "*Tried:*"):
        assert word in paragraph
    assert "::test_" in paragraph.partition("*Tried:*")[2]


def test_no_paragraph_is_about_an_alert_that_is_gone() -> None:
    alerts = (ROOT / "docs" / "operations.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", alerts, re.M)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tried_quiet_and_firing(name: str) -> None:
    tries = [each for test in TRIED for each in test["alert_rule_test"] if each["alertname"] == name]
    assert {bool(each["exp_alerts"]) for each in tries} == {True, False}


@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"], ["check", "config", "prometheus.yml"]],
    ids=" ".join,
)
def test_promtool_finds_nothing(arguments: list[str]) -> None:
    """Debian has it in the package `prometheus`."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    ended = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_promtool_finds_nothing_in_what_is_told() -> None:
    """Names, kinds, units, and the text itself."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    told, _ = REGISTRY.exposition("")
    ended = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


# ---------------------------------------------------------------------- the dashboard


def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """Written as rules, with an interval where Grafana puts one."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    asked = [query.replace("$__rate_interval", "1m") for where, query in queries() if where not in ALERTS]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ended = subprocess.run(
        [promtool, "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(rules) > 30


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [(x, y) for place in places for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]  # fmt: skip
    assert len(cells) == len(set(cells)), "no panel covers another"
    assert max(x for x, _ in cells) < 24
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
            assert panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
