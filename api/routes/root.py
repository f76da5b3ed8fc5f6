"""`GET /`: where people go from here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<title>boxoffice</title><main><h1>boxoffice</h1><p>A booking engine. <a href="/docs">What its API can do</a>'
    "</p></main></html>"
)


@router.get("/")
async def root(request: Request) -> Response:
    """To the shop front, or a page that says what is here."""
    if shop_url := request.app.state.office.settings.api.shop_url:
        return RedirectResponse(shop_url, 302, headers=_HEADERS)
    return HTMLResponse(_PAGE, headers=_HEADERS)
