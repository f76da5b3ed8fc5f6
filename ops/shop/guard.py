"""Who asks: the session of a customer, and whether the request came from the shop's own page."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.shop.problems import problem
from ops.shop.terms import Terms

__all__ = ["Guard", "customer_of", "with_session"]

COOKIE: Final = "shop-session"

_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""256 bits, in base 64."""

LASTS_S: Final = 30 * 24 * 3_600

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def customer_of(request: Request) -> str | None:
    """The customer's id for the API; None without a session.

    It is a digest of the cookie, so that this demo needs no table of customers and forgets nobody when it is started again. A
    shop has its customers sign in, and uses the ids of its own accounts.
    """
    session = request.cookies.get(COOKIE, "")
    return hashlib.sha256(session.encode()).hexdigest()[:32] if _SESSION.fullmatch(session) else None


def with_session(request: Request, answer: Response) -> Response:
    """The answer, with a session for whoever has none. No script can read it (HttpOnly), and no other site's form or script
    sends it along (SameSite)."""
    if customer_of(request) is None:
        secure = request.url.scheme == "https"
        session = secrets.token_urlsafe(32)
        answer.set_cookie(COOKIE, session, max_age=LASTS_S, httponly=True, samesite="lax", secure=secure)
    return answer


class Guard:
    """Around the whole application: lets in what is for this shop, and from its own page; says what a page may do."""

    def __init__(self, app: ASGIApp, terms: Terms) -> None:
        self._app = app
        self._origins = frozenset(terms.origins)
        self._hosts = frozenset(urlsplit(origin).netloc for origin in terms.origins)
        sources = f"connect-src 'self' {terms.api_url}"
        self._policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"{sources}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["Content-Security-Policy"] = self._policy
                asset = scope["path"].startswith("/assets/")
                headers.setdefault("Cache-Control", "no-cache" if asset else "no-store")
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """A name that is not ours leads here when somebody's page has had it changed to our address meanwhile. A request that
        changes something names its page's origin, and a body that no form of another page can send."""
        if request.headers.get("host", "") not in self._hosts:
            return problem(421, "misdirected", "This is another shop's name.")
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") not in self._origins:
            return problem(403, "foreign-page", "This was not sent by the shop's own page.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return problem(415, "content-type", "A body is application/json.")
        return None
