"""A worker's own port (`telemetry.worker_port`): what it answers to whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping

from boxoffice.office import BoxOffice
from boxoffice.telemetry.port import Answer, Handler, Headers

__all__ = ["routes"]


def routes(office: BoxOffice) -> Mapping[str, Handler]:
    """By path."""

    async def metrics(headers: Headers) -> Answer:
        return await office.readings.metrics("worker", headers)

    return {
        "/metrics": metrics,
    }
