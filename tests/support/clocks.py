"""Scripts on a clock that is wrong: what TIME says is shifted in their text, the rest is the real server."""

from __future__ import annotations

import re
from typing import Final

from boxoffice.stores.scripts import Scripts

__all__ = ["shift"]

_NOW: Final = re.compile(r"^(local now_ms = .*?/ 1000\))(?: \+ -?\d+)?$", re.M)


def shift(scripts: Scripts, ms: int) -> None:
    """From now on these scripts, whoever holds them, run on a clock that is so far ahead, or behind when it is less than
    nothing. 0: as it is."""
    for script in scripts:
        object.__setattr__(script, "text", _NOW.sub(rf"\1 + {ms}", script.text))
        vars(script).pop("sha", None)
