"""The files of the operators' page. What it shows and does, it asks of the routes that everybody has."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Request, Response

from api.dependencies import respond
from api.headers import Headers
from api.pages.files import Files, folder_of
from api.pages.npm import INSTALLED, npm_packages

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@cache
def _page() -> Files:
    return Files(folder_of("api.pages.ops"))


@cache
def _vendor() -> Files:
    names = [name for package in npm_packages() if package.use == "pages" for name in package.files.values()]
    return Files([INSTALLED / name for name in names], b"max-age=86400")


def _answer(files: Files, name: str, request: Request) -> Response:
    return respond(files.answer(name, Headers.of(request.headers.raw)))


@router.get("/ops")
async def ops_page(request: Request) -> Response:
    """The page itself."""
    return _answer(_page(), "index.html", request)


@router.get("/ops/assets/{name}")
async def ops_asset(name: str, request: Request) -> Response:
    """A module, a style or a picture of it."""
    return _answer(_page(), name, request)


@router.get("/ops/vendor/{name}")
async def ops_vendor(name: str, request: Request) -> Response:
    """A file of a package of npm, with its licence beside it. 404 where it was not installed: the page does without."""
    return _answer(_vendor(), name, request)
