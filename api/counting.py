"""Requests that were answered, counted by the templates of their routes: the hot routes where they are answered, all others by
a middleware. What the connection itself refuses is counted there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from boxoffice.telemetry.metrics import REGISTRY, Cell
from boxoffice.telemetry.series import REQUEST_SECONDS, REQUESTS
from boxoffice.telemetry.traces import TRACES, current

__all__ = [
    "BOOK",
    "READ_BOOKING",
    "READ_EVENT",
    "READ_FEED",
    "STREAM_BOOKING",
    "STREAM_EVENT",
    "Counting",
    "Route",
    "expect",
    "method_of",
    "note_route",
]

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Any other is `other`: a method is whatever a client writes."""


def method_of(scope: Mapping[str, Any]) -> str:
    """As a label has it."""
    return scope["method"] if scope["method"] in METHODS else "other"


def note_route(template: str) -> None:
    """Tell the trace of this task's request, if there is one, which route it is."""
    if TRACES.on and (trace := current.get()) is not None:
        trace.route = template


def expect(routes: Iterable[Any]) -> None:
    """A 500 of each is there as 0 before it happens: of a number that was never there, a rate sees no first."""
    for route in routes:
        for method in route.methods:
            REQUESTS.cell(method, route.path, "500")


class _Cells(dict[int, Cell]):
    def __init__(self, labels: tuple[str, str]) -> None:
        super().__init__()
        self._labels = labels

    def __missing__(self, status: int) -> Cell:
        cell = self[status] = REQUESTS.cell(*self._labels, str(status))
        return cell


class Route:
    """One of the hot routes: its answers, by status."""

    def __init__(self, method: str, template: str) -> None:
        self.labels = method, template
        self.cells = _Cells(self.labels)
        """By status."""
        self._seconds = REQUEST_SECONDS.cell(template)

    def count(self, status: int) -> None:
        """One more answer."""
        self.cells[status].value += 1

    def took(self, seconds: float) -> None:
        """One of them was answered after so long."""
        self._seconds.add(seconds)


BOOK: Final = Route("POST", "/v1/bookings")
READ_BOOKING: Final = Route("GET", "/v1/bookings/{booking_id}")
READ_EVENT: Final = Route("GET", "/v1/events/{event_id}")
STREAM_BOOKING: Final = Route("GET", "/v1/bookings/{booking_id}/stream")
STREAM_EVENT: Final = Route("GET", "/v1/events/{event_id}/stream")
READ_FEED: Final = Route("GET", "/v1/feed")
"""How long it takes is not measured: it waits for as long as its client wants it to."""


class Counting:
    """Middleware around the routes: counts what they answer. It stands inside of what makes a HEAD a GET."""

    def __init__(self, app: Any, now_s: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._now_s = now_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or one of the server's other events."""
        if scope["type"] != "http" or not (REGISTRY.counts or TRACES.on):
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Mapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began_s = self._now_s()
        try:
            await self._app(scope, receive, noting)
        finally:
            template = getattr(scope.get("route"), "path", "unmatched")
            note_route(template)
            if REGISTRY.counts:
                REQUESTS.cell(method_of(scope), template, str(status)).add()
                if template != READ_FEED.labels[1]:
                    REQUEST_SECONDS.cell(template).add(self._now_s() - began_s)
