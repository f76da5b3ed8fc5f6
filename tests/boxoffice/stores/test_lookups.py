"""Look-ups of one turn share a call, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.stores.lookups import BatchedReads


async def test_questions_of_one_turn_share_a_call() -> None:
    """Each gets its own answer, None for what is not found, and the same question is asked once."""
    calls: list[list[str]] = []

    async def read(names: list[str]) -> dict[str, str]:
        calls.append(names)
        return {name: name.upper() for name in names if name != "c"}

    reads = BatchedReads(read, most=10)
    answers = await asyncio.gather(*(reads.ask(name) for name in ("a", "b", "a", "c")))

    assert answers == ["A", "B", "A", None]
    assert calls == [["a", "b", "c"]]


async def test_a_call_is_bounded() -> None:
    calls: list[int] = []

    async def read(names: list[str]) -> dict[str, str]:
        calls.append(len(names))
        return dict.fromkeys(names, "")

    reads = BatchedReads(read, most=4)
    await asyncio.gather(*(reads.ask(str(n)) for n in range(10)))

    assert calls == [4, 4, 2]


async def test_nobody_gets_what_was_read_before_he_asked() -> None:
    """Who asks while a call is under way waits for the next: he may have changed the answer meanwhile."""
    value, may_answer = "old", asyncio.Event()

    async def read(names: list[str]) -> dict[str, str]:
        seen = value
        await may_answer.wait()
        return dict.fromkeys(names, seen)

    reads = BatchedReads(read, most=4)
    first = asyncio.create_task(reads.ask("a"))
    while not reads.calls:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    value = "new"
    second = asyncio.create_task(reads.ask("a"))
    await asyncio.sleep(0)
    may_answer.set()

    assert (await first, await second) == ("old", "new")


async def test_an_error_is_for_those_who_asked() -> None:
    """One that went away before disturbs nobody."""
    broken = True

    async def read(names: list[str]) -> dict[str, str]:
        await asyncio.sleep(0)
        if broken:
            raise OSError("away")
        return dict.fromkeys(names, "here")

    reads = BatchedReads(read, most=4)
    gone = asyncio.create_task(reads.ask("a"))
    asked = asyncio.create_task(reads.ask("a"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(OSError, match="away"):
        await asked
    broken = False

    assert await reads.ask("a") == "here"
