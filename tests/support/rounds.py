"""A worker's rounds as a test wants them: more often, or sooner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.rounds import ROUNDS

__all__ = ["change_round"]


def change_round(patch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Workers that start from here on go this round so."""
    assert name in [each.name for each in ROUNDS]
    patch.setattr(
        "worker.app.ROUNDS", tuple(replace(each, **changes) if each.name == name else each for each in ROUNDS)
    )
