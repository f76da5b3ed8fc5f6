"""The Helm chart: it renders, Kubernetes takes it, and every pod gets what the product needs and no right beyond it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from api.server import GRACE_S
from boxoffice.secret_files import SECRET_FILES
from boxoffice.settings import Settings
from boxoffice.telemetry.series import REGISTRY
from tests.support.chart import CHART, OWN, ROOT, SECRETS, helm, names, paths, rendered, values_of

PODS = ("api", "worker", "migrate", "operator")

OPERATORS = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds that Kubernetes itself does not know."""

LEAST, FULL = values_of("least"), values_of("full")

Found = dict[str, Any]


@pytest.fixture(scope="module")
def least() -> list[Found]:
    return rendered(LEAST)


@pytest.fixture(scope="module")
def full() -> list[Found]:
    return rendered(FULL)


def one(objects: list[Found], kind: str, name: str) -> Found:
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pod_of(objects: list[Found], part: str) -> Found:
    kind = "Job" if part == "migrate" else "Deployment"
    template: Found = one(objects, kind, f"boxoffice-{part}")["spec"]["template"]
    return template


def container_of(objects: list[Found], part: str) -> Found:
    (container,) = pod_of(objects, part)["spec"]["containers"]
    assert container["name"] == part
    return container


def environment(objects: list[Found], part: str) -> dict[str, Any]:
    pairs = [(each["name"], each.get("value", each.get("valueFrom"))) for each in container_of(objects, part)["env"]]
    assert len(pairs) == len(dict(pairs)), "no name twice"
    return dict(pairs)


def merged(values: Found, more: Found) -> Found:
    """As Helm does with several files of values."""
    return values | {
        name: merged(values[name], value) if isinstance(value, dict) and isinstance(values.get(name), dict) else value
        for name, value in more.items()
    }


# ---------------------------------------------------------------------- it renders, and Kubernetes takes it


@pytest.mark.parametrize("values", [{}, LEAST, FULL], ids=["none", "least", "full"])
def test_helm_has_nothing_against_it(values: Found) -> None:
    report = helm("lint", values)
    assert not report["errors"]
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("which", ["least", "full"])
def test_kubernetes_takes_every_object(which: str, version: str, request: pytest.FixtureRequest) -> None:
    objects = request.getfixturevalue(which)
    assert len(objects) > 12
    for each in objects:
        if each["kind"] not in OPERATORS:
            kubernetes_validate.validate(each, version, strict=True)
    assert {each["kind"] for each in objects} & OPERATORS == (OPERATORS if which == "full" else set())


def test_no_two_objects_have_one_name(full: list[Found]) -> None:
    named = [(each["kind"], each["metadata"]["name"]) for each in full]
    assert sorted(set(named)) == sorted(named)


def test_a_long_name_of_a_release_is_cut_to_what_kubernetes_takes() -> None:
    for each in rendered(FULL, "a-release-with-a-name-as-long-as-helm-lets-it-have-53"):
        assert len(each["metadata"]["name"]) <= 63


def test_it_is_the_version_that_it_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == project["version"]


# ---------------------------------------------------------------------- values


