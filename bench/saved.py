"""The results of a run as files: every figure as JSON, the page, the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from bench.figures import Results
from bench.plot import plot
from bench.table import markdown

__all__ = ["FOLDER", "load", "save"]

FOLDER: Final = Path(__file__).parent
"""Where they are kept."""


def save(results: Results, folder: Path) -> str:
    """Write all three. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    page = markdown(results)
    (folder / "results.md").write_text(page)
    plot(results, folder / "results.png")
    return page


def load(folder: Path) -> Results | None:
    """What was measured last; None when nothing was."""
    file = folder / "results.json"
    return msgspec.json.decode(file.read_bytes(), type=Results) if file.exists() else None
