"""Files for browsers: what they are told of each, and that no path finds anything but a name that is known."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from api.headers import Headers
from api.pages.files import Files, folder_of
from api.pages.npm import npm_packages
from boxoffice.errors import NotFound
from tests.api.conftest import assert_problem


def asked(**headers: str) -> Headers:
    return Headers.of([(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text("<p>A page</p>")
    (tmp_path / "code.js").write_text("export const one = 1;")
    (tmp_path / "secret.py").write_text("KEY = 1")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "more.js").write_text("2")
    return tmp_path


def test_files_are_known_by_name_and_ending(folder: Path) -> None:
    """Others than browsers are given stay where they are, as does what lies deeper."""
    assert Files(folder.iterdir()).names == {"page.html", "code.js"}


@pytest.mark.parametrize("name", ["secret.py", "inner/more.js", "../page.html", "", ".", "page.html/", "%70age.html"])
def test_no_other_path_finds_anything(folder: Path, name: str) -> None:
    with pytest.raises(NotFound):
        Files(folder.iterdir()).answer(name, asked())


def test_who_has_a_file_is_not_sent_it_again(folder: Path) -> None:
    files = Files(folder.iterdir())
    whole = files.answer("code.js", asked())
    tag = dict(whole.headers)[b"etag"].decode()
    assert (whole.status, whole.body) == (200, b"export const one = 1;")
    assert dict(whole.headers)[b"content-type"] == b"text/javascript; charset=utf-8"

    again = files.answer("code.js", asked(if_none_match=tag))
    assert (again.status, again.body, dict(again.headers)[b"etag"].decode()) == (304, b"", tag)
    assert files.answer("page.html", asked(if_none_match=tag)).status == 200

    (folder / "code.js").write_text("export const one = 2;")
    changed = Files(folder.iterdir()).answer("code.js", asked(if_none_match=tag))
    assert (changed.status, changed.body) == (200, b"export const one = 2;")


async def test_the_operators_page_is_served_to_everybody(api: httpx2.AsyncClient) -> None:
    """It holds no secret; a browser asks for it before anybody has signed in."""
    page = await api.get("/ops", headers={"Authorization": ""})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
        "connect-src": "'self'", "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
    }  # fmt: skip

    head = await api.head("/ops", headers={"Authorization": ""})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == page.headers["etag"]
    assert head.headers["content-length"] == str(len(page.content))
    again = await api.get("/ops", headers={"If-None-Match": f"W/{page.headers['etag']}"})
    assert (again.status_code, again.content) == (304, b"")


async def test_every_file_of_the_page_is_there_and_no_other(api: httpx2.AsyncClient) -> None:
    names = Files(folder_of("api.pages.ops")).names
    assert "index.html" in names
    for name in names:
        assert (await api.get(f"/ops/assets/{name}")).status_code == 200
    for path in ("__init__.py", "nothing.js", "..%2Findex.html", "%2e%2e/npm.json", "index.html/x"):
        assert_problem(await api.get(f"/ops/assets/{path}"), 404, "not-found")
    assert_problem(await api.post("/ops"), 405, "method-not-allowed")


async def test_of_packages_only_the_files_for_pages_are_served(api: httpx2.AsyncClient) -> None:
    """Where they are installed; with their licences."""
    for package in npm_packages():
        assert any("LICENSE" in name for name in package.files.values())
        for name in package.files.values():
            answer = await api.get(f"/ops/vendor/{name}")
            assert answer.status_code in ({200, 404} if package.use == "pages" else {404})
            if answer.status_code == 200:
                assert answer.headers["cache-control"] == "max-age=86400"
