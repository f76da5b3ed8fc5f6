"""What `make check` says of our packages: a weakness is an error, a feed out of reach is not, and neither is passed over."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from api.pages.npm import npm_packages
from tests.outside.packages import DAY_S, LOCKS, ROOT, SKIPPED, audit, audit_daily, feed_is_there, list_packages
from tests.support.ports import free_port

FINE: dict[str, Any] = {"name": "fine", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "private", "skip_reason": "Dependency not found on PyPI"}
WEAK = {
    "name": "weak", "version": "2.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}, {"id": "PYSEC-2", "fix_versions": []},
    ],
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for lock in LOCKS:
        (tmp_path / lock).touch()
        os.utime(tmp_path / lock, (1, 1))
    return tmp_path


def says(text: str, code: int = 0) -> list[str]:
    """A tool that prints this, whatever it is asked, and ends so."""
    return ["sh", "-c", f"printf %s {shlex.quote(text)}; echo trouble >&2; exit {code}"]


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([FINE], 0, "pip-audit: 1 packages, no known weaknesses"),
        ([FINE, UNKNOWN], 0, "pip-audit: 1 packages, no known weaknesses; unknown to the feed: private"),
        ([UNKNOWN, UNKNOWN], 0, SKIPPED),
        (
            [FINE, WEAK], 1,
            "pip-audit: 2 packages, 2 known weaknesses\nweak 2.0: PYSEC-1, mended in 2.1, 3.0\nweak 2.0: PYSEC-2",
        ),
    ],
    ids=["fine", "one unknown", "a mirror", "weak"],
)  # fmt: skip
def test_what_pip_audit_found_is_told(packages: list[Any], code: int, told: str, root: Path) -> None:
    assert audit(says(json.dumps({"dependencies": packages}), code), root) == (code, told)


@pytest.mark.parametrize("output", ["", "[]", "{}"])
def test_a_tool_that_fails_is_an_error(output: str, root: Path) -> None:
    assert audit(says(output, 1), root) == (1, "pip-audit: failed\ntrouble")


def test_it_is_asked_about_every_lock(root: Path) -> None:
    asked = ["sh", "-c", 'echo "$@" >&2', "sh"]
    assert audit(asked, root) == (1, "pip-audit: failed\n" + " ".join(f"-r {lock}" for lock in LOCKS))


def test_it_asks_once_a_day_and_when_a_lock_has_changed(root: Path) -> None:
    asked = 0

    def look() -> tuple[int, str]:
        nonlocal asked
        asked += 1
        return 0, f"look {asked}"

    def tell() -> tuple[int, str]:
        return audit_daily(root, lambda: True, look, root)

    assert [tell(), tell()] == [(0, "look 1")] * 2
    os.utime(root / LOCKS[1], (time.time() + 5,) * 2)
    assert tell() == (0, "look 2")
    os.utime(root / LOCKS[1], (1, 1))
    os.utime(root / "audited", (time.time() - DAY_S - 5,) * 2)
    assert tell() == (0, "look 3")


@pytest.mark.parametrize("found", [(1, "weak"), (0, SKIPPED)])
def test_what_is_no_good_news_is_not_remembered(root: Path, found: tuple[int, str]) -> None:
    assert audit_daily(root, lambda: True, lambda: found, root) == found
    assert audit_daily(root, lambda: True, lambda: (0, "fine"), root) == (0, "fine")


def test_without_a_feed_nobody_is_asked(root: Path) -> None:
    assert audit_daily(root, lambda: False, lambda: (1, "asked"), root) == (0, SKIPPED)
    assert not (root / "audited").exists()


def test_a_feed_has_weaknesses_to_tell_of(tmp_path: Path) -> None:
    """Nobody listens; no JSON; the JSON of something else; one that takes too long."""
    assert not feed_is_there(f"http://127.0.0.1:{free_port()}/")
    for text, there in (("<p>", False), ('{"info": 1}', False), ('{"vulnerabilities": []}', True)):
        (tmp_path / "feed").write_text(text)
        assert feed_is_there((tmp_path / "feed").as_uri()) is there
    assert not feed_is_there((tmp_path / "feed").as_uri(), timeout_s=0.001)


def test_a_build_has_its_list_of_packages(tmp_path: Path) -> None:
    """All of the lock, each with its hashes; it names no host but PyPI's own. And what browsers are given of npm's."""
    assert list_packages(tmp_path) == (0, "")
    path = tmp_path / "boxoffice.cdx.json"
    bom = json.loads(path.read_text())
    locked = {
        tuple(line.partition(" ")[0].split("==")) for line in (ROOT / LOCKS[0]).read_text().splitlines() if "==" in line
    }
    of_npm = [each for each in bom["components"] if each["purl"].startswith("pkg:npm/")]
    of_python = [each for each in bom["components"] if each not in of_npm]
    assert {(each["name"], each["version"]) for each in of_python} == locked
    assert all(each["externalReferences"][0]["hashes"] for each in of_python)
    served = [package for package in npm_packages() if package.use == "pages"]
    assert [each["purl"] for each in of_npm] == [f"pkg:npm/{each.name}@{each.version}" for each in served]
    assert [len(each["hashes"][0]["content"]) for each in of_npm] == [128] * len(served)
    assert bom["metadata"]["component"]["name"] == "boxoffice"


WRITES = ["sh", "-c", """echo '{"components": []}' > "$2" """, "sh"]

SOURCES = ("requirements.lock", "pyproject.toml", "api/pages/npm.json")


@pytest.fixture
def sources(root: Path) -> Path:
    """A folder with all that the list is made from, older than any list."""
    (root / "api/pages").mkdir(parents=True)
    for name in SOURCES:
        (root / name).touch()
        os.utime(root / name, (1, 1))
    return root


def test_the_list_is_made_again_when_a_lock_has_changed(sources: Path) -> None:
    path = sources / "boxoffice.cdx.json"
    assert list_packages(sources, WRITES, sources) == (0, "")
    for changed in (None, *SOURCES):
        path.write_text("before\n")
        os.utime(path, (5, 5))
        for name in SOURCES:
            os.utime(sources / name, (9, 9) if name == changed else (1, 1))
        assert list_packages(sources, WRITES, sources) == (0, "")
        assert ("components" in path.read_text()) is bool(changed)


def test_a_list_that_cannot_be_made_is_an_error(sources: Path) -> None:
    assert list_packages(sources, says("", 1), sources) == (1, "cyclonedx: failed\ntrouble")
    assert not (sources / "boxoffice.cdx.json").exists()
