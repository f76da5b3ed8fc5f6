"""Settings that cannot work are refused when they are read, with the name of the setting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from boxoffice.errors import CannotRun
from boxoffice.settings import NO_SETTINGS, SIMULATOR_SECRET, GatewaySettings, Settings, load_settings, misspelt


def numbers() -> Iterator[tuple[str, str, list[Any]]]:
    """Part, name and bounds of every setting that is a number."""
    for part, field in Settings.model_fields.items():
        parts = field.annotation.model_fields if _is_part(field.annotation) else {"": field}
        for name, setting in parts.items():
            if setting.annotation in (int, float, int | None):
                yield part, name, list(setting.metadata)


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def with_number(part: str, name: str, value: Any) -> Settings:
    return Settings.model_validate({part: {name: value} if name else value})


@pytest.mark.parametrize(
    ("part", "name", "bounds"), list(numbers()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_number_is_finite_and_within_its_bounds(part: str, name: str, bounds: list[Any]) -> None:
    """`inf` and `nan` are neither a second nor a percent: a deadline of `inf` would stop every settlement."""
    assert bounds, f"{part}.{name} has a bound"
    for bad in ("inf", "-inf", "nan", float("inf"), float("nan"), "", "x"):
        with pytest.raises(ValidationError):
            with_number(part, name, bad)
    for bound in bounds:
        for sign, open_, limit in (
            (-1, False, getattr(bound, "ge", None)), (-1, True, getattr(bound, "gt", None)),
            (1, False, getattr(bound, "le", None)), (1, True, getattr(bound, "lt", None)),
        ):  # fmt: skip
            if limit is None:
                continue
            with pytest.raises(ValidationError):
                with_number(part, name, limit if open_ else limit + sign)
            assert open_ or with_number(part, name, limit)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BOXOFFICE_API__CORS_ORIGINS", "https://hunter2.example", 'BOXOFFICE_API__CORS_ORIGINS is no JSON, such as ["https'),
        ("BOXOFFICE_API__CORS_ORIGINS", '"hunter2"', "Setting api.cors_origins"),
        ("BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS", "10.1.0.0/16", "BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS is no JSON, such as ["),
        ("BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS", '["hunter2"]', "Setting webhooks.allowed_networks"),
        ("BOXOFFICE_API", '{"hunter2', 'BOXOFFICE_API is no JSON, such as {"name": 1}'),
        ("boxoffice_gateway", "hunter2", "boxoffice_gateway is no JSON"),
        ("BOXOFFICE_API", '{"heads": 1}', "api.heads is no setting"),
        ("BOXOFFICE_API_LANE", "false", "did you mean BOXOFFICE_API__LANE?"),
        ("BOXOFFICE__API__LANE", "hunter2", "BOXOFFICE__API__LANE is no setting"),
        ("BOXOFFICE_LIMIT__TEXT_MAX", "5", "did you mean BOXOFFICE_LIMITS__TEXT_MAX?"),
        ("PORT", "hunter2", "Setting PORT"), ("BOXOFFICE_PORT", "hunter2", "Setting PORT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_port_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short one is what `boxoffice up` tells its children."""
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("BOXOFFICE_PORT", "8005")
    assert load_settings().port == 8005
    monkeypatch.setenv("PORT", "8006")
    assert load_settings().port == 8006


def shown(bounds: list[Any]) -> str:
    """`[1, 100]`, `(0, 60]`, `[1, ...)`."""
    found: dict[str, Any] = {}
    for bound in bounds:
        found |= {word: limit for word in ("ge", "gt", "le", "lt") if (limit := getattr(bound, word, None)) is not None}
    low = f"[{found['ge']}" if "ge" in found else f"({found['gt']}"
    return f"{low}, {found['le']}]" if "le" in found else f"{low}, ...)"


