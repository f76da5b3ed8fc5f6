"""The settings of what a process tells of itself, and what of OpenTelemetry's own variables it goes by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple, Self

from pydantic import Field, model_validator

from boxoffice.rate_settings import Part

__all__ = ["Queue", "Sampling", "TelemetrySettings", "queue_of", "sampling_of"]

_RATIO: Final = 0.01

_SAMPLERS: Final[dict[str, tuple[float | None, bool]]] = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}
"""By OpenTelemetry's names: the share that is sampled (None: what OTEL_TRACES_SAMPLER_ARG says), and whether callers are
followed."""


class Sampling(NamedTuple):
    """Which requests are traced."""

    ratio: float
    """Of those that name no trace, such a share."""
    follows: bool
    """Of those that name one: whether the caller's decision is followed."""


class Queue(NamedTuple):
    """Where spans wait until they are sent."""

    most: int = 2_048
    batch_max: int = 64
    """Spans encoded and sent at once: a millisecond in which nothing else of the process runs. OpenTelemetry's own 512 would be
    ten."""
    delay_ms: int = 1_000
    """How often they are sent, unless there are so many."""


class TelemetrySettings(Part):
    """What whoever watches a process may see of it."""

    host: str = "127.0.0.1"
    """Address on which the two ports below listen. Wherever they can be reached they tell how the sale goes: keep them to the
    network of your Prometheus and your probes."""

    api_port: int = Field(0, ge=0, le=65_535)
    """Port of an API process for `/metrics`, which its public port never serves. 0: none. Each process on a machine needs one
    of its own."""

    worker_port: int = Field(0, ge=0, le=65_535)
    """The same of a worker."""

    count: bool = True
    """Count what `/metrics` tells. Off, it tells only what it looks at when it is asked."""

    events_max: int = Field(20, ge=0, le=100)
    """Events on sale, the largest, whose tickets `/metrics` tells by name. What the others have is summed."""

    otel: bool = False
    """Send traces to an OpenTelemetry collector. Needs the extra `boxoffice[otel]`; OpenTelemetry's own variables, such as
    `OTEL_EXPORTER_OTLP_ENDPOINT`, say where to (docs/tracing.md)."""

    otel_ratio: float | None = Field(None, ge=0, le=1)
    """Share of the requests that name no trace of their own that are sampled. Empty: what `OTEL_TRACES_SAMPLER` and
    `OTEL_TRACES_SAMPLER_ARG` say, or 0.01."""

    otel_traces_max: int = Field(100, ge=1, le=100_000)
    """Traces that may begin in one process and second, those that callers have sampled among them. A shop that samples each of
    its requests costs no more than that."""

    @model_validator(mode="after")
    def _can_trace(self) -> Self:
        if self.otel:
            if not _is_installed():
                raise ValueError("telemetry.otel needs an extra that is not installed: pip install 'boxoffice[otel]'")
            sampling_of(self, os.environ)
            queue_of(os.environ)
        return self


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


def sampling_of(settings: TelemetrySettings, environ: Mapping[str, str]) -> Sampling | None:
    """Which requests are traced, by our settings and by OpenTelemetry's own variables; None when nothing is.

    Raises `ValueError` naming a variable of OpenTelemetry's that asks for what is not there.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if not settings.otel or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return None
    if exporter != "otlp":
        raise ValueError("OTEL_TRACES_EXPORTER may be otlp or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "").strip() not in ("", "http/protobuf"):
            raise ValueError(f"{name} may be http/protobuf: traces are sent by HTTP")
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_traceidratio"
    if sampler not in _SAMPLERS:
        raise ValueError(f"OTEL_TRACES_SAMPLER may be {', '.join(_SAMPLERS)}")
    fixed, follows = _SAMPLERS[sampler]
    if settings.otel_ratio is not None:
        return Sampling(settings.otel_ratio, follows)
    return Sampling(_ratio(environ) if fixed is None else fixed, follows)


def queue_of(environ: Mapping[str, str]) -> Queue:
    """As OpenTelemetry's own variables say. Raises `ValueError` naming one that is wrong."""
    names = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY")
    sizes = []
    for name, usual in zip(names, Queue(), strict=True):
        given = environ.get(name, "").strip() or str(usual)
        if not given.isdecimal() or int(given) == 0:
            raise ValueError(f"{name} is no number from 1 on")
        sizes.append(int(given))
    queue = Queue(*sizes)
    if queue.batch_max > queue.most:
        raise ValueError(f"{names[1]} ({queue.batch_max}) is more than {names[0]} ({queue.most})")
    return queue


def _ratio(environ: Mapping[str, str]) -> float:
    given = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        ratio = float(given) if given else _RATIO
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1")
    return ratio
