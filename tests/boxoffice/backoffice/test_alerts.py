"""The alert rules without Prometheus: the same names, severities and times as in `alerts.yml`, true where its are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from boxoffice.backoffice.alerts import RULES, Alert, Alerts, quantile
from boxoffice.backoffice.watched import Counters, Figures, MoneyDue, ServerFigures, ShardFigures, Spread

ROOT = Path(__file__).resolve().parents[3]
WELL = ShardFigures(0, "open", 0, 0.0, 0, 0, 0, 1)


def figures(at_s: float = 0.0, sums: dict[str, int] | None = None, **changes: Any) -> Figures:
    """All is well, but for these."""
    well = Figures(
        "", int(1_000 * at_s), Counters(0, 0, 0, 0, {}, Spread([], [])), [WELL], [], [ServerFigures(0, 1, 10, True)],
        [], 0, [], 0.0, 0, [], sums or {},
    )  # fmt: skip
    return msgspec.structs.replace(well, **changes)


def shard(**changes: Any) -> dict[str, Any]:
    return {"shards": [msgspec.structs.replace(WELL, **changes)]}


def states(alerts: list[Alert]) -> dict[str, str]:
    return {alert.name: alert.state for alert in alerts}


def test_the_rules_are_those_of_prometheus() -> None:
    """Name, severity and `for`; and each has its heading in the runbook."""
    (group,) = yaml.safe_load((ROOT / "ops/monitoring/alerts.yml").read_text())["groups"]
    seconds = {"s": 1, "m": 60}
    theirs = [
        (rule["alert"], rule["labels"]["severity"],
         int(rule["for"][:-1]) * seconds[rule["for"][-1]] if "for" in rule else 0)
        for rule in group["rules"]
    ]  # fmt: skip
    assert [(rule.name, rule.severity, rule.for_s) for rule in RULES] == theirs
    headings = re.findall(r"^### (Boxoffice\w+)$", (ROOT / "docs/operations.md").read_text(), re.M)
    assert {rule.name for rule in RULES} <= set(headings)


def test_all_is_quiet_when_all_is_well() -> None:
    alerts = Alerts()
    alerts.look(figures(0, {"http": 100}))
    found = alerts.look(figures(60, {"http": 200, "http:5xx": 2}))
    unseen = {rule.name for rule in RULES if isinstance(rule.look, str)}
    assert {alert.name for alert in found if alert.state == "unknown"} == unseen
    assert {alert.state for alert in found} == {"unknown", "quiet"}


def test_without_the_sums_nobody_knows() -> None:
    """Their Redis is away: that is no quiet, and what it has when it is back is not of these minutes."""
    alerts = Alerts()
    alerts.look(figures(0, {"http": 100, "http:5xx": 90, "http:500": 1, "lapses": 7}))
    away = states(alerts.look(figures(60)))
    assert {away[name] for name in ("BoxofficeErrors", "BoxofficeOurMistake", "BoxofficeLeasesLapse")} == {"unknown"}
    assert (away["BoxofficeSettlementSlow"], away["BoxofficeParked"]) == ("unknown", "quiet")
    back = states(alerts.look(figures(65, {"http": 110, "http:5xx": 90, "http:500": 1, "lapses": 7})))
    assert {back[name] for name in ("BoxofficeErrors", "BoxofficeOurMistake", "BoxofficeLeasesLapse")} == {"quiet"}


def test_hours_in_which_nobody_looked_are_not_counted() -> None:
    """True then and true now is not true all the time: it is pending anew."""
    alerts = Alerts()
    for at_s, state in ((0, "pending"), (20, "pending"), (40, "pending"), (60, "firing"), (4_000, "pending")):
        assert states(alerts.look(figures(at_s, **shard(parked=1))))["BoxofficeParked"] == state, at_s


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("BoxofficeNoWorker", shard(workers=0)),
        ("BoxofficeGateClosed", shard(gate="closed")),
        ("BoxofficeGateClosed", shard(gate="unchecked")),
        ("BoxofficeShardWaitsForOperator", {"alerts": ["Shard 0 waits for an operator: it went back."]}),
        ("BoxofficeStoreSilent", shard(gate="away", workers=0)),
        ("BoxofficeStoreSilent", {"sales": None}),
        ("BoxofficeBacklogOld", shard(oldest_s=10.1)),
        ("BoxofficeDrift", shard(drifted=1)),
        ("BoxofficeParked", shard(parked=2)),
        ("BoxofficeMoneyLate", {"money": [MoneyDue("void", 1, 901.0)]}),
        ("BoxofficeRefundsOwed", {"money": [MoneyDue("owed", 2, 1.0)]}),
        ("BoxofficeWebhooksLate", {"undelivered_s": 301.0}),
        ("BoxofficeWebhooksDisabled", {"disabled": 1}),
        ("BoxofficeRedisMemory", {"servers": [ServerFigures(0, 81, 100, True)]}),
        ("BoxofficeRedisDisk", {"servers": [ServerFigures(0, 1, 100, False)]}),
    ],
)
def test_a_rule_waits_as_long_as_it_says_and_then_fires(name: str, wrong: dict[str, Any]) -> None:
    """This one alone; and it is quiet again as soon as all is well."""
    rule = next(rule for rule in RULES if rule.name == name)
    alerts = Alerts()
    assert states(alerts.look(figures(0)))[name] == "quiet"
    first = alerts.look(figures(1, **wrong))
    assert states(first)[name] == ("pending" if rule.for_s else "firing")
    for at_s in range(16, 1 + rule.for_s, 15):  # somebody goes on looking
        alerts.look(figures(at_s, **wrong))
    found = alerts.look(figures(1 + rule.for_s, **wrong))
    assert [alert.name for alert in found if alert.state == "firing"] == [name]
    assert found[0].since_ms == 1_000 and found[0].summary
    assert states(alerts.look(figures(2 + rule.for_s)))[name] == "quiet"
    if rule.for_s:
        assert states(alerts.look(figures(3 + rule.for_s, **wrong)))[name] == "pending", "it begins anew"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("BoxofficeErrors", {"http": 100, "http:5xx": 90}, {"http": 200, "http:5xx": 96}),
        ("BoxofficeOurMistake", {"http:500": 1}, {"http:500": 2}),
        ("BoxofficeLeasesLapse", {"lapses": 1}, {"lapses": 2}),
        ("BoxofficeGatewayUnsure", {"gateway": 10}, {"gateway": 20, "gateway:unsure": 2}),
        ("BoxofficeSettlementSlow", {"accept_to_commit:1": 500}, {"accept_to_commit:1": 590, "accept_to_commit:11": 2}),
        ("BoxofficeAdmissionSlow", {"admission:1": 5}, {"admission:1": 95, "admission:10": 3}),
        ("BoxofficeSlowClients", {"connections": 5}, {"connections": 15, "refused:unread": 3}),
    ],
)  # fmt: skip
def test_a_rate_is_of_what_came_in_the_meantime(name: str, before: dict[str, int], after: dict[str, int]) -> None:
    """Nobody knows at the first look; what was before it does not count."""
    alerts = Alerts()
    assert states(alerts.look(figures(0, before)))[name] == "unknown"
    assert states(alerts.look(figures(10, before)))[name] == "unknown"
    assert states(alerts.look(figures(30, before)))[name] == "quiet"
    assert states(alerts.look(figures(60, after)))[name] in ("pending", "firing")
    assert states(alerts.look(figures(60 + 700, after)))[name] == "unknown", "nobody has looked for so long"


def test_an_emptied_redis_makes_no_rate() -> None:
    alerts = Alerts()
    alerts.look(figures(0, {"http": 1_000, "http:5xx": 900}))
    assert states(alerts.look(figures(60, {"http": 100, "http:5xx": 1})))["BoxofficeErrors"] == "quiet"


def test_a_store_that_is_away_says_nothing() -> None:
    found = states(Alerts().look(figures(0, money=None, alerts=None, undelivered_s=None, disabled=None)))
    for name in ("MoneyLate", "RefundsOwed", "ShardWaitsForOperator", "WebhooksLate", "WebhooksDisabled"):
        assert found[f"Boxoffice{name}"] == "unknown"


def test_a_quantile_is_guessed_as_prometheus_does() -> None:
    bounds = (1.0, 2.0, 4.0)
    assert quantile(bounds, [0, 0, 0, 0], 0.5) is None
    assert quantile(bounds, [10, 0, 0, 0], 0.5) == 0.5
    assert quantile(bounds, [0, 0, 10, 0], 0.5) == 3.0
    assert quantile(bounds, [1, 0, 0, 9], 0.99) == 4.0
