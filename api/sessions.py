"""How a request says that it comes from a page of `/ops` that somebody has signed in at.

A browser sends cookies wherever it goes, so a cookie alone says nothing: it counts only beside a header that no form and no
link can send, and a page of another origin only after a preflight that the API refuses. Whoever changes something names the
page's own origin, too.
"""

from __future__ import annotations

from typing import Final

from fastapi import Request

from boxoffice.errors import Forbidden, Malformed

__all__ = ["PAGE_HEADER", "check_page", "cookie", "forgotten", "token_of"]

PAGE_HEADER: Final = "x-boxoffice-page"

PAGE: Final = "ops"

COOKIE: Final = "boxoffice_ops"

HOST_COOKIE: Final = f"__Host-{COOKIE}"
"""Over TLS: browsers take it from nobody but this very host, and send it nowhere else."""

READS: Final = ("GET", "HEAD")


def token_of(request: Request) -> str | None:
    """The token of a request of the page; None for any other. Raises as `check_page` when it changes something."""
    if request.headers.get(PAGE_HEADER) != PAGE:
        return None
    over_tls = _origin_of(request).startswith("https://")
    token = request.cookies.get(HOST_COOKIE) or (None if over_tls else request.cookies.get(COOKIE))
    if token is not None and request.method not in READS:
        check_page(request)
    return token


def check_page(request: Request) -> None:
    """Whether it comes from the page itself. Raises `Malformed` without the page's header, `Forbidden` for another page."""
    if request.headers.get(PAGE_HEADER) != PAGE:
        raise Malformed(f"This is for the page of operators: the header {PAGE_HEADER} is missing.", code="missing")
    scheme, separator, host = _origin_of(request).partition("://")
    same = separator and scheme in ("http", "https") and host == request.headers.get("host")
    if not same or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Forbidden(
            "This page may not do it: only the page of operators at this very address may.", reason="origin"
        )


def cookie(request: Request, token: str, ttl_s: int) -> str:
    """`Set-Cookie` with a new session's token, by whether the page came over TLS: its browser says so in `Origin`."""
    return _cookie(request, token, ttl_s)


def forgotten(request: Request) -> str:
    """`Set-Cookie` that takes it away."""
    return _cookie(request, "", 0)


def _cookie(request: Request, token: str, ttl_s: int) -> str:
    over_tls = _origin_of(request).startswith("https://")
    name, secure = (HOST_COOKIE, "; Secure") if over_tls else (COOKIE, "")
    return f"{name}={token}; Path=/; Max-Age={ttl_s}; HttpOnly; SameSite=Strict{secure}"


def _origin_of(request: Request) -> str:
    values = request.headers.getlist("origin")
    return values[0] if len(values) == 1 else ""
