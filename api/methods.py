"""HEAD wherever GET is, and which methods a path has (RFC 9110, 9.3.2 and 10.2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from fastapi import Request
from starlette.routing import Match

__all__ = ["Heads", "allowed", "as_get"]

Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]


class Heads:
    """Middleware: a HEAD is answered as its GET would be, without the body."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """One request, or one of the server's other events."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = as_get(scope, send)
        await self._app(scope, receive, send)


def as_get(scope: Any, send: Send) -> tuple[Any, Send]:
    """The request as a GET, and a way to answer that leaves bodies out."""

    async def without_body(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        elif "stream" in message:  # nobody takes it over: the head is all there is
            message = {name: value for name, value in message.items() if name != "stream"}
        await send(message)

    return {**scope, "method": "GET"}, without_body


def allowed(request: Request) -> str:
    """The value of `Allow`: every method of the path, whichever route has it."""
    methods: set[str] = set()
    for included in request.app.router.routes:
        router = getattr(included, "original_router", None)
        for route in [included] if router is None else router.routes:
            match, _ = route.matches(request.scope)
            if match is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
