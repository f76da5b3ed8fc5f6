"""The packages of npm that pages and their tests use: which, and where they are once they are installed.

`npm.json` is their lock: name, version, npm's own digest of the package, its licence, and the files that are taken. They are
put beside Python's packages (`python -m ops.npm`), never into the repository. An installation without them serves all else.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import msgspec

__all__ = ["INSTALLED", "NpmPackage", "npm_packages"]

INSTALLED: Final = Path(sys.prefix) / "share" / "boxoffice" / "npm"
"""The files of all packages, in one folder: their names are ours, and no two are alike."""


class NpmPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One package of the lock."""

    name: str
    version: str
    integrity: str
    """`sha512-` and the digest of the packed package in base64, as npm has it."""
    licence: str
    use: Literal["pages", "tests"]
    """Who needs it: whoever serves the pages, or their tests alone."""
    files: dict[str, str]
    """By the path inside the package: the name in `INSTALLED`."""


@cache
def npm_packages() -> tuple[NpmPackage, ...]:
    """The lock."""
    return msgspec.json.decode(files("api.pages").joinpath("npm.json").read_bytes(), type=tuple[NpmPackage, ...])
