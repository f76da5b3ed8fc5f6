"""The Helm chart as tests see it: rendered by Helm, and the part of its values' schema that is written from the settings."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices, BaseModel

from boxoffice.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "ops" / "deploy" / "helm" / "boxoffice"
SCHEMA = CHART / "values.schema.json"

SECRETS = {"redis_url", "database_url", "gateway.api_key", "gateway.webhook_secret", "gateway.webhook_secret_before"}
"""They come out of a Secret."""

OWN = {"data_dir", "port", "telemetry.host", "telemetry.api_port", "telemetry.worker_port"}
"""What a pod listens on, and a directory that it does not need, are the chart's."""

KINDS = ["http", "stripe"]
"""Gateways that pods can use: the simulator's ledger is a file."""

# Helm is a Go program: it stays out of the process of the other tests.
HELM = """
import json, sys
import helm_python as helm
asked = json.load(sys.stdin)
try:
    if asked["verb"] == "lint":
        told = helm.lint(asked["chart"], asked["values"], strict=True, kube_version=asked["kube"])
    else:
        with helm.Chart.load(asked["chart"]) as chart:
            chart.validate_schema(chart.merge_values(asked["values"]))
            told = chart.render(asked["values"], name=asked["name"], namespace="sale")
except helm.HelmError as error:
    told = {"error": str(error)}
print(json.dumps(told))
"""


def helm(verb: str, values: dict[str, Any], name: str = "boxoffice") -> dict[str, Any]:
    """What Helm says: of `lint` its report, of `render` each template's text, and `error` where it refuses."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("helm-python-sdk is not installed: there is no wheel of it for this machine")
    asked = {"verb": verb, "chart": str(CHART), "values": values, "kube": "v1.30.0", "name": name}
    ended = subprocess.run(
        [sys.executable, "-c", HELM], input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def rendered(values: dict[str, Any], name: str = "boxoffice") -> list[dict[str, Any]]:
    """Every object that the chart makes of these values."""
    texts = helm("render", values, name)
    assert "error" not in texts, texts
    documents = (yaml.safe_load_all(text) for path, text in sorted(texts.items()) if not path.endswith(".txt"))
    return [each for found in documents for each in found if each is not None]


def values_of(name: str) -> dict[str, Any]:
    """The values of an example in the chart's `ci` folder."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


def paths(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every setting as values spell it: `api.batch_max`."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from paths(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def names(model: type[BaseModel] = Settings, prefix: str = "BOXOFFICE_") -> set[str]:
    """Every setting as the environment spells it."""
    found = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= names(field.annotation, f"{prefix}{name.upper()}__")
        else:
            alias = field.validation_alias
            found.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else prefix + name.upper())
    return found


def settings_schema(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """The schema of the value `settings`: each with its bounds, and no name that there is not."""
    written = model.model_json_schema(by_alias=False)
    properties: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if prefix + name in SECRETS | OWN:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            properties[name] = settings_schema(field.annotation, f"{prefix}{name}.")
        else:
            properties[name] = {key: value for key, value in written["properties"][name].items() if key != "title"}
    if prefix == "gateway.":
        properties["kind"] = {"type": "string", "enum": KINDS}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema_text() -> str:
    """The file as it should be: what is in it, and the settings as the code has them."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"] = settings_schema()
    return json.dumps(schema, indent=1) + "\n"
