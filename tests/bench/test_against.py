"""Comparing two checkouts."""

from __future__ import annotations

from bench.against import compared, cpu_us


def test_neighbours_are_compared_not_the_ends_of_a_drifting_machine() -> None:
    theirs = [100.0, 150.0, 300.0]
    assert compared([102.0, 153.0, 306.0], theirs) == (1.02, 1.02, 1.02)
    middle, low, high = compared([200.0, 150.0, 330.0], theirs)
    assert (middle, low, high) == (1.1, 1.0, 2.0)


def test_the_load_generator_is_no_cost_of_a_booking() -> None:
    assert cpu_us({"cpu_us": {"api": 90.0, "redis": 60.0, "worker": 50.0, "postgres": 40.0, "load": 25.0}}) == 240.0
