"""What every request and every answer has in common, whichever route it is of: an id, and what browsers may do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from api.counting import method_of
from api.transport.reply import SECURITY, Header
from boxoffice.telemetry import request_id
from boxoffice.telemetry.traces import TRACES, current, named

__all__ = ["Outermost"]


class Outermost:
    """Stands around the whole application, so that every answer has passed it. From here on the task works for this request."""

    def __init__(self, app: Any, stop: Callable[[], None] = lambda: None) -> None:
        self.app = app
        self.stop = stop
        """For a server that is told to stop: nobody is kept waiting any more."""

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        """One request, or one of the server's other events."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = dict(scope["headers"])
        name, trace = named(sent.get(request_id.HEADER), sent.get(request_id.TRACEPARENT))
        # Not taken back: an answer to what failed in here comes from the server, in the same task.
        request_id.current.set(name)
        current.set(trace)
        status = 499  # unless there is an answer, or it fails: whoever asked has gone

        async def completed(message: Mapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*_secured(message["headers"]), (request_id.HEADER, name)]}
            await send(message)

        try:
            await self.app(scope, receive, completed)
        except Exception:
            status = 500
            raise
        finally:
            if trace is not None:
                TRACES.answered(trace, method_of(scope), status, name)


def _secured(headers: list[Header]) -> list[Header]:
    """With what browsers are told, unless a page tells them something else."""
    sent = {name for name, _ in headers}
    return [*headers, *(header for header in SECURITY if header[0] not in sent)]