BOUNDS = {
    "port": "[1, 65535]",
    "shards": "[1, 64]",
    "redis_pool_max": "[2, 1000]",
    "redis_timeout_s": "(0, 60]",
    "limits.items_max": "[1, 100]",
    "limits.quantity_max": "[1, 1000]",
    "limits.body_max_bytes": "[1024, ...)",
    "limits.head_max_bytes": "[2048, 65536]",
    "limits.text_max": "[1, 1000]",
    "limits.page_max": "[1, 1000]",
    "limits.pending_max": "[1, ...)",
    "rates.window_s": "[1, 3600]",
    "rates.key_max": "[0, 100000000]",
    "rates.customer_max": "[0, 100000000]",
    "rates.changes_max": "[0, 100000000]",
    "rates.reads_max": "[0, 100000000]",
    "declines.window_s": "[1, 86400]",
    "declines.customer_max": "[0, 1000000]",
    "declines.card_max": "[0, 1000000]",
    "declines.least": "[0, 100000000]",
    "declines.share": "[1, 100]",
    "holds.changes_max": "[1, 10000]",
    "holds.ttl_s": "[5, 86400]",
    "holds.attempts_max": "[1, 100]",
    "holds.unpaid_customer_max": "[1, ...)",
    "holds.unpaid_client_max": "[1, ...)",
    "holds.given_up_max": "[1, ...)",
    "holds.ended_ttl_s": "[1, ...)",
    "holds.ended_max": "[1, ...)",
    "api.batch_max": "[1, 200]",
    "api.calls_max": "[1, 16]",
    "api.linger_ms": "[0, 20]",
    "api.pace_ms": "[0, 200]",
    "api.key_cache_s": "[0, 300]",
    "api.retry_s": "[0.1, 30]",
    "api.drain_s": "[0, 60]",
    "api.waiting_max": "[1, ...)",
    "api.burst_s": "[0, 60]",
    "api.wait_ms": "[0, 10000]",
    "api.connections_max": "[1, ...)",
    "api.head_s": "(0, 600]",
    "api.body_s": "(0, 600]",
    "api.flush_s": "(0, 600]",
    "api.keep_alive_s": "(0, 3600]",
    "worker.batch_max": "[1, 2000]",
    "worker.batches_at_once": "[1, 8]",
    "worker.linger_ms": "[0, 500]",
    "worker.lease_ms": "[200, 600000]",
    "worker.sweep_ms": "[50, 60000]",
    "worker.drain_s": "[0.5, 60]",
    "worker.attempts_max": "[1, 100]",
    "worker.settled_ttl_s": "[1, ...)",
    "worker.lock_timeout_ms": "[10, ...)",
    "worker.statement_timeout_ms": "[100, ...)",
    "worker.guard_ms": "[50, 60000]",
    "worker.webhooks_ms": "[10, 60000]",
    "worker.reconcile_s": "[1, ...)",
    "worker.pool_max": "[2, 200]",
    "worker.retention_days": "[8, 3650]",
    "worker.retention_failures_days": "[1, 3650]",
    "worker.retention_moves_days": "[8, 3650]",
    "worker.retention_notices_days": "[1, 3650]",
    "worker.retention_webhooks_days": "[8, 3650]",
    "gateway.timeout_s": "(0, 60]",
    "gateway.cutoff_s": "(0, 60]",
    "gateway.concurrency": "[1, 1000]",
    "gateway.deadline_s": "(0, ...)",
    "gateway.retry_s": "(0, 3600]",
    "gateway.retry_max_s": "(0, 86400]",
    "gateway.webhook_age_s": "[1, ...)",
    "telemetry.api_port": "[0, 65535]",
    "api.copy_ms": "[0, 5000]",
    "api.session_s": "[60, 604800]",
    "api.waits_client_max": "[1, ...)",
    "api.waits_max": "[1, ...)",
    "limits.feed_page_max": "[1, 5000]",
    "limits.wait_max_s": "[1, 300]",
    "streams.max": "[0, 1000000]",
    "streams.key_max": "[0, 1000000]",
    "streams.address_max": "[0, 1000000]",
    "streams.each_ms": "[50, 60000]",
    "streams.heartbeat_s": "[1, 300]",
    "streams.retry_ms": "[100, 600000]",
    "streams.buffer_max_bytes": "[1024, 16777216]",
    "streams.waits_max": "[0, 1000000]",
    "telemetry.events_max": "[0, 100]",
    "telemetry.otel_traces_max": "[1, 100000]",
    "telemetry.worker_port": "[0, 65535]",
    "webhooks.endpoints_max": "[1, 1000]",
    "webhooks.at_once": "[2, 1000]",
    "webhooks.in_flight_max": "[1, 100]",
    "webhooks.timeout_s": "(0, 60]",
    "webhooks.rate_max": "[1, 100000]",
    "webhooks.slow_s": "(0, 60]",
    "webhooks.retry_s": "(0, 3600]",
    "webhooks.retry_max_s": "(0, 86400]",
    "webhooks.give_up_s": "(0, 2592000]",
    "webhooks.disable_after_s": "(0, 2592000]",
    "webhooks.answer_max_bytes": "[1024, 1048576]",
    "webhooks.retention_days": "[4, 3650]",
}


