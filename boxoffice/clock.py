"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

__all__ = ["timestamp"]


def timestamp(ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC."""
    return f"{_second(ms // 1_000)}.{ms % 1_000:03d}Z"


@lru_cache(1_024)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
