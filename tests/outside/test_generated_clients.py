"""Clients that are generated from our description compile, and sell tickets on a running server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx2
import pytest

from boxoffice.office import BoxOffice
from tests.api.transport.test_server import Serving, connect
from tests.conftest import KEY, SaleMaker
from tests.support.programs import a_worker, run

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.parametrize("settings", ["lane"], indirect=True),
]

HERE = Path(__file__).parent


async def described(serving: Serving) -> bytes:
    _, writer = await connect(serving)
    writer.close()
    async with httpx2.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{serving.port}/openapi.json")).content


async def test_a_client_in_python_books(
    serving: Serving, office: BoxOffice, open_sale: SaleMaker, outside_python: Path, tmp_path: Path
) -> None:
    await open_sale(GA=8)
    (tmp_path / "openapi.json").write_bytes(await described(serving))
    programs = outside_python.parent
    options = ["--path", "openapi.json", "--meta", "none", "--output-path", "shop_api", "--fail-on-warning"]
    await run(programs / "openapi-python-client", "generate", *options, cwd=tmp_path, path=programs)
    shutil.copy(HERE / "shop.py", tmp_path)

    async with a_worker(office):
        said = await run(outside_python, "shop.py", f"http://127.0.0.1:{serving.port}", KEY, cwd=tmp_path)

    assert json.loads(said) == {"statuses": ["confirmed", "confirmed"], "listed": 2}


async def test_a_client_in_typescript_books(
    serving: Serving, office: BoxOffice, open_sale: SaleMaker, node_modules: Path, tmp_path: Path
) -> None:
    await open_sale(GA=5)
    (tmp_path / "openapi.json").write_bytes(await described(serving))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(node_modules)
    # What of Node's own the shop uses; its type package would be one more to install.
    (tmp_path / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    shutil.copy(HERE / "shop.ts", tmp_path)
    programs = node_modules / ".bin"
    await run(programs / "openapi-typescript", "openapi.json", "-o", "api.d.ts", cwd=tmp_path)
    options = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--skipLibCheck"]
    kinds = ["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"]
    await run(programs / "tsc", *options, *kinds, "shop.ts", "node.d.ts", cwd=tmp_path)

    async with a_worker(office):
        said = await run("node", "shop.js", f"http://127.0.0.1:{serving.port}", KEY, cwd=tmp_path)

    assert json.loads(said) == {"statuses": ["confirmed", "confirmed"], "short": 10}
