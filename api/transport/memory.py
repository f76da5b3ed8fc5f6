"""Giving memory back to the system, where its C library is glibc; elsewhere nothing.

A hundred connections with a full buffer each need 25 MB for a moment. glibc takes such buffers from the heap once one of
them was freed, and keeps the heap (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any, Final

__all__ = ["map_large", "trim"]

_M_MMAP_THRESHOLD: Final = -3

_LARGE: Final = 65_536
"""Bytes from which on a piece of memory is the system's again as soon as it is freed."""


def _call(name: str, *arguments: int) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)


def map_large() -> None:
    """From now on, large pieces are mapped by themselves."""
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGE)


def trim() -> None:
    """Give back what is free, and what only cycles of garbage still hold: the collector, which was told to come seldom,
    might leave it there for long. Takes some milliseconds."""
    gc.collect()
    _call("malloc_trim", 0)
