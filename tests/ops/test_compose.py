"""docker-compose.yml agrees with the settings, the commands and the durability we promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices, BaseModel

from boxoffice.settings import Settings
from ops.cli import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed["services"]


def names(model: type[BaseModel], prefix: str = "BOXOFFICE_") -> set[str]:
    """Every setting as the environment spells it."""
    found = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= names(field.annotation, f"{prefix}{name.upper()}__")
        else:
            alias = field.validation_alias
            found.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else prefix + name.upper())
    return found


def flags(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_every_setting_is_passed_on(services: dict[str, Any]) -> None:
    """All of them, and nothing else: one that is not named here would be dropped silently."""
    for service in ("migrate", "api", "worker"):
        assert set(services[service]["environment"]) == names(Settings)


def test_settings_have_the_default_of_the_code(services: dict[str, Any]) -> None:
    """A name without a value is taken from who starts it, and left out where it is not set."""
    own = {name for name, value in services["api"]["environment"].items() if value is not None}
    watched = {f"BOXOFFICE_TELEMETRY__{name}" for name in ("HOST", "API_PORT", "WORKER_PORT")}
    assert own == {"BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL", "BOXOFFICE_DATA_DIR", "PORT"} | watched


def test_ports_for_watchers_stay_inside(services: dict[str, Any]) -> None:
    """The API's port alone is published."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"api"}
    assert "94" not in "".join(map(str, published["api"]))


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