def test_the_schema_knows_every_value_and_no_other() -> None:
    def compare(values: Found, schema: Found, where: str) -> None:
        if schema.get("additionalProperties") is False:
            assert set(values) == set(schema["properties"]) - {"global"}, where
            for name, value in values.items():
                if isinstance(value, dict) and where + name != "settings":
                    compare(value, schema["properties"][name], f"{where}{name}.")

    compare(
        yaml.safe_load((CHART / "values.yaml").read_text()), json.loads((CHART / "values.schema.json").read_text()), ""
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"settings": {"api": {"batch_maxx": 3}}}, "batch_maxx"),
        ({"settings": {"api": {"batch_max": 201}}}, "/settings/api/batch_max"),
        ({"settings": {"redis_url": "redis://:secret@redis"}}, "redis_url"),
        ({"settings": {"gateway": {"api_key": "sk_secret"}}}, "api_key"),
        ({"settings": {"gateway": {"kind": "simulator"}}}, "/settings/gateway/kind"),
        ({"api": {"replica": 2}}, "replica"),
        ({"secrets": {"keys": {"BOXOFFICE_SHARDS": "shards"}}}, "BOXOFFICE_SHARDS"),
        ({"secrets": {"existing": ""}}, "secrets.existing"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_is_wrong_is_refused_by_name(wrong: Found, said: str) -> None:
    error = helm("render", merged(LEAST, wrong))["error"]
    assert said in error
    assert "sk_secret" not in error


def expanded(value: str, environment: dict[str, Any]) -> str:
    """As the kubelet hands it over: `$(NAME)` is another variable's value, and `$$` a dollar."""
    return re.sub(
        r"\$\$|\$\((\w+)\)", lambda found: str(environment.get(found[1], found[0])) if found[1] else "$", value
    )


def test_every_setting_can_be_given_and_is_read_as_it_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them as values, to Helm, into the pods' environment, and back: numbers and lists keep what they are."""
    given = {
        "limits": {"text_max": 300}, "rates": {"key_max": 100_000_000, "window_s": 3_600}, "holds": {"ttl_s": 601},
        "api": {"cors_origins": ["https://shop.example", "https://other.example"], "linger_ms": 0.25, "lane": False},
        "gateway": {"kind": "stripe", "return_url": "https://shop.example/$(BOXOFFICE_SHARDS)?a=\"b\"", "deadline_s": 1e6},
        "log_level": "warning", "shards": 64,
    }  # fmt: skip
    values = merged(json.loads(json.dumps(Settings().model_dump(mode="json"))), given)
    for path in SECRETS | OWN:
        *parts, name = path.split(".")
        (values[parts[0]] if parts else values).pop(name)
    objects = rendered({"secrets": {"existing": "boxoffice", "asFiles": False}, "settings": values})
    expected = names(Settings) - {"PORT", "BOXOFFICE_DATA_DIR", "BOXOFFICE_GATEWAY__WEBHOOK_SECRET_BEFORE"}
    unset = {
        f"BOXOFFICE_{part}__{name}".upper()
        for part, inner in values.items() if isinstance(inner, dict)
        for name, value in inner.items() if value is None
    }  # fmt: skip
    assert len(unset) >= 3
    for part in PODS:
        found = environment(objects, part)
        assert set(found) == expected - unset
        with monkeypatch.context() as patch:
            for name in names(Settings):
                patch.delenv(name, raising=False)
            for name, value in found.items():
                if isinstance(value, str):
                    patch.setenv(name, expanded(value, found))
            patch.setenv("BOXOFFICE_GATEWAY__API_KEY", "sk_test")
            patch.setenv("BOXOFFICE_GATEWAY__WEBHOOK_SECRET", "whsec_test")
            read = json.loads(json.dumps(Settings().model_dump(mode="json")))
        for path in SECRETS | OWN:
            *parts, name = path.split(".")
            (read[parts[0]] if parts else read).pop(name)
        assert read == values


def test_what_is_no_value_is_a_setting_all_the_same() -> None:
    assert set(paths()) > SECRETS | OWN


KEYS = {
    "BOXOFFICE_REDIS_URL": "redis-url", "BOXOFFICE_DATABASE_URL": "database-url",
    "BOXOFFICE_GATEWAY__API_KEY": "gateway-api-key", "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "gateway-webhook-secret",
}  # fmt: skip


@pytest.mark.parametrize("part", PODS)
def test_secrets_are_files_for_the_pod_alone(part: str, least: list[Found]) -> None:
    found = {name: value for name, value in environment(least, part).items() if name.endswith("_FILE")}
    assert found == {f"{name}_FILE": f"/run/secrets/boxoffice/{key}" for name, key in KEYS.items()}
    assert set(found) <= SECRET_FILES
    (volume,) = (each for each in pod_of(least, part)["spec"]["volumes"] if each["name"] == "secrets")
    items = [{"key": key, "path": key} for key in sorted(KEYS.values())]
    assert volume["secret"] == {"secretName": "boxoffice", "defaultMode": 0o440, "items": items}
    mount = {"name": "secrets", "mountPath": "/run/secrets/boxoffice", "readOnly": True}
    assert mount in container_of(least, part)["volumeMounts"]
    own = rendered(merged(LEAST, {part: {"existingSecret": "another"}}))
    (volume,) = (each for each in pod_of(own, part)["spec"]["volumes"] if each["name"] == "secrets")
    assert volume["secret"]["secretName"] == "another"


@pytest.mark.parametrize("part", PODS)
def test_secrets_may_stand_in_the_environment(part: str, full: list[Found]) -> None:
    before = {"BOXOFFICE_GATEWAY__WEBHOOK_SECRET_BEFORE": "gateway-webhook-secret-before"}
    secret = "boxoffice" if part == "api" else f"boxoffice-{part}"
    found = {name: value for name, value in environment(full, part).items() if isinstance(value, dict)}
    wanted = (KEYS | before).items()
    assert found == {name: {"secretKeyRef": {"name": secret, "key": key}} for name, key in wanted}
    assert not [each for each in full if each["kind"] == "Secret"]
    assert "secrets" not in {each["name"] for each in pod_of(full, part)["spec"]["volumes"]}


# ---------------------------------------------------------------------- pods


@pytest.mark.parametrize("part", PODS)
@pytest.mark.parametrize("which", ["least", "full"])
def test_a_pod_has_no_right_that_it_does_not_need(which: str, part: str, request: pytest.FixtureRequest) -> None:
    """What Kubernetes calls restricted, a file system that nobody writes, and no token."""
    objects = request.getfixturevalue(which)
    spec, container = pod_of(objects, part)["spec"], container_of(objects, part)
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert mounts["/tmp"] == "tmp" and volumes["tmp"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}
    assert set(mounts.values()) == set(volumes)
    assert {"memory", "cpu"} == set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"] and "cpu" not in container["resources"]["limits"]


def test_the_user_is_that_of_the_image() -> None:
    """By number: Kubernetes cannot tell that a name is not root."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", dockerfile, re.M) == ["10001:10001"]
    assert "useradd --uid 10001 --gid 10001" in dockerfile and "groupadd --gid 10001" in dockerfile


@pytest.mark.parametrize("part", PODS)
def test_no_service_writes_into_the_environment(part: str, least: list[Found]) -> None:
    """A Service `boxoffice` would set BOXOFFICE_PORT to tcp://10.0.0.1:80, which is a setting's name."""
    assert pod_of(least, part)["spec"]["enableServiceLinks"] is False


def test_what_the_pods_listen_on_is_what_others_ask(least: list[Found]) -> None:
    api, worker = container_of(least, "api"), container_of(least, "worker")
    told = environment(least, "api")
    assert api["args"] == ["api", "--host", "0.0.0.0", "--port", "8000"]
    assert {each["name"]: each["containerPort"] for each in api["ports"]} == {
        "http": 8000, "metrics": int(told["BOXOFFICE_TELEMETRY__API_PORT"]),
    }  # fmt: skip
    assert worker["args"] == ["worker"] and container_of(least, "migrate")["args"] == ["migrate"]
    assert worker["ports"] == [{"name": "metrics", "containerPort": int(told["BOXOFFICE_TELEMETRY__WORKER_PORT"])}]
    assert told["BOXOFFICE_TELEMETRY__HOST"] == "0.0.0.0"
    in_compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api"]["environment"]
    assert {name: str(in_compose[name]) for name in told if "_PORT" in name} == {
        name: value for name, value in told.items() if "_PORT" in name
    }


@pytest.mark.parametrize(("part", "port"), [("api", "http"), ("worker", "metrics")])
def test_probes_restart_what_is_dead_and_wait_for_what_is_not_ready(part: str, port: str, least: list[Found]) -> None:
    container = container_of(least, part)
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    alive, ready = {"path": "/healthz", "port": port}, {"path": "/readyz", "port": port}
    assert asked == {"startup": alive, "liveness": alive, "readiness": ready}
    # A process that is busy for a moment is not killed, and one that is not ready is not asked for long.
    liveness, readiness = container["livenessProbe"], container["readinessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 10
    assert readiness["timeoutSeconds"] >= 4


def test_a_pod_may_finish_what_it_has_begun(least: list[Found], full: list[Found]) -> None:
    """Between the order to stop and SIGKILL there is time for all that the product says it may take, and some to close."""
    for objects, drain_s, lease_s, pause_s in ((least, 3, 15, 5), (full, 7.5, 20, 8)):
        api, worker = pod_of(objects, "api")["spec"], pod_of(objects, "worker")["spec"]
        (container,) = api["containers"]
        assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": pause_s}}}
        assert 5 <= api["terminationGracePeriodSeconds"] - (pause_s + drain_s + GRACE_S) <= 10
        assert 15 <= worker["terminationGracePeriodSeconds"] - lease_s < 16
    assert (Settings().api.drain_s, Settings().worker.lease_ms) == (3, 15_000)


def test_migrations_come_first(least: list[Found]) -> None:
    """A hook, before there is anything of the chart: it names nothing that the chart makes."""
    job = one(least, "Job", "boxoffice-migrate")
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }  # fmt: skip
    made = {each["metadata"]["name"] for each in least if each["kind"] in ("ServiceAccount", "ConfigMap", "Secret")}
    spec = job["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "default" and "default" not in made
    assert spec["restartPolicy"] == "Never"
    own = rendered(merged(LEAST, {"serviceAccount": {"create": False, "name": "mine"}}))
    assert {pod_of(own, part)["spec"]["serviceAccountName"] for part in PODS} == {"mine"}
    assert not [each for each in own if each["kind"] == "ServiceAccount"]
    assert not [each for each in rendered(merged(LEAST, {"migrate": {"enabled": False}})) if each["kind"] == "Job"]


def test_what_is_said_of_a_pod_is_in_it(full: list[Found]) -> None:
    template = pod_of(full, "api")
    spec = template["spec"]
    assert template["metadata"]["labels"]["team"] == "tickets" and template["metadata"]["annotations"] == {
        "note": "api"
    }
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"} and spec["priorityClassName"] == "sale"
    assert spec["tolerations"] == [{"key": "sale", "operator": "Exists"}] and spec["affinity"] == {"nodeAffinity": {}}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert container_of(full, "api")["image"].startswith("boxoffice@sha256:0123")
    assert environment(full, "api")["SSL_CERT_FILE"] == "/etc/ca/ca.crt"
    assert {"name": "ca", "mountPath": "/etc/ca", "readOnly": True} in container_of(full, "api")["volumeMounts"]


# ---------------------------------------------------------------------- who finds whom


def matches(selector: dict[str, str], objects: list[Found]) -> set[str]:
    """The parts whose pods a selector finds."""
    labels = {part: pod_of(objects, part)["metadata"]["labels"] for part in PODS}
    return {part for part, own in labels.items() if selector.items() <= own.items()}


def test_every_selector_finds_its_pods_and_no_others(full: list[Found]) -> None:
    for part in ("api", "worker"):
        deployment = one(full, "Deployment", f"boxoffice-{part}")["spec"]
        assert matches(deployment["selector"]["matchLabels"], full) == {part}
        for spread in deployment["template"]["spec"]["topologySpreadConstraints"]:
            assert matches(spread["labelSelector"]["matchLabels"], full) == {part}
        budget = one(full, "PodDisruptionBudget", f"boxoffice-{part}")["spec"]
        assert matches(budget["selector"]["matchLabels"], full) == {part} and budget["maxUnavailable"] == 1
        assert matches(one(full, "NetworkPolicy", f"boxoffice-{part}")["spec"]["podSelector"]["matchLabels"], full) == {
            part
        }
        metrics = one(full, "Service", f"boxoffice-{part}-metrics")
        assert matches(metrics["spec"]["selector"], full) == {part}
        assert metrics["spec"]["clusterIP"] == "None" and metrics["spec"]["publishNotReadyAddresses"] is True
        monitor = one(full, "ServiceMonitor", f"boxoffice-{part}")["spec"]
        services = [each for each in full if each["kind"] == "Service"]
        wanted = monitor["selector"]["matchLabels"].items()
        assert [each for each in services if wanted <= each["metadata"]["labels"].items()] == [metrics]
        assert monitor["endpoints"][0]["port"] == metrics["spec"]["ports"][0]["name"] == "metrics"
        ports = {each["name"]: each["containerPort"] for each in container_of(full, part)["ports"]}
        assert metrics["spec"]["ports"] == [{"name": "metrics", "port": ports["metrics"], "targetPort": "metrics"}]
    assert matches(one(full, "Service", "boxoffice-api")["spec"]["selector"], full) == {"api"}
    assert matches(one(full, "NetworkPolicy", "boxoffice")["spec"]["podSelector"]["matchLabels"], full) == set(PODS)


def test_customers_reach_the_api_and_never_metrics(full: list[Found], least: list[Found]) -> None:
    for objects in (full, least):
        assert one(objects, "Service", "boxoffice-api")["spec"]["ports"] == [
            {"name": "http", "port": 80, "targetPort": "http"}
        ]
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    watched = {"ports": [{"port": "metrics"}], "from": prometheus}
    assert one(least, "NetworkPolicy", "boxoffice-api")["spec"]["ingress"] == [{"ports": [{"port": "http"}]}, watched]
    assert one(least, "NetworkPolicy", "boxoffice-worker")["spec"]["ingress"] == [watched]
    proxy = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]
    assert one(full, "NetworkPolicy", "boxoffice-api")["spec"]["ingress"][0]["from"] == proxy
    closed = rendered(merged(LEAST, {"networkPolicy": {"monitoring": []}}))
    assert not one(closed, "NetworkPolicy", "boxoffice-worker")["spec"]["ingress"]
    assert not [each for each in rendered(merged(LEAST, {"networkPolicy": {"enabled": False}}))
                if each["kind"] == "NetworkPolicy"]  # fmt: skip


def test_pods_go_to_their_stores_and_the_gateway_alone(full: list[Found], least: list[Found]) -> None:
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}

    def to(port: int, **more: Any) -> Found:
        return {"ports": [{"port": port, "protocol": "TCP"}], **more}

    everywhere = one(least, "NetworkPolicy", "boxoffice")["spec"]
    assert everywhere["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in everywhere
    assert everywhere["egress"] == [dns, to(6379), to(5432), to(443)]
    redis = to(6380, to=[{"ipBlock": {"cidr": "10.1.0.0/16"}}])
    assert one(full, "NetworkPolicy", "boxoffice")["spec"]["egress"] == [dns, redis, to(5432), to(443)]


def test_dns_is_asked_where_its_pods_listen() -> None:
    """OpenShift's listen on another port than their Service."""
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}]
    there = rendered(merged(LEAST, {"networkPolicy": {"dns": {"ports": [5353, 53], "to": peers}}}))
    ports = [{"port": port, "protocol": protocol} for port in (5353, 53) for protocol in ("UDP", "TCP")]
    assert one(there, "NetworkPolicy", "boxoffice")["spec"]["egress"][0] == {"ports": ports, "to": peers}


