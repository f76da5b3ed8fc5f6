"""CPU time by component, from the kernel's own accounts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ops.stack.processes import children_of

__all__ = ["Meter", "busy_share", "cpu_s", "tree_cpu_s"]

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class _Stat(NamedTuple):
    own_s: float
    reaped_s: float
    """Of children that have ended."""


def _stat(pid: int) -> _Stat:
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return _Stat(0.0, 0.0)
    return _Stat((int(words[11]) + int(words[12])) * TICK_S, (int(words[13]) + int(words[14])) * TICK_S)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, all its threads."""
    return _stat(pid).own_s


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all its direct children, those that have ended too: as PostgreSQL is built."""
    own = _stat(pid)
    return own.own_s + own.reaped_s + sum(_stat(child).own_s for child in children_of(pid))


class Meter:
    """CPU used since it was made, per component."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = self._read()

    def used(self) -> dict[str, float]:
        """Seconds by component."""
        return {name: max(0.0, now - self._began[name]) for name, now in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {name: (tree_cpu_s if name == "postgres" else cpu_s)(pid) for name, pid in self._pids.items()}


def busy_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Share of the machine's CPU time between two looks that was not idle. Waiting for a disk counts as idle."""
    total = after[1] - before[1]
    return (after[0] - before[0]) / total if total else 0.0


def machine() -> tuple[float, float]:
    """Busy and total ticks of the machine so far."""
    words = [float(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(words) - words[3] - words[4], sum(words)
