"""The settings of what a process tells of itself."""

from __future__ import annotations

from pydantic import Field

from boxoffice.rate_settings import Part

__all__ = ["TelemetrySettings"]


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
