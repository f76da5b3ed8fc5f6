"""The client in TypeScript, packed and installed, compiles strictly and buys tickets of a running server through a network that
loses answers."""

from __future__ import annotations

import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from boxoffice_client.retrying import retry_after_of

from boxoffice.office import BoxOffice
from tests.clients.test_python_calls import NOT_A_SHOPS, OPERATIONS
from tests.clients.test_python_retrying import CASES
from tests.clients.test_python_shop import SOLD, break_connections
from tests.conftest import KEY, SaleMaker
from tests.support.programs import a_worker, run
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parent

STRICT = (
    "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022",
    "--lib", "es2022,dom,dom.iterable", "--skipLibCheck",
)  # fmt: skip


@pytest.fixture
def shop_folder(shops_node: Path, tmp_path: Path) -> Path:
    """Programs in it find the packed client."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "node_modules").symlink_to(shops_node / "node_modules")
    shutil.copy(shops_node / "package.json", folder)
    # What of Node's own the programs use; its type package would be one more to install.
    (folder / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    return folder


async def compiled(name: str, folder: Path) -> str:
    """The program, strictly compiled, as JavaScript."""
    if not (folder / name).exists():
        shutil.copy(HERE / name, folder)
    await run(folder / "node_modules/typescript/bin/tsc", *STRICT, name, "node.d.ts", cwd=folder)
    return name.replace(".ts", ".js")


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
async def test_it_sells(
    shop_folder: Path, breaking: tuple[Proxy, str], office: BoxOffice, open_sale: SaleMaker
) -> None:
    proxy, url = breaking
    break_connections(proxy)
    await open_sale(GA=9)
    program = await compiled("shop.ts", shop_folder)
    async with a_worker(office):
        said = json.loads(await run("node", program, url, KEY, cwd=shop_folder))
    assert said == SOLD | {"no refund": 404, "managed": ["paused", "active", True]}
    assert (proxy.swallowed, proxy.instead) == (3, [])


STREAMS = {"stream_booking", "stream_event"}
"""`watchBooking` and `watchAvailability` read them."""


def camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(word.capitalize() for word in more)


async def test_there_is_a_method_for_every_operation_by_pythons_name(shop_folder: Path) -> None:
    """And it sends what the description says."""
    wanted, asked = {}, []
    for name in sorted(OPERATIONS.keys() - NOT_A_SHOPS - STREAMS):
        method, path, operation = OPERATIONS[name]
        parameters = operation.get("parameters", [])
        ids = re.findall(r"\{(\w+)\}", path)
        query = {each["name"]: "7" for each in parameters if each["in"] == "query"}
        headers = {each["name"].lower() for each in parameters if each["in"] == "header"} - {"if-none-match"}
        body = "requestBody" in operation
        asked.append([camel(name), [f"a/{each}" for each in ids], query, body])
        wanted[camel(name)] = [method, re.sub(r"\{(\w+)\}", r"a%2F\1", path), sorted(query), sorted(headers), body]
    program = await compiled("calls.ts", shop_folder)
    said = json.loads(await run("node", program, json.dumps(asked), cwd=shop_folder))
    assert said["sent"] == wanted
    assert set(said["methods"]) == wanted.keys() | {
        "waitUntilFinal",
        "feed",
        "feedPages",
        "watchBooking",
        "watchAvailability",
    }


async def test_it_keeps_to_the_table_and_verifies_webhooks(shop_folder: Path) -> None:
    """By the cases of the client in Python."""
    program = await compiled("cases.ts", shop_folder)
    cases = []
    for case in CASES:
        now_s = datetime.fromisoformat(case.get("now", "2026-01-01T00:00:00Z")).timestamp()
        text = case.get("retry_after") or ""
        cases.append(case | {"retryAfterS": retry_after_of({"retry-after": text}, now_s)})
    said = json.loads(await run("node", program, json.dumps(cases), cwd=shop_folder))
    assert said == {"cases": len(CASES), "wrong": []}


def test_the_package_has_types_and_its_licence(shops_node: Path) -> None:
    packed = shops_node / "node_modules/boxoffice-client"
    files = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert {"dist/index.js", "dist/index.d.ts"} <= files
    assert {name for name in files if not name.startswith("dist/")} == {"LICENSE", "README.md", "package.json"}


def test_versions_are_exact() -> None:
    wanted = json.loads((HERE.parents[1] / "clients/typescript/package.json").read_text())
    tools = json.loads((HERE.parents[1] / "tests/outside/package.json").read_text())["devDependencies"]
    every = wanted["dependencies"] | wanted["devDependencies"]
    assert every.items() <= tools.items(), "the tests try it with these"
