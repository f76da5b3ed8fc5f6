"""The design of the fence, in every interleaving of a small world; and without each of its rules."""

from __future__ import annotations

import pytest

from tests.invariants.fence_model import Rules, World, explore

SMALL = World(workers=1, losses=2)
"""One ticket, two bookings, a cancellation, a reconcile, and two losses: some seconds."""

BOTH = World(workers=1, repairs=0, cancellations=0, copies=1)
"""A loss of PostgreSQL's, and a copy of Redis put back, whenever."""


def test_the_fence_holds() -> None:
    states, wrong = explore(SMALL)

    assert not wrong
    assert states > 10_000


def test_what_both_forget_is_told() -> None:
    states, wrong = explore(BOTH)

    assert not wrong
    assert states > 1_000


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(losses=2),
        World(workers=1, bookings=3, capacity=2),
        BOTH._replace(losses=2),
        BOTH._replace(repairs=1),
        BOTH._replace(cancellations=1),
    ],
)
def test_the_fence_holds_in_larger_worlds(world: World) -> None:
    assert not explore(world)[1]


@pytest.mark.parametrize("rule", Rules._fields)
def test_no_rule_of_it_can_be_spared(rule: str) -> None:
    """Without it, something goes wrong somewhere."""
    _, wrong = explore(BOTH if rule == "servers_are_noted" else SMALL, Rules()._replace(**{rule: False}))

    assert wrong
