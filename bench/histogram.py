"""Latencies, counted in buckets that are never wider than 0.8 % of what they hold (the idea of HdrHistogram)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["Histogram"]

BITS: Final = 8
"""Values below 2**BITS microseconds have a bucket of their own; each doubling above has half as many buckets."""

HALF: Final = 1 << (BITS - 1)
TOP_US: Final = (1 << 32) - 1
"""Longer ones, over 71 minutes, count as this."""


class Histogram:
    """Counts microseconds."""

    def __init__(self) -> None:
        self.counts = [0] * (_bucket(TOP_US) + 1)

    def record(self, seconds: float) -> None:
        """One latency. A clock that went back a little counts as none."""
        us = int(seconds * 1e6)
        if us < 256:
            self.counts[us if us > 0 else 0] += 1
        else:
            shift = us.bit_length() - 8
            self.counts[(shift << 7) + (us >> shift) if us <= TOP_US else -1] += 1

    def merge(self, sparse: Iterable[tuple[int, int]]) -> None:
        """Add what another one has counted."""
        for bucket, count in sparse:
            self.counts[bucket] += count

    def sparse(self) -> list[tuple[int, int]]:
        """Buckets that are not empty."""
        return [(bucket, count) for bucket, count in enumerate(self.counts) if count]

    @property
    def total(self) -> int:
        """Latencies counted."""
        return sum(self.counts)

    def quantile_ms(self, share: float) -> float:
        """The latency in milliseconds that this share of all did not exceed: the upper end of its bucket."""
        wanted, seen = share * self.total, 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return _upper_us(bucket) / 1_000
        return 0.0


def _bucket(us: int) -> int:
    if us < 1 << BITS:
        return us
    shift = us.bit_length() - BITS
    return shift * HALF + (us >> shift)


def _upper_us(bucket: int) -> int:
    if bucket < 1 << BITS:
        return bucket
    shift = bucket // HALF - 1
    return ((bucket - shift * HALF + 1) << shift) - 1
