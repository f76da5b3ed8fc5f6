"""What goes on after a test is ended, and what of it is the product's is named."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from boxoffice.stores.lookups import BatchedReads
from tests.support.unfinished import GoesOn, end_all, running


def left_behind(*works: Coroutine[Any, Any, None]) -> None:
    """A test begins these in its loop, and ends before they do."""
    loop = asyncio.new_event_loop()
    try:
        tasks = [loop.create_task(work) for work in works]
        loop.run_until_complete(asyncio.sleep(0))
        found = running(loop)
        assert found.issuperset(tasks)
        end_all(loop, found)
        assert not running(loop)
    finally:
        loop.close()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def a_moment() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_ends_by_itself_is_not_spoken_of(recwarn: pytest.WarningsRecorder) -> None:
    left_behind(a_moment(), a_moment())
    assert not recwarn.list


def test_a_servers_stand_in_is_ended_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    left_behind(for_ever(), a_moment())
    assert not recwarn.list


def test_what_the_product_goes_on_with_is_named() -> None:
    async def read(names: list[str]) -> dict[str, None]:
        await for_ever()
        return dict.fromkeys(names)

    both = r"^went on after their test: [\w.]*_answer \(lookups\.py:\d+\), [\w.]*ask \(lookups\.py:\d+\)$"
    with pytest.warns(GoesOn, match=both):
        left_behind(BatchedReads(read, most=1).ask("somebody"), for_ever())