def test_the_bounds_are_these() -> None:
    """An environment that works today works with the next version: narrower bounds are a decision."""
    found = {f"{part}.{name}" if name else part: shown(bounds) for part, name, bounds in numbers()}
    assert found == BOUNDS


SECRET = "sk_live_of_nobody"


def test_what_is_printed_has_no_secret() -> None:
    """URLs have passwords; settings end up in logs and in tracebacks."""
    gateway = GatewaySettings(api_key=SECRET, webhook_secret=SECRET, webhook_secret_before=SECRET)
    settings = Settings(
        redis_url=f"redis://:{SECRET}@127.0.0.1:6379/0",
        database_url=f"postgresql://boxoffice:{SECRET}@127.0.0.1/boxoffice",
        gateway=gateway,
    )
    for text in (repr(gateway), str(gateway), repr(settings), str(settings)):
        assert SECRET not in text
        assert "kind='simulator'" in text


@pytest.mark.parametrize("part", [None, "limits", "holds", "api", "worker", "gateway"])
def test_settings_are_frozen(part: str | None) -> None:
    one = Settings() if part is None else getattr(Settings(), part)
    name = next(iter(type(one).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(one, name, getattr(one, name))


@pytest.mark.parametrize("part", ["limits", "holds", "api", "worker", "gateway"])
def test_a_part_knows_no_other_names(part: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Settings.model_validate({part: {"nonsense": 1}})


@pytest.mark.parametrize(
    ("environment", "path", "value"),
    [
        ({"REDIS_URL": "redis://a:1/0"}, "redis_url", "redis://a:1/0"),
        ({"BOXOFFICE_REDIS_URL": "redis://b:1/0", "REDIS_URL": "redis://a:1/0"}, "redis_url", "redis://b:1/0"),
        ({"DATABASE_URL": "postgresql://a/b"}, "database_url", "postgresql://a/b"),
        ({"BOXOFFICE_DATABASE_URL": "postgresql://a/c", "DATABASE_URL": "postgresql://a/b"}, "database_url", "postgresql://a/c"),
        ({"DATA_DIR": "a"}, "data_dir.name", "a"),
        ({"BOXOFFICE_DATA_DIR": "b", "DATA_DIR": "a"}, "data_dir.name", "b"),
        ({"PORT": "81"}, "port", 81),
        ({"BOXOFFICE_SHARDS": "7"}, "shards", 7),
        ({"BOXOFFICE_LIMITS__ITEMS_MAX": "4"}, "limits.items_max", 4),
        ({"boxoffice_limits__items_max": "4"}, "limits.items_max", 4),
        ({"BOXOFFICE_API__CORS_ORIGINS": '["https://a"]'}, "api.cors_origins", ("https://a",)),
        ({"BOXOFFICE_API__LANE": "false"}, "api.lane", False),
    ],
)  # fmt: skip
def test_names_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], path: str, value: Any
) -> None:
    for name in ("REDIS_URL", "DATABASE_URL", "DATA_DIR", "PORT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"BOXOFFICE_{name}", raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    found: Any = load_settings()
    for word in path.split("."):
        found = getattr(found, word)
    assert found == value


def test_the_tools_around_the_product_have_names_of_their_own() -> None:
    assert misspelt(dict.fromkeys(NO_SETTINGS, "")) == []
    assert {
        "BOXOFFICE_CRASHPOINT", "BOXOFFICE_DEBUG", "BOXOFFICE_ENV", "BOXOFFICE_POSTGRES_ACCOUNT",
        "BOXOFFICE_POSTGRES_ARCHIVE", "BOXOFFICE_POSTGRES_BIN", "BOXOFFICE_REDIS_MAXMEMORY", "BOXOFFICE_REDIS_SERVER",
    } == NO_SETTINGS  # fmt: skip


def test_every_setting_is_known_and_what_is_like_one_is_named() -> None:
    """In the order of the alphabet, whatever its case; names that do not begin like ours are not ours."""
    names = [f"BOXOFFICE_{part}{f'__{name}' if name else ''}".upper() for part, name, _ in numbers()]
    assert misspelt({**dict.fromkeys(names, ""), "PATH": "", "XBOXOFFICE_SHARD": "", "BOXOFFICE": ""}) == []
    assert misspelt({"boxoffice_zzz": "", "BOXOFFICE_SHARD": "", "BOXOFFICE_GATEWAY__KIN": ""}) == [
        "BOXOFFICE_GATEWAY__KIN is no setting: did you mean BOXOFFICE_GATEWAY__KIND?",
        "BOXOFFICE_SHARD is no setting: did you mean BOXOFFICE_SHARDS?",
        "boxoffice_zzz is no setting",
    ]


def test_everything_that_is_wrong_is_told_at_once_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The misspelt names first; then each setting by its path, what is wrong with several together as `values`."""
    monkeypatch.setenv("BOXOFFICE_SHARD", "1")
    monkeypatch.setenv("BOXOFFICE_SHARDS", "secret")
    monkeypatch.setenv("BOXOFFICE_LIMITS__ITEMS_MAX", "0")
    monkeypatch.setenv("BOXOFFICE_LIMITS__NONSENSE", "0")
    with pytest.raises(CannotRun) as caught:
        load_settings()
    assert caught.value.detail == (
        "BOXOFFICE_LIMITS__NONSENSE is no setting; BOXOFFICE_SHARD is no setting: did you mean BOXOFFICE_SHARDS?; "
        "Setting shards: Input should be a valid integer, unable to parse string as an integer; "
        "Setting limits.items_max: Input should be greater than or equal to 1"
    )


def test_nothing_that_is_wrong_hides_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what cannot be read at all, nor a bad number in the same part, nor one that others have to agree with."""
    for name, value in {
        "BOXOFFICE_API": "{", "BOXOFFICE_GATEWAY__KIND": "stripe", "BOXOFFICE_GATEWAY__TIMEOUT_S": "0", "PORT": "x",
        "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "whsec_1", "BOXOFFICE_WORKER__LEASE_MS": "300",
        "BOXOFFICE_GATEWAY__RETURN_URL": "https://shop.example/paid",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(CannotRun) as caught:
        load_settings()
    assert caught.value.detail.split("; ") == [
        'BOXOFFICE_API is no JSON, such as {"name": 1}',
        "Setting PORT: Input should be a valid integer, unable to parse string as an integer",
        "Setting gateway.timeout_s: Input should be greater than 0",
        "Setting gateway: Value error, gateway.kind=stripe needs BOXOFFICE_GATEWAY__API_KEY, a secret (sk_…) or restricted "
        "(rk_…) key",
    ]
    assert os.environ["BOXOFFICE_API"] == "{" and os.environ["PORT"] == "x", "the environment is as it was"
    monkeypatch.setenv("BOXOFFICE_GATEWAY__API_KEY", "sk_1")
    with pytest.raises(CannotRun, match=r"worker\.lease_ms must outlast two cut-offs") as caught:
        load_settings()
    assert len(caught.value.detail.split("; ")) == 4


def test_what_is_wrong_with_two_settings_together_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXOFFICE_WORKER__DRAIN_S", "0.5")
    monkeypatch.setenv("BOXOFFICE_WORKER__LINGER_MS", "500")
    load_settings()
    monkeypatch.setenv("BOXOFFICE_WORKER__LEASE_MS", "1999")
    monkeypatch.setenv("BOXOFFICE_GATEWAY__KIND", "http")
    with pytest.raises(CannotRun, match=r"^Setting values: Value error, worker.lease_ms must outlast two cut-offs"):
        load_settings()


@pytest.mark.parametrize(
    ("kind", "lease_ms", "cutoff_s", "good"),
    [
        ("http", 1_999, 1.0, False),
        ("http", 2_000, 1.0, True),
        ("simulator", 200, 1.0, True),
        ("http", 2_001, 1.5, False),
    ],
)
def test_a_lease_outlasts_two_cut_offs(kind: str, lease_ms: int, cutoff_s: float, good: bool) -> None:
    """Otherwise a slow card's booking is claimed by a second worker while the first still waits."""
    wanted = {"worker": {"lease_ms": lease_ms}, "gateway": {"kind": kind, "cutoff_s": cutoff_s}}
    if good:
        Settings.model_validate(wanted)
    else:
        with pytest.raises(ValidationError, match="lease_ms must outlast"):
            Settings.model_validate(wanted)


def test_a_drain_may_last_as_long_as_its_pause_and_no_shorter() -> None:
    Settings.model_validate({"worker": {"drain_s": 0.5, "linger_ms": 500}})
    longer = Settings().worker.model_copy(update={"drain_s": 0.499, "linger_ms": 500.0})
    with pytest.raises(ValidationError, match="drain_s must be longer"):
        Settings(worker=longer)


STRIPE = {"kind": "stripe", "api_key": "sk_1", "webhook_secret": "whsec_1", "return_url": "https://shop.example/paid"}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"api_key": "rk_1"}, []),
        ({"return_url": "shop+app.v1-2://paid"}, []),
        ({"return_url": "https://shop.example/paid?a=1#b"}, []),
        ({"webhook_secret_before": "whsec_0"}, []),
        ({"api_key": ""}, ["API_KEY, a secret"]),
        ({"api_key": "  "}, ["API_KEY, a secret"]),
        ({"api_key": "pk_1"}, ["no secret key"]),
        ({"api_key": "whsec_1"}, ["no secret key"]),
        ({"api_key": " sk_1"}, ["no secret key"]),
        ({"webhook_secret": ""}, ["WEBHOOK_SECRET"]),
        ({"webhook_secret": SIMULATOR_SECRET}, ["WEBHOOK_SECRET"]),
        ({"webhook_secret": f" {SIMULATOR_SECRET}"}, ["WEBHOOK_SECRET"]),
        ({"webhook_secret_before": SIMULATOR_SECRET}, ["WEBHOOK_SECRET"]),
        ({"return_url": "https://example.com/paid"}, ["RETURN_URL"]),
        ({"return_url": "https://"}, ["RETURN_URL"]),
        ({"return_url": "https:///paid"}, ["RETURN_URL"]),
        ({"return_url": "1https://shop.example"}, ["RETURN_URL"]),
        ({"return_url": "https://shop.example/p aid"}, ["RETURN_URL"]),
        ({"api_key": "", "webhook_secret": "", "return_url": ""}, ["API_KEY", "WEBHOOK_SECRET", "RETURN_URL"]),
    ],
)  # fmt: skip
def test_what_stripe_needs(changes: dict[str, str], wrong: list[str]) -> None:
    """Each thing that is missing is one sentence; the simulator needs nothing of it."""
    GatewaySettings.model_validate(STRIPE | changes | {"kind": "simulator"})
    if not wrong:
        GatewaySettings.model_validate(STRIPE | changes)
        return
    with pytest.raises(ValidationError) as caught:
        GatewaySettings.model_validate(STRIPE | changes)
    (error,) = caught.value.errors()
    sentences = error["msg"].removeprefix("Value error, ").split("; ")
    assert len(sentences) == len(wrong)
    assert all(word in sentence for word, sentence in zip(wrong, sentences, strict=True))


@pytest.mark.parametrize(
    ("now", "before", "both"), [("a", "", ("a",)), ("a", "b", ("a", "b")), ("", "b", ("b",)), ("", "", ())]
)
def test_who_signs_with_either_secret_is_the_gateway(now: str, before: str, both: tuple[str, ...]) -> None:
    """An empty one is none: whoever signs with nothing would be believed."""
    assert GatewaySettings(webhook_secret=now, webhook_secret_before=before).webhook_secrets == both


@pytest.mark.parametrize("part", ["LIMITS", "HOLDS", "API", "WORKER", "GATEWAY"])
def test_a_part_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """And only what is none: a neighbour that can be read is not to blame."""
    monkeypatch.setenv("BOXOFFICE_API__CORS_ORIGINS", "[]")
    monkeypatch.setenv(f"BOXOFFICE_{part}", "{")
    with pytest.raises(CannotRun) as caught:
        load_settings()
    assert caught.value.detail == f'BOXOFFICE_{part} is no JSON, such as {{"name": 1}}'
