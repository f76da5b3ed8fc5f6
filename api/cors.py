"""Pages of other origins, when there are any: Starlette's middleware around the whole application, with refusals as problems.

It stands outermost, so that every answer has passed it: those of the fast path, refusals, and what failed. The lane leaves
whoever names an origin to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any, Final

from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api import problems
from api.dependencies import respond
from api.transport.reply import Reply
from boxoffice.access.api_keys import ApiKeys
from boxoffice.errors import Unavailable
from boxoffice.telemetry.series import REQUESTS

__all__ = ["Cors"]

EXPOSED: Final = (
    "Content-Location", "Date", "ETag", "Idempotency-Replayed", "Location", "Preference-Applied", "RateLimit",
    "RateLimit-Policy", "Retry-After", "X-Request-Id",
)  # fmt: skip
"""Headers that a page of another origin may read."""

METHODS: Final = ("GET", "HEAD", "PATCH", "POST")

HEADERS: Final = (
    "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer",
    "Traceparent", "X-Request-Id",
)  # fmt: skip
"""Headers that it may send."""


class Cors(CORSMiddleware):
    """Says nothing of origins to who has none: every way into the application answers a shop's server alike. Never allows
    credentials: an API key stands in a header that the page itself writes.

    Pages are those of the settings, and those that some API key is for, which are read as often as keys are."""

    def __init__(self, app: Any, origins: Collection[str], keys: Callable[[], ApiKeys]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=METHODS, allow_headers=HEADERS, expose_headers=EXPOSED
        )  # fmt: skip
        self._keys = keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or one of the server's other events."""
        if scope["type"] != "http" or not any(name == b"origin" for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        with contextlib.suppress(Unavailable, RedisError):
            await self._keys().renew()
        other_origins = self.allow_origins or self._keys().origins
        await (super().__call__ if other_origins else self.app)(scope, receive, send)

    def is_allowed_origin(self, origin: str) -> bool:
        """By the settings, or because a key is for it."""
        of_keys = self._keys().origins
        return super().is_allowed_origin(origin) or not of_keys.isdisjoint((origin.encode("latin-1"), b"*"))

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether a page may ask this: 200, or a problem."""
        found = super().preflight_response(request_headers)
        REQUESTS.cell("OPTIONS", "preflight", str(found.status_code)).add()
        cors_headers = [header for header in found.raw_headers if header[0] not in (b"content-type", b"content-length")]
        if found.status_code == 200:
            reply = Reply(200, b"", cors_headers)
        else:
            refused = problems.of_status(400, "This origin, method or header is not allowed to other origins.")
            reply = Reply(400, refused.body, [*refused.headers, *cors_headers], names_request=True)
        return respond(reply)
