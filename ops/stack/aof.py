"""A torn end of Redis's append-only file: what a power cut leaves where the disk had not written yet.

A file that ends within a command is cut there by the server itself (`aof-load-truncated`). One that ends in zeros, which
is what many file systems show of blocks that were not written, it refuses, and the tool that would mend it is not in the
wheel. Zeros hold nothing: cut off, they leave a file that ends within a command. Damage with something behind it is left
alone, for what is behind it may be bookings.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

__all__ = ["damage", "mend_tail"]

PIECE: Final = 1 << 16
"""Bytes looked at at once, from the end."""

KEPT: Final = 1 << 20
"""Bytes in front of the zeros that are copied beforehand: the last of them may be cut off by the server."""

_FORMAT_ERROR: Final = re.compile(r"Bad file format reading the append only file (\S+?):? ")


def mend_tail(folder: Path) -> str:
    """Cut zeros off the end of the newest append-only file below `folder`; no server may use it. Returns what was done, for
    people; empty when there was nothing to do.
    """
    files = sorted((folder / "appendonlydir").glob("*.incr.aof"), key=_number)
    if not files:
        return ""
    path = files[-1]
    size = path.stat().st_size
    with path.open("r+b") as file:
        end = _end_of_text(file.fileno(), size)
        if end == size:
            return ""
        kept = path.with_name(f"{path.name}.torn")
        with kept.open("wb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            file.seek(max(0, end - KEPT))
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
        file.truncate(end)
        os.fsync(file.fileno())
    return (
        f"The end of {path} was torn: {size - end} zeros from byte {end} on were cut off; a copy of the end is in {kept.name}. "
        "What was accepted in the last moment before may be lost: look at `boxoffice payments audit`."
    )


def damage(log: str, folder: Path) -> str:
    """What to do about a file that the server refused, if its log says so; otherwise empty."""
    found = _FORMAT_ERROR.search(log)
    if found is None:
        return ""
    directory = folder / "appendonlydir"
    manifest = next(iter(sorted(directory.glob("*.manifest"))), directory / "appendonly.aof.manifest")
    return (
        f"Redis's file {directory / found[1]} is damaged, and not only at its end. Do not delete it: the bookings that were "
        f"accepted last may be nowhere else. Copy {folder} elsewhere, then mend the file with the tool of another Valkey or "
        f"Redis: `valkey-check-aof --fix {manifest}` (it cuts off everything behind the damage). Or move {directory} away "
        "and start: Redis is filled from PostgreSQL, and what only the file had is lost."
    )


def _number(path: Path) -> int:
    words = path.name.split(".")
    return int(words[-3]) if len(words) > 2 and words[-3].isdigit() else 0


def _end_of_text(fd: int, size: int) -> int:
    """Where the zeros at the end begin."""
    end = size
    while end > 0:
        start = max(0, end - PIECE)
        text = os.pread(fd, end - start, start).rstrip(b"\0")
        if text:
            return start + len(text)
        end = start
    return 0
