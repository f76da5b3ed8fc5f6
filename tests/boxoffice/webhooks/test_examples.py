"""The examples of docs/notices.md, run as they stand there on what a courier sent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from boxoffice.webhooks.signing import new_secret
from tests.boxoffice.webhooks.conftest import Desk

PAGE = Path(__file__).resolve().parents[3] / "docs" / "notices.md"


def example(language: str) -> str:
    """The one that verifies, in this language."""
    (found,) = [
        code for code in re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S) if "def hear" in code
        or "function hear" in code
    ]  # fmt: skip
    return found


@pytest.fixture
async def heard(desk: Desk) -> tuple[str, dict[str, str]]:
    """The body and the headers of a delivery."""
    await desk.subscribe()
    await desk.happens()
    await desk.go()
    (one,) = desk.endpoint.heard
    return one.body, one.headers


async def test_the_example_in_python(
    desk: Desk, heard: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    body, headers = heard
    monkeypatch.setenv("WEBHOOK_SECRET", desk.secret)
    names: dict[str, Any] = {}
    exec(example("python"), names)
    hear = names["hear"]
    assert hear(body.encode(), headers)["id"] == headers["webhook-id"]
    assert hear(body.encode(), headers) is None, "it was seen"
    for wrong in (headers | {"webhook-signature": "v1,AAAA"}, headers | {"webhook-timestamp": "5"}, {}):
        with pytest.raises(Exception, match=r"."):
            hear(body.encode(), wrong)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_the_example_in_javascript(desk: Desk, heard: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    body, headers = heard
    (tmp_path / "hear.mjs").write_text(example("js"))
    (tmp_path / "run.mjs").write_text(
        "import { hear } from './hear.mjs';\nconst tried = JSON.parse(process.argv[2]);\n"
        "console.log(JSON.stringify(tried.map(([body, headers]) => {"
        " try { return hear(body, headers).id } catch (error) { return error.message } })));\n"
    )
    old = headers | {"webhook-timestamp": str(int(time.time()) - 400)}
    two = headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    tries = [[body, headers], [body, two], [body + " ", headers], [body, old], [body, {}]]
    for secret, wanted in (
        (desk.secret, [headers["webhook-id"]] * 2 + ["not signed by the box office", "too old", "too old"]),
        (new_secret(), ["not signed by the box office"] * 3 + ["too old"] * 2),
    ):
        ran = subprocess.run(
            ["node", str(tmp_path / "run.mjs"), json.dumps(tries)], env={"WEBHOOK_SECRET": secret, "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(ran.stdout) == wanted
