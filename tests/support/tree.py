"""A copy of the tree that may be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["ROOT", "copy_tree"]

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("api", "boxoffice", "lua", "migrations", "ops", "tests", "worker", "bench", "docs",
           "pyproject.toml", "README.md", "LICENSE", "Makefile", "Dockerfile", "docker-compose.yml")  # fmt: skip


def copy_tree(folder: Path) -> Path:
    """Everything that tests read, and nothing that was compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".tools"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder
