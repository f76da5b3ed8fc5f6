"""Logs that take nothing, for processes of a rush: what a full disk and a dead reader look like to whoever writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

__all__ = ["WAYS", "bad_log"]

FULL: Final = Path("/dev/full")
"""Linux's device that has no room: every write ends with ENOSPC, as on a disk that is full."""

WAYS: Final = ("full disk", "dead reader")


def bad_log(way: int) -> tuple[str, Callable[[], IO[bytes]]]:
    """The name of one of the ways, and what opens such a log. Where the system has no such device, its reader is dead."""
    name = WAYS[way % len(WAYS)] if FULL.exists() else "dead reader"
    return name, _full_disk if name == "full disk" else _dead_reader


def _full_disk() -> IO[bytes]:
    return FULL.open("ab", buffering=0)


def _dead_reader() -> IO[bytes]:
    """Every write ends with EPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "ab", buffering=0)
