"""What docs/deploying.md tells to type fits together: what its blocks say is what the product and the chart take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from boxoffice.database_url import check_database_files
from boxoffice.redis_url import check_redis_files, check_redis_url
from boxoffice.secret_files import SECRET_FILES, read_secrets
from tests.support.chart import CHART, ROOT, rendered, values_of

PAGE = ROOT / "docs" / "deploying.md"
UNITS = ROOT / "ops" / "deploy" / "systemd"

DATABASE_URL = "postgresql://boxoffice:secret@postgres.example/boxoffice"


def block(heading: str, kind: str, containing: str) -> str:
    """The one block of this kind under a heading of the page in which some text stands."""
    part = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (found,) = (text for text in re.findall(rf"^```{kind}\n(.*?)^```$", part, re.M | re.S) if containing in text)
    return found


# ---------------------------------------------------------------------- Kubernetes


def secret() -> dict[str, str]:
    """The quick start's Secret: what is under each key. It is read on standard input, where no list of processes shows it."""
    text = block("Kubernetes", "sh", "helm install").partition("kubectl -n sale create -f - <<'END'\n")[2]
    made = yaml.safe_load(text.partition("\nEND\n")[0])
    kubernetes_validate.validate(made, "1.30", strict=True)
    assert made["metadata"]["name"] == set_values()["secrets"]["existing"]
    found: dict[str, str] = made["stringData"]
    return found


def set_values(containing: str = "helm install") -> dict[str, Any]:
    """A block's `--set`, those of the quick start, as Helm reads them."""
    values: dict[str, Any] = {}
    for path, value in re.findall(r"--set (\S+?)=(\S+)", block("Kubernetes", "sh", containing)):
        *parents, name = path.split(".")
        inner = values
        for each in parents:
            inner = inner.setdefault(each, {})
        inner[name] = yaml.safe_load(value)
    return values


def test_the_processes_start_on_the_urls_of_the_quick_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod nobody has a file of authorities at home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    said = secret()
    check_database_files(said["database-url"], {})
    check_redis_url(said["redis-url"])
    check_redis_files(said["redis-url"])
    assert urlsplit(said["redis-url"]).scheme == "rediss", "nobody on the way reads a password"


def test_the_secret_of_the_quick_start_has_every_key_that_the_chart_asks_for() -> None:
    asked = yaml.safe_load((CHART / "values.yaml").read_text())["secrets"]["keys"].values()
    assert set(secret()) == {key for key in asked if key}


def test_the_pods_of_the_quick_start_may_go_where_its_urls_lead() -> None:
    objects = rendered(set_values())
    (policy,) = (each for each in objects if each["kind"] == "NetworkPolicy" and "egress" in each["spec"])
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    urls = [urlsplit(secret()[key]).port for key in ("redis-url", "database-url")]
    assert None not in urls and set(urls) <= ports


def test_a_restore_has_an_operator_and_nobody_else() -> None:
    """Also where pods were counted by others: what had them started must not start them again."""
    stopped = set_values("operator.replicas=1")
    values = values_of("full")
    for part in ("migrate", "api", "keda", "worker", "operator"):
        values[part] = values.get(part, {}) | stopped[part]
    objects = rendered(values)
    replicas = {
        each["metadata"]["name"]: each["spec"].get("replicas") for each in objects if each["kind"] == "Deployment"
    }
    assert replicas == {"boxoffice-api": 0, "boxoffice-worker": 0, "boxoffice-operator": 1}
    assert not {each["kind"] for each in objects} & {"HorizontalPodAutoscaler", "ScaledObject", "Job"}


def test_commands_are_typed_where_there_is_a_deployment() -> None:
    named = {f"deploy/{each['metadata']['name']}" for each in rendered(set_values()) if each["kind"] == "Deployment"}
    typed = set(re.findall(r"deploy/boxoffice\S*", block("Kubernetes", "sh", "exec -it")))
    assert typed == {"deploy/boxoffice-operator"} and typed <= named


# ---------------------------------------------------------------------- systemd


def env_file() -> dict[str, str]:
    """/etc/boxoffice/boxoffice.env as the page writes it."""
    text = (
        block("systemd", "sh", "boxoffice.env <<'END'").partition("boxoffice.env <<'END'\n")[2].partition("\nEND\n")[0]
    )
    return dict(line.split("=", 1) for line in text.splitlines())


def taken_out() -> set[str]:
    """The lines that the page has taken out of it before a credential stands in their place."""
    return set(re.findall(r"take the line `(\w+)` out", PAGE.read_text()))


def told_by(drop_in: str, credentials: Path) -> dict[str, str]:
    return {
        name: value.replace("%d", str(credentials))
        for name, value in re.findall(r"^Environment=(\w+)=(.*)$", drop_in, re.M)
    }


def test_a_process_with_a_credential_knows_its_secret_once(tmp_path: Path) -> None:
    drop_in = block("systemd", "ini", "LoadCredential")
    ((name, path),) = re.findall(r"^LoadCredential=([a-z-]+):(\S+)$", drop_in, re.M)
    assert path == f"/etc/boxoffice/{name}"
    (tmp_path / name).write_text(DATABASE_URL + "\n")
    told = {key: value for key, value in env_file().items() if key not in taken_out()} | told_by(drop_in, tmp_path)
    assert set(told) & SECRET_FILES, "the drop-in names the file"
    values, wrong = read_secrets(told)
    assert (values["database_url"], wrong) == (DATABASE_URL, [])


def test_every_unit_has_the_drop_in() -> None:
    """What is taken out of the common file is missed by each that has none."""
    named = re.findall(
        r"^# /etc/systemd/system/(\S+)\.d/secrets\.conf$", block("systemd", "ini", "LoadCredential"), re.M
    )
    assert sorted(named) == sorted(path.name for path in UNITS.glob("*.service"))
