"""What a thread has wanted of the machine's cores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

__all__ = ["core_time_s"]

STAT: Final = Path("/proc/thread-self/schedstat")


def core_time_s() -> float:
    """Seconds for which this thread has had a core or waited for one, since it began: the rest of the time it had nothing to
    do. Where the system does not say how long it waited, only those with a core. Costs some 20 µs."""
    try:
        had_ns, waited_ns = STAT.read_bytes().split()[:2]
        return (int(had_ns) + int(waited_ns)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()
