"""What a booking takes is what was added, shared out."""

from __future__ import annotations

from bench.sizes import Room, each


def test_a_booking_takes_its_share_of_what_was_added() -> None:
    before = Room(disk=1_000, tables=500, indexes=100, wal=7_000, aof=50)
    after = Room(disk=5_000, tables=2_500, indexes=300, wal=15_000, aof=2_050)
    assert each(before, after, 4) == {"disk": 1_000, "tables": 500, "indexes": 50, "wal": 2_000, "aof": 500}
