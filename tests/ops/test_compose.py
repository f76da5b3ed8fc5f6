"""docker-compose.yml agrees with the settings, the commands and the durability we promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.server import GRACE_S
from boxoffice.secret_files import SECRET_FILES
from boxoffice.settings import Settings
from ops.cli import app
from tests.support.chart import names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed["services"]


OTLP = ("OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_")


def opentelemetry() -> set[str]:
    """OpenTelemetry's own variables of which docs/tracing.md says what becomes of them: `…_HEADERS` is short for the exporter's
    two names."""
    named: set[str] = set()
    for cell in re.findall(r"^\| (`(?:OTEL_|…).*?`) \|", (ROOT / "docs" / "tracing.md").read_text(), re.M):
        for name in re.findall(r"`(\S+?)`", cell):
            named |= {prefix + name.removeprefix("…_") for prefix in OTLP} if name.startswith("…_") else {name}
    return named


def flags(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_every_setting_is_passed_on(services: dict[str, Any]) -> None:
    """All of them, and nothing else but what tracing is told: one that is not named here would be dropped silently. The stores'
    URLs are compose's own; of the other secrets the files are passed on, too."""
    files = {name for name in SECRET_FILES if name.startswith("BOXOFFICE_GATEWAY__")}
    assert len(files) == 3
    for service in ("migrate", "api", "worker"):
        assert set(services[service]["environment"]) == names(Settings) | opentelemetry() | files


def test_the_page_names_what_the_product_itself_asks_for() -> None:
    """Otherwise nobody would know of it, and no container be told."""
    texts = [path.read_text() for path in sorted((ROOT / "boxoffice").rglob("*.py"))]
    read = {name for text in texts for name in re.findall(r'"(OTEL_[A-Z_]*[A-Z])"', text)}
    assert "OTEL_SDK_DISABLED" in read and read <= opentelemetry()
    assert {prefix + name for prefix in OTLP for name in ("ENDPOINT", "HEADERS", "CERTIFICATE")} <= opentelemetry()


def test_no_password_has_a_default() -> None:
    """What stands in a public file protects nothing: who starts it has to choose."""
    said = re.findall(r"\$\{(\w*PASSWORD)(.*?)\}", (ROOT / "docker-compose.yml").read_text())
    assert {name for name, _ in said} == {"REDIS_PASSWORD", "POSTGRES_PASSWORD"}
    assert {how for _, how in said} == {":?choose one in .env"}


def test_settings_have_the_default_of_the_code(services: dict[str, Any]) -> None:
    """A name without a value is taken from who starts it, and left out where it is not set."""
    own = {name for name, value in services["api"]["environment"].items() if value is not None}
    watched = {f"BOXOFFICE_TELEMETRY__{name}" for name in ("HOST", "API_PORT", "WORKER_PORT")}
    assert own == {"BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL", "BOXOFFICE_DATA_DIR", "PORT"} | watched


def test_ports_for_watchers_stay_inside(services: dict[str, Any]) -> None:
    """Of ours the API's port alone is published, and what is published is for this machine."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"api", "prometheus", "grafana"}
    assert "94" not in "".join(map(str, published["api"]))
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_prometheus_and_grafana_come_only_when_they_are_asked_for(services: dict[str, Any]) -> None:
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {"prometheus": ["monitoring"], "grafana": ["monitoring"]}


def test_what_is_mounted_is_there_and_is_not_written(services: dict[str, Any]) -> None:
    """Files of this repository; Grafana finds its data source, which is Prometheus as it is named here, and the dashboard."""
    mounts = [each.split(":") for service in services.values() for each in service.get("volumes", [])]
    ours = {target: (source, rest) for source, target, *rest in mounts if source.startswith(".")}
    assert all((ROOT / source).exists() and rest == ["ro"] for source, rest in ours.values())
    assert (ROOT / ours["/etc/prometheus"][0] / "prometheus.yml").is_file()
    provisioning = ROOT / ours["/etc/grafana/provisioning"][0]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    (boards,) = yaml.safe_load((provisioning / "dashboards" / "boxoffice.yml").read_text())["providers"]
    shown = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert shown in ours and shown.startswith(boards["options"]["path"] + "/")
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]


def test_prometheus_asks_each_process_at_its_port(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "ops" / "monitoring" / "prometheus.yml").read_text())
    asked = {
        name: names["port"]
        for job in config["scrape_configs"] for names in job["dns_sd_configs"] for name in names["names"]
    }  # fmt: skip
    told = services["api"]["environment"]
    assert asked == {name: told[f"BOXOFFICE_TELEMETRY__{name.upper()}_PORT"] for name in ("api", "worker")}


def test_grafana_has_no_password_that_everybody_knows(services: dict[str, Any]) -> None:
    told = services["grafana"]["environment"]
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in told if "PASSWORD" in name]


@pytest.mark.parametrize("name", ["migrate", "api", "worker"])
def test_a_container_has_no_right_that_it_does_not_need(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "user"} & set(service)


def test_a_container_may_finish_what_it_has_begun(services: dict[str, Any]) -> None:
    grace = {name: int(services[name]["stop_grace_period"].removesuffix("s")) for name in ("api", "worker")}
    settings = Settings()
    assert grace["api"] >= settings.api.drain_s + GRACE_S + 5
    assert grace["worker"] >= settings.worker.lease_ms / 1_000 + 15


def test_api_and_worker_have_the_same_settings(services: dict[str, Any]) -> None:
    assert services["api"]["environment"] == services["worker"]["environment"] == services["migrate"]["environment"]


def test_every_command_exists(services: dict[str, Any]) -> None:
    known = {command.name or (command.callback and command.callback.__name__) for command in app.registered_commands}
    for service in ("migrate", "api", "worker"):
        assert services[service]["command"][0] in known


def test_redis_loses_nothing_and_evicts_nothing(services: dict[str, Any]) -> None:
    given = flags(services["redis"]["command"])

    assert given["--appendonly"] == "yes"
    assert given["--appendfsync"] == "always"
    assert given["--no-appendfsync-on-rewrite"] == "no"
    assert given["--aof-load-truncated"] == "yes"
    assert given["--maxmemory-policy"] == "noeviction"
    assert "--maxmemory" in given


def test_postgres_loses_nothing(services: dict[str, Any]) -> None:
    assert {"fsync=on", "synchronous_commit=on"} <= set(services["postgres"]["command"])


def test_api_and_worker_wait_for_the_schema_and_the_stores(services: dict[str, Any]) -> None:
    for service in ("api", "worker"):
        assert services[service]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
