"""Tracing is as the settings and OpenTelemetry's own variables say, and what cannot be is refused at the start."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from boxoffice import telemetry_settings
from boxoffice.errors import CannotRun
from boxoffice.settings import load_settings
from boxoffice.telemetry_settings import Queue, Sampling, TelemetrySettings, queue_of, sampling_of

ON = TelemetrySettings(otel=True)


@pytest.mark.parametrize(
    ("environ", "sampling"),
    [
        ({}, Sampling(0.01, True)),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.2"}, Sampling(0.2, True)),
        ({"OTEL_TRACES_SAMPLER_ARG": " "}, Sampling(0.01, True)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, Sampling(1.0, False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, Sampling(0.0, True)),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "x"}, Sampling(1.0, False)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampling(0.0, False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, Sampling(1.0, True)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampling(0.0, True)),
        ({"OTEL_SDK_DISABLED": "True"}, None), ({"OTEL_SDK_DISABLED": "false"}, Sampling(0.01, True)),
        ({"OTEL_TRACES_EXPORTER": "none"}, None), ({"OTEL_TRACES_EXPORTER": "otlp"}, Sampling(0.01, True)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, Sampling(0.01, True)),
    ],
)  # fmt: skip
def test_sampling(environ: dict[str, str], sampling: Sampling | None) -> None:
    assert sampling_of(ON, environ) == sampling
    assert sampling_of(TelemetrySettings(), environ) is None


def test_our_own_ratio_wins_over_the_samplers() -> None:
    ours = TelemetrySettings(otel=True, otel_ratio=0.0)
    assert sampling_of(ours, {"OTEL_TRACES_SAMPLER": "always_on"}) == Sampling(0.0, False)
    assert sampling_of(ours, {"OTEL_TRACES_SAMPLER_ARG": "0.5"}) == Sampling(0.0, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"), ("OTEL_TRACES_SAMPLER_ARG", "1.1"), ("OTEL_TRACES_SAMPLER_ARG", "-0.1"),
        ("OTEL_TRACES_SAMPLER_ARG", "x"), ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "63"), ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"), ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "x"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2049"),
    ],
)  # fmt: skip
def test_a_variable_that_asks_for_what_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """At the start, with everything else that is wrong; and only where traces are on."""
    monkeypatch.setenv(name, value)
    assert not TelemetrySettings().otel
    monkeypatch.setenv("BOXOFFICE_TELEMETRY__OTEL", "true")
    with pytest.raises(CannotRun, match=name):
        load_settings()


@pytest.mark.parametrize(
    "missing", ["opentelemetry", "opentelemetry.exporter", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_without_the_extra_a_process_says_so_and_does_not_start(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def find(name: str) -> None:
        if missing == name:
            return
        raise ModuleNotFoundError

    monkeypatch.setattr(telemetry_settings, "find_spec", find)
    monkeypatch.setenv("BOXOFFICE_TELEMETRY__OTEL", "true")
    with pytest.raises(CannotRun, match=r"pip install 'boxoffice\[otel\]'"):
        load_settings()
    assert not TelemetrySettings().otel


@pytest.mark.parametrize(
    ("environ", "queue"),
    [
        ({}, Queue(2_048, 64, 1_000)), ({"OTEL_BSP_MAX_QUEUE_SIZE": "64"}, Queue(64, 64, 1_000)),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "512", "OTEL_BSP_SCHEDULE_DELAY": " 1 "}, Queue(2_048, 512, 1)),
    ],
)  # fmt: skip
def test_the_queue_is_as_opentelemetry_is_told(environ: dict[str, str], queue: Queue) -> None:
    assert queue_of(environ) == queue


@pytest.mark.parametrize("wrong", [{"otel_ratio": 1.1}, {"otel_ratio": -0.1}, {"otel_traces_max": 0}])
def test_shares_and_limits_have_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TelemetrySettings(**wrong)  # type: ignore[arg-type]


def test_off_the_sdk_is_not_even_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_settings, "find_spec", lambda name: sys.exit(name))
    assert not TelemetrySettings().otel
