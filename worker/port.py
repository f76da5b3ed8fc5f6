"""A worker's own port (`telemetry.worker_port`): what it answers to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from boxoffice.office import BoxOffice
from boxoffice.telemetry.port import Answer, Handler, Headers

__all__ = ["routes"]


def routes(office: BoxOffice, idle_because: Callable[[], str]) -> Mapping[str, Handler]:
    """By path. `idle_because`: why the worker does not work now, in a sentence; empty when it does."""

    async def metrics(headers: Headers) -> Answer:
        return await office.readings.metrics("worker", headers)

    async def healthz(_headers: Headers) -> Answer:
        """200 as long as the process can answer at all."""
        return _json(200, {"status": "alive"})

    async def readyz(_headers: Headers) -> Answer:
        """200 while it works, and what it works with is there; else 503 with `reasons`, as the API answers."""
        reasons = await office.readiness.of_worker()
        if idle := idle_because():
            reasons = {"process": idle, **reasons}
        return _json(503, NOT_READY | {"reasons": reasons}) if reasons else _json(200, {"status": "ready"})

    return {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}


NOT_READY = {
    "type": "/problems/not-ready",
    "title": "Not ready to serve",
    "status": 503,
    "detail": "Not ready to work.",
}


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(
        status, msgspec.json.encode(body), "application/problem+json" if status >= 400 else "application/json"
    )
