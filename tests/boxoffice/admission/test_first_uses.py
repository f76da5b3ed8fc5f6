"""What tells a repeat from a new booking: one command for many, and nobody is told what was read before it asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisGone
from structlog.testing import capture_logs

from boxoffice.admission import first_uses as module
from boxoffice.admission.first_uses import FirstUses
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.telemetry import request_id
from tests.conftest import SHARD


class Slow:
    """Answers when the test says so: `used` are there."""

    def __init__(self, *used: str) -> None:
        self.used = set(used)
        self.commands: list[tuple[Any, ...]] = []
        self.may = asyncio.Event()
        self.named = b""

    async def execute_command(self, *args: Any) -> Any:
        self.commands.append(args)
        self.named = request_id.now()
        found = [b"a booking" if name in self.used else None for name in args[1:]]
        await self.may.wait()
        return found


async def test_all_of_a_turn_share_a_command_and_who_comes_later_the_next() -> None:
    """Each is told its own."""
    redis = Slow("b", "d")
    uses, told = FirstUses(redis), dict[str, bool]()
    for name in ("a", "b"):
        uses.ask(name, lambda used, name=name: told.update({name: used}))
    await asyncio.sleep(0)
    for name in ("c", "d"):
        uses.ask(name, lambda used, name=name: told.update({name: used}))
    redis.used.add("a")
    redis.may.set()
    await uses.drained()
    assert redis.commands == [("MGET", "a", "b"), ("MGET", "c", "d")]
    assert told == {"a": False, "b": True, "c": False, "d": True}


async def test_a_command_is_bounded_and_sent_in_the_name_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    redis = Slow()
    redis.may.set()
    request_id.current.set(b"somebody")
    uses, told = FirstUses(redis), list[bool]()
    for name in "abcde":
        uses.ask(name, told.append)
    await uses.drained()
    assert [len(command) - 1 for command in redis.commands] == [2, 2, 1]
    assert told == [False] * 5 and redis.named == b""


async def test_while_redis_does_not_answer_everybody_may_be_a_repeat() -> None:
    """The script is asked then, and has a word for it."""

    class Gone:
        async def execute_command(self, *_: Any) -> Any:
            raise RedisGone

    uses, told = FirstUses(Gone()), list[bool]()
    uses.ask("a", told.append)
    await uses.drained()
    assert told == [True]


async def test_one_that_cannot_be_told_keeps_nobody_from_being_told() -> None:
    redis = Slow()
    redis.may.set()
    uses, told = FirstUses(redis), list[bool]()

    def fails(_: bool) -> None:
        raise OSError("gone")

    with capture_logs() as said:
        uses.ask("a", fails)
        uses.ask("b", told.append)
        await uses.drained()
    assert told == [False] and [line["event"] for line in said] == ["admission.untold"]


async def test_a_first_use_is_found_in_its_shard(office: BoxOffice) -> None:
    name = keys.idempotency(SHARD, "a" * 32)
    await office.redis.set(name, "some booking")
    told = list[bool]()
    for each in (name, keys.idempotency(SHARD, "b" * 32)):
        office.admission.windows[SHARD].first_uses.ask(each, told.append)
    await office.admission.windows[SHARD].first_uses.drained()
    assert told == [True, False]
