"""Pages of other origins, when there are any: Starlette's middleware around the whole application, with refusals as problems.

It stands outermost, so that every answer has passed it: those of the fast path, refusals, and what failed. The lane leaves
whoever names an origin to it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api import problems
from api.dependencies import respond
from api.transport.reply import Reply

__all__ = ["Cors"]

EXPOSED: Final = ("Content-Location", "Date", "ETag", "Idempotency-Replayed", "Location", "Retry-After")
"""Headers that a page of another origin may read."""

METHODS: Final = ("GET", "HEAD", "PATCH", "POST")

HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match")
"""Headers that it may send."""


class Cors(CORSMiddleware):
    """Says nothing of origins to who has none: every way into the application answers a shop's server alike. Never allows
    credentials: an API key stands in a header that the page itself writes."""

    def __init__(self, app: Any, origins: Collection[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=METHODS, allow_headers=HEADERS, expose_headers=EXPOSED
        )  # fmt: skip

    async def simple_response(self, scope: Any, receive: Any, send: Any, request_headers: Headers) -> None:
        """A request that is not a question about requests."""
        if request_headers.get("origin") is None:
            await self.app(scope, receive, send)
        else:
            await super().simple_response(scope, receive, send, request_headers)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether a page may ask this: 200, or a problem."""
        found = super().preflight_response(request_headers)
        kept = [header for header in found.raw_headers if header[0] not in (b"content-type", b"content-length")]
        if found.status_code == 200:
            reply = Reply(200, b"", kept)
        else:
            refused = problems.of_status(400, "This origin, method or header is not allowed to other origins.")
            reply = Reply(400, refused.body, [*refused.headers, *kept])
        return respond(reply)
