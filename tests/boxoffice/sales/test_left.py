"""What is left of a tier, and for whom: by the same rule as lib/allocations.lua, which tests/lua/test_allocations.py tries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from boxoffice.sales.left import Allocated, allocated_text, ask_left, left_of, reserved, takeable
from boxoffice.stores import keys


@pytest.mark.parametrize(
    ("available", "in_all", "own", "may"),
    [
        (10, 0, 0, 10),
        (10, 4, 0, 6),
        (10, 4, 4, 10),
        (10, 8, 4, 6),
        (10, 10, 3, 3),
        # Less is there than is set aside: holders before everybody else, and never more than there is.
        (3, 8, 4, 3),
        (3, 8, 0, 0),
        (3, 8, 2, 2),
        (0, 4, 4, 0),
        (-2, 4, 4, 0),
        (-2, 0, 0, 0),
    ],
)
def test_who_may_take_how_many(available: int, in_all: int, own: int, may: int) -> None:
    assert takeable(available, in_all, own) == may


@pytest.mark.parametrize(("tickets", "has", "left"), [(4, 0, 4), (4, 3, 1), (4, 4, 0), (4, 9, 0), (0, 0, 0)])
def test_what_a_holder_has_is_of_its_allocation_first(tickets: int, has: int, left: int) -> None:
    assert reserved(tickets, has) == left


class Pipeline:
    """What it is asked, in place of a server."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def hmget(self, *asked: Any) -> None:
        self.asked.append(asked)

    hget = hmget


ALLOCATED = (Allocated("ga", "@shop", 5), Allocated("vip", "kc0de", 4), Allocated("ga", "kc0de", 2))


def event_of(*allocated: Allocated) -> Any:
    return SimpleNamespace(
        id="e", shard=3, tiers=[SimpleNamespace(id="ga"), SimpleNamespace(id="vip")], allocated=allocated
    )


def test_allocations_as_the_scripts_read_them() -> None:
    assert allocated_text(ALLOCATED) == "ga:@shop:5,vip:kc0de:4,ga:kc0de:2"
    assert allocated_text(()) == ""


def test_an_event_with_nothing_set_aside_is_one_command() -> None:
    pipeline = Pipeline()
    ask_left(pipeline, event_of())
    assert pipeline.asked == [(keys.event(3, "e"), ["a:ga", "a:vip"])]
    left = left_of(event_of(), iter([[b"7", None]]))
    assert left.available == {"ga": b"7", "vip": None} and not left.reserved


def test_what_holders_have_is_asked_with_it() -> None:
    pipeline = Pipeline()
    ask_left(pipeline, event_of(*ALLOCATED))
    code = keys.owned_tiers(3, "e"), "kc0de"
    assert pipeline.asked[1:] == [(keys.shops(3, "e"), "shop:ga"), code, code]
    left = left_of(event_of(*ALLOCATED), iter([[b"9", b"3"], b"2", b"vip:3,box:9", None]))
    assert left.reserved == {
        ("ga", "@shop"): 3, ("vip", "kc0de"): 1, ("ga", "kc0de"): 2, ("ga", ""): 5, ("vip", ""): 1,
    }  # fmt: skip
