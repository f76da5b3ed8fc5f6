"""Every example of the clients' pages runs as it stands, but for where the server is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from tests.clients.conftest import CLIENTS
from tests.clients.test_typescript_shop import compiled, shop_folder
from tests.conftest import KEY, SaleMaker
from tests.support.programs import a_worker, run
from tests.support.proxy import Proxy

__all__ = ["shop_folder"]

pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("settings", ["lane"], indirect=True)]

PAGES = (CLIENTS / "python/README.md", CLIENTS / "typescript/README.md", CLIENTS.parent / "docs/clients.md")


def examples(language: str) -> list[str]:
    """In the order of the pages."""
    return [
        code for page in PAGES for code in re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]


def here(code: str, url: str) -> str:
    """With the server and the key of this test."""
    assert "http://127.0.0.1:8000" in code and "demo.boxoffice" in code
    return code.replace("http://127.0.0.1:8000", url).replace("demo.boxoffice", KEY)


@pytest.mark.parametrize("number", range(len(examples("python"))))
async def test_an_example_in_python_runs(
    number: int,
    shops_python: Path,
    breaking: tuple[Proxy, str],
    office: BoxOffice,
    open_sale: SaleMaker,
    tmp_path: Path,
) -> None:
    await open_sale(GA=9)
    (tmp_path / "example.py").write_text(here(examples("python")[number], breaking[1]))
    async with a_worker(office):
        assert await run(shops_python, "-W", "error", "example.py", cwd=tmp_path)


@pytest.mark.parametrize("number", range(len(examples("ts"))))
async def test_an_example_in_typescript_runs(
    number: int, shop_folder: Path, breaking: tuple[Proxy, str], office: BoxOffice, open_sale: SaleMaker
) -> None:
    await open_sale(GA=9)
    (shop_folder / "example.ts").write_text(here(examples("ts")[number], breaking[1]))
    program = await compiled("example.ts", shop_folder)
    async with a_worker(office):
        assert await run("node", program, cwd=shop_folder)