def test_the_ingress_passes_on_what_shops_ask_and_no_probe(full: list[Found]) -> None:
    (rule,) = one(full, "Ingress", "boxoffice")["spec"]["rules"]
    passed = [each["path"] for each in rule["http"]["paths"]]
    asked = set(json.loads((ROOT / "tests" / "api" / "openapi.json").read_text())["paths"]) | {"/docs", "/openapi.json"}
    assert {path for path in asked if not path.startswith(tuple(passed))} == {"/healthz", "/readyz"}
    backends = {json.dumps(each["backend"]) for each in rule["http"]["paths"]}
    assert backends == {json.dumps({"service": {"name": "boxoffice-api", "port": {"name": "http"}}})}
    assert rule["host"] == "tickets.example"


# ---------------------------------------------------------------------- scaling and watching


def test_whoever_counts_the_pods_is_alone_in_it(full: list[Found], least: list[Found]) -> None:
    """A Deployment that says how many there are would undo what the autoscaler did, at each upgrade."""
    scaler = one(least, "HorizontalPodAutoscaler", "boxoffice-api")["spec"]
    assert (scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"]) == ("Deployment", "boxoffice-api")
    assert scaler["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert "replicas" not in one(least, "Deployment", "boxoffice-api")["spec"]
    assert one(least, "Deployment", "boxoffice-worker")["spec"]["replicas"] == 2
    assert not [each for each in full if each["kind"] == "HorizontalPodAutoscaler"]
    assert one(full, "Deployment", "boxoffice-api")["spec"]["replicas"] == 3
    assert "replicas" not in one(full, "Deployment", "boxoffice-worker")["spec"]
    scaled = one(full, "ScaledObject", "boxoffice-worker")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "boxoffice-worker"}
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"], scaled["fallback"]["replicas"]) == (2, 6, 2)


def test_workers_come_with_the_backlog(full: list[Found]) -> None:
    """The sum over shards of what any process says: each says it of all."""
    (trigger,) = one(full, "ScaledObject", "boxoffice-worker")["spec"]["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    query = trigger["metadata"]["query"]
    assert query == 'sum(max by (shard) (boxoffice_backlog_bookings{namespace="sale"}))'
    assert REGISTRY.metrics["boxoffice_backlog_bookings"].labels == ("shard",)
    assert trigger["metadata"]["threshold"] == "2500"


def test_prometheus_knows_the_processes_by_the_names_of_the_alerts(full: list[Found]) -> None:
    jobs = {
        label["replacement"]
        for each in full if each["kind"] == "ServiceMonitor"
        for endpoint in each["spec"]["endpoints"] for label in endpoint["relabelings"] if label["targetLabel"] == "job"
    }  # fmt: skip
    config = yaml.safe_load((ROOT / "ops" / "monitoring" / "prometheus.yml").read_text())
    assert jobs == {each["job_name"] for each in config["scrape_configs"]} == {"boxoffice-api", "boxoffice-worker"}


def test_alerts_and_dashboard_are_those_of_everybody(full: list[Found]) -> None:
    monitoring = ROOT / "ops" / "monitoring"
    assert one(full, "PrometheusRule", "boxoffice")["spec"] == yaml.safe_load((monitoring / "alerts.yml").read_text())
    board = one(full, "ConfigMap", "boxoffice-dashboard")
    assert board["data"] == {"boxoffice.json": (monitoring / "dashboard.json").read_text()}
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert one(full, "ServiceMonitor", "boxoffice-api")["metadata"]["labels"]["release"] == "prometheus"


# ---------------------------------------------------------------------- operators


def test_an_operator_has_a_place_of_their_own(full: list[Found], least: list[Found]) -> None:
    """Nothing runs in it until somebody types a command; one who is asked for waits there, also while all else is stopped."""
    assert one(least, "Deployment", "boxoffice-operator")["spec"]["replicas"] == 0
    spec = one(full, "Deployment", "boxoffice-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    container = container_of(full, "operator")
    assert container["command"] == ["sleep", "infinity"] and not {"args", "ports"} & set(container)
    of_worker = pod_of(rendered(merged(LEAST, {"operator": {"existingSecret": "ops"}})), "worker")["spec"]["volumes"]
    assert "ops" not in str(of_worker), "no other pod has the operator's rights"


def test_the_notes_send_operators_there() -> None:
    (notes,) = (text for path, text in helm("render", LEAST, "sale").items() if path.endswith("NOTES.txt"))
    assert re.findall(r"exec .*?(deploy/\S+)", notes) == ["deploy/sale-boxoffice-operator"] * 3
    assert "-worker" not in notes
    named = {each["metadata"]["name"] for each in rendered(LEAST, "sale") if each["kind"] == "Deployment"}
    assert {each.removeprefix("deploy/") for each in re.findall(r"deploy/\S+", notes)} <= named
    assert "scale deploy/sale-boxoffice-operator --replicas=1" in notes
